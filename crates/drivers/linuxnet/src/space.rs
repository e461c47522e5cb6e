//! One domain on the host: its namespace, made true device by device. Everything is compared with what the kernel shows
//! and only differences are touched, so a second pass, also one of a new process, changes nothing that is right.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::hostnet::{Bridge, Domain, Plug, Uplink, Wire};
use netserve::{Answers, Device, METADATA, Servers};
use tokio::task::JoinHandle;

use crate::host::Host;
use crate::netlink::{Link, Netlink, Remote, Route};
use crate::netns::{self, Netns};
use crate::nft::{self, Netfilter};
use crate::{names, rules};
use driver::address::{Mac, parse_cidr};

/// For how long after a change flows with an old translation are looked for; later ones at the next pass.
const FORGET_SECONDS: u32 = 15;

/// Kernel settings of a namespace, below `/proc/sys/net`.
const SETTINGS: [(&str, &str); 17] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/all/promote_secondaries", "1"),
    ("ipv4/conf/default/promote_secondaries", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("bridge/bridge-nf-call-iptables", "1"),
    ("bridge/bridge-nf-call-ip6tables", "1"),
    ("bridge/bridge-nf-call-arptables", "0"),
];

/// A domain's namespace, open: what plugs and looks need, whoever is at work on the rest.
pub struct Handles {
    pub name: String,
    pub netns: Netns,
    pub netlink: Netlink,
}

/// A device that is in another namespace than it belongs to.
pub struct Move {
    pub from: Arc<Handles>,
    pub index: u32,
    pub to: String,
}

/// Devices to be moved, by their names.
pub type Moving = BTreeMap<String, Move>;

/// A domain's namespace with all that is open to it.
pub struct Space {
    pub handles: Arc<Handles>,
    netfilter: Netfilter,
    /// The rules in force and the number of the change that brought them.
    rules: Option<(String, u32)>,
    servers: Servers,
    forgetting: Option<JoinHandle<()>>,
}

impl std::ops::Deref for Space {
    type Target = Handles;
    fn deref(&self) -> &Handles {
        &self.handles
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(task) = &self.forgetting {
            task.abort();
        }
    }
}

impl Handles {
    /// The name still leads to this namespace: nobody took it away.
    pub fn is_there(&self) -> bool {
        Netns::open(&netns::path(&self.name)).is_ok_and(|found| found.inode == self.netns.inode)
    }

    /// Joins a port's device to its bridge. True: something changed.
    pub async fn join(&self, wire: &Wire, link: &Link, bridge: u32) -> io::Result<bool> {
        let mut changed = false;
        if link.mtu != wire.mtu {
            self.netlink.set_mtu(link.index, wire.mtu).await?;
            changed = true;
        }
        let hairpin = link.hairpin || wire.plug == Plug::Tap;
        if link.bridge != Some(bridge) {
            self.netlink.set_bridge(link.index, bridge).await?;
            changed = true;
        }
        if link.bridge != Some(bridge) || !link.hairpin {
            // Also a VM may be its own backend.
            self.netlink.set_hairpin(link.index).await?;
            changed |= !hairpin;
        }
        if link.up != wire.up {
            self.netlink.set_up(link.index, wire.up).await?;
            changed = true;
        }
        Ok(changed)
    }
}

impl Space {
    /// Opens the namespace, making it if need be.
    pub async fn open(name: &str, answers: Answers) -> io::Result<Space> {
        let (netns, _) = netns::ensure(name).await?;
        netns.run(|| SETTINGS.iter().try_for_each(|(setting, value)| set(setting, value))).await?;
        let netlink = Netlink::open(&netns).await?;
        let netfilter = Netfilter::open(&netns).await?;
        let handles = Arc::new(Handles { name: name.to_owned(), netns, netlink });
        Ok(Space { handles, netfilter, rules: None, servers: Servers::new(answers), forgetting: None })
    }

    /// Brings the rules into force, before any device is there for which they are meant.
    pub async fn ensure_rules(&mut self, domain: &Domain, dir: &Path) -> io::Result<()> {
        let text = rules::domain(domain);
        let same = self.rules.as_ref().is_some_and(|(last, _)| *last == text);
        if same && self.rules.as_ref().map(|rules| rules.1) == Some(self.netfilter.generation()?) {
            return self.netfilter.forget_stale();
        }
        self.rules = None;
        if let Err(error) = nft::apply(&self.netns, text.clone()).await {
            let file = dir.join(format!("{}.refused.nft", self.name));
            let kept = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&file, &text));
            let place = kept.map_or(String::new(), |()| format!(" (kept in {})", file.display()));
            return Err(io::Error::new(error.kind(), format!("{error}{place}")));
        }
        self.rules = Some((text, self.netfilter.generation()?));
        self.forget_soon().await
    }

    /// Flows whose translation is gone are forgotten as their next packets come, so that the ones after find the new one.
    async fn forget_soon(&mut self) -> io::Result<()> {
        if let Some(before) = self.forgetting.take() {
            before.abort();
        }
        let netfilter = Netfilter::open(&self.netns).await?;
        self.forgetting = Some(tokio::spawn(async move {
            for _ in 0..FORGET_SECONDS {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if netfilter.forget_stale().is_err() {
                    return;
                }
            }
        }));
        Ok(())
    }

    /// Makes devices, addresses, routes and servers those of the domain, but for devices that are about to move to another.
    /// Returns the devices as they are then.
    pub async fn ensure(&mut self, domain: &Domain, host: &Host, moving: &Moving) -> io::Result<Vec<Link>> {
        let mut links = self.netlink.links().await?;
        let mut changed = false;
        if let Some(lo) = links.iter().find(|link| link.name == "lo" && !link.up) {
            self.netlink.set_up(lo.index, true).await?;
        }
        for bridge in &domain.bridges {
            changed |= self.ensure_bridge(bridge, &links, host).await?;
        }
        for uplink in &domain.uplinks {
            changed |= self.ensure_uplink(domain, uplink, &links, host).await?;
        }
        if changed {
            links = self.netlink.links().await?;
        }
        let mut changed = false;
        for bridge in &domain.bridges {
            changed |= self.ensure_wires(bridge, &links).await?;
            self.ensure_remotes(bridge, &links).await?;
        }
        let shaped = self.ensure_limits(domain, &links).await;
        changed |= self.prune(domain, &links, moving).await?;
        self.ensure_addresses(domain, &links).await?;
        self.ensure_routes(domain).await?;
        if changed {
            links = self.netlink.links().await?;
        }
        let device = |bridge: &Bridge| {
            let name = names::bridge(&bridge.network_id);
            let index = links.iter().find(|link| link.name == name)?.index;
            Some(Device { name, index })
        };
        self.servers.ensure(domain, &self.handles.netns, device).await?;
        // A kernel that cannot limit keeps nobody else's network from being made.
        shaped.map(|()| links)
    }

    async fn ensure_bridge(&self, bridge: &Bridge, links: &[Link], host: &Host) -> io::Result<bool> {
        let name = names::bridge(&bridge.network_id);
        let mac = Mac::parse(&bridge.mac);
        let tunnel = names::tunnel(&bridge.network_id);
        let has_tunnel = links.iter().any(|link| link.name == tunnel);
        let mut changed = false;
        let index = match links.iter().find(|link| link.name == name) {
            None => {
                self.netlink.add_bridge(&name, mac, bridge.mtu).await?;
                let made = self.netlink.link(&name).await?.ok_or_else(|| missing(&name))?;
                changed = true;
                self.netlink.set_mtu(made.index, bridge.mtu).await?;
                // What a neighbour announces holds at once: addresses change hands with pods.
                let locktime = format!("ipv4/neigh/{name}/locktime");
                self.netns.run(move || set(&locktime, "0")).await?;
                self.netlink.set_up(made.index, true).await?;
                made.index
            }
            Some(link) => {
                if link.mtu != bridge.mtu {
                    self.netlink.set_mtu(link.index, bridge.mtu).await?;
                }
                if let Some(mac) = mac
                    && link.mac != mac.0
                {
                    self.netlink.set_mac(link.index, mac).await?;
                }
                if !link.up {
                    self.netlink.set_up(link.index, true).await?;
                }
                link.index
            }
        };
        if !bridge.peers.is_empty() && !has_tunnel {
            host.netlink.add_vxlan(&tunnel, bridge.vni, bridge.mtu, &self.netns).await?;
            let made = self.netlink.link(&tunnel).await?.ok_or_else(|| missing(&tunnel))?;
            self.netlink.set_bridge(made.index, index).await?;
            self.netlink.set_up(made.index, true).await?;
            changed = true;
        }
        Ok(changed)
    }

    async fn ensure_uplink(&self, domain: &Domain, uplink: &Uplink, links: &[Link], host: &Host) -> io::Result<bool> {
        let name = names::uplink(&uplink.router_id);
        let found = links.iter().find(|link| link.name == name);
        let mac = Mac::parse(&uplink.mac);
        let made = host.ensure_uplink(domain, uplink, &name, found, self).await?;
        if !made && let Some(link) = found {
            if link.mtu != uplink.mtu {
                self.netlink.set_mtu(link.index, uplink.mtu).await?;
            }
            if let Some(mac) = mac
                && link.mac != mac.0
            {
                self.netlink.set_mac(link.index, mac).await?;
            }
            if !link.up {
                self.netlink.set_up(link.index, true).await?;
            }
            return Ok(false);
        }
        let link = self.netlink.link(&name).await?.ok_or_else(|| missing(&name))?;
        // On the outside it answers for the addresses that it has there, not for those of the networks behind it.
        let setting = format!("ipv4/conf/{name}/arp_ignore");
        self.netns.run(move || set(&setting, "1")).await?;
        self.netlink.set_up(link.index, true).await?;
        Ok(true)
    }

    /// Joins the devices that are there to their bridge. True: something changed.
    async fn ensure_wires(&self, bridge: &Bridge, links: &[Link]) -> io::Result<bool> {
        let name = names::bridge(&bridge.network_id);
        let Some(joined) = links.iter().find(|link| link.name == name) else { return Err(missing(&name)) };
        let by_name: BTreeMap<&str, &Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let mut changed = false;
        // A subport's device comes and goes with its trunk's.
        for wire in bridge.ports.iter().filter(|wire| wire.plug != Plug::Subport) {
            if let Some(link) = by_name.get(wire.device.as_str()) {
                changed |= self.join(wire, link, joined.index).await?;
            }
        }
        Ok(changed)
    }

    /// Limits the ports that are there. One that cannot be limited does not keep the others from it.
    async fn ensure_limits(&self, domain: &Domain, links: &[Link]) -> io::Result<()> {
        let found = self.netlink.shaped().await?;
        let by_name: BTreeMap<&str, u32> = links.iter().map(|link| (link.name.as_str(), link.index)).collect();
        let mut result = Ok(());
        for wire in domain.bridges.iter().flat_map(|bridge| &bridge.ports) {
            if let Some(index) = by_name.get(wire.device.as_str()) {
                let found = found.get(index).copied().unwrap_or_default();
                result = result.and(self.shape(wire, *index, found).await);
            }
        }
        result
    }

    async fn ensure_remotes(&self, bridge: &Bridge, links: &[Link]) -> io::Result<()> {
        let tunnel = names::tunnel(&bridge.network_id);
        let Some(link) = links.iter().find(|link| link.name == tunnel) else { return Ok(()) };
        let everybody = bridge.peers.iter().map(|peer| (Mac([0; 6]), *peer));
        let ports = bridge.remote_ports.iter().filter_map(|(mac, host)| Some((Mac::parse(mac)?, *host)));
        let wanted: BTreeSet<Remote> = everybody.chain(ports).collect();
        let found: BTreeSet<Remote> = self.netlink.remotes(link.index).await?.into_iter().collect();
        for remote in found.difference(&wanted) {
            self.netlink.remove_remote(link.index, *remote).await?;
        }
        for remote in wanted.difference(&found) {
            self.netlink.add_remote(link.index, *remote).await?;
        }
        Ok(())
    }

    /// Removes devices of this driver's kinds that the domain does not have.
    async fn prune(&self, domain: &Domain, links: &[Link], moving: &Moving) -> io::Result<bool> {
        let mut wanted: BTreeSet<String> = domain.uplinks.iter().map(|one| names::uplink(&one.router_id)).collect();
        for bridge in &domain.bridges {
            wanted.insert(names::bridge(&bridge.network_id));
            if !bridge.peers.is_empty() {
                wanted.insert(names::tunnel(&bridge.network_id));
            }
            wanted.extend(bridge.ports.iter().map(|wire| wire.device.clone()));
            let led = bridge.ports.iter().filter(|wire| wire.qos.egress.is_some());
            wanted.extend(led.map(|wire| names::turn(&wire.port_id)));
            let branches = bridge.ports.iter().flat_map(|wire| wire.trunk.values());
            wanted.extend(branches.map(|port_id| names::branch(port_id)));
        }
        let goes = |name: &str| names::is_ours(name) && !wanted.contains(name) && !moving.contains_key(name);
        let surplus = links.iter().filter(|link| goes(&link.name));
        let mut changed = false;
        for link in surplus {
            self.netlink.remove(link.index).await?;
            changed = true;
        }
        Ok(changed)
    }

    async fn ensure_addresses(&self, domain: &Domain, links: &[Link]) -> io::Result<()> {
        let index = |name: &str| links.iter().find(|link| link.name == name).map(|link| link.index);
        let mut wanted: BTreeSet<(u32, IpAddr, u8)> = BTreeSet::new();
        for bridge in &domain.bridges {
            let index = index(&names::bridge(&bridge.network_id));
            wanted.extend(
                index.into_iter().flat_map(|index| bridge.addresses.iter().map(move |one| (index, one.0, one.1))),
            );
        }
        for uplink in &domain.uplinks {
            let Some(index) = index(&names::uplink(&uplink.router_id)) else { continue };
            wanted.insert((index, uplink.address.0, uplink.address.1));
            let floating = outer(uplink).filter(|outer| *outer != uplink.address.0);
            wanted.extend(floating.map(|outer| (index, outer, if outer.is_ipv6() { 128 } else { 32 })));
        }
        if domain.metadata {
            wanted.extend(index("lo").map(|index| (index, METADATA.into(), 32)));
        }
        let whole = |address: IpAddr| if address.is_ipv6() { 128 } else { 32 };
        let apis = domain.apis.iter().map(|api| api.address);
        wanted.extend(index("lo").into_iter().flat_map(|lo| apis.clone().map(move |ip| (lo, ip, whole(ip)))));
        let found: BTreeSet<_> = self.netlink.addresses().await?.into_iter().collect();
        for (index, address, prefix) in found.difference(&wanted) {
            self.netlink.remove_address(*index, *address, *prefix).await?;
        }
        for (index, address, prefix) in wanted.difference(&found) {
            self.netlink.add_address(*index, *address, *prefix).await?;
        }
        self.announce(domain, &wanted, &found).await
    }

    /// Tells the external networks of addresses that are new here, so that nobody goes on asking where they were.
    async fn announce(
        &self,
        domain: &Domain,
        wanted: &BTreeSet<(u32, IpAddr, u8)>,
        found: &BTreeSet<(u32, IpAddr, u8)>,
    ) -> io::Result<()> {
        for uplink in &domain.uplinks {
            let Some(mac) = Mac::parse(&uplink.mac) else { continue };
            let own: BTreeSet<IpAddr> = outer(uplink).chain([uplink.address.0]).collect();
            let new: Vec<(u32, std::net::Ipv4Addr)> = own
                .into_iter()
                .filter_map(|address| match address {
                    IpAddr::V4(v4) => wanted.difference(found).find(|one| one.1 == address).map(|one| (one.0, v4)),
                    IpAddr::V6(_) => None,
                })
                .collect();
            if !new.is_empty() {
                self.netns.run(move || crate::arp::announce(mac, &new)).await?;
            }
        }
        Ok(())
    }

    async fn ensure_routes(&self, domain: &Domain) -> io::Result<()> {
        let mut wanted: BTreeMap<(IpAddr, u8), IpAddr> = BTreeMap::new();
        let gateways = domain.uplinks.iter().filter_map(|uplink| uplink.gateway);
        for gateway in gateways {
            let all = driver::address::ip(0, gateway.is_ipv6());
            wanted.entry((all, 0)).or_insert(gateway);
        }
        for (cidr, hop) in &domain.routes {
            if let Some((address, prefix)) = parse_cidr(cidr)
                && address.is_ipv6() == hop.is_ipv6()
            {
                wanted.insert((driver::address::base(address, prefix), prefix), *hop);
            }
        }
        let wanted: BTreeSet<Route> =
            wanted.into_iter().map(|((destination, prefix), gateway)| Route { destination, prefix, gateway }).collect();
        let found: BTreeSet<Route> = self.netlink.routes().await?.into_iter().collect();
        for route in found.difference(&wanted) {
            self.netlink.remove_route(route).await?;
        }
        for route in wanted.difference(&found) {
            if let Err(error) = self.netlink.add_route(route).await {
                // A next hop that is not there (yet) is the tenant's affair, not a failure of the domain.
                tracing::warn!(namespace = self.name, ?route, %error, "a route cannot be set");
            }
        }
        Ok(())
    }

    /// Removes the namespace with all that is in it.
    pub async fn remove(&self) -> io::Result<()> {
        // Device by device: the namespace itself may be kept alive for a while by whoever still has something of it open.
        for link in self.netlink.links().await?.iter().filter(|link| names::is_ours(&link.name)) {
            self.netlink.remove(link.index).await?;
        }
        netns::remove(&self.name)
    }
}

/// The floating addresses of a way out.
fn outer(uplink: &Uplink) -> impl Iterator<Item = IpAddr> {
    let floating = uplink.floating.iter().map(|pair| pair.0);
    floating.chain(uplink.forwards.iter().map(|forward| forward.outer))
}

pub fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the device {name} is gone"))
}

/// Writes a kernel setting of the namespace in which the thread is.
pub fn set(setting: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys/net").join(setting);
    match std::fs::write(&path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && setting.starts_with("ipv6/") => Ok(()),
        other => other.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}
