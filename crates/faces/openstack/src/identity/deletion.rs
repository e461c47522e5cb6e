//! What a deletion takes with it. Several things that go at once may share a row (an assignment of a user on a project,
//! a group with two members), and a change writes each row only once.
//!
//! How much that is, others have a say in: strangers lend trusts to a user, members keep credentials on a project. So a
//! deletion that is too large for a commit is several, the last of which takes the thing itself: else whoever gave enough to
//! somebody would keep them from being deleted.

use std::collections::{BTreeMap, BTreeSet};

use model::{Change, Claim, Entry, Fault, Group, Key, Resource, Revision, Snapshot, Write};
use store::Store;

/// So many rows go in one commit, well below what a store takes.
const AT_ONCE: usize = 2000;

/// Rows that go, and users who leave their groups.
#[derive(Default)]
pub struct Deletion {
    rows: BTreeMap<Key, Revision>,
    users: BTreeSet<String>,
}

impl Deletion {
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

    /// Deletes all that `find` finds.
    pub async fn delete_from(store: &Store, find: impl Fn(&Snapshot) -> Result<Self, Fault>) -> Result<(), Fault> {
        loop {
            let more = store.transact(|snapshot| Ok(find(snapshot)?.part(snapshot)));
            if !more.await? {
                return Ok(());
            }
        }
    }

    /// As much as goes in one commit, and whether there is more. What goes first is needed by nothing else of it.
    fn part(self, snapshot: &Snapshot) -> (Change, bool) {
        let row = |key: &Key| snapshot.row(key).map(|row| row.object.claims()).unwrap_or_default();
        let whole = self.rows.len() + self.users.len();
        if whole <= AT_ONCE {
            return (self.change(snapshot), false);
        }
        let needed: BTreeSet<Key> = self.rows.keys().flat_map(row).filter_map(Claim::needed).collect();
        let leaves = self.rows.iter().filter(|(key, _)| !needed.contains(*key)).take(AT_ONCE);
        let mut change = Change::new();
        change.writes.extend(leaves.map(|(key, expected)| Write::Delete { key: key.clone(), expected: *expected }));
        match change.is_empty() {
            true => (self.change(snapshot), false),
            false => (change, true),
        }
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
