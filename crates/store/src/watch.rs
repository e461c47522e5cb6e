//! A running watch: commits in order, without gaps, from a revision on.

use std::sync::Arc;

use model::{Committed, Fault, Revision};
use tokio::sync::watch;

use crate::{Interest, Store};

/// How many commits a watch is handed at once.
const BATCH: usize = 1024;

/// A running watch.
pub struct Watch {
    store: Store,
    interest: Option<Interest>,
    /// Everything up to here was handed out or is of no interest.
    seen: Revision,
    bell: watch::Receiver<()>,
}

impl Watch {
    pub(crate) fn new(store: Store, interest: Option<Interest>, after: Revision) -> Result<Self, Fault> {
        let bell = store.feed.subscribe(interest.as_ref());
        store.feed.after(interest.as_ref(), after, 1)?;
        Ok(Self { store, interest, seen: after, bell })
    }

    /// The next commits: some that there are, at least one. Cancel-safe. [`Fault::Expired`] when the watch is so far behind
    /// that commits were forgotten, or began at a revision that this store never had.
    pub async fn next(&mut self) -> Result<Vec<Arc<Committed>>, Fault> {
        loop {
            self.bell.borrow_and_update();
            if let Some(commits) = self.poll(BATCH)? {
                return Ok(commits);
            }
            self.changed().await?;
        }
    }

    /// The next commit if there is one already: for whoever must not hold more of them than one.
    pub fn next_now(&mut self) -> Result<Option<Arc<Committed>>, Fault> {
        self.bell.borrow_and_update();
        Ok(self.poll(1)?.and_then(|mut commits| commits.pop()))
    }

    /// Waits until there may be more than [`Watch::next_now`] last found. Cancel-safe.
    pub async fn changed(&mut self) -> Result<(), Fault> {
        if self.seen > self.store.feed.revision() {
            self.store.backend.catch_up().await?;
            let newest = self.store.feed.revision();
            if self.seen > newest {
                let text = format!("revision {} is newer than the store, which is at {newest}", self.seen);
                return Err(Fault::Expired(text));
            }
        } else if self.bell.changed().await.is_err() {
            // The history was replaced, and with it the bells.
            self.bell = self.store.feed.subscribe(self.interest.as_ref());
        }
        Ok(())
    }

    /// The revision up to which everything of interest was handed out; what a bookmark may say.
    pub fn seen(&mut self) -> Revision {
        if let Ok((commits, newest)) = self.store.feed.after(self.interest.as_ref(), self.seen, 1)
            && commits.is_empty()
        {
            self.seen = self.seen.max(newest);
        }
        self.seen
    }

    fn poll(&mut self, most: usize) -> Result<Option<Vec<Arc<Committed>>>, Fault> {
        let (commits, newest) = self.store.feed.after(self.interest.as_ref(), self.seen, most)?;
        match commits.last() {
            Some(last) => {
                self.seen = last.revision;
                Ok(Some(commits))
            }
            // A quiet part of a busy store must not expire.
            None => {
                self.seen = if self.seen <= newest { newest } else { self.seen };
                Ok(None)
            }
        }
    }
}
