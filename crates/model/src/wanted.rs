//! What shall run on one host, as its drivers understand it: rows resolved into plain instructions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// How new an order to a host is: the store's revision by which it was decided. Of two orders about one thing the one with
/// the higher generation is the later one, whoever gives it; a driver that has carried out one refuses those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Generation {
    /// That of whoever decides by this snapshot.
    pub fn of(snapshot: &crate::Snapshot) -> Self {
        Self(snapshot.revision())
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "generation {}", self.0)
    }
}

/// A VM that shall exist on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WantedVm {
    #[serde(default)]
    pub generation: Generation,
    /// The VM's id: `<server id>.<incarnation>`.
    pub id: String,
    /// Told to the guest as its system UUID.
    pub uuid: String,
    pub name: String,
    pub vcpus: u64,
    pub memory_mib: u64,
    /// Shall run; else it is stopped, its disk kept.
    pub running: bool,
    pub paused: bool,
    /// Its memory shall be in a file, and nothing run. Taken up there when it shall run again.
    pub suspended: bool,
    /// The first disk is one to rescue the others with. It is made anew each time this becomes true, and the guest is
    /// started anew when it changes.
    pub rescue: bool,
    /// Counters: the driver reboots when they are above what it last did.
    pub soft_reboots: u32,
    pub hard_reboots: u32,
    pub boot: Boot,
    /// What it is made of.
    #[serde(default)]
    pub machine: Machine,
    pub disks: Vec<Disk>,
    /// Files of the config drive by path, as they shall be at the next start; without any there is no config drive.
    pub config_drive: BTreeMap<String, Vec<u8>>,
    pub nics: Vec<Nic>,
}

/// From what a VM boots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Boot {
    /// A kernel of its own, handed to QEMU.
    Kernel { kernel: PathBuf, initrd: Option<PathBuf>, cmdline: String },
    /// The boot loader of the first disk.
    Disk,
}

/// A disk of a VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Unique within the VM: `root`, `rescue`, a volume's id. Also its serial.
    pub id: String,
    /// A file to copy the disk from when it does not exist yet (never written to).
    pub base: Option<PathBuf>,
    /// `raw` or `qcow2`: the format of `base`.
    pub format: String,
    /// Bytes; 0: as large as `base`.
    pub size: u64,
    pub read_only: bool,
    /// The VM (an earlier incarnation) whose disk of the same id is taken over instead.
    pub take_from: Option<String>,
    /// It was made once: if it is missing it is lost, and a new one would hide that.
    #[serde(default)]
    pub made: bool,
}

/// A network interface of a VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    pub port_id: String,
    pub mac: String,
    pub mtu: u32,
    /// The tap's name, in the namespace of the port's domain.
    pub device: String,
    pub namespace: String,
}

/// A pod that shall exist on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WantedPod {
    #[serde(default)]
    pub generation: Generation,
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub cluster_id: String,
    pub hostname: String,
    /// The pod's full name in its cluster's zone; empty: it has none.
    #[serde(default)]
    pub fqdn: String,
    /// Further lines of its file of hosts.
    #[serde(default)]
    pub host_aliases: Vec<(IpAddr, Vec<String>)>,
    pub dns_servers: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub host_network: bool,
    /// Seconds between TERM and KILL.
    pub grace_seconds: u32,
    /// All containers, init containers first; which of them shall run now is the agent's decision.
    pub containers: Vec<WantedContainer>,
    /// Parts shared by the containers.
    pub share_pid: bool,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub fs_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub sysctls: BTreeMap<String, String>,
}

/// A container of a pod, in one attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WantedContainer {
    pub name: String,
    /// Grows with each restart.
    pub attempt: u32,
    /// A reference that the runtime can pull.
    pub image: String,
    /// `Always`, `IfNotPresent`, `Never`.
    pub pull: String,
    /// User and password for the image's registry, if the pod brings them.
    #[serde(default)]
    pub pull_credentials: Option<(String, String)>,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: String,
    pub env: Vec<(String, String)>,
    /// Host path, path in the container, read-only.
    pub mounts: Vec<(PathBuf, String, bool)>,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub privileged: bool,
    pub read_only_root: bool,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub run_as_non_root: bool,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub no_new_privileges: bool,
    /// Shares of a core in thousandths; 0: the least.
    pub cpu_request_milli: u64,
    /// 0: no limit.
    pub cpu_limit_milli: u64,
    /// Bytes; 0: no limit.
    pub memory_limit: u64,
    pub oom_score_adj: i64,
}
