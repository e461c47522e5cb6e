//! Shares of what there is little of: open watches, bytes that watches have ready, processor time for large requests. A
//! credential has a share, a cluster has one, and there is a total: nobody's names, which a project makes as many of as it
//! likes, take what others need. Counting by the name of a user was refused: every cluster has its `default` account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who takes: a cluster, or its project where a project's clusters share, and a credential. Not whom the credential acts as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holder {
    pub cluster: Arc<str>,
    pub credential: Arc<str>,
}

/// A pool with shares.
pub struct Shares {
    each: usize,
    cluster: usize,
    total: Arc<Semaphore>,
    parts: Mutex<HashMap<Holder, Weak<Semaphore>>>,
}

/// Taken from a pool; given back when dropped.
#[must_use]
pub struct Held {
    _permits: [OwnedSemaphorePermit; 3],
}

impl Shares {
    /// So much for each credential, for all of a cluster, for everybody.
    pub fn new(each: usize, cluster: usize, total: usize) -> Self {
        Self { each, cluster, total: Arc::new(Semaphore::new(total)), parts: Mutex::default() }
    }

    fn part(&self, key: Holder, size: usize) -> Arc<Semaphore> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(&key).and_then(Weak::upgrade) {
            return part;
        }
        // What nobody holds is forgotten before the map would grow.
        if parts.len() == parts.capacity() {
            parts.retain(|_, part| part.strong_count() > 0);
        }
        let part = Arc::new(Semaphore::new(size));
        parts.insert(key, Arc::downgrade(&part));
        part
    }

    /// The semaphores of a holder, the narrowest first: who waits for its own holds nothing of the others'.
    fn of(&self, who: &Holder) -> [Arc<Semaphore>; 3] {
        let each = self.part(who.clone(), self.each);
        let cluster = self.part(Holder { credential: Arc::default(), ..who.clone() }, self.cluster);
        [each, cluster, self.total.clone()]
    }

    /// Takes one, if there is one.
    pub fn try_take(&self, who: &Holder) -> Option<Held> {
        let [each, cluster, total] = self.of(who).map(|part| part.try_acquire_owned().ok());
        Some(Held { _permits: [each?, cluster?, total?] })
    }

    /// Takes so many as soon as they are there; what is more than a credential's share counts as the share.
    pub async fn take(&self, who: &Holder, count: usize) -> Option<Held> {
        let count = u32::try_from(count.clamp(1, self.each)).ok()?;
        let [each, cluster, total] = self.of(who);
        let each = each.acquire_many_owned(count).await.ok()?;
        let cluster = cluster.acquire_many_owned(count).await.ok()?;
        Some(Held { _permits: [each, cluster, total.acquire_many_owned(count).await.ok()?] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(cluster: &str, credential: &str) -> Holder {
        Holder { cluster: cluster.into(), credential: credential.into() }
    }

    #[test]
    fn nobody_takes_what_others_need() {
        let shares = Shares::new(2, 3, 4);
        let (ann, bob, eve) = (holder("a", "ann"), holder("a", "bob"), holder("b", "ann"));
        let held: Vec<Held> = (0..2).filter_map(|_| shares.try_take(&ann)).collect();
        assert_eq!(held.len(), 2);
        assert!(shares.try_take(&ann).is_none(), "her share");
        let bobs = shares.try_take(&bob);
        assert!(bobs.is_some() && shares.try_take(&bob).is_none(), "the cluster's share");
        let eves = shares.try_take(&eve);
        assert!(eves.is_some() && shares.try_take(&eve).is_none(), "the total");
        drop(held);
        assert!(shares.try_take(&ann).is_some());
    }

    #[test]
    fn holders_that_left_are_forgotten() {
        let shares = Shares::new(1, 1, 1);
        for i in 0..10_000 {
            drop(shares.try_take(&holder("a", &i.to_string())));
        }
        let kept = shares.parts.lock().unwrap().len();
        assert!(kept < 100, "{kept} are remembered");
    }
}
