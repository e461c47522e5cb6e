//! A plan that the store refused comes back, is refused again, and nobody knows why: so it is said where people look, on
//! what it was made for.

use model::kube_event::{self, News};
use model::{Change, Key, KubeObject, Refused, Server, Snapshot, Time, Vm};

use crate::kube;
use crate::planner::Step;

/// What to write when the store refused a step: what is tried first, then what is left if there is no room for that. A
/// refusal that comes back is told on the step's first item; those of Kubernetes' controllers at once, in their words.
/// Nothing if it was a race.
pub fn refused(rows: &Snapshot, step: &Step, refused: &Refused, comes_back: bool, now: Time) -> Vec<Change> {
    let told = kube::refused::refused(rows, &step.change, refused, now);
    if told.is_some() || !comes_back || matches!(refused, Refused::Stale(_)) {
        return told.unwrap_or_default();
    }
    let change = step.items.first().map(|item| on(rows, item, &refused.to_string(), now)).unwrap_or_default();
    if change.is_empty() { Vec::new() } else { vec![change] }
}

/// What to write when a cluster's own webhooks denied an object of a step, as [`refused`].
pub fn denied(rows: &Snapshot, step: &Step, object: &KubeObject, why: &str, now: Time) -> Vec<Change> {
    if let Some(told) = kube::refused::tell(rows, object, why, now) {
        return told;
    }
    // Without the name, which is another one each time.
    let why = format!("{} may not be made: {why}", object.resource);
    let change = step.items.first().map(|item| on(rows, item, &why, now)).unwrap_or_default();
    if change.is_empty() { Vec::new() } else { vec![change] }
}

fn on(rows: &Snapshot, item: &Key, why: &str, now: Time) -> Change {
    let mut change = Change::new();
    let server = rows.at::<Vm>(item).and_then(|vm| rows.get::<Server>(&vm.server_id)).or_else(|| rows.at(item));
    if let Some(server) = server.filter(|server| server.problem.as_deref() != Some(why)) {
        change.edit(server, |server| server.problem = Some(why.to_owned()));
    } else if let Some(object) = rows.at::<KubeObject>(item) {
        let news = News::new("planner", "Refused", format!("It cannot go on: {why}")).warning();
        kube_event::tell(&mut change, rows, object.value, &[news], now);
    }
    change
}
