//! The Kubernetes face: `/clusters/{id}` is a complete Kubernetes API of its own over the rows of one logical cluster.
//! The verbs are generic; a kind adds its strategy (`kinds`) and one entry in `registry`. Which kinds there are is asked of
//! [`known::Kinds`], of one cluster at one moment.
//!
//! * `serve`: the way in: gate, cluster, rights, verb; [`endpoints`] is every route, for tests that walk them
//! * `request`: what a URL asks for; `call`: a request that passed the gate; `body`: what goes over the wire
//! * `names`, `denied`, `fault`: how kinds are called and what is refused; `registry`, `kinds`: the kinds that all
//!   clusters have; `custom`: those that clusters define; `known`: both; `types`,
//!   `annotations`, `check`, `validate`: their shapes and rules
//! * `admission`: who is asked between a write's draft and its commit
//! * `verbs`, `patch`, `watch`, `table`, `selectors`: what is done with objects
//! * `discovery`, `openapi`: what the API says about itself; `reviews`, `authz`: who may what
//! * `stream`: logs, exec, attach, port-forward; `protobuf`: bodies of typed Go clients
//! * [`cluster_rows`]: what a new cluster begins with; [`renew`]: what those get that exist
//!
//! Must never know the OpenStack face, planners, drivers or the agent: they meet in the store alone.

mod admission;
mod annotations;
mod authz;
mod body;
mod call;
mod check;
mod custom;
mod denied;
mod discovery;
mod entrance;
mod fault;
mod kinds;
mod known;
mod meta;
mod names;
mod openapi;
mod openapi_v2;
mod pages;
mod patch;
mod protobuf;
mod registry;
mod renew;
mod request;
mod reviews;
mod rows;
mod selectors;
mod serve;
mod shares;
mod stream;
mod table;
mod types;
mod validate;
mod verbs;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use gate::Gate;
use http::Method;
use model::{Cluster, Revision, Snapshot};
use store::Store;

use crate::fault::{Failure, Result};
use crate::known::{Kinds, Known};
use crate::pages::Pages;
use crate::shares::Shares;

pub use crate::admission::hooks::{Hook, Hooks};
pub use crate::renew::renew;
pub use crate::rows::cluster_rows;

/// What the face needs. A clone is the same face.
#[derive(Clone)]
pub struct Kube {
    store: Store,
    gate: Arc<Gate>,
    pools: Arc<Pools>,
    /// None: webhooks that a cluster asks fail.
    hooks: Option<Arc<dyn Hooks>>,
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
struct Pools {
    kinds: Known,
    pages: Pages,
    watches: Shares,
    ready: Shares,
    large: Shares,
    hooks: Shares,
}

impl Default for Pools {
    fn default() -> Self {
        let shares = |[each, cluster, total]: [usize; 3]| Shares::new(each, cluster, total);
        let (kinds, pages) = (Known::default(), Pages::default());
        Self {
            kinds,
            pages,
            watches: shares(WATCHES),
            ready: shares(READY_KIB),
            large: shares(LARGE),
            hooks: shares(HOOKS),
        }
    }
}

/// The face as one router, to be merged at the root: it serves `/clusters/{id}/...`.
pub fn router(kube: Kube) -> axum::Router {
    let serve = move |request| {
        let kube = kube.clone();
        async move { serve::serve(kube, request).await }
    };
    axum::Router::new()
        .route("/clusters/{id}", axum::routing::any(serve.clone()))
        .route("/clusters/{id}/", axum::routing::any(serve.clone()))
        .route("/clusters/{id}/{*path}", axum::routing::any(serve))
}

/// Every route below `/clusters/{id}`, with names filled in, for tests that walk them all.
pub fn endpoints() -> Vec<(Method, String)> {
    serve::endpoints()
}
