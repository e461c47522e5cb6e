//! A plan that the store refused comes back, is refused again, and nobody knows why: so it is said where people look, on
//! the object that it was made for.

use model::kube_event::{self, News};
use model::{Change, KubeObject, Refused, Resource, Snapshot, Time, Write};

use super::{deployment, job, replicaset};

/// What to write when the store refused a change for good: what is tried first, then what is left if there is no room for
/// an event either. Nothing if the change is none of Kubernetes' controllers', or lost a race only.
pub fn refused(snapshot: &Snapshot, change: &Change, refused: &Refused, now: Time) -> Vec<Change> {
    let Refused::Exceeded { pool, asked, used, limit } = refused else { return Vec::new() };
    let Some(why) = model::quota::exceeded(pool, *asked, *used, *limit) else { return Vec::new() };
    let mut created = change.writes.iter().filter_map(|write| match write {
        Write::Create(object) => KubeObject::of(object).filter(|object| object.controller().is_some()),
        _ => None,
    });
    let Some(first) = created.next() else { return Vec::new() };
    // A smaller change is still to be tried.
    if first.is_pod() && created.any(KubeObject::is_pod) {
        return Vec::new();
    }
    let plural =
        if first.group.is_empty() { first.resource.clone() } else { format!("{}.{}", first.resource, first.group) };
    let why = format!("{plural} \"{}\" is forbidden: {why}", first.name);
    tell(snapshot, first, &why, now)
}

/// Says on the owner of an object why it cannot be made.
pub fn tell(snapshot: &Snapshot, made: &KubeObject, why: &str, now: Time) -> Vec<Change> {
    let Some(owner) = owner(snapshot, made) else { return Vec::new() };
    let mut said = Change::new();
    match owner.value.resource.as_str() {
        "replicasets" => replicaset::failed(&mut said, snapshot, owner, why, now),
        "deployments" => deployment::failed(&mut said, snapshot, owner, &made.name, why, now),
        "jobs" => job::failed(&mut said, snapshot, owner.value, why, now),
        "services" => {
            let message =
                format!("Error updating Endpoint Slices for Service {}/{}: {why}", owner.namespace, owner.name);
            let news = News::new("endpoint-slice-controller", "FailedToUpdateEndpointSlices", message).warning();
            kube_event::tell(&mut said, snapshot, owner.value, &[news], now);
        }
        _ => {}
    }
    let mut bare = said.clone();
    bare.writes.retain(|write| matches!(write, Write::Update { .. }));
    let mut all = vec![said, bare];
    all.retain(|change| !change.is_empty());
    all.dedup();
    all
}

/// The object that controls this one.
fn owner<'s>(snapshot: &'s Snapshot, object: &KubeObject) -> Option<model::Entry<'s, KubeObject>> {
    let reference = object.controller()?;
    let (group, _) = reference["apiVersion"].as_str().and_then(|v| v.split_once('/')).unwrap_or(("", ""));
    let plural = match reference["kind"].as_str()? {
        "ReplicaSet" => "replicasets",
        "Deployment" => "deployments",
        "Service" => "services",
        "Job" => "jobs",
        _ => return None,
    };
    let name = reference["name"].as_str()?;
    let key = KubeObject::key_of(&object.cluster_id, group, plural, &object.namespace, name);
    snapshot.at::<KubeObject>(&key).filter(|owner| reference["uid"] == owner.uid())
}
