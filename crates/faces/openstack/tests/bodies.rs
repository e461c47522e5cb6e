//! A stranger puts the victim's ids into every body and query that takes an id. Each request is sent twice: with an id of
//! the caller's own it is taken (so the test reaches what it means to reach), with the victim's it is refused. Afterwards
//! no row of the stranger's names anything of the victim's, and no row of the victim's has changed. Every endpoint that a
//! member may send a body to stands in a list here or in its service's `walk.json`, or the test says so.

mod common;
#[path = "common/cloud.rs"]
mod rows;
#[path = "common/walking.rs"]
mod walking;

use std::collections::{BTreeMap, BTreeSet};

use common::{Harness, text};
use face_openstack::access::Access;
use face_openstack::network::{Attr, Declared, Is, Set, declared};
use http::Method;
use model::{Image, ImageStatus, Object, Realm, VmPhase};
use serde_json::{Value, json};
use walking::Walk;

/// The least that makes one of Neutron's resources, with ids of the caller's own; `%kind` is the kind of what is tried.
const LEAST: &[(&str, &str)] = &[
    ("network", "{}"),
    ("subnet", r##"{"network_id": "#network", "ip_version": 4, "cidr": "10.7.0.0/24"}"##),
    ("subnetpool", r##"{"name": "x", "prefixes": ["10.61.0.0/16"]}"##),
    ("address_scope", r##"{"ip_version": 4}"##),
    ("port", r##"{"network_id": "#network"}"##),
    ("trunk", r##"{"port_id": "#port"}"##),
    ("router", "{}"),
    ("floatingip", r##"{"floating_network_id": "#public"}"##),
    (
        "port_forwarding",
        r##"{"protocol": "tcp", "internal_port_id": "#inside", "internal_port": 1, "external_port": 1}"##,
    ),
    ("security_group", "{}"),
    ("security_group_rule", r##"{"security_group_id": "#security-group", "direction": "ingress"}"##),
    ("address_group", "{}"),
    ("rbac_policy", r##"{"object_type": "%kind", "target_tenant": "somebody", "action": "access_as_shared"}"##),
];

/// Attributes that take another id than any of their kind, or go with others.
const SPECIAL: &[(&str, &str, &str)] = &[
    ("subnet", "subnetpool_id", r##"{"cidr": null, "subnetpool_id": "$subnetpool"}"##),
    ("floatingip", "port_id", r##"{"port_id": "$inside"}"##),
    ("port_forwarding", "internal_port_id", r##"{"internal_port_id": "$inside"}"##),
];

/// Attributes whose ids are nobody's secret, and why.
const KNOWN_TO_ALL: &[(&str, &str, &str)] = &[
    ("floatingip", "floating_network_id", "an external network, which everybody sees"),
    ("floatingip", "subnet_id", "a subnet of one"),
];

/// Requests that carry an id: `$kind` stands for the id that is tried, `#kind` for one of the caller's own.
fn requests() -> Vec<(&'static str, String, Value)> {
    let by_hand = requests_by_hand().into_iter().map(|(method, path, body)| (method, path.to_owned(), body));
    declared().iter().flat_map(requests_about).chain(by_hand).collect()
}

/// A creation and a change by each attribute of a resource that names rows and that a member may set.
fn requests_about(resource: &Declared) -> Vec<(&'static str, String, Value)> {
    let one = resource.one;
    let Some((_, least)) = LEAST.iter().find(|(name, _)| *name == one) else { return Vec::new() };
    let path = format!("/network{}", resource.path.replace("{floatingip}", "#forwarded"));
    let own = format!("{path}/#{}", one.replace('_', "-"));
    let skipped = |attr: &&Attr<()>| KNOWN_TO_ALL.iter().any(|(o, name, _)| (*o, *name) == (one, attr.name));
    let mut requests = Vec::new();
    for attr in resource.attrs.iter().filter(|attr| !attr.admin_sets && !skipped(attr)) {
        for kind in attr.is.refers_to() {
            let kind = kind.as_str().replace('-', "_");
            let id = json!(format!("${}", kind.replace('_', "-")));
            let id = if matches!(attr.is, Is::UuidList(_)) { json!([id]) } else { id };
            let special = SPECIAL.iter().find(|(o, name, _)| (*o, *name) == (one, attr.name));
            let tried: Value =
                special.map_or_else(|| json!({attr.name: id}), |(.., tried)| serde_json::from_str(tried).unwrap());
            if matches!(attr.set, Set::Post | Set::PostPut) {
                let mut body: Value = serde_json::from_str(&least.replace("%kind", &kind)).unwrap();
                let fields = body.as_object_mut().unwrap();
                fields.extend(tried.as_object().unwrap().clone());
                fields.retain(|_, value| !value.is_null());
                requests.push(("POST", path.clone(), json!({one: body})));
            }
            if matches!(attr.set, Set::Put | Set::PostPut) {
                requests.push(("PUT", own.clone(), json!({one: tried})));
            }
        }
    }
    requests
}

/// No attribute that a member may send with this method could carry an id: all are plain values.
fn is_plain(resource: &Declared, method: &Method) -> bool {
    let plain = |is: Is| {
        let open = matches!(is, Is::Any | Is::ObjectList | Is::ObjectOrNull);
        !open && is.refers_to().is_empty()
    };
    let set = if *method == Method::POST { [Set::Post, Set::PostPut] } else { [Set::Put, Set::PostPut] };
    let mut sent = resource.attrs.iter().filter(|attr| set.contains(&attr.set) && !attr.admin_sets);
    // Projects are tried by themselves.
    sent.all(|attr| matches!(attr.name, "project_id" | "tenant_id") || plain(attr.is))
}

/// Those that no declaration says: ids deeper in bodies, several at once, and requests of other services.
fn requests_by_hand() -> Vec<(&'static str, &'static str, Value)> {
    let net = |path: &'static str, body: Value| ("POST", path, body);
    let act = |body: Value| ("POST", "/compute/v2.1/servers/#server/action", body);
    let boot = |more: Value| {
        let mut server = json!({"name": "x", "imageRef": "#image", "flavorRef": "#flavor", "networks": "none"});
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("POST", "/compute/v2.1/servers", json!({"server": server}))
    };
    let hint = |hint: &str| {
        let server = json!({"name": "x", "imageRef": "#image", "flavorRef": "#flavor", "networks": "none"});
        ("POST", "/compute/v2.1/servers", json!({"server": server, "os:scheduler_hints": {hint: ["$server"]}}))
    };
    vec![
        net("/network/v2.0/ports", json!({"ports": [{"network_id": "$network"}, {"network_id": "#network"}]})),
        net(
            "/network/v2.0/ports",
            json!({"port": {"network_id": "#network", "fixed_ips": [{"subnet_id": "$subnet"}]}}),
        ),
        ("PUT", "/network/v2.0/ports/#port", json!({"port": {"fixed_ips": [{"subnet_id": "$subnet"}]}})),
        ("PUT", "/network/v2.0/routers/#router/add_router_interface", json!({"subnet_id": "$subnet"})),
        ("PUT", "/network/v2.0/routers/#router/add_router_interface", json!({"port_id": "$port"})),
        ("PUT", "/network/v2.0/routers/#joined/remove_router_interface", json!({"subnet_id": "$left-subnet"})),
        net(
            "/network/v2.0/routers",
            json!({"router": {"external_gateway_info": {"network_id": "#public", "qos_policy_id": "$qos-policy"}}}),
        ),
        (
            "PUT",
            "/network/v2.0/routers/#router",
            json!({"router": {"external_gateway_info": {"network_id": "#public", "qos_policy_id": "$qos-policy"}}}),
        ),
        net(
            "/network/v2.0/trunks",
            json!({"trunk": {"port_id": "#port", "sub_ports":
                [{"port_id": "$inside", "segmentation_type": "vlan", "segmentation_id": 5}]}}),
        ),
        (
            "PUT",
            "/network/v2.0/trunks/#trunk/add_subports",
            json!({"sub_ports": [{"port_id": "$inside", "segmentation_type": "vlan", "segmentation_id": 5}]}),
        ),
        ("PUT", "/network/v2.0/trunks/#trunk/remove_subports", json!({"sub_ports": [{"port_id": "$subport"}]})),
        boot(json!({"imageRef": "$image"})),
        boot(json!({"networks": [{"uuid": "$network"}]})),
        boot(json!({"networks": [{"port": "$port"}]})),
        boot(json!({"networks": [{"uuid": "#network"}], "security_groups": [{"name": "$security-group"}]})),
        (
            "POST",
            "/compute/v2.1/servers",
            json!({"server": {"name": "x", "imageRef": "#image", "flavorRef": "#flavor", "networks": "none"},
                "os:scheduler_hints": {"group": "$server-group"}}),
        ),
        hint("same_host"),
        hint("different_host"),
        ("POST", "/compute/v2.1/servers/#server/os-interface", json!({"interfaceAttachment": {"port_id": "$port"}})),
        ("POST", "/compute/v2.1/servers/#server/os-interface", json!({"interfaceAttachment": {"net_id": "$network"}})),
        (
            "POST",
            "/compute/v2.1/os-security-group-rules",
            json!({"security_group_rule": {"parent_group_id": "$security-group", "ip_protocol": "tcp", "from_port": 1,
                "to_port": 1}}),
        ),
        (
            "POST",
            "/compute/v2.1/os-security-group-rules",
            json!({"security_group_rule": {"parent_group_id": "#security-group", "group_id": "$security-group",
                "ip_protocol": "tcp", "from_port": 1, "to_port": 1}}),
        ),
        act(json!({"rebuild": {"imageRef": "$image"}})),
        act(json!({"rescue": {"rescue_image_ref": "$image"}})),
        act(json!({"addSecurityGroup": {"name": "$security-group"}})),
    ]
}

type Ids = BTreeMap<&'static str, String>;

fn image(project: &str, name: &str) -> Image {
    Image {
        name: Some(name.into()),
        status: ImageStatus::Active,
        disk_format: Some("raw".into()),
        container_format: Some("bare".into()),
        blob: Some("00".into()),
        size: Some(1 << 20),
        ..Image::new(uuid::Uuid::new_v4().to_string(), project.to_owned(), model::Time::now())
    }
}

async fn made(cloud: &Harness, token: &str, path: &str, body: Value) -> String {
    let one = body.as_object().unwrap().keys().next().unwrap().clone();
    let (_, _, answer) = cloud.ok("POST", path, token, body).await;
    text(&answer[&one]["id"]).to_owned()
}

/// Something of everything that a project can have.
async fn fill(cloud: &Harness, rows: &rows::Rows, token: &str, tag: &str, public: &str) -> Ids {
    let project = cloud.project_of(token).await;
    let new = async |path: &str, body: Value| made(cloud, token, &format!("/network/v2.0/{path}"), body).await;
    let mut ids = Ids::new();
    ids.insert("project", project.clone());
    ids.insert("flavor", rows.small.clone());
    ids.insert("public", public.to_owned());
    ids.insert("network", new("networks", json!({"network": {"name": tag}})).await);
    let subnet = json!({"subnet": {"network_id": ids["network"], "ip_version": 4, "cidr": "10.50.0.0/24"}});
    ids.insert("subnet", new("subnets", subnet).await);
    ids.insert("port", new("ports", json!({"port": {"network_id": ids["network"]}})).await);
    let pool = json!({"subnetpool": {"name": tag, "prefixes": ["10.60.0.0/16"], "default_prefixlen": 24}});
    ids.insert("subnetpool", new("subnetpools", pool).await);
    ids.insert("router", new("routers", json!({"router": {"name": tag}})).await);
    ids.insert("security-group", new("security-groups", json!({"security_group": {"name": tag}})).await);
    ids.insert("address-group", new("address-groups", json!({"address_group": {"name": tag}})).await);
    let scope = json!({"address_scope": {"name": tag, "ip_version": 4}});
    ids.insert("address-scope", new("address-scopes", scope).await);
    let policy = json!({"rbac_policy": {"object_type": "network", "object_id": ids["network"], "target_tenant": "nobody",
        "action": "access_as_shared"}});
    ids.insert("rbac-policy", new("rbac-policies", policy).await);
    // A second network, behind a router that leads out.
    let network = new("networks", json!({"network": {"name": "joined"}})).await;
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.51.0.0/24"}});
    ids.insert("joined-subnet", new("subnets", subnet).await);
    let router = json!({"router": {"name": "joined", "external_gateway_info": {"network_id": public}}});
    ids.insert("joined", new("routers", router).await);
    let path = format!("/network/v2.0/routers/{}/add_router_interface", ids["joined"]);
    cloud.ok("PUT", &path, token, json!({"subnet_id": ids["joined-subnet"]})).await;
    let left = new("networks", json!({"network": {"name": "left"}})).await;
    let subnet = json!({"subnet": {"network_id": left, "ip_version": 4, "cidr": "10.52.0.0/24"}});
    ids.insert("left-subnet", new("subnets", subnet).await);
    cloud.ok("PUT", &path, token, json!({"subnet_id": ids["left-subnet"]})).await;
    ids.insert("inside", new("ports", json!({"port": {"network_id": network}})).await);
    ids.insert("floatingip", new("floatingips", json!({"floatingip": {"floating_network_id": public}})).await);
    let floating = json!({"floatingip": {"floating_network_id": public}});
    ids.insert("forwarded", new("floatingips", floating).await);
    let port = new("ports", json!({"port": {"network_id": network}})).await;
    let forwarding = json!({"port_forwarding": {"protocol": "tcp", "internal_port_id": port, "internal_port": 9,
        "external_port": 9}});
    let path = format!("floatingips/{}/port_forwardings", ids["forwarded"]);
    ids.insert("port-forwarding", new(&path, forwarding).await);
    let policy = json!({"policy": {"name": tag, "project_id": project}});
    ids.insert("qos-policy", made(cloud, &cloud.admin, "/network/v2.0/qos/policies", policy).await);
    for name in ["parent", "subport"] {
        ids.insert(name, new("ports", json!({"port": {"network_id": network}})).await);
    }
    let trunk = json!({"trunk": {"port_id": ids["parent"], "sub_ports":
        [{"port_id": ids["subport"], "segmentation_type": "vlan", "segmentation_id": 4}]}});
    ids.insert("trunk", new("trunks", trunk).await);
    let image = image(&project, tag);
    ids.insert("image", image.id.clone());
    cloud.cloud.store.commit(&image.into()).await.unwrap();
    let group = json!({"server_group": {"name": tag, "policies": ["affinity"]}});
    ids.insert("server-group", made(cloud, token, "/compute/v2.1/os-server-groups", group).await);
    let server =
        json!({"server": {"name": tag, "imageRef": ids["image"], "flavorRef": rows.small, "networks": "none"}});
    let headers = [("openstack-api-version", "compute 2.64")];
    let (status, _, answer) = cloud.call_with("POST", "/compute/v2.1/servers", token, &headers, server).await;
    assert_eq!(status, 202, "{answer}");
    let server = text(&answer["server"]["id"]).to_owned();
    rows.place(cloud, &server, "node1", VmPhase::Running).await;
    ids.insert("server", server);
    ids
}

struct World {
    cloud: Harness,
    stranger: String,
    own: Ids,
    theirs: Ids,
}

impl World {
    async fn new() -> Self {
        let cloud = Harness::new().await;
        let rows = rows::Rows::new(&cloud).await;
        let body = json!({"network": {"name": "public", "router:external": true}});
        let public = made(&cloud, &cloud.admin, "/network/v2.0/networks", body).await;
        let body = json!({"subnet": {"network_id": public, "ip_version": 4, "cidr": "172.30.0.0/24"}});
        made(&cloud, &cloud.admin, "/network/v2.0/subnets", body).await;
        let stranger = cloud.tenant("stranger", "member").await;
        let theirs = fill(&cloud, &rows, &cloud.demo, "theirs", &public).await;
        let own = fill(&cloud, &rows, &stranger, "own", &public).await;
        Self { cloud, stranger, own, theirs }
    }

    async fn send(&self, method: &str, path: &str, body: &Value, tried: &Ids) -> (u16, Value) {
        let fill = |text: &str| {
            let mut text = text.to_owned();
            // The longest names first: one may begin another.
            for (kind, id) in self.own.iter().rev() {
                text = text.replace(&format!("#{kind}"), id);
            }
            for (kind, id) in tried.iter().rev() {
                text = text.replace(&format!("${kind}"), id);
            }
            text
        };
        let body: Value = serde_json::from_str(&fill(&body.to_string())).unwrap();
        let headers: &[_] =
            if path.starts_with("/compute/v2.1/servers") { &[("openstack-api-version", "compute 2.87")] } else { &[] };
        let answer = self.cloud.call_with(method, &fill(path), &self.stranger, headers, body).await;
        (answer.0, answer.2)
    }

    /// Rows outside the victim's project that name something of the victim's, but for texts that nothing reads.
    fn named(&self) -> Vec<String> {
        let victim = Realm::project(&self.theirs["project"]);
        let shared = ["flavor", "public", "project"];
        let snapshot = self.cloud.cloud.store.snapshot();
        let mut named = Vec::new();
        for row in snapshot.rows().filter(|row| row.key.realm != victim) {
            let mut content = serde_json::to_value(&row.object).unwrap();
            if matches!(row.object, Object::Port(_)) {
                content["row"].as_object_mut().unwrap().remove("device_id");
            }
            let content = content.to_string();
            let own = |key: &str| snapshot.rows().any(|r| r.key.realm == victim && r.key.name.contains(key));
            named.extend(
                self.theirs
                    .iter()
                    .filter(|(kind, id)| !shared.contains(kind) && content.contains(id.as_str()))
                    // Neutron's own ports for what the victim has are in nobody's project.
                    .filter(|_| !(row.key.realm == Realm::Cloud && own(&row.key.name)))
                    .map(|(kind, id)| format!("{} names the victim's {kind} {id}", row.key)),
            );
        }
        named
    }
}

#[tokio::test]
async fn ids_of_others_in_bodies_are_refused() {
    for (method, path, body) in requests() {
        let what = format!("{method} {path} {body}");
        let world = World::new().await;
        let (status, answer) = world.send(method, &path, &body, &world.own).await;
        assert!((200..300).contains(&status), "{what} with one's own: {status} {answer}");

        let world = World::new().await;
        let (named, before) = (world.named(), world.cloud.cloud.store.snapshot());
        let (status, answer) = world.send(method, &path, &body, &world.theirs).await;
        assert!(matches!(status, 400 | 403 | 404 | 409), "{what} with another's: {status} {answer}");
        assert_eq!(world.named(), named, "{what}");
        let (victim, after) = (Realm::project(&world.theirs["project"]), world.cloud.cloud.store.snapshot());
        for row in before.rows().filter(|row| row.key.realm == victim) {
            assert_eq!(after.row(&row.key).map(|now| now.modified), Some(row.modified), "{what}: {}", row.key);
        }
    }
}

/// With a policy for it the same ids are good for using what they name, and for no change of it.
#[tokio::test]
async fn ids_of_what_is_shared_change_nothing() {
    // That something was used may be written down with it.
    let content = |world: &World| -> BTreeMap<String, Value> {
        let snapshot = world.cloud.cloud.store.snapshot();
        let victim = Realm::project(&world.theirs["project"]);
        let rows = snapshot.rows().filter(|row| row.key.realm == victim);
        let content = |object: &Object| {
            let mut content = serde_json::to_value(object).unwrap();
            content["row"].as_object_mut().map(|row| row.remove("updated_at"));
            content
        };
        rows.map(|row| (row.key.to_string(), content(&row.object))).collect()
    };
    for (method, path, body) in requests() {
        let what = format!("{method} {path} {body}");
        let world = World::new().await;
        for kind in ["network", "subnetpool", "address-scope", "address-group", "security-group", "qos-policy"] {
            let policy = json!({"rbac_policy": {"object_type": kind.replace('-', "_"), "object_id": world.theirs[kind],
                "target_tenant": world.own["project"], "action": "access_as_shared"}});
            made(&world.cloud, &world.cloud.demo, "/network/v2.0/rbac-policies", policy).await;
        }
        let before = content(&world);
        let (status, answer) = world.send(method, &path, &body, &world.theirs).await;
        assert!(status < 500, "{what}: {status} {answer}");
        assert_eq!(content(&world), before, "{what}: {status}");
    }
}

#[tokio::test]
async fn every_body_that_a_member_may_send_is_thought_of() {
    let cloud = Harness::new().await;
    let requests = requests();
    let declared = declared();
    let walks: Vec<Walk> = cloud.face.services().map(|service| Walk::of(service)).collect();
    let mut listed: BTreeSet<&str> =
        walks.iter().flat_map(|walk| walk.without_ids.keys().map(String::as_str)).collect();
    let mut forgotten = Vec::new();
    for (service, walk) in cloud.face.services().zip(&walks).filter(|(service, _)| service.name != "identity") {
        let bodies = |method: &Method| !matches!(*method, Method::GET | Method::HEAD | Method::DELETE);
        let may = |access: &Access| matches!(access, Access::Token | Access::Reader | Access::Member);
        for endpoint in service.endpoints.iter().filter(|e| bodies(&e.method) && may(&e.access)) {
            listed.remove(endpoint.path);
            // Tags are texts, and Nova's older prefix leads to the same.
            if endpoint.path.contains("/tags") || (service.name == "compute" && endpoint.path.starts_with("/v2/")) {
                continue;
            }
            let fits = |sent: &str| {
                let (mut a, mut b) =
                    (endpoint.path.split('/'), sent.strip_prefix(service.prefix).unwrap_or("").split('/'));
                a.by_ref().zip(b.by_ref()).all(|(a, b)| a == b || (a.starts_with('{') && b.starts_with('#')))
                    && sent.matches('/').count()
                        == service.prefix.matches('/').count() + endpoint.path.matches('/').count()
            };
            let sent = requests.iter().any(|(method, path, _)| endpoint.method == *method && fits(path));
            let path = endpoint.path.strip_suffix("/{id}").unwrap_or(endpoint.path);
            let resource = declared.iter().find(|resource| resource.path == path);
            if service.name == "network" && resource.is_some_and(|resource| is_plain(resource, &endpoint.method)) {
                continue;
            }
            if !sent && !walk.without_ids.contains_key(endpoint.path) {
                forgotten.push(format!("{} {}{}", endpoint.method, service.prefix, endpoint.path));
            }
        }
    }
    assert!(forgotten.is_empty(), "neither in `requests` nor in `without_ids` of walk.json: {forgotten:#?}");
    assert!(listed.is_empty(), "in `without_ids`, but no endpoint: {listed:#?}");
}

#[tokio::test]
async fn ids_of_others_in_queries_find_nothing() {
    let world = World::new().await;
    let lists = [
        "/network/v2.0/ports?network_id=$network",
        "/network/v2.0/ports?device_id=$server",
        "/network/v2.0/ports?id=$port",
        "/network/v2.0/ports?fixed_ips=subnet_id%3D$subnet",
        "/network/v2.0/ports?security_groups=$security-group",
        "/network/v2.0/ports?project_id=$project",
        "/network/v2.0/networks?id=$network",
        "/network/v2.0/subnets?network_id=$network",
        "/network/v2.0/floatingips?port_id=$port",
        "/network/v2.0/floatingips/#forwarded/port_forwardings?internal_port_id=$inside",
        "/network/v2.0/routers?project_id=$project",
        "/network/v2.0/security-group-rules?security_group_id=$security-group",
        "/network/v2.0/security-group-rules?remote_address_group_id=$address-group",
        "/network/v2.0/address-groups?id=$address-group",
        "/network/v2.0/address-scopes?id=$address-scope",
        "/network/v2.0/rbac-policies?object_id=$network",
        "/network/v2.0/trunks?id=$trunk",
        "/network/v2.0/trunks?port_id=$parent",
        "/network/v2.0/qos/policies?id=$qos-policy",
        "/network/v2.0/networks?qos_policy_id=$qos-policy",
        "/network/v2.0/subnetpools?address_scope_id=$address-scope",
        "/compute/v2.1/servers?image=$image",
        "/compute/v2.1/servers?project_id=$project&all_tenants=1",
        "/image/v2/images?owner=$project",
        "/image/v2/images?id=in:$image",
    ];
    for path in lists {
        let (status, mut found) = world.send("GET", path, &Value::Null, &world.theirs).await;
        // Glance says the query again.
        found.as_object_mut().map(|found| found.remove("first"));
        let shown = found.to_string();
        let leaked: Vec<_> = world
            .theirs
            .iter()
            .filter(|(kind, id)| !["flavor", "public", "project"].contains(kind) && shown.contains(id.as_str()))
            .collect();
        assert!(status < 500, "{path}: {status} {found}");
        assert!(leaked.is_empty(), "{path} shows {leaked:?}: {found}");
    }
}

#[tokio::test]
async fn projects_are_ones_own() {
    let world = World::new().await;
    for (path, body) in [
        ("/network/v2.0/networks", json!({"network": {"project_id": "$project"}})),
        ("/network/v2.0/networks", json!({"network": {"tenant_id": "$project"}})),
        ("/network/v2.0/ports", json!({"port": {"network_id": "#network", "project_id": "$project"}})),
        ("/network/v2.0/routers", json!({"router": {"project_id": "$project"}})),
        ("/network/v2.0/security-groups", json!({"security_group": {"name": "x", "tenant_id": "$project"}})),
        ("/image/v2/images", json!({"name": "x", "owner": "$project"})),
    ] {
        let (status, answer) = world.send("POST", path, &body, &world.own).await;
        assert!((200..300).contains(&status), "{path} {body}: {status} {answer}");
        let (status, answer) = world.send("POST", path, &body, &world.theirs).await;
        assert!(matches!(status, 400 | 403), "{path} {body}: {status} {answer}");
    }
}

/// Neutron takes any text for a port's device, and real clients write some; nobody reads it.
#[tokio::test]
async fn a_device_is_a_text_that_nothing_reads() {
    let world = World::new().await;
    let cloud = &world.cloud;
    let server = format!("/compute/v2.1/servers/{}", world.theirs["server"]);
    let (_, _, before) = cloud.ok("GET", &server, &cloud.demo, Value::Null).await;
    let body = json!({"port": {"network_id": "#network", "device_id": "$server", "device_owner": "compute:nova"}});
    let (status, port) = world.send("POST", "/network/v2.0/ports", &body, &world.theirs).await;
    assert_eq!((status, &port["port"]["device_id"]), (201, &json!(world.theirs["server"])), "{port}");
    let body = json!({"port": {"device_id": "$server", "device_owner": "compute:nova"}});
    let (status, answer) = world.send("PUT", "/network/v2.0/ports/#port", &body, &world.theirs).await;
    assert_eq!(status, 200, "{answer}");
    let (_, _, after) = cloud.ok("GET", &server, &cloud.demo, Value::Null).await;
    assert_eq!(after["server"]["addresses"], before["server"]["addresses"]);
    let interfaces = format!("{server}/os-interface");
    let (_, _, interfaces) = cloud.ok("GET", &interfaces, &cloud.demo, Value::Null).await;
    assert_eq!(interfaces["interfaceAttachments"], json!([]));
    let snapshot = cloud.cloud.store.snapshot();
    let server = snapshot.get::<model::Server>(&world.theirs["server"]).unwrap();
    assert_eq!(model::Port::of_server(&snapshot, &server).count(), 0);

    // A port that something is attached to says what, and nobody else does.
    let attach = json!({"interfaceAttachment": {"port_id": "#port"}});
    let (status, answer) = world.send("POST", "/compute/v2.1/servers/#server/os-interface", &attach, &world.own).await;
    assert_eq!(status, 200, "{answer}");
    for other in [json!({"device_id": ""}), json!({"device_id": "$server"}), json!({"device_owner": "my:thing"})] {
        let (status, answer) =
            world.send("PUT", "/network/v2.0/ports/#port", &json!({"port": other}), &world.theirs).await;
        assert_eq!((status, text(&answer["NeutronError"]["type"])), (409, "PortInUse"), "{other} {answer}");
    }
    let same = json!({"port": {"device_id": "#server", "device_owner": "compute:nova", "name": "mine"}});
    let (status, answer) = world.send("PUT", "/network/v2.0/ports/#port", &same, &world.own).await;
    assert_eq!((status, &answer["port"]["device_id"]), (200, &json!(world.own["server"])), "{answer}");
}

#[tokio::test]
async fn members_neither_lead_shared_networks_nor_sit_on_external_ones() {
    let world = World::new().await;
    let cloud = &world.cloud;
    let body = json!({"network": {"name": "shared", "shared": true}});
    let shared = made(cloud, &cloud.admin, "/network/v2.0/networks", body).await;
    let body = json!({"subnet": {"network_id": shared, "ip_version": 4, "cidr": "10.77.0.0/24"}});
    let subnet = made(cloud, &cloud.admin, "/network/v2.0/subnets", body).await;
    let none = Ids::new();
    let join = "/network/v2.0/routers/#router/add_router_interface";
    let (status, answer) = world.send("PUT", join, &json!({"subnet_id": subnet}), &none).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("is not owned by project making the request"), "{answer}");
    // As anybody on a shared network, a router may have an address that it is given.
    let body = json!({"port": {"network_id": shared}});
    let port = made(cloud, &world.stranger, "/network/v2.0/ports", body).await;
    let (status, answer) = world.send("PUT", join, &json!({"port_id": port}), &none).await;
    assert_eq!(status, 200, "{answer}");
    // But not one that it chooses, by Neutron or by Nova.
    let body = json!({"port": {"network_id": shared, "fixed_ips": [{"ip_address": "10.77.0.1"}]}});
    assert_eq!(world.send("POST", "/network/v2.0/ports", &body, &none).await.0, 403);
    let body = json!({"server": {"name": "x", "imageRef": "#image", "flavorRef": "#flavor",
        "networks": [{"uuid": shared, "fixed_ip": "10.77.0.1"}]}});
    assert_eq!(world.send("POST", "/compute/v2.1/servers", &body, &none).await.0, 403);

    let body = json!({"port": {"network_id": "#public"}});
    let (status, answer) = world.send("POST", "/network/v2.0/ports", &body, &none).await;
    assert_eq!(status, 403, "{answer}");
    // Nor by a port that an administrator made there for the project.
    let body = json!({"port": {"network_id": world.own["public"], "project_id": world.own["project"]}});
    let port = made(cloud, &cloud.admin, "/network/v2.0/ports", body).await;
    let body =
        json!({"server": {"name": "x", "imageRef": "#image", "flavorRef": "#flavor", "networks": [{"port": port}]}});
    assert_eq!(world.send("POST", "/compute/v2.1/servers", &body, &none).await.0, 403);
    let body = json!({"interfaceAttachment": {"port_id": port}});
    assert_eq!(world.send("POST", "/compute/v2.1/servers/#server/os-interface", &body, &none).await.0, 403);
}
