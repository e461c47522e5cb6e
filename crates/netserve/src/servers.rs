//! The servers of a domain: which run, on sockets made in its namespace, and which as before.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use driver::{ClusterApi, Metadata};
use model::hostnet::{Api, Bridge, Domain};
use tokio::task::JoinHandle;

use crate::facts::{Current, Facts};
use crate::{api, dhcp, dhcp6, dns, metadata, ra, sockets};

/// A network namespace.
pub trait Namespace {
    /// Runs what opens sockets, on a thread that is in the namespace.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> impl Future<Output = io::Result<T>> + Send;
}

/// The device of a network in the namespace, that the network's ports and its gateway are behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    pub name: String,
    /// A new device of the same name has another one.
    pub index: u32,
}

/// Those who answer guests.
#[derive(Clone)]
pub struct Answers {
    pub metadata: Arc<dyn Metadata>,
    /// Without, nobody answers pods that talk to the API of their cluster.
    pub api: Option<Arc<dyn ClusterApi>>,
}

/// What makes a server the same as before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// The network, and its device: a new one needs a new socket.
    Dhcp(String, Device),
    Dhcp6(String, Device),
    /// Router advertisements.
    Advertise(String, Device),
    Dns(IpAddr),
    Metadata,
    Api(Api),
}

/// A server's tasks; they end with it.
struct Running(Vec<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// All servers of a domain.
pub struct Servers {
    facts: Current,
    running: BTreeMap<Key, Running>,
    answers: Answers,
}

impl Servers {
    pub fn new(answers: Answers) -> Servers {
        Servers { facts: Current::default(), running: BTreeMap::new(), answers }
    }

    /// Tells the servers what is true now, ends those that are not wanted and starts those that are missing. A network without
    /// a device has no servers yet.
    pub async fn ensure(
        &mut self,
        domain: &Domain,
        netns: &impl Namespace,
        device: impl Fn(&Bridge) -> Option<Device>,
    ) -> io::Result<()> {
        if self.facts.get().domain() != Some(domain) {
            self.facts.set(Facts::new(domain));
        }
        let wanted = wanted(domain, device);
        self.running.retain(|key, running| wanted.contains(key) && running.0.iter().all(|task| !task.is_finished()));
        for key in wanted {
            if !self.running.contains_key(&key) {
                let running = self.start(&key, netns).await?;
                self.running.insert(key, running);
            }
        }
        Ok(())
    }

    async fn start(&self, key: &Key, netns: &impl Namespace) -> io::Result<Running> {
        let facts = self.facts.clone();
        let tasks = match key.clone() {
            Key::Dhcp(network_id, device) => {
                let socket = netns.run(move || dhcp::open(&device.name)).await?;
                vec![tokio::spawn(dhcp::serve(tokio::net::UdpSocket::from_std(socket)?, network_id, facts))]
            }
            Key::Dhcp6(network_id, Device { name, index }) => {
                let socket = netns.run(move || dhcp6::open(&name, index)).await?;
                vec![tokio::spawn(dhcp6::serve(tokio::net::UdpSocket::from_std(socket)?, network_id, facts))]
            }
            Key::Advertise(network_id, Device { name, index }) => {
                let socket = tokio::net::UdpSocket::from_std(netns.run(move || ra::open(&name)).await?)?;
                vec![tokio::spawn(ra::serve(socket, network_id, index, facts))]
            }
            Key::Dns(address) => {
                let (udp, tcp) = netns.run(move || dns::open(address)).await?;
                let udp = tokio::net::UdpSocket::from_std(udp)?;
                let tcp = tokio::net::TcpListener::from_std(tcp)?;
                vec![tokio::spawn(dns::serve_udp(udp, facts.clone())), tokio::spawn(dns::serve_tcp(tcp, facts))]
            }
            Key::Metadata => {
                let listener = tokio::net::TcpListener::from_std(
                    netns.run(|| sockets::listener(metadata::ADDRESS.into(), 80)).await?,
                )?;
                vec![tokio::spawn(metadata::serve(listener, facts, self.answers.metadata.clone()))]
            }
            Key::Api(Api { cluster_id, address, port }) => {
                let Some(api) = self.answers.api.clone() else { return Ok(Running(Vec::new())) };
                let listener =
                    tokio::net::TcpListener::from_std(netns.run(move || sockets::listener(address, port)).await?)?;
                vec![tokio::spawn(api::serve(listener, cluster_id, api))]
            }
        };
        Ok(Running(tasks))
    }
}

fn wanted(domain: &Domain, device: impl Fn(&Bridge) -> Option<Device>) -> Vec<Key> {
    let mut wanted = Vec::new();
    for bridge in &domain.bridges {
        let Some(device) = device(bridge) else { continue };
        let network_id = || bridge.network_id.clone();
        if bridge.subnets.iter().any(|scope| scope.dhcp && scope.base.is_ipv4()) {
            wanted.push(Key::Dhcp(network_id(), device.clone()));
        }
        if dhcp6::served(bridge).next().is_some() {
            wanted.push(Key::Dhcp6(network_id(), device.clone()));
        }
        if ra::advertised(bridge).next().is_some() {
            wanted.push(Key::Advertise(network_id(), device));
        }
        wanted.extend(bridge.addresses.iter().map(|(address, _)| Key::Dns(*address)));
    }
    if domain.metadata {
        wanted.push(Key::Metadata);
    }
    wanted.extend(domain.apis.iter().cloned().map(Key::Api));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_network_has_its_servers_on_its_device() {
        let facts = sample::facts();
        let domain = facts.domain().expect("a domain");
        assert_eq!(wanted(domain, |_| None), [Key::Metadata], "before the device is there");
        let device = |index| Device { name: "br".into(), index };
        let network = || sample::NETWORK.to_owned();
        let dns = ["10.0.0.1", "fd00:1::1"].map(|ip| Key::Dns(ip.parse().expect("an address")));
        let [four, six] = dns;
        let on = |device: Device| {
            let servers = [Key::Dhcp, Key::Dhcp6, Key::Advertise].map(|server| server(network(), device.clone()));
            servers.into_iter().chain([four.clone(), six.clone(), Key::Metadata]).collect::<Vec<Key>>()
        };
        assert_eq!(wanted(domain, |_| Some(device(3))), on(device(3)));
        assert_ne!(on(device(3)), on(device(4)), "a new device has new servers");
    }
}
