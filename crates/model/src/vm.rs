//! One incarnation of a server on a host. The planner writes what shall be, the agent of the host what is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Host, Image, Index, Key, Kind, Realm, Resource, Server, Snapshot, Time};

/// How far a VM is, as its host last saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmPhase {
    /// Nobody has looked yet, or the host does not answer.
    #[default]
    Unknown,
    /// Being prepared or started.
    Starting,
    Running,
    Paused,
    /// Its memory is in a file, and nothing runs.
    Suspended,
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
    /// It was to run and ended by itself: the guest powered itself off, or its QEMU died. It stays off.
    #[serde(default)]
    pub ended: bool,
    /// Reboots done, counted as in the server.
    pub soft_reboots: u32,
    pub hard_reboots: u32,
    /// It runs from the disk that it is rescued with.
    #[serde(default)]
    pub rescued: bool,
    /// Its disks were made. One that is missing from then on is lost, and never made anew.
    #[serde(default)]
    pub made: bool,
    /// It is gone but for its disks, which were kept for the next incarnation.
    #[serde(default)]
    pub kept: bool,
    /// How often in a row it could not be started, in the same words, before its server first ran; up to
    /// [`VmStatus::PATIENCE`].
    #[serde(default)]
    pub failures: u32,
    pub since: Option<Time>,
}

impl VmStatus {
    /// So many times in a row a host says no in the same words until the server is told.
    pub const PATIENCE: u32 = 5;
}

/// What an incarnation boots from, as it was when the incarnation was made: an image may be deleted while VMs made from it
/// live. Blobs are named by their SHA-256.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub blob: String,
    /// `raw` or `qcow2`.
    pub format: String,
    /// A kernel that is handed to the hypervisor, instead of the disk's own boot loader.
    pub kernel: Option<String>,
    pub initrd: Option<String>,
    pub cmdline: String,
    /// The size of the disk that the image is of, in whole GiB: what a flavor without a disk takes. Smaller ones take nothing,
    /// as before.
    #[serde(default)]
    pub size_gib: u64,
    /// What the image says of the machine that it wants, by Nova's names.
    #[serde(default)]
    pub hardware: BTreeMap<String, String>,
}

impl Source {
    /// Resolves a server's image, or that in which it was shelved; the error says what is missing. A kernel that the server's project may not see is as
    /// good as gone.
    pub fn of(snapshot: &Snapshot, server: &Server) -> Result<Self, String> {
        let id = server
            .unshelving
            .as_deref()
            .or(server.image_id.as_deref())
            .ok_or("the server has no image to boot from")?;
        let image = snapshot.get::<Image>(id).ok_or_else(|| format!("image {id} is gone"))?;
        let part = |property: &str| -> Result<Option<String>, String> {
            let Some(part) = image.properties.get(property).filter(|id| !id.is_empty()) else { return Ok(None) };
            let seen = |i: &Image| i.shared() || i.project_id == server.project_id || i.project_id == image.project_id;
            let found = snapshot.get::<Image>(part).filter(|i| seen(i.value)).and_then(|i| i.blob.clone());
            found.map(Some).ok_or_else(|| format!("{property} {part} of image {id} is gone or has no data"))
        };
        let default = || "root=/dev/vda rw console=ttyS0".to_owned();
        Ok(Self {
            blob: image.blob.clone().ok_or_else(|| format!("image {id} has no data"))?,
            format: image.disk_format.clone().unwrap_or_else(|| "raw".into()),
            kernel: part("kernel_id")?,
            initrd: part("ramdisk_id")?,
            cmdline: image.properties.get("os_command_line").cloned().unwrap_or_else(default),
            size_gib: image.virtual_size.or(image.size).unwrap_or_default() >> 30,
            hardware: {
                let said = image.properties.iter().filter(|(name, _)| crate::machine::is_hardware(name));
                said.map(|(name, value)| (name.clone(), value.clone())).collect()
            },
        })
    }
}

/// One incarnation of a server, on at most one host ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vm {
    pub server_id: String,
    pub project_id: String,
    pub incarnation: u32,
    /// Chosen by the scheduler, never changed: another host means another incarnation.
    pub host: Option<String>,
    /// Room that it takes on the host; memory with [`Vm::OVERHEAD_MIB`].
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub disk_gib: u64,
    /// `None`: its image was not there any more.
    pub source: Option<Source>,
    /// Shall go away from its host; the row is deleted when its phase is `Gone`.
    pub deleting: bool,
    /// How the scheduler decided, a line for each host that it looked at.
    pub decision: Vec<String>,
    pub status: VmStatus,
    pub created_at: Time,
}

impl Vm {
    /// MiB of memory that the VM's process needs beside its guest's, at most: its limit, and claimed as room. Measured with
    /// QEMU 10 without KVM: 95 to 190 MiB of its own for small guests, of which 128 at most is translated code, and 75 MiB
    /// of its program, which all share.
    pub const OVERHEAD_MIB: u64 = 256;

    /// The name of an incarnation's row.
    pub fn id(server: &str, incarnation: u32) -> String {
        format!("{server}.{incarnation}")
    }

    /// The server and the incarnation that a name of [`Vm::id`] is made of.
    pub fn parts(id: &str) -> Option<(&str, u32)> {
        let (server, incarnation) = id.rsplit_once('.')?;
        Some((server, incarnation.parse().ok()?))
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
    /// That a VM is gone is more: the next incarnation may come.
    fn is_report_on(&self, before: &Self) -> bool {
        let gone = |vm: &Self| vm.status.phase == VmPhase::Gone;
        gone(self) == gone(before) && *self == Self { status: self.status.clone(), ..before.clone() }
    }
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::Needs(Key::new(Kind::Server, self.realm(), self.server_id.as_str()))];
        if let Some(host) = &self.host {
            claims.push(Claim::Needs(Key::new(Kind::Host, Realm::Cloud, host.as_str())));
            claims.extend(Host::room(host, self.cpu_milli, self.memory_mib, self.disk_gib.saturating_mul(1024)));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let mut index = vec![(Index::Owner, self.server_id.clone())];
        index.extend(self.host.iter().map(|host| (Index::Host, host.clone())));
        index
    }
}
