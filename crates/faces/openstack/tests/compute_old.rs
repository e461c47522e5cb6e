//! What Nova answered before other services did, as old clients still ask it.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::VmPhase;
use rows::Rows;
use serde_json::{Value, json};

const V: &str = "/compute/v2.1";

async fn ok(h: &Harness, method: &str, path: &str, token: &str, body: Value) -> Value {
    h.ok(method, &format!("{V}{path}"), token, body).await.2
}

async fn refused(h: &Harness, method: &str, path: &str, token: &str, body: Value) -> u16 {
    h.call(method, &format!("{V}{path}"), token, body).await.0
}

/// A server of the demo project on a network with a way out.
async fn server(h: &Harness, rows: &Rows) -> String {
    let net = |method: &'static str, path: String, token: String, body: Value| async move {
        let (status, _, reply) = h.call(method, &format!("/network/v2.0/{path}"), &token, body).await;
        assert!(status < 300, "{path}: {reply}");
        reply
    };
    let body = json!({"network": {"name": "public", "router:external": true}});
    let public = net("POST", "networks".into(), h.admin.clone(), body).await["network"]["id"].clone();
    let body = json!({"subnet": {"network_id": public, "cidr": "203.0.113.0/24", "ip_version": 4}});
    net("POST", "subnets".into(), h.admin.clone(), body).await;
    let body = json!({"router": {"external_gateway_info": {"network_id": public}}});
    let router = net("POST", "routers".into(), h.demo.clone(), body).await["router"]["id"].clone();
    let join = format!("routers/{}/add_router_interface", text(&router));
    net("PUT", join, h.demo.clone(), json!({"subnet_id": rows.subnet})).await;
    let body = json!({"server": {"name": "s", "imageRef": rows.image, "flavorRef": rows.small,
        "networks": [{"uuid": rows.network}]}});
    let id = text(&ok(h, "POST", "/servers", &h.demo, body).await["server"]["id"]).to_owned();
    rows.place(h, &id, "node1", VmPhase::Running).await;
    id
}

#[tokio::test]
async fn floating_ips() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let server = server(&h, &rows).await;
    let stranger = h.tenant("stranger", "member").await;
    let pools = ok(&h, "GET", "/os-floating-ip-pools", &h.demo, Value::Null).await;
    assert_eq!(pools, json!({"floating_ip_pools": [{"name": "public"}]}));
    assert_eq!(refused(&h, "POST", "/os-floating-ips", &h.demo, json!({"pool": "none"})).await, 404);
    let made = ok(&h, "POST", "/os-floating-ips", &h.demo, Value::Null).await["floating_ip"].clone();
    assert_eq!((&made["pool"], &made["instance_id"]), (&json!("public"), &Value::Null));
    let path = format!("/os-floating-ips/{}", text(&made["id"]));

    let action = format!("/servers/{server}/action");
    let add = json!({"addFloatingIp": {"address": made["ip"]}});
    let remove = json!({"removeFloatingIp": {"address": made["ip"]}});
    assert_eq!(refused(&h, "POST", &action, &h.demo, remove.clone()).await, 409, "it leads nowhere yet");
    assert_eq!(refused(&h, "POST", &action, &stranger, add.clone()).await, 404);
    for wrong in [json!({"address": "203.0.113.250"}), json!({"address": ""})] {
        assert_eq!(refused(&h, "POST", &action, &h.demo, json!({"addFloatingIp": wrong})).await, 404);
    }
    let elsewhere = json!({"addFloatingIp": {"address": made["ip"], "fixed_address": "10.9.9.9"}});
    assert_eq!(refused(&h, "POST", &action, &h.demo, elsewhere).await, 400);
    assert_eq!(refused(&h, "POST", &action, &h.demo, add.clone()).await, 202);
    let shown = ok(&h, "GET", &path, &h.demo, Value::Null).await["floating_ip"].clone();
    assert_eq!((&shown["instance_id"], &shown["fixed_ip"]), (&json!(server), &json!("10.1.0.5")));
    let addresses = ok(&h, "GET", &format!("/servers/{server}/ips"), &h.demo, Value::Null).await;
    assert!(addresses.to_string().contains(text(&made["ip"])), "{addresses}");

    for (method, path) in [("GET", path.as_str()), ("DELETE", &path), ("GET", "/os-floating-ips/7")] {
        assert_eq!(refused(&h, method, path, &stranger, Value::Null).await, 404, "{method} {path}");
    }
    assert_eq!(ok(&h, "GET", "/os-floating-ips", &stranger, Value::Null).await, json!({"floating_ips": []}));
    assert_eq!(refused(&h, "POST", &action, &h.demo, remove).await, 202);
    assert_eq!(refused(&h, "DELETE", &path, &h.demo, Value::Null).await, 202);
    assert_eq!(refused(&h, "GET", &path, &h.demo, Value::Null).await, 404);
    let newer = [("openstack-api-version", "compute 2.44")];
    let (status, _, _) = h.call_with("POST", &format!("{V}{action}"), &h.demo, &newer, add).await;
    assert_eq!(status, 404, "the action ended with 2.43");
}

#[tokio::test]
async fn networks_and_hosts() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let server = server(&h, &rows).await;
    let list = ok(&h, "GET", "/os-tenant-networks", &h.demo, Value::Null).await;
    assert!(
        list["networks"].as_array().unwrap().contains(&json!({"id": rows.network, "label": "private", "cidr": "None"}))
    );
    let one = format!("/os-networks/{}", rows.network);
    let own = ok(&h, "GET", &one, &h.demo, Value::Null).await["network"].clone();
    assert_eq!((&own["label"], &own["cidr"], own.get("vlan")), (&json!("private"), &Value::Null, None));
    assert!(ok(&h, "GET", &one, &h.admin, Value::Null).await["network"].get("vlan").is_some());
    let stranger = h.tenant("stranger", "member").await;
    assert_eq!(refused(&h, "GET", &one, &stranger, Value::Null).await, 404);

    let hosts = ok(&h, "GET", "/os-hosts", &h.admin, Value::Null).await;
    assert_eq!(hosts["hosts"], json!([{"host_name": "node1", "service": "compute", "zone": "nova"}]));
    assert_eq!(ok(&h, "GET", "/os-hosts?zone=moon", &h.admin, Value::Null).await["hosts"], json!([]));
    let shown = ok(&h, "GET", "/os-hosts/node1", &h.admin, Value::Null).await["host"].clone();
    let row = |project: &str| {
        let rows = shown.as_array().unwrap().iter().map(|row| &row["resource"]);
        rows.into_iter().find(|row| row["project"] == project).unwrap_or_else(|| panic!("{project} in {shown}")).clone()
    };
    assert_eq!((row("(total)")["cpu"].clone(), row("(used_now)")["cpu"].clone()), (json!(4), json!(1)));
    assert_eq!(row(&h.demo_project)["cpu"], json!(1));
    assert_eq!(refused(&h, "GET", "/os-hosts/node2", &h.admin, Value::Null).await, 404);
    assert_eq!(refused(&h, "PUT", "/os-hosts/node1", &h.admin, json!({"status": "perhaps"})).await, 400);
    assert_eq!(refused(&h, "GET", "/os-hosts/node1/reboot", &h.admin, Value::Null).await, 501);
    let off = ok(&h, "PUT", "/os-hosts/node1", &h.admin, json!({"status": "disable"})).await;
    assert_eq!(off, json!({"host": "node1", "status": "disabled"}));
    let service = ok(&h, "GET", "/os-services", &h.admin, Value::Null).await;
    assert_eq!(service["services"][0]["status"], "disabled");
    let on_it = ok(&h, "GET", "/os-hypervisors/node/servers", &h.admin, Value::Null).await;
    assert_eq!(on_it["hypervisors"][0]["servers"][0]["uuid"], json!(server));

    let month = ok(&h, "GET", "/os-instance_usage_audit_log/2026-03-15%2010:00:00", &h.admin, Value::Null).await;
    let log = &month["instance_usage_audit_log"];
    assert_eq!(
        (&log["period_beginning"], &log["period_ending"], &log["num_hosts_not_run"]),
        (&json!("2026-02-01 00:00:00"), &json!("2026-03-01 00:00:00"), &json!(1))
    );
    assert_eq!(refused(&h, "GET", "/os-instance_usage_audit_log/never", &h.admin, Value::Null).await, 400);
}

#[tokio::test]
async fn what_images_say() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (_, _, image) = h.ok("POST", "/image/v2/images", &h.demo, json!({"name": "mine"})).await;
    let path = format!("/images/{}/metadata", text(&image["id"]));
    let all = ok(&h, "POST", &path, &h.demo, json!({"metadata": {"os_distro": "debian", "a": "1"}})).await;
    assert_eq!(all, json!({"metadata": {"a": "1", "os_distro": "debian"}}));
    assert_eq!(ok(&h, "GET", &format!("{path}/a"), &h.demo, Value::Null).await, json!({"meta": {"a": "1"}}));
    ok(&h, "PUT", &format!("{path}/a"), &h.demo, json!({"meta": {"a": "2"}})).await;
    assert_eq!(refused(&h, "PUT", &format!("{path}/a"), &h.demo, json!({"meta": {"b": "2"}})).await, 400);
    for reserved in ["os_glance_x", "owner", "min_disk", "checksum"] {
        let status = refused(&h, "POST", &path, &h.demo, json!({"metadata": {reserved: "1"}})).await;
        assert!(matches!(status, 400 | 403), "{reserved}: {status}");
    }
    assert_eq!(refused(&h, "DELETE", &format!("{path}/a"), &h.demo, Value::Null).await, 204);
    assert_eq!(refused(&h, "DELETE", &format!("{path}/a"), &h.demo, Value::Null).await, 404);
    let all =
        ok(&h, "PUT", &path, &h.demo, json!({"metadata": {"instance_uuid": "u", "image_type": "snapshot"}})).await;
    assert_eq!(all["metadata"].as_object().unwrap().len(), 2);
    let public = format!("/images/{}/metadata", rows.image);
    assert_eq!(refused(&h, "POST", &public, &h.demo, json!({"metadata": {"a": "1"}})).await, 403, "another's");
    let stranger = h.tenant("stranger", "member").await;
    assert_eq!(refused(&h, "POST", &path, &stranger, json!({"metadata": {"a": "1"}})).await, 404);

    for (query, count) in [("server=u", 1), ("server=https://x/servers/u", 1), ("server=v", 0), ("type=snapshot", 1)] {
        let list = ok(&h, "GET", &format!("/images?{query}"), &h.demo, Value::Null).await;
        assert_eq!(list["images"].as_array().unwrap().len(), count, "{query}: {list}");
    }
}

#[tokio::test]
async fn events_and_extensions() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let server = server(&h, &rows).await;
    let event = |name: &str, id: &str| json!({"name": name, "server_uuid": id});
    let send = |events: Vec<Value>| {
        let h = &h;
        async move {
            let (status, _, reply) =
                h.call("POST", &format!("{V}/os-server-external-events"), &h.admin, json!({"events": events})).await;
            let codes: Vec<u64> =
                reply["events"].as_array().into_iter().flatten().filter_map(|event| event["code"].as_u64()).collect();
            (status, codes)
        }
    };
    let nobody = uuid::Uuid::new_v4().to_string();
    assert_eq!(send(vec![event("network-changed", &server)]).await, (200, vec![200]));
    let mixed =
        vec![event("network-changed", &server), event("volume-extended", &server), event("network-changed", &nobody)];
    assert_eq!(send(mixed).await, (207, vec![200, 422, 404]));
    assert_eq!(send(vec![event("network-changed", &nobody)]).await.0, 404);
    assert_eq!(send(vec![event("rain", &server)]).await.0, 400);
    assert_eq!(send(vec![event("network-changed", &server); 1001]).await.0, 400);

    let list = ok(&h, "GET", "/extensions", &h.demo, Value::Null).await;
    assert!(list["extensions"].as_array().unwrap().iter().any(|e| e["alias"] == "os-server-external-events"));
    assert_eq!(ok(&h, "GET", "/extensions/os-hosts", &h.demo, Value::Null).await["extension"]["name"], "Hosts");
    assert_eq!(refused(&h, "GET", "/extensions/os-volumes", &h.demo, Value::Null).await, 404);
}
