//! Trunks: which ports may take part, what they show, and what is refused.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::{Change, Holder, Port, PortStatus, Resource, Trunk};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

struct World {
    cloud: Harness,
    network: String,
}

impl World {
    async fn new() -> Self {
        let cloud = Harness::new().await;
        let (_, _, network) =
            cloud.ok("POST", &format!("{V}/networks"), &cloud.demo, json!({"network": {"name": "n"}})).await;
        let network = text(&network["network"]["id"]).to_owned();
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.9.0.0/24"}});
        cloud.ok("POST", &format!("{V}/subnets"), &cloud.demo, subnet).await;
        Self { cloud, network }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, reply) = self.cloud.call(method, &format!("{V}/{path}"), &self.cloud.demo, body).await;
        (status, reply)
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, reply) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {reply}");
        reply
    }

    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, reply) = self.call(method, path, body).await;
        (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
    }

    async fn port(&self) -> String {
        self.port_on(&self.network).await
    }

    async fn port_on(&self, network: &str) -> String {
        let reply = self.ok("POST", "ports", json!({"port": {"network_id": network}})).await;
        text(&reply["port"]["id"]).to_owned()
    }

    async fn trunk(&self, port: &str, sub_ports: Value) -> Value {
        let body = json!({"trunk": {"port_id": port, "sub_ports": sub_ports}});
        self.ok("POST", "trunks", body).await["trunk"].clone()
    }

    async fn show(&self, port: &str) -> Value {
        self.ok("GET", &format!("ports/{port}"), Value::Null).await["port"].clone()
    }

    async fn edit(&self, id: &str, edit: impl FnOnce(&mut Port)) {
        let rows = self.cloud.cloud.store.snapshot();
        let mut change = Change::new();
        change.edit(rows.get::<Port>(id).unwrap(), edit);
        self.cloud.cloud.store.commit(&change).await.unwrap();
    }

    async fn status(&self, trunk: &Value) -> String {
        let path = format!("trunks/{}", text(&trunk["id"]));
        text(&self.ok("GET", &path, Value::Null).await["trunk"]["status"]).to_owned()
    }
}

fn sub(port: &str, vlan: u16) -> Value {
    json!({"port_id": port, "segmentation_type": "vlan", "segmentation_id": vlan})
}

#[tokio::test]
async fn a_trunk_lives() {
    let world = World::new().await;
    let (parent, one, two) = (world.port().await, world.port().await, world.port().await);
    let trunk = world.trunk(&parent, json!([sub(&one, 100)])).await;
    let path = format!("trunks/{}", text(&trunk["id"]));
    for (name, value) in [
        ("port_id", json!(parent)),
        ("sub_ports", json!([sub(&one, 100)])),
        ("status", json!("DOWN")),
        ("admin_state_up", json!(true)),
        ("name", json!("")),
        ("description", json!("")),
        ("tags", json!([])),
        ("project_id", json!(world.cloud.demo_project)),
        ("tenant_id", json!(world.cloud.demo_project)),
    ] {
        assert_eq!(trunk[name], value, "{name}");
    }
    assert_eq!(world.ok("GET", &path, Value::Null).await["trunk"], trunk);
    let added = world.ok("PUT", &format!("{path}/add_subports"), json!({"sub_ports": [sub(&two, 4094)]})).await;
    assert_eq!(added["sub_ports"], json!([sub(&one, 100), sub(&two, 4094)]));
    let listed = world.ok("GET", &format!("{path}/get_subports"), Value::Null).await;
    assert_eq!(listed, json!({"sub_ports": [sub(&one, 100), sub(&two, 4094)]}));

    // The ports say so, each in its role.
    let shown = world.show(&parent).await;
    let mac = |shown: Value| shown["mac_address"].clone();
    let macs = [mac(world.show(&one).await), mac(world.show(&two).await)];
    let with_mac = |one: Value, mac: &Value| {
        let mut one = one;
        one["mac_address"] = mac.clone();
        one
    };
    let subs = [with_mac(sub(&one, 100), &macs[0]), with_mac(sub(&two, 4094), &macs[1])];
    assert_eq!(shown["trunk_details"], json!({"trunk_id": trunk["id"], "sub_ports": subs}));
    assert_eq!(shown["device_owner"], "");
    let shown = world.show(&one).await;
    assert_eq!((&shown["device_id"], &shown["device_owner"]), (&trunk["id"], &json!("trunk:subport")));
    assert!(shown.get("trunk_details").is_none(), "{shown}");

    // What lists and updates have of all resources.
    let body = json!({"trunk": {"name": "t", "description": "d", "admin_state_up": false}});
    let updated = world.ok("PUT", &path, body).await["trunk"].clone();
    assert_eq!((&updated["name"], &updated["description"]), (&json!("t"), &json!("d")));
    assert!(updated["revision_number"].as_u64() > trunk["revision_number"].as_u64());
    let other = world.port().await;
    world.trunk(&other, json!([])).await;
    for (query, found) in
        [("", 2), ("?name=t", 1), ("?admin_state_up=false", 1), ("?status=ACTIVE", 0), ("?limit=1", 1)]
    {
        let list = world.ok("GET", &format!("trunks{query}"), Value::Null).await;
        assert_eq!(list["trunks"].as_array().unwrap().len(), found, "{query}");
    }
    let found = world.ok("GET", &format!("trunks?port_id={other}"), Value::Null).await;
    assert_eq!(found["trunks"][0]["port_id"], json!(other));
    world.ok("PUT", &format!("{path}/tags/blue"), Value::Null).await;
    assert_eq!(world.ok("GET", "trunks?tags=blue", Value::Null).await["trunks"][0]["id"], trunk["id"]);
    let details = world.ok("GET", &format!("quotas/{}/details", world.cloud.demo_project), Value::Null).await;
    assert_eq!(details["quota"]["trunk"]["used"], 2);

    // Switched off, it is left as it is.
    for (method, path, body) in [
        ("PUT", format!("{path}/add_subports"), json!({"sub_ports": []})),
        ("PUT", format!("{path}/remove_subports"), json!({"sub_ports": [{"port_id": two}]})),
        ("DELETE", path.clone(), Value::Null),
    ] {
        assert_eq!(world.refused(method, &path, body).await, (409, "TrunkDisabled".into()));
    }
    world.ok("PUT", &path, json!({"trunk": {"admin_state_up": true}})).await;
    let left = world.ok("PUT", &format!("{path}/remove_subports"), json!({"sub_ports": [{"port_id": one}]})).await;
    assert_eq!(left["sub_ports"], json!([sub(&two, 4094)]));
    let shown = world.show(&one).await;
    assert_eq!((&shown["device_id"], &shown["device_owner"]), (&json!(""), &json!("")));

    // Ports of a trunk stay until it is gone, and are free then.
    assert_eq!(
        world.refused("DELETE", &format!("ports/{parent}"), Value::Null).await,
        (409, "PortInUseAsTrunkParent".into())
    );
    assert_eq!(world.refused("DELETE", &format!("ports/{two}"), Value::Null).await, (409, "PortInUseAsSubPort".into()));
    world.ok("DELETE", &path, Value::Null).await;
    assert_eq!(world.refused("GET", &path, Value::Null).await, (404, "TrunkNotFound".into()));
    for port in [&parent, &one, &two] {
        assert_eq!(world.show(port).await["device_owner"], "");
        world.ok("DELETE", &format!("ports/{port}"), Value::Null).await;
    }
}

#[tokio::test]
async fn a_port_takes_part_once() {
    let world = World::new().await;
    let (parent, one, two, free) = (world.port().await, world.port().await, world.port().await, world.port().await);
    let trunk = world.trunk(&parent, json!([sub(&one, 100)])).await;
    let path = format!("trunks/{}", text(&trunk["id"]));
    let (add, remove) = (format!("{path}/add_subports"), format!("{path}/remove_subports"));
    let held = world.port().await;
    world.ok("PUT", &format!("ports/{held}"), json!({"port": {"device_id": "mine"}})).await;
    let (_, _, little) = world
        .cloud
        .ok(
            "POST",
            &format!("{V}/networks"),
            &world.cloud.admin,
            json!({"network": {"mtu": 1280, "project_id": world.cloud.demo_project}}),
        )
        .await;
    let small = world.port_on(text(&little["network"]["id"])).await;
    let nobody = uuid::Uuid::new_v4().to_string();
    let create = |port: &str, sub_ports: Value| json!({"trunk": {"port_id": port, "sub_ports": sub_ports}});
    let subs = |sub_ports: Value| json!({ "sub_ports": sub_ports });
    for (method, path, body, status, kind) in [
        ("POST", "trunks", create(&parent, json!([])), 409, "ParentPortInUse"),
        ("POST", "trunks", create(&one, json!([])), 409, "TrunkPortInUse"),
        ("POST", "trunks", create(&free, json!([sub(&free, 1)])), 409, "ParentPortInUse"),
        ("POST", "trunks", create(&free, json!([sub(&one, 1)])), 409, "TrunkPortInUse"),
        ("POST", "trunks", create(&free, json!([sub(&parent, 1)])), 409, "ParentPortInUse"),
        ("POST", "trunks", create(&nobody, json!([])), 404, "PortNotFound"),
        ("POST", "trunks", create(&free, json!([sub(&nobody, 1)])), 404, "PortNotFound"),
        ("POST", "trunks", create(&free, json!([sub(&two, 1), sub(&two, 2)])), 400, "HTTPBadRequest"),
        ("POST", "trunks", create(&free, json!([sub(&two, 1), sub(&held, 1)])), 400, "HTTPBadRequest"),
        ("POST", "trunks", create(&free, json!({"port_id": two})), 400, "HTTPBadRequest"),
        (
            "POST",
            "trunks",
            create(&free, json!([{"segmentation_type": "vlan", "segmentation_id": 1}])),
            400,
            "HTTPBadRequest",
        ),
        ("POST", "trunks", create(&free, json!([{"port_id": two, "segmentation_id": 1}])), 400, "HTTPBadRequest"),
        ("POST", "trunks", create(&free, json!([{"port_id": two}])), 400, "InvalidInput"),
        ("POST", "trunks", create(&small, json!([sub(&two, 1)])), 409, "SubPortMtuGreaterThanTrunkPortMtu"),
        ("POST", "trunks", json!({"trunk": {"name": "x"}}), 400, "HTTPBadRequest"),
        ("POST", "trunks", json!({"trunk": {"port_id": free, "status": "ACTIVE"}}), 400, "HTTPBadRequest"),
        ("PUT", &add, subs(json!([sub(&two, 100)])), 409, "DuplicateSubPort"),
        ("PUT", &add, subs(json!([sub(&parent, 5)])), 409, "ParentPortInUse"),
        ("PUT", &add, subs(json!([sub(&held, 5)])), 409, "PortInUse"),
        ("PUT", &add, subs(json!([sub(&two, 0)])), 400, "InvalidInput"),
        ("PUT", &add, subs(json!([sub(&two, 4095)])), 400, "InvalidInput"),
        (
            "PUT",
            &add,
            subs(json!([{"port_id": two, "segmentation_type": "vlan", "segmentation_id": "x"}])),
            400,
            "InvalidInput",
        ),
        (
            "PUT",
            &add,
            subs(json!([{"port_id": two, "segmentation_type": "vxlan", "segmentation_id": 5}])),
            400,
            "InvalidInput",
        ),
        ("PUT", &add, subs(json!([{"port_id": two, "segmentation_type": "inherit"}])), 400, "InvalidInput"),
        ("PUT", &add, subs(sub(&two, 5)), 400, "InvalidInput"),
        ("PUT", &add, json!({}), 400, "InvalidInput"),
        ("PUT", &remove, subs(json!([sub(&two, 5)])), 404, "SubPortNotFound"),
        ("PUT", &remove, subs(sub(&one, 5)), 400, "InvalidInput"),
        ("PUT", &path, json!({"trunk": {"port_id": free}}), 400, "HTTPBadRequest"),
        ("PUT", &path, json!({"trunk": {"sub_ports": []}}), 400, "HTTPBadRequest"),
        ("PUT", &format!("trunks/{nobody}/add_subports"), subs(json!([])), 404, "TrunkNotFound"),
    ] {
        assert_eq!(
            world.refused(method, path, body.clone()).await,
            (status, kind.to_owned()),
            "{method} {path} {body}"
        );
    }
    assert_eq!(world.ok("GET", &path, Value::Null).await["trunk"], trunk, "nothing of it was done");
    assert_eq!(world.show(&two).await["device_owner"], "");
    // Numbers may come as texts; a subport on a network with smaller packets is none the worse.
    let body = subs(json!([{"port_id": small, "segmentation_type": "vlan", "segmentation_id": "7"}]));
    assert_eq!(world.ok("PUT", &add, body).await["sub_ports"][1], sub(&small, 7));

    // Neither role goes together with that of a router's port; a server takes no subport.
    let (_, router) = world.call("POST", "routers", json!({"router": {"name": "r"}})).await;
    let join = format!("routers/{}/add_router_interface", text(&router["router"]["id"]));
    assert_eq!(world.refused("PUT", &join, json!({"port_id": parent})).await, (409, "PortInUseAsTrunkParent".into()));
    assert_eq!(world.refused("PUT", &join, json!({"port_id": one})).await, (409, "PortInUse".into()));
    world.ok("PUT", &join, json!({"port_id": two})).await;
    let body = create(&two, json!([]));
    assert_eq!(world.refused("POST", "trunks", body).await, (409, "ParentPortInUse".into()));
}

#[tokio::test]
async fn of_two_at_once_one_gets_a_port() {
    let world = World::new().await;
    let (parents, wanted) = ([world.port().await, world.port().await], world.port().await);
    let body = |parent: &str| json!({"trunk": {"port_id": parent, "sub_ports": [sub(&wanted, 9)]}});
    let (a, b) =
        tokio::join!(world.call("POST", "trunks", body(&parents[0])), world.call("POST", "trunks", body(&parents[1])));
    let mut statuses = [a.0, b.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{a:?} {b:?}");
    // The rows themselves allow no more.
    let rows = world.cloud.cloud.store.snapshot();
    let made = rows.all::<Trunk>().next().unwrap().value.clone();
    let other = Trunk { id: "other".into(), port: rows.get::<Port>(&parents[0]).unwrap().value.key(), ..made };
    let error = world.cloud.cloud.store.commit(&other.into()).await.unwrap_err();
    assert!(error.to_string().contains("trunk-port/"), "{error}");
}

#[tokio::test]
async fn a_trunk_is_what_its_ports_are() {
    let world = World::new().await;
    let (parent, one, two) = (world.port().await, world.port().await, world.port().await);
    let trunk = world.trunk(&parent, json!([sub(&one, 1), sub(&two, 2)])).await;
    let set = async |id: &str, status: PortStatus| {
        world
            .edit(id, |port| {
                port.host = Some("node1".into());
                port.status = status;
            })
            .await;
    };
    set(&one, PortStatus::Active).await;
    assert_eq!(world.status(&trunk).await, "DOWN");
    set(&parent, PortStatus::Active).await;
    assert_eq!(world.status(&trunk).await, "BUILD");
    set(&two, PortStatus::Active).await;
    assert_eq!(world.status(&trunk).await, "ACTIVE");
    set(&two, PortStatus::Error).await;
    assert_eq!(world.status(&trunk).await, "DEGRADED");
    assert_eq!(world.show(&two).await["status"], "ERROR");
    set(&one, PortStatus::Error).await;
    assert_eq!(world.status(&trunk).await, "ERROR");
    let add = format!("trunks/{}/add_subports", text(&trunk["id"]));
    let more = json!({"sub_ports": [sub(&world.port().await, 3)]});
    assert_eq!(world.refused("PUT", &add, more.clone()).await, (409, "TrunkInErrorState".into()));
    // What shall be down is nothing to wait for.
    world.ok("PUT", &format!("ports/{two}"), json!({"port": {"admin_state_up": false}})).await;
    set(&one, PortStatus::Active).await;
    assert_eq!(world.status(&trunk).await, "ACTIVE");
    // A subport is where its parent is, from the beginning.
    let added = world.ok("PUT", &add, more).await;
    let id = text(&added["sub_ports"][2]["port_id"]);
    let rows = world.cloud.cloud.store.snapshot();
    let port = rows.get::<Port>(id).unwrap().value.clone();
    assert_eq!(port.host.as_deref(), Some("node1"));
    assert!(matches!(port.holder, Some(Holder::Trunk(_))));
    assert_eq!(world.status(&trunk).await, "BUILD");
}

#[tokio::test]
async fn a_servers_port_outlives_it_with_its_trunk() {
    let world = World::new().await;
    let rows = rows::Rows::new(&world.cloud).await;
    let body = json!({"server": {"name": "s", "imageRef": rows.image, "flavorRef": rows.small, "networks": "none"}});
    let headers = [("openstack-api-version", "compute 2.64")];
    let (status, _, server) =
        world.cloud.call_with("POST", "/compute/v2.1/servers", &world.cloud.demo, &headers, body).await;
    assert_eq!(status, 202, "{server}");
    let id = text(&server["server"]["id"]).to_owned();
    rows.place(&world.cloud, &id, "node1", model::VmPhase::Running).await;
    let interfaces = format!("/compute/v2.1/servers/{id}/os-interface");
    let body = json!({"interfaceAttachment": {"net_id": world.network}});
    let (_, _, made) = world.cloud.ok("POST", &interfaces, &world.cloud.demo, body).await;
    let port = text(&made["interfaceAttachment"]["port_id"]).to_owned();
    // A port that is plugged in can carry others.
    let sub_port = world.port().await;
    let trunk = world.trunk(&port, json!([sub(&sub_port, 5)])).await;
    let now = world.cloud.cloud.store.snapshot();
    assert_eq!(now.get::<Port>(&sub_port).unwrap().value.host.as_deref(), Some("node1"));
    let path = format!("{interfaces}/{port}");
    world.cloud.ok("DELETE", &path, &world.cloud.demo, Value::Null).await;
    let shown = world.show(&port).await;
    assert_eq!((&shown["device_owner"], &shown["trunk_details"]["trunk_id"]), (&json!(""), &trunk["id"]));
}
