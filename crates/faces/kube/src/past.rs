//! Rows as they were when something happened that is told only now. An object that is made of several rows is told as of the event
//! that one of them is about; the others may be newer by then. What they were stands in the events that are still to be told:
//! the first one of a row says what it was before. Refused: a snapshot held by each watch, which keeps alive all that changes.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Event, Fault, Key, Kind, Realm, Revision, Row, Snapshot};
use store::{Concern, Interest, Store, Watch};

/// The rows of a watch that changed between what it told last and what it has heard of.
pub struct Past {
    store: Store,
    news: Concern,
    realm: Realm,
    /// Runs ahead of what is told, so that each event is looked at once.
    ahead: Watch,
    rows: HashMap<Key, Option<Arc<Row>>>,
}

impl Past {
    /// Of a watch of a cluster's objects that begins behind a revision.
    pub fn new(store: &Store, news: Concern, realm: Realm, from: Revision) -> Result<Self, Fault> {
        let ahead = store.watch_part(from, Interest::Concern(news))?;
        Ok(Self { store: store.clone(), news, realm, ahead, rows: HashMap::new() })
    }

    /// The newest rows, whose changes are all heard of: what [`Past::row`] is asked with.
    pub fn newest(&mut self) -> Result<Snapshot, Fault> {
        let newest = self.store.snapshot();
        while let Some(commit) = self.ahead.next_now()? {
            for event in commit.events.iter().filter(|event| is_ours(self.news, &self.realm, event)) {
                self.rows.entry(event.key.clone()).or_insert_with(|| event.before.clone());
            }
        }
        Ok(newest)
    }

    /// A row as it was before the event that is to be told next.
    pub fn row(&self, newest: &Snapshot, key: &Key) -> Option<Arc<Row>> {
        self.rows.get(key).map_or_else(|| newest.row(key).cloned(), Clone::clone)
    }

    /// Goes on behind an event.
    pub fn pass(&mut self, event: &Event) {
        if is_ours(self.news, &self.realm, event) {
            self.rows.insert(event.key.clone(), event.after.clone());
        }
    }

    /// All is told that was heard of.
    pub fn forget(&mut self) {
        self.rows.clear();
    }
}

fn is_ours(news: Concern, realm: &Realm, event: &Event) -> bool {
    (event.key.kind != Kind::KubeObject || event.key.realm == *realm) && (news.rule)(event)
}
