//! A server on the wire, in the shape of each microversion.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{Aggregate, FloatingIp, Index, Network, Port, SecurityGroup, Server, Snapshot};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha224};

use super::status::{self, State};
use crate::call::Call;
use crate::compute::wire::{bookmark, links, time, time_micro};
use crate::compute::{flavors, security_groups};

/// Which of a server's fields an answer has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// `GET /servers/{id}`
    Show,
    /// `GET /servers/detail`
    List,
    /// `PUT /servers/{id}`; since 2.75 like `Show`.
    Update,
    /// The answer to `rebuild`; since 2.75 like `Show`.
    Rebuild,
}

/// `instance-0a1b2c3d`: the name that Nova gives the VM on its host.
pub fn instance_name(id: &str) -> String {
    format!("instance-{}", id.get(..8).unwrap_or(id))
}

/// The server's id, name and links.
pub fn brief(call: &Call, server: &Server) -> Value {
    json!({"id": server.id, "name": server.name, "links": links(call, &format!("/servers/{}", server.id))})
}

/// The server with all that the version and the caller's rights show.
pub fn server(call: &Call, snapshot: &Snapshot, server: &Server, extent: Extent) -> Value {
    let state = status::state(snapshot, server);
    let host = status::host(snapshot, server);
    let full = call.version >= (2, 75) || matches!(extent, Extent::Show | Extent::List);
    let mut out = common(call, server, &state, host);
    out.insert("addresses".into(), addresses(snapshot, server, full));
    if full {
        extended(call, snapshot, server, &state, host, &mut out);
    }
    versioned(call, snapshot, server, extent, full, &mut out);
    if extent == Extent::Rebuild {
        // There it is called `user_data` alone.
        out.remove("OS-EXT-SRV-ATTR:user_data");
    }
    Value::Object(out)
}

fn common(call: &Call, server: &Server, state: &State, host: Option<&str>) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put("id", json!(server.id));
    put("name", json!(server.name));
    put("status", json!(state.status));
    put("tenant_id", json!(server.project_id));
    put("user_id", json!(server.user_id));
    put("metadata", json!(server.metadata));
    put("hostId", json!(host.map_or_else(String::new, |host| host_id(&server.project_id, host))));
    put("image", image(call, server));
    let flavor = &server.flavor;
    put("flavor", if call.version >= (2, 47) { flavors::embedded(flavor) } else { flavors::reference(call, flavor) });
    put("created", json!(time(server.created_at)));
    put("updated", json!(time(server.updated_at)));
    put("accessIPv4", json!(server.access_ipv4));
    put("accessIPv6", json!(server.access_ipv6));
    put("links", links(call, &format!("/servers/{}", server.id)));
    put("OS-DCF:diskConfig", json!(if server.auto_disk { "AUTO" } else { "MANUAL" }));
    if matches!(state.status, "ACTIVE" | "BUILD" | "REBUILD" | "RESIZE" | "VERIFY_RESIZE" | "MIGRATING") {
        put("progress", json!(0));
    }
    if let (true, Some(why)) = (state.status == "ERROR", &state.fault) {
        put("fault", json!({"code": 500, "created": time(server.updated_at), "message": why}));
    }
    out
}

fn extended(
    call: &Call,
    snapshot: &Snapshot,
    server: &Server,
    state: &State,
    host: Option<&str>,
    out: &mut Map<String, Value>,
) {
    let admin = call.who().is_ok_and(|who| who.is_admin());
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put("config_drive", json!(if server.config_drive { "True" } else { "" }));
    put("key_name", json!(server.key_name));
    put("OS-EXT-AZ:availability_zone", json!(host.map_or("", |host| Aggregate::zone_of(snapshot, host))));
    put("OS-SRV-USG:launched_at", json!(server.launched_at.map(time_micro)));
    put("OS-SRV-USG:terminated_at", Value::Null);
    put("OS-EXT-STS:task_state", json!(state.task_state));
    put("OS-EXT-STS:vm_state", json!(state.vm_state));
    put("OS-EXT-STS:power_state", json!(state.power_state));
    put("os-extended-volumes:volumes_attached", json!([]));
    let groups: Vec<Value> = security_groups::of_server(snapshot, server)
        .iter()
        .filter_map(|id| snapshot.get::<SecurityGroup>(id))
        .map(|group| json!({"name": group.name}))
        .collect();
    if !groups.is_empty() {
        put("security_groups", json!(groups));
    }
    if admin {
        put("OS-EXT-SRV-ATTR:host", json!(host));
        put("OS-EXT-SRV-ATTR:hypervisor_hostname", json!(host));
        put("OS-EXT-SRV-ATTR:instance_name", json!(instance_name(&server.id)));
        if call.version >= (2, 3) {
            put("OS-EXT-SRV-ATTR:reservation_id", json!(server.reservation_id));
            put("OS-EXT-SRV-ATTR:launch_index", json!(server.launch_index));
            put("OS-EXT-SRV-ATTR:hostname", json!(server.hostname));
            put("OS-EXT-SRV-ATTR:kernel_id", json!(""));
            put("OS-EXT-SRV-ATTR:ramdisk_id", json!(""));
            put("OS-EXT-SRV-ATTR:root_device_name", json!("/dev/vda"));
            put("OS-EXT-SRV-ATTR:user_data", json!(server.user_data));
        }
        if call.version >= (2, 16) {
            let row = host.and_then(|host| snapshot.get::<model::Host>(host));
            let status = row.map_or("", |row| match (row.enabled, row.is_up()) {
                (false, _) => "MAINTENANCE",
                (true, true) => "UP",
                (true, false) => "DOWN",
            });
            put("host_status", json!(status));
        }
    } else if call.version >= (2, 90) {
        put("OS-EXT-SRV-ATTR:hostname", json!(server.hostname));
    }
}

/// What later versions added, everywhere or in some answers.
fn versioned(
    call: &Call,
    snapshot: &Snapshot,
    server: &Server,
    extent: Extent,
    full: bool,
    out: &mut Map<String, Value>,
) {
    let mut put = |since: u16, name: &str, value: &dyn Fn() -> Value| {
        if call.version >= (2, since) {
            out.insert(name.to_owned(), value());
        }
    };
    put(9, "locked", &|| json!(server.locked));
    put(19, "description", &|| json!(server.description));
    put(26, "tags", &|| json!(server.tags));
    put(63, "trusted_image_certificates", &|| Value::Null);
    put(73, "locked_reason", &|| json!(server.locked_reason));
    put(100, "scheduler_hints", &|| json!(server.scheduler_hints));
    if full {
        put(96, "pinned_availability_zone", &|| json!(server.availability_zone));
    }
    if extent != Extent::List {
        let group = |snapshot: &Snapshot| {
            let id = server.server_group_id.as_deref();
            json!(id.filter(|id| snapshot.get::<model::ServerGroup>(id).is_some()).into_iter().collect::<Vec<_>>())
        };
        put(71, "server_groups", &|| group(snapshot));
    }
    if extent == Extent::Rebuild {
        put(54, "key_name", &|| json!(server.key_name));
        put(57, "user_data", &|| json!(server.user_data));
    }
}

fn image(call: &Call, server: &Server) -> Value {
    match &server.image_id {
        Some(id) => {
            let mut image = json!({"id": id, "links": [bookmark(call, &format!("/images/{id}"))]});
            if call.version >= (2, 98) {
                image["properties"] = json!(server.image_properties);
            }
            image
        }
        None => json!(""),
    }
}

/// Tells a project that two of its servers share a host, and nothing more.
fn host_id(project: &str, host: &str) -> String {
    Sha224::digest(format!("{project}{host}").as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ports of a server in the order of its interfaces; ports that it was not asked for come last.
pub fn ports<'a>(snapshot: &'a Snapshot, server: &Server) -> Vec<&'a Port> {
    let mut ports: Vec<&Port> = Port::of_server(snapshot, server).map(|port| port.value).collect();
    let place =
        |port: &Port| server.nics.iter().position(|nic| nic.port_id.as_ref() == Some(&port.id)).unwrap_or(usize::MAX);
    ports.sort_by_key(|port| (place(port), port.created_at, port.id.clone()));
    ports
}

/// A server's addresses by the name of their network; `extended` with type and MAC.
pub fn addresses(snapshot: &Snapshot, server: &Server, extended: bool) -> Value {
    let mut networks: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in ports(snapshot, server) {
        let Some(network) = snapshot.get::<Network>(&port.network_id) else { continue };
        let list = networks.entry(network.name.clone()).or_default();
        let show = |ip: IpAddr, kind: &str| {
            let mut out = json!({"version": if ip.is_ipv4() { 4 } else { 6 }, "addr": ip});
            if extended {
                out["OS-EXT-IPS:type"] = json!(kind);
                out["OS-EXT-IPS-MAC:mac_addr"] = json!(port.mac);
            }
            out
        };
        list.extend(port.fixed_ips.iter().map(|fixed| show(fixed.ip, "fixed")));
        let floating = snapshot.find::<FloatingIp>(Index::Owner, &port.id);
        list.extend(floating.filter(|f| f.port_id.as_ref() == Some(&port.id)).map(|f| show(f.address, "floating")));
    }
    json!(networks)
}
