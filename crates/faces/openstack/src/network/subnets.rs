//! `/subnets`

use std::net::IpAddr;

use gate::{Ref, View};
use model::{Index, Kind, Network, Port, Resource, Subnet, SubnetPool};
use serde_json::Value;

use super::attrs::{Attr, Is, NAME, field, ruled, said, shown, standard};
use super::body::Attributes;
use super::cidr::{Cidr, number, version};
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, referred};
use super::{address_scopes, addresses, networks, ports, subnetpools, uses};
use crate::json::Json;

/// Neutron's limits.
const MAX_NAMESERVERS: usize = 5;
const MAX_HOST_ROUTES: usize = 20;

const MODES: &[&str] = &["dhcpv6-stateful", "dhcpv6-stateless", "slaac"];

impl NeutronResource for Subnet {
    const ONE: &'static str = "subnet";
    const MANY: &'static str = "subnets";
    const OF_NETWORK: bool = true;
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME),
        field!(tags: Is::Tags).once(),
        ruled::<Self>("network_id", Is::Uuid(&[Kind::Network]), |_, subnet| (&subnet.network_id).into())
            .once()
            .required(),
        ruled::<Self>("ip_version", Is::Int(4, 6), |_, subnet| version(subnet.base).into()).once(),
        ruled::<Self>("cidr", Is::Cidr, |_, subnet| subnet.cidr().into()).once(),
        said::<Self>("prefixlen", Is::Int(0, 128)).once(),
        ruled::<Self>("subnetpool_id", Is::UuidOrNull(&[Kind::SubnetPool]), |_, subnet| (&subnet.subnetpool_id).into())
            .once(),
        said::<Self>("use_default_subnetpool", Is::Bool).once(),
        ruled::<Self>("gateway_ip", Is::IpOrNull, |_, subnet| subnet.gateway_ip.into()),
        ruled::<Self>("allocation_pools", Is::ObjectList, |_, subnet| {
            let pool = |(start, end): &(IpAddr, IpAddr)| Json::object([("start", start.into()), ("end", end.into())]);
            Json::list(subnet.pools.iter().map(pool))
        }),
        ruled::<Self>("dns_nameservers", Is::IpList, |_, subnet| (&subnet.dns_nameservers).into()),
        ruled::<Self>("host_routes", Is::ObjectList, |_, subnet| routes_json(&subnet.host_routes)),
        field!(enable_dhcp: Is::Bool),
        field!(ipv6_ra_mode: Is::OneOfOrNull(MODES)).once(),
        field!(ipv6_address_mode: Is::OneOfOrNull(MODES)).once(),
        ruled::<Self>("service_types", Is::TextList, |_, subnet| (&subnet.service_types).into()),
        shown::<Self>("router:external", |view, subnet| {
            network_of(view, subnet).is_some_and(|network| network.external).into()
        }),
        shown::<Self>("shared", |view, subnet| {
            network_of(view, subnet).is_some_and(|network| view.is_given(network)).into()
        })
        .hidden(),
    ];

    fn sees(view: &View<'_>, value: &Self) -> bool {
        view.sees(value) || network_of(view, value).is_some_and(|network| view.sees(network))
    }

    fn create(plan: &mut Plan, request: &Request, _project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let network: Network = referred(plan, request, &body.required_reference("network_id")?)?;
        if !Network::changes(&View::new(&plan.rows, &request.who), &network) {
            return Err(NeutronError::policy("rule:create_subnet"));
        }
        if body.project().is_some_and(|p| p != network.project_id) && request.who.is_admin() {
            return Err(NeutronError::invalid("A subnet belongs to the project of its network"));
        }
        let (cidr, pool) = range(plan, request, body, &network)?;
        networks::check_mtu(&network, cidr.base.is_ipv6())?;
        let mut subnet = body.fill(Subnet {
            gateway_ip: body.ip("gateway_ip").unwrap_or_else(|| Some(cidr.first_host())),
            subnetpool_id: pool,
            ..Subnet::new(uuid::Uuid::new_v4().to_string(), &network, (cidr.base, cidr.prefix), request.now)
        });
        check_ipv6_modes(&subnet)?;
        check_gateway(&subnet)?;
        subnet.pools = match pools(body, &subnet)? {
            Some(pools) => pools,
            None => cidr.default_pools(subnet.gateway_ip),
        };
        set_common(&mut subnet, body)?;
        check_gateway_outside_pools(&subnet)?;
        check_overlap(plan, &subnet)?;
        address_scopes::check_subnet(plan, &subnet)?;
        plan.put(subnet.clone());
        touch_network(plan, request, network);
        addresses::give_automatic(plan, &subnet, request.now);
        ports::keep_dhcp_port(plan, &subnet, request.now)?;
        Ok(subnet)
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        if let Some(gateway) = body.ip("gateway_ip")
            && gateway != value.gateway_ip
        {
            gateway_unused(plan, value)?;
            value.gateway_ip = gateway;
            check_gateway(value)?;
        }
        if let Some(pools) = pools(body, value)? {
            value.pools = pools;
        }
        set_common(value, body)?;
        check_gateway_outside_pools(value)?;
        check_ipv6_modes(value)?;
        plan.put(value.clone());
        touch_network(plan, request, plan.need(&value.network_id)?);
        ports::keep_dhcp_port(plan, value, request.now)
    }

    fn delete(plan: &mut Plan, request: &Request, value: Self) -> Result<(), NeutronError> {
        let on_it: Vec<Port> = ports_on(plan, &value);
        let automatic = addresses::is_automatic(&value);
        let stays = |p: &&Port| !uses::is_dhcp(p) && (!automatic || uses::is_routers(p));
        if let Some(port) = on_it.iter().find(stays) {
            return Err(NeutronError::conflict(
                "SubnetInUse",
                format!(
                    "Unable to complete operation on subnet {}: One or more ports have an IP allocation from this subnet. Port {} is one of them.",
                    value.id, port.id
                ),
            ));
        }
        for mut port in on_it {
            port.fixed_ips.retain(|fixed| fixed.subnet_id != value.id);
            if uses::is_dhcp(&port) && port.fixed_ips.is_empty() {
                plan.remove(&port.key());
            } else {
                port.updated_at = request.now;
                plan.put(port);
            }
        }
        touch_network(plan, request, plan.need(&value.network_id)?);
        Ok(())
    }
}

fn network_of<'a>(view: &View<'a>, subnet: &Subnet) -> Option<&'a Network> {
    view.snapshot.get::<Network>(&subnet.network_id).map(|network| network.value)
}

/// The ports that have an address of the subnet.
pub fn ports_on(plan: &Plan, subnet: &Subnet) -> Vec<Port> {
    plan.rows
        .find::<Port>(Index::Network, &subnet.network_id)
        .filter(|port| port.value.fixed_ips.iter().any(|fixed| fixed.subnet_id == subnet.id))
        .map(|port| port.value.clone())
        .collect()
}

/// Subnets of a network are made and changed one after the other: two at once, which could overlap, both write it.
fn touch_network(plan: &mut Plan, request: &Request, mut network: Network) {
    network.updated_at = request.now;
    plan.put(network);
}

/// The subnet's range: as asked for, or cut from a pool.
fn range(
    plan: &mut Plan,
    request: &Request,
    body: &Attributes,
    network: &Network,
) -> Result<(Cidr, Option<String>), NeutronError> {
    let wanted = body.text("cidr").and_then(|t| Cidr::parse(&t).ok());
    let ip_version = match body.int("ip_version") {
        Some(5) => return Err(NeutronError::attribute("ip_version", "'5' is not in [4, 6].")),
        version => version,
    };
    if let (Some(cidr), Some(v)) = (&wanted, ip_version)
        && i64::from(version(cidr.base)) != v
    {
        return Err(NeutronError::invalid(format!("cidr {cidr} does not match the ip_version '{v}'")));
    }
    if wanted.is_some_and(|cidr| cidr.prefix == 0) {
        return Err(NeutronError::invalid("0 is not allowed as CIDR prefix length"));
    }
    if wanted.is_some() && body.has("prefixlen") {
        return Err(NeutronError::bad_request("subnets", "cidr and prefixlen must not be supplied together"));
    }
    let Some(named) = pool_of(plan, request, body, ip_version)? else {
        if ip_version.is_none() {
            return Err(NeutronError::http_bad(
                "Failed to parse request. Required attribute 'ip_version' not specified",
            ));
        }
        let message = "a subnetpool must be specified in the absence of a cidr";
        return wanted.map(|cidr| (cidr, None)).ok_or_else(|| NeutronError::bad_request("subnets", message));
    };
    let pool: SubnetPool = referred(plan, request, &named)?;
    let length = body.int("prefixlen").and_then(|n| u8::try_from(n).ok());
    let cidr = subnetpools::cut(plan, request, &pool, &network.project_id, wanted, length, ip_version)?;
    Ok((cidr, Some(pool.id)))
}

/// The pool that a new subnet is cut from: the one that is named, or its IP version's default.
fn pool_of(
    plan: &Plan,
    request: &Request,
    body: &Attributes,
    ip_version: Option<i64>,
) -> Result<Option<Ref<SubnetPool>>, NeutronError> {
    let named = body.reference("subnetpool_id");
    if body.bool("use_default_subnetpool") != Some(true) {
        return Ok(named);
    }
    if named.is_some() {
        let message = "subnetpool_id and use_default_subnetpool cannot both be specified";
        return Err(NeutronError::bad_request("subnets", message));
    }
    let Some(wanted) = ip_version else {
        let message = "ip_version must be specified in the absence of cidr and subnetpool_id";
        return Err(NeutronError::bad_request("subnets", message));
    };
    let view = gate::View::new(&plan.rows, &request.who);
    let is_it = |pool: &SubnetPool| {
        pool.is_default
            && i64::from(subnetpools::pool_version(pool)) == wanted
            && (view.owns(pool) || view.is_given(pool))
    };
    let found = plan.rows.all::<SubnetPool>().find(|pool| is_it(pool.value));
    let none = || NeutronError::bad_request("subnets", format!("No default subnetpool found for IPv{wanted}"));
    found.map(|pool| Some(Ref::sent(&pool.id))).ok_or_else(none)
}

/// What can be set at any time and needs no look at other rows.
fn set_common(subnet: &mut Subnet, body: &Attributes) -> Result<(), NeutronError> {
    if let Some(servers) = body.ips("dns_nameservers") {
        if servers.len() > MAX_NAMESERVERS {
            return Err(NeutronError::bad(
                "DNSNameServersExhausted",
                format!(
                    "Unable to complete operation for {}. The number of DNS nameservers exceeds the limit {MAX_NAMESERVERS}.",
                    subnet.id
                ),
            ));
        }
        if let Some(other) = servers.iter().find(|ip| ip.is_ipv4() != subnet.base.is_ipv4()) {
            return Err(NeutronError::invalid(format!(
                "dns_nameserver '{other}' does not match the ip_version '{}'",
                version(subnet.base)
            )));
        }
        subnet.dns_nameservers = servers;
    }
    if let Some(routes) = body.value("host_routes") {
        subnet.host_routes = routes_of("host_routes", routes, MAX_HOST_ROUTES, |limit| {
            NeutronError::bad(
                "HostRoutesExhausted",
                format!(
                    "Unable to complete operation for {}. The number of host routes exceeds the limit {limit}.",
                    subnet.id
                ),
            )
        })?;
        let foreign = |(destination, hop): &&(String, IpAddr)| {
            hop.is_ipv4() != subnet.base.is_ipv4() || destination.contains(':') == subnet.base.is_ipv4()
        };
        if let Some((destination, hop)) = subnet.host_routes.iter().find(foreign) {
            return Err(NeutronError::invalid(format!("Invalid route: {destination} via {hop}")));
        }
    }
    if let Some(types) = body.texts("service_types") {
        // An owner of a device is a family and a name, whoever's they are.
        let known = |t: &str| t.split_once(':').is_some_and(|(family, _)| !family.is_empty());
        if let Some(bad) = types.iter().find(|t| !known(t)) {
            return Err(NeutronError::bad(
                "InvalidSubnetServiceType",
                format!("Subnet service type {bad} does not correspond to a valid device owner."),
            ));
        }
        subnet.service_types = types;
    }
    Ok(())
}

/// `[{"destination": …, "nexthop": …}]`
pub fn routes_of(
    attribute: &str,
    given: &Value,
    limit: usize,
    too_many: impl Fn(usize) -> NeutronError,
) -> Result<Vec<(String, IpAddr)>, NeutronError> {
    let given = given.as_array().map(Vec::as_slice).unwrap_or_default();
    if given.len() > limit {
        return Err(too_many(limit));
    }
    let mut routes: Vec<(String, IpAddr)> = Vec::new();
    for route in given {
        let bad = |reason: String| NeutronError::attribute(attribute, reason);
        if let Some(extra) =
            route.as_object().into_iter().flatten().map(|(k, _)| k).find(|k| *k != "destination" && *k != "nexthop")
        {
            return Err(bad(format!("Invalid data format for hostroute: '{extra}' is not a key of a route.")));
        }
        let text = |name: &str| route[name].as_str().unwrap_or("");
        let (destination, hop) = (text("destination"), text("nexthop"));
        let cidr = Cidr::parse(destination).map_err(|()| bad(format!("'{destination}' is not a valid IP subnet.")))?;
        if !destination.contains('/') || cidr.to_string() != normal(destination) {
            return Err(bad(format!("'{destination}' isn't a recognized IP subnet cidr, '{cidr}' is recommended.")));
        }
        let hop: IpAddr = hop.parse().map_err(|_| bad(format!("'{hop}' is not a valid IP address.")))?;
        let route = (cidr.to_string(), hop);
        if routes.contains(&route) {
            return Err(bad(format!("Duplicate hostroute '{destination}' via '{hop}'.")));
        }
        routes.push(route);
    }
    Ok(routes)
}

/// The same CIDR with its address written in the shortest way.
fn normal(text: &str) -> String {
    match text.split_once('/') {
        Some((ip, prefix)) => match ip.parse::<IpAddr>() {
            Ok(ip) => format!("{ip}/{prefix}"),
            Err(_) => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

pub fn routes_json(routes: &[(String, IpAddr)]) -> Json<'_> {
    Json::list(
        routes
            .iter()
            .map(|(destination, hop)| Json::object([("destination", destination.into()), ("nexthop", hop.into())])),
    )
}

fn check_ipv6_modes(subnet: &Subnet) -> Result<(), NeutronError> {
    let (ra, address) = (subnet.ipv6_ra_mode.as_deref(), subnet.ipv6_address_mode.as_deref());
    if subnet.base.is_ipv4() {
        return match (ra, address) {
            (Some(_), _) => Err(NeutronError::invalid("ipv6_ra_mode is not valid when ip_version is 4")),
            (_, Some(_)) => Err(NeutronError::invalid("ipv6_address_mode is not valid when ip_version is 4")),
            _ => Ok(()),
        };
    }
    if !subnet.enable_dhcp && (ra.is_some() || address.is_some()) {
        return Err(NeutronError::invalid(
            "ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False",
        ));
    }
    if let (Some(ra), Some(address)) = (ra, address)
        && ra != address
    {
        return Err(NeutronError::invalid(format!(
            "ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both attributes are set, they must be the same value"
        )));
    }
    if addresses::is_automatic(subnet) && subnet.prefix != 64 {
        return Err(NeutronError::invalid(format!(
            "Invalid CIDR {} for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64",
            subnet.cidr()
        )));
    }
    Ok(())
}

fn check_gateway(subnet: &Subnet) -> Result<(), NeutronError> {
    let Some(gateway) = subnet.gateway_ip else { return Ok(()) };
    let cidr = Cidr::of(subnet);
    if gateway.is_ipv4() != subnet.base.is_ipv4() {
        let v = version(subnet.base);
        return Err(NeutronError::invalid(format!("gateway_ip '{gateway}' does not match the ip_version '{v}'")));
    }
    if cidr.contains(gateway) && !cidr.host_address(gateway) && gateway.is_ipv4() {
        return Err(NeutronError::invalid("Gateway is not valid on subnet"));
    }
    Ok(())
}

fn check_gateway_outside_pools(subnet: &Subnet) -> Result<(), NeutronError> {
    let Some(gateway) = subnet.gateway_ip else { return Ok(()) };
    let inside = |(a, b): &&(IpAddr, IpAddr)| (number(*a)..=number(*b)).contains(&number(gateway));
    match subnet.pools.iter().find(inside) {
        Some((a, b)) => Err(NeutronError::conflict(
            "GatewayConflictWithAllocationPools",
            format!("Gateway ip {gateway} conflicts with allocation pool {a}-{b}."),
        )),
        None => Ok(()),
    }
}

/// The gateway's address must not change under a router that holds it.
fn gateway_unused(plan: &Plan, subnet: &Subnet) -> Result<(), NeutronError> {
    let holder = ports_on(plan, subnet)
        .into_iter()
        .find(|port| port.is_interface() && port.fixed_ips.iter().any(|f| Some(f.ip) == subnet.gateway_ip));
    match (holder, subnet.gateway_ip) {
        (Some(port), Some(ip)) => Err(NeutronError::conflict(
            "GatewayIpInUse",
            format!("Current gateway ip {ip} already in use by port {}. Unable to update.", port.id),
        )),
        _ => Ok(()),
    }
}

/// The allocation pools asked for, sorted; `None` if the request does not say.
fn pools(body: &Attributes, subnet: &Subnet) -> Result<Option<Vec<(IpAddr, IpAddr)>>, NeutronError> {
    let Some(given) = body.value("allocation_pools").and_then(Value::as_array) else { return Ok(None) };
    let cidr = Cidr::of(subnet);
    let mut pools = Vec::with_capacity(given.len());
    for pool in given {
        let bad = || NeutronError::bad("InvalidAllocationPool", format!("The allocation pool {pool} is not valid."));
        let ip = |name: &str| pool[name].as_str().and_then(|t| t.parse::<IpAddr>().ok());
        let (Some(start), Some(end)) = (ip("start"), ip("end")) else { return Err(bad()) };
        let same = start.is_ipv4() == end.is_ipv4() && start.is_ipv4() == subnet.base.is_ipv4();
        if !same || number(end) < number(start) || pool.as_object().is_none_or(|o| o.len() != 2) {
            return Err(bad());
        }
        if !cidr.host_address(start) || !cidr.host_address(end) {
            return Err(NeutronError::bad(
                "OutOfBoundsAllocationPool",
                format!("The allocation pool {start}-{end} spans beyond the subnet cidr {cidr}."),
            ));
        }
        pools.push((start, end));
    }
    pools.sort_by_key(|(start, _)| number(*start));
    for pair in pools.windows(2) {
        if let [(a, b), (c, d)] = pair
            && number(*c) <= number(*b)
        {
            return Err(NeutronError::conflict(
                "OverlappingAllocationPools",
                format!("Found overlapping allocation pools: {a}-{b} {c}-{d} for subnet {cidr}."),
            ));
        }
    }
    Ok(Some(pools))
}

fn check_overlap(plan: &Plan, subnet: &Subnet) -> Result<(), NeutronError> {
    let cidr = Cidr::of(subnet);
    let mut others = plan.rows.find::<Subnet>(Index::Network, &subnet.network_id);
    if others.any(|other| Cidr::of(other.value).overlaps(&cidr)) {
        return Err(NeutronError::invalid(format!(
            "Requested subnet with cidr: {cidr} for network: {} overlaps with another subnet",
            subnet.network_id
        )));
    }
    Ok(())
}
