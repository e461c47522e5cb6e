//! Port forwardings of floating IPs, as clients use them.

mod common;

use common::{Harness, text};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

struct World {
    cloud: Harness,
    floating: String,
    port: Value,
    network: String,
    subnet: String,
    router: String,
}

impl World {
    /// A port behind a router that leads out, and a floating IP that leads nowhere yet.
    async fn new() -> Self {
        let cloud = Harness::new().await;
        let body = json!({"network": {"name": "ext", "router:external": true}});
        let (_, _, made) = cloud.ok("POST", &format!("{V}/networks"), &cloud.admin, body).await;
        let external = made["network"]["id"].clone();
        let body = json!({"subnet": {"network_id": external, "cidr": "172.24.4.0/24", "ip_version": 4}});
        cloud.ok("POST", &format!("{V}/subnets"), &cloud.admin, body).await;
        let make = async |many: &str, one: &str, body: Value| {
            let (_, _, made) = cloud.ok("POST", &format!("{V}/{many}"), &cloud.demo, json!({ one: body })).await;
            made[one].clone()
        };
        let network = make("networks", "network", json!({"name": "n"})).await["id"].clone();
        let body = json!({"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4});
        let subnet = make("subnets", "subnet", body).await["id"].clone();
        let body = json!({"external_gateway_info": {"network_id": external}});
        let router = make("routers", "router", body).await["id"].clone();
        let path = format!("{V}/routers/{}/add_router_interface", text(&router));
        cloud.ok("PUT", &path, &cloud.demo, json!({"subnet_id": subnet})).await;
        let body =
            json!({"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.10"}, {"ip_address": "10.0.0.11"}]});
        let port = make("ports", "port", body).await;
        let floating = make("floatingips", "floatingip", json!({"floating_network_id": external})).await["id"].clone();
        let id = |value: &Value| text(value).to_owned();
        Self { floating: id(&floating), network: id(&network), subnet: id(&subnet), router: id(&router), port, cloud }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, reply) = self.cloud.call(method, &format!("{V}/{path}"), &self.cloud.demo, body).await;
        (status, reply)
    }

    /// The status and the type of the error.
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, reply) = self.call(method, path, body).await;
        (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
    }

    fn path(&self) -> String {
        format!("floatingips/{}/port_forwardings", self.floating)
    }

    /// One for SSH, with other values.
    fn body(&self, more: Value) -> Value {
        let mut body = json!({"protocol": "tcp", "internal_port_id": self.port["id"], "internal_ip_address": "10.0.0.10",
            "internal_port": 22, "external_port": 2222});
        for (name, value) in more.as_object().unwrap() {
            match value {
                Value::Null => _ = body.as_object_mut().unwrap().remove(name),
                value => body[name] = value.clone(),
            }
        }
        json!({"port_forwarding": body})
    }

    async fn make(&self, more: Value) -> Value {
        let (status, reply) = self.call("POST", &self.path(), self.body(more)).await;
        assert_eq!(status, 201, "{reply}");
        reply["port_forwarding"].clone()
    }

    async fn floating(&self) -> Value {
        self.call("GET", &format!("floatingips/{}", self.floating), Value::Null).await.1["floatingip"].clone()
    }
}

#[tokio::test]
async fn forwardings_live() {
    let world = World::new().await;
    assert_eq!(
        (&world.floating().await["status"], &world.floating().await["port_forwardings"]),
        (&json!("DOWN"), &json!([]))
    );
    let ssh = world.make(json!({"description": "a way in"})).await;
    assert_eq!((&ssh["internal_port"], &ssh["external_port_range"]), (&json!(22), &json!("2222:2222")), "{ssh}");
    assert_eq!((&ssh["description"], &ssh["protocol"]), (&json!("a way in"), &json!("tcp")));
    let range = json!({"internal_port": null, "external_port": null, "internal_port_range": "80:90", "external_port_range": "8080:8090"});
    let web = world.make(range).await;
    assert_eq!((&web["internal_port"], &web["internal_port_range"]), (&Value::Null, &json!("80:90")), "{web}");
    // The same ports by another protocol.
    let udp = world.make(json!({"protocol": "udp", "internal_ip_address": null})).await;
    assert_eq!(udp["internal_ip_address"], "10.0.0.10", "the port's first address");

    let floating = world.floating().await;
    assert_eq!((&floating["status"], &floating["router_id"]), (&json!("ACTIVE"), &json!(world.router)));
    assert_eq!((&floating["port_id"], floating["port_forwardings"].as_array().unwrap().len()), (&Value::Null, 3));
    let one = floating["port_forwardings"].as_array().unwrap().iter().find(|f| f["id"] == ssh["id"]).unwrap();
    assert_eq!((&one["internal_port_id"], &one["external_port"]), (&world.port["id"], &json!(2222)));

    for (query, found) in [
        ("protocol=udp", 1),
        ("external_port=2222", 2),
        ("external_port_range=8080:8090", 1),
        ("internal_port_id=00000000-0000-0000-0000-000000000000", 0),
        ("internal_ip_address=10.0.0.10", 3),
        ("limit=2", 2),
    ] {
        let (_, list) = world.call("GET", &format!("{}?{query}", world.path()), Value::Null).await;
        assert_eq!(list["port_forwardings"].as_array().unwrap().len(), found, "{query}");
        if let Some(links) = list["port_forwardings_links"].as_array() {
            let next = text(&links[0]["href"]);
            assert!(next.contains(&format!("/network/v2.0/{}?", world.path())), "{next}");
        }
    }
    let path = format!("{}/{}", world.path(), text(&ssh["id"]));
    let body =
        json!({"port_forwarding": {"external_port": 2200, "internal_ip_address": "10.0.0.11", "description": "moved"}});
    let (status, changed) = world.call("PUT", &path, body).await;
    assert_eq!((status, &changed["port_forwarding"]["external_port"]), (200, &json!(2200)), "{changed}");
    assert_eq!(changed["port_forwarding"]["internal_ip_address"], "10.0.0.11");
    // Of another floating IP it is not.
    let elsewhere = path.replace(&world.floating, "00000000-0000-0000-0000-000000000000");
    assert_eq!(world.refused("GET", &elsewhere, Value::Null).await, (404, "PortForwardingNotFound".into()));
    for one in [&ssh, &web, &udp] {
        let path = format!("{}/{}", world.path(), text(&one["id"]));
        assert_eq!(world.refused("DELETE", &path, Value::Null).await.0, 204);
        assert_eq!(world.refused("GET", &path, Value::Null).await, (404, "PortForwardingNotFound".into()));
    }
    assert_eq!(
        (&world.floating().await["status"], &world.floating().await["router_id"]),
        (&json!("DOWN"), &Value::Null)
    );
}

#[tokio::test]
async fn forwardings_that_cannot_be() {
    let world = World::new().await;
    world.make(json!({})).await;
    let ranges = |outside: &str, inside: &str| json!({"internal_port": null, "external_port": null, "internal_port_range": inside, "external_port_range": outside});
    for (more, part) in [
        (json!({"internal_port": 23}), "duplicate"),
        (json!({"external_port": 2223}), "duplicate"),
        (ranges("2000:2300", "1000:1300"), "duplicate"),
        (ranges("3000:3300", "3000"), "Cannot"),
        (ranges("3000:3300", "10:20"), "1:N and N:N"),
        (ranges("3000:3300", "300:0"), "not a range"),
        (ranges("10000:12000", "20000:22000"), "at most 1000"),
        (json!({"external_port": 0}), "too small"),
        (json!({"external_port": 70000}), "too large"),
        (json!({"external_port": null}), "Required attribute 'external_port'"),
        (json!({"internal_port": null}), "Required attribute 'internal_port'"),
        (json!({"protocol": null}), "Required attribute 'protocol'"),
        (json!({"protocol": "sctp"}), "not in ['tcp', 'udp']"),
        (json!({"internal_port_range": "22:22", "external_port": 1}), "cannot be given together"),
        (json!({"internal_ip_address": "10.0.0.99", "external_port": 1}), "not suitable"),
    ] {
        let (status, reply) = world.call("POST", &world.path(), world.body(more.clone())).await;
        if part == "Cannot" {
            assert_eq!(status, 201, "many ports may lead to one: {reply}");
            continue;
        }
        assert!(status == 400 && reply.to_string().contains(part), "{more}: {status} {reply}");
    }
    // A range that keeps its numbers may be large.
    world.make(ranges("20000:40000", "20000:40000")).await;

    let floating = format!("floatingips/{}", world.floating);
    let used = (409, "FipInUseByPortForwarding".to_owned());
    assert_eq!(world.refused("DELETE", &floating, Value::Null).await, used);
    let body = json!({"floatingip": {"port_id": world.port["id"], "fixed_ip_address": "10.0.0.11"}});
    assert_eq!(world.refused("PUT", &floating, body.clone()).await, used);
    // To let go of no port changes nothing.
    assert_eq!(world.refused("PUT", &floating, json!({"floatingip": {"port_id": null}})).await.0, 200);
    assert_eq!(world.floating().await["router_id"], json!(world.router));
    let router = format!("routers/{}", world.router);
    let without = json!({"router": {"external_gateway_info": {}}});
    let needed = (409, "RouterExternalGatewayInUseByFloatingIp".to_owned());
    assert_eq!(world.refused("PUT", &router, without.clone()).await, needed);
    let leave = format!("{router}/remove_router_interface");
    let needed = (409, "RouterInterfaceInUseByFloatingIP".to_owned());
    assert_eq!(world.refused("PUT", &leave, json!({"subnet_id": world.subnet})).await, needed);

    // They go with the address of their port, and all that they kept is free again.
    let body = json!({"port": {"fixed_ips": [{"ip_address": "10.0.0.11"}]}});
    assert_eq!(world.refused("PUT", &format!("ports/{}", text(&world.port["id"])), body).await.0, 200);
    let (_, list) = world.call("GET", &world.path(), Value::Null).await;
    assert_eq!(list["port_forwardings"], json!([]));
    let snapshot = world.cloud.cloud.store.snapshot();
    assert_eq!(snapshot.all::<model::PortForwarding>().count(), 0);
    // A floating IP that leads to a port as a whole forwards none of its ports; nor has an address two ways in.
    let body = json!({"floatingip": {"port_id": world.port["id"], "fixed_ip_address": "10.0.0.11"}});
    assert_eq!(world.refused("PUT", &floating, body).await.0, 200);
    let refused = world.refused("POST", &world.path(), world.body(json!({"internal_ip_address": "10.0.0.11"}))).await;
    assert_eq!(refused, (409, "FloatingIPPortAlreadyAssociated".into()));
    let external = world.floating().await["floating_network_id"].clone();
    let body = json!({"floatingip": {"floating_network_id": external}});
    let second = text(&world.call("POST", "floatingips", body).await.1["floatingip"]["id"]).to_owned();
    let path = format!("floatingips/{second}/port_forwardings");
    let refused = world.refused("POST", &path, world.body(json!({"internal_ip_address": "10.0.0.11"}))).await;
    assert_eq!(refused, (409, "PortHasBindingFloatingIP".into()));
    assert_eq!(world.refused("PUT", &floating, json!({"floatingip": {"port_id": null}})).await.0, 200);
    assert_eq!(world.refused("PUT", &leave, json!({"subnet_id": world.subnet})).await.0, 200);
    let refused = world.call("POST", &path, world.body(json!({"internal_ip_address": "10.0.0.11"}))).await;
    assert!(refused.0 == 400 && refused.1.to_string().contains("is not reachable"), "{refused:?} {}", world.network);
    assert_eq!(world.refused("PUT", &router, without).await.0, 200);
}

#[tokio::test]
async fn of_many_forwardings_at_once_one_gets_a_port() {
    let world = World::new().await;
    let path = world.path();
    // Each by a range of its own that has the port 500.
    let tries = (0..8).map(|n| {
        let more = json!({"internal_port": 100 + n, "external_port": null, "external_port_range": format!("{}:{}", 490 + n, 510 + n)});
        world.call("POST", &path, world.body(more))
    });
    let made = futures_util::future::join_all(tries).await;
    assert_eq!(made.iter().filter(|(status, _)| *status == 201).count(), 1, "{made:?}");
    assert!(made.iter().all(|(status, reply)| *status == 201 || reply.to_string().contains("duplicate")), "{made:?}");
}
