//! A cluster's definition of a kind that is being deleted goes with the last object of its kind, whoever removes that.

use model::{CLEANUP, Change, Event, Key, KubeObject, Realm, Snapshot, Time};

use super::{keys, release};
use crate::planner::{ALL_ASKED, Plan, Planner, Rows, Seen, Touched, objects};

const GROUP: &str = "apiextensions.k8s.io";
const RESOURCE: &str = "customresourcedefinitions";
const DEFINITIONS: Rows = Rows::Objects(GROUP, RESOURCE);

/// Lets go of definitions whose kind has no object any more.
pub const PLANNER: Planner = Planner {
    name: "definition",
    reads: &[ALL_ASKED],
    writes: &[DEFINITIONS],
    at_once: 64,
    items: |rows| keys(rows, GROUP, RESOURCE),
    touched,
    failed: None,
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
        let names = (&definition.body["spec"]["group"], &definition.body["spec"]["names"]["plural"]);
        let (Some(group), Some(plural)) = (names.0.as_str(), names.1.as_str()) else { continue };
        let finalizers = definition.body["metadata"]["finalizers"].as_array();
        let waits = finalizers.is_none_or(|all| all.iter().any(|name| name == CLEANUP));
        let prefix = KubeObject::prefix(group, plural, "");
        let mut left = seen.rows.names::<KubeObject>(&Realm::cluster(&definition.cluster_id), &prefix, None);
        if waits && left.next().is_none() {
            let mut change = Change::new();
            release(&mut change, definition, CLEANUP);
            plan.step(&definition.row.key, change);
        }
    }
    plan
}
