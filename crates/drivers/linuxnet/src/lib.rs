//! The network of a Linux host: makes [`HostNetwork`] true with namespaces, bridges, veths, taps, VXLAN and nftables.
//!
//! A domain is one network namespace ([`space`], made by [`making`]); in it are its networks' bridges, its gateways, its rules ([`rules`]) and
//! its servers for DHCP, DNS and metadata ([`netserve`]). The host's own namespace has a bridge for each external network
//! ([`host`]). All that is on the host is found again by its name, so a new process takes over from one that was killed
//! without a packet lost.
//!
//! Refused: Open vSwitch and OVN (a second database and daemons for what the kernel does), flow rules per packet in user
//! space, and an agent's own record of what it made (it would differ from the kernel's one day).

mod arp;
mod bpf;
mod host;
mod making;
mod missing;
mod names;
mod netlink;
mod netns;
mod nft;
mod plug;
mod ports;
mod rules;
mod shaping;
mod space;
mod tap;
mod trunks;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use driver::generation::Generations;
use driver::{Attach, Attachment, ClusterApi, DriverFault, Health, Metadata, NetDriver, Result, SeenNetwork};
use model::hostnet::{HostNetwork, Plug};
use model::wanted::{Generation, Nic};
use netserve::Answers;
use tokio::net::TcpSocket;

use making::{Making, Place, View};
pub use missing::missing;
use netlink::Netlink;
use netns::Netns;

/// Whoever asks for a connection has a shorter patience of their own.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// For a program to say its version.
const HEALTH_LIMIT: Duration = Duration::from_secs(10);

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
    generations: Arc<Generations>,
    making: tokio::sync::Mutex<Making>,
    view: Arc<View>,
    trunks: trunks::Turn,
}

fn fault(what: &str, error: &io::Error) -> DriverFault {
    let text = format!("{what}: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied => DriverFault::Unavailable(format!("{text}; the network needs root")),
        io::ErrorKind::NotFound => DriverFault::Unavailable(text),
        _ => DriverFault::Failed(text),
    }
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
        let generations = Arc::new(Generations::new(&config.dir));
        let (making, view, trunks) = Default::default();
        Ok(LinuxNet { config, answers, host_ports: Vec::new(), generations, making, view, trunks })
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

    /// Joins the subports of a port whose device has just come. What goes wrong with them does not keep it from working, and
    /// the next pass tries again.
    async fn join_trunk(&self, place: &Place) {
        if !place.wire.trunk.is_empty() {
            let _turn = self.trunks.lock().await;
            trunks::ensure(&self.view, &place.wire.port_id).await;
        }
    }
}

#[async_trait]
impl Attach for LinuxNet {
    /// By a tap: bridges have nothing else for VMs.
    async fn attach(&self, nic: &Nic) -> Result<Attachment> {
        let place = self.view.find(&nic.port_id).ok_or_else(|| not_ready(&nic.port_id))?;
        let (space, wire) = (&place.handles, &place.wire);
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
            let name = names::bridge(&place.bridge.network_id);
            match (space.netlink.link(&wire.device).await?, space.netlink.link(&name).await?) {
                (Some(tap), Some(bridge)) => {
                    space.join(wire, &tap, bridge.index).await?;
                    space.shape_new(wire).await
                }
                _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} or {name} is gone", wire.device))),
            }
        };
        joined.await.map_err(|error| fault(&format!("the tap {} cannot be joined", wire.device), &error))?;
        self.join_trunk(&place).await;
        // Dropped, the tap is gone.
        if self.view.plugged(&place) { Ok(Attachment::Tap(fd)) } else { Err(not_ready(&nic.port_id)) }
    }
}

#[async_trait]
impl NetDriver for LinuxNet {
    async fn health(&self) -> Health {
        let mut problems = Vec::new();
        let mut version = String::new();
        let nft = tokio::process::Command::new("nft").arg("--version").kill_on_drop(true).output();
        match tokio::time::timeout(HEALTH_LIMIT, nft).await {
            Ok(Ok(output)) => version = String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Ok(Err(error)) => problems.push(format!("nft cannot be started ({error}); install nftables")),
            Err(_) => problems.push(format!("nft does not answer within {HEALTH_LIMIT:?}")),
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
        problems.extend(self.view.problems());
        Health { part: "network".into(), problem: problems.join("; "), version, ..Health::default() }
    }

    async fn apply(&self, network: &HostNetwork, at: Generation) -> Result<SeenNetwork> {
        self.pass(network, at).await
    }

    async fn plug(&self, port_id: &str, netns: &Path, ifname: &str, at: Generation) -> Result<()> {
        let place = self.view.find(port_id).ok_or_else(|| not_ready(port_id))?;
        let _pass = self.generations.pass(&record(port_id), at)?;
        let Place { handles, bridge, wire } = &place;
        if wire.plug != Plug::Veth || !names::is_name(ifname) {
            return Err(DriverFault::Refused(format!("the port {port_id} cannot be plugged in as {ifname}")));
        }
        let pod = Netns::open(netns).map_err(|error| fault(&netns.display().to_string(), &error))?;
        plug::plug(handles, bridge, wire, &pod, ifname)
            .await
            .map_err(|error| fault(&format!("the port {port_id} cannot be plugged in"), &error))?;
        self.join_trunk(&place).await;
        if self.view.plugged(&place) { Ok(()) } else { Err(not_ready(port_id)) }
    }

    async fn unplug(&self, port_id: &str, at: Generation) -> Result<()> {
        let pass = self.generations.pass(&record(port_id), at)?;
        let device = names::veth(port_id);
        let failed = |error: io::Error| fault(&format!("the port {port_id} cannot be unplugged"), &error);
        for name in netns::list(&self.config.prefix).map_err(failed)?.into_iter().filter(|name| self.is_ours(name)) {
            let remove = async {
                match self.view.handles(&name) {
                    Some(handles) => remove_link(&handles.netlink, &device).await,
                    // Right after a start nothing is open yet; the device may be there all the same.
                    None => remove_link(&Netlink::open(&Netns::open(&netns::path(&name))?).await?, &device).await,
                }
            };
            remove.await.map_err(failed)?;
        }
        self.generations.gone(pass)
    }

    fn forget_generations(&self) -> Result<()> {
        self.generations.forget()
    }

    async fn dial(&self, port_id: &str, to: SocketAddr) -> Result<std::net::TcpStream> {
        let place = self.view.find(port_id).ok_or_else(|| not_ready(port_id))?;
        let open = move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let opened = place.handles.netns.run(open).await;
        let socket = opened.map_err(|error| fault("a socket cannot be opened", &error))?;
        let failed = |error: io::Error| DriverFault::Failed(format!("{to} cannot be reached: {error}"));
        match tokio::time::timeout(DIAL_TIMEOUT, socket.connect(to)).await {
            Ok(connected) => connected.and_then(tokio::net::TcpStream::into_std).map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn purge(&self) -> Result<()> {
        self.remove_all().await
    }
}

async fn remove_link(netlink: &Netlink, device: &str) -> io::Result<()> {
    match netlink.link(device).await? {
        Some(link) => netlink.remove(link.index).await,
        None => Ok(()),
    }
}
