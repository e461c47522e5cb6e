//! ReplicaSets: as many pods of a template as asked for.

use model::{Change, Entry, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::{New, all, condition, controlled, delete, number, set_status, suffix};

/// The most pods that one commit makes or removes.
const BATCH: usize = 100;

/// Makes and removes pods, and counts them into each ReplicaSet's status.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    all(snapshot, "apps", "replicasets").flat_map(|set| one(snapshot, set, now)).collect()
}

fn one(snapshot: &Snapshot, set: Entry<'_, KubeObject>, now: Time) -> Vec<Change> {
    let pods: Vec<_> =
        controlled(snapshot, set.value, "", "pods").filter(|pod| !pod.deleting() && !pod.pod_finished()).collect();
    let wanted = number(&set.body["spec"]["replicas"], 1).max(0) as usize;
    let status = status(set.value, &pods, now);
    if set.deleting() || pods.len() == wanted {
        let mut change = Change::new();
        set_status(&mut change, set, status);
        return vec![change].into_iter().filter(|c| !c.is_empty()).collect();
    }
    if pods.len() > wanted {
        let mut change = Change::new();
        for pod in victims(pods.clone(), pods.len() - wanted).into_iter().take(BATCH) {
            delete(&mut change, pod, now);
        }
        claim(&mut change, set, status);
        return vec![change];
    }
    // If the batch is refused, because a quota has room for fewer, one at a time goes as far as it can.
    let missing = (wanted - pods.len()).min(BATCH);
    let make = |count: usize| {
        let mut change = Change::new();
        for pod in new_pods(snapshot, set.value, count, now) {
            change.create(pod);
        }
        claim(&mut change, set, status.clone());
        change
    };
    if missing == 1 { vec![make(1)] } else { vec![make(missing), make(1)] }
}

/// Writes the ReplicaSet's row whatever its status says: two plans from one snapshot exclude each other.
fn claim(change: &mut Change, set: Entry<'_, KubeObject>, status: Value) {
    change.edit(set, |set| set.body["status"] = status);
}

fn status(set: &KubeObject, pods: &[Entry<'_, KubeObject>], now: Time) -> Value {
    let ready = pods.iter().filter(|pod| condition(pod.value, "Ready")).count();
    let settle = number(&set.body["spec"]["minReadySeconds"], 0);
    let available = pods.iter().filter(|pod| available(pod.value, settle, now)).count();
    let labels = &set.body["spec"]["template"]["metadata"]["labels"];
    let labelled =
        pods.iter().filter(|pod| super::matches(&json!({"matchLabels": labels}), &pod.body["metadata"]["labels"]));
    let mut status = json!({
        "replicas": pods.len(),
        "fullyLabeledReplicas": labelled.count(),
        "readyReplicas": ready,
        "availableReplicas": available,
        "observedGeneration": set.body["metadata"]["generation"],
    });
    // Go leaves out zeroes; clients compare objects.
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|name, value| name == "replicas" || *value != json!(0));
    }
    status
}

/// Ready for as long as the template demands.
pub(crate) fn available(pod: &KubeObject, settle: i64, now: Time) -> bool {
    if !condition(pod, "Ready") {
        return false;
    }
    if settle == 0 {
        return true;
    }
    let conditions = pod.body["status"]["conditions"].as_array();
    let since = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
    let since = since.and_then(|c| c["lastTransitionTime"].as_str()?.parse::<Time>().ok());
    since.is_some_and(|since| now.duration_since(since).as_secs() >= settle)
}

/// Which pods go first: those without a host, those that are not ready, the youngest.
fn victims(mut pods: Vec<Entry<'_, KubeObject>>, count: usize) -> Vec<Entry<'_, KubeObject>> {
    pods.sort_by_key(|pod| {
        let placed = pod.body["spec"]["nodeName"].is_string();
        (placed, condition(pod.value, "Ready"), std::cmp::Reverse(pod.row.created), pod.name.clone())
    });
    pods.truncate(count);
    pods
}

fn new_pods(snapshot: &Snapshot, set: &KubeObject, count: usize, now: Time) -> Vec<KubeObject> {
    let template = &set.body["spec"]["template"];
    let mut pods = Vec::with_capacity(count);
    let mut attempt = 0u64;
    while pods.len() < count {
        let salt = format!("{}.{attempt}", snapshot.revision());
        attempt += 1;
        let stem: String = set.name.chars().take(57).collect();
        let name = format!("{stem}-{}", suffix(&format!("{}/{salt}", set.uid())));
        let key = KubeObject::key_of(&set.cluster_id, "", "pods", &set.namespace, &name);
        if snapshot.row(&key).is_some() || pods.iter().any(|p: &KubeObject| p.name == name) {
            continue;
        }
        let mut meta = json!({"labels": template["metadata"]["labels"], "generateName": format!("{stem}-")});
        if template["metadata"]["annotations"].is_object() {
            meta["annotations"] = template["metadata"]["annotations"].clone();
        }
        let body = json!({
            "metadata": meta, "spec": template["spec"],
            "status": {"phase": "Pending", "qosClass": qos(&template["spec"])},
        });
        let new = New { owner: set, api_version: "v1", kind: "Pod", resource: "pods", name, salt };
        pods.push(new.object(body, now));
    }
    pods
}

/// The pod's quality-of-service class, as the API server sets it.
fn qos(spec: &Value) -> &'static str {
    let mut any = false;
    let mut all_limited = true;
    let lists = ["containers", "initContainers"];
    for container in lists.iter().flat_map(|list| spec[*list].as_array().into_iter().flatten()) {
        let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
        for resource in ["cpu", "memory"] {
            any |= requests.get(resource).is_some() || limits.get(resource).is_some();
            let equal = requests.get(resource).is_none_or(|r| Some(r) == limits.get(resource));
            all_limited &= limits.get(resource).is_some() && equal;
        }
    }
    match (any, all_limited) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
