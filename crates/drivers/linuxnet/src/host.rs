//! The host's own namespace: bridges of external networks, the outer ends of routers' links, and one table of rules.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use model::hostnet::{Domain, External, HostNetwork, Uplink};
use tokio::sync::Mutex;

use crate::netlink::{Link, Netlink};
use crate::netns::Netns;
use crate::nft::{self, Netfilter};
use crate::space::{Handles, set};
use crate::{names, rules};
use driver::address::Mac;

/// The rules as they were applied.
struct InForce {
    text: String,
    /// How nft lists them: others change the host's rules, too, so their number alone tells nothing.
    listing: String,
    generation: u32,
}

/// The host's own namespace.
pub struct Host {
    prefix: String,
    table: String,
    netns: Netns,
    pub netlink: Netlink,
    netfilter: Netfilter,
    /// Locked by whoever is at work on the rules.
    rules: Mutex<Option<InForce>>,
    /// Devices as they were when the pass began, with the external bridges.
    links: std::sync::Mutex<Arc<Vec<Link>>>,
}

impl Host {
    pub async fn open(prefix: &str) -> io::Result<Host> {
        let netns = Netns::own()?;
        let netlink = Netlink::open(&netns).await?;
        let netfilter = Netfilter::open(&netns).await?;
        let (prefix, table) = (prefix.to_owned(), names::host_table(prefix));
        Ok(Host { prefix, table, netns, netlink, netfilter, rules: Mutex::default(), links: Default::default() })
    }

    /// Makes the bridges and the rules those of the external networks. Bridges that are not wanted go in [`Host::prune`].
    pub async fn ensure(&self, externals: &[External], host_ports: &[u16]) -> io::Result<()> {
        let mut rules = self.rules.lock().await;
        self.look().await?;
        if externals.is_empty() {
            return self.remove_rules(&mut rules).await;
        }
        let text = rules::host(&self.table, externals, &self.prefix, host_ports);
        self.ensure_rules(&mut rules, text).await?;
        self.netns.run(|| set("ipv4/ip_forward", "1")).await?;
        let mut changed = false;
        for external in externals {
            let name = names::external(&self.prefix, &external.network_id);
            if !self.links().iter().any(|link| link.name == name) {
                self.netlink.add_bridge(&name, None, external.mtu).await?;
                changed = true;
            }
        }
        if changed {
            self.look().await?;
        }
        self.ensure_bridges(externals).await
    }

    /// Somebody is at work on the rules.
    pub fn is_busy(&self) -> bool {
        self.rules.try_lock().is_err()
    }

    /// Notes which devices there are.
    pub async fn look(&self) -> io::Result<()> {
        let links = Arc::new(self.netlink.links().await?);
        *self.links.lock().unwrap_or_else(PoisonError::into_inner) = links;
        Ok(())
    }

    fn links(&self) -> Arc<Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ensure_bridges(&self, externals: &[External]) -> io::Result<()> {
        let mut ours = BTreeSet::new();
        let mut wanted: BTreeSet<(u32, IpAddr, u8)> = BTreeSet::new();
        let links = self.links();
        for external in externals {
            let name = names::external(&self.prefix, &external.network_id);
            let Some(link) = links.iter().find(|link| link.name == name) else { continue };
            ours.insert(link.index);
            wanted.extend(external.gateways.iter().map(|(address, prefix)| (link.index, *address, *prefix)));
            if link.mtu != external.mtu {
                self.netlink.set_mtu(link.index, external.mtu).await?;
            }
            if !link.up {
                self.netlink.set_up(link.index, true).await?;
            }
        }
        let found = self.netlink.addresses().await?.into_iter().filter(|one| ours.contains(&one.0));
        let found: BTreeSet<_> = found.collect();
        for (index, address, prefix) in found.difference(&wanted) {
            self.netlink.remove_address(*index, *address, *prefix).await?;
        }
        for (index, address, prefix) in wanted.difference(&found) {
            self.netlink.add_address(*index, *address, *prefix).await?;
        }
        Ok(())
    }

    /// The host's rules are everybody's: a change by another is looked at, and answered only if it touched ours.
    async fn ensure_rules(&self, in_force: &mut Option<InForce>, text: String) -> io::Result<()> {
        let generation = self.netfilter.generation()?;
        if let Some(rules) = in_force.as_mut().filter(|rules| rules.text == text) {
            if rules.generation == generation {
                return Ok(());
            }
            if list(&self.netns, &self.table).await.is_ok_and(|listing| listing == rules.listing) {
                rules.generation = generation;
                return Ok(());
            }
        }
        *in_force = None;
        nft::apply(&self.netns, text.clone()).await?;
        let generation = self.netfilter.generation()?;
        let listing = list(&self.netns, &self.table).await?;
        *in_force = Some(InForce { text, listing, generation });
        Ok(())
    }

    async fn remove_rules(&self, in_force: &mut Option<InForce>) -> io::Result<()> {
        *in_force = None;
        let tables = nft::run(&self.netns, &["list", "tables"], String::new()).await?;
        let line = format!("table inet {}", self.table);
        if tables.lines().any(|found| found.trim() == line) {
            nft::apply(&self.netns, format!("delete {line}\n")).await?;
        }
        Ok(())
    }

    /// Links a router to its external network. True: the pair was made now.
    pub async fn ensure_uplink(
        &self,
        domain: &Domain,
        uplink: &Uplink,
        name: &str,
        inner: Option<&Link>,
        space: &Handles,
    ) -> io::Result<bool> {
        let bridge = names::external(&self.prefix, &uplink.network_id);
        let links = self.links();
        let Some(bridge) = links.iter().find(|link| link.name == bridge) else {
            let words = format!("the external network {} is not on this host", uplink.network_id);
            return Err(io::Error::new(io::ErrorKind::NotFound, words));
        };
        let peer = names::uplink_peer(&self.prefix, &domain.id, &uplink.router_id);
        let outer = links.iter().find(|link| link.name == peer);
        let made = outer.is_none() || inner.is_none();
        let outer = match outer {
            Some(outer) if !made => outer.clone(),
            _ => {
                // A pair has two ends: what is left of a broken one goes.
                if let Some(outer) = outer {
                    self.netlink.remove(outer.index).await?;
                } else if let Some(inner) = inner {
                    space.netlink.remove(inner.index).await?;
                }
                let mac = Mac::parse(&uplink.mac);
                self.netlink.add_veth(&peer, name, &space.netns, mac, uplink.mtu).await?;
                self.netlink.link(&peer).await?.ok_or_else(|| io::Error::other(format!("{peer} vanished")))?
            }
        };
        if outer.bridge != Some(bridge.index) {
            self.netlink.set_bridge(outer.index, bridge.index).await?;
        }
        if !outer.up {
            self.netlink.set_up(outer.index, true).await?;
        }
        Ok(made)
    }

    /// Removes devices that were made under this prefix and are not wanted any more.
    pub async fn prune(&self, network: &HostNetwork) -> io::Result<()> {
        let externals = network.externals.iter().map(|one| names::external(&self.prefix, &one.network_id));
        let mut wanted: BTreeSet<String> = externals.collect();
        for domain in &network.domains {
            let uplinks = domain.uplinks.iter();
            wanted.extend(uplinks.map(|uplink| names::uplink_peer(&self.prefix, &domain.id, &uplink.router_id)));
        }
        let links = self.netlink.links().await?;
        let ours = links.iter().filter(|link| names::is_host_device(&self.prefix, &link.name));
        for link in ours.filter(|link| !wanted.contains(&link.name)) {
            self.netlink.remove(link.index).await?;
        }
        Ok(())
    }

    /// Removes all that was ever made under this prefix in the host's namespace.
    pub async fn purge(&self) -> io::Result<()> {
        let mut rules = self.rules.lock().await;
        self.remove_rules(&mut rules).await?;
        self.prune(&HostNetwork::default()).await
    }
}

async fn list(netns: &Netns, table: &str) -> io::Result<String> {
    // Arguments of a command must outlive its thread; the table's name goes by the input instead.
    nft::run(netns, &["-f", "-"], format!("list table inet {table}\n")).await
}
