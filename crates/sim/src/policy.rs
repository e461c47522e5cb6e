//! A cluster's webhook: it thinks for a while about each pod that a planner makes, and denies those of one workload.

use std::sync::Arc;

use model::{Change, KubeObject, Object, Write};

/// The label `app` of what is denied.
pub const FORBIDDEN: &str = "forbidden";

fn pods(change: &Change) -> impl Iterator<Item = &Arc<KubeObject>> {
    change.writes.iter().filter_map(|write| match write {
        Write::Create(Object::KubeObject(object)) if object.is_pod() => Some(object),
        _ => None,
    })
}

/// Whether the webhook is asked about a change.
pub fn asks(change: &Change) -> bool {
    pods(change).next().is_some()
}

/// The pod for which it denies a change.
pub fn denied(change: &Change) -> Option<&Arc<KubeObject>> {
    pods(change).find(|pod| forbids(pod))
}

/// Whether a pod must not be.
pub fn forbids(pod: &KubeObject) -> bool {
    pod.is_pod() && pod.body["metadata"]["labels"]["app"] == FORBIDDEN
}
