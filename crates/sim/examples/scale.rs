//! What planning costs at size: hosts, clusters, servers and ReplicaSets in the store in memory, the planners as `braid` runs
//! them, no agents. Prints, as JSON, how many pods are bound in a second of the processor, what a pod costs at the beginning and
//! at the end, what one more pod and a Deployment of a thousand cost then, and the memory of it all.
//!
//!   cargo run --release -p sim --example scale -- HOSTS CLUSTERS PODS [SERVERS]

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Instant;

use model::{
    Change, Cluster, Committed, Domain, Flavor, Host, HostStatus, KubeObject, Network, NicRequest, Port, Project,
    Quota, Server, Subnet, Time, Vm, Write,
};
use plan::{Agenda, PLANNERS, Seen};
use serde_json::{Value, json};
use store::{Store, Watch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pods of one ReplicaSet.
const REPLICAS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let (hosts, clusters, pods, servers) = (number(1000)?, number(50)?, number(10_000)?, number(0)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(play(hosts, clusters, pods, servers))?;
    println!("{figures:#}");
    Ok(())
}

struct Cloud {
    store: Store,
    agenda: Agenda,
    news: Watch,
}

impl Cloud {
    /// Plans until nothing is due.
    async fn plan(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            let mut busy = false;
            for (at, planner) in PLANNERS.iter().enumerate() {
                while let Some(commit) = self.news.next_now()? {
                    let commit: &Committed = &commit;
                    let rows = self.store.snapshot();
                    commit.events.iter().for_each(|event| self.agenda.touch(&rows, event, Time::now()));
                }
                let items = self.agenda.take(at, Time::now());
                busy |= !items.is_empty();
                let book = self.store.book();
                let seen = Seen { rows: &book.snapshot, ledger: &book.ledger };
                let plan = (planner.plan)(&seen, &items, Time::now());
                self.agenda.planned(at, &plan);
                for step in plan.steps {
                    if let Err(store::StoreFault::Refused(refused)) = self.store.commit(&step.change).await {
                        self.agenda.refused(at, &step.items, &refused, Time::now());
                    }
                }
            }
            if !busy {
                return Ok(());
            }
        }
    }

    fn bound(&self) -> usize {
        let rows = self.store.snapshot();
        rows.all::<KubeObject>().filter(|o| o.is_pod() && o.body["spec"]["nodeName"].is_string()).count()
    }
}

async fn play(hosts: usize, clusters: usize, pods: usize, servers: usize) -> Result<Value, Box<dyn Error>> {
    let store = Store::memory();
    for part in first_rows(hosts, clusters).chunks(1000) {
        store.commit(&Change { writes: part.to_vec(), ..Change::new() }).await?;
    }
    let rows = store.snapshot();
    let mut cloud = Cloud { agenda: Agenda::new(&rows), news: store.watch(rows.revision())?, store };
    cloud.plan().await?;
    let before = cpu();
    for first in (0..servers).step_by(1000) {
        for n in first..servers.min(first + 1000) {
            cloud.store.commit(&server(n, clusters).into()).await?;
        }
        cloud.plan().await?;
    }
    let placed = cloud.store.snapshot().all::<Vm>().filter(|vm| vm.host.is_some()).count();
    let of_servers = (cpu() - before) * 1000.0 / servers.max(1) as f64;
    let empty = rss();
    let sets = pods / REPLICAS;
    let part = sets.div_ceil(5).max(1);
    let (begun, mut parts) = (cpu(), Vec::new());
    for first in (0..sets).step_by(part) {
        let before = cpu();
        for set in first..sets.min(first + part) {
            cloud.store.commit(&replica_set(set, clusters).into()).await?;
        }
        cloud.plan().await?;
        parts.push((cpu() - before) * 1000.0 / (REPLICAS * part.min(sets - first)) as f64);
    }
    let (all, bound, full) = (cpu() - begun, cloud.bound(), rss());
    let before = cpu();
    for one in 0..100 {
        cloud.store.commit(&pod(one, clusters).into()).await?;
        cloud.plan().await?;
    }
    let one = (cpu() - before) * 10.0;
    let (before, at, pods_before) = (cpu(), Instant::now(), cloud.bound());
    cloud.store.commit(&deployment(clusters).into()).await?;
    cloud.plan().await?;
    let (of_thousand, thousand, more) = (cpu() - before, at.elapsed().as_secs_f64(), cloud.bound() - pods_before);
    Ok(json!({
        "hosts": hosts, "clusters": clusters, "pods": pods, "bound": bound, "servers placed": placed,
        "CPU-ms of a server": rounded(of_servers),
        "a Deployment of 1,000": {"bound": more, "CPU-s": rounded(of_thousand), "s": rounded(thousand)},
        "bound in a second of the processor": (bound as f64 / all).round(),
        "CPU-ms of a pod, by fifths": parts.iter().map(|ms| rounded(*ms)).collect::<Vec<_>>(),
        "CPU-ms of one more": rounded(one),
        "ports": cloud.store.snapshot().all::<Port>().count(), "rows": cloud.store.snapshot().len(),
        "KiB of a pod, its port and events": (full.saturating_sub(empty)) / bound.max(1) as u64,
        "MiB": full / 1024,
    }))
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn first_rows(hosts: usize, clusters: usize) -> Vec<Write> {
    let now = Time::now();
    let mut change = Change::new();
    change.create(Domain {
        id: "default".into(),
        name: "Default".into(),
        description: String::new(),
        enabled: true,
        tags: Vec::new(),
        options: Default::default(),
    });
    for n in 0..hosts {
        change.create(Host {
            cpu_milli: 256_000,
            memory_mib: 1 << 20,
            disk_gib: 1000,
            status: HostStatus {
                heartbeat: now.checked_add(jiff::SignedDuration::from_hours(9)).ok(),
                ..HostStatus::default()
            },
            ..Host::new(&format!("host-{n:05}"), now)
        });
    }
    for n in 0..clusters {
        let project = format!("project-{n}");
        change.create(Project::new(&project, &project, "default"));
        let mut quota = Quota::new(&project);
        model::quota::all().for_each(|limited| _ = quota.limits.insert(limited.name.into(), None));
        change.create(quota);
        let network = Network::new(format!("net-{n}"), &project, n as u32 + 1, now);
        let cluster = Cluster::new(cluster(n), &network, now);
        let subnet = Subnet {
            pools: vec![(Ipv4Addr::new(10, 0, 0, 2).into(), Ipv4Addr::new(10, 255, 255, 254).into())],
            ..Subnet::new(format!("subnet-{n}"), &network, (Ipv4Addr::new(10, 0, 0, 0).into(), 8), now)
        };
        change.create(network);
        change.create(subnet);
        change.create(cluster);
        change.create(object(n, "", "namespaces", "", "default", json!({})));
    }
    change.writes
}

fn cluster(n: usize) -> String {
    format!("cluster-{n}")
}

fn object(n: usize, group: &str, resource: &str, namespace: &str, name: &str, mut body: Value) -> KubeObject {
    body["metadata"]["name"] = json!(name);
    body["metadata"]["uid"] = json!(model::derived_id(&[&cluster(n), resource, name]));
    KubeObject {
        cluster_id: cluster(n),
        project_id: format!("project-{n}"),
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        body,
    }
}

fn container() -> Value {
    json!({"name": "c", "image": "tiny", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}})
}

fn replica_set(set: usize, clusters: usize) -> KubeObject {
    let labels = json!({"app": format!("set-{set}")});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container()]}});
    let spec = json!({"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template});
    let body = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec});
    object(set % clusters, "apps", "replicasets", "default", &format!("set-{set}"), body)
}

fn deployment(clusters: usize) -> KubeObject {
    let template = json!({"metadata": {"labels": {"app": "many"}}, "spec": {"containers": [container()]}});
    let spec = json!({"replicas": 1000, "selector": {"matchLabels": {"app": "many"}}, "template": template});
    let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec});
    object(clusters / 2, "apps", "deployments", "default", "many", body)
}

fn server(n: usize, clusters: usize) -> Server {
    let (project, network) = (format!("project-{}", n % clusters), format!("net-{}", n % clusters));
    let nic = NicRequest { network_id: Some(network), ..NicRequest::default() };
    let flavor = Flavor::new("small", "small", 1, 512, 1);
    Server { nics: vec![nic], ..Server::new(&format!("server-{n}"), &project, "web", flavor, Time::now()) }
}

fn pod(one: usize, clusters: usize) -> KubeObject {
    let body = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container()]}});
    object(one % clusters, "", "pods", "default", &format!("one-{one}"), body)
}

/// Seconds of the processor that this process has used.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// KiB of memory.
fn rss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
