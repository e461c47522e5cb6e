//! RBAC policies: who sees and uses what, and what cannot be taken back.

mod common;

use common::{Harness, text};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

/// A cloud with an owner (`demo`), a neighbour to whom things are given, and a stranger.
struct World {
    cloud: Harness,
    neighbour: String,
    stranger: String,
    project: String,
}

impl World {
    async fn new() -> Self {
        let cloud = Harness::new().await;
        let neighbour = cloud.tenant("neighbour", "member").await;
        let stranger = cloud.tenant("stranger", "member").await;
        let project = cloud.project_of(&neighbour).await;
        Self { cloud, neighbour, stranger, project }
    }

    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, reply) = self.cloud.call(method, &format!("{V}/{path}"), token, body).await;
        (status, reply)
    }

    /// The status and the type of the error.
    async fn refused(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, reply) = self.send(token, method, path, body).await;
        (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
    }

    async fn make(&self, token: &str, many: &str, one: &str, body: Value) -> String {
        let (status, reply) = self.send(token, "POST", many, json!({ one: body })).await;
        assert_eq!(status, 201, "{many} {body}: {reply}");
        text(&reply[one]["id"]).to_owned()
    }

    async fn own(&self, many: &str, one: &str, body: Value) -> String {
        self.make(&self.cloud.demo, many, one, body).await
    }

    fn policy(&self, kind: &str, id: &str, action: &str, target: &str) -> Value {
        json!({"object_type": kind, "object_id": id, "action": action, "target_tenant": target})
    }

    /// Gives the neighbour access.
    async fn give(&self, kind: &str, id: &str) -> String {
        let policy = self.policy(kind, id, "access_as_shared", &self.project);
        self.own("rbac-policies", "rbac_policy", policy).await
    }

    /// Whether owner, neighbour and stranger see it, by its id and in the list alike.
    async fn seen(&self, many: &str, id: &str) -> [bool; 3] {
        let mut seen = [false; 3];
        for (seen, token) in seen.iter_mut().zip([&self.cloud.demo, &self.neighbour, &self.stranger]) {
            *seen = self.send(token, "GET", &format!("{many}/{id}"), Value::Null).await.0 == 200;
            let (_, list) = self.send(token, "GET", many, Value::Null).await;
            let listed = list.as_object().unwrap().values().next().unwrap().as_array().unwrap().iter();
            assert_eq!(listed.filter(|item| item["id"] == id).count(), usize::from(*seen), "{many} {id}");
        }
        seen
    }
}

const IN_USE: &str = "RbacPolicyInUse";

#[tokio::test]
async fn a_network_is_given_to_a_project() {
    let world = World::new().await;
    let network = world.own("networks", "network", json!({"name": "n"})).await;
    let subnet = json!({"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4});
    let subnet = world.own("subnets", "subnet", subnet).await;
    let port = json!({"port": {"network_id": network}});
    assert_eq!(world.refused(&world.neighbour, "POST", "ports", port.clone()).await.0, 404);
    assert_eq!(world.seen("networks", &network).await, [true, false, false]);
    let policy = world.give("network", &network).await;
    assert_eq!(world.seen("networks", &network).await, [true, true, false]);
    assert_eq!(world.seen("subnets", &subnet).await, [true, true, false]);
    assert_eq!(world.seen("rbac-policies", &policy).await, [true, false, false], "a policy is its owner's");
    // Shared is what one has from others.
    for (token, shared) in [(&world.cloud.demo, false), (&world.neighbour, true)] {
        let (_, shown) = world.send(token, "GET", &format!("networks/{network}"), Value::Null).await;
        assert_eq!(shown["network"]["shared"], json!(shared));
        let (_, list) = world.send(token, "GET", &format!("networks?shared={shared}"), Value::Null).await;
        assert!(list["networks"].as_array().unwrap().iter().any(|item| item["id"] == network));
    }
    let path = format!("networks/{network}");
    let renamed = json!({"network": {"name": "mine"}});
    assert_eq!(world.refused(&world.neighbour, "PUT", &path, renamed).await.0, 403);
    assert_eq!(world.refused(&world.neighbour, "DELETE", &path, Value::Null).await.0, 403);
    let more = json!({"subnet": {"network_id": network, "cidr": "10.1.0.0/24", "ip_version": 4}});
    assert_eq!(world.refused(&world.neighbour, "POST", "subnets", more).await.0, 403);
    let own = world.make(&world.neighbour, "ports", "port", port["port"].clone()).await;
    let chosen = json!({"port": {"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.77"}]}});
    assert_eq!(world.refused(&world.neighbour, "POST", "ports", chosen).await.0, 403);
    assert_eq!(world.refused(&world.stranger, "POST", "ports", port).await.0, 404);

    let path = format!("rbac-policies/{policy}");
    let demo = &world.cloud.demo;
    assert_eq!(world.refused(demo, "DELETE", &path, Value::Null).await, (409, IN_USE.into()));
    let other = json!({"rbac_policy": {"target_tenant": "another"}});
    assert_eq!(world.refused(demo, "PUT", &path, other.clone()).await, (409, IN_USE.into()));
    // Another way to the same makes the first one free to go.
    let all = world.policy("network", &network, "access_as_shared", "*");
    let all = world.make(&world.cloud.admin, "rbac-policies", "rbac_policy", all).await;
    assert_eq!(world.seen("networks", &network).await, [true, true, true]);
    assert_eq!(world.refused(demo, "DELETE", &path, Value::Null).await.0, 204);
    let unshare = json!({"network": {"shared": false}});
    let admin = &world.cloud.admin;
    let refused = world.refused(admin, "PUT", &format!("networks/{network}"), unshare.clone()).await;
    assert_eq!(refused, (409, "InvalidSharedSetting".into()));
    assert_eq!(world.refused(&world.neighbour, "DELETE", &format!("ports/{own}"), Value::Null).await.0, 204);
    assert_eq!(world.refused(admin, "PUT", &format!("networks/{network}"), unshare).await.0, 200);
    assert_eq!(world.refused(admin, "GET", &format!("rbac-policies/{all}"), Value::Null).await.0, 404);
    assert_eq!(world.seen("networks", &network).await, [true, false, false]);
    // Policies go with what they are about.
    world.give("network", &network).await;
    assert_eq!(world.refused(demo, "DELETE", &format!("networks/{network}"), Value::Null).await.0, 204);
    let (_, left) = world.send(admin, "GET", "rbac-policies", Value::Null).await;
    assert_eq!(left["rbac_policies"], json!([]));
}

/// Who begins to use something while it is taken back has it, or it is taken back: never both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_who_takes_back_and_who_begins_one_waits() {
    let world = std::sync::Arc::new(World::new().await);
    let network = world.own("networks", "network", json!({"name": "n"})).await;
    world.own("subnets", "subnet", json!({"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4})).await;
    for round in 0..300 {
        let policy = world.give("network", &network).await;
        let (taker, user) = (world.clone(), world.clone());
        let (path, port) = (format!("rbac-policies/{policy}"), json!({"port": {"network_id": network}}));
        let gone = path.clone();
        let takes = tokio::spawn(async move { taker.send(&taker.cloud.demo, "DELETE", &gone, Value::Null).await });
        let uses = tokio::spawn(async move { user.send(&user.neighbour, "POST", "ports", port).await });
        let (taken, used) = (takes.await.expect("an answer"), uses.await.expect("an answer"));
        match (taken.0, used.0) {
            (204, 404) => {}
            (409, 201) => {
                let port = format!("ports/{}", text(&used.1["port"]["id"]));
                assert_eq!(world.send(&world.neighbour, "DELETE", &port, Value::Null).await.0, 204);
                assert_eq!(world.send(&world.cloud.demo, "DELETE", &path, Value::Null).await.0, 204);
            }
            // What was refused is given back, and nobody else was there.
            (409, 404) => assert_eq!(world.send(&world.cloud.demo, "DELETE", &path, Value::Null).await.0, 204),
            both => panic!("round {round}: {both:?} {} {}", taken.1, used.1),
        }
    }
}

#[tokio::test]
async fn policies_are_checked() {
    let world = World::new().await;
    let network = world.own("networks", "network", json!({"name": "n"})).await;
    let group = world.own("security-groups", "security_group", json!({"name": "g"})).await;
    let theirs = world.make(&world.neighbour, "networks", "network", json!({"name": "theirs"})).await;
    let admin = world.policy("network", &theirs, "access_as_shared", "*");
    world.make(&world.cloud.admin, "rbac-policies", "rbac_policy", admin).await;
    let shared = "access_as_shared";
    for (body, status, kind) in [
        (world.policy("network", &network, shared, "*"), 403, "PolicyNotAuthorized"),
        (world.policy("network", &network, "access_as_external", "p"), 400, "InvalidInput"),
        (world.policy("network", &theirs, shared, "p"), 400, "InvalidInput"),
        (world.policy("nonsense", &network, shared, "p"), 400, "InvalidInput"),
        (world.policy("network", &group, shared, "p"), 404, "NetworkNotFound"),
        (world.policy("network", &network, "nonsense", "p"), 400, "InvalidInput"),
        (world.policy("network", &network, shared, ""), 400, "HTTPBadRequest"),
    ] {
        let refused = world.refused(&world.cloud.demo, "POST", "rbac-policies", json!({ "rbac_policy": body })).await;
        assert_eq!(refused, (status, kind.to_owned()), "{body}");
    }
    let policy = world.give("network", &network).await;
    let again = json!({"rbac_policy": world.policy("network", &network, shared, &world.project)});
    let refused = world.refused(&world.cloud.demo, "POST", "rbac-policies", again).await;
    assert_eq!(refused, (409, "DuplicateRbacPolicy".into()));
    let path = format!("rbac-policies/{policy}");
    let all = json!({"rbac_policy": {"target_tenant": "*"}});
    assert_eq!(world.refused(&world.cloud.demo, "PUT", &path, all).await.0, 403);
    let moved = json!({"rbac_policy": {"target_tenant": "another"}});
    let (status, changed) = world.send(&world.cloud.demo, "PUT", &path, moved).await;
    assert_eq!((status, &changed["rbac_policy"]["target_tenant"]), (200, &json!("another")));
    assert_eq!(world.seen("networks", &network).await, [true, false, false]);
    for (query, found) in [
        (format!("object_id={network}"), 1),
        ("object_type=network".into(), 1),
        ("object_type=subnetpool".into(), 0),
        ("action=access_as_shared".into(), 1),
        ("target_tenant=another".into(), 1),
        ("target_tenant=*".into(), 0),
    ] {
        let (_, list) = world.send(&world.cloud.demo, "GET", &format!("rbac-policies?{query}"), Value::Null).await;
        assert_eq!(list["rbac_policies"].as_array().unwrap().len(), found, "{query}");
    }
    let missing = (404, "RbacPolicyNotFound".to_owned());
    assert_eq!(world.refused(&world.neighbour, "GET", &path, Value::Null).await, missing);
    assert_eq!(world.refused(&world.neighbour, "DELETE", &path, Value::Null).await, missing);
    // Their number is limited.
    for n in 0..9 {
        let policy = world.policy("network", &network, shared, &n.to_string());
        world.own("rbac-policies", "rbac_policy", policy).await;
    }
    let last = json!({"rbac_policy": world.policy("network", &network, shared, "last")});
    assert_eq!(world.refused(&world.cloud.demo, "POST", "rbac-policies", last).await, (409, "OverQuota".into()));
}

#[tokio::test]
async fn pools_scopes_and_address_groups_are_given_to_a_project() {
    let world = World::new().await;
    let pool = json!({"name": "p", "prefixes": ["10.0.0.0/16"], "default_prefixlen": 24});
    let pool = world.own("subnetpools", "subnetpool", pool).await;
    let scope = world.own("address-scopes", "address_scope", json!({"name": "s", "ip_version": 4})).await;
    let group = world.own("address-groups", "address_group", json!({"addresses": ["10.0.0.0/8"]})).await;
    let mut policies = Vec::new();
    for (kind, many, id) in [
        ("subnetpool", "subnetpools", &pool),
        ("address_scope", "address-scopes", &scope),
        ("address_group", "address-groups", &group),
    ] {
        assert_eq!(world.seen(many, id).await, [true, false, false], "{kind}");
        policies.push(world.give(kind, id).await);
        assert_eq!(world.seen(many, id).await, [true, true, false], "{kind}");
        let path = format!("{many}/{id}");
        let (_, shown) = world.send(&world.neighbour, "GET", &path, Value::Null).await;
        assert_eq!(shown[kind]["shared"], json!(true), "{kind}");
        assert_eq!(world.refused(&world.neighbour, "DELETE", &path, Value::Null).await.0, 403, "{kind}");
        assert_eq!(
            world.refused(&world.neighbour, "PUT", &path, json!({ kind: {"name": "x"} })).await.0,
            403,
            "{kind}"
        );
    }
    let add = format!("address-groups/{group}/add_addresses");
    assert_eq!(world.refused(&world.neighbour, "PUT", &add, json!({"addresses": ["192.0.2.1/32"]})).await.0, 403);

    let network = world.make(&world.neighbour, "networks", "network", json!({"name": "n"})).await;
    let body = json!({"network_id": network, "ip_version": 4, "subnetpool_id": pool});
    let subnet = world.make(&world.neighbour, "subnets", "subnet", body).await;
    let mine = world.make(&world.neighbour, "security-groups", "security_group", json!({"name": "g"})).await;
    let rule = json!({"security_group_id": mine, "direction": "ingress", "remote_address_group_id": group});
    let rule = world.make(&world.neighbour, "security-group-rules", "security_group_rule", rule).await;
    let delete = async |policy: &String| {
        world.refused(&world.cloud.demo, "DELETE", &format!("rbac-policies/{policy}"), Value::Null).await
    };
    assert_eq!(delete(&policies[0]).await, (409, IN_USE.into()));
    assert_eq!(delete(&policies[1]).await.0, 204, "nothing is in the scope");
    assert_eq!(delete(&policies[2]).await, (409, IN_USE.into()));
    let used = world.refused(&world.cloud.demo, "DELETE", &format!("address-groups/{group}"), Value::Null).await;
    assert_eq!(used, (409, "AddressGroupInUse".into()));
    for path in [format!("subnets/{subnet}"), format!("security-group-rules/{rule}")] {
        assert_eq!(world.refused(&world.neighbour, "DELETE", &path, Value::Null).await.0, 204);
    }
    assert_eq!((delete(&policies[0]).await.0, delete(&policies[2]).await.0), (204, 204));
    assert_eq!(world.seen("subnetpools", &pool).await, [true, false, false]);
}

#[tokio::test]
async fn a_way_out_is_given_to_a_project() {
    let world = World::new().await;
    let admin = &world.cloud.admin;
    let network = world.make(admin, "networks", "network", json!({"name": "out"})).await;
    let policy = world.policy("network", &network, "access_as_external", &world.project);
    let policy = world.make(admin, "rbac-policies", "rbac_policy", policy).await;
    let subnet = json!({"network_id": network, "cidr": "172.30.0.0/24", "ip_version": 4});
    world.make(admin, "subnets", "subnet", subnet).await;
    assert_eq!(world.seen("networks", &network).await, [false, true, false]);
    let (_, shown) = world.send(&world.neighbour, "GET", &format!("networks/{network}"), Value::Null).await;
    assert_eq!((&shown["network"]["router:external"], &shown["network"]["shared"]), (&json!(true), &json!(false)));
    let router = json!({"router": {"external_gateway_info": {"network_id": network}}});
    assert_eq!(world.refused(&world.stranger, "POST", "routers", router.clone()).await.0, 404);
    let router = world.make(&world.neighbour, "routers", "router", router["router"].clone()).await;
    let floating = json!({"floatingip": {"floating_network_id": network}});
    assert_eq!(world.refused(&world.stranger, "POST", "floatingips", floating.clone()).await.0, 404);
    let floating = world.make(&world.neighbour, "floatingips", "floatingip", floating["floatingip"].clone()).await;
    // It is no network to sit on.
    let port = json!({"port": {"network_id": network}});
    assert_eq!(world.refused(&world.neighbour, "POST", "ports", port).await.0, 403);
    // To whom it is only shared it leads nowhere: what is shared is taken back without a look at who goes out by it.
    let inside = world.cloud.project_of(&world.stranger).await;
    let shared = world.policy("network", &network, "access_as_shared", &inside);
    let shared = world.make(admin, "rbac-policies", "rbac_policy", shared).await;
    let way = json!({"router": {"external_gateway_info": {"network_id": network}}});
    assert_eq!(world.refused(&world.stranger, "POST", "routers", way).await, (400, "BadRequest".into()));
    let address = json!({"floatingip": {"floating_network_id": network}});
    assert_eq!(world.refused(&world.stranger, "POST", "floatingips", address).await, (400, "BadRequest".into()));
    assert_eq!(world.refused(admin, "DELETE", &format!("rbac-policies/{shared}"), Value::Null).await.0, 204);
    let path = format!("rbac-policies/{policy}");
    assert_eq!(world.refused(admin, "DELETE", &path, Value::Null).await, (409, IN_USE.into()));
    for path in [format!("floatingips/{floating}"), format!("routers/{router}")] {
        assert_eq!(world.refused(&world.neighbour, "DELETE", &path, Value::Null).await.0, 204);
    }
    assert_eq!(world.refused(admin, "DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(world.seen("networks", &network).await, [false, false, false]);
    // By the attribute it is everybody's.
    let all = json!({"network": {"router:external": true}});
    assert_eq!(world.refused(admin, "PUT", &format!("networks/{network}"), all).await.0, 200);
    assert_eq!(world.seen("networks", &network).await, [true, true, true]);
}

#[tokio::test]
async fn a_security_group_is_given_to_a_project() {
    let world = World::new().await;
    let demo = &world.cloud.demo;
    let group = world.own("security-groups", "security_group", json!({"name": "web"})).await;
    let network = world.make(&world.neighbour, "networks", "network", json!({"name": "n"})).await;
    let port = json!({"network_id": network, "security_groups": [group]});
    let refused = world.refused(&world.neighbour, "POST", "ports", json!({ "port": port })).await;
    assert_eq!(refused, (404, "SecurityGroupNotFound".into()));
    let policy = world.give("security_group", &group).await;
    assert_eq!(world.seen("security-groups", &group).await, [true, true, false]);
    for (query, found) in [("shared=true", true), ("shared=false", false)] {
        let (_, list) = world.send(&world.neighbour, "GET", &format!("security-groups?{query}"), Value::Null).await;
        assert_eq!(list["security_groups"].as_array().unwrap().iter().any(|g| g["id"] == group), found, "{query}");
    }
    let path = format!("security-groups/{group}");
    assert_eq!(world.refused(&world.neighbour, "DELETE", &path, Value::Null).await.0, 403);
    let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress"}});
    assert_eq!(world.refused(&world.neighbour, "POST", "security-group-rules", rule).await.0, 403);
    let port = world.make(&world.neighbour, "ports", "port", port).await;
    let mine = world.make(&world.neighbour, "security-groups", "security_group", json!({"name": "mine"})).await;
    let rule = json!({"security_group_id": mine, "direction": "ingress", "remote_group_id": group});
    let rule = world.make(&world.neighbour, "security-group-rules", "security_group_rule", rule).await;
    let revoke = format!("rbac-policies/{policy}");
    assert_eq!(world.refused(demo, "DELETE", &revoke, Value::Null).await, (409, IN_USE.into()));
    let used = (409, "SecurityGroupInUse".to_owned());
    assert_eq!(world.refused(demo, "DELETE", &path, Value::Null).await, used);
    assert_eq!(world.refused(demo, "PUT", &path, json!({"security_group": {"stateful": false}})).await, used);
    // Whoever deletes it without a look is refused by the port's claims.
    let snapshot = world.cloud.cloud.store.snapshot();
    let mut change = model::Change::new();
    let realm = model::Realm::project(&world.cloud.demo_project);
    let key = model::Key::new(model::Kind::SecurityGroup, realm, group.as_str());
    change.delete(snapshot.at::<model::SecurityGroup>(&key).unwrap());
    for entry in snapshot.all::<model::SecurityGroupRule>().filter(|rule| rule.value.group_id == group) {
        change.delete(entry);
    }
    for entry in snapshot.all::<model::RbacPolicy>() {
        change.delete(entry);
    }
    let fault = world.cloud.cloud.store.commit(&change).await.unwrap_err();
    assert!(fault.to_string().contains("in use"), "{fault}");

    let groups = |groups: Value| json!({"port": {"security_groups": groups}});
    let path_of = |port: &str| format!("ports/{port}");
    assert_eq!(world.refused(&world.neighbour, "PUT", &path_of(&port), groups(json!([mine]))).await.0, 200);
    assert_eq!(world.refused(demo, "DELETE", &revoke, Value::Null).await, (409, IN_USE.into()), "a rule names it");
    // With the group go the rules that name it, whosever they are.
    assert_eq!(world.refused(demo, "DELETE", &path, Value::Null).await.0, 204);
    let gone = world.refused(&world.neighbour, "GET", &format!("security-group-rules/{rule}"), Value::Null).await;
    assert_eq!(gone, (404, "SecurityGroupRuleNotFound".into()));
    assert_eq!(world.refused(demo, "GET", &revoke, Value::Null).await.0, 404);
}

/// Nova has a door of its own to security groups.
#[tokio::test]
async fn what_is_shared_by_neutron_is_not_changed_by_nova() {
    let world = World::new().await;
    let group = world.own("security-groups", "security_group", json!({"name": "web"})).await;
    world.give("security_group", &group).await;
    let before = world.send(&world.cloud.demo, "GET", &format!("security-groups/{group}"), Value::Null).await.1;
    let nova = async |token: &str, method: &str, path: &str, body: Value| {
        world.cloud.call(method, &format!("/compute/v2.1/{path}"), token, body).await.0
    };
    let path = format!("os-security-groups/{group}");
    let rename = json!({"security_group": {"name": "mine", "description": ""}});
    let rule = json!({"security_group_rule": {"parent_group_id": group, "ip_protocol": "tcp", "from_port": 1,
        "to_port": 65535, "cidr": "0.0.0.0/0"}});
    assert_eq!(nova(&world.neighbour, "GET", &path, Value::Null).await, 200, "it is there to be used");
    for (token, status) in [(&world.neighbour, 403), (&world.stranger, 404)] {
        assert_eq!(nova(token, "PUT", &path, rename.clone()).await, status);
        assert_eq!(nova(token, "POST", "os-security-group-rules", rule.clone()).await, status);
        assert_eq!(nova(token, "DELETE", &path, Value::Null).await, status);
    }
    let after = world.send(&world.cloud.demo, "GET", &format!("security-groups/{group}"), Value::Null).await.1;
    assert_eq!(before, after);
    // As the other side of a rule of one's own it is used, until it is taken back.
    let own = world.make(&world.neighbour, "security-groups", "security_group", json!({"name": "own"})).await;
    let from = json!({"security_group_rule": {"parent_group_id": own, "group_id": group}});
    assert_eq!(nova(&world.stranger, "POST", "os-security-group-rules", from.clone()).await, 404);
    assert_eq!(nova(&world.neighbour, "POST", "os-security-group-rules", from).await, 200);
    assert_eq!(nova(&world.cloud.demo, "POST", "os-security-group-rules", rule).await, 200);
}

#[tokio::test]
async fn a_pool_goes_where_its_scope_is_known_and_a_gift_is_a_change() {
    let world = World::new().await;
    let scope = world.own("address-scopes", "address_scope", json!({"name": "s", "ip_version": 4})).await;
    let pool = json!({"name": "p", "prefixes": ["10.0.0.0/8"], "address_scope_id": scope});
    let pool = world.own("subnetpools", "subnetpool", pool).await;
    let gift = json!({"rbac_policy": world.policy("subnetpool", &pool, "access_as_shared", &world.project)});
    let demo = &world.cloud.demo;
    assert_eq!(world.refused(demo, "POST", "rbac-policies", gift.clone()).await, (400, "InvalidInput".into()));
    world.give("address_scope", &scope).await;

    let revision = async || {
        let (_, shown) = world.send(demo, "GET", &format!("subnetpools/{pool}"), Value::Null).await;
        shown["subnetpool"]["revision_number"].as_u64().unwrap()
    };
    let before = revision().await;
    let (status, made) = world.send(demo, "POST", "rbac-policies", gift).await;
    assert_eq!(status, 201, "{made}");
    let given = revision().await;
    let policy = format!("rbac-policies/{}", text(&made["rbac_policy"]["id"]));
    assert_eq!(world.send(demo, "DELETE", &policy, Value::Null).await.0, 204);
    assert!(before < given && given < revision().await, "{before} {given}");
}

#[tokio::test]
async fn attributes_of_administrators_are_policies_for_all() {
    let world = World::new().await;
    let admin = &world.cloud.admin;
    let about = async |id: &str| {
        let (_, list) = world.send(admin, "GET", &format!("rbac-policies?object_id={id}"), Value::Null).await;
        let all = list["rbac_policies"].as_array().unwrap().clone();
        let mut all: Vec<_> =
            all.iter().map(|p| (text(&p["action"]).to_owned(), text(&p["target_tenant"]).to_owned())).collect();
        all.sort();
        all
    };
    let delete = async |action: &str, id: &str| {
        let query = format!("rbac-policies?object_id={id}&action={action}&target_tenant=*");
        let (_, list) = world.send(admin, "GET", &query, Value::Null).await;
        let path = format!("rbac-policies/{}", text(&list["rbac_policies"][0]["id"]));
        world.refused(admin, "DELETE", &path, Value::Null).await
    };
    let (shared, external) = ("access_as_shared", "access_as_external");
    let for_all = |action: &str| (action.to_owned(), "*".to_owned());

    for (many, one, body) in [
        ("networks", "network", json!({"name": "n"})),
        ("subnetpools", "subnetpool", json!({"name": "p", "prefixes": ["10.0.0.0/8"]})),
        ("address-scopes", "address_scope", json!({"name": "s", "ip_version": 4})),
        ("qos/policies", "policy", json!({"name": "q"})),
    ] {
        let mut body = body;
        body["shared"] = json!(true);
        let id = world.make(admin, many, one, body).await;
        assert_eq!(about(&id).await, [for_all(shared)], "{many}");
        assert_eq!(world.seen(many, &id).await, [true; 3], "{many}");
        let (_, shown) = world.send(&world.stranger, "GET", &format!("{many}/{id}"), Value::Null).await;
        assert_eq!(shown[one]["shared"], json!(true), "{many}");
        assert_eq!(delete(shared, &id).await.0, 204, "{many}");
        assert_eq!(world.seen(many, &id).await, [false; 3], "{many}");
        if many != "subnetpools" {
            let again = json!({ one: {"shared": true} });
            assert_eq!(world.refused(admin, "PUT", &format!("{many}/{id}"), again).await.0, 200, "{many}");
            assert_eq!(world.seen(many, &id).await, [true; 3], "{many}");
        }
        assert_eq!(world.refused(admin, "DELETE", &format!("{many}/{id}"), Value::Null).await.0, 204, "{many}");
        assert_eq!(about(&id).await, [], "{many}");
    }

    let network = world.make(admin, "networks", "network", json!({"name": "n", "router:external": true})).await;
    let subnet = json!({"network_id": network, "cidr": "172.30.0.0/24", "ip_version": 4});
    world.make(admin, "subnets", "subnet", subnet).await;
    assert_eq!(about(&network).await, [for_all(external)]);
    let router = json!({"external_gateway_info": {"network_id": network}});
    // The owner's own router keeps it from leading nowhere, too.
    for token in [&world.neighbour, admin] {
        let router = world.make(token, "routers", "router", router.clone()).await;
        assert_eq!(delete(external, &network).await, (409, IN_USE.into()));
        assert_eq!(world.refused(token, "DELETE", &format!("routers/{router}"), Value::Null).await.0, 204);
    }
    assert_eq!(delete(external, &network).await.0, 204);
    let (_, shown) = world.send(admin, "GET", &format!("networks/{network}"), Value::Null).await;
    let shown = &shown["network"];
    assert_eq!((&shown["router:external"], &shown["mtu"]), (&json!(false), &json!(1450)));
    // Both the attribute's way.
    for (on, policies) in [(true, vec![for_all(external), for_all(shared)]), (false, vec![])] {
        let body = json!({"network": {"router:external": on, "shared": on}});
        assert_eq!(world.refused(admin, "PUT", &format!("networks/{network}"), body).await.0, 200);
        assert_eq!(about(&network).await, policies);
    }
}

#[tokio::test]
async fn rows_from_before_policies_are_still_shared() {
    let world = World::new().await;
    let admin = &world.cloud.admin;
    let store = &world.cloud.cloud.store;
    let network = world.make(admin, "networks", "network", json!({"name": "n", "router:external": true})).await;
    let pool = json!({"name": "p", "prefixes": ["10.0.0.0/8"]});
    let pool = world.make(admin, "subnetpools", "subnetpool", pool).await;
    let snapshot = store.snapshot();
    let mut change = model::Change::new();
    let old = |row: Value| {
        let mut row = row;
        row["shared"] = json!(true);
        row
    };
    let entry = snapshot.get::<model::Network>(&network).unwrap();
    let row: model::Network = serde_json::from_value(old(json!(entry.value))).unwrap();
    change.update(entry, row);
    let entry = snapshot.get::<model::SubnetPool>(&pool).unwrap();
    let row: model::SubnetPool = serde_json::from_value(old(json!(entry.value))).unwrap();
    change.update(entry, row);
    snapshot.all::<model::RbacPolicy>().for_each(|policy| _ = change.delete(policy));
    store.commit(&change).await.unwrap();
    assert_eq!(world.seen("networks", &network).await, [false; 3]);

    for _ in 0..2 {
        let upgrade = model::RbacPolicy::upgrade(&store.snapshot(), model::Time::now());
        if !upgrade.is_empty() {
            store.commit(&upgrade).await.unwrap();
        }
        assert_eq!(store.snapshot().all::<model::RbacPolicy>().count(), 3, "both of the network, and the pool's");
    }
    assert_eq!(world.seen("networks", &network).await, [true; 3]);
    assert_eq!(world.seen("subnetpools", &pool).await, [true; 3]);
}
