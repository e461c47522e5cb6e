//! The OpenStack face: Keystone, Nova, Placement, Neutron and Glance as views of the store.
//!
//! * [`service`]: what a service declares, with the table of its endpoints; [`dispatch`] is the only way in
//! * [`access`]: who may call what; [`absent`]: what is not here, by name; [`versions`]: documents of versions
//! * [`call`]: a request after the gate, and the reply; [`fault`]: how each service words its errors; [`json`]: what is shown
//!   of rows
//! * one folder a service, one file (or a folder of `requests`, `view`) a resource
//!
//! Must never know the Kubernetes face, planners, drivers or the agent: they meet in the store alone.

mod absent;
pub mod access;
pub mod attrs;
pub mod call;
pub mod dispatch;
pub mod fault;
mod json;
mod limits;
mod lists;
mod pages;
pub mod service;
mod versions;

pub mod compute;
pub mod identity;
pub mod image;
pub mod network;
pub mod placement;

use std::sync::Arc;

use gate::Gate;
use store::Store;

/// What every endpoint can reach.
#[derive(Clone)]
pub struct Cloud {
    pub store: Store,
    pub blobs: blob::Blobs,
    pub gate: Arc<Gate>,
    /// Shown in the catalog and in links: `https://10.0.0.1:8443`.
    pub base_url: String,
    pub region: String,
    /// Turns the endpoint of a Host row into console bytes and the like.
    pub streams: Arc<dyn HostStreams>,
    pub uploads: image::uploads::Uploads,
    /// Where images may be imported from.
    pub reach: Arc<model::reach::Reach>,
}

/// A host's answer, when it comes: status and body.
pub type HostAnswer<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(u16, Vec<u8>), model::Fault>> + Send + 'a>>;

/// Reaches what only a host can tell, through the endpoint that its Host row names.
pub trait HostStreams: Send + Sync {
    /// `GET path` at the host's endpoint: status and body (at most `limit` bytes).
    fn get<'a>(&'a self, endpoint: &'a str, path: &'a str, limit: usize) -> HostAnswer<'a>;
}

/// Every service, in the order of the catalog: the folders among the modules above, by `build.rs`.
pub static SERVICES: &[&service::Service] = include!(concat!(env!("OUT_DIR"), "/services.rs"));

/// The face as one router, to be mounted at the root.
pub fn router(cloud: Cloud) -> axum::Router {
    let face = Arc::new(dispatch::Face::new(cloud, SERVICES));
    axum::Router::new().fallback(move |request| {
        let face = face.clone();
        async move { face.dispatch(request).await }
    })
}
