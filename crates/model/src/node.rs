//! A host as a cluster sees it: a Node. What a host is stands in its own row, however many clusters there are; what a cluster
//! says of it (labels, annotations, taints, cordon) is an object of that cluster. Both together are the Node that clients read.
//! Refused: a stored Node of each host in each cluster. 5,000 hosts and 500 clusters were 2.5 million rows.

use serde_json::{Map, Value, json};

use crate::pod_security::list;
use crate::{
    Change, Cluster, Host, Key, KubeObject, Object, Realm, Resource, Row, Shortage, Snapshot, Time, object_in, seconds,
};

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

const READY: &str = "Ready";

/// The effect of the taints by which a host says that it is short of something.
const EFFECT: &str = "NoSchedule";

/// What the conditions of a host's nodes are: type, status, reason, message.
type Conditions = Vec<(&'static str, &'static str, &'static str, String)>;

/// The key of a host's Node in a cluster.
pub fn key(cluster: &str, host: &str) -> Key {
    KubeObject::key_of(cluster, "", "nodes", "", host)
}

/// The uid of a host's Node in a cluster.
pub fn uid(cluster: &str, host: &str) -> String {
    KubeObject::uid_of_node(cluster, host)
}

/// Whether an object is what a cluster said of a host that is gone: nobody sees it, and it is collected.
pub fn is_left(rows: &Snapshot, object: &KubeObject) -> bool {
    object.is_of_host() && rows.get::<Host>(&object.name).is_none()
}

/// The labels that a host gives its nodes; a cluster cannot say otherwise.
pub fn labels(host: &Host) -> [(&'static str, &str); 6] {
    let status = &host.status;
    let zone = if status.zone.is_empty() { crate::ZONE } else { &status.zone };
    [
        ("kubernetes.io/hostname", &host.name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &status.arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &status.arch),
        (ZONE_LABEL, zone),
    ]
}

/// The taints by which a host keeps pods away, each with when it came: key, effect, moment. Of what a silent host is short is not known.
pub fn taints(host: &Host) -> impl Iterator<Item = (&'static str, &'static str, Option<Time>)> {
    let short = CONDITIONS.iter().filter(|(resource, ..)| host.is_up() && host.status.short.contains(resource));
    short.map(|(_, condition, key, _)| (*key, EFFECT, host.status.turned.get(*condition).copied()))
}

fn conditions(host: &Host) -> Conditions {
    let status = &host.status;
    let kinds = CONDITIONS.iter().map(|(_, kind, ..)| *kind).chain([READY]);
    if !host.is_up() {
        let (reason, message) = match status.heartbeat {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        return kinds.map(|kind| (kind, "Unknown", reason, message.to_owned())).collect();
    }
    let problem = status.parts.iter().find(|(part, problem)| part == "pods" && !problem.is_empty());
    let ready = match problem {
        None => (READY, "True", "KubeletReady", "the agent is ready".to_owned()),
        Some((_, problem)) => (READY, "False", "ContainerRuntimeNotReady", problem.clone()),
    };
    let pressure = CONDITIONS.iter().map(|(resource, kind, _, [well, badly])| match status.short.contains(resource) {
        false => (*kind, "False", *well, "the host has enough".to_owned()),
        true => (*kind, "True", *badly, "the host is short of it, or was a moment ago".to_owned()),
    });
    pressure.chain([ready]).collect()
}

/// Notes on a host when the conditions of its nodes changed, compared with how it was before.
pub fn turn(host: &mut Host, before: &Host, now: Time) {
    let old = conditions(before);
    for (kind, status, ..) in conditions(host) {
        let same = old.iter().any(|(other, before, ..)| (*other, *before) == (kind, status));
        if !same || !host.status.turned.contains_key(kind) {
            host.status.turned.insert(kind.to_owned(), now);
        }
    }
}

/// Whether a host's nodes may show anything else now: not only that it is still there.
pub fn is_another(before: &Host, after: &Host) -> bool {
    let (old, mut alike) = (&before.status, after.clone());
    alike.status.reports = old.reports;
    if old.heartbeat.is_some() && alike.status.heartbeat.is_some() {
        alike.status.heartbeat = old.heartbeat;
    }
    *before != alike
}

/// A host's Node in a cluster, with what the cluster says of it; `heard` is the last sign of life.
pub fn of(host: &Host, cluster: &Cluster, said: Option<&KubeObject>, heard: Option<Time>) -> KubeObject {
    let mut body = said.map_or_else(|| json!({}), |said| said.body.clone());
    for (field, value) in [("apiVersion", "v1"), ("kind", "Node")] {
        body[field] = value.into();
    }
    let meta = object_in(&mut body, "metadata");
    for (field, value) in [
        ("name", host.name.clone()),
        ("uid", uid(&cluster.id, &host.name)),
        ("creationTimestamp", seconds(host.created_at.max(cluster.created_at))),
    ] {
        meta.entry(field).or_insert(value.into());
    }
    let set = object_in(&mut body["metadata"], "labels");
    labels(host).into_iter().for_each(|(label, value)| _ = set.insert(label.to_owned(), value.into()));
    let mut all: Vec<Value> = own_taints(&body).cloned().collect();
    all.extend(taints(host).map(|(key, effect, since)| match since {
        Some(since) => json!({"key": key, "effect": effect, "timeAdded": seconds(since)}),
        None => json!({"key": key, "effect": effect}),
    }));
    taint(&mut body, all);
    body["status"] = status(host, &body["status"], heard);
    KubeObject {
        cluster_id: cluster.id.clone(),
        project_id: cluster.project_id.clone(),
        group: String::new(),
        resource: "nodes".to_owned(),
        namespace: String::new(),
        name: host.name.clone(),
        body,
    }
}

/// The same as a row, as new as the newer of the two that it is made of; a cluster sees no host that is reserved for others.
pub fn row(host: &Row, cluster: &Cluster, said: Option<&Row>, heard: Option<Time>) -> Option<Row> {
    let Object::Host(value) = &host.object else { return None };
    let reserved = &value.status.reserved_for;
    if !reserved.is_empty() && !reserved.contains(&cluster.project_id) {
        return None;
    }
    let key = key(&cluster.id, &value.name);
    let (created, modified) = (host.created, said.map_or(0, |said| said.modified).max(host.modified));
    let object = of(value, cluster, said.and_then(|said| KubeObject::of(&said.object)), heard).into();
    Some(Row { key, object, created, modified })
}

/// Of a Node's body what its cluster says, without what its host does.
pub fn said(body: &Value, host: &Host) -> Value {
    let mut body = body.clone();
    let set = object_in(&mut body["metadata"], "labels");
    labels(host).iter().for_each(|(label, _)| _ = set.remove(*label));
    if set.is_empty() {
        object_in(&mut body, "metadata").remove("labels");
    }
    let own = own_taints(&body).cloned().collect();
    taint(&mut body, own);
    let (ours, mut status) = (status(host, &Value::Null, None), body["status"].take());
    for (field, value) in ours.as_object().into_iter().flatten() {
        match field.as_str() {
            "conditions" => {
                let own: Vec<Value> = list(&status, field).filter(|one| !is_condition(one)).cloned().collect();
                status[field.as_str()] = own.into();
            }
            "capacity" | "allocatable" => {
                let own = object_in(&mut status, field);
                value.as_object().into_iter().flatten().for_each(|(name, _)| _ = own.remove(name));
            }
            _ => _ = status.as_object_mut().and_then(|status| status.remove(field)),
        }
    }
    if let Some(status) = status.as_object_mut() {
        status.retain(|_, value| !value.is_null() && *value != json!([]) && *value != json!({}));
    }
    match status.as_object().is_some_and(|status| !status.is_empty()) {
        true => body["status"] = status,
        false => _ = body.as_object_mut().and_then(|body| body.remove("status")),
    }
    body
}

/// Whether a cluster says nothing of a host by a body that is left of its Node.
pub fn is_silent(said: &Value) -> bool {
    let meta = said["metadata"].as_object().into_iter().flatten();
    let plain = |name: &String| matches!(name.as_str(), "name" | "uid" | "creationTimestamp" | "managedFields");
    let empty = |field: &str| said[field].as_object().is_none_or(Map::is_empty);
    meta.into_iter().all(|(name, _)| plain(name)) && empty("spec") && empty("status")
}

/// Makes the Nodes of hosts that a store from before has what the clusters say of them.
pub fn upgrade(rows: &Snapshot) -> Change {
    let mut change = Change::new();
    let clusters = rows.all::<Cluster>().map(|cluster| Realm::cluster(&cluster.id));
    for node in clusters.flat_map(|realm| rows.names::<KubeObject>(&realm, &KubeObject::prefix("", "nodes", ""), None))
    {
        let Some(host) = rows.get::<Host>(&node.name) else { continue };
        let said = said(&node.body, host.value);
        match is_silent(&said) {
            true => _ = change.delete(node),
            false if said != node.body => _ = change.edit(node, |node| node.body = said),
            false => {}
        }
    }
    change
}

fn status(host: &Host, said: &Value, heard: Option<Time>) -> Value {
    let heard = heard.max(host.status.heartbeat);
    let stamp = |moment: Option<Time>| moment.map_or(Value::Null, |moment| json!(seconds(moment)));
    let of_host = conditions(host).into_iter().map(|(kind, status, reason, message)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": stamp(heard),
            "lastTransitionTime": stamp(host.status.turned.get(kind).copied().or(host.status.heartbeat)),
        })
    });
    let own = list(said, "conditions").filter(|condition| !is_condition(condition)).cloned();
    let room = |field: &str| {
        let mut room = said[field].clone();
        let ours = [
            ("cpu", format!("{}m", host.cpu_milli)),
            ("memory", format!("{}Mi", host.memory_mib)),
            ("pods", "110".to_owned()),
            ("ephemeral-storage", format!("{}Gi", host.disk_gib)),
        ];
        ours.into_iter().for_each(|(name, amount)| room[name] = amount.into());
        room
    };
    let internal = host.address().map(|ip| json!({"type": "InternalIP", "address": ip}));
    let addresses: Vec<Value> =
        internal.into_iter().chain([json!({"type": "Hostname", "address": host.name})]).collect();
    let mut status = if said.is_object() { said.clone() } else { json!({}) };
    let ours = json!({
        "capacity": room("capacity"), "allocatable": room("allocatable"),
        "conditions": of_host.chain(own).collect::<Vec<_>>(),
        "addresses": addresses,
        "nodeInfo": {
            "architecture": host.status.arch, "operatingSystem": "linux", "kernelVersion": host.status.kernel,
            "osImage": host.status.os, "containerRuntimeVersion": host.status.container_runtime,
            "kubeletVersion": format!("v1.35.0-braid.{}", host.status.version), "kubeProxyVersion": "",
            "machineID": host.id, "systemUUID": host.id, "bootID": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    });
    ours.as_object().into_iter().flatten().for_each(|(field, value)| status[field.as_str()] = value.clone());
    status
}

/// The taints of a Node that are not its host's to say.
pub fn own_taints(body: &Value) -> impl Iterator<Item = &Value> {
    let of_host =
        |taint: &Value| taint["effect"] == EFFECT && CONDITIONS.iter().any(|(_, _, key, _)| taint["key"] == **key);
    list(&body["spec"], "taints").filter(move |taint| !of_host(taint))
}

fn taint(body: &mut Value, taints: Vec<Value>) {
    let spec = object_in(body, "spec");
    match taints.is_empty() {
        true => _ = spec.remove("taints"),
        false => _ = spec.insert("taints".to_owned(), taints.into()),
    }
}

fn is_condition(condition: &Value) -> bool {
    condition["type"] == READY || CONDITIONS.iter().any(|(_, kind, ..)| condition["type"] == **kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostStatus, Network, Write};

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    fn host() -> Host {
        let status = HostStatus { heartbeat: Some(at(1)), short: vec![Shortage::Memory], ..HostStatus::default() };
        Host { status, ..Host::new("h", at(0)) }
    }

    fn cluster() -> Cluster {
        Cluster::new("c", &Network::new("n", "p", 1, at(0)), at(0))
    }

    /// What a cluster may say of a host.
    fn words() -> Value {
        json!({
            "metadata": {"labels": {"disk": "fast"}, "annotations": {"a": "b"}},
            "spec": {"unschedulable": true, "taints": [{"key": "k", "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Odd", "status": "True"}], "capacity": {"example.com/dongle": "1"}},
        })
    }

    #[test]
    fn a_cluster_keeps_what_it_says_and_nothing_of_the_host() {
        let (host, cluster) = (host(), cluster());
        let bare = of(&host, &cluster, None, None);
        assert!(is_silent(&said(&bare.body, &host)), "{}", said(&bare.body, &host));
        assert_eq!(bare.body["spec"]["taints"][0]["key"], "node.kubernetes.io/memory-pressure");
        let words = KubeObject { body: words(), ..bare.clone() };
        let shown = of(&host, &cluster, Some(&words), None);
        assert_eq!(shown.body["spec"]["taints"].as_array().map(Vec::len), Some(2));
        assert_eq!(shown.body["status"]["capacity"]["cpu"], "0m");
        let mut kept = said(&shown.body, &host);
        let meta = object_in(&mut kept, "metadata");
        ["name", "uid", "creationTimestamp"].iter().for_each(|field| assert!(meta.remove(*field).is_some()));
        ["apiVersion", "kind"].iter().for_each(|field| _ = object_of(&mut kept).remove(*field));
        assert_eq!(kept, words.body);
    }

    fn object_of(value: &mut Value) -> &mut Map<String, Value> {
        value.as_object_mut().unwrap()
    }

    #[test]
    fn conditions_turn_when_they_change() {
        let (before, mut after) = (host(), host());
        turn(&mut after, &before, at(5));
        let again = after.clone();
        turn(&mut after, &again, at(9));
        assert_eq!(after, again, "nothing changed");
        after.status.short.clear();
        turn(&mut after, &again, at(9));
        let turned = |kind: &str| after.status.turned[kind];
        assert_eq!([turned("MemoryPressure"), turned("Ready")], [at(9), at(5)]);
    }

    #[test]
    fn that_a_host_lives_makes_no_other_node() {
        let mut later = host();
        (later.status.heartbeat, later.status.reports) = (Some(at(60)), 7);
        assert!(!is_another(&host(), &later));
        later.status.silent = true;
        assert!(is_another(&host(), &later));
    }

    #[test]
    fn a_taint_is_of_the_host_by_key_and_effect() {
        let (host, cluster) = (host(), cluster());
        let taint = |effect: &str| json!({"key": "node.kubernetes.io/memory-pressure", "effect": effect});
        let mut written = of(&host, &cluster, None, None);
        written.body["spec"]["taints"] = json!([taint("NoSchedule"), taint("NoExecute")]);
        written.body = said(&written.body, &host);
        assert_eq!(written.body["spec"]["taints"], json!([taint("NoExecute")]));
        let shown = of(&host, &cluster, Some(&written), None);
        let effects: Vec<_> = list(&shown.body["spec"], "taints").map(|taint| taint["effect"].clone()).collect();
        assert_eq!(effects, ["NoExecute", "NoSchedule"]);
        // A Node that a cluster had before there was a host of its name.
        let calm = Host { status: HostStatus { short: Vec::new(), ..host.status.clone() }, ..host };
        written.body["spec"]["taints"] = json!([taint("NoSchedule")]);
        assert_eq!(of(&calm, &cluster, Some(&written), None).body["spec"], json!({}));
    }

    #[test]
    fn of_a_silent_host_nothing_is_known() {
        let mut silent = host();
        silent.status.silent = true;
        let is = |host: &Host, reason: &str, message: &str| {
            let fields = ["type", "status", "reason", "message"];
            let shown = of(host, &cluster(), None, None);
            let all = list(&shown.body["status"], "conditions");
            let conditions: Vec<_> =
                all.map(|one| fields.map(|field| one[field].as_str().unwrap().to_owned())).collect();
            let unknown = |kind: &str| [kind, "Unknown", reason, message].map(str::to_owned);
            assert_eq!(conditions, ["MemoryPressure", "DiskPressure", "Ready"].map(unknown));
        };
        is(&silent, "NodeStatusUnknown", "Kubelet stopped posting node status.");
        is(&Host::new("new", at(0)), "NodeStatusNeverUpdated", "Kubelet never posted node status.");
        let mut after = silent.clone();
        turn(&mut after, &host(), at(7));
        assert_eq!(after.status.turned["DiskPressure"], at(7));
        assert_eq!(taints(&silent).count(), 0);
    }

    #[test]
    fn nodes_from_before_are_what_clusters_said() {
        let (host, cluster) = (host(), cluster());
        let bare = of(&host, &cluster, None, None);
        let named = |name: &str| Host { name: name.into(), ..host.clone() };
        let mut spoken = of(&named("spoken"), &cluster, None, None);
        spoken.body["spec"]["unschedulable"] = true.into();
        let mut rows = Snapshot::default();
        let objects = [Object::from(host.clone()), named("spoken").into(), cluster.into(), bare.into(), spoken.into()];
        rows.apply(1, &objects.map(Write::Create));
        rows.apply(2, &upgrade(&rows).writes);
        let left: Vec<_> =
            rows.all::<KubeObject>().map(|node| (node.name.clone(), node.body["status"].clone())).collect();
        assert_eq!(left, [("spoken".to_owned(), Value::Null)]);
        assert!(upgrade(&rows).is_empty(), "once");
    }
}
