//! What is known of a VM beyond its process: counters, and what is under way. A file in the VM's directory, so that the
//! next Braid goes on where this one stopped.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::suspend::MEMORY;
use crate::{disk, user};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Reboots done.
    pub soft_reboots: u32,
    pub hard_reboots: u32,
    /// A QEMU was started and nobody has seen its end yet: one that is missing has died.
    pub started: bool,
    /// It has answered since; one that does not answer any more is not starting.
    #[serde(default)]
    pub answered: bool,
    /// The host's boot in which that was.
    pub boot: String,
    /// Its memory is in a file, from which it goes on; the file itself says so.
    #[serde(skip)]
    pub suspended: bool,
    /// It was started from that file and has not read all of it.
    #[serde(default)]
    pub loading: bool,
    /// It was last started with the disk to rescue the others with.
    #[serde(default)]
    pub rescue: bool,
    /// Its disks were made.
    #[serde(default)]
    pub made: bool,
    /// Why the VM stays stopped although it shall run.
    pub ended: Option<Ended>,
    /// The guest was asked to power off, and for what.
    pub asked: Option<Asked>,
}

/// How a VM ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub message: String,
    /// It did not even start.
    pub failed: bool,
}

/// A question that the guest may take its time to answer, or never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When for the first and for the last time, in seconds since 1970.
    pub at: u64,
    pub again: u64,
    /// For a soft reboot; else to stop.
    pub reboot: bool,
}

impl State {
    /// What is on record; a file that is not readable counts as none, since everything in it can be done without.
    pub fn load(dir: &Path) -> Self {
        let text = fs::read(dir.join("state.json")).unwrap_or_default();
        let state: Self = serde_json::from_slice(&text).unwrap_or_default();
        // What an older Braid wrote does not say it.
        let made = state.made || disk::of(dir, "root").is_ok();
        Self { suspended: dir.join(MEMORY).exists(), made, ..state }
    }

    pub fn save(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join("state.new");
        user::fresh(&new)?.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, dir.join("state.json"))
    }

    pub fn ended(&mut self, message: String) {
        self.started = false;
        self.asked = None;
        self.ended = Some(Ended { message, failed: false });
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Differs after each boot of the host.
pub fn this_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
