//! Snapshots that lists were begun at, so that all pages of a list show the same moment. A snapshot costs what changed
//! since; few are kept, and not for long. Whoever comes too late begins again, as with Kubernetes' own compaction.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Revision, Snapshot};
use store::Store;

const KEPT: usize = 64;
const SECONDS: Duration = Duration::from_secs(120);

/// The snapshots of lists that are not finished.
#[derive(Default)]
pub struct Pages(Mutex<VecDeque<(Instant, Snapshot)>>);

impl Pages {
    /// Keeps a snapshot for the next page.
    pub fn keep(&self, snapshot: &Snapshot) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, s)| since.elapsed() < SECONDS && s.revision() != snapshot.revision());
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), snapshot.clone()));
    }

    /// The snapshot at exactly this revision.
    pub fn at(&self, revision: Revision, store: &Store) -> Option<Snapshot> {
        let newest = store.snapshot();
        if newest.revision() == revision {
            return Some(newest);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, _)| since.elapsed() < SECONDS);
        kept.iter().find(|(_, s)| s.revision() == revision).map(|(_, s)| s.clone())
    }
}
