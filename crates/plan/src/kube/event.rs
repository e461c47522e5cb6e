//! Events are of interest for an hour, and so many of a cluster: what happens often must not crowd out what was asked for.
//! No quota counts them: hosts and controllers must be able to say what happened in a project that has reached its limits.

use jiff::SignedDuration;
use model::{Change, Cluster, Entry, Event, Key, Kind, KubeObject, Resource, Snapshot, Time, kube_event};

use crate::planner::{EVENTS, Plan, Planner, Rows, Seen, Touched};

/// As long as the API server keeps them.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How many a cluster has, about; the oldest make room.
const MOST: usize = 5000;
/// One new event in so many has the cluster's counted.
const COUNTED: u64 = 64;
/// The most events that one commit removes.
const BATCH: usize = 200;

/// Removes events that were last told too long ago, or are too many. An item is a cluster.
pub const PLANNER: Planner = Planner {
    name: "event",
    reads: &[Rows::Of(Kind::Cluster), EVENTS],
    writes: &[EVENTS],
    at_once: 16,
    items: |rows| rows.all::<Cluster>().map(|cluster| cluster.row.key.clone()).collect(),
    touched,
    failed: None,
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    match (&event.before, &event.after) {
        (None, Some(row)) if event.key.kind == Kind::KubeObject => {
            let Some(told) = KubeObject::of(&row.object) else { return };
            // The first has a moment set; all others go later.
            let first = events(rows, &told.cluster_id).nth(1).is_none();
            if first || row.modified % COUNTED == 0 {
                touched.items(rows.get::<Cluster>(&told.cluster_id).map(|cluster| cluster.row.key.clone()));
            }
        }
        // What is removed is removed in batches.
        (Some(row), None) => {
            let cluster = KubeObject::of(&row.object).and_then(|told| rows.get::<Cluster>(&told.cluster_id));
            touched.items(cluster.map(|cluster| cluster.row.key.clone()));
        }
        _ if event.key.kind == Kind::Cluster => touched.item(event.key.clone()),
        _ => {}
    }
}

fn events<'s>(rows: &'s Snapshot, cluster: &str) -> impl Iterator<Item = Entry<'s, KubeObject>> + use<'s> {
    rows.names(&model::Realm::cluster(cluster), &KubeObject::prefix("", "events", ""), None)
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    for cluster in items.iter().filter_map(|key| seen.rows.at::<Cluster>(key)) {
        let end = |event: &KubeObject| kube_event::last_told(event)?.checked_add(KEPT).ok();
        // What a finalizer holds counts against a quota, and makes no room here.
        let kept = events(seen.rows, &cluster.id).filter(|event| !event.held());
        let mut all: Vec<_> = kept.map(|event| (end(event.value).unwrap_or(Time::MAX), event)).collect();
        let excess = all.len().saturating_sub(MOST);
        if excess > 0 {
            all.sort_by_key(|(end, event)| (*end, event.row.created));
        }
        let gone = all.iter().enumerate().filter(|(at, (end, _))| *at < excess || *end < now).take(BATCH);
        let mut change = Change::new();
        gone.for_each(|(_, (_, event))| super::delete(&mut change, *event, now));
        if let Some(end) = all.iter().map(|(end, _)| *end).filter(|end| *end >= now && *end < Time::MAX).min() {
            plan.again(&cluster.row.key, end.checked_add(SignedDuration::from_secs(1)).unwrap_or(end));
        }
        plan.step(&cluster.row.key, change);
    }
    plan
}
