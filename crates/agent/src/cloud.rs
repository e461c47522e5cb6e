//! What an agent has of its cloud: a view of what concerns its host, and somebody who hears what it says. In one process that
//! is a call of a function, else a wire; the agent cannot tell. It holds no store, so that a host has no more than is its own.

use std::sync::Arc;

use model::host_report::{Heard, Report};
use model::host_view::{HostView, PodView, VmView, Wanted};
use model::hostnet::HostNetwork;
use model::wanted::Generation;
use model::{Fault, Time};

/// The cloud of a host.
#[async_trait::async_trait]
pub trait Cloud: Send + Sync {
    /// What concerns the host, as far as it is known here: never waits.
    fn view(&self) -> Arc<dyn View>;

    /// The same, with all that was committed anywhere before this was called.
    async fn fresh(&self) -> Result<Arc<dyn View>, Fault>;

    /// Says something, and waits until it is kept.
    async fn report(&self, report: Report) -> Result<Heard, Fault>;

    /// Says that the host lives.
    async fn beat(&self, at: Time) -> Result<(), Fault>;

    /// A token of the service account of a pod of this host, which is good for so many seconds at most.
    async fn token(&self, pod: &str, seconds: i64) -> Result<String, Fault>;

    /// Tells from now on when something changes that concerns hosts.
    fn follow(&self) -> Result<Box<dyn Follow>, Fault>;
}

/// What concerns a host, at one moment.
pub trait View: Send + Sync {
    /// That of orders which are given by this view.
    fn generation(&self) -> Generation;

    fn host(&self) -> HostView;

    /// The VMs that the host shall have, and those that it shall end.
    fn vms(&self) -> Vec<Wanted>;

    fn vm(&self, id: &str) -> Option<VmView>;

    /// The VM behind a port.
    fn vm_of_port(&self, port: &str) -> Option<VmView>;

    /// The pods that the host shall have, and those that it shall end.
    fn pods(&self) -> Vec<Wanted>;

    fn pod(&self, uid: &str) -> Option<PodView>;

    /// The host's network. It may take long to work out: not on a thread that others share.
    fn network(&self) -> HostNetwork;
}

/// What follows the cloud.
#[async_trait::async_trait]
pub trait Follow: Send {
    /// Waits for something new; whether the network may be another one. After an error nothing more comes: follow anew.
    async fn next(&mut self) -> Result<bool, Fault>;
}
