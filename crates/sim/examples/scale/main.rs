//! What a cloud costs at size: hosts, clusters, servers and ReplicaSets in the store of the binary, on a disk; the planners as
//! `braid` runs them; both faces, which a tenant's clients ask meanwhile; no agents. Prints, as JSON, how many pods are bound in a
//! second of the processor, what a pod costs at the beginning and at the end, what one more pod and a Deployment of a thousand
//! cost then, how long a `get` takes meanwhile, what the process does when nothing is to be done but to hear its hosts, and the
//! memory of it all.
//!
//!   cargo run --release -p sim --example scale -- HOSTS CLUSTERS PODS [SERVERS]

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are what it is for")]

mod clients;
mod planners;
mod rows;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use face_kube::Kube;
use gate::Gate;
use model::{Change, Port, Project, Quota};
use serde_json::{Value, json};
use store::Store;
use tokio::runtime::Runtime;

use clients::{Clients, Faces};
use planners::Cloud;
use rows::{REPLICAS, Tenants};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For so long nothing happens at the end.
const IDLE: Duration = Duration::from_secs(20);
/// What is asked for meanwhile.
const ASKED: &[(&str, &str)] = &[
    ("get of a pod", "/clusters/cluster-0/api/v1/namespaces/default/pods/asked"),
    ("get of a ConfigMap", "/clusters/cluster-0/api/v1/namespaces/default/configmaps/asked"),
    ("get of a server", "/compute/v2.1/servers/server-0"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let size = Size {
        hosts: number(1000)?,
        clusters: number(50)?,
        sets: number(10_000)? / REPLICAS,
        servers: number(0)?.max(1),
    };
    let folder = tempfile::tempdir()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).thread_name("scale").enable_all().build()?;
    let planners = ::planners::threads()?;
    let figures = runtime.block_on(async {
        let store = Store::open_sqlite(folder.path().join("db")).await?;
        let figures = play(&store, &size, &planners).await;
        store.close().await;
        figures
    })?;
    println!("{figures:#}");
    Ok(())
}

struct Size {
    hosts: usize,
    clusters: usize,
    sets: usize,
    servers: usize,
}

async fn play(store: &Store, size: &Size, planners: &Runtime) -> Result<Value, Box<dyn Error>> {
    let load = load();
    let (tenants, faces, kube) = begin(store, size).await?;
    clients::hosts(store.clone(), size.hosts)?;
    let mut cloud = Cloud::new(store.clone(), kube, planners)?;
    // The pod that clients ask for.
    cloud.places(1).await?;
    let begun = cpu();
    for first in (0..size.servers).step_by(1000) {
        for n in first..size.servers.min(first + 1000) {
            store.commit(&tenants.server(n).into()).await?;
        }
        cloud.places(1000.min(size.servers - first)).await?;
    }
    let of_server = all(&begun) * 1000.0 / size.servers as f64;
    let (quiet, empty) = (Clients::start(faces.clone(), ASKED)?, rss());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let quiet = quiet.end()?;
    let busy = Clients::start(faces, ASKED)?;
    let pods = pods(&mut cloud, &tenants, size.sets).await?;
    let full = rss();
    let more = more(&mut cloud, &tenants).await?;
    let busy = busy.end()?;
    clients::baseline(size.hosts)?;
    let idle = idle().await;
    let bound = pods["bound"].as_u64().unwrap_or(0).max(1);
    Ok(json!({
        "hosts": size.hosts, "clusters": size.clusters, "servers placed": size.servers, "pods": pods, "more": more,
        "CPU-ms of a server": rounded(of_server),
        "KiB of a pod, its port and events": (full.saturating_sub(empty)) / bound,
        "MiB": full / 1024, "MiB at the end": rss() / 1024,
        "before": quiet, "meanwhile": busy, "idle, CPU of a core in percent": idle,
        "ports": store.snapshot().all::<Port>().count(), "rows": store.snapshot().len(),
        "load average, before and after": [load, self::load()],
    }))
}

/// The first rows, and what the clients ask for.
async fn begin(store: &Store, size: &Size) -> Result<(Tenants, Faces, Kube), Box<dyn Error>> {
    let gate = Arc::new(Gate::with_cost(store.clone(), 4));
    gate.bootstrap("admin-secret", "demo-secret").await?;
    let rows = store.snapshot();
    let first = rows.all::<Project>().find(|project| project.name == "demo").ok_or("no project")?;
    let tenants = Tenants { clusters: size.clusters, first: first.id.clone() };
    let quota = rows.get::<Quota>(&tenants.first).ok_or("no quota")?;
    let mut change = Change::new();
    change.edit(quota, |quota| {
        model::quota::all().for_each(|limited| _ = quota.limits.insert(limited.name.into(), None));
    });
    store.commit(&change).await?;
    let hosts = rows::hosts(size.hosts);
    let parts = hosts.chunks(1000).map(<[_]>::to_vec).chain((0..size.clusters).map(|n| tenants.tenant(n)));
    for writes in parts {
        store.commit(&Change { writes, ..Change::new() }).await?;
    }
    store.commit(&tenants.pod(0, "asked").into()).await?;
    store.commit(&tenants.config_map(0, "asked").into()).await?;
    let kube = Kube::new(store.for_requests(), gate.clone());
    let faces = Faces::new(store, gate, kube.clone()).await?;
    Ok((tenants, faces, kube))
}

/// ReplicaSets, a fifth of them at a time.
async fn pods(cloud: &mut Cloud, tenants: &Tenants, sets: usize) -> Result<Value, Box<dyn Error>> {
    let part = sets.div_ceil(5).max(1);
    let (begun, at, mut parts) = (cpu(), Instant::now(), Vec::new());
    for first in (0..sets).step_by(part) {
        let before = cpu();
        let last = sets.min(first + part);
        for set in first..last {
            cloud.store.commit(&tenants.replica_set(set).into()).await?;
        }
        cloud.places(REPLICAS * (last - first)).await?;
        parts.push(rounded(all(&before) * 1000.0 / (REPLICAS * (last - first)) as f64));
    }
    let (took, bound) = (at.elapsed().as_secs_f64(), sets * REPLICAS);
    cloud.rest().await;
    let threads = spent(&begun);
    let placing: f64 = threads.iter().filter(|(name, _)| *name != "clients").map(|(_, seconds)| seconds).sum();
    Ok(json!({
        "bound": bound, "s": rounded(took), "bound in a second": (bound as f64 / took).round(),
        "bound in a second of the processor": (bound as f64 / placing).round(),
        "CPU-ms of a pod, by fifths": parts, "CPU-s by thread": of_each(&threads),
    }))
}

/// One more pod, a hundred times, and a Deployment of a thousand.
async fn more(cloud: &mut Cloud, tenants: &Tenants) -> Result<Value, Box<dyn Error>> {
    let before = cpu();
    for one in 0..100 {
        cloud.store.commit(&tenants.pod(one, &format!("one-{one}")).into()).await?;
        cloud.places(1).await?;
    }
    cloud.rest().await;
    let of_one = of_each(&spent(&before).into_iter().map(|(name, s)| (name, s * 10.0)).collect());
    let (before, at) = (cpu(), Instant::now());
    cloud.store.commit(&tenants.deployment().into()).await?;
    cloud.places(1000).await?;
    let took = at.elapsed().as_secs_f64();
    cloud.rest().await;
    let spent = spent(&before);
    Ok(json!({
        "CPU-ms of one more": of_one,
        "a Deployment of 1,000": {"s": rounded(took), "CPU-s": of_each(&spent)},
    }))
}

/// Nothing is to be done, and all hosts say that they live: percents of a core that each thread uses.
async fn idle() -> Value {
    let before = cpu();
    tokio::time::sleep(IDLE).await;
    let percent = |seconds: f64| seconds * 100.0 / IDLE.as_secs_f64();
    of_each(&spent(&before).into_iter().map(|(name, s)| (name, percent(s))).collect())
}

pub fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Seconds of the processor that each thread has used.
fn cpu() -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let used = read("schedstat").split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
        *all.entry(read("comm").trim().to_owned()).or_default() += used;
    }
    all
}

/// Since then.
fn spent(before: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    cpu().into_iter().map(|(name, now)| (name.clone(), now - before.get(&name).copied().unwrap_or(0.0))).collect()
}

fn all(before: &BTreeMap<String, f64>) -> f64 {
    spent(before).values().sum()
}

fn of_each(threads: &BTreeMap<String, f64>) -> Value {
    threads
        .iter()
        .map(|(name, seconds)| (name.clone(), json!(rounded(*seconds))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// KiB of memory.
fn rss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
