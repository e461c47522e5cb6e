//! Snapshots that lists were begun at, so that all pages of a list show the same moment. A snapshot costs what changed
//! since; few are kept, and not for long. Whoever comes too late begins again, as with Kubernetes' own compaction. Who
//! begins many lists pushes out their own, not others'.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Revision, Snapshot};
use store::Store;

use crate::shares::Holder;

/// How many lists one credential may have begun.
const EACH: usize = 8;
/// How many all may have begun.
const KEPT: usize = 128;
const SECONDS: Duration = Duration::from_secs(120);

struct Page {
    since: Instant,
    holder: Holder,
    snapshot: Snapshot,
}

/// The snapshots of lists that are not finished, the oldest first.
#[derive(Default)]
pub struct Pages(Mutex<Vec<Page>>);

impl Pages {
    /// Keeps a snapshot for the next page.
    pub fn keep(&self, holder: &Holder, snapshot: &Snapshot) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |page: &Page| page.snapshot.revision() == snapshot.revision() && page.holder == *holder;
        kept.retain(|page| page.since.elapsed() < SECONDS && !same(page));
        if kept.iter().filter(|page| page.holder == *holder).count() >= EACH {
            forget_oldest(&mut kept, |page| page.holder == *holder);
        } else if kept.len() >= KEPT {
            let cluster = busiest(kept.iter().map(|page| page.holder.cluster.clone()));
            let ours = |page: &&Page| Some(&page.holder.cluster) == cluster.as_ref();
            let credential = busiest(kept.iter().filter(ours).map(|page| page.holder.credential.clone()));
            forget_oldest(&mut kept, |page| {
                Some(&page.holder.cluster) == cluster.as_ref() && Some(&page.holder.credential) == credential.as_ref()
            });
        }
        kept.push(Page { since: Instant::now(), holder: holder.clone(), snapshot: snapshot.clone() });
    }

    /// The snapshot at exactly this revision.
    pub fn at(&self, revision: Revision, store: &Store) -> Option<Snapshot> {
        let newest = store.snapshot();
        if newest.revision() == revision {
            return Some(newest);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|page| page.since.elapsed() < SECONDS);
        kept.iter().find(|page| page.snapshot.revision() == revision).map(|page| page.snapshot.clone())
    }
}

fn forget_oldest(kept: &mut Vec<Page>, whose: impl Fn(&Page) -> bool) {
    if let Some(i) = kept.iter().position(whose) {
        kept.remove(i);
    }
}

/// What comes most often.
fn busiest<T: Hash + Eq>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(one, _)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pages: &Pages, credential: &str) -> usize {
        pages.0.lock().unwrap().iter().filter(|page| &*page.holder.credential == credential).count()
    }

    #[test]
    fn nobody_pushes_out_the_lists_of_others() {
        let pages = Pages::default();
        let holder = |cluster: &str, name: &str| Holder { cluster: cluster.into(), credential: name.into() };
        let mut snapshot = Snapshot::default();
        let mut next = || {
            snapshot.apply(snapshot.revision() + 1, &[]);
            snapshot.clone()
        };
        pages.keep(&holder("a", "quiet"), &next());
        for _ in 0..1000 {
            pages.keep(&holder("b", "busy"), &next());
        }
        assert_eq!((kept(&pages, "quiet"), kept(&pages, "busy")), (1, EACH));
        for i in 0..1000 {
            pages.keep(&holder("b", &format!("{i}")), &next());
        }
        assert_eq!(kept(&pages, "quiet"), 1, "nor by many names");
        assert_eq!(pages.0.lock().unwrap().len(), KEPT);
    }
}
