//! The backend that keeps nothing: for tests and the simulator. No task, no thread, no clock: a commit is done when its
//! future was polled once, so a simulation stays in the hands of its seed.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use model::Revision;

use crate::{Backend, Book, Feed, Fence, Proposal, StoreFault, Weighed};

/// A store in the memory of one process.
pub struct Memory {
    feed: Feed,
    book: Mutex<Book>,
}

impl Memory {
    pub fn new(feed: Feed) -> Self {
        Self { feed, book: Mutex::default() }
    }
}

#[async_trait]
impl Backend for Memory {
    async fn commit(&self, proposal: Proposal, _: Option<&Fence>) -> Result<Revision, StoreFault> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let delta = book.check(&proposal.change)?;
        let mut next = book.clone();
        let revision = book.revision() + 1;
        let commit = next.apply(revision, &proposal.change.writes, &delta);
        *book = next;
        self.feed.publish(&book, vec![Weighed::new(Arc::new(commit), &proposal.rows)]);
        Ok(revision)
    }

    async fn catch_up(&self) -> Result<(), StoreFault> {
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreFault> {
        self.feed.forget(revision);
        Ok(())
    }

    async fn close(&self) {}
}
