//! What requests that clients send most cost: CPU time of the handler alone, without a socket and TLS, over a cloud in memory
//! of 2,000 ports and 100 servers. `cargo run --release -p face-openstack --example cost`
//!
//! It prints and judges nothing: times differ from machine to machine. What must not grow is counted by tests.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::{Host, VmPhase};
use serde_json::{Value, json};

const SERVERS: usize = 100;
const PORTS: usize = 2000;
const BATCHES: usize = 5;
/// Nanoseconds.
const BATCH: u64 = 200_000_000;

/// Nanoseconds for which this thread has run.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// Returns the network on which the ports are.
async fn fill(h: &Harness) -> String {
    let rows = rows::Rows::new(h).await;
    let wide = |host: &mut Host| (host.cpu_milli, host.memory_mib, host.disk_gib) = (10_000_000, 10_000_000, 10_000);
    rows.edit::<Host>(h, "node1", wide).await;
    let unlimited = json!({"quota": {"port": -1}});
    h.ok("PUT", &format!("/network/v2.0/quotas/{}", h.demo_project), &h.admin, unlimited).await;
    let limits = json!({"quota_set": {"instances": -1, "cores": -1, "ram": -1}});
    h.ok("PUT", &format!("/compute/v2.1/os-quota-sets/{}", h.demo_project), &h.admin, limits).await;
    let network = json!({"network": {"name": "wide"}});
    let (_, _, network) = h.ok("POST", "/network/v2.0/networks", &h.demo, network).await;
    let network = text(&network["network"]["id"]).to_owned();
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.64.0.0/16"}});
    h.ok("POST", "/network/v2.0/subnets", &h.demo, subnet).await;
    for batch in 0..PORTS / 500 {
        let ports = (0..500).map(|n| json!({"network_id": network, "name": format!("port-{batch}-{n}")}));
        let ports = json!({"ports": ports.collect::<Vec<Value>>()});
        h.ok("POST", "/network/v2.0/ports", &h.demo, ports).await;
    }
    for n in 0..SERVERS {
        let server = json!({"server": {"name": format!("vm-{n}"), "imageRef": rows.image, "flavorRef": rows.small,
            "networks": [{"uuid": rows.network}]}});
        let (_, _, made) = h.ok("POST", "/compute/v2.1/servers", &h.demo, server).await;
        let id = text(&made["server"]["id"]);
        rows.place(h, id, "node1", VmPhase::Running).await;
    }
    network
}

/// Milliseconds for one more port on a network.
async fn one_more_port(h: &Harness, network: &str) -> f64 {
    const TIMES: u32 = 200;
    let before = cpu();
    for _ in 0..TIMES {
        h.ok("POST", "/network/v2.0/ports", &h.demo, json!({"port": {"network_id": network}})).await;
    }
    (cpu() - before) as f64 / f64::from(TIMES) / 1e6
}

/// Milliseconds for one request: the least of several batches, which others' work disturbs least. A batch is long, since the
/// kernel counts a thread's time in ticks.
async fn cost(h: &Harness, path: &str, token: &str, headers: &[(&str, &str)]) -> (f64, usize) {
    let mut best = f64::MAX;
    let mut size = 0;
    for _ in 0..BATCHES {
        let (before, mut times) = (cpu(), 0);
        while cpu() - before < BATCH {
            for _ in 0..10 {
                let (status, _, body) = h.raw("GET", path, token, headers, Vec::new()).await;
                assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
                size = body.len();
            }
            times += 10;
        }
        best = best.min((cpu() - before) as f64 / f64::from(times));
    }
    (best / 1e6, size)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Of the requests whose path has this in it.
    let only = std::env::args().nth(1).unwrap_or_default();
    let h = Harness::new().await;
    let network = fill(&h).await;
    let new: &[_] = &[("openstack-api-version", "compute 2.87")];
    let subject: &[_] = &[("x-subject-token", h.demo.as_str())];
    let ports = "/network/v2.0/ports";
    println!("{:>9} {:>9}  request", "ms", "bytes");
    for (path, token, headers) in [
        (format!("{ports}?limit=50"), &h.demo, &[] as &[_]),
        (format!("{ports}?limit=50&sort_key=name&sort_dir=desc"), &h.demo, &[]),
        (format!("{ports}?limit=50&status=DOWN&sort_key=mac_address"), &h.demo, &[]),
        (format!("{ports}?limit=50&fields=id"), &h.demo, &[]),
        (format!("{ports}?name=port-3-499"), &h.demo, &[]),
        (format!("{ports}?limit=50"), &h.admin, &[]),
        (ports.to_owned(), &h.demo, &[]),
        ("/network/v2.0/networks".to_owned(), &h.demo, &[]),
        ("/compute/v2.1/servers/detail".to_owned(), &h.demo, &[]),
        ("/compute/v2.1/servers/detail".to_owned(), &h.demo, new),
        ("/compute/v2.1/servers".to_owned(), &h.demo, &[]),
        ("/identity/v3/auth/tokens".to_owned(), &h.admin, subject),
        ("/identity/v3/auth/tokens?nocatalog".to_owned(), &h.admin, subject),
        ("/identity/v3".to_owned(), &h.admin, &[]),
    ] {
        if !path.contains(&only) {
            continue;
        }
        let (ms, size) = cost(&h, &path, token, headers).await;
        println!("{ms:>9.4} {size:>9}  GET {path}");
    }
    if ports.contains(&only) {
        println!("{:>9.4} {:>9}  POST {ports}", one_more_port(&h, &network).await, "");
    }
}
