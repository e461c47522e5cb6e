//! `/ports`

use std::collections::BTreeSet;

use gate::View;
use model::{
    FixedIp, FloatingIp, Holder, Host, Index, Kind, Network, Port, PortStatus, RbacPolicy, SecurityGroup, Subnet, Time,
};
use model::{Resource, free_address};
use serde_json::{Value, json};

use super::addresses::{self, Wanted};
use super::attrs::{Attr, Is, NAME, field, ruled, shown, standard};
use super::body::{Attributes, mac, shown_value};
use super::cidr::Cidr;
use super::error::NeutronError;
use super::port_forwardings;
use super::qos_policies::{self, QOS_POLICY};
use super::request::{Plan, Request};
use super::resource::{NeutronResource, referred};
use super::security_groups;
use super::trunks;
use super::uses::{bare, in_use};
use crate::json::Json;

/// What nobody may say of a port of his: that it is one of Neutron's own.
const SERVICES: [&str; 4] =
    ["network:router_interface", "network:router_gateway", "network:floatingip", "network:dhcp"];

/// The domain of networks that name none.
const DNS_DOMAIN: &str = "braid.internal";
/// The only sort of network cards that there is.
const VNIC_TYPE: &str = "normal";
const MAX_ADDRESS_PAIRS: usize = 10;
const MAX_DHCP_OPTIONS: usize = 64;

impl NeutronResource for Port {
    const ONE: &'static str = "port";
    const MANY: &'static str = "ports";
    const OF_NETWORK: bool = true;
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME),
        field!(tags: Is::Tags).once(),
        ruled::<Self>("network_id", Is::Uuid(&[Kind::Network]), |_, port| (&port.network_id).into()).once().required(),
        field!(admin_state_up: Is::Bool),
        ruled::<Self>("mac_address", Is::Mac, |_, port| (&port.mac).into()),
        ruled::<Self>("fixed_ips", Is::ObjectList, |_, port| addresses_json(&port.fixed_ips)),
        ruled::<Self>("device_id", Is::Text(255), |_, port| port.device_id().into()),
        ruled::<Self>("device_owner", Is::Text(255), |_, port| port.device_owner().into()),
        ruled::<Self>("security_groups", Is::UuidList(&[Kind::SecurityGroup]), |_, port| (&port.security_groups)
            .into()),
        ruled::<Self>("port_security_enabled", Is::Bool, |_, port| port.port_security_enabled.into()),
        ruled::<Self>("allowed_address_pairs", Is::ObjectList, |_, port| {
            Json::list(port.allowed_address_pairs.iter().map(|(mac, cidr)| {
                let mac = mac.as_ref().unwrap_or(&port.mac);
                Json::object([("mac_address", mac.into()), ("ip_address", cidr.into())])
            }))
        }),
        ruled::<Self>("extra_dhcp_opts", Is::ObjectList, |_, port| (&port.extra_dhcp_opts).into()),
        field!(dns_name: Is::Domain).put(|port, given| {
            port.dns_name = given.as_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        }),
        field!("binding:vnic_type" vnic_type: Is::OneOf(&[VNIC_TYPE])).get(|_, port| port
            .vnic_type
            .as_deref()
            .unwrap_or(VNIC_TYPE)
            .into()),
        field!("binding:profile" binding_profile: Is::ObjectOrNull)
            .get(|_, port| port.binding_profile.as_ref().map_or(Json::Object(Vec::new()), Json::from))
            .admin(),
        ruled::<Self>("binding:host_id", Is::TextOrNull(255), |_, port| port.host.as_deref().unwrap_or("").into())
            .admin(),
        shown::<Self>("binding:vif_type", |view, port| vif_type(view, port).into()).admin_sees(),
        shown::<Self>("binding:vif_details", |_, _| Json::Object(Vec::new())).admin_sees(),
        ruled::<Self>("qos_policy_id", QOS_POLICY, |_, port| (&port.qos_policy).into()),
        shown::<Self>("qos_network_policy_id", |view, port| { qos_policies::of_network(view, &port.network_id) }),
        shown::<Self>("dns_assignment", dns_assignment),
        shown::<Self>("status", |_, port| status(port).into()),
        shown::<Self>("trunk_details", trunks::details),
    ];

    fn sees(view: &View<'_>, value: &Self) -> bool {
        view.sees(value) || owns_network(view, &value.network_id)
    }

    fn deletes(view: &View<'_>, value: &Self) -> bool {
        Self::changes(view, value) || owns_network(view, &value.network_id)
    }

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let network: Network = referred(plan, request, &body.required_reference("network_id")?)?;
        may_be_on(plan, request, &network, &project)?;
        let mut port = bare(&network, &project, request.now);
        may_set(plan, request, &network, body, "create")?;
        port.port_security_enabled = network.port_security_enabled;
        port = body.fill(port);
        port.mac = mac_for(plan, &port, body)?;
        set_common(plan, request, &mut port, body)?;
        if !body.has("security_groups") && port.port_security_enabled && !port.device_owner().starts_with("network:") {
            port.security_groups = vec![security_groups::default_group(plan, &port.project_id, request.now)];
        }
        check_security(&port, body)?;
        let wanted = body.value("fixed_ips").map(addresses::wanted).transpose()?;
        port.fixed_ips = addresses::assign(plan, &network, &port, wanted.as_deref())?;
        Ok(port)
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        let network: Network = plan.need(&value.network_id)?;
        may_set(plan, request, &network, body, "update")?;
        let structural = ["fixed_ips", "mac_address", "device_id", "device_owner"];
        // An interface may change its address; what it joins, only its router changes.
        let fixed = |name: &str| !(value.is_interface() && name == "fixed_ips");
        if !value.is_plug() && structural.iter().any(|name| body.has(name) && fixed(name)) {
            return Err(NeutronError::bad_request(
                "port",
                format!(
                    "Cannot update the addresses or the owner of the port {}, because '{}' owns it",
                    value.id,
                    value.device_owner()
                ),
            ));
        }
        if body.has("mac_address") {
            if !request.who.is_admin() {
                return Err(NeutronError::policy("(rule:update_port and rule:update_port:mac_address)"));
            }
            value.mac = mac_for(plan, value, body)?;
        }
        let was_secure = value.port_security_enabled;
        set_common(plan, request, value, body)?;
        if was_secure
            && !value.port_security_enabled
            && !body.has("security_groups")
            && !value.security_groups.is_empty()
        {
            return Err(NeutronError::conflict(
                "PortSecurityPortHasSecurityGroup",
                "Port has security group associated. Cannot disable port security or IP address until security group is removed.",
            ));
        }
        check_security(value, body)?;
        if let Some(given) = body.value("fixed_ips") {
            let wanted: Vec<Wanted> = addresses::wanted(given)?;
            let before = subnets_of(value);
            value.fixed_ips = addresses::assign(plan, &network, value, Some(&wanted))?;
            if value.is_interface() && subnets_of(value) != before {
                let message = format!("The subnets of port {} are those that its router joins", value.id);
                return Err(NeutronError::bad_request("port", message));
            }
            release_floating(plan, value, request.now);
        }
        Ok(())
    }

    fn delete(plan: &mut Plan, request: &Request, mut value: Self) -> Result<(), NeutronError> {
        trunks::check_deleted(plan, &value)?;
        if !value.is_plug() || matches!(value.holder, Some(Holder::Pod { .. })) {
            return Err(NeutronError::conflict(
                "ServicePortInUse",
                format!(
                    "Port {} cannot be deleted directly via the port API: has device owner {}.",
                    value.id,
                    value.device_owner()
                ),
            ));
        }
        value.fixed_ips.clear();
        release_floating(plan, &value, request.now);
        Ok(())
    }
}

fn subnets_of(port: &Port) -> BTreeSet<String> {
    port.fixed_ips.iter().map(|fixed| fixed.subnet_id.clone()).collect()
}

fn owns_network(view: &View<'_>, network: &str) -> bool {
    view.snapshot.get::<Network>(network).is_some_and(|n| view.owns(n.value))
}

fn status(port: &Port) -> &'static str {
    match (&port.holder, port.status) {
        (Some(Holder::FloatingIp(_)), _) => "N/A",
        // Routers and DHCP are where the ports of their networks are; there is nothing that could be down by itself.
        (Some(holder), _) if holder.is_services() && port.admin_state_up => "ACTIVE",
        (_, PortStatus::Active) => "ACTIVE",
        (_, PortStatus::Down) => "DOWN",
        (_, PortStatus::Error) => "ERROR",
    }
}

fn dns_assignment<'a>(view: &View<'a>, port: &'a Port) -> Json<'a> {
    let network = view.snapshot.get::<Network>(&port.network_id);
    let domain = network.map_or("", |n| n.value.dns_domain.trim_end_matches('.'));
    let domain = if domain.is_empty() { DNS_DOMAIN } else { domain };
    let name = |fixed: &'a FixedIp| {
        let name = port.name_of(fixed.ip);
        let fqdn = format!("{name}.{domain}.");
        Json::object([("fqdn", fqdn.into()), ("hostname", name.into()), ("ip_address", fixed.ip.into())])
    };
    Json::list(port.fixed_ips.iter().map(name))
}

/// Addresses, as ports and routers show them.
pub fn addresses_json(all: &[FixedIp]) -> Json<'_> {
    Json::list(
        all.iter()
            .map(|fixed| Json::object([("ip_address", fixed.ip.into()), ("subnet_id", (&fixed.subnet_id).into())])),
    )
}

/// A MAC that no port of the network has.
pub fn free_mac(plan: &Plan, port: &Port) -> String {
    let tries = (0..=u32::MAX).map(|attempt| Port::mac_from(&port.id, attempt));
    tries.into_iter().find(|mac| !plan.has_mac(&port.network_id, mac)).unwrap_or_default()
}

fn mac_for(plan: &Plan, port: &Port, body: &Attributes) -> Result<String, NeutronError> {
    let Some(mac) = body.text("mac_address") else { return Ok(free_mac(plan, port)) };
    if mac != port.mac && plan.has_mac(&port.network_id, &mac) {
        return Err(NeutronError::conflict(
            "MacAddressInUse",
            format!("Unable to complete operation for network {}. The mac address {mac} is in use.", port.network_id),
        ));
    }
    Ok(mac)
}

/// Others' networks that are not shared are seen only because they lead out; nobody sits on them.
fn may_be_on(plan: &Plan, request: &Request, network: &Network, project: &str) -> Result<(), NeutronError> {
    let view = View::new(&plan.rows, &request.who);
    if request.who.is_admin() || view.is_given(network) || view.owns(network) {
        return Ok(());
    }
    Err(NeutronError::forbidden(format!("Tenant {project} not allowed to create port on this network")))
}

/// On a network of somebody else a port takes what it is given.
fn may_set(
    plan: &Plan,
    request: &Request,
    network: &Network,
    body: &Attributes,
    verb: &str,
) -> Result<(), NeutronError> {
    let view = View::new(&plan.rows, &request.who);
    let own = request.who.is_admin() || view.owns(network);
    let asks_ip =
        || body.value("fixed_ips").and_then(Value::as_array).into_iter().flatten().any(|f| !f["ip_address"].is_null());
    let forbidden = [
        ("mac_address", body.has("mac_address")),
        ("fixed_ips:ip_address", asks_ip()),
        ("fixed_ips", body.has("fixed_ips") && !view.is_given(network)),
        ("port_security_enabled", body.has("port_security_enabled")),
        ("allowed_address_pairs", body.has("allowed_address_pairs")),
        ("device_owner", body.text("device_owner").is_some_and(|o| o.starts_with("network:"))),
    ];
    match forbidden.iter().find(|(_, asked)| *asked && !own) {
        Some((name, _)) => Err(NeutronError::policy(&format!("(rule:{verb}_port and rule:{verb}_port:{name})"))),
        None => Ok(()),
    }
}

/// What creation and update set alike, addresses aside.
fn set_common(plan: &mut Plan, request: &Request, port: &mut Port, body: &Attributes) -> Result<(), NeutronError> {
    set_device(port, body)?;
    port.port_security_enabled = body.bool("port_security_enabled").unwrap_or(port.port_security_enabled);
    if body.has("binding:host_id") {
        bind(port, body.text("binding:host_id").unwrap_or_default())?;
    }
    if let Some(named) = body.references::<SecurityGroup>("security_groups") {
        let mut groups = Vec::with_capacity(named.len());
        for id in &named {
            let group: SecurityGroup = referred(plan, request, id)?;
            port.shared_groups.remove(&group.id);
            // It stays of its sort until the port has it.
            plan.hold::<SecurityGroup>(&group.id);
            groups.push(group.id.clone());
            if group.project_id != port.project_id {
                let policies = RbacPolicy::about(&plan.rows, &group.key());
                let given: Option<String> = policies
                    .filter(|policy| policy.covers(Some(&port.project_id)))
                    .map(|policy| policy.id.clone())
                    .next();
                let given = given.ok_or_else(|| super::error::refers_to_nothing(id))?;
                plan.hold::<RbacPolicy>(&given);
                port.shared_groups.insert(group.id, group.project_id);
            }
        }
        if model::of_both_sorts(&plan.rows, &groups) {
            return Err(NeutronError::conflict("SecurityGroupConflict", model::BOTH_SORTS));
        }
        port.shared_groups.retain(|id, _| groups.contains(id));
        port.security_groups = groups;
    }
    if let Some(pairs) = body.value("allowed_address_pairs") {
        port.allowed_address_pairs = address_pairs(pairs)?;
    }
    qos_policies::set(plan, request, body, &mut port.qos_policy)?;
    if !port.is_plug() && port.qos_policy.is_some() {
        let message = format!("Rule bandwidth_limit is not supported by port {}", port.id);
        return Err(NeutronError::conflict("QosRuleNotSupported", message));
    }
    if let Some(options) = body.value("extra_dhcp_opts") {
        set_dhcp_options(&mut port.extra_dhcp_opts, options)?;
    }
    Ok(())
}

fn vif_type(view: &View<'_>, port: &Port) -> &'static str {
    match port.host.as_deref() {
        None => "unbound",
        Some(host) if view.snapshot.get::<Host>(host).is_some() => "tap",
        Some(_) => "binding_failed",
    }
}

/// An administrator may plug a port in somewhere by hand, also where no host is (yet); ports of servers and pods are where those are.
fn bind(port: &mut Port, host: String) -> Result<(), NeutronError> {
    if port.host.as_deref().unwrap_or("") == host {
        return Ok(());
    }
    if !port.is_free() {
        let message = format!("The host of port {} is that of its owner, {}", port.id, port.device_owner());
        return Err(NeutronError::bad_request("port", message));
    }
    port.host = (!host.is_empty()).then_some(host);
    Ok(())
}

/// What the caller says of the device of a port that nobody holds: a text that nothing reads. Who holds a port is said by
/// attaching it, and by nothing else.
fn set_device(port: &mut Port, body: &Attributes) -> Result<(), NeutronError> {
    let (id, owner) = (body.text("device_id"), body.text("device_owner"));
    if let Some(holder) = &port.holder {
        let same = |said: Option<String>, is: &str| said.is_none_or(|said| said == is);
        return match same(id, &holder.device_id()) && same(owner, holder.device_owner()) {
            true => Ok(()),
            false => Err(in_use(port)),
        };
    }
    if let Some(owner) = owner.as_deref().filter(|owner| SERVICES.contains(owner)) {
        return Err(NeutronError::conflict(
            "UnsupportedPortDeviceOwner",
            format!("Operation create or update is not supported for device_owner {owner} on port {}.", port.id),
        ));
    }
    port.free_device_id = id.unwrap_or_else(|| std::mem::take(&mut port.free_device_id));
    port.free_device_owner = owner.unwrap_or_else(|| std::mem::take(&mut port.free_device_owner));
    port.format = 1;
    Ok(())
}

/// Security groups and address pairs need port security, in whatever order they were asked for.
fn check_security(port: &Port, body: &Attributes) -> Result<(), NeutronError> {
    if port.port_security_enabled {
        return Ok(());
    }
    if body.has("security_groups") && !port.security_groups.is_empty() {
        return Err(NeutronError::bad(
            "PortSecurityAndIPRequiredForSecurityGroups",
            "Port security must be enabled and port must have an IP address in order to use security groups.",
        ));
    }
    if !port.allowed_address_pairs.is_empty() {
        return Err(NeutronError::conflict(
            "AddressPairAndPortSecurityRequired",
            "Port Security must be enabled in order to have allowed address pairs on a port.",
        ));
    }
    Ok(())
}

fn address_pairs(given: &Value) -> Result<Vec<(Option<String>, String)>, NeutronError> {
    let given = given.as_array().map(Vec::as_slice).unwrap_or_default();
    if given.len() > MAX_ADDRESS_PAIRS {
        return Err(NeutronError::bad(
            "AllowedAddressPairExhausted",
            format!("The number of allowed address pair exceeds the maximum {MAX_ADDRESS_PAIRS}."),
        ));
    }
    let mut pairs = Vec::with_capacity(given.len());
    for pair in given {
        let known = |name: &String| name == "ip_address" || name == "mac_address";
        if let Some(extra) = pair.as_object().into_iter().flatten().map(|(name, _)| name).find(|n| !known(n)) {
            return Err(NeutronError::http_bad(format!("Unrecognized attribute(s) '{extra}'")));
        }
        let Some(text) = pair["ip_address"].as_str() else {
            return Err(NeutronError::bad(
                "AllowedAddressPairsMissingIP",
                "AllowedAddressPair must contain ip_address",
            ));
        };
        let bad = || {
            let reason = format!("'{text}' is neither a valid IP address, nor is it a valid IP subnet");
            NeutronError::attribute("allowed_address_pairs", reason)
        };
        let cidr = Cidr::parse(text).map_err(|()| bad())?;
        let address = if text.contains('/') { cidr.to_string() } else { cidr.base.to_string() };
        let hardware = match &pair["mac_address"] {
            Value::Null => None,
            value => match value.as_str().and_then(mac) {
                Some(mac) => Some(mac),
                None => {
                    let reason = format!("'{}' is not a valid MAC address.", shown_value(value));
                    return Err(NeutronError::attribute("allowed_address_pairs", reason));
                }
            },
        };
        let entry = (hardware, address);
        if pairs.contains(&entry) {
            return Err(NeutronError::bad(
                "DuplicateAddressPairInRequest",
                format!("Request contains duplicate address pair: mac_address {:?} ip_address {}.", entry.0, entry.1),
            ));
        }
        pairs.push(entry);
    }
    Ok(pairs)
}

/// Merges options by name and version; a null value takes one away. Options that DHCP could not send are refused, where
/// Neutron takes any and its DHCP server says nothing.
fn set_dhcp_options(options: &mut Vec<Value>, given: &Value) -> Result<(), NeutronError> {
    for option in given.as_array().into_iter().flatten() {
        let bad = |reason: &str| NeutronError::attribute("extra_dhcp_opts", reason);
        let name = option["opt_name"].as_str().filter(|n| !n.is_empty() && n.len() <= 64);
        let name = name.ok_or_else(|| bad("opt_name is required and has at most 64 characters."))?;
        let version = match &option["ip_version"] {
            Value::Null => 4,
            value => match value.as_u64().or_else(|| value.as_str().and_then(|t| t.parse().ok())) {
                Some(version @ (4 | 6)) => version,
                _ => return Err(bad("ip_version is 4 or 6.")),
            },
        };
        options.retain(|o| o["opt_name"] != name || o["ip_version"] != version);
        match &option["opt_value"] {
            Value::Null => {}
            Value::String(text) if !text.trim().is_empty() && text.len() <= 255 => {
                model::dhcp_option::check(name, text, version == 6).map_err(|why| bad(&why))?;
                options.push(json!({"opt_name": name, "opt_value": text, "ip_version": version}));
            }
            _ => return Err(bad("opt_value is a string of at most 255 characters that is not blank.")),
        }
    }
    if options.len() > MAX_DHCP_OPTIONS {
        let reason = format!("a port has at most {MAX_DHCP_OPTIONS} options.");
        return Err(NeutronError::attribute("extra_dhcp_opts", reason));
    }
    Ok(())
}

/// Takes the floating IPs, and what they forward, off addresses that the port no longer has.
pub fn release_floating(plan: &mut Plan, port: &Port, now: Time) {
    let gone: Vec<FloatingIp> = plan
        .rows
        .find::<FloatingIp>(Index::Owner, &port.id)
        .map(|entry| entry.value.clone())
        .filter(|fip| fip.port_id.as_deref() == Some(&port.id))
        .filter(|fip| !port.fixed_ips.iter().any(|fixed| Some(fixed.ip) == fip.fixed_ip))
        .collect();
    for mut fip in gone {
        fip.port_id = None;
        fip.fixed_ip = None;
        fip.router_id = None;
        fip.updated_at = now;
        plan.put(fip);
    }
    port_forwardings::release(plan, port, now);
}

/// A subnet with DHCP but without a gateway of its own needs an address from which to answer: it is set aside by a port
/// of Neutron's own, as Neutron does for every subnet. Where there is a gateway, DHCP answers from its address.
pub fn keep_dhcp_port(plan: &mut Plan, subnet: &Subnet, now: Time) -> Result<(), NeutronError> {
    let network: Network = plan.need(&subnet.network_id)?;
    let id = model::derived_id(&["dhcp-port", &subnet.id]);
    let gateway_inside = subnet.gateway_ip.is_some_and(|ip| Cidr::of(subnet).contains(ip));
    let needed = subnet.enable_dhcp && !gateway_inside && !addresses::is_automatic(subnet) && !network.external;
    match (plan.get::<Port>(&id), needed) {
        (None, true) => {
            let mut port = bare(&network, "", now);
            port.id = id;
            port.hold(subnet.as_holder());
            port.mac = free_mac(plan, &port);
            // A subnet without room for it works as before, without DHCP.
            let Some(ip) = free_address(subnet, None, |ip| plan.has_address(&network.id, ip)) else { return Ok(()) };
            port.fixed_ips = vec![FixedIp { subnet_id: subnet.id.clone(), ip }];
            plan.put(port);
        }
        (Some(port), false) => plan.remove(&port.key()),
        _ => {}
    }
    Ok(())
}
