//! Taints with the effect NoExecute push pods off their node: at once those that do not tolerate them, others when the time
//! is over that they do. When a taint came is written on it (`timeAdded`), since nothing is remembered here.

use jiff::SignedDuration;
use model::kube_event::{self, News};
use model::{Change, Entry, Event, Index, Key, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::{delete, keys, seconds};
use crate::fit::{self, pushing};
use crate::planner::{EVENTS, PODS, PODS_ASKED, Plan, Planner, Rows, Seen, Touched, objects};

/// The most pods that one commit evicts.
const BATCH: usize = 100;

const NODES: Rows = Rows::Objects("", "nodes");

/// Evicts what may not stay.
pub const PLANNER: Planner = Planner {
    name: "taint",
    reads: &[NODES, PODS_ASKED],
    writes: &[NODES, PODS, EVENTS],
    at_once: 64,
    items: |rows| keys(rows, "", "nodes"),
    touched,
    failed: None,
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    for object in objects(event) {
        let node = if object.is_pod() { object.body["spec"]["nodeName"].as_str() } else { Some(object.name.as_str()) };
        let node = node.map(|name| KubeObject::key_of(&object.cluster_id, "", "nodes", "", name));
        let pushes = |key: &Key| rows.at::<KubeObject>(key).is_some_and(|node| pushing(&node.body).next().is_some());
        touched.items(node.filter(pushes));
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    let nodes = items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key));
    for node in nodes.filter(|node| pushing(&node.body).next().is_some()) {
        one(&mut plan, seen.rows, node, now);
    }
    plan
}

fn added(taint: &Value) -> Option<Time> {
    taint["timeAdded"].as_str()?.parse().ok()
}

fn one(plan: &mut Plan, snapshot: &Snapshot, node: Entry<'_, KubeObject>, now: Time) {
    let (key, mut change) = (&node.row.key, Change::new());
    if pushing(&node.body).any(|taint| added(taint).is_none()) {
        change.edit(node, |node| {
            let taints = node.body["spec"]["taints"].as_array_mut().into_iter().flatten();
            for taint in taints.filter(|taint| taint["effect"] == "NoExecute" && added(taint).is_none()) {
                taint["timeAdded"] = json!(seconds(now));
            }
        });
        return plan.step(key, change);
    }
    // All are borne from the newest on.
    let Some(since) = pushing(&node.body).filter_map(added).max() else { return };
    let pods = snapshot.find::<KubeObject>(Index::Host, &node.name);
    let pods =
        pods.filter(|pod| pod.is_pod() && pod.cluster_id == node.cluster_id && !pod.deleting() && !pod.pod_finished());
    let end = |pod: &KubeObject| since.checked_add(SignedDuration::from_secs(fit::bears(&pod.body, &node.body)?)).ok();
    let (over, later): (Vec<_>, Vec<_>) =
        pods.filter_map(|pod| Some((end(pod.value)?, pod))).partition(|(end, _)| *end <= now);
    later.iter().map(|(end, _)| *end).min().into_iter().for_each(|at| plan.again(key, at));
    for (_, pod) in over.into_iter().take(BATCH) {
        let message = format!("Marking for deletion Pod {}/{}", pod.namespace, pod.name);
        let news = News::new("taint-eviction-controller", "TaintManagerEviction", message);
        kube_event::tell(&mut change, snapshot, pod.value, &[news], now);
        delete(&mut change, pod, now);
    }
    if !change.is_empty() {
        // Whoever takes the taint off meanwhile evicts nothing.
        change.expect(node);
    }
    plan.step(key, change);
}
