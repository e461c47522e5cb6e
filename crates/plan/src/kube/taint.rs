//! Taints with the effect NoExecute push pods off their node: at once those that do not tolerate them, others when the time
//! is over that they do. When a taint came is written on it (`timeAdded`), since nothing is remembered here.

use model::kube_event::{self, News};
use model::{Change, Entry, Index, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::{all, delete, seconds};
use crate::fit::{self, pushing};

/// The most pods that one commit evicts.
const BATCH: usize = 100;

/// Evicts what may not stay.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    let nodes = all(snapshot, "", "nodes").filter(|node| pushing(&node.body).next().is_some());
    nodes.map(|node| one(snapshot, node, now)).filter(|change| !change.is_empty()).collect()
}

fn added(taint: &Value) -> Option<Time> {
    taint["timeAdded"].as_str()?.parse().ok()
}

fn one(snapshot: &Snapshot, node: Entry<'_, KubeObject>, now: Time) -> Change {
    let mut change = Change::new();
    if pushing(&node.body).any(|taint| added(taint).is_none()) {
        change.edit(node, |node| {
            let taints = node.body["spec"]["taints"].as_array_mut().into_iter().flatten();
            for taint in taints.filter(|taint| taint["effect"] == "NoExecute" && added(taint).is_none()) {
                taint["timeAdded"] = json!(seconds(now));
            }
        });
        return change;
    }
    // All are borne from the newest on.
    let Some(since) = pushing(&node.body).filter_map(added).max() else { return change };
    let age = now.duration_since(since).as_secs();
    let pods = snapshot.find::<KubeObject>(Index::Host, &node.name);
    let pods =
        pods.filter(|pod| pod.is_pod() && pod.cluster_id == node.cluster_id && !pod.deleting() && !pod.pod_finished());
    let over = |pod: &KubeObject| fit::bears(&pod.body, &node.body).is_some_and(|borne| age >= borne);
    for pod in pods.filter(|pod| over(pod.value)).take(BATCH) {
        let message = format!("Marking for deletion Pod {}/{}", pod.namespace, pod.name);
        let news = News::new("taint-eviction-controller", "TaintManagerEviction", message);
        kube_event::tell(&mut change, snapshot, pod.value, &[news], now);
        delete(&mut change, pod, now);
    }
    if !change.is_empty() {
        // Whoever takes the taint off meanwhile evicts nothing.
        change.expect(node);
    }
    change
}
