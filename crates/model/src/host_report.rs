//! What a host says of itself and of what it has. The cloud makes rows of it, and only rows that are that host's to write:
//! who has taken a host can say nothing of others. Changes of rows, planned by the agent, were refused: nobody could tell
//! which of them a host may make.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kube_event::News;
use crate::{HostStatus, PortStatus, VmStatus};

/// Something that a host says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// How it is.
    Host(Box<HostReport>),
    /// It does nothing; each part that is not well, with the reason.
    Holds(Vec<(String, String)>),
    /// Whether its ports are plugged. Those that are not named are not.
    Ports(BTreeMap<String, PortStatus>),
    Vm {
        id: String,
        status: VmStatus,
    },
    /// A pod's status, as far as it is a host's to write, and what there is to tell of it.
    Pod {
        uid: String,
        status: Value,
        news: Vec<News>,
    },
    /// Nothing is left of a pod that was to go.
    PodGone {
        uid: String,
        news: Vec<News>,
    },
    /// An image is being made.
    Saving {
        image: String,
    },
    /// The bytes of an image are there.
    Saved {
        image: String,
        bytes: ImageBytes,
    },
    /// An image cannot be made.
    NotSaved {
        image: String,
        why: String,
    },
    /// What the guest behind a port says its administrator's password is, encrypted for whoever has its key.
    Password {
        port: String,
        password: String,
    },
}

/// How a host is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// Its moments, its count and what aggregates say of it are the cloud's to write.
    pub status: HostStatus,
    /// Where it serves streams.
    pub endpoint: String,
    /// It has said something else since the last of these: this one is counted, whatever it says.
    pub counts: bool,
}

/// The bytes of an image that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBytes {
    /// They are found by this one.
    pub sha256: String,
    pub sha512: String,
    pub md5: String,
    /// Their number.
    pub size: u64,
    /// That of the disk that they are.
    pub virtual_size: u64,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// It said something new.
    pub wrote: bool,
    /// How often the host has reported now, if this was counted.
    pub reports: Option<u64>,
}

/// How the words begin by which a host says that its folder is that of another name.
pub fn of_another(host: &str) -> String {
    format!("this folder is of the host {host}, not of ")
}
