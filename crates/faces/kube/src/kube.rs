//! What every request of the face has: the store, the gate, what requests share, and who calls webhooks. It stands by itself
//! so that nothing has to know the crate's root.

use std::sync::Arc;
use std::time::Duration;

use gate::Gate;
use model::{Cluster, Revision, Snapshot};
use store::Store;

use crate::admission::hooks::Hooks;
use crate::fault::{Failure, Result};
use crate::known::{Kinds, Known};
use crate::pages::Pages;
use crate::shares::Shares;
use crate::written::Written;

/// What the face needs. A clone is the same face.
#[derive(Clone)]
pub struct Kube {
    pub(crate) store: Store,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pools: Arc<Pools>,
    /// None: webhooks that a cluster asks fail.
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
}

/// The certificate, in DER, whose key a client has shown to hold, put by the listener into the request's extensions. What
/// it is worth is the gate's to say.
#[derive(Clone, Debug)]
pub struct ClientCertificate(pub Arc<[u8]>);

impl Kube {
    pub fn new(store: Store, gate: Arc<Gate>) -> Self {
        Self { store, gate, pools: Arc::default(), hooks: None }
    }

    /// Calls webhooks by this.
    pub fn with_hooks(self, hooks: Arc<dyn Hooks>) -> Self {
        Self { hooks: Some(hooks), ..self }
    }

    /// How often an object was written as JSON for lists and watches: not again for each of them.
    pub fn objects_written(&self) -> u64 {
        self.pools.written.times()
    }

    /// The kinds that a cluster has now.
    pub(crate) fn kinds(&self, cluster: &Cluster) -> Kinds {
        self.pools.kinds.of(&self.store.snapshot(), &cluster.id)
    }

    /// A snapshot at a revision or later; waits a little for one that is not there yet.
    pub(crate) async fn reach(&self, wanted: Revision) -> Result<Snapshot> {
        let snapshot = self.store.snapshot();
        if snapshot.revision() >= wanted {
            return Ok(snapshot);
        }
        let mut watch = self.store.watch(snapshot.revision())?;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
        loop {
            let snapshot = self.store.snapshot();
            if snapshot.revision() >= wanted {
                return Ok(snapshot);
            }
            if !matches!(tokio::time::timeout_at(deadline, watch.next()).await, Ok(Ok(_))) {
                return Err(Failure::too_new(wanted, self.store.snapshot().revision()));
            }
        }
    }
}

/// The most watches that one credential, a cluster and all may have open.
const WATCHES: [usize; 3] = [2000, 4000, 16_000];

/// How many KiB the open watches of one credential, of a cluster and of all may have ready for clients that have not taken
/// them yet.
const READY_KIB: [usize; 3] = [8 << 10, 32 << 10, 256 << 10];

/// How many large requests of one credential, of a cluster and of all are worked on at once.
const LARGE: [usize; 3] = [1, 2, 8];

/// How many webhooks are asked at once for one credential, for a cluster and for all.
const HOOKS: [usize; 3] = [16, 32, 128];

/// What requests share.
pub(crate) struct Pools {
    kinds: Known,
    pub pages: Pages,
    pub written: Written,
    pub watches: Shares,
    pub ready: Shares,
    pub large: Shares,
    pub hooks: Shares,
}

impl Default for Pools {
    fn default() -> Self {
        let shares = |[each, cluster, total]: [usize; 3]| Shares::new(each, cluster, total);
        let (kinds, pages) = (Known::default(), Pages::default());
        Self {
            kinds,
            pages,
            written: Written::default(),
            watches: shares(WATCHES),
            ready: shares(READY_KIB),
            large: shares(LARGE),
            hooks: shares(HOOKS),
        }
    }
}
