//! A server on the wire, in the shape of each microversion.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{Aggregate, FloatingIp, Index, Network, Port, SecurityGroup, Server, Snapshot};
use sha2::{Digest, Sha224};

use super::status::{self, State};
use crate::call::Call;
use crate::compute::wire::{bookmark, links, time, time_micro};
use crate::compute::{flavors, security_groups};
use crate::json::Json;

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
pub fn brief<'a>(call: &Call, server: &'a Server) -> Json<'a> {
    Json::object([
        ("id", (&server.id).into()),
        ("links", links(&call.url(""), &format!("/servers/{}", server.id))),
        ("name", (&server.name).into()),
    ])
}

/// The server with all that the version and the caller's rights show. It is written as it is, not through a tree of JSON
/// values, and looks each row up once: lists of servers are what clients ask for most.
pub fn server<'a>(
    call: &'a Call,
    snapshot: &'a Snapshot,
    server: &'a Server,
    state: &State,
    extent: Extent,
) -> Json<'a> {
    let host = status::host(snapshot, server);
    let mut ports: Vec<&Port> = Port::of_server(snapshot, server).map(|port| port.value).collect();
    let groups = security_groups::of_ports(&ports, server);
    in_order(&mut ports, server);
    let full = call.version >= (2, 75) || matches!(extent, Extent::Show | Extent::List);
    let mut out = common(call, server, state, host);
    out.push(("addresses", addresses_of(snapshot, &ports, full)));
    if full {
        extended(call, snapshot, server, state, host, &mut out);
        let groups = groups.into_iter().filter_map(|id| snapshot.get::<SecurityGroup>(id));
        let groups: Vec<_> = groups.map(|group| Json::object([("name", (&group.value.name).into())])).collect();
        if !groups.is_empty() {
            out.push(("security_groups", Json::List(groups)));
        }
    }
    versioned(call, snapshot, server, extent, full, &mut out);
    if extent == Extent::Rebuild {
        // There it is called `user_data` alone.
        out.retain(|(name, _)| *name != "OS-EXT-SRV-ATTR:user_data");
    }
    Json::Object(out).sorted()
}

type Fields<'a> = Vec<(&'a str, Json<'a>)>;

fn common<'a>(call: &Call, server: &'a Server, state: &State, host: Option<&str>) -> Fields<'a> {
    let base = call.url("");
    let flavor = &server.flavor;
    let mut out = vec![
        ("id", (&server.id).into()),
        ("name", (&server.name).into()),
        ("status", state.status.into()),
        ("tenant_id", (&server.project_id).into()),
        ("user_id", (&server.user_id).into()),
        ("metadata", (&server.metadata).into()),
        ("hostId", host.map_or_else(String::new, |host| host_id(&server.project_id, host)).into()),
        ("image", image(call, &base, server)),
        ("flavor", if call.version >= (2, 47) { flavors::embedded(flavor) } else { flavors::reference(&base, flavor) }),
        ("created", time(server.created_at).into()),
        ("updated", time(server.updated_at).into()),
        ("accessIPv4", (&server.access_ipv4).into()),
        ("accessIPv6", (&server.access_ipv6).into()),
        ("links", links(&base, &format!("/servers/{}", server.id))),
        ("OS-DCF:diskConfig", if server.auto_disk { "AUTO" } else { "MANUAL" }.into()),
    ];
    if matches!(state.status, "ACTIVE" | "BUILD" | "REBUILD" | "RESIZE" | "VERIFY_RESIZE" | "MIGRATING") {
        out.push(("progress", 0u8.into()));
    }
    if let (true, Some(why)) = (state.status == "ERROR", &state.fault) {
        let created = time(server.updated_at).into();
        let fault = [("code", 500u16.into()), ("created", created), ("message", why.clone().into())];
        out.push(("fault", Json::object(fault)));
    }
    out
}

fn extended<'a>(
    call: &Call,
    snapshot: &'a Snapshot,
    server: &'a Server,
    state: &State,
    host: Option<&'a str>,
    out: &mut Fields<'a>,
) {
    let admin = call.who().is_ok_and(|who| who.is_admin());
    out.extend([
        ("config_drive", if server.config_drive { "True" } else { "" }.into()),
        ("key_name", (&server.key_name).into()),
        ("OS-EXT-AZ:availability_zone", host.map_or("", |host| Aggregate::zone_of(snapshot, host)).into()),
        ("OS-SRV-USG:launched_at", server.launched_at.map(time_micro).into()),
        ("OS-SRV-USG:terminated_at", Json::Null),
        ("OS-EXT-STS:task_state", state.task_state.into()),
        ("OS-EXT-STS:vm_state", state.vm_state.into()),
        ("OS-EXT-STS:power_state", state.power_state.into()),
        ("os-extended-volumes:volumes_attached", Json::List(Vec::new())),
    ]);
    if admin {
        out.extend([
            ("OS-EXT-SRV-ATTR:host", host.into()),
            ("OS-EXT-SRV-ATTR:hypervisor_hostname", host.into()),
            ("OS-EXT-SRV-ATTR:instance_name", instance_name(&server.id).into()),
        ]);
        if call.version >= (2, 3) {
            out.extend([
                ("OS-EXT-SRV-ATTR:reservation_id", (&server.reservation_id).into()),
                ("OS-EXT-SRV-ATTR:launch_index", server.launch_index.into()),
                ("OS-EXT-SRV-ATTR:hostname", (&server.hostname).into()),
                ("OS-EXT-SRV-ATTR:kernel_id", "".into()),
                ("OS-EXT-SRV-ATTR:ramdisk_id", "".into()),
                ("OS-EXT-SRV-ATTR:root_device_name", "/dev/vda".into()),
                ("OS-EXT-SRV-ATTR:user_data", (&server.user_data).into()),
            ]);
        }
        if call.version >= (2, 16) {
            let row = host.and_then(|host| snapshot.get::<model::Host>(host));
            let status = row.map_or("", |row| match (row.enabled, row.is_up()) {
                (false, _) => "MAINTENANCE",
                (true, true) => "UP",
                (true, false) => "DOWN",
            });
            out.push(("host_status", status.into()));
        }
    } else if call.version >= (2, 90) {
        out.push(("OS-EXT-SRV-ATTR:hostname", (&server.hostname).into()));
    }
}

/// What later versions added, everywhere or in some answers.
fn versioned<'a>(
    call: &Call,
    snapshot: &Snapshot,
    server: &'a Server,
    extent: Extent,
    full: bool,
    out: &mut Fields<'a>,
) {
    let mut put = |since: u16, name: &'static str, value: &dyn Fn() -> Json<'a>| {
        if call.version >= (2, since) {
            out.push((name, value()));
        }
    };
    put(9, "locked", &|| server.locked.into());
    put(19, "description", &|| (&server.description).into());
    put(26, "tags", &|| (&server.tags).into());
    put(63, "trusted_image_certificates", &|| Json::Null);
    put(73, "locked_reason", &|| (&server.locked_reason).into());
    put(100, "scheduler_hints", &|| {
        Json::Object(server.scheduler_hints.iter().map(|(name, hint)| (name.as_str(), hint.into())).collect())
    });
    if full {
        put(96, "pinned_availability_zone", &|| (&server.availability_zone).into());
    }
    if extent != Extent::List {
        let there = |id: &&String| snapshot.get::<model::ServerGroup>(id).is_some();
        put(71, "server_groups", &|| Json::list(server.server_group_id.iter().filter(there)));
    }
    if extent == Extent::Rebuild && !full {
        put(54, "key_name", &|| (&server.key_name).into());
    }
    if extent == Extent::Rebuild {
        put(57, "user_data", &|| (&server.user_data).into());
    }
}

fn image<'a>(call: &Call, base: &str, server: &'a Server) -> Json<'a> {
    let Some(id) = &server.image_id else { return "".into() };
    let links = Json::List(vec![bookmark(base, &format!("/images/{id}"))]);
    let properties = if call.version >= (2, 98) { (&server.image_properties).into() } else { Json::Absent };
    Json::object([("id", id.into()), ("links", links), ("properties", properties)])
}

/// Tells a project that two of its servers share a host, and nothing more.
fn host_id(project: &str, host: &str) -> String {
    let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or_default();
    let digest = Sha224::digest(format!("{project}{host}").as_bytes());
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The ports of a server in the order of its interfaces; ports that it was not asked for come last.
pub fn ports<'a>(snapshot: &'a Snapshot, server: &Server) -> Vec<&'a Port> {
    let mut ports: Vec<&Port> = Port::of_server(snapshot, server).map(|port| port.value).collect();
    in_order(&mut ports, server);
    ports
}

fn in_order(ports: &mut [&Port], server: &Server) {
    let place =
        |port: &Port| server.nics.iter().position(|nic| nic.port_id.as_ref() == Some(&port.id)).unwrap_or(usize::MAX);
    ports.sort_by(|a, b| (place(a), a.created_at, &a.id).cmp(&(place(b), b.created_at, &b.id)));
}

/// A server's addresses by the name of their network; `extended` with type and MAC.
pub fn addresses<'a>(snapshot: &'a Snapshot, server: &Server, extended: bool) -> Json<'a> {
    addresses_of(snapshot, &ports(snapshot, server), extended)
}

fn addresses_of<'a>(snapshot: &'a Snapshot, ports: &[&'a Port], extended: bool) -> Json<'a> {
    let mut networks: BTreeMap<&'a str, Vec<Json<'a>>> = BTreeMap::new();
    for port in ports {
        let Some(network) = snapshot.get::<Network>(&port.network_id) else { continue };
        let list = networks.entry(&network.value.name).or_default();
        let show = |ip: IpAddr, kind: &'static str| {
            let version = if ip.is_ipv4() { 4u8 } else { 6 };
            let mut out = vec![("addr", ip.into()), ("version", version.into())];
            if extended {
                out.extend([("OS-EXT-IPS:type", kind.into()), ("OS-EXT-IPS-MAC:mac_addr", (&port.mac).into())]);
            }
            Json::Object(out).sorted()
        };
        list.extend(port.fixed_ips.iter().map(|fixed| show(fixed.ip, "fixed")));
        let floating = snapshot.find::<FloatingIp>(Index::Owner, &port.id);
        list.extend(floating.filter(|f| f.port_id.as_ref() == Some(&port.id)).map(|f| show(f.address, "floating")));
    }
    Json::Object(networks.into_iter().map(|(name, list)| (name, Json::List(list))).collect())
}
