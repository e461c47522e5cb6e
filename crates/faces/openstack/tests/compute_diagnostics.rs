//! What only a host can tell of itself and of its servers: diagnostics, and how long it runs.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use std::sync::Arc;

use common::{Harness, text};
use face_openstack::dispatch::Face;
use face_openstack::{Cloud, HostAnswer, HostStreams, SERVICES};
use model::{DiskUsage, VmPhase, VmUsage};
use rows::Rows;
use serde_json::{Value, json};

const V: &str = "/compute/v2.1";

/// A host that says how long it runs, and what each of its VMs used but those whose server ends in `f`.
struct Host;

impl HostStreams for Host {
    fn get<'a>(&'a self, endpoint: &'a str, path: &'a str, _limit: usize) -> HostAnswer<'a> {
        assert_eq!(endpoint, "unix:/nowhere");
        let disk = DiskUsage { read_bytes: 512, read_requests: 1, write_bytes: 1024, write_requests: 2, errors: 3 };
        let usage =
            VmUsage { seconds: 77, cpu_nanoseconds: vec![5_000_000], resident_kib: Some(2048), disks: vec![disk] };
        let answer = match path {
            "/uptime" => (200, b" 03:04:05 up 1 min,  0 users,  load average: 0.10, 0.20, 0.30".to_vec()),
            path if path.starts_with("/usage/") && path.ends_with(".1") => (200, serde_json::to_vec(&usage).unwrap()),
            _ => (404, Vec::new()),
        };
        Box::pin(async move { Ok(answer) })
    }
}

async fn cloud() -> (Harness, Rows) {
    let mut h = Harness::new().await;
    let cloud = Cloud { streams: Arc::new(Host), ..h.cloud.clone() };
    h.face = Arc::new(Face::new(cloud, SERVICES));
    let rows = Rows::new(&h).await;
    (h, rows)
}

async fn at(h: &Harness, version: &str, path: &str) -> (u16, Value) {
    let header = format!("compute {version}");
    let answer = h.call_with("GET", path, &h.admin, &[("openstack-api-version", &header)], Value::Null).await;
    (answer.0, answer.2)
}

#[tokio::test]
async fn diagnostics_are_what_the_host_counts() {
    let (h, rows) = cloud().await;
    let server = json!({"name": "web", "imageRef": rows.image, "flavorRef": rows.small});
    let (_, _, made) = h.ok("POST", &format!("{V}/servers"), &h.demo, json!({"server": server})).await;
    let id = text(&made["server"]["id"]).to_owned();
    let path = format!("{V}/servers/{id}/diagnostics");
    let (status, body) = at(&h, "2.48", &path).await;
    assert!(status == 409 && body.to_string().contains("is not ready"), "{body}");
    rows.place(&h, &id, "node1", VmPhase::Running).await;

    let (status, old) = at(&h, "2.47", &path).await;
    let expected = json!({"cpu0_time": 5_000_000, "memory": 262_144, "memory-actual": 262_144, "memory-rss": 2048,
        "vda_read": 512, "vda_read_req": 1, "vda_write": 1024, "vda_write_req": 2, "vda_errors": 3});
    assert_eq!((status, old), (200, expected));
    let (status, new) = at(&h, "2.48", &path).await;
    assert_eq!(status, 200, "{new}");
    let plain: Vec<&Value> =
        ["state", "driver", "hypervisor", "uptime", "config_drive", "num_cpus", "num_nics", "num_disks"]
            .iter()
            .map(|name| &new[name])
            .collect();
    assert_eq!(json!(plain), json!(["running", "libvirt", "qemu", 77, false, 1, 1, 1]));
    assert_eq!(new["memory_details"], json!({"maximum": 256, "used": 2}));
    assert_eq!(new["cpu_details"], json!([{"id": 0, "time": 5_000_000, "utilisation": null}]));
    assert_eq!(new["disk_details"][0]["write_bytes"], 1024);
    let nic = new["nic_details"][0].as_object().unwrap();
    assert!(nic.len() == 11 && nic["mac_address"].is_string() && nic["rx_octets"].is_null(), "{nic:?}");
    assert_eq!(h.call("GET", &path, &h.demo, Value::Null).await.0, 403, "for administrators");

    for (phase, word) in [(VmPhase::Stopped, "shutdown"), (VmPhase::Paused, "paused"), (VmPhase::Unknown, "pending")] {
        rows.report(&h, &id, phase).await;
        let (status, body) = at(&h, "2.48", &path).await;
        assert!(status == 409 && body.to_string().contains(&format!("power state {word}")), "{phase:?}: {body}");
    }
    // The row says that it runs, the host says that it does not any more.
    rows.edit::<model::Server>(&h, &id, |server| server.incarnation = 2).await;
    rows.place(&h, &id, "node1", VmPhase::Running).await;
    assert_eq!(at(&h, "2.48", &path).await.0, 409);
}

#[tokio::test]
async fn a_hypervisor_says_how_long_it_runs() {
    let (h, rows) = cloud().await;
    let line = json!(" 03:04:05 up 1 min,  0 users,  load average: 0.10, 0.20, 0.30");
    let (_, list) = at(&h, "2.53", &format!("{V}/os-hypervisors")).await;
    let one = format!("{V}/os-hypervisors/{}", text(&list["hypervisors"][0]["id"]));
    let (status, old) = at(&h, "2.87", &format!("{one}/uptime")).await;
    assert_eq!((status, &old["hypervisor"]["uptime"], &old["hypervisor"]["state"]), (200, &line, &json!("up")));
    let (_, shown) = at(&h, "2.88", &one).await;
    assert_eq!(shown["hypervisor"]["uptime"], line);
    let (_, list) = at(&h, "2.88", &format!("{V}/os-hypervisors/detail")).await;
    assert_eq!(list["hypervisors"][0]["uptime"], line);
    assert!(at(&h, "2.88", &format!("{V}/os-hypervisors")).await.1["hypervisors"][0].get("uptime").is_none());
    rows.edit::<model::Host>(&h, "node1", |host| host.status.heartbeat = None).await;
    assert_eq!(at(&h, "2.88", &one).await.1["hypervisor"]["uptime"], Value::Null, "it is down");
}

#[tokio::test]
async fn a_guests_password_is_shown_until_it_is_taken_away() {
    let (h, rows) = cloud().await;
    let server = json!({"name": "web", "imageRef": rows.image, "flavorRef": rows.small});
    let (_, _, made) = h.ok("POST", &format!("{V}/servers"), &h.demo, json!({"server": server})).await;
    let id = text(&made["server"]["id"]).to_owned();
    let path = format!("{V}/servers/{id}/os-server-password");
    let show = async || h.ok("GET", &path, &h.demo, Value::Null).await.2;
    assert_eq!(show().await, json!({"password": ""}));
    rows.edit::<model::Server>(&h, &id, |server| server.guest_password = Some("s3cret".into())).await;
    assert_eq!(show().await, json!({"password": "s3cret"}));
    for _ in 0..2 {
        assert_eq!(h.call("DELETE", &path, &h.demo, Value::Null).await.0, 204);
    }
    assert_eq!(show().await, json!({"password": ""}));
}
