//! `GET /servers/{id}/diagnostics`: what a server's host counts of it. Until 2.47 in the words of Nova's libvirt driver, since
//! 2.48 in those that all of its drivers share. What no one counts here is null there, and absent before.

use model::Fault;
use model::{Host, Server, Snapshot, Vm, VmPhase, VmUsage};
use serde_json::{Map, Value, json};

use super::{find, status, view};
use crate::call::{Call, Reply};

/// The longest answer of a host that is read: some hundred processors and disks.
const MOST: usize = 64 << 10;

/// `GET /servers/{id}/diagnostics`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = find(&view, call.param("id"))?.value;
    let not_ready = || Fault::Conflict(format!("Instance {} is not ready", server.id));
    let vm = status::current(&call.snapshot, server).ok_or_else(not_ready)?;
    let host = vm.host.as_deref().and_then(|name| call.snapshot.get::<Host>(name)).ok_or_else(not_ready)?.value;
    let idle = |state: &str| {
        let id = &server.id;
        Fault::Conflict(format!("Cannot 'get_diagnostics' instance {id} while it is in power state {state}"))
    };
    match vm.status.phase {
        VmPhase::Running => {}
        VmPhase::Paused => return Err(idle("paused")),
        VmPhase::Stopped | VmPhase::Suspended => return Err(idle("shutdown")),
        _ => return Err(idle("pending")),
    }
    let usage = usage(&call, host, vm).await?.ok_or_else(|| idle("shutdown"))?;
    let shown =
        if call.version >= (2, 48) { shared(&call.snapshot, server, host, &usage) } else { old(server, vm, &usage) };
    Ok(Reply::ok(shown))
}

/// What the host says; `None` if the VM does not run any more.
async fn usage(call: &Call, host: &Host, vm: &Vm) -> Result<Option<VmUsage>, Fault> {
    let path = format!("/usage/{}", Vm::id(&vm.server_id, vm.incarnation));
    let (code, bytes) = call.cloud.streams.get(&host.endpoint, &path, MOST).await?;
    let broken = |what: &str| Fault::Unavailable(format!("host {} answered {what} for diagnostics", host.name));
    match code {
        200 => serde_json::from_slice(&bytes).map(Some).map_err(|_| broken("nonsense")),
        404 => Ok(None),
        _ => Err(broken(&code.to_string())),
    }
}

fn shared(snapshot: &Snapshot, server: &Server, host: &Host, usage: &VmUsage) -> Value {
    let ports = view::ports(snapshot, server);
    let nic = |port: &&model::Port| {
        let counters = ["octets", "packets", "errors", "drop", "rate"];
        let names = counters.iter().flat_map(|name| [format!("rx_{name}"), format!("tx_{name}")]);
        let mut nic: Map<String, Value> = names.map(|name| (name, Value::Null)).collect();
        nic.insert("mac_address".into(), json!(port.mac));
        Value::Object(nic)
    };
    let cpu = |(id, time): (usize, &u64)| json!({"id": id, "time": time, "utilisation": null});
    let disk = |disk: &model::DiskUsage| {
        json!({"read_bytes": disk.read_bytes, "read_requests": disk.read_requests, "write_bytes": disk.write_bytes,
            "write_requests": disk.write_requests, "errors_count": disk.errors})
    };
    json!({
        "state": "running",
        // Nova's name for the driver whose guests are QEMU's; clients' schemas know no other.
        "driver": "libvirt",
        "hypervisor": if host.status.accel == "kvm" { "kvm" } else { "qemu" },
        "hypervisor_os": "linux",
        "uptime": usage.seconds,
        "config_drive": server.config_drive,
        "num_cpus": server.flavor.vcpus,
        "num_nics": ports.len(),
        "num_disks": usage.disks.len(),
        "cpu_details": usage.cpu_nanoseconds.iter().enumerate().map(cpu).collect::<Vec<_>>(),
        "disk_details": usage.disks.iter().map(disk).collect::<Vec<_>>(),
        "nic_details": ports.iter().map(nic).collect::<Vec<_>>(),
        "memory_details": {"maximum": server.flavor.ram, "used": usage.resident_kib.map(|kib| kib / 1024)},
    })
}

fn old(server: &Server, vm: &Vm, usage: &VmUsage) -> Value {
    let mut out = Map::new();
    for (id, time) in usage.cpu_nanoseconds.iter().enumerate() {
        out.insert(format!("cpu{id}_time"), json!(time));
    }
    // Guests name their disks by what these are attached to.
    let bus = vm.source.as_ref().and_then(|source| source.hardware.get("hw_disk_bus")).map_or("virtio", String::as_str);
    let prefix = match bus {
        "virtio" => "vd",
        "ide" => "hd",
        _ => "sd",
    };
    for (letter, disk) in ('a'..='z').zip(&usage.disks) {
        let mut put = |name: &str, value: u64| out.insert(format!("{prefix}{letter}_{name}"), json!(value));
        put("read", disk.read_bytes);
        put("read_req", disk.read_requests);
        put("write", disk.write_bytes);
        put("write_req", disk.write_requests);
        put("errors", disk.errors);
    }
    out.insert("memory".into(), json!(server.flavor.ram * 1024));
    out.insert("memory-actual".into(), json!(server.flavor.ram * 1024));
    out.extend(usage.resident_kib.map(|kib| ("memory-rss".to_owned(), json!(kib))));
    Value::Object(out)
}
