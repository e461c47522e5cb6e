//! One incarnation of a server on a host. The planner writes what shall be, the agent of the host what is.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Host, Index, Key, Kind, Realm, Resource, Time};

/// How far a VM is, as its host last saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmPhase {
    /// Nobody has looked yet, or the host does not answer.
    #[default]
    Unknown,
    /// Being prepared or started.
    Starting,
    Running,
    Paused,
    Stopped,
    /// It cannot run; the message says why.
    Failed,
    /// Nothing of it is left on the host.
    Gone,
}

/// What the agent says of a VM; its sole writer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VmStatus {
    pub phase: VmPhase,
    /// What it waits for or why it failed, in words.
    pub message: String,
    /// Reboots done, counted as in the server.
    pub soft_reboots: u32,
    pub hard_reboots: u32,
    pub since: Option<Time>,
}

/// One incarnation of a server, on at most one host ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vm {
    pub server_id: String,
    pub project_id: String,
    pub incarnation: u32,
    /// Chosen by the scheduler, never changed: another host means another incarnation.
    pub host: Option<String>,
    /// Room that it takes on the host.
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub disk_gib: u64,
    /// Shall go away from its host; the row is deleted when its phase is `Gone`.
    pub deleting: bool,
    /// How the scheduler decided, a line for each host that it looked at.
    pub decision: Vec<String>,
    pub status: VmStatus,
    pub created_at: Time,
}

impl Vm {
    /// The name of an incarnation's row.
    pub fn id(server: &str, incarnation: u32) -> String {
        format!("{server}.{incarnation}")
    }
}

impl Resource for Vm {
    kind!(Vm);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        Self::id(&self.server_id, self.incarnation)
    }
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::Needs(Key::new(Kind::Server, self.realm(), self.server_id.as_str()))];
        if let Some(host) = &self.host {
            claims.push(Claim::Needs(Key::new(Kind::Host, Realm::Cloud, host.as_str())));
            claims.extend(Host::room(host, self.cpu_milli, self.memory_mib, self.disk_gib));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let mut index = vec![(Index::Owner, self.server_id.clone())];
        index.extend(self.host.iter().map(|host| (Index::Host, host.clone())));
        index
    }
}
