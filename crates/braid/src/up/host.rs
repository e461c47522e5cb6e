//! This machine as a host: its row, its drivers, its sockets. The one place that names real drivers.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use agent::cloud::Cloud;
use agent::{Agent, Drivers};
use async_trait::async_trait;
use driver_cri::{CniAddress, CniHandler, CniPlugged, CniRequest, Cri};
use driver_linuxnet::LinuxNet;
use driver_qemu::Qemu;
use gate::Gate;
use model::{Change, Cluster, Host, Time};
use store::Store;

use super::{Accel, UpArgs};
use crate::Problem;
use crate::control::private_socket;
use crate::paths::Dir;

/// The machine's name: the Host row's and the Node's.
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    if name.is_empty() { "localhost".into() } else { name }
}

/// The machine's own addresses of IPv4.
pub fn addresses() -> Vec<String> {
    all_addresses().into_iter().filter(IpAddr::is_ipv4).map(|ip| ip.to_string()).collect()
}

/// All of the machine's own addresses.
pub fn all_addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ip = |a: nix::sys::socket::SockaddrStorage| {
        let v4 = a.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| a.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
    };
    all.filter_map(|a| a.address).filter_map(ip).collect()
}

/// Makes the Host row at the first start. Two processes must not serve one host: they would undo each other's work.
pub async fn register(store: &Store, name: &str, dir: &Dir, now: Time) -> Result<(), Problem> {
    let endpoint = format!("unix:{}", dir.host_socket().display());
    let measured = agent::host::measure(name, dir.path(), &endpoint, now);
    let before = store.transact(|snapshot| match snapshot.get::<Host>(name) {
        Some(host) => Ok((Change::new(), Some(host.value.clone()))),
        None => Ok((Change::from(measured.clone()), None)),
    });
    match before.await? {
        Some(host) if host.endpoint != endpoint && is_served(store, &host).await => Err(Problem::words(format!(
            "the host {name} is served by another process, at {}; --host-name gives this one a name of its own",
            host.endpoint
        ))),
        _ => Ok(()),
    }
}

/// Whether a process still serves a host: one on this machine would answer, one elsewhere would be heard.
async fn is_served(store: &Store, host: &Host) -> bool {
    match host.endpoint.strip_prefix("unix:").filter(|path| Path::new(path).exists()) {
        Some(path) => tokio::net::UnixStream::connect(path).await.is_ok(),
        None => store.last_beat(&host.name).is_some(),
    }
}

/// What this machine cannot run for now, in words.
pub fn missing() -> Vec<String> {
    [driver_qemu::missing(), driver_cri::missing(), driver_linuxnet::missing()].into_iter().flatten().collect()
}

/// The first of the users that VMs run as, unless it is said: the folder's own, so that two clouds on one machine share
/// none.
fn first_user(dir: &Dir) -> u32 {
    const FIRST: u32 = 1_900_000_000;
    const OF_A_CLOUD: u32 = 65_536;
    let file = dir.join("vm-users");
    if let Some(first) = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
        return first;
    }
    // A cloud that is older than this file has the first ones, and VMs that run as them.
    let slots = (u32::MAX / 2 - FIRST) / OF_A_CLOUD;
    let hash = u32::from_str_radix(dir.prefix().trim_start_matches('b').trim_end_matches('-'), 16).unwrap_or(0);
    let first = if dir.join("vms").exists() { FIRST } else { FIRST + hash % slots * OF_A_CLOUD };
    if let Err(error) = std::fs::write(&file, format!("{first}\n")) {
        tracing::warn!(%error, "the users of VMs cannot be noted");
    }
    first
}

/// Whether a cloud that was not simulated ever ran in the folder.
pub fn is_real(dir: &Dir) -> bool {
    ["cni", "cri", "vms", "net"].iter().any(|name| dir.join(name).exists())
}

/// The drivers that the arguments ask for.
pub fn drivers(
    args: &UpArgs,
    dir: &Dir,
    store: &Store,
    cloud: Arc<dyn Cloud>,
    authority: &str,
    api: Arc<dyn driver::ClusterApi>,
    gate: &Arc<Gate>,
) -> Result<Drivers, Problem> {
    if args.sim {
        return Ok(simulated());
    }
    install_cni(&dir.join("cni"))?;
    let answers = agent::metadata::Answers::new(cloud);
    let net = LinuxNet::new(driver_linuxnet::Config { prefix: dir.prefix(), dir: dir.join("net"), metadata: answers });
    let port = authority.rsplit(':').next().and_then(|port| port.parse().ok());
    let net = net.map_err(|e| Problem::words(e.to_string()))?.host_ports(port.into_iter().collect());
    let net = net.cluster_api(api);
    let accel = args.accel.map(|accel| match accel {
        Accel::Kvm => driver_qemu::Accel::Kvm,
        Accel::Tcg => driver_qemu::Accel::Tcg,
    });
    let vm = Qemu::new(driver_qemu::Config {
        accel,
        first_user: Some(args.vm_users.unwrap_or_else(|| first_user(dir))),
        ..qemu(dir)
    });
    Ok(Drivers { vm: Arc::new(vm), pod: Arc::new(cri(dir, authority, Some((store, gate)))), net: Arc::new(net) })
}

/// What hosts pull the images of a pod with from our registry: a token that reads the repositories of the pod's project.
/// The same for an hour, so that pulls of one image by pods of one project stay one pull.
fn pull_tokens(store: &Store, gate: &Arc<Gate>) -> driver_cri::Credentials {
    const HOUR: i64 = 3600;
    let (store, gate) = (store.clone(), gate.clone());
    Arc::new(move |pod| {
        let snapshot = store.snapshot();
        let cluster = snapshot.get::<Cluster>(&pod.cluster_id)?;
        let end = Time::from_second((Time::now().as_second() / HOUR + 2) * HOUR).ok()?;
        let token = gate.pull_token(&cluster.project_id, end);
        let token = token.inspect_err(|fault| tracing::warn!("images are pulled by nobody: {fault}")).ok()?;
        Some(("host".to_owned(), token))
    })
}

/// The VM driver's configuration of a folder.
pub fn qemu(dir: &Dir) -> driver_qemu::Config {
    let group = Some(format!("braid-{}-vms", dir.prefix().trim_end_matches('-')));
    driver_qemu::Config { dir: dir.join("vms"), group, ..driver_qemu::Config::default() }
}

/// Pods have the images of their project's repositories, and of the cloud's own.
fn readable(store: &Store) -> driver_cri::Readable {
    let store = store.clone();
    Arc::new(move |pod, repository| {
        let snapshot = store.snapshot();
        let cluster = snapshot.get::<Cluster>(&pod.cluster_id);
        cluster.is_some_and(|cluster| face_registry::is_readable(&snapshot, repository, &cluster.project_id))
    })
}

/// The container driver of a folder. A purge needs it without a running cloud, and without an authority.
pub fn cri(dir: &Dir, authority: &str, of: Option<(&Store, &Arc<Gate>)>) -> Cri {
    Cri::new(driver_cri::Config {
        dir: dir.join("cri"),
        prefix: format!("braid-{}", dir.prefix().trim_end_matches('-')),
        registry: Some(driver_cri::Registry {
            name: "braid.local".into(),
            url: format!("https://{authority}"),
            ca: Some(dir.ca()),
        }),
        credentials: of.map(|(store, gate)| pull_tokens(store, gate)),
        readable: of.map(|(store, _)| readable(store)),
        cni_bin_dir: dir.join("cni"),
        cni_socket: dir.cni_socket(),
    })
}

fn simulated() -> Drivers {
    let host = driver::sim::Host::default();
    Drivers { vm: Arc::new(host.clone()), pod: Arc::new(host.clone()), net: Arc::new(host) }
}

/// Puts this program where containerd looks for network plugins.
fn install_cni(bin: &Path) -> Result<(), Problem> {
    let program = std::env::current_exe().map_err(Problem::io("finding this program"))?;
    std::fs::create_dir_all(bin).map_err(Problem::io(format!("making {}", bin.display())))?;
    for name in ["braid-cni", "loopback"] {
        let link = bin.join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&program, &link).map_err(Problem::io(format!("making {}", link.display())))?;
    }
    Ok(())
}

/// Serves the host's sockets: streams for the faces, questions of the CNI plugin.
pub fn serve(dir: &Dir, agent: &Agent) -> Result<(), Problem> {
    let listener = private_socket(&dir.host_socket())?;
    let router = agent::streams::router(agent.clone());
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, router).await {
            tracing::error!("the host's socket ended: {e}");
        }
    });
    let (socket, handler) = (dir.cni_socket(), Arc::new(Cni(agent.clone())));
    tokio::spawn(async move {
        if let Err(e) = driver_cri::serve_cni(&socket, handler).await {
            tracing::error!("the socket of the network plugin ended: {e}");
        }
    });
    Ok(())
}

struct Cni(Agent);

#[async_trait]
impl CniHandler for Cni {
    async fn add(&self, request: &CniRequest) -> driver::Result<CniPlugged> {
        let plugged = agent::cni::add(&self.0, &request.pod_uid, &request.netns, &request.ifname).await?;
        let ips = plugged.addresses.into_iter().map(|(address, gateway)| CniAddress { address, gateway });
        Ok(CniPlugged { ips: ips.collect(), mac: plugged.mac })
    }

    async fn del(&self, request: &CniRequest) -> driver::Result<()> {
        agent::cni::del(&self.0, &request.pod_uid).await
    }

    async fn check(&self, _: &CniRequest) -> driver::Result<()> {
        Ok(())
    }
}
