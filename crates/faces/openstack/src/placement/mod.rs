//! The placement service.

use crate::table::Service;

/// The placement service.
pub fn service() -> Service {
    Service { name: "placement", prefix: "/placement", versions: None, endpoints: Vec::new(), render: crate::fault::keystone }
}
