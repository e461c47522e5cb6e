//! What all workloads do with their pods: make them from a template as the API would let them in, choose which go first, count
//! who is available, and tell what they did.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::SignedDuration;
use model::kube_event::News;
use model::{Entry, Index, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::adopt::reference;
use super::{New, condition, controlled, holds, number, suffix};

/// So many pods by name; more are told as one.
pub const TOLD: usize = 5;

/// The pods of a workload that are to stay.
pub fn pods_of<'s>(snapshot: &'s Snapshot, owner: &KubeObject) -> Vec<Entry<'s, KubeObject>> {
    controlled(snapshot, owner, "", "pods").filter(|pod| !pod.deleting() && !pod.pod_finished()).collect()
}

/// What was done to pods, as events of a controller.
pub fn told(controller: &'static str, reason: &'static str, what: &str, names: &[&str]) -> Vec<News> {
    let (each, rest) = names.split_at(if names.len() > TOLD { TOLD - 1 } else { names.len() });
    let mut news: Vec<News> =
        each.iter().map(|name| News::new(controller, reason, format!("{what}: {name}"))).collect();
    if let Some(last) = rest.last() {
        let message = format!("{what}s: {} more, the last of them {last}", rest.len());
        news.push(News::new(controller, reason, message));
    }
    news
}

/// Ready for as long as the template demands.
pub fn available(pod: &KubeObject, settle: i64, now: Time) -> bool {
    if !holds(pod, "Ready") {
        return false;
    }
    settle == 0 || settled(pod, settle).is_some_and(|at| now >= at)
}

/// From when on a pod that is ready will have been so for long enough.
pub fn settled(pod: &KubeObject, settle: i64) -> Option<Time> {
    ready_since(pod)?.checked_add(SignedDuration::from_secs(settle)).ok()
}

fn ready_since(pod: &KubeObject) -> Option<Time> {
    condition(&pod.body["status"], "Ready")?["lastTransitionTime"].as_str()?.parse().ok()
}

/// Which pods go first. In the controller's own order: those without a host, then by phase, those that are not ready, the
/// cheapest to delete, those that share a host with most of their kind, those that became ready last, those that were
/// started again most often, the youngest. Ages count by their order of magnitude.
pub fn victims<'s>(
    snapshot: &'s Snapshot,
    owner: &KubeObject,
    mut pods: Vec<Entry<'s, KubeObject>>,
    count: usize,
    now: Time,
) -> Vec<Entry<'s, KubeObject>> {
    let crowd = crowd(snapshot, owner, &pods);
    pods.sort_by_cached_key(|pod| {
        let host = pod.body["spec"]["nodeName"].as_str();
        let phase = match pod.body["status"]["phase"].as_str() {
            None | Some("Pending") => 0,
            Some("Running") => 2,
            _ => 1,
        };
        let neighbours = host.and_then(|host| crowd.get(host)).copied().unwrap_or(0);
        let ready = holds(pod.value, "Ready");
        let since = ready.then(|| ready_since(pod.value)).flatten();
        let restarts: i64 = statuses(pod.value).map(|c| number(&c["restartCount"], 0)).max().unwrap_or(0);
        let made = pod.body["metadata"]["creationTimestamp"].as_str().and_then(|t| t.parse().ok());
        (
            (host.is_some(), phase, ready, deletion_cost(pod.value), Reverse(neighbours)),
            (magnitude(since, now), Reverse(restarts), magnitude(made, now)),
            pod.uid().to_owned(),
        )
    });
    pods.truncate(count);
    pods
}

fn statuses(pod: &KubeObject) -> impl Iterator<Item = &Value> {
    pod.body["status"]["containerStatuses"].as_array().into_iter().flatten()
}

/// How many pods of this workload, and of the others of its owner, stand on each host.
fn crowd<'s>(snapshot: &'s Snapshot, owner: &KubeObject, pods: &[Entry<'s, KubeObject>]) -> BTreeMap<&'s str, usize> {
    let above = owner.controller().and_then(|above| above["uid"].as_str()).unwrap_or("");
    let siblings = snapshot.find::<KubeObject>(Index::Owner, above);
    let siblings = siblings
        .filter(|s| s.is(&owner.group, &owner.resource) && s.cluster_id == owner.cluster_id && s.uid() != owner.uid());
    let others = siblings.flat_map(|s| pods_of(snapshot, s.value));
    let mut crowd = BTreeMap::new();
    for pod in pods.iter().copied().chain(others) {
        pod.value.body["spec"]["nodeName"].as_str().into_iter().for_each(|host| *crowd.entry(host).or_default() += 1);
    }
    crowd
}

/// What it costs to delete a pod, as somebody says who knows.
fn deletion_cost(pod: &KubeObject) -> i32 {
    let cost = &pod.body["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
    cost.as_str().and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// The order of magnitude of an age, to the base of two; the young come first.
fn magnitude(since: Option<Time>, now: Time) -> u32 {
    let age = since.map_or(0, |since| now.duration_since(since).as_nanos());
    u128::try_from(age).ok().and_then(u128::checked_ilog2).unwrap_or(0)
}

/// What the names of a workload's pods begin with.
fn stem(owner: &KubeObject) -> String {
    owner.name.chars().take(57).collect()
}

/// Why a pod of a workload cannot be made, without the end of its name: that is another each time, and is not news.
pub fn without_name(owner: &KubeObject, why: &str) -> String {
    let stem = format!("\"{}-", stem(owner));
    match why.split_once(&stem).and_then(|(before, rest)| Some((before, rest.split_once('"')?.1))) {
        Some((before, after)) => format!("{before}{stem}\"{after}"),
        None => why.to_owned(),
    }
}

/// Pods of the template, as the API would let them in; or why it would not.
pub fn new_pods(snapshot: &Snapshot, owner: &KubeObject, count: usize, now: Time) -> Result<Vec<KubeObject>, String> {
    let template = &owner.body["spec"]["template"];
    let account = KubeObject::key_of(
        &owner.cluster_id,
        "",
        "serviceaccounts",
        &owner.namespace,
        model::pod::account_name(template),
    );
    let account = snapshot.at::<KubeObject>(&account).map(|row| &row.value.body);
    let stem = stem(owner);
    // One for all of them, who share what they have in common: the name of the token's volume, too.
    let mut meta = json!({
        "labels": template["metadata"]["labels"], "generateName": format!("{stem}-"), "namespace": owner.namespace,
        "ownerReferences": [reference(owner)],
    });
    if template["metadata"]["annotations"].is_object() {
        meta["annotations"] = template["metadata"]["annotations"].clone();
    }
    let mut one = json!({"metadata": meta, "spec": template["spec"]});
    let admitted = model::pod::admit(&mut one, account, &suffix(&format!("{}/token", owner.uid())));
    let mut pods = Vec::with_capacity(count);
    let mut attempt = 0u64;
    while pods.len() < count {
        let salt = format!("{}.{attempt}", snapshot.revision());
        attempt += 1;
        let name = format!("{stem}-{}", suffix(&format!("{}/{salt}", owner.uid())));
        let key = KubeObject::key_of(&owner.cluster_id, "", "pods", &owner.namespace, &name);
        if snapshot.row(&key).is_some() || pods.iter().any(|p: &KubeObject| p.name == name) {
            continue;
        }
        if let Err(why) = &admitted {
            return Err(format!("pods \"{name}\" is forbidden: {why}"));
        }
        let new = New { owner, api_version: "v1", kind: "Pod", resource: "pods", name, salt };
        pods.push(new.object(one.clone(), now));
    }
    Ok(pods)
}
