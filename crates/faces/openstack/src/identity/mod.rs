//! The identity service.

use crate::table::Service;

/// The identity service.
pub fn service() -> Service {
    Service { name: "identity", prefix: "/identity", versions: None, endpoints: Vec::new(), render: crate::fault::keystone }
}
