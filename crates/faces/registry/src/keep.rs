//! Which blobs a project keeps, and what the rows of older stores say of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::SignedDuration;
use model::{
    Change, Entry, Fault, Key, Object, OciBlob, OciManifest, OciTag, Project, Quota, Realm, Resource, Setting,
    Snapshot, Time, quota,
};
use serde_json::json;
use store::Store;

use crate::Registry;
use crate::digest::sha256_of;
use crate::uploads::BYTES;

/// A blob that no manifest names stays for so long: its manifest may be about to come.
const YOUNG: SignedDuration = SignedDuration::from_hours(1);
/// Rows that go in one commit.
const TURN: usize = 256;
/// The setting that says that an older store's rows were looked through.
const ADOPTED: &str = "registry-blobs-adopted";

/// Takes from projects the blobs that none of their manifests names any more, and that are not young.
pub async fn release(store: &Store) -> Result<usize, Fault> {
    let mut released = 0;
    loop {
        let snapshot = store.snapshot();
        let named: HashSet<(Realm, &str)> = snapshot
            .all::<OciManifest>()
            .flat_map(|m| {
                m.value.blobs.iter().chain(&m.value.refers).map(move |digest| (m.value.realm(), digest.as_str()))
            })
            .collect();
        let now = Time::now();
        let free = snapshot.all::<OciBlob>().filter(|blob| {
            now.duration_since(blob.created_at) > YOUNG && !named.contains(&(blob.value.realm(), blob.digest.as_str()))
        });
        let mut change = Change::new();
        let mut count = 0;
        for blob in free.take(TURN) {
            change.delete(blob);
            count += 1;
        }
        if count == 0 {
            return Ok(released);
        }
        match store.commit(&change).await {
            Ok(_) => released += count,
            // A manifest came meanwhile: the next time.
            Err(store::StoreFault::Refused(_)) => return Ok(released),
            Err(other) => return Err(other.into()),
        }
    }
}

/// Brings the rows of an older store up to date, once: blobs that a project's manifests name are the project's, and
/// repositories are called by the project's id. Where a project has more than its limit allows by now, its limit becomes
/// what it has.
pub async fn adopt(registry: &Registry) -> Result<(), Fault> {
    if registry.store.snapshot().get::<Setting>(ADOPTED).is_some() {
        return Ok(());
    }
    let snapshot = registry.store.snapshot();
    let projects: HashSet<String> = snapshot.all::<OciManifest>().map(|m| m.project_id.clone()).collect();
    for project in projects {
        registry.store.transact(|snapshot| Ok((adoption(registry, snapshot, &project), ()))).await?;
    }
    registry
        .store
        .transact(|snapshot| {
            let mut change = Change::new();
            if snapshot.get::<Setting>(ADOPTED).is_none() {
                change.create(Setting { name: ADOPTED.into(), value: json!(true) });
            }
            Ok((change, ()))
        })
        .await
}

fn adoption(registry: &Registry, snapshot: &Snapshot, project: &str) -> Change {
    let realm = Realm::project(project);
    let mut change = Change::new();
    let mut manifests = BTreeMap::new();
    for row in snapshot.within::<OciManifest>(&realm) {
        let new = adopted(registry, snapshot, row.value);
        manifests.insert(new.key(), new);
    }
    let named: BTreeSet<String> = manifests.values().flat_map(|m| m.blobs.iter().cloned()).collect();
    replace(&mut change, snapshot.within::<OciManifest>(&realm), manifests);

    let mut tags: BTreeMap<Key, OciTag> = BTreeMap::new();
    for row in snapshot.within::<OciTag>(&realm) {
        let new = OciTag { repository: canonical(snapshot, project, &row.repository), ..row.value.clone() };
        // One repository was called by two names: what was said last holds.
        match tags.get(&new.key()) {
            Some(other) if other.updated_at > new.updated_at => {}
            _ => _ = tags.insert(new.key(), new),
        }
    }
    replace(&mut change, snapshot.within::<OciTag>(&realm), tags);

    let missing = named.into_iter().filter(|digest| snapshot.row(&OciBlob::key_of(project, digest)).is_none());
    let size = |digest: &str| sha256_of(digest).and_then(|hex| registry.blobs.size(hex)).unwrap_or(0);
    let blobs: Vec<OciBlob> = missing
        .map(|digest| OciBlob {
            project_id: project.to_owned(),
            size: size(&digest),
            digest,
            sha256: None,
            repository: None,
            created_at: Time::now(),
        })
        .collect();
    if let Some(row) = snapshot.get::<Quota>(project) {
        let new = with_room(registry, row.value, &blobs);
        if new != *row.value {
            tracing::info!("the registry's limits of the project {project} are what it has");
            change.update(row, new);
        }
    }
    for blob in blobs {
        change.create(blob);
    }
    change
}

/// A manifest as it would be written today.
fn adopted(registry: &Registry, snapshot: &Snapshot, old: &OciManifest) -> OciManifest {
    let mut new = OciManifest { repository: canonical(snapshot, &old.project_id, &old.repository), ..old.clone() };
    if new.blobs.is_empty() {
        let parts = new.refers.iter().chain([&new.digest]);
        let there = |digest: &&String| sha256_of(digest).is_some_and(|hex| registry.blobs.claim(hex).is_some());
        let blobs: BTreeSet<String> = parts.filter(there).cloned().collect();
        new.blobs = blobs.into_iter().collect();
    }
    new
}

/// Writes new rows in the place of old ones, some of which may go by other keys.
fn replace<'a, T: Resource>(change: &mut Change, old: impl Iterator<Item = Entry<'a, T>>, mut new: BTreeMap<Key, T>)
where
    Object: From<T>,
{
    for row in old {
        match new.remove(&row.value.key()) {
            Some(new) if new != *row.value => _ = change.update(row, new),
            Some(_) => {}
            None => _ = change.delete(row),
        }
    }
    for row in new.into_values() {
        change.create(row);
    }
}

/// A project's limits, raised to what it has where that is more.
fn with_room(registry: &Registry, quota: &Quota, more: &[OciBlob]) -> Quota {
    let mut new = quota.clone();
    let bytes = more.iter().map(|blob| blob.size).sum::<u64>();
    for (name, amount) in [(BYTES, bytes), ("registry_blobs", more.len() as u64)] {
        let Some(resource) = quota::limited(name) else { continue };
        let used = registry.store.pool(&quota::pool(&quota.project_id, name)).used;
        let needed = (used + amount).div_ceil(resource.scale);
        if new.limit(resource).is_some_and(|limit| limit < needed) {
            new.limits.insert(name.to_owned(), Some(needed));
        }
    }
    new
}

/// What a repository is called today: by its project's id.
fn canonical(snapshot: &Snapshot, project: &str, repository: &str) -> String {
    match repository.split_once('/') {
        Some((first, rest))
            if !project.is_empty() && first != project && snapshot.get::<Project>(project).is_some() =>
        {
            format!("{project}/{rest}")
        }
        _ => repository.to_owned(),
    }
}
