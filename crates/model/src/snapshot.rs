//! All rows at one revision, as a persistent map: a clone is one pointer and stays as it was. Reads never wait for a disk
//! and never block a writer.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::ops::Deref;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::{Change, Delta, Index, Key, Kind, Object, Realm, Refused, Resource, Write};

/// The number of a commit. Zero is the empty store.
pub type Revision = u64;

/// A row as it stands in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub key: Key,
    pub object: Object,
    /// The commit that created the row.
    pub created: Revision,
    /// The commit that last wrote it; Kubernetes' resourceVersion.
    pub modified: Revision,
}

/// A row of a known kind; dereferences to the value.
#[derive(Debug)]
pub struct Entry<'a, T> {
    pub row: &'a Arc<Row>,
    pub value: &'a T,
}

impl<T> Clone for Entry<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Entry<'_, T> {}

impl<T> Deref for Entry<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value
    }
}

/// What one commit did to one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub key: Key,
    pub before: Option<Arc<Row>>,
    pub after: Option<Arc<Row>>,
}

impl Event {
    /// Whether it only tells how the row is: what is asked for is as it was.
    pub fn is_report(&self) -> bool {
        let both = self.before.as_ref().zip(self.after.as_ref());
        both.is_some_and(|(before, after)| after.object.is_report_on(&before.object))
    }
}

/// One commit as watchers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub revision: Revision,
    pub events: Vec<Event>,
}

/// All rows at one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: Revision,
    rows: OrdMap<Key, Arc<Row>>,
    /// Of all kinds but Kubernetes' objects, which have no ids.
    ids: OrdMap<(Kind, Arc<str>, Realm), ()>,
    index: OrdMap<(Index, Arc<str>, Key), ()>,
}

impl Snapshot {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The number of rows of all kinds.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn row(&self, key: &Key) -> Option<&Arc<Row>> {
        self.rows.get(key)
    }

    /// The row with this key, if it is of this kind.
    pub fn at<T: Resource>(&self, key: &Key) -> Option<Entry<'_, T>> {
        if key.kind == T::KIND { self.rows.get(key).and_then(entry) } else { None }
    }

    /// The row of this kind with this name (for most kinds: id) in whatever realm; of several the first by realm. Names
    /// that are unique only within their realm are found through [`Snapshot::at`]: Kubernetes' objects cannot be found so.
    pub fn get<T: Resource>(&self, id: &str) -> Option<Entry<'_, T>> {
        const { assert!(has_ids(T::KIND), "objects of Kubernetes are named within their cluster only") };
        let start = (T::KIND, Arc::<str>::from(id), Realm::Cloud);
        let ((kind, name, realm), ()) = self.ids.range((Bound::Included(start), Bound::Unbounded)).next()?;
        if *kind != T::KIND || **name != *id {
            return None;
        }
        self.at(&Key { kind: *kind, realm: realm.clone(), name: name.clone() })
    }

    /// All rows of a kind, by realm and name.
    pub fn all<T: Resource>(&self) -> impl Iterator<Item = Entry<'_, T>> {
        self.of_kind(T::KIND).filter_map(entry)
    }

    /// The rows of a kind, by realm and name, none of which is looked at.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Row>> {
        let start = Key::new(kind, Realm::Cloud, "");
        let rows = self.rows.range((Bound::Included(start), Bound::Unbounded));
        rows.take_while(move |(key, _)| key.kind == kind).map(|(_, row)| row)
    }

    /// All rows of a kind in one realm, by name.
    pub fn within<'a, T: Resource>(&'a self, realm: &Realm) -> impl Iterator<Item = Entry<'a, T>> + use<'a, T> {
        self.names(realm, "", None)
    }

    /// All rows of a kind in one realm whose names begin with a prefix, by name, beginning behind `after`.
    pub fn names<'a, T: Resource>(
        &'a self,
        realm: &Realm,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = Entry<'a, T>> + use<'a, T> {
        let (realm, prefix) = (realm.clone(), prefix.to_owned());
        let start = match after {
            Some(name) => Bound::Excluded(Key::new(T::KIND, realm.clone(), name)),
            None => Bound::Included(Key::new(T::KIND, realm.clone(), prefix.as_str())),
        };
        self.rows
            .range((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.kind == T::KIND && key.realm == realm && key.name.starts_with(&prefix))
            .filter_map(|(_, row)| entry(row))
    }

    /// All rows of a kind with this value in an index, by realm and name.
    pub fn find<'a, T: Resource>(
        &'a self,
        index: Index,
        value: &str,
    ) -> impl Iterator<Item = Entry<'a, T>> + use<'a, T> {
        let value: Arc<str> = value.into();
        let start = (index, value.clone(), Key::new(T::KIND, Realm::Cloud, ""));
        self.index
            .range((Bound::Included(start), Bound::Unbounded))
            .take_while(move |((i, v, key), ())| *i == index && *v == value && key.kind == T::KIND)
            .filter_map(|((_, _, key), ())| self.at(key))
    }

    /// Every row, by key.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.values()
    }

    /// Checks a change against the rows of this snapshot alone and nets its claims. The backend repeats the check of
    /// the revisions and checks the claims, at the moment of the commit.
    pub fn prepare(&self, change: &Change) -> Result<Delta, Refused> {
        let mut delta = Delta::default();
        for expect in &change.expects {
            let now = self.row(&expect.key).map(|row| row.modified);
            if now != expect.revision {
                return Err(Refused::Stale(expect.key.clone()));
            }
        }
        let mut seen = BTreeSet::new();
        for write in &change.writes {
            let key = write.key();
            if change.writes.len() > 1 && !seen.insert(key.clone()) {
                // The first write of the change has changed the row already.
                return Err(Refused::Stale(key));
            }
            let before = self.row(&key);
            match write {
                Write::Create(object) => {
                    if before.is_some() {
                        return Err(Refused::Taken { name: key.to_string(), holder: key });
                    }
                    delta.replace(&key, None, Some(object));
                }
                Write::Update { object, expected } => {
                    let row = before.filter(|row| row.modified == *expected);
                    let row = row.ok_or_else(|| Refused::Stale(key.clone()))?;
                    delta.replace(&key, Some(&row.object), Some(object));
                }
                Write::Delete { expected, .. } => {
                    let row = before.filter(|row| row.modified == *expected);
                    let row = row.ok_or_else(|| Refused::Stale(key.clone()))?;
                    delta.replace(&key, Some(&row.object), None);
                }
            }
        }
        delta.settle();
        Ok(delta)
    }

    /// Applies the writes of a commit and returns what watchers shall see.
    pub fn apply(&mut self, revision: Revision, writes: &[Write]) -> Committed {
        let mut events = Vec::with_capacity(writes.len());
        for write in writes {
            let key = write.key();
            let before = self.rows.get(&key).cloned();
            // One key for the row and all that names it, however often it is written.
            let key = before.as_ref().map_or_else(|| self.among(key), |row| row.key.clone());
            let after = match write {
                Write::Create(object) | Write::Update { object, .. } => Some(Arc::new(Row {
                    key: key.clone(),
                    object: object.clone(),
                    created: before.as_ref().map_or(revision, |row| row.created),
                    modified: revision,
                })),
                Write::Delete { .. } => None,
            };
            self.put(&key, before.as_ref(), after.as_ref());
            events.push(Event { key, before, after });
        }
        self.revision = revision;
        Committed { revision, events }
    }

    /// The same with other rows under some keys, or none: what is made for somebody to read. Only by their keys are they found.
    pub fn with(mut self, rows: impl IntoIterator<Item = (Key, Option<Row>)>) -> Self {
        for (key, row) in rows {
            match row {
                Some(row) => _ = self.rows.insert(key, Arc::new(row)),
                None => _ = self.rows.remove(&key),
            }
        }
        self
    }

    /// A new key, with the realm's name shared with its neighbour: keys of a realm are compared all the time, and one text is
    /// in the processor's cache where a thousand equal ones are not.
    fn among(&self, key: Key) -> Key {
        let same = |(other, _): (&Key, _)| (other.realm == key.realm).then(|| other.realm.clone());
        let shared = self.rows.get_prev(&key).and_then(same).or_else(|| self.rows.get_next(&key).and_then(same));
        Key { realm: shared.unwrap_or(key.realm), ..key }
    }

    /// Puts back a row read from a backend.
    pub fn load(&mut self, row: Row) {
        self.revision = self.revision.max(row.modified);
        let before = self.rows.get(&row.key).cloned();
        let row = Arc::new(Row { key: self.among(row.key), ..row });
        self.put(&row.key.clone(), before.as_ref(), Some(&row));
    }

    /// Sets the revision after loading; commits that only deleted leave no row with their number.
    pub fn set_revision(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Of the indexes only what differs is touched: each touch copies a way through a tree.
    fn put(&mut self, key: &Key, before: Option<&Arc<Row>>, after: Option<&Arc<Row>>) {
        let index = |row: Option<&Arc<Row>>| row.map(|row| row.object.index()).unwrap_or_default();
        let (old, new) = (index(before), index(after));
        if old != new {
            let (old, new): (BTreeSet<_>, BTreeSet<_>) = (old.into_iter().collect(), new.into_iter().collect());
            for (index, value) in old.difference(&new) {
                self.index.remove(&(*index, value.as_str().into(), key.clone()));
            }
            for (index, value) in new.difference(&old) {
                self.index.insert((*index, value.as_str().into(), key.clone()), ());
            }
        }
        match after {
            Some(row) => {
                if before.is_none() && has_ids(key.kind) {
                    self.ids.insert((key.kind, key.name.clone(), key.realm.clone()), ());
                }
                self.rows.insert(key.clone(), row.clone());
            }
            None => {
                self.ids.remove(&(key.kind, key.name.clone(), key.realm.clone()));
                self.rows.remove(key);
            }
        }
    }
}

const fn has_ids(kind: Kind) -> bool {
    !matches!(kind, Kind::KubeObject)
}

fn entry<T: Resource>(row: &Arc<Row>) -> Option<Entry<'_, T>> {
    T::of(&row.object).map(|value| Entry { row, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KubeObject, Network, Setting, Time};

    fn setting(name: &str) -> Object {
        Setting { name: name.into(), value: 1.into() }.into()
    }

    #[test]
    fn a_change_writes_a_key_once() {
        let mut change = Change::new();
        change.create(setting("a")).create(setting("b"));
        assert!(Snapshot::default().prepare(&change).is_ok());
        change.create(setting("a"));
        assert!(matches!(Snapshot::default().prepare(&change), Err(Refused::Stale(_))));
    }

    #[test]
    fn a_row_that_is_written_again_keeps_its_key_and_is_found_by_what_it_says_now() {
        let pod = |host: &str| KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: String::new(),
            resource: "pods".into(),
            namespace: "n".into(),
            name: "a".into(),
            body: serde_json::json!({"metadata": {"uid": "u"}, "spec": {"nodeName": host}}),
        };
        let mut snapshot = Snapshot::default();
        snapshot.apply(1, &[Write::Create(pod("one").into())]);
        let first = snapshot.row(&pod("one").key()).cloned().expect("it was made");
        snapshot.apply(2, &[Write::Update { object: pod("two").into(), expected: 1 }]);
        let second = snapshot.row(&pod("two").key()).expect("it is there");
        assert!(Arc::ptr_eq(&first.key.name, &second.key.name) && second.modified == 2);
        let found = |index, value: &str| snapshot.find::<KubeObject>(index, value).count();
        assert_eq!([found(Index::Host, "one"), found(Index::Host, "two"), found(Index::Name, "u")], [0, 1, 1]);
    }

    #[test]
    fn a_namesake_in_another_realm_survives() {
        let network = |project: &str| Network::new("n", project, 1, Time::UNIX_EPOCH);
        let mut snapshot = Snapshot::default();
        snapshot.apply(1, &[Write::Create(network("one").into()), Write::Create(network("two").into())]);
        let found = |snapshot: &Snapshot| snapshot.get::<Network>("n").map(|e| e.value.project_id.clone());
        assert_eq!(found(&snapshot).as_deref(), Some("one"));
        for key in [network("two").key(), network("one").key()] {
            let mut fewer = snapshot.clone();
            fewer.apply(2, &[Write::Delete { key: key.clone(), expected: 1 }]);
            assert!(found(&fewer).is_some_and(|project| key.realm != Realm::project(&project)));
        }
    }

    #[test]
    fn rows_of_a_realm_share_its_name() {
        let network = |id: &str| Write::Create(Network::new(id, "p", 1, Time::UNIX_EPOCH).into());
        let mut snapshot = Snapshot::default();
        snapshot.apply(1, &[network("b"), network("c"), network("a")]);
        let names = snapshot.rows().filter_map(|row| match &row.key.realm {
            Realm::Project(id) => Some(id.as_ptr()),
            _ => None,
        });
        let names: BTreeSet<_> = names.collect();
        assert_eq!((snapshot.len(), names.len()), (3, 1));
    }
}
