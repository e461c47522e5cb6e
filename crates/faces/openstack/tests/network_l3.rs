//! Routers, floating IPs and security groups of the network service, as its clients use them.

mod common;

use common::{Harness, text};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

struct World {
    cloud: Harness,
    external: String,
}

impl World {
    /// A cloud with an external network.
    async fn new() -> Self {
        let cloud = Harness::new().await;
        let body = json!({"network": {"name": "ext", "router:external": true}});
        let (_, _, made) = cloud.ok("POST", &format!("{V}/networks"), &cloud.admin, body).await;
        let external = text(&made["network"]["id"]).to_owned();
        let body =
            json!({"subnet": {"network_id": external, "cidr": "172.24.4.0/24", "ip_version": 4, "enable_dhcp": false}});
        cloud.ok("POST", &format!("{V}/subnets"), &cloud.admin, body).await;
        Self { cloud, external }
    }

    async fn make(&self, many: &str, one: &str, body: Value) -> Value {
        let (_, _, made) = self.cloud.ok("POST", &format!("{V}/{many}"), &self.cloud.demo, json!({ one: body })).await;
        made[one].clone()
    }

    /// A network with a subnet: their ids.
    async fn network(&self, cidr: &str) -> (String, String) {
        let network = self.make("networks", "network", json!({"name": cidr})).await;
        let body = json!({"network_id": network["id"], "cidr": cidr, "ip_version": 4});
        let subnet = self.make("subnets", "subnet", body).await;
        (text(&network["id"]).to_owned(), text(&subnet["id"]).to_owned())
    }

    /// A router, with a way out or not, that joins a subnet.
    async fn router(&self, out: bool, subnet: &str) -> String {
        let info = if out { json!({"network_id": self.external}) } else { json!({}) };
        let router = self.make("routers", "router", json!({"name": "r", "external_gateway_info": info})).await;
        let id = text(&router["id"]).to_owned();
        let path = format!("routers/{id}/add_router_interface");
        let (status, reply) = self.call("PUT", &path, json!({"subnet_id": subnet})).await;
        assert_eq!(status, 200, "{reply}");
        id
    }

    async fn port(&self, network: &str) -> Value {
        self.make("ports", "port", json!({"network_id": network})).await
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, reply) = self.cloud.call(method, &format!("{V}/{path}"), &self.cloud.demo, body).await;
        (status, reply)
    }

    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, reply) = self.call(method, path, body).await;
        (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
    }
}

#[tokio::test]
async fn a_router_lives() {
    let world = World::new().await;
    let (network, subnet) = world.network("10.0.0.0/24").await;
    let router = world.router(true, &subnet).await;
    let (_, shown) = world.call("GET", &format!("routers/{router}"), Value::Null).await;
    let gateway = &shown["router"]["external_gateway_info"];
    assert_eq!((&gateway["network_id"], &gateway["enable_snat"]), (&json!(world.external), &json!(true)));
    assert_eq!(gateway["external_fixed_ips"][0]["ip_address"], "172.24.4.2");
    let (_, ports) = world.call("GET", &format!("ports?device_id={router}"), Value::Null).await;
    let port = &ports["ports"][0];
    assert_eq!((text(&port["device_owner"]), text(&port["status"])), ("network:router_interface", "ACTIVE"));
    assert_eq!(port["fixed_ips"][0]["ip_address"], "10.0.0.1");

    let path = format!("ports/{}", text(&port["id"]));
    let fixed = |subnet: &str, ip: &str| json!({"port": {"fixed_ips": [{"subnet_id": subnet, "ip_address": ip}]}});
    assert_eq!(world.call("PUT", &path, fixed(&subnet, "10.0.0.9")).await.0, 200);
    assert_eq!(world.call("PUT", &path, fixed(&subnet, "10.0.0.1")).await.0, 200);
    assert_eq!(world.call("PUT", &path, json!({"port": {"fixed_ips": []}})).await.0, 400);
    assert_eq!(world.call("PUT", &path, json!({"port": {"device_id": ""}})).await.0, 400);

    let add = format!("routers/{router}/add_router_interface");
    for (body, expected) in [
        (json!({}), (400, "BadRequest")),
        (json!({"subnet_id": "x"}), (400, "BadRequest")),
        (json!({"subnet_id": subnet, "port_id": port["id"]}), (400, "BadRequest")),
        (json!({"subnet_id": subnet}), (400, "BadRequest")),
        (json!({"subnet_id": uuid::Uuid::new_v4()}), (404, "SubnetNotFound")),
        (json!({"port_id": port["id"]}), (409, "PortInUse")),
    ] {
        let (status, kind) = world.refused("PUT", &add, body.clone()).await;
        assert_eq!((status, kind.as_str()), expected, "{body}");
    }
    let (_, overlapping) = world.network("10.0.0.0/25").await;
    assert_eq!(world.refused("PUT", &add, json!({"subnet_id": overlapping})).await, (400, "BadRequest".into()));
    let delete = format!("ports/{}", text(&port["id"]));
    assert_eq!(world.refused("DELETE", &delete, Value::Null).await, (409, "ServicePortInUse".into()));
    assert_eq!(world.refused("DELETE", &format!("routers/{router}"), Value::Null).await, (409, "RouterInUse".into()));
    assert_eq!(
        world.refused("DELETE", &format!("networks/{network}"), Value::Null).await,
        (409, "NetworkInUse".into())
    );

    let routes = json!({"router": {"routes": [{"destination": "10.9.0.0/16", "nexthop": "10.0.0.7"}]}});
    let (status, with) = world.call("PUT", &format!("routers/{router}/add_extraroutes"), routes.clone()).await;
    assert_eq!((status, &with["router"]["routes"]), (200, &routes["router"]["routes"]));
    let remove = format!("routers/{router}/remove_router_interface");
    let body = json!({"subnet_id": subnet});
    assert_eq!(world.refused("PUT", &remove, body.clone()).await, (409, "RouterInterfaceInUseByRoute".into()));
    assert_eq!(world.call("PUT", &format!("routers/{router}/remove_extraroutes"), routes).await.0, 200);
    let bad = json!({"router": {"routes": [{"destination": "10.9.0.0/16", "nexthop": "192.0.2.1"}]}});
    assert_eq!(world.refused("PUT", &format!("routers/{router}"), bad).await, (400, "InvalidRoutes".into()));
    let snat = json!({"router": {"external_gateway_info": {"network_id": world.external, "enable_snat": false}}});
    assert_eq!(world.refused("PUT", &format!("routers/{router}"), snat).await.0, 403);

    let (status, reply) = world.call("PUT", &remove, body.clone()).await;
    assert_eq!((status, &reply["port_id"]), (200, &port["id"]));
    assert_eq!(world.refused("PUT", &remove, body).await, (404, "RouterInterfaceNotFoundForSubnet".into()));
    assert_eq!(world.call("DELETE", &format!("routers/{router}"), Value::Null).await.0, 204);
    let ports = world.cloud.cloud.store.snapshot();
    assert!(ports.all::<model::Port>().all(|p| p.value.device_id() != router), "the gateway's port is gone with it");
}

#[tokio::test]
async fn floating_ips_come_and_go() {
    let world = World::new().await;
    let (network, subnet) = world.network("10.0.0.0/24").await;
    let router = world.router(true, &subnet).await;
    let port = world.port(&network).await;
    let body = json!({"floating_network_id": world.external, "port_id": port["id"]});
    let floating = world.make("floatingips", "floatingip", body.clone()).await;
    assert_eq!(floating["fixed_ip_address"], port["fixed_ips"][0]["ip_address"]);
    assert_eq!((&floating["router_id"], &floating["status"]), (&json!(router), &json!("ACTIVE")));
    let twice = world.refused("POST", "floatingips", json!({"floatingip": body})).await;
    assert_eq!(twice, (409, "FloatingIPPortAlreadyAssociated".into()));
    let remove = format!("routers/{router}/remove_router_interface");
    let answer = world.refused("PUT", &remove, json!({"subnet_id": subnet})).await;
    assert_eq!(answer, (409, "RouterInterfaceInUseByFloatingIP".into()));
    let clear = json!({"router": {"external_gateway_info": {}}});
    let answer = world.refused("PUT", &format!("routers/{router}"), clear).await;
    assert_eq!(answer, (409, "RouterExternalGatewayInUseByFloatingIp".into()));

    // A port on another router.
    let (network2, subnet2) = world.network("10.1.0.0/24").await;
    let router2 = world.router(true, &subnet2).await;
    let port2 = world.port(&network2).await;
    let path = format!("floatingips/{}", text(&floating["id"]));
    let (_, moved) = world.call("PUT", &path, json!({"floatingip": {"port_id": port2["id"]}})).await;
    assert_eq!(moved["floatingip"]["router_id"], json!(router2));
    // A description alone leaves the association, nothing at all ends it.
    let (_, said) = world.call("PUT", &path, json!({"floatingip": {"description": "mine"}})).await;
    assert_eq!(said["floatingip"]["port_id"], port2["id"]);
    let (_, blank) = world.call("PUT", &path, json!({"floatingip": {}})).await;
    assert_eq!((&blank["floatingip"]["port_id"], &blank["floatingip"]["description"]), (&Value::Null, &json!("mine")));
    world.call("PUT", &path, json!({"floatingip": {"port_id": port2["id"]}})).await;
    // The port's end frees the floating IP.
    assert_eq!(world.call("DELETE", &format!("ports/{}", text(&port2["id"])), Value::Null).await.0, 204);
    let (_, shown) = world.call("GET", &path, Value::Null).await;
    for name in ["port_id", "fixed_ip_address", "router_id"] {
        assert_eq!(shown["floatingip"][name], Value::Null, "{name}");
    }
    // A port with several addresses.
    let fixed = json!([{"ip_address": "10.0.0.50"}, {"ip_address": "10.0.0.51"}]);
    let many = world.make("ports", "port", json!({"network_id": network, "fixed_ips": fixed})).await;
    let (status, reply) = world.call("PUT", &path, json!({"floatingip": {"port_id": many["id"]}})).await;
    assert!(status == 400 && text(&reply["NeutronError"]["message"]).contains("multiple fixed IPv4"));
    for ip in ["10.0.0.50", "10.0.0.51"] {
        let body = json!({"floatingip": {"port_id": many["id"], "fixed_ip_address": ip}});
        let (status, reply) = world.call("PUT", &path, body).await;
        assert_eq!((status, &reply["floatingip"]["fixed_ip_address"]), (200, &json!(ip)));
    }
    assert_eq!(world.call("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(world.call("GET", &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn floating_ips_that_cannot_be() {
    let world = World::new().await;
    let (network, subnet) = world.network("10.0.0.0/24").await;
    world.router(false, &subnet).await;
    let port = world.port(&network).await;
    let ip = &port["fixed_ips"][0]["ip_address"];
    let body =
        json!({"floatingip": {"floating_network_id": world.external, "port_id": port["id"], "fixed_ip_address": ip}});
    let answer = world.refused("POST", "floatingips", body).await;
    assert_eq!(answer, (404, "ExternalGatewayForFloatingIPNotFound".into()));
    let body = json!({"floatingip": {"floating_network_id": network, "port_id": port["id"], "fixed_ip_address": ip}});
    assert_eq!(world.refused("POST", "floatingips", body).await, (400, "BadRequest".into()));
    let free = world.make("floatingips", "floatingip", json!({"floating_network_id": world.external})).await;
    assert_eq!(free["status"], "DOWN");
    let path = format!("floatingips/{}", text(&free["id"]));
    let body = json!({"floatingip": {"port_id": port["id"], "fixed_ip_address": ip}});
    assert_eq!(world.refused("PUT", &path, body).await, (404, "ExternalGatewayForFloatingIPNotFound".into()));
    let body = json!({"floatingip": {"port_id": port["id"], "fixed_ip_address": "10.0.0.99"}});
    assert_eq!(world.refused("PUT", &path, body).await, (400, "BadRequest".into()));
    let snapshot = world.cloud.cloud.store.snapshot();
    assert_eq!(snapshot.all::<model::FloatingIp>().count(), 1, "what was refused left nothing behind");
    // A floating IP that leads nowhere does not keep its network.
    let network = format!("{V}/networks/{}", world.external);
    assert_eq!(world.cloud.call("DELETE", &network, &world.cloud.admin, Value::Null).await.0, 204);
    assert_eq!(world.call("GET", &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn security_groups_live() {
    let world = World::new().await;
    let (_, all) = world.call("GET", "security-groups", Value::Null).await;
    let all = all["security_groups"].as_array().unwrap().clone();
    let default = all.iter().find(|g| g["name"] == "default").expect("every project has one");
    assert_eq!(default["security_group_rules"].as_array().unwrap().len(), 4);
    let answer = world.refused("DELETE", &format!("security-groups/{}", text(&default["id"])), Value::Null).await;
    assert_eq!(answer, (409, "SecurityGroupCannotRemoveDefault".into()));
    let body = json!({"security_group": {"name": "default"}});
    assert_eq!(world.refused("POST", "security-groups", body).await.0, 409);

    let group = world.make("security-groups", "security_group", json!({"name": "web"})).await;
    assert_eq!(group["security_group_rules"].as_array().unwrap().len(), 2);
    let id = text(&group["id"]);
    let path = format!("security-groups/{id}");
    let body = json!({"security_group": {"name": "web2", "description": "d"}});
    let (_, updated) = world.call("PUT", &path, body).await;
    assert_eq!(
        (text(&updated["security_group"]["name"]), text(&updated["security_group"]["description"])),
        ("web2", "d")
    );
    let (network, _) = world.network("10.0.0.0/24").await;
    let port = world.make("ports", "port", json!({"network_id": network, "security_groups": [id]})).await;
    assert_eq!(world.refused("DELETE", &path, Value::Null).await, (409, "SecurityGroupInUse".into()));
    assert_eq!(world.call("DELETE", &format!("ports/{}", text(&port["id"])), Value::Null).await.0, 204);
    let friend = world.make("security-groups", "security_group", json!({"name": "friend"})).await;
    let rule = json!({"security_group_id": friend["id"], "direction": "ingress", "remote_group_id": id});
    let rule = world.make("security-group-rules", "security_group_rule", rule).await;
    assert_eq!(world.call("DELETE", &path, Value::Null).await.0, 204);
    let answer = world.refused("GET", &format!("security-group-rules/{}", text(&rule["id"])), Value::Null).await;
    assert_eq!(answer, (404, "SecurityGroupRuleNotFound".into()));
}

#[tokio::test]
async fn rules_are_checked() {
    let world = World::new().await;
    let group = world.make("security-groups", "security_group", json!({"name": "g"})).await;
    let rule = |more: Value| {
        let mut body = json!({"security_group_id": group["id"], "direction": "ingress", "ethertype": "IPv4"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"security_group_rule": body})
    };
    let ports = |protocol: &str, min: Value, max: Value| json!({"protocol": protocol, "port_range_min": min, "port_range_max": max});
    for (more, part) in [
        (json!({"protocol": "bad_protocol_name"}), "not supported"),
        (json!({"protocol": "tcp", "remote_ip_prefix": "192.168.1./24"}), "Invalid CIDR"),
        (json!({"protocol": "tcp", "remote_ip_prefix": "192.168.1.1/33"}), "Invalid CIDR"),
        (json!({"protocol": "tcp", "remote_ip_prefix": "256"}), "Invalid CIDR"),
        (json!({"ethertype": "bad_ethertype"}), "bad_ethertype"),
        (json!({"ethertype": "IPv6", "remote_ip_prefix": "10.0.0.0/8"}), "Conflicting value ethertype"),
        (json!({"direction": "sideways"}), "is not in"),
        (ports("tcp", json!(-16), json!(80)), "Invalid value for port -16"),
        (ports("tcp", json!(80), json!(79)), "port_range_min must be <= port_range_max"),
        (ports("tcp", json!(80), json!(65536)), "Invalid value for port 65536"),
        (ports("tcp", json!(null), json!(6)), "port_range_min must be <= port_range_max"),
        (ports("icmp", json!(1), json!(256)), "Invalid value for ICMP code"),
        (ports("icmp", json!(-1), json!(25)), "Invalid value"),
        (ports("icmp", json!(null), json!(6)), "ICMP type (port-range-min) is missing"),
        (ports("icmp", json!(300), json!(1)), "Invalid value for ICMP type"),
        (ports("esp", json!(1), json!(2)), "Ports cannot be specified for protocol esp"),
        (json!({"port_range_min": 1, "port_range_max": 2}), "Must also specify protocol"),
        (json!({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": group["id"]}), "Only one of"),
    ] {
        let (status, reply) = world.call("POST", "security-group-rules", rule(more.clone())).await;
        let message = text(&reply["NeutronError"]["message"]);
        assert!(status == 400 && message.contains(part), "{more}: {status} {message}");
    }
    for remote in ["bad_group_id".to_owned(), uuid::Uuid::new_v4().to_string()] {
        let answer = world.refused("POST", "security-group-rules", rule(json!({"remote_group_id": remote}))).await;
        assert_eq!(answer, (404, "SecurityGroupNotFound".into()));
    }
    let nowhere = json!({"security_group_rule": {"security_group_id": uuid::Uuid::new_v4(), "direction": "ingress"}});
    assert_eq!(world.refused("POST", "security-group-rules", nowhere).await.0, 404);

    for (kind, code) in [(3, json!(2)), (3, json!(0)), (8, json!(0)), (0, json!(0)), (11, json!(null))] {
        let (status, reply) =
            world.call("POST", "security-group-rules", rule(ports("icmp", json!(kind), code.clone()))).await;
        let made = &reply["security_group_rule"];
        assert_eq!((status, &made["port_range_min"], &made["port_range_max"]), (201, &json!(kind), &code));
    }
    let web = rule(ports("tcp", json!(66), json!(67)));
    let (_, first) = world.call("POST", "security-group-rules", web.clone()).await;
    let (status, reply) = world.call("POST", "security-group-rules", web).await;
    assert_eq!((status, &reply["NeutronError"]["type"]), (409, &json!("SecurityGroupRuleExists")));
    assert!(text(&reply["NeutronError"]["message"]).contains(text(&first["security_group_rule"]["id"])));
    let by_number = rule(ports("6", json!(66), json!(67)));
    assert_eq!(world.call("POST", "security-group-rules", by_number).await.0, 409);
    let (_, udp) = world.call("POST", "security-group-rules", rule(json!({"protocol": 17}))).await;
    assert_eq!(udp["security_group_rule"]["protocol"], "17");
}
