//! Finding pods: their rows, and what the runtime has of them. At the bottom, for all that is done with a pod begins here.

use driver::{SeenContainer, SeenPod};
use model::{Entry, Fault, Index, KubeObject, Snapshot};

use crate::{Agent, fault};

/// The pods of a host.
pub fn of_host<'a>(snapshot: &'a Snapshot, host: &str) -> impl Iterator<Item = Entry<'a, KubeObject>> {
    snapshot.find::<KubeObject>(Index::Host, host).filter(|object| object.is_pod())
}

/// The pod with this uid.
pub fn by_uid<'a>(snapshot: &'a Snapshot, uid: &str) -> Option<Entry<'a, KubeObject>> {
    snapshot.find::<KubeObject>(Index::Name, uid).find(|object| object.is_pod())
}

/// The row by which this host has a pod.
pub fn row<'a>(agent: &Agent, snapshot: &'a Snapshot, uid: &str) -> Option<Entry<'a, KubeObject>> {
    by_uid(snapshot, uid).filter(|pod| pod.body["spec"]["nodeName"].as_str() == Some(agent.config().host.as_str()))
}

/// The pod as the runtime has it.
pub async fn seen(agent: &Agent, uid: &str) -> Result<Option<SeenPod>, Fault> {
    agent.drivers().pod.look(uid).await.map_err(fault)
}

/// The newest attempt of a container.
pub fn newest<'a>(seen: Option<&'a SeenPod>, name: &str) -> Option<&'a SeenContainer> {
    seen?.containers.iter().filter(|c| c.name == name).max_by_key(|c| c.attempt)
}

/// The address of a host, as pods are told.
pub fn host_address(snapshot: &Snapshot, host: &str) -> Option<String> {
    snapshot.get::<model::Host>(host)?.address().map(|ip| ip.to_string())
}
