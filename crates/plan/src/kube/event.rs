//! Events are of interest for an hour.

use model::{Change, KubeObject, Snapshot, Time, kube_event};

use super::all;

/// As long as the API server keeps them.
const KEPT_SECONDS: i64 = 3600;

/// The most events that one commit removes.
const BATCH: usize = 200;

/// Removes events that were last told too long ago.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    let old = |event: &KubeObject| {
        kube_event::last_told(event).is_some_and(|last| now.as_second() - last.as_second() > KEPT_SECONDS)
    };
    let mut change = Change::new();
    for event in all(snapshot, "", "events").filter(|event| old(event.value)).take(BATCH) {
        super::delete(&mut change, event, now);
    }
    if change.is_empty() { Vec::new() } else { vec![change] }
}
