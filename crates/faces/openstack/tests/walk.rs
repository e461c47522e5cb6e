//! Walks the tables of all services: without credentials nothing answers but what is public, and with another project's
//! credentials nothing of a project can be reached. New endpoints are covered as soon as they stand in a table.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::Harness;
use face_openstack::table::{Access, Endpoint, Service};
use http::Method;
use model::{Kind, Realm};
use serde_json::{Value, json};

/// What a part of a path in a collection names.
fn kind_of(collection: &str) -> Option<Kind> {
    Some(match collection {
        "servers" => Kind::Server,
        "os-server-groups" => Kind::ServerGroup,
        "os-keypairs" => Kind::Keypair,
        "images" => Kind::Image,
        "networks" => Kind::Network,
        "subnets" => Kind::Subnet,
        "subnetpools" => Kind::SubnetPool,
        "ports" => Kind::Port,
        "routers" => Kind::Router,
        "floatingips" => Kind::FloatingIp,
        "security-groups" => Kind::SecurityGroup,
        "security-group-rules" => Kind::SecurityGroupRule,
        "projects" => Kind::Project,
        "users" => Kind::User,
        _ => return None,
    })
}

/// The endpoint's path with every parameter replaced by the id of something of the victim's, or by a random one; and
/// whether one of them is the victim's.
fn fill(cloud: &Harness, service: &Service, endpoint: &Endpoint) -> (String, bool) {
    let snapshot = cloud.cloud.store.snapshot();
    let victim = Realm::project(&cloud.demo_project);
    let (mut parts, mut theirs): (Vec<String>, bool) = (Vec::new(), false);
    for part in endpoint.path.split('/') {
        if !part.starts_with('{') {
            parts.push(part.to_owned());
            continue;
        }
        let kind = parts.last().and_then(|collection| kind_of(collection));
        let own = match kind {
            Some(Kind::Project) => Some(cloud.demo_project.clone()),
            Some(Kind::User) => {
                snapshot.all::<model::User>().find(|user| user.value.name == "demo").map(|user| user.id.clone())
            }
            Some(kind) => {
                let mut rows = snapshot.rows().filter(|row| row.key.kind == kind && row.key.realm == victim);
                rows.next().map(|row| row.key.name.to_string())
            }
            None => None,
        };
        theirs |= own.is_some();
        parts.push(own.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()));
    }
    (format!("{}{}", service.prefix, parts.join("/")), theirs)
}

/// Something of each kind that a project can have.
async fn fill_project(cloud: &Harness) {
    let rows = rows::Rows::new(cloud).await;
    let server = json!({"server": {"name": "walked", "imageRef": rows.image, "flavorRef": rows.small}});
    let (_, _, server) = cloud.ok("POST", "/compute/v2.1/servers", &cloud.demo, server).await;
    rows.place(cloud, common::text(&server["server"]["id"]), "node1", model::VmPhase::Running).await;
    for (path, body) in [
        ("/network/v2.0/networks", json!({"network": {"name": "walked"}})),
        ("/network/v2.0/routers", json!({"router": {"name": "walked"}})),
        ("/compute/v2.1/os-server-groups", json!({"server_group": {"name": "walked", "policies": ["affinity"]}})),
        ("/compute/v2.1/os-keypairs", json!({"keypair": {"name": "walked"}})),
        ("/image/v2/images", json!({"name": "walked", "disk_format": "raw", "container_format": "bare"})),
    ] {
        let (status, _, answer) = cloud.call("POST", path, &cloud.demo, body).await;
        // 404: that service is not there yet.
        assert!(status == 404 || (200..300).contains(&status), "{path}: {status} {answer}");
        if let Some(id) = answer["network"]["id"].as_str() {
            let subnet = json!({"subnet": {"network_id": id, "ip_version": 4, "cidr": "10.99.0.0/24"}});
            cloud.ok("POST", "/network/v2.0/subnets", &cloud.demo, subnet).await;
            cloud.ok("POST", "/network/v2.0/ports", &cloud.demo, json!({"port": {"network_id": id}})).await;
        }
    }
}

/// A body that gets as far as an empty one of its resource can.
fn body_for(endpoint: &Endpoint) -> Value {
    if matches!(endpoint.method, Method::GET | Method::HEAD | Method::DELETE) {
        return Value::Null;
    }
    if endpoint.path.ends_with("/action") {
        return json!({"reboot": {"type": "HARD"}});
    }
    let resources = [
        "server",
        "network",
        "subnet",
        "subnetpool",
        "port",
        "router",
        "floatingip",
        "security_group",
        "security_group_rule",
        "project",
        "user",
        "application_credential",
    ];
    resources.into_iter().map(|name| (name.to_owned(), json!({"name": "walker"}))).collect()
}

/// The header that asks for a version in which the endpoint exists.
fn version_for(service: &Service, endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let Some(versions) = &service.versions else { return Vec::new() };
    let (major, minor) = endpoint.since.max(versions.min).min(versions.max);
    vec![("openstack-api-version", format!("{} {major}.{minor}", versions.name))]
}

async fn call(cloud: &Harness, service: &Service, endpoint: &Endpoint, path: &str, token: &str) -> (u16, Value) {
    let headers = version_for(service, endpoint);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = cloud.call_with(endpoint.method.as_str(), path, token, &headers, body_for(endpoint)).await;
    (answer.0, answer.2)
}

#[tokio::test]
async fn without_credentials_only_public_endpoints_answer() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let face = cloud.face.clone();
    for service in face.services() {
        for endpoint in &service.endpoints {
            let (path, _) = fill(&cloud, service, endpoint);
            for token in ["", "nonsense", &cloud.demo[..cloud.demo.len() - 2]] {
                let (status, body) = call(&cloud, service, endpoint, &path, token).await;
                let what = format!("{} {path}: {status} {body}", endpoint.method);
                if endpoint.access == Access::Public {
                    assert!(status < 500, "{what}");
                } else {
                    assert_eq!(status, 401, "{what}");
                }
            }
        }
        let unknown = format!("{}/no/such/path", service.prefix);
        assert_eq!(cloud.call("GET", &unknown, "", Value::Null).await.0, 401, "{unknown}");
    }
}

#[tokio::test]
async fn nothing_of_another_project_can_be_reached() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let stranger = cloud.tenant("stranger", "member").await;
    let before = cloud.cloud.store.snapshot();
    let face = cloud.face.clone();
    let (mut reached, mut tried) = (Vec::new(), 0);
    for service in face.services() {
        for endpoint in service.endpoints.iter().filter(|e| e.access != Access::Public) {
            let (path, theirs) = fill(&cloud, service, endpoint);
            if !theirs {
                continue;
            }
            tried += 1;
            let (status, body) = call(&cloud, service, endpoint, &path, &stranger).await;
            if !matches!(status, 400 | 403 | 404 | 405 | 409 | 415) {
                reached.push(format!("{} {path}: {status} {body}", endpoint.method));
            }
        }
    }
    assert!(reached.is_empty(), "{reached:#?}");
    assert!(tried > 50, "only {tried} endpoints name something of a project");
    let victim = Realm::project(&cloud.demo_project);
    let after = cloud.cloud.store.snapshot();
    for row in before.rows().filter(|row| row.key.realm == victim) {
        assert_eq!(after.row(&row.key).map(|now| now.modified), Some(row.modified), "{}", row.key);
    }
}

#[tokio::test]
async fn administration_is_for_administrators() {
    let cloud = Harness::new().await;
    let face = cloud.face.clone();
    for service in face.services() {
        for endpoint in service.endpoints.iter().filter(|e| e.access == Access::Admin) {
            let (path, _) = fill(&cloud, service, endpoint);
            let (status, body) = call(&cloud, service, endpoint, &path, &cloud.demo).await;
            assert_eq!(status, 403, "{} {path}: {body}", endpoint.method);
        }
    }
}
