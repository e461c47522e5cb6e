//! What goes with an object: the objects of a kind with the kind's definition. All of it in the commit that deletes the
//! definition, so that nothing is left when a process dies between two; what finalizers hold stays, marked, and so does the
//! definition, until the last of it goes and takes the definition along. How much there is the project's quota bounds.

use model::{CLEANUP, Change, Entry, Expect, KubeObject, Snapshot};

use crate::call::Call;
use crate::meta;

/// Deletes everything that goes with an object; whether some of it stays for now.
pub fn remove(call: &Call<'_>, snapshot: &Snapshot, object: &KubeObject, change: &mut Change) -> bool {
    let Some((group, plural)) = call.kind().strategy.contents(object) else { return false };
    let mut stays = false;
    for entry in snapshot.names::<KubeObject>(&call.realm(), &KubeObject::prefix(&group, &plural, ""), None) {
        if !entry.value.held() {
            change.delete(entry);
            continue;
        }
        stays = true;
        if !entry.value.deleting() {
            change.edit(entry, |object| {
                let meta = meta::of(&mut object.body);
                meta.insert("deletionTimestamp".to_owned(), meta::stamp(call.now).into());
                meta.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
            });
        }
    }
    stays
}

/// Takes the definition of a kind that is being deleted along with the last object of the kind. The definition is written
/// whoever of several leaves: of two that leave at once one sees that it is the last.
pub fn leave(call: &Call<'_>, snapshot: &Snapshot, object: &KubeObject, change: &mut Change) {
    let Some(definition) = object.definition().and_then(|key| snapshot.at::<KubeObject>(&key)) else { return };
    if !definition.value.deleting() {
        return;
    }
    let prefix = KubeObject::prefix(&object.group, &object.resource, "");
    let same = |other: &KubeObject| (&other.namespace, &other.name) == (&object.namespace, &object.name);
    match snapshot.names::<KubeObject>(&call.realm(), &prefix, None).all(|other| same(other.value)) {
        true => let_go(definition, change),
        false => _ = change.edit(definition, |_| {}),
    }
}

/// Takes off what holds a definition of whose kind there is no object any more.
fn let_go(definition: Entry<'_, KubeObject>, change: &mut Change) {
    let mut left = definition.value.clone();
    left.release(CLEANUP);
    match left.held() {
        true => _ = change.update(definition, left),
        false => _ = change.delete(definition),
    }
}

/// What is written must be what the kind's definition says when it is committed.
pub fn as_defined(call: &Call<'_>, change: &mut Change) {
    if let Some(origin) = &call.kind().origin {
        change.expects.push(Expect { key: origin.row.key.clone(), revision: Some(origin.row.modified) });
    }
}

/// The change that deletes one object.
pub fn gone(call: &Call<'_>, snapshot: &Snapshot, entry: Entry<'_, KubeObject>, change: &mut Change) {
    change.delete(entry);
    leave(call, snapshot, entry.value, change);
}
