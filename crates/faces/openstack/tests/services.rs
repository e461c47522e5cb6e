//! Every service says everything about itself: whoever adds one and leaves something out is told here what.

mod common;
#[path = "common/cloud.rs"]
mod rows;
#[path = "common/walking.rs"]
mod walking;

use std::collections::{BTreeMap, BTreeSet};

use common::{Harness, text};
use face_openstack::SERVICES;
use face_openstack::access::Access;
use face_openstack::service::{Micro, Quotas, Service};
use model::{Fault, Kind, Limited, Realm};
use serde_json::{Value, json};
use walking::{Walk, fill_project};

/// Kinds of rows that are no OpenStack service's: Kubernetes', the registry's, the cloud's own, and the limits, which are a
/// row of all services.
const OTHERS: &[Kind] =
    &[Kind::Quota, Kind::OciTag, Kind::OciBlob, Kind::OciManifest, Kind::Cluster, Kind::KubeObject, Kind::Setting];

fn limits(kinds: &[Kind]) -> Vec<&'static Limited> {
    kinds.iter().flat_map(|kind| kind.quotas()).collect()
}

#[test]
fn every_part_is_declared() {
    let mut prefixes = BTreeSet::new();
    let mut names = BTreeSet::new();
    for service in SERVICES {
        let Service { name, project, prefix, root, versions, microversions, kinds, quotas, .. } = service;
        assert!(names.insert(*name) && !project.is_empty(), "{name}: its type and its program's name");
        assert!(prefix.starts_with('/') && prefix.len() > 1 && prefixes.insert(*prefix), "{name}: a prefix of its own");
        assert!(root.is_empty() || root.starts_with('/'), "{name}: where clients begin: {root:?}");
        let current = versions.all.iter().filter(|version| matches!(version.status, "CURRENT" | "stable"));
        assert_eq!(current.count(), 1, "{name}: one version is the current one");
        let micro = versions.all.iter().any(|version| version.micro == Micro::InForce);
        assert_eq!(micro, microversions.is_some(), "{name}: its versions' document says its microversions");
        assert!(microversions.as_ref().is_none_or(|micro| micro.min <= micro.max), "{name}: its microversions");
        let limited = !limits(kinds).is_empty();
        assert!(*quotas != Quotas::Own || limited, "{name}: what its quota API shows");
        let table = (service.table)();
        let public = table.iter().any(|row| row.path == "/" && row.access == Access::Public);
        assert!(public, "{name}: whoever has no token finds its versions");
        let quota_paths = table.iter().any(|row| row.path.contains("quota"));
        assert_eq!(quota_paths, *quotas != Quotas::Elsewhere, "{name}: an API of its quotas");
    }
    let all = SERVICES.iter().filter(|service| service.quotas == Quotas::All);
    assert_eq!(all.count(), 1, "one service shows what no other does");
}

#[test]
fn every_folder_is_a_service() {
    let declared: BTreeSet<String> =
        SERVICES.iter().map(|service| service.prefix.trim_start_matches('/').replace('-', "_")).collect();
    let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let folders = std::fs::read_dir(src).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let found: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(declared, found, "services and folders of {src}");
}

#[test]
fn every_kind_of_row_is_somebodys() {
    let mut owners: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
    let declared = SERVICES.iter().flat_map(|service| service.kinds.iter().map(|kind| (*kind, service.name)));
    for (kind, name) in declared.chain(OTHERS.iter().map(|kind| (*kind, "none"))) {
        owners.entry(kind).or_default().push(name);
    }
    for kind in Kind::ALL {
        let owners = owners.get(kind).map_or(&[][..], Vec::as_slice);
        assert_eq!(owners.len(), 1, "{kind:?} is of one service, or of none and in OTHERS: {owners:?}");
    }
}

/// Something of each kind that is limited or stands in the way of a project's end is made for the walks, and named in a path.
#[tokio::test]
async fn the_walks_see_what_a_project_can_have() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let snapshot = cloud.cloud.store.snapshot();
    let realm = Realm::project(&cloud.demo_project);
    let made: BTreeSet<Kind> = snapshot.rows().filter(|row| row.key.realm == realm).map(|row| row.key.kind).collect();
    let named: BTreeSet<Kind> =
        SERVICES.iter().flat_map(|service| Walk::of(service).kinds().collect::<Vec<_>>()).collect();
    for service in SERVICES {
        for kind in service.kinds.iter().filter(|kind| kind.holds() || !kind.quotas().is_empty()) {
            assert!(named.contains(kind), "no `names` in walk.json leads to {kind:?} of {}", service.name);
            // They need an external network, and are looked for where there is one.
            let apart = [Kind::FloatingIp, Kind::PortForwarding, Kind::SubnetPool];
            assert!(made.contains(kind) || apart.contains(kind), "`makes` of {} makes no {kind:?}", service.name);
        }
    }
}

#[tokio::test]
async fn the_catalog_leads_to_every_service() {
    let cloud = Harness::new().await;
    let (_, _, body) = cloud.ok("GET", "/identity/v3/auth/catalog", &cloud.demo, Value::Null).await;
    let catalog = body["catalog"].as_array().unwrap();
    let listed: Vec<[&str; 2]> = catalog.iter().map(|entry| [text(&entry["type"]), text(&entry["name"])]).collect();
    let declared: Vec<[&str; 2]> = SERVICES.iter().map(|service| [service.name, service.project]).collect();
    assert_eq!(listed, declared);
    for (service, entry) in SERVICES.iter().zip(catalog) {
        for endpoint in entry["endpoints"].as_array().unwrap() {
            let url = format!("{}{}{}", cloud.cloud.base_url, service.prefix, service.root);
            assert_eq!(endpoint["url"], json!(url));
        }
        // Without a token, too: this is what clients ask first.
        let (status, _, document) = cloud.call("GET", &format!("{}/", service.prefix), "", Value::Null).await;
        assert_eq!(status, service.versions.status, "{document}");
        for version in service.versions.all {
            assert!(
                document.to_string().contains(&format!("\"id\":\"{}\"", version.id)),
                "{}: {document}",
                service.name
            );
        }
    }
}

/// A limit is shown where its service's are, or where everybody else's are, and counted there.
#[tokio::test]
async fn every_limit_is_shown_once() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let project = &cloud.demo_project;
    let (_, _, nova) =
        cloud.ok("GET", &format!("/compute/v2.1/os-quota-sets/{project}/detail"), &cloud.demo, Value::Null).await;
    let (_, _, neutron) =
        cloud.ok("GET", &format!("/network/v2.0/quotas/{project}/details"), &cloud.demo, Value::Null).await;
    let own: Vec<&Limited> = SERVICES
        .iter()
        .filter(|service| service.quotas == Quotas::Own)
        .flat_map(|service| limits(service.kinds))
        .collect();
    for limited in limits(Kind::ALL) {
        let shown = if own.contains(&limited) { &nova["quota_set"] } else { &neutron["quota"] };
        assert_eq!(shown[limited.name]["limit"], json!(limited.default), "{}: {shown}", limited.name);
        assert!(!own.contains(&limited) || neutron["quota"].get(limited.name).is_none(), "{} twice", limited.name);
    }
    let used = |kind: Kind| {
        let realm = Realm::project(project);
        cloud.cloud.store.snapshot().rows().filter(|row| row.key.realm == realm && row.key.kind == kind).count()
    };
    for (name, kind) in
        [("network", Kind::Network), ("address_scope", Kind::AddressScope), ("image_count_total", Kind::Image)]
    {
        assert_eq!(neutron["quota"][name]["used"], json!(used(kind)), "{name}: {neutron}");
    }
    assert_eq!(nova["quota_set"]["server_groups"]["in_use"], json!(used(Kind::ServerGroup)));
}

/// Whatever a kind says that it holds keeps its project alive, and the refusal names it.
#[tokio::test]
async fn what_is_held_keeps_a_project() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let realm = Realm::project(&cloud.demo_project);
    let snapshot = cloud.cloud.store.snapshot();
    let held: BTreeSet<Kind> =
        snapshot.rows().filter(|row| row.key.realm == realm && row.key.kind.holds()).map(|row| row.key.kind).collect();
    assert!(held.len() >= 5, "{held:?}");
    let path = format!("/identity/v3/projects/{}", cloud.demo_project);
    let (status, _, body) = cloud.call("DELETE", &path, &cloud.admin, Value::Null).await;
    let named = held.iter().any(|kind| body.to_string().contains(kind.as_str()));
    assert!(status == 409 && named, "{status} {body}");
}

#[tokio::test]
async fn each_service_speaks_its_dialect() {
    let cloud = Harness::new().await;
    for service in SERVICES {
        let path = format!("{}/no/such/path", service.prefix);
        let (status, headers, body) = cloud.call("GET", &path, &cloud.demo, Value::Null).await;
        let context = face_openstack::service::ErrorContext {
            service,
            path: &path,
            request_id: headers["x-openstack-request-id"].to_str().unwrap(),
            base_url: &cloud.cloud.base_url,
            version: service.microversions.as_ref().map_or((0, 0), |micro| micro.min),
            accept: "",
        };
        let fault = Fault::NotFound { what: "resource".into(), id: "/no/such/path".into() };
        let worded = (service.dialect.error)(&fault, &context);
        assert_eq!(status, worded.status.as_u16(), "{}: {body}", service.name);
        let bytes = face_openstack::call::read(worded.body, 1 << 20).await.unwrap();
        let worded = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        assert_eq!(body, worded, "{}", service.name);
        if let Some(header) = service.dialect.request_id {
            assert_eq!(headers[header], headers["x-openstack-request-id"], "{}", service.name);
        }
    }
}
