//! The compute service.

use crate::table::Service;

/// The compute service.
pub fn service() -> Service {
    Service { name: "compute", prefix: "/compute", versions: None, endpoints: Vec::new(), render: crate::fault::keystone }
}
