//! "Get me a network": a project's topology from what an administrator declared the default.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use rows::Rows;
use serde_json::{Value, json};

const V: &str = "/network/v2.0";
const SERVERS: &str = "/compute/v2.1/servers";
const AUTO: [(&str, &str); 1] = [("openstack-api-version", "compute 2.37")];

async fn make(h: &Harness, many: &str, one: &str, body: Value) -> String {
    let (_, _, made) = h.ok("POST", &format!("{V}/{many}"), &h.admin, json!({ one: body })).await;
    text(&made[one]["id"]).to_owned()
}

/// A default external network with addresses.
async fn way_out(h: &Harness) -> String {
    let network = make(h, "networks", "network", json!({"router:external": true, "is_default": true})).await;
    let subnet = json!({"network_id": network, "cidr": "172.24.9.0/24", "ip_version": 4, "enable_dhcp": false});
    make(h, "subnets", "subnet", subnet).await;
    network
}

async fn pool(h: &Harness, prefix: &str, length: u8) -> String {
    let pool =
        json!({"name": prefix, "prefixes": [prefix], "default_prefixlen": length, "is_default": true, "shared": true});
    make(h, "subnetpools", "subnetpool", pool).await
}

/// The topology of a token's project, or the sentence of the refusal.
async fn topology(h: &Harness, token: &str, query: &str) -> Result<String, (u16, String)> {
    let path = format!("{V}/auto-allocated-topology/{}{query}", h.project_of(token).await);
    let (status, _, body) = h.call("GET", &path, token, Value::Null).await;
    match status {
        200 => Ok(text(&body["auto_allocated_topology"]["id"]).to_owned()),
        _ => Err((status, body["NeutronError"]["message"].as_str().unwrap_or_default().to_owned())),
    }
}

/// How many networks, subnets, routers and ports a project has.
fn counts(h: &Harness, project: &str) -> [usize; 4] {
    let rows = h.cloud.store.snapshot();
    let realm = model::Realm::project(project);
    [
        rows.within::<model::Network>(&realm).count(),
        rows.within::<model::Subnet>(&realm).count(),
        rows.within::<model::Router>(&realm).count(),
        rows.within::<model::Port>(&realm).count(),
    ]
}

#[tokio::test]
async fn a_project_gets_one_network_however_often_it_asks() {
    let h = Harness::new().await;
    let missing = |what: &str| Err((409, format!("Deployment error: {what}.")));
    assert_eq!(topology(&h, &h.demo, "").await, missing("No default router:external network"));
    let out = way_out(&h).await;
    assert_eq!(topology(&h, &h.demo, "?fields=dry-run").await, missing("No default subnetpools defined"));
    pool(&h, "10.77.0.0/16", 24).await;
    pool(&h, "fd77::/48", 64).await;
    assert_eq!(topology(&h, &h.demo, "?fields=dry-run").await.as_deref(), Ok("dry-run=pass"));
    assert_eq!(counts(&h, &h.demo_project), [0; 4], "it was only asked");

    let reader = h.tenant("reader", "reader").await;
    assert_eq!(topology(&h, &reader, "").await.unwrap_err().0, 403, "a reader makes nothing");
    let asks = || topology(&h, &h.demo, "");
    let (a, b, c) = tokio::join!(asks(), asks(), asks());
    let id = a.unwrap();
    assert_eq!((b.unwrap(), c.unwrap()), (id.clone(), id.clone()));
    assert_eq!(counts(&h, &h.demo_project), [1, 2, 1, 2]);
    let (_, _, routers) = h.ok("GET", &format!("{V}/routers"), &h.demo, Value::Null).await;
    assert_eq!(routers["routers"][0]["external_gateway_info"]["network_id"], *out);
    let (_, _, subnets) = h.ok("GET", &format!("{V}/subnets?network_id={id}&ip_version=6"), &h.demo, Value::Null).await;
    assert_eq!(subnets["subnets"][0]["ipv6_address_mode"], "slaac");

    let path = format!("{V}/auto-allocated-topology/{}", h.demo_project);
    let stranger = h.tenant("stranger", "member").await;
    for method in ["GET", "DELETE"] {
        assert_eq!(h.call(method, &path, &stranger, Value::Null).await.0, 403, "{method} of a stranger");
    }
    assert_ne!(topology(&h, &stranger, "").await.unwrap(), id);
    // While something is on the network all of it stays.
    let port = json!({"port": {"network_id": id}});
    let (_, _, port) = h.ok("POST", &format!("{V}/ports"), &h.demo, port).await;
    assert_eq!(h.call("DELETE", &path, &h.demo, Value::Null).await.0, 409);
    assert_eq!(counts(&h, &h.demo_project), [1, 2, 1, 3]);
    h.ok("DELETE", &format!("{V}/ports/{}", text(&port["port"]["id"])), &h.demo, Value::Null).await;
    assert_eq!(h.call("DELETE", &path, &h.admin, Value::Null).await.0, 204);
    assert_eq!(counts(&h, &h.demo_project), [0; 4]);
    assert_eq!(h.call("DELETE", &path, &h.demo, Value::Null).await.0, 404);
    assert_eq!(counts(&h, &h.project_of(&stranger).await)[0], 1, "the other's is there");
}

#[tokio::test]
async fn there_is_one_default_way_out_for_all() {
    let h = Harness::new().await;
    let out = way_out(&h).await;
    let second = make(&h, "networks", "network", json!({"router:external": true})).await;
    let inside = make(&h, "networks", "network", json!({"is_default": true})).await;
    let set = async |id: &str, body: Value| {
        let (status, _, reply) = h.call("PUT", &format!("{V}/networks/{id}"), &h.admin, json!({"network": body})).await;
        (status, reply["network"]["is_default"].clone())
    };
    assert_eq!(set(&inside, json!({"is_default": true})).await, (200, json!(false)), "it leads nowhere");
    assert_eq!(set(&second, json!({"is_default": true})).await.0, 409);
    let policies = format!("{V}/rbac-policies?object_id={out}");
    let (_, _, policies) = h.ok("GET", &policies, &h.admin, Value::Null).await;
    let policy = format!("{V}/rbac-policies/{}", text(&policies["rbac_policies"][0]["id"]));
    let narrow = json!({"rbac_policy": {"target_tenant": h.demo_project}});
    assert_eq!(h.call("PUT", &policy, &h.admin, narrow.clone()).await.0, 409);
    assert_eq!(h.call("DELETE", &policy, &h.admin, Value::Null).await.0, 409);
    assert_eq!(set(&out, json!({"router:external": false})).await, (200, json!(false)));
    assert_eq!(set(&second, json!({"is_default": true})).await, (200, json!(true)));
    let mine = json!({"network": {"is_default": true}});
    assert_eq!(h.call("POST", &format!("{V}/networks"), &h.demo, mine).await.0, 403);
}

#[tokio::test]
async fn a_server_is_given_the_network_that_its_project_has_not() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let token = h.tenant("new", "member").await;
    let project = h.project_of(&token).await;
    let ask = async |flavor: &str| {
        let server = json!({"name": "web", "imageRef": rows.image, "flavorRef": flavor, "networks": "auto"});
        let (status, _, body) = h.call_with("POST", SERVERS, &token, &AUTO, json!({"server": server})).await;
        (status, body)
    };
    let (status, body) = ask(&rows.small).await;
    assert!(status == 400 && body.to_string().contains("No default router:external network"), "{status} {body}");
    way_out(&h).await;
    pool(&h, "10.77.0.0/16", 24).await;
    assert_eq!(ask("no-such-flavor").await.0, 400);
    assert_eq!(counts(&h, &project), [0; 4], "a request that is refused for something else makes nothing");
    let (status, body) = ask(&rows.small).await;
    assert_eq!(status, 202, "{body}");
    let snapshot = h.cloud.store.snapshot();
    let server = snapshot.get::<model::Server>(text(&body["server"]["id"])).unwrap();
    let network = server.nics[0].network_id.clone().unwrap();
    assert_eq!(topology(&h, &token, "").await.unwrap(), network);
    assert_eq!(ask(&rows.small).await.0, 202);
    assert_eq!(counts(&h, &project)[0], 1);
}
