//! What a host can do, as traits: VMs, pods, the network. The agent knows nothing else of a machine. Each has a simulated
//! implementation for the simulator ([`sim`]) and one suite that every implementation must pass ([`suite`]).
//!
//! All verbs are *ensure*, *remove* and *list*: idempotent, level-triggered, repeatable after a crash at any point. A
//! driver keeps no memory of its own that it could not rebuild from the host.
//!
//! Every verb that changes a thing says by which [`Generation`] it was decided, and is refused as [`DriverFault::Stale`],
//! before anything was done, when the thing was changed by a newer one ([`generation`]). The exceptions name what is never
//! given twice: a container by the runtime's id.

pub mod address;
pub mod cgroup;
pub mod generation;
pub mod process;
pub mod sim;
pub mod suite;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use model::hostnet::HostNetwork;
use model::wanted::{Generation, Nic, WantedPod, WantedVm};
use model::{Time, VmPhase, VmUsage};

/// What a driver could not do. The text is for people, names the thing and says what to do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DriverFault {
    /// A program, device or service that is needed is missing or does not answer; it may come back. Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// Something must happen first (a port to be plugged, an image to be fetched); try again soon.
    #[error("{0}")]
    NotReady(String),
    /// It was decided before something else that was carried out already; decide anew.
    #[error("{0}")]
    Stale(String),
    /// It cannot work as asked; trying again will not help.
    #[error("{0}")]
    Refused(String),
    /// The host said no: a full disk, a failing system call. Try again later.
    #[error("{0}")]
    Failed(String),
}

pub type Result<T> = std::result::Result<T, DriverFault>;

/// Whether a part of the host works: its name, and what is wrong with it in words (empty: nothing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub part: String,
    pub problem: String,
    /// What happened to it and is well again, in words, such as an end that nobody asked for.
    pub note: String,
    /// A version, for people.
    pub version: String,
}

/// A VM as the driver finds it on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeenVm {
    /// [`WantedVm::id`].
    pub id: String,
    /// By what it was changed last.
    pub generation: Generation,
    pub phase: VmPhase,
    /// Why it is not running, in words.
    pub message: String,
    /// It was to run and ended by itself; it stays off until it is rebooted, or not wanted and wanted again.
    pub ended: bool,
    pub soft_reboots: u32,
    pub hard_reboots: u32,
    /// It was started with the disk to rescue the others with.
    pub rescued: bool,
    /// Its disks were made.
    pub made: bool,
    /// The process, if one runs.
    pub pid: Option<u32>,
}

/// What a VM's interface is attached to its port by.
#[derive(Debug)]
pub enum Attachment {
    /// A tap, open.
    Tap(OwnedFd),
    /// The socket of a switch in user space, which reads the VM's memory.
    VhostUser(PathBuf),
    /// A PCI function of the host that the VM has to itself, by its address: `0000:3b:02.1`.
    Pci(String),
}

impl Display for Attachment {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Tap(_) => out.write_str("a tap"),
            Attachment::VhostUser(socket) => write!(out, "the vhost-user socket {}", socket.display()),
            Attachment::Pci(address) => write!(out, "the PCI function {address}"),
        }
    }
}

/// Attaches VMs' interfaces to their ports.
#[async_trait]
pub trait Attach: Send + Sync {
    /// The attachment, ready to be handed to a VM; it may end when it is dropped. `NotReady` until the port's network is
    /// there. Which kinds there are is the network's business; a [`VmDriver`] refuses those that it cannot take.
    async fn attach(&self, nic: &Nic) -> Result<Attachment>;
}

/// Runs VMs.
#[async_trait]
pub trait VmDriver: Send + Sync {
    async fn health(&self) -> Health;
    /// Everything that the driver has on this host, wanted or not, from a fresh look.
    async fn list(&self) -> Result<Vec<SeenVm>>;
    /// Brings a VM one step nearer to what is wanted and says where it stands. Starting is not waited for. Taking over the
    /// disks of another VM is a change of that one, too: a removal of it that was decided before comes late.
    async fn ensure(&self, vm: &WantedVm, ports: &dyn Attach) -> Result<SeenVm>;
    /// Stops a VM at once and removes all of it, disks too (unless `keep_disks`). Returns when nothing runs any more.
    async fn remove(&self, id: &str, keep_disks: bool, at: Generation) -> Result<()>;
    /// Stops a VM at once and moves all of it into the folder `to`, which must not exist and be on the same file system.
    /// Returns when nothing runs any more, and whether there was such a VM.
    async fn put_aside(&self, id: &str, to: &Path, at: Generation) -> Result<bool>;
    /// Makes what was put aside this VM again, as it was when it was stopped. `Refused` if it has other disks by now.
    async fn give_back(&self, id: &str, from: &Path, at: Generation) -> Result<()>;
    /// Copies a disk as it is at one moment to a qcow2 file that depends on no other, and returns the size that a guest
    /// sees. The VM may run. `NotReady` if it was stopped or started meanwhile: then begin anew.
    async fn copy_disk(&self, id: &str, disk: &str, to: &Path, at: Generation) -> Result<u64>;
    /// Ends what is left of a copy that nobody waits for any more; the file is the caller's.
    async fn end_copy(&self, id: &str, at: Generation) -> Result<()>;
    /// Forgets by what things were changed: a person has said that another store counts from now on.
    fn forget_generations(&self) -> Result<()>;
    /// What a VM has used since it was started. `NotReady` while it does not run.
    async fn usage(&self, id: &str) -> Result<VmUsage>;
    /// The file with all that the guest wrote to its first serial line.
    fn console_log(&self, id: &str) -> PathBuf;
}

/// The state of a container, as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    Created,
    Running { started: Time },
    Exited { code: i32, reason: String, message: String, started: Time, finished: Time },
    Unknown,
}

/// A container as the driver finds it on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeenContainer {
    /// The runtime's id.
    pub id: String,
    pub name: String,
    pub attempt: u32,
    pub image: String,
    /// The image's digest as the runtime resolved it.
    pub image_ref: String,
    pub state: ContainerState,
    pub log_path: PathBuf,
}

/// A pod as the driver finds it on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeenPod {
    pub uid: String,
    /// By what it was changed last.
    pub generation: Generation,
    pub name: String,
    pub namespace: String,
    pub cluster_id: String,
    /// The sandbox is up.
    pub ready: bool,
    /// When its sandbox was made.
    pub created: Option<Time>,
    pub containers: Vec<SeenContainer>,
}

/// What a command in a container gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A stream into a pod that the runtime shall open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamRequest {
    Exec { container_id: String, command: Vec<String>, stdin: bool, stdout: bool, stderr: bool, tty: bool },
    Attach { container_id: String, stdin: bool, stdout: bool, stderr: bool, tty: bool },
    PortForward { pod_uid: String, ports: Vec<u16> },
}

/// Runs pods.
#[async_trait]
pub trait PodDriver: Send + Sync {
    async fn health(&self) -> Health;
    /// Every pod that the driver has on this host, wanted or not, from a fresh look.
    async fn list(&self) -> Result<Vec<SeenPod>>;
    /// What the driver has of one pod, from a fresh look.
    async fn look(&self, uid: &str) -> Result<Option<SeenPod>>;
    /// Sees to it that the pod's sandbox is up; a dead sandbox is replaced (its containers are gone then).
    async fn ensure_sandbox(&self, pod: &WantedPod) -> Result<()>;
    /// Fetches the image of a container if need be and by its pull policy; returns its reference by digest.
    async fn ensure_image(&self, pod: &WantedPod, container: &str) -> Result<String>;
    /// Creates and starts the container in its wanted attempt unless that attempt exists; removes older attempts but the last.
    async fn ensure_container(&self, pod: &WantedPod, container: &str) -> Result<()>;
    /// TERM, then after `grace` KILL. Returns when it has stopped.
    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<()>;
    /// Stops what still runs of a pod (TERM, after `grace` KILL) and removes all of it. Returns when nothing is left.
    async fn remove(&self, uid: &str, grace: Duration, at: Generation) -> Result<()>;
    /// [`VmDriver::forget_generations`].
    fn forget_generations(&self) -> Result<()>;
    /// What the containers of a pod take, by the runtime's ids, as far as the runtime can tell; what is the pod's own under
    /// the empty id.
    async fn used(&self, uid: &str) -> Result<BTreeMap<String, Used>> {
        let _ = uid;
        Ok(BTreeMap::new())
    }
    /// Runs a command in a container and waits for it; for probes and hooks.
    async fn exec(&self, container_id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput>;
    /// The URL of the runtime's streaming server for a stream.
    async fn stream(&self, request: &StreamRequest) -> Result<String>;
    /// A program, with its arguments, whose standard streams are those of a command run in the container.
    fn exec_program(&self, container_id: &str, command: &[String], tty: bool) -> Result<Vec<String>> {
        let _ = (command, tty);
        Err(DriverFault::Unavailable(format!("this driver cannot run commands in {container_id}")))
    }
}

/// A port as the driver finds it on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenWire {
    pub port_id: String,
    /// The device exists, is joined to its bridge and its rules are in force.
    pub active: bool,
    /// The host tried and cannot plug it in; the driver's health says why.
    pub failed: bool,
}

/// What a container takes of its host; all but files in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Written into its own file system.
    pub disk: u64,
    /// Its working set.
    pub memory: u64,
    /// Files in its own file system.
    pub inodes: u64,
}

/// Does what may wait for a disk on a thread of its own: the threads that all share never do.
pub async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// The network as a driver finds it on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenNetwork {
    pub wires: Vec<SeenWire>,
    /// What is still being made, in words: it takes long, and nothing else waits for it. Ask again soon.
    pub late: Vec<String>,
}

/// Makes the host's network.
#[async_trait]
pub trait NetDriver: Attach {
    async fn health(&self) -> Health;
    /// Makes the host's network what is wanted, removes what is not, and says which ports are plugged. Flows that
    /// were let in by a rule that is gone are cut. Cheap when nothing changed since the last call. What takes long goes on
    /// by itself when the call returns, and holds up no other domain.
    async fn apply(&self, network: &HostNetwork, at: Generation) -> Result<SeenNetwork>;
    /// Plugs a port's veth into a pod's network namespace: addresses, routes, MTU, `lo` up. The port must be part of
    /// the network that was last applied, else `NotReady`.
    async fn plug(&self, port_id: &str, netns: &Path, ifname: &str, at: Generation) -> Result<()>;
    /// Takes a port's veth away. Without an error if there is none.
    async fn unplug(&self, port_id: &str, at: Generation) -> Result<()>;
    /// [`VmDriver::forget_generations`].
    fn forget_generations(&self) -> Result<()>;
    /// Connects to an address as the gateway of the port's network would: for probes and port-forwards. Rules of
    /// security groups do not apply.
    async fn dial(&self, port_id: &str, to: std::net::SocketAddr) -> Result<std::net::TcpStream> {
        let _ = to;
        Err(DriverFault::Unavailable(format!("this network driver cannot reach port {port_id}")))
    }
    /// Removes everything that the driver ever made on this host.
    async fn purge(&self) -> Result<()>;
}

/// Answers guests that connect to the API of their cluster; called by the network driver.
#[async_trait]
pub trait ClusterApi: Send + Sync {
    /// Serves one connection, to its end.
    async fn serve(&self, cluster_id: &str, stream: std::net::TcpStream);
}

/// The most bytes that a guest may send to its metadata service.
pub const METADATA_BODY: usize = 4096;

/// Answers the guests' metadata requests; implemented by the agent, called by the network driver.
#[async_trait]
pub trait Metadata: Send + Sync {
    /// The answer to `GET path` from the port: status, content type and body.
    async fn get(&self, port_id: &str, path: &str) -> (u16, &'static str, Vec<u8>);
    /// The answer to `POST path` with a body of at most [`METADATA_BODY`] bytes.
    async fn post(&self, port_id: &str, path: &str, body: &[u8]) -> (u16, &'static str, Vec<u8>);
}
