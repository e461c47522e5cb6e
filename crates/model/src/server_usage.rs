//! What a server took that is no more, or has another size by now: what a usage report counts beside the servers that there
//! are. Nova never forgets a server; here one is a row in the memory of every process, so what is counted of it is kept
//! apart, small, in a row for each size that it had, written in the commit that ended it. The planner drops the oldest
//! ([`ServerUsage::KEEP`], [`ServerUsage::MOST`]).
//!
//! Refused: one row for a project that all of this is added to (a report may begin and end at any moment, and each deletion
//! would write a row that grows), and rows of the project's realm (they would go with the project, which is when its usage
//! is asked for).

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Index, Realm, Resource, Server, Snapshot, Time};

/// One server in one size, from its first start in it to the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerUsage {
    pub server_id: String,
    pub project_id: String,
    pub name: String,
    /// The flavor's name.
    pub flavor: String,
    pub vcpus: u64,
    /// MiB
    pub ram: u64,
    /// GiB, of the root disk and the ephemeral one.
    pub disk: u64,
    pub started: Time,
    pub ended: Time,
    /// The server ended, not only its size.
    pub terminated: bool,
}

impl ServerUsage {
    /// How long one is kept after its end.
    pub const KEEP: SignedDuration = SignedDuration::from_hours(400 * 24);
    /// How many of one project are kept.
    pub const MOST: usize = 10_000;

    /// What a server took in its present size until `ended`; `None` if it never ran.
    pub fn of(server: &Server, ended: Time, terminated: bool) -> Option<Self> {
        let started = server.counted_since()?;
        Some(Self {
            server_id: server.id.clone(),
            project_id: server.project_id.clone(),
            name: server.name.clone(),
            flavor: server.flavor.name.clone(),
            vcpus: server.flavor.vcpus,
            ram: server.flavor.ram,
            disk: server.flavor.disk.saturating_add(server.flavor.ephemeral),
            started,
            ended: ended.max(started),
            terminated,
        })
    }

    /// All that ended at a moment or after it, the oldest first.
    pub fn since(snapshot: &Snapshot, moment: Time) -> impl Iterator<Item = &Self> {
        let before = stamp(moment);
        snapshot.names::<Self>(&Realm::Cloud, "", Some(&before)).map(|usage| usage.value)
    }

    /// All of a project, the oldest first.
    pub fn of_project<'a>(snapshot: &'a Snapshot, project: &str) -> impl Iterator<Item = &'a Self> + use<'a> {
        snapshot.find::<Self>(Index::Owner, project).map(|usage| usage.value)
    }
}

/// A moment as a text that sorts as moments do.
fn stamp(moment: Time) -> String {
    format!("{:018}", moment.as_microsecond().max(0))
}

impl Resource for ServerUsage {
    kind!(ServerUsage);
    fn realm(&self) -> Realm {
        Realm::Cloud
    }
    /// The oldest come first, of the cloud and of each project.
    fn name(&self) -> String {
        format!("{}/{}", stamp(self.ended), self.server_id)
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.project_id.clone())]
    }
}
