//! The CNI plugin's questions: plug a pod's port, take it away.

use std::path::Path;

use driver::DriverFault;
use model::Port;
use model::wanted::Generation;

use crate::pod::find::by_uid;
use crate::{Agent, net};

/// An address for the CNI result: `10.0.0.5/24` and the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    pub mac: String,
    pub addresses: Vec<(String, Option<String>)>,
}

/// Plugs the port of the pod with this uid into its namespace.
pub async fn add(agent: &Agent, uid: &str, netns: &Path, ifname: &str) -> driver::Result<Plugged> {
    let snapshot = agent.store().fresh().await.map_err(|e| DriverFault::NotReady(e.to_string()))?;
    let row = by_uid(&snapshot, uid).ok_or_else(|| DriverFault::Refused(format!("there is no pod {uid}")))?;
    let port = Port::of_pod(&snapshot, uid)
        .ok_or_else(|| DriverFault::NotReady(format!("pod {}/{} has no port yet", row.namespace, row.name)))?;
    agent.drivers().net.plug(&port.id, netns, ifname, Generation::of(&snapshot)).await?;
    net::look_again(agent);
    let network = agent.network();
    let wires = network.domains.iter().flat_map(|d| &d.bridges).flat_map(|b| &b.ports);
    let wire = wires.into_iter().find(|w| w.port_id == port.id);
    let addresses = wire.map(|w| {
        let gateway = w.gateway.map(|g| g.to_string());
        w.addresses.iter().map(|(ip, prefix)| (format!("{ip}/{prefix}"), gateway.clone())).collect()
    });
    Ok(Plugged { mac: port.mac.clone(), addresses: addresses.unwrap_or_default() })
}

/// Takes the port of a pod away; of one that is gone, the port that its uid gave it.
pub async fn del(agent: &Agent, uid: &str) -> driver::Result<()> {
    let snapshot = agent.store().snapshot();
    match Port::of_pod(&snapshot, uid).map(|port| port.id.clone()) {
        Some(id) => agent.drivers().net.unplug(&id, Generation::of(&snapshot)).await,
        None => Ok(()),
    }
}
