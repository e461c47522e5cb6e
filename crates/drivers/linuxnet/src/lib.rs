//! The network of a Linux host: makes [`HostNetwork`] true with namespaces, bridges, veths, taps, VXLAN and nftables.
//!
//! A domain is one network namespace ([`space`]); in it are its networks' bridges, its gateways, its rules ([`rules`]) and
//! its servers for DHCP, DNS and metadata ([`servers`]). The host's own namespace has a bridge for each external network
//! ([`host`]). All that is on the host is found again by its name, so a new process takes over from one that was killed
//! without a packet lost.
//!
//! Refused: Open vSwitch and OVN (a second database and daemons for what the kernel does), flow rules per packet in user
//! space, and an agent's own record of what it made (it would differ from the kernel's one day).

mod address;
mod api;
mod arp;
mod dhcp;
mod dhcp6;
mod dns;
mod facts;
mod host;
#[doc(hidden)]
pub mod hostile;
mod metadata;
mod missing;
mod names;
mod netlink;
mod netns;
mod nft;
mod plug;
mod ports;
mod ra;
mod rules;
mod sample;
mod servers;
mod sockets;
mod space;
mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use driver::generation::Generations;
use driver::{ClusterApi, DriverFault, Health, Metadata, NetDriver, Result, SeenWire, TapSource};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use model::hostnet::{Bridge, Domain, HostNetwork, Plug, Wire};
use model::wanted::{Generation, Nic};
use tokio::net::TcpSocket;
use tokio::sync::Mutex;

use host::Host;
pub use missing::missing;
use netlink::Link;
use netns::Netns;
use space::Space;

/// Work on a namespace, with its name.
type Job<'a, T> = BoxFuture<'a, (String, io::Result<T>)>;

/// Whoever asks for a connection has a shorter patience of their own.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Domains that are worked on at a time.
const AT_ONCE: usize = 4;

/// Where and under what name the driver works.
pub struct Config {
    /// Begins the name of everything that the driver makes outside a namespace of its own: at most 6 letters, digits and
    /// dashes, another one for each cloud on the host.
    pub prefix: String,
    /// Where the driver leaves files: for people, such as rules that were refused, and by what the network was made.
    pub dir: PathBuf,
    /// Answers the guests' metadata requests.
    pub metadata: Arc<dyn Metadata>,
}

/// The network of this host.
pub struct LinuxNet {
    config: Config,
    answers: Answers,
    host_ports: Vec<u16>,
    generations: Generations,
    state: Mutex<State>,
}

/// Those who answer guests.
#[derive(Clone)]
struct Answers {
    metadata: Arc<dyn Metadata>,
    api: Option<Arc<dyn ClusterApi>>,
}

/// What is open, and what was wanted last.
#[derive(Default)]
struct State {
    network: HostNetwork,
    host: Option<Host>,
    spaces: BTreeMap<String, Space>,
    /// The namespace of each port's device, when all were last where they belong.
    homes: BTreeMap<String, String>,
    /// What went wrong in the last pass, in words.
    problems: Vec<String>,
}

fn fault(what: &str, error: &io::Error) -> DriverFault {
    let text = format!("{what}: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied => DriverFault::Unavailable(format!("{text}; the network needs root")),
        io::ErrorKind::NotFound => DriverFault::Unavailable(text),
        _ => DriverFault::Failed(text),
    }
}

fn find<'a>(network: &'a HostNetwork, port_id: &str) -> Option<(&'a Domain, &'a Bridge, &'a Wire)> {
    let bridges = network.domains.iter().flat_map(|domain| domain.bridges.iter().map(move |bridge| (domain, bridge)));
    let mut wires = bridges.flat_map(|(domain, bridge)| bridge.ports.iter().map(move |wire| (domain, bridge, wire)));
    wires.find(|(_, _, wire)| wire.port_id == port_id)
}

/// A port's name among the driver's generations.
fn record(port_id: &str) -> String {
    format!("port-{port_id}")
}

fn not_ready(port_id: &str) -> DriverFault {
    DriverFault::NotReady(format!("the port {port_id} is not yet part of this host's network"))
}

impl LinuxNet {
    /// A driver under the prefix. Nothing is touched before the first [`NetDriver::apply`].
    pub fn new(config: Config) -> Result<LinuxNet> {
        if config.prefix.len() > 6 || !names::is_name(&config.prefix) || config.prefix.starts_with(char::is_numeric) {
            let words = format!(
                "{:?} cannot begin the names of devices: take at most 6 letters, digits and dashes",
                config.prefix
            );
            return Err(DriverFault::Refused(words));
        }
        let answers = Answers { metadata: config.metadata.clone(), api: None };
        let generations = Generations::new(&config.dir);
        Ok(LinuxNet { config, answers, host_ports: Vec::new(), generations, state: Mutex::default() })
    }

    /// TCP ports of the host that guests may reach through an external network, such as the cloud's own API.
    pub fn host_ports(mut self, ports: Vec<u16>) -> LinuxNet {
        self.host_ports = ports;
        self
    }

    /// Who answers pods that talk to the API of their cluster; without, nobody does.
    pub fn cluster_api(mut self, api: Arc<dyn ClusterApi>) -> LinuxNet {
        self.answers.api = Some(api);
        self
    }

    fn is_ours(&self, namespace: &str) -> bool {
        names::is_namespace(&self.config.prefix, namespace)
    }
}

impl State {
    /// The host's namespace, opened.
    async fn host(&mut self, prefix: &str) -> Result<&mut Host> {
        if self.host.is_none() {
            if !Path::new("/proc/sys/net/bridge").exists() {
                // Where it is a module. If that fails, the first namespace says so in words.
                let _ = tokio::process::Command::new("modprobe").arg("br_netfilter").status().await;
            }
            let host =
                Host::open(prefix).await.map_err(|error| fault("the host's network cannot be reached", &error))?;
            self.host = Some(host);
        }
        self.host.as_mut().ok_or_else(|| DriverFault::Failed("the host's network is closed".into()))
    }

    fn problem(&mut self, what: &str, error: &io::Error) {
        let words = format!("{what}: {error}");
        tracing::warn!("{words}");
        self.problems.push(words);
    }

    /// Opens a namespace unless it is open, and is the one that has the name.
    async fn open(&mut self, name: &str, answers: &Answers) -> io::Result<()> {
        if self.spaces.get(name).is_some_and(Space::is_there) {
            return Ok(());
        }
        self.spaces.remove(name);
        let space = Space::open(name, answers.clone()).await?;
        self.spaces.insert(name.to_owned(), space);
        Ok(())
    }

    /// Moves devices of ports whose domain changed to their new namespaces.
    async fn move_devices(&mut self, wanted: &BTreeMap<String, &Domain>) -> io::Result<()> {
        let mut home: BTreeMap<String, String> = BTreeMap::new();
        for (name, domain) in wanted {
            let wires = domain.bridges.iter().flat_map(|bridge| &bridge.ports);
            home.extend(wires.map(|wire| (wire.device.clone(), name.clone())));
        }
        if home == self.homes {
            return Ok(());
        }
        for (name, space) in &self.spaces {
            for link in space.netlink.links().await? {
                if let Some(target) = home.get(&link.name).filter(|target| *target != name)
                    && let Some(target) = self.spaces.get(target)
                {
                    space.netlink.move_to(link.index, target.netns.fd()?).await?;
                }
            }
        }
        self.homes = home;
        Ok(())
    }
}

/// Which of a domain's ports work.
fn seen(domain: &Domain, links: Option<&[Link]>) -> Vec<SeenWire> {
    let by_name: BTreeMap<&str, &Link> =
        links.unwrap_or_default().iter().map(|link| (link.name.as_str(), link)).collect();
    let mut seen = Vec::new();
    for bridge in &domain.bridges {
        let index = by_name.get(names::bridge(&bridge.network_id).as_str()).map(|link| link.index);
        for wire in &bridge.ports {
            let link = by_name.get(wire.device.as_str());
            let active = wire.up && link.is_some_and(|link| link.up && index.is_some() && link.bridge == index);
            seen.push(SeenWire { port_id: wire.port_id.clone(), active });
        }
    }
    seen
}

#[async_trait]
impl TapSource for LinuxNet {
    async fn open_tap(&self, nic: &Nic) -> Result<OwnedFd> {
        let state = self.state.lock().await;
        let (domain, bridge, wire) = find(&state.network, &nic.port_id).ok_or_else(|| not_ready(&nic.port_id))?;
        let namespace = domain.namespace(&self.config.prefix);
        let space = state.spaces.get(&namespace).ok_or_else(|| not_ready(&nic.port_id))?;
        if wire.plug != Plug::Tap {
            return Err(DriverFault::Refused(format!("the port {} is a pod's, not a VM's", nic.port_id)));
        }
        let name = wire.device.clone();
        let opened = space.netns.run(move || tap::open(&name)).await;
        let fd = opened.map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => {
                DriverFault::NotReady(format!("the tap {} is still held open by a process", wire.device))
            }
            _ => fault(&format!("the tap {} cannot be opened", wire.device), &error),
        })?;
        let joined = async {
            let name = names::bridge(&bridge.network_id);
            match (space.netlink.link(&wire.device).await?, space.netlink.link(&name).await?) {
                (Some(tap), Some(bridge)) => space.join(wire, &tap, bridge.index).await,
                _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} or {name} is gone", wire.device))),
            }
        };
        joined.await.map_err(|error| fault(&format!("the tap {} cannot be joined", wire.device), &error))?;
        Ok(fd)
    }
}

#[async_trait]
impl NetDriver for LinuxNet {
    async fn health(&self) -> Health {
        let mut problems = Vec::new();
        let mut version = String::new();
        match tokio::process::Command::new("nft").arg("--version").output().await {
            Ok(output) => version = String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Err(error) => problems.push(format!("nft cannot be started ({error}); install nftables")),
        }
        if !nix::unistd::geteuid().is_root() {
            problems.push("the network needs root".to_owned());
        }
        for (path, words) in [
            ("/dev/net/tun", "there is no /dev/net/tun: VMs cannot be plugged in"),
            ("/proc/sys/net/bridge", "the kernel module br_netfilter is not loaded"),
        ] {
            if !Path::new(path).exists() {
                problems.push(words.to_owned());
            }
        }
        problems.extend(self.state.lock().await.problems.iter().cloned());
        Health { part: "network".into(), problem: problems.join("; "), version, ..Health::default() }
    }

    async fn apply(&self, network: &HostNetwork, at: Generation) -> Result<Vec<SeenWire>> {
        let mut guard = self.state.lock().await;
        let _pass = self.generations.pass("network", at)?;
        let state = &mut *guard;
        state.problems.clear();
        let prefix = &self.config.prefix;
        let host = state.host(prefix).await?;
        if let Err(error) = host.ensure(&network.externals, &self.host_ports).await {
            state.problem("the external networks", &error);
        }
        let mut wanted: BTreeMap<String, &Domain> = BTreeMap::new();
        for domain in &network.domains {
            let name = domain.namespace(prefix);
            if self.is_ours(&name) && names::is_path(&name) {
                wanted.insert(name, domain);
            } else {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "the id is too short or has odd characters");
                state.problem(&format!("the domain {}", domain.id), &error);
            }
        }
        let existing = netns::list(prefix).map_err(|error| fault("namespaces cannot be listed", &error))?;
        let existing: BTreeSet<String> = existing.into_iter().filter(|name| self.is_ours(name)).collect();
        for name in existing.iter().chain(wanted.keys()) {
            if let Err(error) = state.open(name, &self.answers).await {
                state.problem(&format!("the namespace {name}"), &error);
            }
        }
        let links = self.ensure_domains(state, &wanted).await;
        state.network = network.clone();
        self.prune(state, &wanted).await;
        let seen_in = |domain: &Domain| seen(domain, links.get(&domain.namespace(prefix)).map(Vec::as_slice));
        Ok(network.domains.iter().flat_map(seen_in).collect())
    }

    async fn plug(&self, port_id: &str, netns: &Path, ifname: &str, at: Generation) -> Result<()> {
        let state = self.state.lock().await;
        let (domain, bridge, wire) = find(&state.network, port_id).ok_or_else(|| not_ready(port_id))?;
        let _pass = self.generations.pass(&record(port_id), at)?;
        let space = state.spaces.get(&domain.namespace(&self.config.prefix)).ok_or_else(|| not_ready(port_id))?;
        if wire.plug != Plug::Veth || !names::is_name(ifname) {
            return Err(DriverFault::Refused(format!("the port {port_id} cannot be plugged in as {ifname}")));
        }
        let pod = Netns::open(netns).map_err(|error| fault(&netns.display().to_string(), &error))?;
        plug::plug(space, bridge, wire, &pod, ifname)
            .await
            .map_err(|error| fault(&format!("the port {port_id} cannot be plugged in"), &error))
    }

    async fn unplug(&self, port_id: &str, at: Generation) -> Result<()> {
        let mut guard = self.state.lock().await;
        let pass = self.generations.pass(&record(port_id), at)?;
        let device = names::veth(port_id);
        let failed = |error: io::Error| fault(&format!("the port {port_id} cannot be unplugged"), &error);
        // Right after a start nothing is open yet; the device may be there all the same.
        for name in netns::list(&self.config.prefix).map_err(failed)? {
            if self.is_ours(&name) {
                guard.open(&name, &self.answers).await.map_err(failed)?;
            }
        }
        for space in guard.spaces.values() {
            if let Some(link) = space.netlink.link(&device).await.map_err(failed)? {
                space.netlink.remove(link.index).await.map_err(failed)?;
            }
        }
        self.generations.gone(pass)
    }

    fn forget_generations(&self) -> Result<()> {
        self.generations.forget()
    }

    async fn dial(&self, port_id: &str, to: SocketAddr) -> Result<std::net::TcpStream> {
        let opened = {
            let state = self.state.lock().await;
            let (domain, _, _) = find(&state.network, port_id).ok_or_else(|| not_ready(port_id))?;
            let space = state.spaces.get(&domain.namespace(&self.config.prefix)).ok_or_else(|| not_ready(port_id))?;
            let open = move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            space.netns.run(open).await
        };
        let socket = opened.map_err(|error| fault("a socket cannot be opened", &error))?;
        let failed = |error: io::Error| DriverFault::Failed(format!("{to} cannot be reached: {error}"));
        match tokio::time::timeout(DIAL_TIMEOUT, socket.connect(to)).await {
            Ok(connected) => connected.and_then(tokio::net::TcpStream::into_std).map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn purge(&self) -> Result<()> {
        let mut guard = self.state.lock().await;
        let state = &mut *guard;
        let prefix = &self.config.prefix;
        state.network = HostNetwork::default();
        state.host(prefix).await?;
        let failed = |error: io::Error| fault("not all could be removed", &error);
        for name in netns::list(prefix).map_err(failed)?.into_iter().filter(|name| self.is_ours(name)) {
            state.open(&name, &self.answers).await.map_err(failed)?;
        }
        while let Some((_, space)) = state.spaces.pop_first() {
            space.remove().await.map_err(failed)?;
        }
        state.host(prefix).await?.purge().await.map_err(failed)?;
        netns::release_folder().map_err(failed)
    }
}

impl LinuxNet {
    /// Rules first, then devices: a device never carries a packet that no rule has judged.
    async fn ensure_domains(
        &self,
        state: &mut State,
        wanted: &BTreeMap<String, &Domain>,
    ) -> BTreeMap<String, Vec<Link>> {
        let dir = &self.config.dir;
        let mut jobs: Vec<Job<'_, ()>> = Vec::new();
        for (name, space) in &mut state.spaces {
            if let Some(domain) = wanted.get(name) {
                jobs.push(Box::pin(async move { (name.clone(), space.ensure_rules(domain, dir).await) }));
            }
        }
        let ruled: Vec<_> = futures_util::stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
        let mut lawless = BTreeSet::new();
        for (name, result) in ruled {
            if let Err(error) = result {
                state.problem(&format!("rules of {name}"), &error);
                lawless.insert(name);
            }
        }
        if let Err(error) = state.move_devices(wanted).await {
            state.problem("ports that changed their domain", &error);
        }
        let Some(host) = &state.host else { return BTreeMap::new() };
        let mut jobs: Vec<Job<'_, Vec<Link>>> = Vec::new();
        for (name, space) in &mut state.spaces {
            if let Some(domain) = wanted.get(name).filter(|_| !lawless.contains(name)) {
                jobs.push(Box::pin(async move { (name.clone(), space.ensure(domain, host).await) }));
            }
        }
        let done: Vec<_> = futures_util::stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
        let mut links = BTreeMap::new();
        for (name, result) in done {
            match result {
                Ok(found) => drop(links.insert(name, found)),
                Err(error) => state.problem(&format!("the domain {name}"), &error),
            }
        }
        links
    }

    /// Removes namespaces and the host's devices that are not wanted.
    async fn prune(&self, state: &mut State, wanted: &BTreeMap<String, &Domain>) {
        let surplus: Vec<String> = state.spaces.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in surplus {
            if let Some(space) = state.spaces.remove(&name)
                && let Err(error) = space.remove().await
            {
                state.problem(&format!("the namespace {name} cannot be removed"), &error);
            }
        }
        if let Some(host) = &state.host
            && let Err(error) = host.prune(&state.network).await
        {
            state.problem("devices that are not wanted", &error);
        }
    }
}
