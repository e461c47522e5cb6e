//! The Kubernetes face: `/clusters/{id}` is a complete Kubernetes API of its own over the rows of one logical cluster.
//! The verbs are generic; a kind is a file in `kinds`, and its line there. Which kinds there are is asked of
//! [`known::Kinds`], of one cluster at one moment.
//!
//! * `kube`: what every request has; `serve`: the way in: gate, cluster, rights, verb; [`endpoints`] is every route, for tests that walk them
//! * `request`: what a URL asks for; `call`: a request that passed the gate; `body`: what goes over the wire
//! * `names`, `denied`, `fault`: how kinds are called and what is refused; `kind`, `strategy`: what a kind is; `kinds`, `registry`: those
//!   that all clusters have; `fields`: what becomes of each of their fields; `custom`: those that clusters define; `known`: both; `types`,
//!   `check`, `validate`: their shapes and rules; `upstream`: what is known of Kubernetes' own types beside their schemas
//! * `admission`: who is asked between a write's draft and its commit
//! * `verbs`, `patch`, `watch`, `table`, `selectors`: what is done with objects
//! * `discovery`, `openapi`: what the API says about itself; `reviews`, `authz`: who may what; `giving`: who gives it to whom
//! * `stream`: logs, exec, attach, port-forward; `protobuf`: bodies of typed Go clients
//! * [`cluster_rows`]: what a new cluster begins with; [`renew`]: what those get that exist
//!
//! Must never know the OpenStack face, planners, drivers or the agent: they meet in the store alone.

mod admission;
mod authz;
mod body;
mod call;
mod check;
mod custom;
mod denied;
mod derived;
mod discovery;
mod entrance;
mod fault;
mod fields;
mod giving;
mod kind;
mod kinds;
mod known;
mod kube;
mod meta;
mod names;
mod openapi;
mod openapi_v2;
mod pages;
mod past;
mod patch;
mod protobuf;
mod registry;
mod renew;
mod request;
mod reviews;
mod rows;
mod rule;
mod selectors;
mod serve;
mod shares;
mod strategy;
mod stream;
mod table;
mod types;
mod upstream;
mod validate;
mod verbs;
mod watch;
mod written;

use http::Method;

pub use crate::admission::hooks::{Hook, Hooks};
pub use crate::admission::planned::Unadmitted;
pub use crate::kube::{ClientCertificate, Kube};
pub use crate::renew::renew;
pub use crate::rows::cluster_rows;

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
