//! What Nova has and this cloud has not.

use crate::service::Absent;

pub const ABSENT: Absent = &[
    ("/v2.1/os-assisted-volume-snapshots", "Snapshots of attached volumes"),
    ("/v2.1/os-volumes", "Volumes (Cinder)"),
    ("/v2.1/os-volumes_boot", "Volumes (Cinder)"),
    ("/v2.1/os-snapshots", "Volumes (Cinder)"),
    ("/v2.1/os-baremetal-nodes", "Bare metal (Ironic)"),
];
