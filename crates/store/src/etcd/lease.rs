//! Leadership on etcd: a key that exists as long as its lease is kept alive. Whoever creates it leads; the revision of its
//! creation is compared in every commit of the leader, so that one who slept through the loss cannot write.
//!
//! Signs of life are such keys as well: to keep a lease alive writes nothing to etcd's log, and every process sees which keys
//! there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use model::Revision;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::exactly;
use super::{Shared, txn};
use crate::{Fence, StoreFault};

/// How long a leader that says nothing stays leader.
const SECONDS: i64 = 6;

/// How often somebody who waits looks whether the role is free.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until this process leads the role.
pub async fn lead(shared: &Arc<Shared>, role: &str) -> Result<Fence, StoreFault> {
    let key = shared.names.lease(role);
    loop {
        if shared.client.range(exactly(key.clone())).await?.kvs.is_empty() {
            // Counted from before the request: the lease ends later than this process believes.
            let asked = Instant::now();
            let keeper = Keeper::new(shared, shared.client.grant(SECONDS).await?);
            let mine = txn::put_if_absent(key.clone(), uuid::Uuid::new_v4().to_string().into(), keeper.lease);
            if let Some(token) = shared.client.txn(mine).await? {
                // What the former leader has committed must be seen by the next one.
                shared.catch_up().await?;
                return Ok(keeper.fence(role, token, asked));
            }
        }
        sleep(LOOK).await;
    }
}

/// How long a sign of life is heard.
const LIFE_SECONDS: i64 = 15;
/// How often a process looks who lives.
const LISTEN: Duration = Duration::from_secs(3);

impl Shared {
    /// Gives a sign of life.
    pub async fn beat(&self, name: &str) -> Result<(), StoreFault> {
        let known = self.lives().get(name).copied();
        if let Some(lease) = known
            && self.client.keep_alive(lease).await?
        {
            return Ok(());
        }
        let lease = self.client.grant(LIFE_SECONDS).await?;
        let put = txn::put_with_lease(self.names.life(name), lease);
        self.client.txn(put).await?;
        self.lives().insert(name.to_owned(), lease);
        Ok(())
    }

    /// Notes who lives now.
    pub async fn hear(&self) -> Result<(), StoreFault> {
        let note = |kv: &super::client::pb::KeyValue| {
            self.names.life_of(&kv.key).into_iter().for_each(|name| self.feed.beat(name, model::Time::now()));
            Ok(())
        };
        self.each(self.names.lives(), 0, note).await.map(drop)
    }

    /// Notes it for ever.
    pub async fn listen(self: Arc<Self>) {
        loop {
            sleep(LISTEN).await;
            if let Err(fault) = self.hear().await {
                tracing::debug!("listening for signs of life: {fault}");
            }
        }
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a lease alive; gives it up when dropped.
struct Keeper {
    shared: Arc<Shared>,
    lease: i64,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Keeper {
    fn new(shared: &Arc<Shared>, lease: i64) -> Self {
        shared.leases().insert(lease);
        Self { shared: shared.clone(), lease, task: None }
    }

    fn fence(mut self, role: &str, token: Revision, asked: Instant) -> Fence {
        let (tell, lost) = watch::channel(false);
        self.task = Some(tokio::spawn(keep(self.shared.clone(), self.lease, asked, tell, role.to_owned())));
        Fence { role: role.to_owned(), token, lost, keeper: Box::new(self) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let held = self.shared.leases().remove(&self.lease);
        let (client, lease) = (self.shared.client.clone(), self.lease);
        // Without a runtime (at the end of a process) the lease runs out by itself.
        if held && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { _ = client.revoke(lease).await });
        }
    }
}

impl Shared {
    fn leases(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others lead at once instead of when the leases end.
    pub async fn give_up_leases(&self) {
        let leases = std::mem::take(&mut *self.leases());
        for lease in leases {
            if let Err(fault) = self.client.revoke(lease).await {
                tracing::warn!("giving up a role: {fault}");
            }
        }
    }
}

async fn keep(shared: Arc<Shared>, lease: i64, asked: Instant, lost: watch::Sender<bool>, role: String) {
    let whole = Duration::from_secs(SECONDS as u64);
    let mut end = asked + whole;
    loop {
        sleep(whole / 4).await;
        let asking = Instant::now();
        match timeout_at(end, shared.client.keep_alive(lease)).await {
            Ok(Ok(true)) => end = asking + whole,
            Ok(Err(fault)) if Instant::now() < end => tracing::warn!("keeping the lead of {role}: {fault}"),
            _ => break,
        }
    }
    tracing::warn!("this process does not lead {role} any more");
    lost.send_replace(true);
}
