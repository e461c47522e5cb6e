//! The servers of a domain: which run, on sockets made in its namespace.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use model::hostnet::{Api, Domain};
use tokio::task::JoinHandle;

use crate::facts::{Current, Facts};
use crate::netlink::Link;
use crate::netns::Netns;
use crate::{Answers, api, dhcp, dhcp6, dns, metadata, names, ra, sockets};

/// What makes a server the same as before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// The network, and its bridge's index: a new bridge needs a new socket.
    Dhcp(String, u32),
    Dhcp6(String, u32),
    /// Router advertisements.
    Advertise(String, u32),
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

    /// Tells the servers what is true now, ends those that are not wanted and starts those that are missing.
    pub async fn ensure(&mut self, domain: &Domain, netns: &Netns, links: &[Link]) -> io::Result<()> {
        if self.facts.get().domain() != Some(domain) {
            self.facts.set(Facts::new(domain));
        }
        let wanted = wanted(domain, links);
        self.running.retain(|key, running| wanted.contains(key) && running.0.iter().all(|task| !task.is_finished()));
        for key in wanted {
            if !self.running.contains_key(&key) {
                let running = self.start(&key, netns).await?;
                self.running.insert(key, running);
            }
        }
        Ok(())
    }

    async fn start(&self, key: &Key, netns: &Netns) -> io::Result<Running> {
        let facts = self.facts.clone();
        let tasks = match key.clone() {
            Key::Dhcp(network_id, _) => {
                let bridge = names::bridge(&network_id);
                let socket = netns.run(move || dhcp::open(&bridge)).await?;
                vec![tokio::spawn(dhcp::serve(tokio::net::UdpSocket::from_std(socket)?, network_id, facts))]
            }
            Key::Dhcp6(network_id, index) => {
                let bridge = names::bridge(&network_id);
                let socket = netns.run(move || dhcp6::open(&bridge, index)).await?;
                vec![tokio::spawn(dhcp6::serve(tokio::net::UdpSocket::from_std(socket)?, network_id, facts))]
            }
            Key::Advertise(network_id, index) => {
                let bridge = names::bridge(&network_id);
                let socket = tokio::net::UdpSocket::from_std(netns.run(move || ra::open(&bridge)).await?)?;
                vec![tokio::spawn(ra::serve(socket, network_id, index, facts))]
            }
            Key::Dns(address) => {
                let (udp, tcp) = netns.run(move || dns::open(address)).await?;
                let udp = tokio::net::UdpSocket::from_std(udp)?;
                let tcp = tokio::net::TcpListener::from_std(tcp)?;
                vec![tokio::spawn(dns::serve_udp(udp, facts.clone())), tokio::spawn(dns::serve_tcp(tcp, facts))]
            }
            Key::Metadata => {
                let listener =
                    tokio::net::TcpListener::from_std(netns.run(|| sockets::listener(metadata::ADDRESS, 80)).await?)?;
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

fn wanted(domain: &Domain, links: &[Link]) -> Vec<Key> {
    let mut wanted = Vec::new();
    for bridge in &domain.bridges {
        let name = names::bridge(&bridge.network_id);
        let Some(link) = links.iter().find(|link| link.name == name) else { continue };
        if bridge.subnets.iter().any(|scope| scope.dhcp && scope.base.is_ipv4()) {
            wanted.push(Key::Dhcp(bridge.network_id.clone(), link.index));
        }
        if dhcp6::served(bridge).next().is_some() {
            wanted.push(Key::Dhcp6(bridge.network_id.clone(), link.index));
        }
        if ra::advertised(bridge).next().is_some() {
            wanted.push(Key::Advertise(bridge.network_id.clone(), link.index));
        }
        wanted.extend(bridge.addresses.iter().map(|(address, _)| Key::Dns(*address)));
    }
    if domain.metadata {
        wanted.push(Key::Metadata);
    }
    wanted.extend(domain.apis.iter().cloned().map(Key::Api));
    wanted
}
