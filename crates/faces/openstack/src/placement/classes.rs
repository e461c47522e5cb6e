//! Resource classes: the standard ones are known, those that hosts have are counted.

use model::Fault;
use serde_json::{Value, json};

use super::fault;
use crate::call::{Call, Reply};

/// The standard resource classes (os-resource-classes), in their order.
const STANDARD: &[&str] = &[
    "VCPU",
    "MEMORY_MB",
    "DISK_GB",
    "PCI_DEVICE",
    "SRIOV_NET_VF",
    "NUMA_SOCKET",
    "NUMA_CORE",
    "NUMA_THREAD",
    "NUMA_MEMORY_MB",
    "IPV4_ADDRESS",
    "VGPU",
    "VGPU_DISPLAY_HEAD",
    "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
    "PCPU",
    "MEM_ENCRYPTION_CONTEXT",
    "FPGA",
    "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
];

/// Resource classes of which hosts have inventory, with the pools that count them.
pub const CLASSES: [(&str, &str); 3] = [("VCPU", "cpu"), ("MEMORY_MB", "memory"), ("DISK_GB", "disk")];

/// Whether there is such a resource class.
pub fn is_class(name: &str) -> bool {
    STANDARD.contains(&name)
}

fn show_class(call: &Call, name: &str) -> Value {
    json!({"name": name, "links": [{"rel": "self", "href": format!("{}/resource_classes/{name}", call.entry.service.prefix)}]})
}

pub async fn classes(call: Call) -> Result<Reply, Fault> {
    let all: Vec<Value> = STANDARD.iter().map(|name| show_class(&call, name)).collect();
    Ok(Reply::ok(json!({"resource_classes": all})))
}

pub async fn class(call: Call) -> Result<Reply, Fault> {
    let name = call.param("name");
    if is_class(name) {
        Ok(Reply::ok(show_class(&call, name)))
    } else {
        Err(fault::missing(format!("No such resource class {name}.")))
    }
}
