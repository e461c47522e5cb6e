//! Address scopes and the pools, subnets and networks in them, as clients use them.

mod common;

use common::{Harness, text};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

struct World(Harness);

impl World {
    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, reply) = self.0.call(method, &format!("{V}/{path}"), token, body).await;
        (status, reply)
    }

    async fn make(&self, many: &str, one: &str, body: Value) -> Value {
        let (status, reply) = self.send(&self.0.demo, "POST", many, json!({ one: body })).await;
        assert_eq!(status, 201, "{many} {body}: {reply}");
        reply[one].clone()
    }

    async fn scope(&self, name: &str, version: u8) -> String {
        let made = self.make("address-scopes", "address_scope", json!({"name": name, "ip_version": version})).await;
        text(&made["id"]).to_owned()
    }

    async fn pool(&self, prefix: &str, scope: Option<&str>) -> String {
        let body = json!({"name": prefix, "prefixes": [prefix], "address_scope_id": scope, "default_prefixlen": 24.max(
            prefix.split_once('/').unwrap().1.parse::<u8>().unwrap())});
        text(&self.make("subnetpools", "subnetpool", body).await["id"]).to_owned()
    }

    /// The status and the type of the error.
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, reply) = self.send(&self.0.demo, method, path, body).await;
        (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
    }
}

#[tokio::test]
async fn scopes_live() {
    let world = World(Harness::new().await);
    let made = world.make("address-scopes", "address_scope", json!({"name": "s", "ip_version": "4"})).await;
    assert_eq!((&made["ip_version"], &made["shared"]), (&json!(4), &json!(false)), "{made}");
    assert!(made.get("created_at").is_none() && made.get("description").is_none(), "{made}");
    let path = format!("address-scopes/{}", text(&made["id"]));
    for (body, status) in [
        (json!({"name": "x", "ip_version": 5}), 400),
        (json!({"name": "x"}), 400),
        (json!({"name": "x", "ip_version": 4, "shared": true}), 403),
    ] {
        assert_eq!(world.refused("POST", "address-scopes", json!({ "address_scope": body })).await.0, status, "{body}");
    }
    assert_eq!(world.refused("PUT", &path, json!({"address_scope": {"ip_version": 6}})).await.0, 400);
    let (_, renamed) = world.send(&world.0.demo, "PUT", &path, json!({"address_scope": {"name": "t"}})).await;
    assert_eq!(renamed["address_scope"]["name"], "t");
    for (query, found) in [("name=t", 1), ("name=s", 0), ("ip_version=4", 1), ("ip_version=6", 0), ("shared=false", 1)]
    {
        let (_, list) = world.send(&world.0.demo, "GET", &format!("address-scopes?{query}"), Value::Null).await;
        assert_eq!(list["address_scopes"].as_array().unwrap().len(), found, "{query}");
    }
    // What an administrator shares all see, nobody else puts pools into, and stays shared.
    let stranger = world.0.tenant("stranger", "member").await;
    assert_eq!(world.send(&stranger, "GET", &path, Value::Null).await.0, 404);
    let share = |shared: bool| json!({"address_scope": {"shared": shared}});
    assert_eq!(world.refused("PUT", &path, share(true)).await.0, 403);
    assert_eq!(world.send(&world.0.admin, "PUT", &path, share(true)).await.0, 200);
    let (status, reply) = world.send(&world.0.admin, "PUT", &path, share(false)).await;
    assert_eq!((status, text(&reply["NeutronError"]["type"])), (400, "AddressScopeUpdateError"));
    assert_eq!(world.send(&stranger, "GET", &path, Value::Null).await.0, 200);
    let pool = json!({"subnetpool": {"name": "p", "prefixes": ["10.0.0.0/8"], "address_scope_id": made["id"]}});
    let (status, reply) = world.send(&stranger, "POST", "subnetpools", pool).await;
    assert_eq!(status, 201, "whoever sees a scope may put pools into it: {reply}");
    assert_eq!(world.refused("DELETE", &path, Value::Null).await, (409, "AddressScopeInUse".into()));
    let pool = format!("subnetpools/{}", text(&reply["subnetpool"]["id"]));
    assert_eq!(world.send(&stranger, "DELETE", &pool, Value::Null).await.0, 204);
    assert_eq!(world.refused("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(world.refused("GET", &path, Value::Null).await, (404, "AddressScopeNotFound".into()));
}

#[tokio::test]
async fn pools_of_a_scope_do_not_overlap() {
    let world = World(Harness::new().await);
    let (four, six) = (world.scope("four", 4).await, world.scope("six", 6).await);
    let pool = world.pool("10.0.0.0/16", Some(&four)).await;
    let (_, shown) =
        world.send(&world.0.demo, "GET", &format!("subnetpools?address_scope_id={four}"), Value::Null).await;
    assert_eq!(shown["subnetpools"][0]["address_scope_id"], json!(four));
    let overlapping = |scope: &str| json!({"subnetpool": {"name": "o", "prefixes": ["10.0.128.0/20", "10.9.0.0/16"], "address_scope_id": scope}});
    let conflict = (409, "AddressScopePrefixConflict".to_owned());
    assert_eq!(world.refused("POST", "subnetpools", overlapping(&four)).await, conflict);
    let version = (400, "IllegalSubnetPoolIpVersionAssociationToAddressScope".to_owned());
    assert_eq!(world.refused("POST", "subnetpools", overlapping(&six)).await, version);
    let unknown = "00000000-0000-0000-0000-000000000000";
    assert_eq!(world.refused("POST", "subnetpools", overlapping(unknown)).await, (404, "AddressScopeNotFound".into()));
    // Neither by an update: of the scope, or of the prefixes in it.
    let outside = world.pool("10.0.64.0/24", None).await;
    let path = format!("subnetpools/{outside}");
    assert_eq!(world.refused("PUT", &path, json!({"subnetpool": {"address_scope_id": four}})).await, conflict);
    let other = world.pool("10.1.0.0/16", Some(&four)).await;
    let wider = json!({"subnetpool": {"prefixes": ["10.1.0.0/16", "10.0.0.0/24"]}});
    assert_eq!(world.refused("PUT", &format!("subnetpools/{other}"), wider).await, conflict);
    assert_eq!(
        world.refused("DELETE", &format!("address-scopes/{four}"), Value::Null).await,
        (409, "AddressScopeInUse".into())
    );
    // Out of the scope, a pool is in nobody's way.
    let leave = json!({"subnetpool": {"address_scope_id": null}});
    assert_eq!(world.refused("PUT", &format!("subnetpools/{pool}"), leave).await.0, 200);
    assert_eq!(world.refused("PUT", &path, json!({"subnetpool": {"address_scope_id": four}})).await.0, 200);
}

#[tokio::test]
async fn of_overlapping_pools_at_once_one_gets_into_a_scope() {
    let world = World(Harness::new().await);
    let scope = world.scope("s", 4).await;
    let tries = (0..8).map(|n| {
        let body = json!({"name": n.to_string(), "prefixes": [format!("10.{n}.0.0/16"), "10.200.0.0/16"], "address_scope_id": scope});
        world.refused("POST", "subnetpools", json!({ "subnetpool": body }))
    });
    let made = futures_util::future::join_all(tries).await;
    assert_eq!(made.iter().filter(|(status, _)| *status == 201).count(), 1, "{made:?}");
    assert!(made.iter().all(|(status, kind)| *status == 201 || kind == "AddressScopePrefixConflict"), "{made:?}");
}

#[tokio::test]
async fn a_network_is_in_one_scope_of_each_family() {
    let world = World(Harness::new().await);
    let (one, two) = (world.scope("one", 4).await, world.scope("two", 4).await);
    let (a, b) = (world.pool("10.0.0.0/16", Some(&one)).await, world.pool("10.1.0.0/16", Some(&one)).await);
    let (c, free) = (world.pool("10.2.0.0/16", Some(&two)).await, world.pool("10.3.0.0/16", None).await);
    let network = text(&world.make("networks", "network", json!({"name": "n"})).await["id"]).to_owned();
    let subnet = |more: Value| {
        let mut body = json!({"network_id": network, "ip_version": 4});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "subnet": body })
    };
    let odd = (400, "NetworkAddressScopeAffinityError".to_owned());
    assert_eq!(world.refused("POST", "subnets", subnet(json!({"subnetpool_id": a}))).await.0, 201);
    assert_eq!(world.refused("POST", "subnets", subnet(json!({"subnetpool_id": b}))).await.0, 201, "of the same scope");
    assert_eq!(world.refused("POST", "subnets", subnet(json!({"subnetpool_id": c}))).await, odd);
    assert_eq!(world.refused("POST", "subnets", subnet(json!({"subnetpool_id": free}))).await, odd);
    assert_eq!(world.refused("POST", "subnets", subnet(json!({"cidr": "10.9.0.0/24"}))).await, odd, "of no scope");
    // The other family is another matter.
    let six = subnet(json!({"cidr": "fd00::/64", "ip_version": 6}));
    assert_eq!(world.refused("POST", "subnets", six).await.0, 201);
    let (_, shown) = world.send(&world.0.demo, "GET", &format!("networks?ipv4_address_scope={one}"), Value::Null).await;
    let shown = &shown["networks"][0];
    assert_eq!((&shown["ipv4_address_scope"], &shown["ipv6_address_scope"]), (&json!(one), &Value::Null));
    // A pool does not leave while subnets of other pools stay.
    let leave = json!({"subnetpool": {"address_scope_id": null}});
    assert_eq!(world.refused("PUT", &format!("subnetpools/{a}"), leave.clone()).await, odd);
    let alone = text(&world.make("networks", "network", json!({"name": "alone"})).await["id"]).to_owned();
    let body = json!({"subnet": {"network_id": alone, "ip_version": 4, "subnetpool_id": c}});
    assert_eq!(world.refused("POST", "subnets", body).await.0, 201);
    assert_eq!(world.refused("PUT", &format!("subnetpools/{c}"), leave).await.0, 200);
    let (_, shown) = world.send(&world.0.demo, "GET", &format!("networks/{alone}"), Value::Null).await;
    assert_eq!(shown["network"]["ipv4_address_scope"], Value::Null);
}
