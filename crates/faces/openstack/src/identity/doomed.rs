//! What a deletion takes with it. Several things that go at once may share a row (an assignment of a user on a project,
//! a group with two members), and a change writes each row only once.

use std::collections::{BTreeMap, BTreeSet};

use model::{Change, Entry, Group, Key, Resource, Revision, Snapshot, Write};

/// Rows that go, and users who leave their groups.
#[derive(Default)]
pub struct Doomed {
    rows: BTreeMap<Key, Revision>,
    users: BTreeSet<String>,
}

impl Doomed {
    pub fn delete<T: Resource>(&mut self, entry: Entry<'_, T>) {
        self.rows.insert(entry.row.key.clone(), entry.row.modified);
    }

    pub fn delete_all(&mut self, writes: Vec<Write>) {
        for write in writes {
            if let Write::Delete { key, expected } = write {
                self.rows.insert(key, expected);
            }
        }
    }

    /// Takes a user out of every group that remains.
    pub fn leave_groups(&mut self, user_id: &str) {
        self.users.insert(user_id.to_owned());
    }

    pub fn change(self, snapshot: &Snapshot) -> Change {
        let mut change = Change::new();
        let concerned = |group: &Group| group.members.iter().any(|id| self.users.contains(id));
        for group in snapshot.all::<Group>() {
            if concerned(group.value) && !self.rows.contains_key(&group.row.key) {
                change.edit(group, |g| g.members.retain(|id| !self.users.contains(id)));
            }
        }
        change.writes.extend(self.rows.into_iter().map(|(key, expected)| Write::Delete { key, expected }));
        change
    }
}
