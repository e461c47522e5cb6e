//! A cluster's definition of a kind that is being deleted goes with the last object of its kind, whoever removes that.

use model::{Change, Event, Key, KubeObject, Realm, Snapshot, Time};
use serde_json::Value;

use super::keys;
use crate::planner::{Plan, Planner, Rows, Seen, Touched, objects};

const GROUP: &str = "apiextensions.k8s.io";
const RESOURCE: &str = "customresourcedefinitions";
const DEFINITIONS: Rows = Rows::Objects(GROUP, RESOURCE);
/// What holds a definition as long as there are objects of its kind.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Lets go of definitions whose kind has no object any more.
pub const PLANNER: Planner = Planner {
    name: "definition",
    reads: &[Rows::AllObjects],
    writes: &[DEFINITIONS],
    at_once: 64,
    items: |rows| keys(rows, GROUP, RESOURCE),
    touched,
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    if DEFINITIONS.have(&event.key) {
        touched.item(event.key.clone());
    } else if event.after.is_none() {
        let goes = |key: &Key| rows.at::<KubeObject>(key).is_some_and(|definition| definition.deleting());
        touched.items(objects(event).filter_map(KubeObject::definition).filter(goes));
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], _: Time) -> Plan {
    let mut plan = Plan::default();
    for definition in items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key)).filter(|d| d.deleting()) {
        let held = definition.body["metadata"]["finalizers"].as_array();
        let rest: Vec<Value> = held.into_iter().flatten().filter(|name| *name != CLEANUP).cloned().collect();
        let names = (&definition.body["spec"]["group"], &definition.body["spec"]["names"]["plural"]);
        let (Some(group), Some(plural)) = (names.0.as_str(), names.1.as_str()) else { continue };
        let prefix = KubeObject::prefix(group, plural, "");
        let mut left = seen.rows.names::<KubeObject>(&Realm::cluster(&definition.cluster_id), &prefix, None);
        if left.next().is_some() || held.is_some_and(|held| held.len() == rest.len()) {
            continue;
        }
        let mut change = Change::new();
        if rest.is_empty() {
            change.delete(definition);
        } else {
            change.edit(definition, |definition| definition.body["metadata"]["finalizers"] = rest.into());
        }
        plan.step(&definition.row.key, change);
    }
    plan
}
