//! A machine that runs VMs and pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Realm, Resource, Time};

/// A machine that runs VMs and pods. The agent writes it; an administrator sets `enabled`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The host's name, also its Kubernetes node name.
    pub name: String,
    /// A UUID: Placement's resource provider, Nova's hypervisor id.
    pub id: String,
    /// Thousandths of a core that may be promised, over-commitment included.
    pub cpu_milli: u64,
    /// MiB of memory that may be promised.
    pub memory_mib: u64,
    /// GiB of disk that may be promised.
    pub disk_gib: u64,
    /// Real cores, before over-commitment.
    pub cores: u64,
    /// An administrator lets the scheduler use it.
    pub enabled: bool,
    pub disabled_reason: Option<String>,
    /// Where streams of this host's VMs and pods are served: `unix:PATH` or `https://ADDRESS:PORT`.
    pub endpoint: String,
    /// The address under which other hosts reach this one's VXLAN.
    pub underlay: Option<std::net::IpAddr>,
    pub traits: Vec<String>,
    pub status: HostStatus,
    pub created_at: Time,
}

/// What the agent last said about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// When the agent last wrote this; `None` before it did for the first time. That it lives it says without a commit.
    pub heartbeat: Option<Time>,
    /// Nothing was heard of it since, for so long that it counts as away.
    #[serde(default)]
    pub silent: bool,
    /// How often it has reported. The host knows that number too: a store with a lower one is an older store put back.
    #[serde(default)]
    pub reports: u64,
    /// Each part with what is wrong with it; an empty text: nothing.
    pub parts: Vec<(String, String)>,
    /// What happened to parts that are well again, in words.
    #[serde(default)]
    pub notes: Vec<(String, String)>,
    /// How VMs run: `kvm` or `tcg`.
    pub accel: String,
    /// The machine's own address.
    #[serde(default)]
    pub address: Option<std::net::IpAddr>,
    /// As Go names it: `amd64`.
    #[serde(default)]
    pub arch: String,
    /// The release of Braid that runs there.
    #[serde(default)]
    pub version: String,
    pub kernel: String,
    pub os: String,
    pub hypervisor_version: String,
    pub container_runtime: String,
    /// What it is short of, or was a moment ago.
    #[serde(default)]
    pub short: Vec<Shortage>,
    /// Its availability zone when it reported last.
    #[serde(default)]
    pub zone: String,
    /// The projects for which it was reserved when it reported last; none: it is for all.
    #[serde(default)]
    pub reserved_for: Vec<String>,
    /// When each condition of its [nodes](crate::node) last became what it is.
    #[serde(default)]
    pub turned: BTreeMap<String, Time>,
}

/// What a host may be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Shortage {
    Memory,
    /// Of the disk, or of its inodes.
    Disk,
}

/// The availability zone of hosts that no aggregate puts into another.
pub const ZONE: &str = "nova";

impl Host {
    /// An enabled host that has nothing to give and has not reported yet.
    pub fn new(name: &str, now: Time) -> Self {
        Self {
            name: name.to_owned(),
            id: crate::derived_id(&["host", name]),
            cpu_milli: 0,
            memory_mib: 0,
            disk_gib: 0,
            cores: 0,
            enabled: true,
            disabled_reason: None,
            endpoint: String::new(),
            underlay: None,
            traits: Vec::new(),
            status: HostStatus::default(),
            created_at: now,
        }
    }

    /// How long after its last sign of life a host still counts as there, in seconds.
    pub const SILENCE_SECONDS: i64 = 35;

    /// Its agent has reported, and is heard.
    pub fn is_up(&self) -> bool {
        self.status.heartbeat.is_some() && !self.status.silent
    }

    /// The address under which the host is known: Kubernetes' InternalIP.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.underlay.or(self.status.address)
    }

    /// The pool of one sort of room on a host.
    pub fn pool(host: &str, resource: &str) -> String {
        format!("room/{host}/{resource}")
    }

    /// The claims of something that takes room on a host. Disk is counted in MiB: pods ask for less than a GiB.
    pub fn room(host: &str, cpu_milli: u64, memory_mib: u64, disk_mib: u64) -> Vec<Claim> {
        [("cpu", cpu_milli), ("memory", memory_mib), ("disk", disk_mib)]
            .into_iter()
            .filter(|(_, amount)| *amount > 0)
            .map(|(resource, amount)| Claim::Use { pool: Self::pool(host, resource), amount })
            .collect()
    }
}

impl Resource for Host {
    kind!(Host);
    fn realm(&self) -> Realm {
        Realm::Cloud
    }
    fn name(&self) -> String {
        self.name.clone()
    }
    fn is_report_on(&self, before: &Self) -> bool {
        *self == Self { status: self.status.clone(), ..before.clone() }
    }
    fn claims(&self) -> Vec<Claim> {
        let limit = |resource, limit| Claim::Limit { pool: Self::pool(&self.name, resource), limit };
        let disk_mib = self.disk_gib.saturating_mul(1024);
        vec![limit("cpu", self.cpu_milli), limit("memory", self.memory_mib), limit("disk", disk_mib)]
    }
}
