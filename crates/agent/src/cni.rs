//! The CNI plugin's questions: plug a pod's port, take it away.

use std::path::Path;

use driver::DriverFault;

use crate::{Agent, net};

/// An address for the CNI result: `10.0.0.5/24` and the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    pub mac: String,
    pub addresses: Vec<(String, Option<String>)>,
}

/// Plugs the port of the pod with this uid into its namespace.
pub async fn add(agent: &Agent, uid: &str, netns: &Path, ifname: &str) -> driver::Result<Plugged> {
    let view = agent.cloud().fresh().await.map_err(|e| DriverFault::NotReady(e.to_string()))?;
    let of = view.pod(uid).ok_or_else(|| DriverFault::Refused(format!("there is no pod {uid}")))?;
    let late = || DriverFault::NotReady(format!("pod {}/{} has no port yet", of.pod.namespace, of.pod.name));
    let port = of.port.as_ref().ok_or_else(late)?;
    agent.drivers().net.plug(&port.id, netns, ifname, view.generation()).await?;
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

/// Takes the port of a pod away. That of a pod which is gone goes with the network's next change.
pub async fn del(agent: &Agent, uid: &str) -> driver::Result<()> {
    let view = agent.cloud().view();
    match view.pod(uid).and_then(|of| of.port) {
        Some(port) => agent.drivers().net.unplug(&port.id, view.generation()).await,
        None => Ok(()),
    }
}
