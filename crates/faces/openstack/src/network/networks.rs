//! `/networks`

use std::collections::HashSet;

use model::{Cluster, FloatingIp, Index, Key, Network, Port, RbacAction, Resource, Router, Subnet, most_mtu};
use serde_json::{Map, Value, json};

use super::address_scopes;
use super::ask::{Ask, Plan};
use super::attrs::{Attr, Body, DESCRIPTION, Is, NAME, free, shown};
use super::noun::{Look, Noun, standard};
use super::ports;
use super::qos_policies;
use super::rbac_policies;
use super::tags;
use super::trouble::Trouble;

/// The first VXLAN network identifier that is given out, and the last that there is.
const VNI: std::ops::RangeInclusive<u32> = 1000..=(1 << 24) - 1;

const ATTRS: &[Attr] = &[
    shown("id"),
    free("name", NAME),
    free("description", DESCRIPTION),
    free("admin_state_up", Is::Bool),
    free("shared", Is::Bool).admin_sets(),
    free("router:external", Is::Bool).admin_sets(),
    free("is_default", Is::Bool).admin_sets(),
    free("port_security_enabled", Is::Bool),
    free("mtu", Is::Int(0, 65535)),
    free("dns_domain", Is::Text(255)),
    qos_policies::ATTR,
    free("tags", Is::TextList).once(),
    free("provider:network_type", Is::Text(32)).once().admin(),
    free("provider:physical_network", Is::Any).once().admin(),
    free("provider:segmentation_id", Is::Any).once().admin(),
    shown("status"),
    shown("subnets"),
    shown("ipv4_address_scope"),
    shown("ipv6_address_scope"),
];

impl Noun for Network {
    const ONE: &'static str = "network";
    const MANY: &'static str = "networks";

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        let subnets = look.rows.find::<Subnet>(Index::Network, &value.id).map(|s| s.value.id.clone());
        into.insert("subnets".into(), json!(subnets.collect::<Vec<_>>()));
        into.insert("admin_state_up".into(), json!(value.admin_state_up));
        into.insert("status".into(), json!("ACTIVE"));
        into.insert("shared".into(), json!(look.view().is_given(value)));
        into.insert("router:external".into(), json!(value.external));
        into.insert("is_default".into(), json!(value.is_default));
        into.insert("port_security_enabled".into(), json!(value.port_security_enabled));
        into.insert("mtu".into(), json!(value.mtu));
        into.insert("dns_domain".into(), json!(value.dns_domain));
        qos_policies::show(value.qos_policy.as_ref(), "qos_policy_id", into);
        address_scopes::show_network(look, value, into);
        let (kind, segment) = if value.external { ("flat", None) } else { ("vxlan", Some(value.vni)) };
        into.insert("provider:network_type".into(), json!(kind));
        into.insert("provider:physical_network".into(), Value::Null);
        into.insert("provider:segmentation_id".into(), json!(segment));
    }

    standard!();

    fn create(plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble> {
        let external = body.bool("router:external").unwrap_or(false);
        let vni = match segment(body, external)? {
            Some(vni) => {
                if plan.rows.all::<Network>().any(|n| n.value.vni == vni) {
                    let message = format!("Unable to create the network. The tunnel ID {vni} is in use.");
                    return Err(Trouble::conflict("TunnelIdInUse", message));
                }
                vni
            }
            None => free_vni(plan)?,
        };
        let mut qos_policy = None;
        qos_policies::set(plan, ask, body, &mut qos_policy)?;
        let network = Network {
            qos_policy: qos_policy.or_else(|| qos_policies::default_of(plan, &project)),
            name: body.text("name").unwrap_or_default(),
            description: body.text("description").unwrap_or_default(),
            admin_state_up: body.bool("admin_state_up").unwrap_or(true),
            external,
            is_default: external && body.bool("is_default").unwrap_or(false),
            port_security_enabled: body.bool("port_security_enabled").unwrap_or(true),
            mtu: mtu(body, external)?.unwrap_or_else(|| most_mtu(external)),
            dns_domain: dns_domain(body)?.unwrap_or_default(),
            tags: tags::checked(body.texts("tags").unwrap_or_default())?,
            ..Network::new(uuid::Uuid::new_v4().to_string(), project, vni, ask.now)
        };
        only_default(plan, &network)?;
        rbac_policies::give_all(plan, &network, RbacAction::Shared, body.bool("shared"), ask.now);
        rbac_policies::give_all(plan, &network, RbacAction::External, Some(external), ask.now);
        Ok(network)
    }

    fn withdrawn(plan: &Plan, value: &Self, body: &Body) -> Vec<Key> {
        let key = value.key();
        let shared =
            (body.bool("shared") == Some(false)).then(|| rbac_policies::for_all(plan, &key, RbacAction::Shared));
        let external = (body.bool("router:external") == Some(false)).then(|| rbac_policies::external(plan, &key));
        shared.into_iter().chain(external).flatten().collect()
    }

    fn update(plan: &mut Plan, ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        let was = value.clone();
        qos_policies::set(plan, ask, body, &mut value.qos_policy)?;
        body.set_text("name", &mut value.name);
        body.set_text("description", &mut value.description);
        body.set_bool("admin_state_up", &mut value.admin_state_up);
        body.set_bool("is_default", &mut value.is_default);
        value.set_external(body.bool("router:external").unwrap_or(value.external));
        only_default(plan, value)?;
        body.set_bool("port_security_enabled", &mut value.port_security_enabled);
        if let Some(mtu) = mtu(body, value.external)? {
            value.mtu = mtu;
            for subnet in plan.rows.find::<Subnet>(Index::Network, &value.id) {
                check_mtu(value, subnet.value.base.is_ipv6())?;
            }
        }
        if let Some(domain) = dns_domain(body)? {
            value.dns_domain = domain;
        }
        if body.bool("shared") == Some(false) && !rbac_policies::unshare(plan, value) {
            return Err(Trouble::conflict(
                "InvalidSharedSetting",
                format!(
                    "Unable to reconfigure sharing settings for network {}. Multiple projects are using it.",
                    value.id
                ),
            ));
        }
        if was.external && !value.external && has_gateways(plan, value) {
            return Err(Trouble::conflict(
                "ExternalNetworkInUse",
                format!(
                    "External network {} cannot be updated to be made non-external, since it has existing gateway ports.",
                    value.id
                ),
            ));
        }
        rbac_policies::give_all(plan, value, RbacAction::Shared, body.bool("shared"), ask.now);
        if body.bool("router:external") == Some(false) {
            rbac_policies::take_all(plan, &value.key(), |policy| policy.action == RbacAction::External);
        }
        rbac_policies::give_all(plan, value, RbacAction::External, body.bool("router:external"), ask.now);
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Ask, value: Self) -> Result<(), Trouble> {
        // Floating IPs that lead nowhere go with their network, as in Neutron.
        let idle: Vec<FloatingIp> = plan
            .rows
            .find::<FloatingIp>(Index::Network, &value.id)
            .map(|entry| entry.value.clone())
            .filter(|fip| fip.port_id.is_none())
            .collect();
        for fip in idle {
            if let Some(port) = plan.get::<Port>(&fip.address_port_id) {
                plan.remove(&port.key());
            }
            plan.remove(&fip.key());
        }
        let ports: Vec<Port> =
            plan.rows.find::<Port>(Index::Network, &value.id).map(|entry| entry.value.clone()).collect();
        let busy: Vec<&str> = ports.iter().filter(|p| !ports::is_dhcp(p)).map(|p| p.id.as_str()).collect();
        if !busy.is_empty() {
            return Err(Trouble::conflict(
                "NetworkInUse",
                format!(
                    "Unable to complete operation on network {}. There are one or more ports still in use on the network, id for these ports is {}.",
                    value.id,
                    busy.iter().take(10).copied().collect::<Vec<_>>().join(",")
                ),
            ));
        }
        if let Some(cluster) = plan.rows.find::<Cluster>(Index::Network, &value.id).next() {
            let message = format!(
                "Unable to complete operation on network {}. It is the network of the Kubernetes cluster {}.",
                value.id, cluster.value.id
            );
            return Err(Trouble::conflict("NetworkInUse", message));
        }
        for port in &ports {
            plan.remove(&port.key());
        }
        let subnets: Vec<_> = plan.rows.find::<Subnet>(Index::Network, &value.id).map(|s| s.row.key.clone()).collect();
        for key in subnets {
            plan.remove(&key);
        }
        Ok(())
    }
}

fn only_default(plan: &Plan, network: &Network) -> Result<(), Trouble> {
    let mut others = plan.rows.all::<Network>().filter(|other| other.is_default && other.id != network.id);
    match others.next().filter(|_| network.is_default) {
        Some(other) => {
            let message = format!("A default external network already exists: {}.", other.id);
            Err(Trouble::conflict("DefaultExternalNetworkExists", message))
        }
        None => Ok(()),
    }
}

/// The lowest VXLAN network identifier that no network has.
fn free_vni(plan: &Plan) -> Result<u32, Trouble> {
    let used: HashSet<u32> = plan.rows.all::<Network>().map(|n| n.value.vni).collect();
    VNI.into_iter().find(|vni| !used.contains(vni)).ok_or_else(|| {
        Trouble::conflict(
            "NoNetworkAvailable",
            "Unable to create the network. No project network is available for allocation.",
        )
    })
}

/// The segment that an administrator asks for. Networks are VXLANs, external ones bridges of the host.
fn segment(body: &Body, external: bool) -> Result<Option<u32>, Trouble> {
    let kind = body.text("provider:network_type");
    let physical = body.value("provider:physical_network").filter(|v| !v.is_null());
    let wanted = body.value("provider:segmentation_id").filter(|v| !v.is_null());
    if let Some(physical) = physical {
        let physical = super::attrs::shown_value(physical);
        return Err(Trouble::invalid(format!("physical_network '{physical}' unknown for flat provider network")));
    }
    match (kind.as_deref(), external) {
        (None, _) if wanted.is_some() => Err(Trouble::invalid("network_type required")),
        (None, _) | (Some("flat"), true) if wanted.is_none() => Ok(None),
        (Some("vxlan"), false) => match wanted {
            None => Ok(None),
            Some(value) => {
                let vni = value.as_u64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
                let vni = vni.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0 && n <= VNI.end());
                vni.map(Some).ok_or_else(|| Trouble::invalid("segmentation_id out of range (1 through 16777215)"))
            }
        },
        (kind, _) => Err(Trouble::invalid(format!("network_type value '{}' not supported", kind.unwrap_or("")))),
    }
}

fn mtu(body: &Body, external: bool) -> Result<Option<u32>, Trouble> {
    let max = most_mtu(external);
    match body.int("mtu").and_then(|mtu| u32::try_from(mtu).ok()) {
        // Zero asks for the default.
        None => Ok(None),
        Some(0) => Ok(Some(max)),
        Some(mtu) if mtu > max => Err(Trouble::invalid(format!("Requested MTU is too big, maximum is {max}"))),
        Some(mtu) => Ok(Some(mtu)),
    }
}

/// What the packets of one of the network's subnets need at least (RFC 791, RFC 8200).
pub fn check_mtu(network: &Network, ipv6: bool) -> Result<(), Trouble> {
    let (version, least) = if ipv6 { (6, 1280) } else { (4, 68) };
    if network.mtu >= least {
        return Ok(());
    }
    let message = format!(
        "MTU of {} is not valid for network {} with IPv{version} subnets, the least is {least}.",
        network.mtu, network.id
    );
    Err(Trouble::conflict("NetworkMTUSubnetConflict", message))
}

/// A domain name as clients write it; kept as given, with or without the last dot.
fn dns_domain(body: &Body) -> Result<Option<String>, Trouble> {
    let Some(domain) = body.text("dns_domain") else { return Ok(None) };
    let bare = domain.trim_end_matches('.');
    if !bare.is_empty() && !bare.split('.').all(ports::is_dns_label) {
        return Err(Trouble::attribute("dns_domain", format!("'{domain}' not a valid PQDN or FQDN.")));
    }
    Ok(Some(domain))
}

/// Routers lead out by it, or addresses of it inwards.
pub fn has_gateways(plan: &Plan, network: &Network) -> bool {
    plan.rows.find::<Router>(Index::Network, &network.id).next().is_some()
        || plan.rows.find::<FloatingIp>(Index::Network, &network.id).next().is_some()
}
