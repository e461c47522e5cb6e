//! Rows and the claims that follow from them, at one revision. A clone costs a few pointers: a backend tries a group of
//! commits on a copy and drops the copy when the disk refuses them.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use model::{Change, Committed, Delta, Key, Ledger, Refused, Revision, Row, Snapshot, Write};

/// Rows and claims at one revision.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub snapshot: Snapshot,
    pub ledger: Ledger,
}

impl Book {
    /// The book of these rows. Claims are computed from the rows, never stored beside them, so that they cannot disagree.
    pub fn load(rows: impl IntoIterator<Item = Row>, revision: Revision) -> Self {
        let mut book = Self::default();
        for row in rows {
            book.ledger.apply(&Delta::between(&row.key, None, Some(&row.object)));
            book.snapshot.load(row);
        }
        book.snapshot.set_revision(revision);
        book
    }

    pub fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    /// What the change does to the claims, or why it is refused.
    pub fn check(&self, change: &Change) -> Result<Delta, Refused> {
        let delta = self.snapshot.prepare(change)?;
        // Mostly what is needed is there already: the keys of what is made are not computed before somebody asks.
        let made = LazyCell::new(|| -> BTreeSet<Key> {
            let made = change.writes.iter().filter(|write| matches!(write, Write::Create(_)));
            made.map(Write::key).collect()
        });
        let gone = |key: &Key| delta.gone.contains(key);
        self.ledger.check(&delta, |key| (self.snapshot.row(key).is_some() && !gone(key)) || made.contains(key))?;
        Ok(delta)
    }

    /// Applies a change that was checked at this very revision.
    pub fn apply(&mut self, revision: Revision, writes: &[Write], delta: &Delta) -> Committed {
        self.ledger.apply(delta);
        self.snapshot.apply(revision, writes)
    }

    /// Applies what another process has committed; that one has checked it.
    pub fn follow(&mut self, revision: Revision, writes: &[Write]) -> Committed {
        let mut delta = Delta::default();
        for write in writes {
            let key = write.key();
            let after = match write {
                Write::Create(object) | Write::Update { object, .. } => Some(object),
                Write::Delete { .. } => None,
            };
            delta.replace(&key, self.snapshot.row(&key).map(|row| &row.object), after);
        }
        delta.settle();
        self.apply(revision, writes, &delta)
    }
}
