//! The backend for several processes: an etcd cluster, version 3.4 or later.
//!
//! Rows, unique names, pools and needs are keys, written and compared in one etcd transaction; see `txn` for which. The
//! transaction is built from this process's book and compares all that the book said, so it goes through exactly when the
//! book was right about everything that matters. Otherwise the process catches up and asks its book again: either that now
//! says why not, in the same words as the other backends, or the commit is built again. Locks held across calls were
//! refused: their holders die.
//!
//! etcd limits a transaction to 128 comparisons and 128 operations and a request to 1.5 MiB, unless it is started with
//! `--max-txn-ops=65536 --max-request-bytes=16777216`, which the store's own limits need. A smaller server works; a change
//! that is too large for it is refused as [`StoreFault::TooLarge`], which says so.
//!
//! The cluster should be Braid's own: like Kubernetes, the store compacts etcd's history every few minutes, and that has
//! one history for all its users.

mod audit;
mod client;
mod follow;
mod lease;
mod txn;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::Revision;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{Backend, Feed, Fence, Proposal, StoreFault};
use client::{Client, Failure, exactly};
use txn::Names;

/// For how long a commit is tried, from its first request to the last.
const PATIENCE: Duration = Duration::from_secs(20);

/// For how long etcd may say nothing at all to a commit.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the end of a process may wait for etcd.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a watch may lag behind what etcd has answered.
const LAG: Duration = Duration::from_secs(10);

/// How long a commit waits before it is tried again when etcd does not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// The version of the keys' layout.
const LAYOUT: &str = "1";

/// How to talk TLS with etcd, as PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// The authorities that etcd's certificate may be from.
    pub ca: String,
    /// A certificate and its key, for an etcd that asks who its clients are.
    pub identity: Option<(String, String)>,
}

/// A store in an etcd cluster.
pub struct Etcd {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    /// Commits that lost a race queue here for the next try, so that those of one process do not race each other again.
    turnstile: tokio::sync::Mutex<()>,
    conflicts: AtomicU64,
    commits: AtomicU64,
}

/// What the follower shares with the front.
struct Shared {
    client: Client,
    names: Names,
    feed: Feed,
    pending: Pending,
    /// The leases that keep this process's roles, to be given up at its end.
    leases: Mutex<BTreeSet<i64>>,
    /// The leases of signs of life, by name.
    lives: Mutex<BTreeMap<String, i64>>,
}

/// Commits whose answer is awaited, by id: a lost answer is found in the watch.
#[derive(Default)]
struct Pending(Mutex<HashMap<String, Fate>>);

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Open,
    Landed(Revision),
    /// Commits were missed; this may have been among them.
    Unknown,
}

impl Pending {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Fate>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn landed(&self, id: &str, revision: Revision) {
        self.with(|all| _ = all.get_mut(id).map(|fate| *fate = Fate::Landed(revision)));
    }

    fn missed(&self) {
        self.with(|all| all.values_mut().filter(|fate| **fate == Fate::Open).for_each(|fate| *fate = Fate::Unknown));
    }

    fn fate(&self, id: &str) -> Fate {
        self.with(|all| all.get(id).copied().unwrap_or(Fate::Unknown))
    }
}

/// Removes a commit from the pending ones when its committer is done, or gives up.
struct Waiting<'a>(&'a Pending, String);

impl<'a> Waiting<'a> {
    fn new(pending: &'a Pending) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        pending.with(|all| all.insert(id.clone(), Fate::Open));
        Self(pending, id)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.with(|all| all.remove(&self.1));
    }
}

/// What came of one try to commit.
enum Attempt {
    Landed(Revision),
    /// The book was not right about everything; it is now newer.
    Outdated,
    /// Nobody knows; another try may tell.
    Unanswered,
}

impl Etcd {
    /// Connects, loads everything and follows from there.
    pub async fn open(url: &str, tls: Option<&EtcdTls>, feed: Feed) -> Result<Self, StoreFault> {
        let target = client::Target::parse(url).map_err(StoreFault::Broken)?;
        // Without the user and the password.
        let at = |fault| match fault {
            StoreFault::Broken(why) => StoreFault::Broken(format!("{why} (at {})", target.hosts.join(", "))),
            other => other,
        };
        let client = Client::connect(&target, tls).await.map_err(at)?;
        let names = Names::new(&target.prefix);
        let shared = Arc::new(Shared {
            client,
            names,
            feed,
            pending: Pending::default(),
            leases: Default::default(),
            lives: Default::default(),
        });
        shared.check_layout().await.map_err(at)?;
        let start = shared.load().await?;
        shared.hear().await?;
        let follower = tokio::spawn(shared.clone().follow(start));
        let compactor = tokio::spawn(shared.clone().compact_regularly());
        let listener = tokio::spawn(shared.clone().listen());
        Ok(Self {
            shared,
            tasks: Mutex::new(vec![follower, compactor, listener]),
            turnstile: Default::default(),
            conflicts: Default::default(),
            commits: Default::default(),
        })
    }

    fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }

    async fn attempt(&self, proposal: &Proposal, fence: Option<&Fence>, id: &str) -> Result<Attempt, StoreFault> {
        let shared = &self.shared;
        let book = shared.feed.book();
        let delta = match book.check(&proposal.change) {
            Ok(delta) => delta,
            Err(_) => {
                // The book may be behind. What it says after catching up is true of a moment since the commit began.
                if !self.caught_up().await {
                    return Ok(Attempt::Unanswered);
                }
                match shared.pending.fate(id) {
                    Fate::Landed(revision) => return Ok(Attempt::Landed(revision)),
                    Fate::Unknown => return Err(unknown()),
                    Fate::Open => {}
                }
                shared.feed.book().check(&proposal.change)?;
                return Ok(Attempt::Outdated);
            }
        };
        let request = txn::build(&shared.names, &book, proposal, &delta, fence, id);
        match shared.client.txn(request).await {
            Ok(Some(revision)) => Ok(Attempt::Landed(revision)),
            Ok(None) => {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
                if let Some(fence) = fence {
                    shared.still_leads(fence).await?;
                }
                self.caught_up().await;
                Ok(Attempt::Outdated)
            }
            Err(Failure::Definite(fault)) => Err(fault),
            Err(Failure::Lost(text)) => {
                // It may have gone through. The same comparisons cannot pass twice, so it can be sent again.
                tracing::warn!("no answer from etcd to a commit: {text}");
                sleep(PAUSE).await;
                Ok(Attempt::Unanswered)
            }
        }
    }

    /// Catches up, or waits a moment where that fails: a commit is tried until its patience ends.
    async fn caught_up(&self) -> bool {
        match self.shared.catch_up().await {
            Ok(()) => true,
            Err(fault) => {
                tracing::warn!("a commit waits: {fault}");
                sleep(PAUSE).await;
                false
            }
        }
    }
}

fn unknown() -> StoreFault {
    StoreFault::Broken("the connection to etcd was lost during a commit; whether it was kept is not known".into())
}

#[async_trait]
impl Backend for Etcd {
    async fn commit(&self, proposal: Proposal, fence: Option<&Fence>) -> Result<Revision, StoreFault> {
        let waiting = Waiting::new(&self.shared.pending);
        let (end, mut heard) = (Instant::now() + PATIENCE, Instant::now());
        let mut turn = None;
        loop {
            let attempt = self.attempt(&proposal, fence, &waiting.1).await?;
            let raced = matches!(attempt, Attempt::Outdated);
            if raced {
                heard = Instant::now();
            }
            let landed = if let Attempt::Landed(revision) = attempt { Some(revision) } else { None };
            let landed = landed.or(match self.shared.pending.fate(&waiting.1) {
                Fate::Landed(revision) => Some(revision),
                _ => None,
            });
            if let Some(revision) = landed {
                self.shared.see(revision).await?;
                self.commits.fetch_add(1, Ordering::Relaxed);
                return Ok(revision);
            }
            if self.shared.pending.fate(&waiting.1) == Fate::Unknown {
                return Err(unknown());
            }
            if heard.elapsed() > SILENCE {
                return Err(StoreFault::Broken("etcd does not answer".into()));
            }
            if Instant::now() > end {
                return Err(StoreFault::Broken("for too long, others always committed first".into()));
            }
            if turn.is_none() && raced {
                // Whoever has the turn may be waiting for an etcd that says nothing.
                turn = timeout_at(end, self.turnstile.lock()).await.ok();
            } else {
                sleep(Duration::from_millis(fastrand::u64(0..10))).await;
            }
        }
    }

    async fn catch_up(&self) -> Result<(), StoreFault> {
        self.shared.catch_up().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreFault> {
        self.shared.client.compact(revision).await?;
        self.shared.feed.forget(revision);
        Ok(())
    }

    async fn lead(&self, role: &str) -> Result<Fence, StoreFault> {
        lease::lead(&self.shared, role).await
    }

    async fn beat(&self, name: &str) -> Result<(), StoreFault> {
        self.shared.beat(name).await
    }

    async fn close(&self) {
        self.stop();
        if timeout(FAREWELL, self.shared.give_up_leases()).await.is_err() {
            tracing::warn!("etcd does not answer: roles of this process are free when their leases end");
        }
    }

    async fn audit(&self) -> Result<Vec<String>, StoreFault> {
        self.shared.audit().await
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        [("commits", &self.commits), ("conflicts", &self.conflicts)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .to_vec()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Waits until the watch has brought a revision.
    async fn see(&self, revision: Revision) -> Result<(), StoreFault> {
        match timeout(LAG, self.feed.wait(revision)).await {
            Ok(seen) => seen,
            Err(_) => Err(StoreFault::Broken(format!("etcd's watch has not brought revision {revision} for too long"))),
        }
    }

    /// Learns the newest commit from a majority of etcd's members and waits for it.
    async fn catch_up(&self) -> Result<(), StoreFault> {
        let newest = self.client.range(exactly(self.names.head())).await?;
        match newest.kvs.first() {
            Some(head) => self.see(head.mod_revision as Revision).await,
            None => Ok(()),
        }
    }

    /// Refuses keys that another release has laid out otherwise.
    async fn check_layout(&self) -> Result<(), StoreFault> {
        let key = self.names.layout();
        let made = self.client.txn(txn::put_if_absent(key.clone(), LAYOUT.into(), 0)).await;
        if let Err(failure) = made {
            return Err(failure.into());
        }
        let found = self.client.range(exactly(key)).await?;
        match found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()) {
            Some(layout) if layout == LAYOUT => Ok(()),
            other => Err(StoreFault::Broken(format!(
                "the keys in etcd have layout {}, this release knows {LAYOUT}",
                other.unwrap_or_else(|| "none".into())
            ))),
        }
    }

    /// Whether a fence stands, as etcd sees it.
    async fn still_leads(&self, fence: &Fence) -> Result<(), StoreFault> {
        let lease = self.client.range(exactly(self.names.lease(&fence.role))).await?;
        match lease.kvs.first() {
            Some(kv) if kv.create_revision as Revision == fence.token => Ok(()),
            _ => Err(StoreFault::Deposed(fence.role.clone())),
        }
    }
}
