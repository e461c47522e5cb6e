//! What the agent says of its host: the Host row, and a Node in each Kubernetes cluster. It is committed when there is news;
//! that the host lives is said without a commit.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use driver::Health;
use jiff::SignedDuration;
use model::{Aggregate, Change, Cluster, Fault, Host, HostStatus, KubeObject, Snapshot, Time, seconds};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use serde_json::{Value, json};

use crate::pressure::{CONDITIONS, Resource};
use crate::{Agent, identity};

/// How often the agent says that it lives, and looks for what is new to report.
pub const REPORT_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Conditions of nodes say anew that they still hold after so many seconds, as kubelet's do.
const SAID_ANEW_SECONDS: i64 = 300;

/// A driver has so long to say how it is.
const HEALTH_LIMIT: Duration = Duration::from_secs(6);

/// The label that says in which availability zone a node is, as OpenStack's cloud provider sets it.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Writes the host's row and its nodes; while the host does nothing, only why.
pub async fn report(agent: &Agent) -> Result<(), Fault> {
    if agent.holds() {
        return hold(agent).await;
    }
    if let Some(reports) = write(agent).await? {
        identity::reported(agent, reports).map_err(|e| Fault::Unavailable(format!("noting the report: {e}")))?;
    }
    Ok(agent.store().beat(&agent.config().host, agent.now()).await?)
}

/// Without a heartbeat, so that nothing new is placed here.
async fn hold(agent: &Agent) -> Result<(), Fault> {
    let parts = questions(agent);
    agent
        .write(|snapshot| {
            let mut change = Change::new();
            if let Some(host) = snapshot.get::<Host>(&agent.config().host).filter(|host| host.status.parts != parts) {
                change.edit(host, |host| host.status.parts.clone_from(&parts));
            }
            Ok(change)
        })
        .await
}

/// What a person is asked, as a part of the host that is not well.
fn questions(agent: &Agent) -> Vec<(String, String)> {
    let how = "; `braid confirm` goes on all the same";
    agent.questions().into_iter().map(|words| (ASKS.to_owned(), words + how)).collect()
}

/// The part of a host that waits for a person.
const ASKS: &str = "asks";

/// Commits what is new, if anything is; how often the host has reported then. After the agent has committed anything else it
/// reports in any case: by the number of reports a host knows a store that is older than what was done here.
async fn write(agent: &Agent) -> Result<Option<u64>, Fault> {
    let drivers = agent.drivers();
    let (vm, pod, net) = tokio::join!(
        answered("VMs", drivers.vm.health()),
        answered("pods", drivers.pod.health()),
        answered("network", drivers.net.health()),
    );
    let now = agent.now();
    let parts = [&vm, &pod, &net].map(|h| (h.part.clone(), h.problem.clone()));
    let status = HostStatus {
        heartbeat: Some(now),
        silent: false,
        reports: 0,
        parts: parts.into_iter().chain(questions(agent)).collect(),
        notes: [&vm, &pod, &net]
            .into_iter()
            .filter(|h| !h.note.is_empty())
            .map(|h| (h.part.clone(), h.note.clone()))
            .collect(),
        accel: if vm.version.ends_with(", KVM") { "kvm" } else { "tcg" }.into(),
        address: address(),
        kernel: release(),
        os: os_name(),
        hypervisor_version: vm.version,
        container_runtime: pod.version,
    };
    let mut reports = None;
    let wrote = agent.inner.wrote.swap(false, Ordering::Relaxed);
    let short = agent.inner.pressure.short_of(now);
    let report = |snapshot: &Snapshot| {
        reports = None;
        let mut change = Change::new();
        let Some(host) = snapshot.get::<Host>(&agent.config().host) else { return Ok((change, ())) };
        let before = host.value;
        let mut value = Host { endpoint: agent.config().endpoint.clone(), ..before.clone() };
        value.status =
            HostStatus { heartbeat: before.status.heartbeat, reports: before.status.reports, ..status.clone() };
        nodes(&mut change, snapshot, &value, &short, now);
        for row in snapshot.all::<Host>().filter(|row| identity::is_mistaken(row, &value.name)) {
            change.delete(row);
        }
        if value != *before || !change.is_empty() || wrote || before.status.heartbeat.is_none() {
            value.status.heartbeat = Some(now);
            value.status.reports += 1;
            reports = Some(value.status.reports);
            change.update(host, value);
        }
        Ok((change, ()))
    };
    let done = agent.store().transact(report).await;
    if done.is_err() && wrote {
        agent.inner.wrote.store(true, Ordering::Relaxed);
    }
    done.map(|()| reports)
}

/// What a driver says of itself, or that it does not say anything: the host reports in any case.
async fn answered(part: &str, health: impl Future<Output = Health>) -> Health {
    tokio::time::timeout(HEALTH_LIMIT, health).await.unwrap_or_else(|_| Health {
        part: part.to_owned(),
        problem: format!("did not answer within {} s", HEALTH_LIMIT.as_secs()),
        ..Health::default()
    })
}

/// A Node object in every cluster, with what really changed.
fn nodes(change: &mut Change, snapshot: &Snapshot, host: &Host, short: &[Resource], now: Time) {
    let zone = Aggregate::zone_of(snapshot, &host.name);
    for cluster in snapshot.all::<Cluster>() {
        let key = KubeObject::key_of(&cluster.id, "", "nodes", "", &host.name);
        match snapshot.at::<KubeObject>(&key) {
            Some(node) => {
                let mut body = node.body.clone();
                body["status"] = node_status(host, &node.body["status"], short, now);
                body["spec"] = with_taints(&node.body["spec"], short, now);
                if body["metadata"]["labels"].is_object() {
                    body["metadata"]["labels"][ZONE_LABEL] = json!(zone);
                }
                if is_news(&body, &node.body, now) {
                    change.edit(node, |node| node.body = body);
                }
            }
            None => {
                let uid = model::derived_id(&["node", &cluster.id, &host.name]);
                change.create(KubeObject {
                    cluster_id: cluster.id.clone(),
                    project_id: cluster.project_id.clone(),
                    group: String::new(),
                    resource: "nodes".into(),
                    namespace: String::new(),
                    name: host.name.clone(),
                    body: json!({
                        "apiVersion": "v1", "kind": "Node",
                        "metadata": {
                            "name": host.name, "uid": uid, "creationTimestamp": seconds(now),
                            "labels": {
                                "kubernetes.io/hostname": host.name, "kubernetes.io/os": "linux",
                                "kubernetes.io/arch": arch(), "beta.kubernetes.io/os": "linux",
                                "beta.kubernetes.io/arch": arch(), ZONE_LABEL: zone,
                            },
                        },
                        "spec": with_taints(&json!({}), short, now),
                        "status": node_status(host, &Value::Null, short, now),
                    }),
                });
            }
        }
    }
}

/// Whether a node says anything new, or has not said for long that it is as it was.
fn is_news(body: &Value, before: &Value, now: Time) -> bool {
    let conditions = |body: &Value| body["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let recent = |condition: &Value| {
        let last = condition["lastHeartbeatTime"].as_str().and_then(|beat| beat.parse::<Time>().ok());
        last.is_some_and(|last| now.as_second() - last.as_second() < SAID_ANEW_SECONDS)
    };
    let said = conditions(before);
    if said.is_empty() || !said.iter().all(recent) {
        return true;
    }
    let mut same = body.clone();
    for (condition, said) in same["status"]["conditions"].as_array_mut().into_iter().flatten().zip(said) {
        condition["lastHeartbeatTime"] = said["lastHeartbeatTime"].clone();
    }
    same != *before
}

/// What a host is short of keeps pods away from its nodes.
fn with_taints(spec: &Value, short: &[Resource], now: Time) -> Value {
    let old = || spec["taints"].as_array().into_iter().flatten();
    let ours = |taint: &Value| CONDITIONS.iter().any(|(_, _, key, _)| taint["key"] == **key);
    let mut taints: Vec<Value> = old().filter(|taint| !ours(taint)).cloned().collect();
    for (resource, _, key, _) in CONDITIONS {
        if short.contains(&resource) {
            let new = || json!({"key": key, "effect": "NoSchedule", "timeAdded": seconds(now)});
            taints.push(old().find(|taint| taint["key"] == key).cloned().unwrap_or_else(new));
        }
    }
    let mut spec = spec.clone();
    if !taints.is_empty() {
        spec["taints"] = taints.into();
    } else if let Some(spec) = spec.as_object_mut() {
        spec.remove("taints");
    }
    spec
}

fn condition(before: &Value, kind: &str, status: &str, reason: &str, message: &str, now: Time) -> Value {
    let old = before["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
    let since = old.filter(|old| old["status"] == status).map(|old| old["lastTransitionTime"].clone());
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": seconds(now), "lastTransitionTime": since.unwrap_or_else(|| json!(seconds(now))),
    })
}

fn node_status(host: &Host, before: &Value, short: &[Resource], now: Time) -> Value {
    let problem = host.status.parts.iter().find(|(part, problem)| part == "pods" && !problem.is_empty());
    let (ready, reason, message) = match problem {
        None => ("True", "KubeletReady", "the agent is ready".to_owned()),
        Some((_, problem)) => ("False", "ContainerRuntimeNotReady", problem.clone()),
    };
    let mut conditions: Vec<Value> = CONDITIONS
        .iter()
        .map(|(resource, kind, _, [well, badly])| match short.contains(resource) {
            false => condition(before, kind, "False", well, "the host has enough", now),
            true => condition(before, kind, "True", badly, "the host is short of it, or was a moment ago", now),
        })
        .collect();
    conditions.push(condition(before, "Ready", ready, reason, &message, now));
    let room = json!({
        "cpu": format!("{}m", host.cpu_milli), "memory": format!("{}Mi", host.memory_mib), "pods": "110",
        "ephemeral-storage": format!("{}Gi", host.disk_gib),
    });
    let internal = host.address().map(|ip| json!({"type": "InternalIP", "address": ip}));
    let addresses: Vec<Value> =
        internal.into_iter().chain([json!({"type": "Hostname", "address": host.name})]).collect();
    json!({
        "capacity": room, "allocatable": room,
        "conditions": conditions,
        "addresses": addresses,
        "nodeInfo": {
            "architecture": arch(), "operatingSystem": "linux", "kernelVersion": host.status.kernel,
            "osImage": host.status.os, "containerRuntimeVersion": host.status.container_runtime,
            "kubeletVersion": concat!("v1.35.0-braid.", env!("CARGO_PKG_VERSION")), "kubeProxyVersion": "",
            "machineID": host.id, "systemUUID": host.id, "bootID": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    })
}

/// The address from which the machine speaks to others, as kubelets choose it: by the route that leads outside, else that of
/// the first device which is up. Nothing is sent.
fn address() -> Option<IpAddr> {
    let routed = |any: &str, outside: &str| {
        let socket = UdpSocket::bind(any).and_then(|socket| socket.connect(outside).map(|()| socket));
        Some(socket.ok()?.local_addr().ok()?.ip())
    };
    let routed = routed("0.0.0.0:0", "192.0.2.1:9").or_else(|| routed("[::]:0", "[2001:db8::1]:9"));
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(_) => false,
    };
    let of_device = |device: InterfaceAddress| -> Option<IpAddr> {
        let up = device.flags.contains(InterfaceFlags::IFF_UP);
        Some(IpAddr::V4(device.address?.as_sockaddr_in()?.ip())).filter(|_| up)
    };
    routed.or_else(|| getifaddrs().ok()?.filter_map(of_device).find(usable))
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn os_name() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// What a machine has, for its first Host row.
pub fn measure(name: &str, dir: &std::path::Path, endpoint: &str, now: Time) -> Host {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    Host {
        cpu_milli: cores * 1000 * CPU_OVERCOMMIT,
        memory_mib: memory_mib().saturating_sub(RESERVED_MIB).max(256),
        disk_gib: disk_gib(dir),
        cores,
        endpoint: endpoint.to_owned(),
        traits: vec!["COMPUTE_NODE".into()],
        ..Host::new(name, now)
    }
}

/// Nova's default: four promised cores for a real one.
const CPU_OVERCOMMIT: u64 = 4;
/// Nova's default for the host itself.
const RESERVED_MIB: u64 = 512;

/// The memory of the machine.
pub(crate) fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    total.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(1024, |kb| kb / 1024)
}

fn disk_gib(dir: &std::path::Path) -> u64 {
    match nix::sys::statvfs::statvfs(dir) {
        Ok(fs) => fs.blocks_available().saturating_mul(fs.fragment_size()) >> 30,
        Err(_) => 1,
    }
}
