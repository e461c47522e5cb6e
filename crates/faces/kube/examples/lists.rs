//! What requests that clients send most cost: CPU time of the handler alone, without a socket and TLS, over a cluster in memory
//! of 1,000 pods that run. `cargo run --release -p face-kube --example lists`
//!
//! It prints and judges nothing: times differ from machine to machine. What must not grow is counted by tests.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{World, pod};
use http::Method;
use model::{Change, KubeObject, Quota};
use serde_json::{Value, json};

const PODS: usize = 1000;
const BATCHES: usize = 5;
/// Nanoseconds.
const BATCH: u64 = 200_000_000;

/// Nanoseconds for which this thread has run.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

async fn fill(world: &World) {
    let snapshot = world.store.snapshot();
    let quota = snapshot.all::<Quota>().find(|q| q.project_id == world.cluster.project_id).expect("a quota");
    let mut change = Change::new();
    change.edit(quota, |quota| model::quota::all().for_each(|l| _ = quota.limits.insert(l.name.into(), None)));
    world.store.commit(&change).await.expect("a commit");
    for n in 0..PODS {
        let path = "/api/v1/namespaces/default/pods";
        assert_eq!(world.post(path, pod(&format!("pod-{n}"))).await.0, 201);
    }
    // As their hosts leave them.
    let snapshot = world.store.snapshot();
    for object in snapshot.all::<KubeObject>().filter(|object| object.is_pod()) {
        let mut change = Change::new();
        change.edit(object, |object| run(&mut object.body));
        world.store.commit(&change).await.expect("a commit");
    }
}

fn run(body: &mut Value) {
    let at = "2026-11-29T12:00:00Z";
    body["spec"]["nodeName"] = json!("host-00001");
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": at});
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    body["status"] = json!({
        "phase": "Running", "qosClass": "BestEffort", "startTime": at, "hostIP": "192.0.2.1",
        "hostIPs": [{"ip": "192.0.2.1"}], "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}],
        "conditions": conditions.map(condition),
        "containerStatuses": [{"name": "c", "ready": true, "started": true, "restartCount": 0, "image": "busybox:1",
            "imageID": format!("docker.io/library/busybox@sha256:{}", "0".repeat(64)),
            "containerID": format!("containerd://{}", "0".repeat(64)), "lastState": {},
            "state": {"running": {"startedAt": at}}}],
    });
}

/// Milliseconds for one request: the least of several batches, which others' work disturbs least. A batch is long, since the
/// kernel counts a thread's time in ticks.
async fn cost(world: &World, path: &str, accept: &str) -> (f64, usize) {
    let mut best = f64::MAX;
    let mut size = 0;
    for _ in 0..BATCHES {
        let (before, mut times) = (cpu(), 0);
        while cpu() - before < BATCH {
            for _ in 0..10 {
                let mut request = world.request(Method::GET, path, "application/json", &Value::Null);
                request.headers_mut().insert("accept", accept.parse().expect("a header"));
                let (status, _, bytes) = world.raw(request).await;
                assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&bytes));
                size = bytes.len();
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
    let world = World::new().await;
    fill(&world).await;
    let (plain, table) = ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let pods = "/api/v1/namespaces/default/pods";
    println!("{:>9} {:>9}  request", "ms", "bytes");
    for (path, accept, what) in [
        (pods.to_owned(), plain, ""),
        (pods.to_owned(), table, " as a table"),
        (pods.to_owned(), partial, " metadata alone"),
        (format!("{pods}?limit=50"), plain, ""),
        (format!("{pods}?labelSelector=app%3Dpod-7"), plain, ""),
        (format!("{pods}/pod-7"), plain, ""),
    ] {
        if !path.contains(&only) {
            continue;
        }
        let (ms, size) = cost(&world, &path, accept).await;
        println!("{ms:>9.4} {size:>9}  GET {path}{what}");
    }
}
