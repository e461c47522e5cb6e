//! A port that carries several networks: frames without a tag are its own, tagged ones are those of its subports, each of
//! which is an ordinary port with addresses and rules of its own. The subports are part of the trunk's row, so that a commit
//! which writes it has them all, and two of one tag cannot be made at once. A port takes part in one trunk at most, in one
//! role: it claims so.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Entry, Holder, Index, Key, Limited, Network, Port, PortStatus, Resource, Snapshot, Time, quota};

/// Tags that a trunk can tell apart: 0 is none, and 4095 is nobody's (IEEE 802.1Q).
pub const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// A Neutron trunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trunk {
    pub id: String,
    pub project_id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// The parent: the port of the VM or the pod.
    pub port: Key,
    /// Whether subports may be added and removed; packets do not care.
    pub admin_state_up: bool,
    pub sub_ports: Vec<SubPort>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A port of a trunk, and the tag of its frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubPort {
    pub port: Key,
    /// One of [`VLANS`].
    pub vlan: u16,
}

/// What is known of a trunk, from its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkStatus {
    /// Its parent is plugged in nowhere.
    Down,
    /// Not all subports are joined to it yet.
    Build,
    Active,
    /// Some subports cannot be joined to it.
    Degraded,
    /// None can.
    Error,
}

impl Trunk {
    /// Whose its subports are.
    pub fn as_holder(&self) -> Holder {
        Holder::Trunk(self.key())
    }

    /// The trunk whose parent is the port with this id.
    pub fn of_parent<'a>(rows: &'a Snapshot, port: &str) -> Option<Entry<'a, Self>> {
        rows.find::<Self>(Index::Owner, port).find(|trunk| &*trunk.value.port.name == port)
    }

    /// The trunk in which the port with this id takes part, in either role.
    pub fn with<'a>(rows: &'a Snapshot, port: &str) -> Option<Entry<'a, Self>> {
        rows.find::<Self>(Index::Owner, port).next()
    }

    /// What its ports say of it.
    pub fn status(&self, rows: &Snapshot) -> TrunkStatus {
        let plugged = |port: &Port| port.host.is_some() && port.status == PortStatus::Active;
        if !rows.at::<Port>(&self.port).is_some_and(|parent| plugged(parent.value)) {
            return TrunkStatus::Down;
        }
        let network_up =
            |port: &Port| rows.get::<Network>(&port.network_id).is_some_and(|network| network.value.admin_state_up);
        let ports = self.sub_ports.iter().filter_map(|sub| rows.at::<Port>(&sub.port)).map(|port| port.value);
        let wanted: Vec<PortStatus> =
            ports.filter(|port| port.admin_state_up && network_up(port)).map(|port| port.status).collect();
        let failed = wanted.iter().filter(|status| **status == PortStatus::Error).count();
        match failed {
            0 if wanted.iter().all(|status| *status == PortStatus::Active) => TrunkStatus::Active,
            0 => TrunkStatus::Build,
            all if all == wanted.len() => TrunkStatus::Error,
            _ => TrunkStatus::Degraded,
        }
    }

    /// Keys of its ports, the parent last.
    pub fn ports(&self) -> impl Iterator<Item = &Key> {
        self.sub_ports.iter().map(|sub| &sub.port).chain([&self.port])
    }
}

impl Resource for Trunk {
    kind!(Trunk: of a project);
    // Neutron limits none of them.
    const QUOTAS: &[Limited] = &[Limited::new("trunk", 100)];
    fn claims(&self) -> Vec<Claim> {
        let needs = self.ports().cloned().map(Claim::Needs);
        let part = self.ports().map(|port| Claim::Unique(format!("trunk-port/{}", port.name)));
        needs.chain(part).chain(quota::uses(&self.project_id, "trunk", 1)).collect()
    }
    fn index(&self) -> Vec<(Index, String)> {
        self.ports().map(|port| (Index::Owner, port.name.to_string())).collect()
    }
}
