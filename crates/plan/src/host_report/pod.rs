//! What a host says of its pods.

use model::kube_event::{self, News};
use model::{Change, Snapshot, Time};
use serde_json::{Map, Value};

use crate::host_view::row_of_pod;

/// The fields of a pod's status that its host writes; all others are somebody else's.
const ITS_OWN: [&str; 11] = [
    "containerStatuses",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "phase",
    "podIP",
    "podIPs",
    "reason",
    "startTime",
    "conditions",
];
/// The conditions that it writes.
const ITS_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The status of a pod, and its events. One that is being deleted keeps its status until it is gone.
pub fn status(rows: &Snapshot, host: &str, uid: &str, said: &Value, news: &[News], now: Time) -> Change {
    let mut change = Change::new();
    let Some(row) = row_of_pod(rows, host, uid) else { return change };
    let status = merged(&row.body["status"], said, row.pod_finished());
    if !row.deleting() && row.body["status"] != status {
        change.edit(row, |row| row.body["status"] = status);
    }
    kube_event::tell(&mut change, rows, row.value, news, now);
    change
}

/// Nothing is left of a pod that is being deleted: its row goes, unless somebody holds it.
pub fn gone(rows: &Snapshot, host: &str, uid: &str, news: &[News], now: Time) -> Change {
    let mut change = Change::new();
    if let Some(row) = row_of_pod(rows, host, uid).filter(|row| row.deleting()) {
        kube_event::tell(&mut change, rows, row.value, news, now);
        if !row.held() {
            change.delete(row);
        }
    }
    change
}

/// What the host says in the place of what it said, and everything else as it is. How a pod ended stays said.
fn merged(before: &Value, said: &Value, finished: bool) -> Value {
    let mut status: Map<String, Value> = before.as_object().cloned().unwrap_or_default();
    for field in ITS_OWN {
        let value = match field {
            "conditions" => Some(conditions(&before[field], &said[field])),
            "phase" | "reason" | "message" if finished => continue,
            _ => said.get(field).cloned(),
        };
        match value {
            Some(value) => status.insert(field.to_owned(), value),
            None => status.remove(field),
        };
    }
    Value::Object(status)
}

/// Its own conditions, then those of others.
fn conditions(before: &Value, said: &Value) -> Value {
    let its = |condition: &&Value| ITS_CONDITIONS.iter().any(|kind| condition["type"] == *kind);
    let list = |all: &Value| all.as_array().cloned().unwrap_or_default();
    let (said, before) = (list(said), list(before));
    said.iter().filter(its).chain(before.iter().filter(|condition| !its(condition))).cloned().collect()
}
