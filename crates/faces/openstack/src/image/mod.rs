//! The image service.

use crate::table::Service;

/// The image service.
pub fn service() -> Service {
    Service { name: "image", prefix: "/image", versions: None, endpoints: Vec::new(), render: crate::fault::keystone }
}
