//! The front of the store, the same over every backend.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use model::{Change, Fault, Pool, Refused, Revision, Snapshot, Time};

use crate::memory::Memory;
use crate::{Backend, EtcdTls, Feed, Fence, Interest, Leadership, Proposal, StoreFault, Watch, etcd, sqlite};

/// How often a transaction is planned again when others get in between.
const ATTEMPTS: u32 = 64;

/// A handle to the store; clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) feed: Feed,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) fence: Option<Arc<Fence>>,
    /// Why the last commit failed, if the backend did not work then.
    pub(crate) trouble: Arc<Mutex<Option<String>>>,
    /// [`Store::for_requests`].
    pub(crate) can_wait: bool,
}

impl Store {
    /// A store over any backend; `feed` is the one that the backend fills.
    pub fn over(feed: Feed, backend: impl Backend) -> Self {
        Self { feed, backend: Arc::new(backend), fence: None, trouble: Arc::default(), can_wait: false }
    }

    /// The same store for those who do what users ask for. When its disk is full their commits are refused as soon as they
    /// would make it fuller; what is left is kept for deletions, and for what hosts have to say.
    pub fn for_requests(&self) -> Self {
        Self { can_wait: true, ..self.clone() }
    }

    /// An empty store in memory.
    pub fn memory() -> Self {
        let feed = Feed::default();
        Self::over(feed.clone(), Memory::new(feed))
    }

    /// The store in an SQLite database, which is made when it does not exist. One process at a time can open it.
    pub async fn open_sqlite(path: impl AsRef<Path>) -> Result<Self, StoreFault> {
        Self::open_sqlite_keeping(path, 0).await
    }

    /// The same, with so many bytes kept free in the database, for when its disk is full; see [`Store::for_requests`].
    pub async fn open_sqlite_keeping(path: impl AsRef<Path>, spare: u32) -> Result<Self, StoreFault> {
        let feed = Feed::default();
        let backend = sqlite::Sqlite::open(path.as_ref(), feed.clone(), spare).await?;
        Ok(Self::over(feed, backend))
    }

    /// The store in an etcd cluster: `etcd://HOST:PORT[,HOST:PORT…][/PREFIX]`. Any number of processes can open it. Runs
    /// tasks on the tokio runtime of the caller.
    pub async fn open_etcd(url: &str) -> Result<Self, StoreFault> {
        Self::open_etcd_over(url, None).await
    }

    /// The same over TLS: `etcds://HOST:PORT[,HOST:PORT…][/PREFIX]`.
    pub async fn open_etcd_tls(url: &str, tls: &EtcdTls) -> Result<Self, StoreFault> {
        Self::open_etcd_over(url, Some(tls)).await
    }

    async fn open_etcd_over(url: &str, tls: Option<&EtcdTls>) -> Result<Self, StoreFault> {
        let feed = Feed::default();
        let backend = etcd::Etcd::open(url, tls, feed.clone()).await?;
        Ok(Self::over(feed, backend))
    }

    /// Everything, as of the last commit that this process has seen. Costs a few pointers.
    pub fn snapshot(&self) -> Snapshot {
        self.feed.snapshot()
    }

    /// Everything, at least as new as the backend's newest commit when this was called.
    pub async fn fresh(&self) -> Result<Snapshot, Fault> {
        self.feed.open()?;
        self.backend.catch_up().await?;
        Ok(self.snapshot())
    }

    /// Commits a change or refuses it whole. Returns when it is durable and visible in [`Store::snapshot`].
    /// An empty change is no commit.
    pub async fn commit(&self, change: &Change) -> Result<Revision, StoreFault> {
        self.feed.open()?;
        if change.is_empty() {
            return Ok(self.feed.revision());
        }
        let fence = self.fence.as_deref();
        if let Some(fence) = fence.filter(|fence| *fence.lost.borrow()) {
            return Err(StoreFault::Deposed(fence.role.clone()));
        }
        let proposal = Proposal { can_wait: self.can_wait, ..Proposal::new(change.clone())? };
        let done = self.backend.commit(proposal, fence).await;
        let trouble = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &done {
            Ok(_) => *trouble() = None,
            Err(StoreFault::Broken(text)) => *trouble() = Some(text.clone()),
            // Refused without a look at the disk, perhaps.
            Err(_) => {}
        }
        done
    }

    /// Why commits fail at the moment, in words; nothing if none would be refused, and the last one did not fail, for the
    /// backend's sake.
    pub fn trouble(&self) -> Option<String> {
        self.backend.trouble().or_else(|| self.last_trouble())
    }

    fn last_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Plans a change from a snapshot and commits it; plans again when a row changed meanwhile. `plan` may be called
    /// many times. A claim that another commit took first is planned again as well, on a snapshot that shows it taken;
    /// it is refused for good when the fresh snapshot brings the same refusal.
    pub async fn transact<T>(&self, mut plan: impl FnMut(&Snapshot) -> Result<(Change, T), Fault>) -> Result<T, Fault> {
        self.transact_by_book(|book| plan(&book.snapshot)).await
    }

    /// As [`transact`](Self::transact), for plans that look at claims, too.
    pub async fn transact_by_book<T>(
        &self,
        mut plan: impl FnMut(&crate::Book) -> Result<(Change, T), Fault>,
    ) -> Result<T, Fault> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let book = self.book();
            let (change, result) = plan(&book)?;
            match self.commit(&change).await {
                Ok(_) => return Ok(result),
                Err(StoreFault::Refused(refused @ Refused::Stale(_))) => last = Some(refused),
                Err(StoreFault::Refused(refused)) => {
                    if book.revision() == self.feed.revision() || last.as_ref() == Some(&refused) {
                        return Err(refused.into());
                    }
                    last = Some(refused);
                }
                Err(broken) => return Err(broken.into()),
            }
        }
        Err(last.map_or_else(|| Fault::Unavailable("the store is too busy".into()), Fault::from))
    }

    /// All commits after a revision, in order, without gaps. [`Fault::Expired`] when they are not all kept any more.
    pub fn watch(&self, after: Revision) -> Result<Watch, Fault> {
        Watch::new(self.clone(), None, after)
    }

    /// The commits after a revision that touch a part of the store; a commit is handed out whole, so look at
    /// [`Interest::matches`] for its events. Costs nothing while other parts of the store are busy.
    pub fn watch_part(&self, after: Revision, interest: Interest) -> Result<Watch, Fault> {
        Watch::new(self.clone(), Some(interest), after)
    }

    /// The use and limit of a claim pool, see [`model::Claim`].
    pub fn pool(&self, name: &str) -> Pool {
        self.feed.pool(name)
    }

    /// A sign of life, of a host: no commit, and forgotten with the processes that heard it. It is heard by every process
    /// on the store.
    pub async fn beat(&self, name: &str, at: Time) -> Result<(), StoreFault> {
        self.feed.open()?;
        self.feed.beat(name, at);
        self.backend.beat(name).await
    }

    /// The last sign of life that this process has heard.
    pub fn last_beat(&self, name: &str) -> Option<Time> {
        self.feed.last_beat(name)
    }

    /// The last sign of life of each.
    pub fn beats(&self) -> BTreeMap<String, Time> {
        self.feed.beats()
    }

    /// Rows and claims together, at one revision.
    pub fn book(&self) -> crate::Book {
        self.feed.book()
    }

    /// Waits until this process leads a role. Fails when the backend does not answer: try again.
    pub async fn lead(&self, role: &str) -> Result<Leadership, StoreFault> {
        self.feed.open()?;
        Ok(Leadership::new(self.clone(), self.backend.lead(role).await?))
    }

    /// Forgets the history up to and including a revision: watches from before it expire.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreFault> {
        self.feed.open()?;
        self.backend.compact(revision.min(self.feed.revision())).await
    }

    /// Keeps what was taken, ends watches and frees the backend for the next process.
    pub async fn close(&self) {
        self.backend.close().await;
        self.feed.close();
    }

    /// Looks whether the stored claims are those of the stored rows: every difference, in words.
    pub async fn audit(&self) -> Result<Vec<String>, StoreFault> {
        self.backend.audit().await
    }

    /// Counts of what the backend did so far, for metrics.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.backend.counters()
    }
}
