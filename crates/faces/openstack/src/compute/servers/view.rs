//! A server on the wire, in the shape of each microversion.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{Aggregate, FloatingIp, Index, Network, Port, SecurityGroup, Server, ServerGroup, Snapshot};
use sha2::{Digest, Sha224};

use super::status::{self, State};
use crate::attrs::{Answers, Attr, Shown, attr};
use crate::call::Call;
use crate::compute::wire::{bookmark, links, time, time_micro};
use crate::compute::{flavors, security_groups};
use crate::json::Json;

/// `instance-0a1b2c3d`: the name that Nova gives the VM on its host.
pub fn instance_name(id: &str) -> String {
    format!("instance-{}", id.get(..8).unwrap_or(id))
}

/// A server with what is looked up once for an answer.
pub struct Seen<'a> {
    snapshot: &'a Snapshot,
    server: &'a Server,
    state: State,
    host: Option<&'a str>,
    ports: Vec<&'a Port>,
    /// Ids of its security groups, in the order in which its ports were made.
    groups: Vec<&'a str>,
    /// The address of the service.
    base: String,
    /// Addresses with their type and MAC.
    extended: bool,
}

/// Which answer a change is, in the version that is in force.
fn answer(call: &Call, answer: Answers) -> Answers {
    match answer {
        Answers::CHANGED if call.version >= (2, 75) => Answers::ONE,
        Answers::REBUILT if call.version >= (2, 75) => Answers::REMADE,
        other => other,
    }
}

/// The server's id, name and links.
pub fn brief<'a>(call: &'a Call, server: &'a Server, state: &State) -> Json<'a> {
    let (snapshot, state, base) = (&call.snapshot, state.clone(), call.url(""));
    let seen =
        Seen { snapshot, server, state, host: None, ports: Vec::new(), groups: Vec::new(), base, extended: false };
    Server::shown(call, &seen, Answers::BRIEF)
}

/// The server with all that the version and the caller's rights show. It is written as it is, not through a tree of JSON
/// values, and looks each row up once: lists of servers are what clients ask for most.
pub fn server<'a>(
    call: &'a Call,
    snapshot: &'a Snapshot,
    server: &'a Server,
    state: &State,
    asked: Answers,
) -> Json<'a> {
    let answer = answer(call, asked);
    let mut ports: Vec<&Port> = Port::of_server(snapshot, server).map(|port| port.value).collect();
    let host = status::host(snapshot, server);
    let (state, base, extended) = (state.clone(), call.url(""), FULL.has(answer));
    let groups = if extended { security_groups::of_ports(&ports, server) } else { Vec::new() };
    in_order(&mut ports, server);
    let seen = Seen { snapshot, server, state, host, ports, groups, base, extended };
    Server::shown(call, &seen, answer)
}

/// In these answers a server is shown with its extensions.
const FULL: Answers = Answers::LIST.and(Answers::ONE).and(Answers::REMADE);
const DETAILED: Answers = Answers::DETAILED;
/// States of servers that make progress.
const PROGRESS: [&str; 6] = ["ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"];

impl Shown for Server {
    type Of<'a> = Seen<'a>;
    const ONE: &'static str = "server";
    const ATTRS: &'static [Attr<Self>] = &[
        attr::<Self>("id", |_, seen| (&seen.server.id).into()),
        attr::<Self>("name", |_, seen| (&seen.server.name).into()),
        attr::<Self>("links", |_, seen| links(&seen.base, &format!("/servers/{}", seen.server.id))),
        attr::<Self>("status", |_, seen| seen.state.status.into()).only(DETAILED),
        attr::<Self>("tenant_id", |_, seen| (&seen.server.project_id).into()).only(DETAILED),
        attr::<Self>("user_id", |_, seen| (&seen.server.user_id).into()).only(DETAILED),
        attr::<Self>("metadata", |_, seen| (&seen.server.metadata).into()).only(DETAILED),
        attr::<Self>("hostId", |_, seen| {
            seen.host.map_or_else(String::new, |host| host_id(&seen.server.project_id, host)).into()
        })
        .only(DETAILED),
        attr::<Self>("image", |call, seen| image(call, &seen.base, seen.server)).only(DETAILED),
        attr::<Self>("flavor", |call, seen| match call.version >= (2, 47) {
            true => flavors::embedded(&seen.server.flavor),
            false => flavors::reference(&seen.base, &seen.server.flavor),
        })
        .only(DETAILED),
        attr::<Self>("created", |_, seen| time(seen.server.created_at).into()).only(DETAILED),
        attr::<Self>("updated", |_, seen| time(seen.server.updated_at).into()).only(DETAILED),
        attr::<Self>("addresses", |_, seen| addresses_of(seen.snapshot, &seen.ports, seen.extended)).only(DETAILED),
        attr::<Self>("accessIPv4", |_, seen| (&seen.server.access_ipv4).into()).only(DETAILED),
        attr::<Self>("accessIPv6", |_, seen| (&seen.server.access_ipv6).into()).only(DETAILED),
        attr::<Self>("OS-DCF:diskConfig", |_, seen| if seen.server.auto_disk { "AUTO" } else { "MANUAL" }.into())
            .only(DETAILED),
        attr::<Self>("progress", |_, seen| match PROGRESS.contains(&seen.state.status) {
            true => 0u8.into(),
            false => Json::Absent,
        })
        .only(DETAILED),
        attr::<Self>("fault", |_, seen| fault(seen)).only(DETAILED),
        attr::<Self>("config_drive", |_, seen| if seen.server.config_drive { "True" } else { "" }.into()).only(FULL),
        attr::<Self>("key_name", |_, seen| (&seen.server.key_name).into()).only(FULL),
        attr::<Self>("key_name", |_, seen| (&seen.server.key_name).into()).since(2, 54).only(Answers::REBUILT),
        attr::<Self>("OS-EXT-AZ:availability_zone", |_, seen| {
            seen.host.map_or("", |host| Aggregate::zone_of(seen.snapshot, host)).into()
        })
        .only(FULL),
        attr::<Self>("OS-SRV-USG:launched_at", |_, seen| seen.server.launched_at.map(time_micro).into()).only(FULL),
        attr::<Self>("OS-SRV-USG:terminated_at", |_, _| Json::Null).only(FULL),
        attr::<Self>("OS-EXT-STS:task_state", |_, seen| seen.state.task_state.into()).only(FULL),
        attr::<Self>("OS-EXT-STS:vm_state", |_, seen| seen.state.vm_state.into()).only(FULL),
        attr::<Self>("OS-EXT-STS:power_state", |_, seen| seen.state.power_state.into()).only(FULL),
        attr::<Self>("os-extended-volumes:volumes_attached", |_, _| Json::List(Vec::new())).only(FULL),
        attr::<Self>("OS-EXT-SRV-ATTR:host", |_, seen| seen.host.into()).only(FULL).admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:hypervisor_hostname", |_, seen| seen.host.into()).only(FULL).admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:instance_name", |_, seen| instance_name(&seen.server.id).into())
            .only(FULL)
            .admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:reservation_id", |_, seen| (&seen.server.reservation_id).into())
            .since(2, 3)
            .only(FULL)
            .admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:launch_index", |_, seen| seen.server.launch_index.into())
            .since(2, 3)
            .only(FULL)
            .admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:hostname", |_, seen| (&seen.server.hostname).into())
            .since(2, 3)
            .until(2, 89)
            .only(FULL)
            .admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:hostname", |_, seen| (&seen.server.hostname).into()).since(2, 90).only(FULL),
        attr::<Self>("OS-EXT-SRV-ATTR:kernel_id", |_, _| "".into()).since(2, 3).only(FULL).admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:ramdisk_id", |_, _| "".into()).since(2, 3).only(FULL).admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:root_device_name", |_, _| "/dev/vda".into()).since(2, 3).only(FULL).admin(),
        // After a rebuild it is called `user_data` alone.
        attr::<Self>("OS-EXT-SRV-ATTR:user_data", |_, seen| (&seen.server.user_data).into())
            .since(2, 3)
            .only(FULL.but(Answers::REMADE))
            .admin(),
        attr::<Self>("user_data", |_, seen| (&seen.server.user_data).into())
            .since(2, 57)
            .only(Answers::REBUILT.and(Answers::REMADE)),
        attr::<Self>("host_status", |_, seen| host_status(seen).into()).since(2, 16).only(FULL).admin(),
        attr::<Self>("security_groups", |_, seen| groups(seen)).only(FULL),
        attr::<Self>("locked", |_, seen| seen.server.locked.into()).since(2, 9).only(DETAILED),
        attr::<Self>("description", |_, seen| (&seen.server.description).into()).since(2, 19).only(DETAILED),
        attr::<Self>("tags", |_, seen| (&seen.server.tags).into()).since(2, 26).only(DETAILED),
        attr::<Self>("trusted_image_certificates", |_, _| Json::Null).since(2, 63).only(DETAILED),
        attr::<Self>("server_groups", |_, seen| {
            let there = |id: &&String| seen.snapshot.get::<ServerGroup>(id).is_some();
            Json::list(seen.server.server_group_id.iter().filter(there))
        })
        .since(2, 71)
        .only(DETAILED.but(Answers::LIST)),
        attr::<Self>("locked_reason", |_, seen| (&seen.server.locked_reason).into()).since(2, 73).only(DETAILED),
        attr::<Self>("pinned_availability_zone", |_, seen| (&seen.server.availability_zone).into())
            .since(2, 96)
            .only(FULL),
        attr::<Self>("scheduler_hints", |_, seen| {
            Json::Object(seen.server.scheduler_hints.iter().map(|(name, hint)| (name.as_str(), hint.into())).collect())
        })
        .since(2, 100)
        .only(DETAILED),
    ];
}

/// Why a server is in error, in words.
fn fault<'a>(seen: &Seen<'a>) -> Json<'a> {
    match (seen.state.status, &seen.state.fault) {
        ("ERROR", Some(why)) => {
            let created = time(seen.server.updated_at).into();
            Json::object([("code", 500u16.into()), ("created", created), ("message", why.clone().into())])
        }
        _ => Json::Absent,
    }
}

/// By their names; without any nothing is said.
fn groups<'a>(seen: &Seen<'a>) -> Json<'a> {
    let groups = seen.groups.iter().filter_map(|id| seen.snapshot.get::<SecurityGroup>(id));
    let groups: Vec<_> = groups.map(|group| Json::object([("name", (&group.value.name).into())])).collect();
    if groups.is_empty() { Json::Absent } else { Json::List(groups) }
}

fn host_status(seen: &Seen<'_>) -> &'static str {
    let row = seen.host.and_then(|host| seen.snapshot.get::<model::Host>(host));
    row.map_or("", |row| match (row.enabled, row.is_up()) {
        (false, _) => "MAINTENANCE",
        (true, true) => "UP",
        (true, false) => "DOWN",
    })
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
