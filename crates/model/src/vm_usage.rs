//! What a VM has used since its process was started: read on its host when somebody asks for a server's diagnostics, and
//! kept in no row.

use serde::{Deserialize, Serialize};

/// What a running VM has used since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmUsage {
    /// Seconds since its process was started.
    pub seconds: u64,
    /// For each virtual processor that runs, in order, nanoseconds in which it did; empty where nobody counts them.
    pub cpu_nanoseconds: Vec<u64>,
    /// Memory of the host that its process holds, in KiB.
    pub resident_kib: Option<u64>,
    /// In the order in which the guest has them.
    pub disks: Vec<DiskUsage>,
}

/// What was read from a disk and written to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    pub read_bytes: u64,
    pub read_requests: u64,
    pub write_bytes: u64,
    pub write_requests: u64,
    /// Requests that failed.
    pub errors: u64,
}
