//! What belongs to a controller: what it controls and selects. What is selected and controlled by nobody it adopts, what
//! it controls and does not select any more it lets go. Looking only at what it made itself was refused: a Deployment that
//! was made again over its old ReplicaSet stood still for ever.

use model::{Change, Entry, Index, KubeObject, Snapshot};
use serde_json::{Value, json};

use super::{controlled, matches};

/// The most objects that one commit adopts or lets go.
const BATCH: usize = 200;

/// What is to change in who belongs to whom; `None`: nothing. Until it is done the controller does nothing else, since it
/// would count wrongly.
pub fn adopt(snapshot: &Snapshot, owner: Entry<'_, KubeObject>, group: &str, resource: &str) -> Option<Change> {
    if owner.deleting() {
        return None;
    }
    let selector = &owner.body["spec"]["selector"];
    let selected = |object: &KubeObject| matches(selector, &object.body["metadata"]["labels"]);
    let lives = |object: &KubeObject| !object.deleting() && !object.pod_finished();
    let strangers = controlled(snapshot, owner.value, group, resource).filter(|o| lives(o.value) && !selected(o.value));
    let kin = KubeObject::kin(&owner.cluster_id, group, resource, &owner.namespace);
    let orphans = snapshot.find::<KubeObject>(Index::Uncontrolled, &kin);
    let orphans = orphans.filter(|o| lives(o.value) && selects_something(selector) && selected(o.value));
    let mut change = Change::new();
    for stranger in strangers.take(BATCH) {
        change.edit(stranger, |object| object.disown(owner.uid()));
    }
    for orphan in orphans.take(BATCH) {
        change.edit(orphan, |object| own(object, owner.value));
    }
    if change.is_empty() {
        return None;
    }
    // Whoever is deleted or selects something else meanwhile takes nothing.
    change.expect(owner);
    Some(change)
}

/// A selector that selects everything was not meant to.
fn selects_something(selector: &Value) -> bool {
    let some = |field: &str| match &selector[field] {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    some("matchLabels") || some("matchExpressions")
}

/// The reference by which an object says whose it is.
pub(crate) fn reference(owner: &KubeObject) -> Value {
    json!({
        "apiVersion": owner.body["apiVersion"], "kind": owner.body["kind"], "name": owner.name, "uid": owner.uid(),
        "controller": true, "blockOwnerDeletion": true,
    })
}

fn own(object: &mut KubeObject, owner: &KubeObject) {
    object.disown(owner.uid());
    let owners = &mut object.body["metadata"]["ownerReferences"];
    match owners.as_array_mut() {
        Some(owners) => owners.push(reference(owner)),
        None => *owners = json!([reference(owner)]),
    }
}
