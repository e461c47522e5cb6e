//! Kubernetes' controllers as planners: Deployments make ReplicaSets, these make pods, Services get their endpoints, and
//! what lost its owner goes. Each reads one snapshot and says what to write; a change that makes or removes pods also
//! writes the owner's row, so that one planned from an old snapshot is refused whole instead of making pods twice.

mod adopt;
pub mod cronjob;
pub mod definition;
pub mod deployment;
pub mod endpointslice;
pub mod event;
pub mod garbage;
pub mod job;
pub mod namespace;
pub(crate) mod refused;
pub mod replicaset;
mod selector;
pub mod taint;
mod workload;

use std::collections::BTreeMap;

use model::{Change, Cluster, Entry, Event, Index, Key, KubeObject, Realm, Snapshot, Time};
use serde_json::{Value, json};

use crate::planner::{Touched, objects};

pub(crate) use model::seconds;
pub use selector::matches;

/// All objects of a resource, in all clusters.
pub(crate) fn all<'a>(
    snapshot: &'a Snapshot,
    group: &str,
    resource: &str,
) -> impl Iterator<Item = Entry<'a, KubeObject>> + use<'a> {
    let prefix = KubeObject::prefix(group, resource, "");
    let realms = snapshot.all::<Cluster>().map(|cluster| Realm::cluster(&cluster.id));
    realms.flat_map(move |realm| snapshot.names(&realm, &prefix, None))
}

/// The keys of all objects of a resource, in all clusters.
pub(crate) fn keys(snapshot: &Snapshot, group: &str, resource: &str) -> Vec<Key> {
    all(snapshot, group, resource).map(|object| object.row.key.clone()).collect()
}

/// The key that an object's controller has, if it is of this sort.
pub(crate) fn controller(object: &KubeObject, kind: &str, group: &str, resource: &str) -> Option<Key> {
    let reference = object.controller().filter(|reference| reference["kind"] == kind)?;
    Some(KubeObject::key_of(&object.cluster_id, group, resource, &object.namespace, reference["name"].as_str()?))
}

/// Objects of a resource, in the namespace of this one, whose selector selects it.
fn selecting(snapshot: &Snapshot, object: &KubeObject, group: &str, resource: &str) -> Vec<Key> {
    let prefix = KubeObject::prefix(group, resource, &object.namespace);
    let others = snapshot.names::<KubeObject>(&Realm::cluster(&object.cluster_id), &prefix, None);
    let selects = |o: &Entry<'_, KubeObject>| {
        let selector = &o.body["spec"]["selector"];
        selector.is_object() && matches(selector, &object.body["metadata"]["labels"])
    };
    others.filter(selects).map(|o| o.row.key.clone()).collect()
}

/// Objects that this one controls.
pub(crate) fn controlled<'a>(
    snapshot: &'a Snapshot,
    owner: &KubeObject,
    group: &'a str,
    resource: &'a str,
) -> impl Iterator<Item = Entry<'a, KubeObject>> {
    let uid = owner.uid().to_owned();
    let owns = move |object: &KubeObject| object.controller().is_some_and(|o| o["uid"].as_str() == Some(&uid));
    let realm = Realm::cluster(&owner.cluster_id);
    snapshot
        .find::<KubeObject>(Index::Owner, owner.uid())
        .filter(move |object| object.is(group, resource) && object.row.key.realm == realm && owns(object.value))
}

/// What a new object is made from.
pub(crate) struct New<'a> {
    pub owner: &'a KubeObject,
    pub api_version: &'a str,
    pub kind: &'a str,
    pub resource: &'a str,
    pub name: String,
    /// Tells two objects of the same name and owner apart that lived one after the other.
    pub salt: String,
}

impl New<'_> {
    /// An object in the owner's namespace, controlled by it. `body` may bring labels and annotations of its own, and the
    /// reference to the owner.
    pub fn object(self, mut body: Value, now: Time) -> KubeObject {
        let owner = self.owner;
        let uid = model::derived_id(&["kube", owner.uid(), self.resource, &self.name, &self.salt]);
        body["apiVersion"] = json!(self.api_version);
        body["kind"] = json!(self.kind);
        let meta = &mut body["metadata"];
        meta["name"] = json!(self.name);
        meta["namespace"] = json!(owner.namespace);
        meta["uid"] = json!(uid);
        meta["creationTimestamp"] = json!(seconds(now));
        meta["generation"] = json!(1);
        if meta["ownerReferences"].is_null() {
            meta["ownerReferences"] = json!([adopt::reference(owner)]);
        }
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        KubeObject {
            cluster_id: owner.cluster_id.clone(),
            project_id: owner.project_id.clone(),
            group: group.to_owned(),
            resource: self.resource.to_owned(),
            namespace: owner.namespace.clone(),
            name: self.name,
            body,
        }
    }
}

/// Deletes an object as the API does: gracefully where something runs or a finalizer waits, at once otherwise.
pub(crate) fn delete(change: &mut Change, object: Entry<'_, KubeObject>, now: Time) {
    delete_without(change, object, "", now);
}

/// The same of an object that a finalizer shall not hold any more.
pub(crate) fn delete_without(change: &mut Change, object: Entry<'_, KubeObject>, finalizer: &str, now: Time) {
    if object.deleting() {
        return;
    }
    let mut marked = object.value.clone();
    marked.release(finalizer);
    if !marked.held() && !runs(&marked) {
        change.delete(object);
        return;
    }
    let grace = match marked.is_pod() {
        true => marked.body["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30),
        false => 0,
    };
    let meta = &mut marked.body["metadata"];
    meta["deletionTimestamp"] = json!(seconds(now));
    meta["deletionGracePeriodSeconds"] = json!(grace);
    change.update(object, marked);
}

/// Takes a finalizer away; what is being deleted goes with its last one, unless it is a pod that still runs.
pub(crate) fn release(change: &mut Change, object: Entry<'_, KubeObject>, finalizer: &str) {
    let mut left = object.value.clone();
    left.release(finalizer);
    match object.deleting() && !left.held() && !runs(&left) {
        true => _ = change.delete(object),
        false => _ = change.update(object, left),
    }
}

fn runs(object: &KubeObject) -> bool {
    object.is_pod() && object.body["spec"]["nodeName"].is_string()
}

/// What a workload's planner is touched by: the workload itself, the accounts without which its pods are not let in, and
/// what it controls or might adopt.
pub(crate) fn touched_by_parts(
    rows: &Snapshot,
    event: &Event,
    touched: &mut Touched,
    (kind, group, resource): (&str, &str, &str),
) {
    for object in objects(event) {
        if object.is(group, resource) {
            touched.item(event.key.clone());
        } else if object.is("", "serviceaccounts") {
            touched.waiting();
        } else if object.controller().is_none() {
            touched.items(selecting(rows, object, group, resource));
        } else {
            touched.items(controller(object, kind, group, resource));
        }
    }
}
/// Five letters made from a text, as they stand at the end of generated names: no vowels, so that they spell nothing.
pub(crate) fn suffix(text: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let id = model::derived_id(&["suffix", text]);
    let digits: Vec<u32> = id.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(3)
        .take(5)
        .map(|c| c.iter().fold(0, |n, d| n * 16 + *d as usize))
        .map(|n| LETTERS[n % LETTERS.len()] as char)
        .collect()
}

/// A field that is a number, or what Kubernetes takes it for when it is absent.
pub(crate) fn number(value: &Value, default: i64) -> i64 {
    value.as_i64().unwrap_or(default)
}

/// Labels or annotations of an object.
pub(crate) fn map(value: &Value) -> BTreeMap<&str, &str> {
    value.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))).collect()
}

/// The condition of this type, of a status.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind)
}

/// Whether a condition of an object holds.
pub(crate) fn holds(object: &KubeObject, kind: &str) -> bool {
    condition(&object.body["status"], kind).is_some_and(|c| c["status"] == "True")
}

/// Since when a condition is `True`, `False` or `Unknown`, if that is what it is from now on.
pub(crate) fn since(before: &Value, kind: &str, state: &str, now: Time) -> Value {
    let same = condition(before, kind).filter(|c| c["status"] == state);
    same.map_or(json!(seconds(now)), |c| c["lastTransitionTime"].clone())
}

/// Writes a status when it says something new.
pub(crate) fn set_status(change: &mut Change, object: Entry<'_, KubeObject>, status: Value) {
    if object.body["status"] != status {
        change.edit(object, |object| object.body["status"] = status);
    }
}
