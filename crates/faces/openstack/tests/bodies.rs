//! A stranger puts the victim's ids into every body and query that takes an id. Each request is sent twice: with an id of
//! the caller's own it is taken (so the test reaches what it means to reach), with the victim's it is refused. Afterwards
//! no row of the stranger's names anything of the victim's, and no row of the victim's has changed. What bodies carry is what
//! their endpoints declare, and what their service's `walk.json` says besides; an endpoint without either is told.

mod common;
#[path = "common/cloud.rs"]
mod rows;
#[path = "common/walking.rs"]
mod walking;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use common::{Harness, text};
use face_openstack::SERVICES;
use face_openstack::access::Access;
use face_openstack::service::{Endpoint, Microversions, Property, Service, Takes};
use http::Method;
use model::{Image, ImageStatus, Object, Realm, VmPhase};
use serde_json::{Map, Value, json};
use walking::{Carries, Walk};

/// A request that carries an id: `$kind` stands for the id that is tried, `#kind` for one of the caller's own.
struct Carrying {
    service: &'static Service,
    method: Method,
    path: String,
    body: Value,
    /// The header that asks for the newest version that has it.
    version: Option<String>,
}

impl Carrying {
    fn new(service: &'static Service, endpoint: Option<&Endpoint>, method: Method, path: &str, body: Value) -> Self {
        let until = |micro: &Microversions| endpoint.map_or(micro.max, |endpoint| endpoint.until.min(micro.max));
        let version = service.microversions.as_ref().map(|micro| (micro.name, until(micro)));
        let version = version.map(|(name, (major, minor))| format!("{name} {major}.{minor}"));
        Self { service, method, path: format!("{}{path}", service.prefix), body, version }
    }
}

impl Display for Carrying {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { method, path, body, .. } = self;
        write!(f, "{method} {path} {body}")
    }
}

/// The endpoints to which members send bodies, but for those of the oldest version alone, which others are like.
fn taking(service: &Service) -> Vec<Endpoint> {
    let bodies = |method: &Method| !matches!(*method, Method::GET | Method::HEAD | Method::DELETE);
    let may = |access: &Access| matches!(access, Access::Token | Access::Reader | Access::Member);
    let old = |endpoint: &Endpoint| service.microversions.as_ref().is_some_and(|micro| endpoint.until == micro.min);
    let table = (service.table)().into_iter();
    table.filter(|endpoint| bodies(&endpoint.method) && may(&endpoint.access) && !old(endpoint)).collect()
}

/// Requests that carry an id: by each property that is declared to name a row and that a member may send, and those that no
/// declaration says.
fn requests() -> Vec<Carrying> {
    let mut requests = Vec::new();
    for service in SERVICES.iter().copied() {
        let (walk, endpoints) = (Walk::of(service), taking(service));
        for endpoint in &endpoints {
            requests.extend(requests_to(service, &walk, endpoint));
        }
        for Carries { method, path, body } in walk.carries {
            let method = method.parse().unwrap();
            let endpoint = endpoints.iter().find(|endpoint| endpoint.method == method && fits(endpoint.path, &path));
            requests.push(Carrying::new(service, endpoint, method, &path, body));
        }
    }
    requests
}

/// A path with ids is one of those that a row of the table stands for.
fn fits(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('/').zip(path.split('/'));
    pattern.matches('/').count() == path.matches('/').count()
        && parts.all(|(a, b)| a == b || (a.starts_with('{') && b.starts_with('#')))
}

fn requests_to(service: &'static Service, walk: &Walk, endpoint: &Endpoint) -> Vec<Carrying> {
    let mut requests = Vec::new();
    for (takes, property) in endpoint.bodies.iter().flat_map(|takes| takes.properties.iter().map(move |p| (takes, p))) {
        let named = format!("{}.{}", takes.name, property.name);
        if property.admin || walk.untried.contains_key(&named) {
            continue;
        }
        for (kind, value) in &property.refers_to {
            let kind = kind.as_str();
            let tried: Value = serde_json::from_str(&value.replace('$', &format!("${kind}"))).unwrap();
            let alone = || Map::from_iter([(property.name.to_owned(), tried.clone())]);
            let tried = walk.instead.get(&named).cloned().unwrap_or_else(alone);
            let least = least(walk, endpoint, takes, &kind.replace('-', "_"));
            let mut object: Map<String, Value> = least.into_iter().chain(tried).collect();
            object.retain(|_, value| !value.is_null());
            // Without a name it is the body itself.
            let body = if takes.name.is_empty() { Value::Object(object) } else { json!({takes.name: object}) };
            requests.push(Carrying::new(
                service,
                Some(endpoint),
                endpoint.method.clone(),
                &walk.own(endpoint.path),
                body,
            ));
        }
    }
    requests
}

/// The least that a body has beside what is tried.
fn least(walk: &Walk, endpoint: &Endpoint, takes: &Takes, kind: &str) -> Map<String, Value> {
    let listed = walk.least.get(endpoint.path).filter(|_| endpoint.method == Method::POST);
    let listed = listed.map(|least| serde_json::from_str(&json!(least).to_string().replace("%kind", kind)).unwrap());
    match (listed, takes.name) {
        (Some(least), "") => {
            let one = endpoint.bodies.iter().find(|takes| !takes.name.is_empty()).unwrap().name;
            Map::from_iter([(one.to_owned(), Value::Object(least))])
        }
        (Some(least), _) => least,
        (None, _) => {
            let required = takes.properties.iter().filter(|property| property.required);
            let value = |property: &Property| match property.refers_to.first() {
                Some((kind, value)) => {
                    serde_json::from_str(&value.replace('$', &format!("#{}", kind.as_str()))).unwrap()
                }
                None => property.sample.clone(),
            };
            required.map(|property| (property.name.to_owned(), value(property))).collect()
        }
    }
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
    ids.insert("user", cloud.cloud.gate.inspect(token).await.unwrap().user_id);
    let credential = json!({"credential": {"user_id": ids["user"], "type": "cert", "blob": tag}});
    ids.insert("credential", made(cloud, token, "/identity/v3/credentials", credential).await);
    let rule = json!({"service": "compute", "method": "GET", "path": "/v2.1/servers"});
    let rules = json!({"application_credential": {"name": tag, "access_rules": [rule]}});
    let user = format!("/identity/v3/users/{}", ids["user"]);
    ids.insert("application-credential", made(cloud, token, &format!("{user}/application_credentials"), rules).await);
    let (_, _, rules) = cloud.ok("GET", &format!("{user}/access_rules"), token, Value::Null).await;
    ids.insert("access-rule", text(&rules["access_rules"][0]["id"]).to_owned());
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
        self.send_with(method, path, body, None, tried).await
    }

    async fn try_ids(&self, Carrying { method, path, body, version, .. }: &Carrying, ids: &Ids) -> (u16, Value) {
        self.send_with(method.as_str(), path, body, version.as_deref(), ids).await
    }

    async fn send_with(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        version: Option<&str>,
        tried: &Ids,
    ) -> (u16, Value) {
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
        let headers: Vec<_> = version.map(|version| ("openstack-api-version", version)).into_iter().collect();
        let answer = self.cloud.call_with(method, &fill(path), &self.stranger, &headers, body).await;
        (answer.0, answer.2)
    }

    /// Rows outside the victim's project that name something of the victim's, but for texts that nothing reads.
    fn named(&self) -> Vec<String> {
        let victim = Realm::project(&self.theirs["project"]);
        let shared = ["flavor", "public", "project", "user"];
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
    let requests = requests();
    assert!(requests.len() >= 50, "{} requests", requests.len());
    for what in requests {
        let world = World::new().await;
        let (status, answer) = world.try_ids(&what, &world.own).await;
        assert!((200..300).contains(&status), "{what} with one's own: {status} {answer}");

        let world = World::new().await;
        let (named, before) = (world.named(), world.cloud.cloud.store.snapshot());
        let (status, answer) = world.try_ids(&what, &world.theirs).await;
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
    for what in requests() {
        let world = World::new().await;
        for kind in ["network", "subnetpool", "address-scope", "address-group", "security-group", "qos-policy"] {
            let policy = json!({"rbac_policy": {"object_type": kind.replace('-', "_"), "object_id": world.theirs[kind],
                "target_tenant": world.own["project"], "action": "access_as_shared"}});
            made(&world.cloud, &world.cloud.demo, "/network/v2.0/rbac-policies", policy).await;
        }
        let before = content(&world);
        let (status, answer) = world.try_ids(&what, &world.theirs).await;
        assert!(status < 500, "{what}: {status} {answer}");
        assert_eq!(content(&world), before, "{what}: {status}");
    }
}

#[test]
fn every_body_that_a_member_may_send_is_thought_of() {
    let requests = requests();
    let mut forgotten = Vec::new();
    for service in SERVICES.iter().copied() {
        let walk = Walk::of(service);
        let mut listed: BTreeSet<&str> = walk.without_ids.keys().chain(walk.least.keys()).map(String::as_str).collect();
        for endpoint in taking(service) {
            listed.remove(endpoint.path);
            let sent = |request: &Carrying| {
                let path = request.path.strip_prefix(service.prefix).unwrap_or("");
                request.service.name == service.name && request.method == endpoint.method && fits(endpoint.path, path)
            };
            let plain = |takes: &Takes| takes.properties.iter().all(|property| property.admin || property.plain);
            let known = walk.without_ids.contains_key(endpoint.path) || walk.elsewhere.is_some();
            let declared = !endpoint.bodies.is_empty() && endpoint.bodies.iter().all(plain);
            // Tags are texts.
            if !known && !declared && !endpoint.path.contains("/tags") && !requests.iter().any(sent) {
                forgotten.push(format!("{} {}{}", endpoint.method, service.prefix, endpoint.path));
            }
        }
        assert!(listed.is_empty(), "in walk.json of {}, but no endpoint: {listed:#?}", service.name);
    }
    assert!(forgotten.is_empty(), "neither declared nor in walk.json: {forgotten:#?}");
}

#[tokio::test]
async fn ids_of_others_in_queries_find_nothing() {
    let world = World::new().await;
    let of = |service: &&Service| -> Vec<String> {
        Walk::of(service).queries.iter().map(|query| format!("{}{query}", service.prefix)).collect()
    };
    let paths: Vec<String> = SERVICES.iter().flat_map(of).collect();
    assert!(paths.len() >= 25, "{paths:?}");
    for path in paths {
        let (status, mut found) = world.send("GET", &path, &Value::Null, &world.theirs).await;
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
