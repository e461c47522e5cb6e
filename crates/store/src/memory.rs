//! First cut, in memory only; the backends replace the inside, not the interface.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, RwLock};

use model::{Change, Committed, Fault, Ledger, Refused, Revision, Snapshot};
use tokio::sync::watch;

/// How often a transaction is planned again when others get in between.
const ATTEMPTS: u32 = 64;

/// How many commits a watch can lag behind.
const HISTORY: usize = 16_384;

#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the store does not work: {0}")]
    Broken(String),
}

impl From<StoreFault> for Fault {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Refused(refused) => refused.into(),
            StoreFault::Broken(why) => Fault::Unavailable(why),
        }
    }
}

/// A handle to the store; clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    write: Mutex<Ledger>,
    state: RwLock<(Snapshot, VecDeque<Arc<Committed>>)>,
    revision: watch::Sender<Revision>,
}

impl Store {
    /// An empty store in memory.
    pub fn memory() -> Self {
        let (revision, _) = watch::channel(0);
        Self { inner: Arc::new(Inner { write: Default::default(), state: Default::default(), revision }) }
    }

    /// Everything, as of the last commit that this process has seen. Costs a pointer.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.state.read().expect("no panic under this lock").0.clone()
    }

    /// Everything, at least as new as the backend's newest commit when this was called.
    pub async fn fresh(&self) -> Result<Snapshot, Fault> {
        Ok(self.snapshot())
    }

    /// Commits a change or refuses it whole. Returns when it is durable and visible in [`Store::snapshot`].
    /// An empty change is no commit.
    pub async fn commit(&self, change: &Change) -> Result<Revision, StoreFault> {
        let mut ledger = self.inner.write.lock().expect("no panic under this lock");
        let snapshot = self.snapshot();
        if change.is_empty() {
            return Ok(snapshot.revision());
        }
        let delta = snapshot.prepare(change)?;
        ledger.check(&delta, |key| {
            snapshot.row(key).is_some() || change.writes.iter().any(|w| w.key() == *key)
        })?;
        ledger.apply(&delta);
        let mut state = self.inner.state.write().expect("no panic under this lock");
        let revision = snapshot.revision() + 1;
        let committed = Arc::new(state.0.apply(revision, &change.writes));
        state.1.push_back(committed);
        if state.1.len() > HISTORY {
            state.1.pop_front();
        }
        drop(state);
        self.inner.revision.send_replace(revision);
        Ok(revision)
    }

    /// Plans a change from a snapshot and commits it; plans again when a row changed meanwhile. `plan` may be called
    /// many times. A claim that another commit took first is planned again as well, on a snapshot that shows it taken;
    /// it is refused for good when the fresh snapshot brings the same refusal.
    pub async fn transact<T>(
        &self,
        mut plan: impl FnMut(&Snapshot) -> Result<(Change, T), Fault>,
    ) -> Result<T, Fault> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let snapshot = self.snapshot();
            let (change, result) = plan(&snapshot)?;
            match self.commit(&change).await {
                Ok(_) => return Ok(result),
                Err(StoreFault::Refused(refused @ Refused::Stale(_))) => last = Some(refused),
                Err(StoreFault::Refused(refused)) => {
                    if snapshot.revision() == self.snapshot().revision() || last.as_ref() == Some(&refused) {
                        return Err(refused.into());
                    }
                    last = Some(refused);
                }
                Err(broken) => return Err(broken.into()),
            }
        }
        Err(last.map_or_else(|| Fault::Unavailable("the store is too busy".into()), Fault::from))
    }

    /// All commits after a revision, in order, without gaps.
    pub fn watch(&self, after: Revision) -> Result<Watch, Fault> {
        Ok(Watch { store: self.clone(), next: after + 1, news: self.inner.revision.subscribe() })
    }

    /// The use and limit of a claim pool, see [`model::Claim`].
    pub fn pool(&self, name: &str) -> model::Pool {
        self.inner.write.lock().expect("no panic under this lock").pool(name)
    }

    fn after(&self, next: Revision) -> Result<Vec<Arc<Committed>>, Fault> {
        let state = self.inner.state.read().expect("no panic under this lock");
        let Some(first) = state.1.front() else { return Ok(Vec::new()) };
        if next < first.revision {
            return Err(Fault::Expired(format!("revision {next} is older than the history that is kept")));
        }
        Ok(state.1.iter().skip((next - first.revision) as usize).cloned().collect())
    }
}

/// A running watch.
pub struct Watch {
    store: Store,
    next: Revision,
    news: watch::Receiver<Revision>,
}

impl Watch {
    /// The next commits: all that there are, at least one. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Arc<Committed>>, Fault> {
        loop {
            self.news.borrow_and_update();
            let commits = self.store.after(self.next)?;
            if let Some(last) = commits.last() {
                self.next = last.revision + 1;
                return Ok(commits);
            }
            if self.news.changed().await.is_err() {
                return Err(Fault::Unavailable("the store was closed".into()));
            }
        }
    }
}
