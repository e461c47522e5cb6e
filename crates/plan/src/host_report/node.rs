//! A host as its clusters' Nodes. A Node says anew, once in a while, that it is as it was; else it is written when something
//! about it changes.

use model::host_report::Shortage;
use model::{Aggregate, Change, Cluster, Host, KubeObject, Snapshot, Time, seconds};
use serde_json::{Value, json};

/// Conditions of nodes say anew that they still hold after so many seconds, as kubelet's do.
const SAID_ANEW_SECONDS: i64 = 300;

/// The label that says in which availability zone a node is, as OpenStack's cloud provider sets it.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What a node shows for what its host is short of: the condition's type, its taint, and words for both states.
const CONDITIONS: [(Shortage, &str, &str, [&str; 2]); 2] = [
    (
        Shortage::Memory,
        "MemoryPressure",
        "node.kubernetes.io/memory-pressure",
        ["KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"],
    ),
    (
        Shortage::Disk,
        "DiskPressure",
        "node.kubernetes.io/disk-pressure",
        ["KubeletHasNoDiskPressure", "KubeletHasDiskPressure"],
    ),
];

/// A Node object in every cluster, with what really changed.
pub fn everywhere(change: &mut Change, rows: &Snapshot, host: &Host, short: &[Shortage], now: Time) {
    let zone = Aggregate::zone_of(rows, &host.name);
    for cluster in rows.all::<Cluster>() {
        let key = KubeObject::key_of(&cluster.id, "", "nodes", "", &host.name);
        match rows.at::<KubeObject>(&key) {
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
                                "kubernetes.io/arch": host.status.arch, "beta.kubernetes.io/os": "linux",
                                "beta.kubernetes.io/arch": host.status.arch, ZONE_LABEL: zone,
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
fn with_taints(spec: &Value, short: &[Shortage], now: Time) -> Value {
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

fn node_status(host: &Host, before: &Value, short: &[Shortage], now: Time) -> Value {
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
            "architecture": host.status.arch, "operatingSystem": "linux", "kernelVersion": host.status.kernel,
            "osImage": host.status.os, "containerRuntimeVersion": host.status.container_runtime,
            "kubeletVersion": format!("v1.35.0-braid.{}", host.status.version), "kubeProxyVersion": "",
            "machineID": host.id, "systemUUID": host.id, "bootID": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    })
}
