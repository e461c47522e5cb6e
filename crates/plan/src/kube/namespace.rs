//! Namespaces: each has its default service account, and one that is being deleted takes all that is in it along.

use model::{Change, Entry, KubeObject, Snapshot, Time};
use serde_json::json;

use super::{all, delete, seconds};

/// The most objects that one commit removes.
const BATCH: usize = 200;

/// Fills new namespaces and empties dying ones.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    let spaces = all(snapshot, "", "namespaces");
    spaces
        .map(|space| if space.deleting() { empty(snapshot, space, now) } else { fill(snapshot, space, now) })
        .filter(|change| !change.is_empty())
        .collect()
}

fn fill(snapshot: &Snapshot, space: Entry<'_, KubeObject>, now: Time) -> Change {
    let mut change = Change::new();
    let key = KubeObject::key_of(&space.cluster_id, "", "serviceaccounts", &space.name, "default");
    if snapshot.row(&key).is_none() {
        let uid = model::derived_id(&["service-account", space.uid(), &snapshot.revision().to_string()]);
        change.create(KubeObject {
            cluster_id: space.cluster_id.clone(),
            project_id: space.project_id.clone(),
            group: String::new(),
            resource: "serviceaccounts".into(),
            namespace: space.name.clone(),
            name: "default".into(),
            body: json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {
                    "name": "default", "namespace": space.name, "uid": uid, "creationTimestamp": seconds(now),
                },
            }),
        });
    }
    change
}

fn empty(snapshot: &Snapshot, space: Entry<'_, KubeObject>, now: Time) -> Change {
    let mut change = Change::new();
    let inside: Vec<_> = snapshot
        .within::<KubeObject>(&space.row.key.realm)
        .filter(|object| object.namespace == space.name)
        .collect();
    for object in inside.iter().filter(|o| !o.deleting()).take(BATCH) {
        delete(&mut change, *object, now);
    }
    let held = space.body["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    if inside.is_empty() && !held {
        change.delete(space);
    }
    change
}
