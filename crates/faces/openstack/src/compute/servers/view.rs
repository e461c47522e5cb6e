//! A server on the wire, in the shape of each microversion.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{Aggregate, FloatingIp, Index, Network, Port, SecurityGroup, Server, ServerGroup, Snapshot};
use sha2::{Digest, Sha224};

use super::status::{self, State};
use crate::attrs::{Answers, Attr, Filter, Shown, Tags, Test, attr};
use crate::call::Call;
use crate::compute::wire::{bookmark, links, time, time_micro};
use crate::compute::{flavors, security_groups};
use crate::json::Json;

/// `instance-0a1b2c3d`: the name that Nova gives the VM on its host.
pub fn instance_name(id: &str) -> String {
    format!("instance-{}", id.get(..8).unwrap_or(id))
}

/// A server with what is looked up once for an answer, when it is needed.
pub struct Seen<'a> {
    call: &'a Call,
    pub server: &'a Server,
    /// Addresses with their type and MAC.
    extended: bool,
    state: OnceCell<State>,
    host: OnceCell<Option<&'a str>>,
    /// In the order in which they were made.
    ports: OnceCell<Vec<&'a Port>>,
    /// The address of the service.
    base: OnceCell<String>,
}

impl<'a> Seen<'a> {
    pub fn new(call: &'a Call, server: &'a Server, answer: Answers) -> Self {
        let (state, host, ports, base) = (OnceCell::new(), OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { call, server, extended: FULL.has(answer), state, host, ports, base }
    }

    fn state(&self) -> &State {
        self.state.get_or_init(|| status::state(&self.call.snapshot, self.server))
    }

    fn host(&self) -> Option<&'a str> {
        *self.host.get_or_init(|| status::host(&self.call.snapshot, self.server))
    }

    fn zone(&self) -> Option<&'a str> {
        self.host().map(|host| Aggregate::zone_of(&self.call.snapshot, host))
    }

    fn ports(&self) -> &[&'a Port] {
        self.ports.get_or_init(|| Port::of_server(&self.call.snapshot, self.server).map(|port| port.value).collect())
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ports().iter().flat_map(|port| &port.fixed_ips).map(|fixed| fixed.ip)
    }

    fn base(&self) -> &str {
        self.base.get_or_init(|| self.call.url(""))
    }
}

/// Which answer a change is, in the version that is in force.
fn answer(call: &Call, answer: Answers) -> Answers {
    match answer {
        Answers::CHANGED if call.version >= (2, 75) => Answers::ONE,
        Answers::REBUILT if call.version >= (2, 75) => Answers::REMADE,
        other => other,
    }
}

/// The server with all that the version and the caller's rights show. It is written as it is, not through a tree of JSON
/// values, and looks each row up once: lists of servers are what clients ask for most.
pub fn server<'a>(call: &'a Call, server: &'a Server, asked: Answers) -> Json<'a> {
    let answer = answer(call, asked);
    Server::shown(call, &Seen::new(call, server, answer), answer)
}

/// In these answers a server is shown with its extensions.
const FULL: Answers = Answers::LIST.and(Answers::ONE).and(Answers::REMADE);
const DETAILED: Answers = Answers::DETAILED;
/// States of servers that make progress.
const PROGRESS: [&str; 6] = ["ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"];

/// What nothing is sorted by, though a key says so.
fn same(_: &Seen<'_>, _: &Seen<'_>) -> Ordering {
    Ordering::Equal
}

impl Shown for Server {
    type Of<'a> = Seen<'a>;
    const ONE: &'static str = "server";
    const ATTRS: &'static [Attr<Self>] = &[
        attr::<Self>("id", |_, seen| (&seen.server.id).into())
            .filtered(&[Filter::<Self>::by(&["uuid"], Test::Equal(|seen: &Seen<'_>| Some(&seen.server.id)))])
            .sorts(&["uuid", "id"], |a, b| a.server.id.cmp(&b.server.id)),
        attr::<Self>("name", |_, seen| (&seen.server.name).into())
            .filtered(&[Filter::<Self>::by(&["name"], Test::Pattern(|seen, matches| matches(&seen.server.name)))])
            .sorts(&["display_name"], |a, b| a.server.name.cmp(&b.server.name)),
        attr::<Self>("links", |_, seen| links(seen.base(), &format!("/servers/{}", seen.server.id))),
        attr::<Self>("status", |_, seen| seen.state().status.into())
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(&["status"], Test::OneOf(|seen| seen.state().status))]),
        attr::<Self>("tenant_id", |_, seen| (&seen.server.project_id).into())
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(
                &["tenant_id", "project_id"],
                Test::Equal(|seen| Some(&seen.server.project_id)),
            )])
            .sorts(&["project_id"], |a, b| a.server.project_id.cmp(&b.server.project_id)),
        attr::<Self>("user_id", |_, seen| (&seen.server.user_id).into())
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(&["user_id"], Test::Equal(|seen| Some(&seen.server.user_id)))])
            .sorts(&["user_id"], |a, b| a.server.user_id.cmp(&b.server.user_id)),
        attr::<Self>("metadata", |_, seen| (&seen.server.metadata).into()).only(DETAILED),
        attr::<Self>("hostId", |_, seen| {
            seen.host().map_or_else(String::new, |host| host_id(&seen.server.project_id, host)).into()
        })
        .only(DETAILED),
        attr::<Self>("image", |call, seen| image(call, seen.base(), seen.server))
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(&["image"], Test::Equal(|seen| seen.server.image_id.as_deref()))])
            .sorts(&["image_ref"], |a, b| a.server.image_id.cmp(&b.server.image_id)),
        attr::<Self>("flavor", |call, seen| match call.version >= (2, 47) {
            true => flavors::embedded(&seen.server.flavor),
            false => flavors::reference(seen.base(), &seen.server.flavor),
        })
        .only(DETAILED)
        .filtered(&[Filter::<Self>::by(&["flavor"], Test::Equal(|seen| Some(&seen.server.flavor.id)))])
        .sorts(&["instance_type_id"], |a, b| a.server.flavor.id.cmp(&b.server.flavor.id)),
        attr::<Self>("created", |_, seen| time(seen.server.created_at).into())
            .only(DETAILED)
            .sorts(&["created_at"], |a, b| a.server.created_at.cmp(&b.server.created_at)),
        attr::<Self>("updated", |_, seen| time(seen.server.updated_at).into())
            .only(DETAILED)
            .filtered(&[
                Filter::<Self>::by(&["changes-since"], Test::Since(|seen| seen.server.updated_at)),
                Filter::<Self>::by(&["changes-before"], Test::Before(|seen| seen.server.updated_at)).since(2, 66),
            ])
            .sorts(&["updated_at"], |a, b| a.server.updated_at.cmp(&b.server.updated_at)),
        attr::<Self>("addresses", |_, seen| {
            addresses_of(&seen.call.snapshot, in_order(seen.ports().to_vec(), seen.server), seen.extended)
        })
        .only(DETAILED)
        .filtered_by_either(&[
            Filter::<Self>::by(
                &["ip"],
                Test::Pattern(|seen, matches| seen.addresses().any(|ip| ip.is_ipv4() && matches(&ip.to_string()))),
            ),
            Filter::<Self>::by(
                &["ip6"],
                Test::Pattern(|seen, matches| seen.addresses().any(|ip| ip.is_ipv6() && matches(&ip.to_string()))),
            ),
        ]),
        attr::<Self>("accessIPv4", |_, seen| (&seen.server.access_ipv4).into())
            .only(DETAILED)
            .sorts(&["access_ip_v4"], |a, b| a.server.access_ipv4.cmp(&b.server.access_ipv4)),
        attr::<Self>("accessIPv6", |_, seen| (&seen.server.access_ipv6).into())
            .only(DETAILED)
            .sorts(&["access_ip_v6"], |a, b| a.server.access_ipv6.cmp(&b.server.access_ipv6)),
        attr::<Self>("OS-DCF:diskConfig", |_, seen| if seen.server.auto_disk { "AUTO" } else { "MANUAL" }.into())
            .only(DETAILED)
            .sorts(&["auto_disk_config"], same),
        attr::<Self>("progress", |_, seen| match PROGRESS.contains(&seen.state().status) {
            true => 0u8.into(),
            false => Json::Absent,
        })
        .only(DETAILED)
        .sorts(&["progress"], same),
        attr::<Self>("fault", |_, seen| fault(seen)).only(DETAILED),
        attr::<Self>("config_drive", |_, seen| if seen.server.config_drive { "True" } else { "" }.into())
            .only(FULL)
            .filtered(&[Filter::<Self>::by(&["config_drive"], Test::Truth(|seen| seen.server.config_drive))])
            .sorts(&["config_drive"], |a, b| a.server.config_drive.cmp(&b.server.config_drive)),
        attr::<Self>("key_name", |_, seen| (&seen.server.key_name).into())
            .only(FULL)
            .filtered(&[Filter::<Self>::by(&["key_name"], Test::Equal(|seen| seen.server.key_name.as_deref()))])
            .sorts(&["key_name"], |a, b| a.server.key_name.cmp(&b.server.key_name)),
        attr::<Self>("key_name", |_, seen| (&seen.server.key_name).into()).since(2, 54).only(Answers::REBUILT),
        attr::<Self>("OS-EXT-AZ:availability_zone", |_, seen| seen.zone().unwrap_or("").into())
            .only(FULL)
            .filtered(&[Filter::<Self>::by(&["availability_zone"], Test::Equal(|seen| seen.zone()))]),
        attr::<Self>("OS-SRV-USG:launched_at", |_, seen| seen.server.launched_at.map(time_micro).into())
            .only(FULL)
            .sorts(&["launched_at"], |a, b| a.server.launched_at.cmp(&b.server.launched_at)),
        attr::<Self>("OS-SRV-USG:terminated_at", |_, _| Json::Null).only(FULL).sorts(&["terminated_at"], same),
        attr::<Self>("OS-EXT-STS:task_state", |_, seen| seen.state().task_state.into())
            .only(FULL)
            .filtered(&[Filter::<Self>::by(&["task_state"], Test::Equal(|seen| seen.state().task_state.or(Some(""))))])
            .sorts(&["task_state"], |a, b| a.state().task_state.cmp(&b.state().task_state)),
        attr::<Self>("OS-EXT-STS:vm_state", |_, seen| seen.state().vm_state.into())
            .only(FULL)
            .filtered(&[Filter::<Self>::by(&["vm_state"], Test::Equal(|seen| Some(seen.state().vm_state)))])
            .sorts(&["vm_state"], |a, b| a.state().vm_state.cmp(b.state().vm_state)),
        attr::<Self>("OS-EXT-STS:power_state", |_, seen| seen.state().power_state.into())
            .only(FULL)
            .filtered(&[Filter::<Self>::by(&["power_state"], Test::Number(|seen| seen.state().power_state.into()))])
            .sorts(&["power_state"], |a, b| a.state().power_state.cmp(&b.state().power_state)),
        attr::<Self>("os-extended-volumes:volumes_attached", |_, _| Json::List(Vec::new())).only(FULL),
        attr::<Self>("OS-EXT-SRV-ATTR:host", |_, seen| seen.host().into())
            .only(FULL)
            .admin()
            .filtered(&[Filter::<Self>::by(&["host"], Test::Equal(|seen| seen.host())).admin()])
            .sorts(&["host"], same),
        attr::<Self>("OS-EXT-SRV-ATTR:hypervisor_hostname", |_, seen| seen.host().into())
            .only(FULL)
            .admin()
            .filtered(&[Filter::<Self>::by(&["node"], Test::Equal(|seen| seen.host())).admin()])
            .sorts(&["node"], same),
        attr::<Self>("OS-EXT-SRV-ATTR:instance_name", |_, seen| instance_name(&seen.server.id).into())
            .only(FULL)
            .admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:reservation_id", |_, seen| (&seen.server.reservation_id).into())
            .since(2, 3)
            .only(FULL)
            .admin()
            .filtered(&[Filter::<Self>::by(
                &["reservation_id"],
                Test::Equal(|seen| Some(&seen.server.reservation_id)),
            )]),
        attr::<Self>("OS-EXT-SRV-ATTR:launch_index", |_, seen| seen.server.launch_index.into())
            .since(2, 3)
            .only(FULL)
            .admin()
            .filtered(&[
                Filter::<Self>::by(&["launch_index"], Test::Number(|seen| seen.server.launch_index.into())).admin()
            ])
            .sorts(&["launch_index"], |a, b| a.server.launch_index.cmp(&b.server.launch_index)),
        attr::<Self>("OS-EXT-SRV-ATTR:hostname", |_, seen| (&seen.server.hostname).into())
            .since(2, 3)
            .until(2, 89)
            .only(FULL)
            .admin(),
        attr::<Self>("OS-EXT-SRV-ATTR:hostname", |_, seen| (&seen.server.hostname).into())
            .since(2, 90)
            .only(FULL)
            .filtered(&[Filter::<Self>::by(&["hostname"], Test::Equal(|seen| Some(&seen.server.hostname)))])
            .sorts(&["hostname"], |a, b| a.server.hostname.cmp(&b.server.hostname)),
        attr::<Self>("OS-EXT-SRV-ATTR:kernel_id", |_, _| "".into())
            .since(2, 3)
            .only(FULL)
            .admin()
            .sorts(&["kernel_id"], same),
        attr::<Self>("OS-EXT-SRV-ATTR:ramdisk_id", |_, _| "".into())
            .since(2, 3)
            .only(FULL)
            .admin()
            .sorts(&["ramdisk_id"], same),
        attr::<Self>("OS-EXT-SRV-ATTR:root_device_name", |_, _| "/dev/vda".into())
            .since(2, 3)
            .only(FULL)
            .admin()
            .sorts(&["root_device_name"], same),
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
        attr::<Self>("locked", |_, seen| seen.server.locked.into())
            .since(2, 9)
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(&["locked"], Test::Truth(|seen| seen.server.locked))])
            .sorts(&["locked", "locked_by"], |a, b| a.server.locked.cmp(&b.server.locked)),
        attr::<Self>("description", |_, seen| (&seen.server.description).into())
            .since(2, 19)
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(
                &["description"],
                Test::Part(|seen| seen.server.description.as_deref().unwrap_or("")),
            )])
            .sorts(&["display_description"], |a, b| a.server.description.cmp(&b.server.description)),
        attr::<Self>("tags", |_, seen| (&seen.server.tags).into()).since(2, 26).only(DETAILED).filtered(&[
            Filter::<Self>::by(&["tags"], Test::Tags(Tags::All, |seen| &seen.server.tags)).since(2, 26),
            Filter::<Self>::by(&["tags-any"], Test::Tags(Tags::Any, |seen| &seen.server.tags)).since(2, 26),
            Filter::<Self>::by(&["not-tags"], Test::Tags(Tags::NotAll, |seen| &seen.server.tags)).since(2, 26),
            Filter::<Self>::by(&["not-tags-any"], Test::Tags(Tags::NotAny, |seen| &seen.server.tags)).since(2, 26),
        ]),
        attr::<Self>("trusted_image_certificates", |_, _| Json::Null).since(2, 63).only(DETAILED),
        attr::<Self>("server_groups", |call, seen| {
            let there = |id: &&String| call.snapshot.get::<ServerGroup>(id).is_some();
            Json::list(seen.server.server_group_id.iter().filter(there))
        })
        .since(2, 71)
        .only(DETAILED.but(Answers::LIST)),
        attr::<Self>("locked_reason", |_, seen| (&seen.server.locked_reason).into()).since(2, 73).only(DETAILED),
        attr::<Self>("pinned_availability_zone", |_, seen| (&seen.server.availability_zone).into())
            .since(2, 96)
            .only(FULL)
            .sorts(&["availability_zone"], |a, b| a.server.availability_zone.cmp(&b.server.availability_zone)),
        attr::<Self>("scheduler_hints", |_, seen| {
            Json::Object(seen.server.scheduler_hints.iter().map(|(name, hint)| (name.as_str(), hint.into())).collect())
        })
        .since(2, 100)
        .only(DETAILED),
        // Of servers that are gone no row is left, so nothing deleted is ever found.
        attr::<Self>("deleted", |_, _| false.into())
            .only(Answers::NONE)
            .filtered(&[Filter::<Self>::by(&["deleted", "soft_deleted"], Test::Flag(|_| false))])
            .sorts(&["deleted"], same),
    ];
}

/// Why a server is in error, in words.
fn fault<'a>(seen: &Seen<'a>) -> Json<'a> {
    match (seen.state().status, &seen.state().fault) {
        ("ERROR", Some(why)) => {
            let created = time(seen.server.updated_at).into();
            Json::object([("code", 500u16.into()), ("created", created), ("message", why.clone().into())])
        }
        _ => Json::Absent,
    }
}

/// By their names; without any nothing is said.
fn groups<'a>(seen: &Seen<'a>) -> Json<'a> {
    let groups = security_groups::of_ports(seen.ports(), seen.server);
    let groups = groups.into_iter().filter_map(|id| seen.call.snapshot.get::<SecurityGroup>(id));
    let groups: Vec<_> = groups.map(|group| Json::object([("name", (&group.value.name).into())])).collect();
    if groups.is_empty() { Json::Absent } else { Json::List(groups) }
}

fn host_status(seen: &Seen<'_>) -> &'static str {
    let row = seen.host().and_then(|host| seen.call.snapshot.get::<model::Host>(host));
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
    in_order(Port::of_server(snapshot, server).map(|port| port.value).collect(), server)
}

fn in_order<'a>(mut ports: Vec<&'a Port>, server: &Server) -> Vec<&'a Port> {
    let place =
        |port: &Port| server.nics.iter().position(|nic| nic.port_id.as_ref() == Some(&port.id)).unwrap_or(usize::MAX);
    ports.sort_by(|a, b| (place(a), a.created_at, &a.id).cmp(&(place(b), b.created_at, &b.id)));
    ports
}

/// A server's addresses by the name of their network; `extended` with type and MAC.
pub fn addresses<'a>(snapshot: &'a Snapshot, server: &Server, extended: bool) -> Json<'a> {
    addresses_of(snapshot, ports(snapshot, server), extended)
}

fn addresses_of<'a>(snapshot: &'a Snapshot, ports: Vec<&'a Port>, extended: bool) -> Json<'a> {
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
