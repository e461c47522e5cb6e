//! A plan that the store refused comes back, is refused again, and nobody knows why: so it is said where people look, on
//! the object that it was made for.

use model::{Change, Entry, KubeObject, Refused, Resource, Snapshot, Time, Write};

use super::controller;
use crate::PLANNERS;
use crate::planner::Failed;

/// What to write when the store refused a change for good: what is tried first, then what is left if there is no room for
/// an event either; nothing if it was told already. `None` if the change is none of Kubernetes' controllers', or lost a race only.
pub fn refused(snapshot: &Snapshot, change: &Change, refused: &Refused, now: Time) -> Option<Vec<Change>> {
    let Refused::Exceeded { pool, asked, used, limit } = refused else { return None };
    let why = model::quota::exceeded(pool, *asked, *used, *limit)?;
    let mut created = change.writes.iter().filter_map(|write| match write {
        Write::Create(object) => KubeObject::of(object).filter(|object| object.controller().is_some()),
        _ => None,
    });
    let first = created.next()?;
    // A smaller change is still to be tried.
    if first.is_pod() && created.any(KubeObject::is_pod) {
        return None;
    }
    let plural =
        if first.group.is_empty() { first.resource.clone() } else { format!("{}.{}", first.resource, first.group) };
    let why = format!("{plural} \"{}\" is forbidden: {why}", first.name);
    tell(snapshot, first, &why, now)
}

/// Says on the owner of an object why it cannot be made; `None` if nobody owns it who could say so.
pub fn tell(snapshot: &Snapshot, made: &KubeObject, why: &str, now: Time) -> Option<Vec<Change>> {
    let failed = PLANNERS.iter().filter_map(|planner| planner.failed.as_ref());
    let of = |failed: &'static Failed| Some((failed, owner(snapshot, made, failed.of)?));
    let (failed, owner) = failed.filter_map(of).next()?;
    let mut said = Change::new();
    (failed.tell)(&mut said, snapshot, owner, (made, why), now);
    let mut bare = said.clone();
    bare.writes.retain(|write| matches!(write, Write::Update { .. }));
    let mut all = vec![said, bare];
    all.retain(|change| !change.is_empty());
    all.dedup();
    Some(all)
}

/// The object of this kind that controls this one.
fn owner<'s>(
    snapshot: &'s Snapshot,
    object: &KubeObject,
    (kind, group, plural): (&str, &str, &str),
) -> Option<Entry<'s, KubeObject>> {
    let owner = snapshot.at::<KubeObject>(&controller(object, kind, group, plural)?)?;
    (object.controller()?["uid"] == owner.uid()).then_some(owner)
}
