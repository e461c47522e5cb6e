//! The network service.

use crate::table::Service;

/// The network service.
pub fn service() -> Service {
    Service { name: "network", prefix: "/network", versions: None, endpoints: Vec::new(), render: crate::fault::keystone }
}
