//! The process's memory: the book as of the last commit that was fed, and the history for watches. Backends fill it,
//! in commit order, from whatever thread they like; readers hold its lock only to copy a few pointers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::{Committed, Fault, Pool, Revision, Snapshot, Time};
use tokio::sync::watch;

use crate::history::{History, Interest, Weighed};
use crate::{Book, StoreFault};

/// The memory of one opened store; clones are the same memory.
#[derive(Clone)]
pub struct Feed(Arc<RwLock<Memory>>, Arc<Mutex<BTreeMap<String, Time>>>);

struct Memory {
    book: Book,
    history: History,
    closed: bool,
    revision: watch::Sender<Revision>,
}

impl Default for Feed {
    fn default() -> Self {
        let (revision, _) = watch::channel(0);
        let memory = Memory { book: Book::default(), history: History::new(0, Vec::new()), closed: false, revision };
        Self(Arc::new(RwLock::new(memory)), Arc::default())
    }
}

impl Feed {
    /// Replaces everything: at the start, and when commits were missed that no history has any more. Running watches that
    /// are behind the history's beginning expire.
    pub fn reset(&self, book: Book, complete_after: Revision, commits: Vec<Arc<Committed>>) {
        let (revision, history) = (book.revision(), History::new(complete_after, commits));
        let mut memory = self.write();
        let old = std::mem::replace(&mut memory.book, book);
        let history = std::mem::replace(&mut memory.history, history);
        memory.revision.send_replace(revision);
        drop(memory);
        history.ring_all();
        drop(old);
    }

    /// Appends commits, in order; `book` is the book after the last of them.
    pub fn publish(&self, book: &Book, commits: Vec<Weighed>) {
        let mut memory = self.write();
        let before = memory.book.revision();
        let old = std::mem::replace(&mut memory.book, book.clone());
        commits.into_iter().for_each(|commit| memory.history.push(commit));
        memory.history.ring(before);
        memory.revision.send_replace(book.revision());
        drop(memory);
        // The last holder of a book frees its rows: not under the lock.
        drop(old);
    }

    /// Forgets the history up to and including a revision.
    pub fn forget(&self, revision: Revision) {
        let mut memory = self.write();
        let revision = revision.min(memory.book.revision());
        memory.history.forget(revision);
    }

    /// Notes a sign of life.
    pub fn beat(&self, name: &str, at: Time) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), at);
    }

    /// The last sign of life that this process knows of.
    pub fn last_beat(&self, name: &str) -> Option<Time> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// All of them.
    pub fn beats(&self) -> BTreeMap<String, Time> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn book(&self) -> Book {
        self.read().book.clone()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.read().book.snapshot.clone()
    }

    pub fn pool(&self, name: &str) -> Pool {
        self.read().book.ledger.pool(name)
    }

    pub fn revision(&self) -> Revision {
        self.read().book.revision()
    }

    /// Every commit after this revision is kept in memory.
    pub fn complete_after(&self) -> Revision {
        self.read().history.complete_after()
    }

    /// Returns when a revision was fed.
    pub async fn wait(&self, revision: Revision) -> Result<(), StoreFault> {
        let mut news = self.read().revision.subscribe();
        loop {
            news.borrow_and_update();
            self.open()?;
            if self.revision() >= revision {
                return Ok(());
            }
            if news.changed().await.is_err() {
                return Err(closed());
            }
        }
    }

    /// Ends all watches and waits.
    pub fn close(&self) {
        let mut memory = self.write();
        memory.closed = true;
        memory.history.ring_all();
        memory.revision.send_modify(|_| ());
    }

    pub(crate) fn open(&self) -> Result<(), StoreFault> {
        if self.read().closed { Err(closed()) } else { Ok(()) }
    }

    pub(crate) fn subscribe(&self, interest: Option<&Interest>) -> watch::Receiver<()> {
        self.write().history.subscribe(interest)
    }

    /// The next commits of an interest, so many at most, and the revision up to which they are all.
    pub(crate) fn after(
        &self,
        interest: Option<&Interest>,
        revision: Revision,
        most: usize,
    ) -> Result<(Vec<Arc<Committed>>, Revision), Fault> {
        let memory = self.read();
        if memory.closed {
            return Err(closed().into());
        }
        Ok((memory.history.after(interest, revision, most)?, memory.book.revision()))
    }

    // Whoever panicked under this lock left it whole: books are replaced, not edited.
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreFault {
    StoreFault::Broken("it was closed".into())
}
