//! What lost its owners goes, so does what clusters said of a host that is gone, and the finalizers that deletions leave behind
//! are worked off: `foregroundDeletion` waits for the dependents, `orphan` lets them go.

use model::{
    Change, Cluster, Entry, Event, Expect, Host, Index, Key, Kind, KubeObject, Realm, Resource, Snapshot, Time, node,
};
use serde_json::Value;

use super::{delete, release};
use crate::planner::{ALL_ASKED, Plan, Planner, Rows, Seen, Touched, objects};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Deletes orphans and finishes deletions.
pub const PLANNER: Planner = Planner {
    name: "garbage",
    reads: &[ALL_ASKED, Rows::Asked(&Rows::Of(Kind::Host))],
    writes: &[Rows::AllObjects],
    at_once: 256,
    items: |rows| rows.find::<KubeObject>(Index::Collectable, "").map(|object| object.row.key.clone()).collect(),
    touched,
    failed: None,
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    if event.key.kind == Kind::Host {
        // Its Nodes go with it, which are rows only where a cluster said something; none is planned that is no row.
        let gone = event.after.is_none().then(|| rows.all::<Cluster>());
        for cluster in gone.into_iter().flatten() {
            let uid = node::uid(&cluster.id, &event.key.name);
            touched.items(rows.find::<KubeObject>(Index::Owner, &uid).map(|o| o.row.key.clone()));
            let said = rows.row(&node::key(&cluster.id, &event.key.name));
            touched.items(said.map(|row| row.key.clone()));
        }
        return;
    }
    let goes = event.after.as_ref().and_then(|row| KubeObject::of(&row.object)).is_none_or(KubeObject::deleting);
    for object in objects(event) {
        if object.deleting() || object.owners().next().is_some() || node::is_left(rows, object) {
            touched.item(event.key.clone());
        }
        if goes {
            touched.items(rows.find::<KubeObject>(Index::Owner, object.uid()).map(|o| o.row.key.clone()));
        }
        // An owner may have waited for this one to go.
        for uid in object.owners() {
            let owners = rows.find::<KubeObject>(Index::Name, uid).filter(|owner| owner.deleting());
            touched.items(owners.map(|owner| owner.row.key.clone()));
        }
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    for object in items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key)) {
        let mut change = Change::new();
        if node::is_left(seen.rows, object.value) {
            change.delete(object);
            // Of a host that is back it is said again.
            let host = Key::new(Kind::Host, Realm::Cloud, object.name.as_str());
            change.expects.push(Expect { key: host, revision: None });
        } else if object.deleting() {
            finish(&mut change, seen.rows, object, now);
        } else {
            sort_out(&mut change, seen.rows, object, now);
        }
        plan.step(&object.row.key, change);
    }
    plan
}

fn same_cluster(a: &KubeObject, b: &KubeObject) -> bool {
    a.cluster_id == b.cluster_id
}

/// Takes off owners that are gone, or wait for their dependents to go, as long as there is another; with the last one the
/// object goes.
fn sort_out(change: &mut Change, snapshot: &Snapshot, object: Entry<'_, KubeObject>, now: Time) {
    let owners: Vec<(&str, Owner)> = object.owners().map(|uid| (uid, state(snapshot, object.value, uid))).collect();
    if owners.is_empty() {
        return;
    }
    let lasting = owners.iter().any(|(_, state)| *state == Owner::Lasting);
    let gone = owners.iter().all(|(_, state)| *state == Owner::Gone);
    if lasting && owners.iter().any(|(_, state)| *state != Owner::Lasting) {
        change.edit(object, |object| {
            owners.iter().filter(|(_, state)| *state != Owner::Lasting).for_each(|(uid, _)| object.disown(uid));
        });
    } else if gone {
        delete(change, object, now);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Lasting,
    /// It is being deleted, and its dependents go before it.
    Waiting,
    Gone,
}

fn state(snapshot: &Snapshot, object: &KubeObject, uid: &str) -> Owner {
    let realm = Realm::cluster(&object.cluster_id);
    let mut owners = snapshot.find::<KubeObject>(Index::Name, uid).filter(|owner| {
        let near = owner.namespace.is_empty() || object.namespace.is_empty() || owner.namespace == object.namespace;
        owner.row.key.realm == realm && near
    });
    match owners.next() {
        None if is_host(snapshot, object, uid) => Owner::Lasting,
        None => Owner::Gone,
        Some(owner) if owner.deleting() && has(owner.value, FOREGROUND) => Owner::Waiting,
        Some(_) => Owner::Lasting,
    }
}

/// Whether an owner is the Node of a host, which need not be a row.
fn is_host(snapshot: &Snapshot, object: &KubeObject, uid: &str) -> bool {
    let owners = object.body["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let named =
        owners.filter(|owner| owner["uid"] == uid && owner["kind"] == "Node").filter_map(|o| o["name"].as_str());
    let mut named = named.filter(|name| node::uid(&object.cluster_id, name) == uid);
    named.any(|name| snapshot.get::<Host>(name).is_some())
}

fn has(object: &KubeObject, finalizer: &str) -> bool {
    let list = object.body["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().any(|f| f == finalizer)
}

fn finish(change: &mut Change, snapshot: &Snapshot, object: Entry<'_, KubeObject>, now: Time) {
    let dependents: Vec<_> = snapshot
        .find::<KubeObject>(Index::Owner, object.uid())
        .filter(|d| same_cluster(d.value, object.value))
        .collect();
    if has(object.value, ORPHAN) {
        for dependent in dependents {
            let uid = object.uid();
            change.edit(dependent, |dependent| dependent.disown(uid));
        }
        release(change, object, ORPHAN);
    } else if has(object.value, FOREGROUND) {
        let blocks = |d: &Entry<'_, KubeObject>| {
            let owners = d.body["metadata"]["ownerReferences"].as_array();
            owners.into_iter().flatten().any(|o| o["uid"] == object.uid() && o["blockOwnerDeletion"] == true)
        };
        if !dependents.iter().any(blocks) {
            release(change, object, FOREGROUND);
        }
        for dependent in dependents {
            // What another keeps is let go, in a step of its own.
            if dependent.owners().any(|uid| state(snapshot, dependent.value, uid) == Owner::Lasting) {
                continue;
            }
            // Their own dependents must go before them too.
            if !dependent.deleting() && !dependent.is_pod() {
                change.edit(dependent, |dependent| {
                    let meta = &mut dependent.body["metadata"];
                    meta["deletionTimestamp"] = super::seconds(now).into();
                    meta["deletionGracePeriodSeconds"] = 0.into();
                    meta["finalizers"] = add(&meta["finalizers"], FOREGROUND);
                });
            } else {
                delete(change, dependent, now);
            }
        }
    }
}

fn add(finalizers: &Value, finalizer: &str) -> Value {
    let mut list = finalizers.as_array().cloned().unwrap_or_default();
    if !list.iter().any(|f| f == finalizer) {
        list.push(finalizer.into());
    }
    Value::Array(list)
}
