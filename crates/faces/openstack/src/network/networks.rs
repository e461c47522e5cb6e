//! `/networks`

use std::collections::HashSet;

use model::{AddressScope, Cluster, FloatingIp, Index, Key, Network, Port, RbacAction, Resource, Subnet, most_mtu};

use super::attrs::{Attr, Is, NAME, field, ruled, shown, standard};
use super::body::Attributes;
use super::error::NeutronError;
use super::qos_policies::{self, QOS_POLICY};
use super::request::{Plan, Request};
use super::resource::NeutronResource;
use super::sharing;
use super::uses;
use crate::json::Json;

/// Of what networks are made, but for external ones.
pub const NETWORK_TYPE: &str = "vxlan";
/// The first VXLAN network identifier that is given out, and the last that there is.
const VNI: std::ops::RangeInclusive<u32> = 1000..=(1 << 24) - 1;

impl NeutronResource for Network {
    const ONE: &'static str = "network";
    const MANY: &'static str = "networks";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME),
        field!(tags: Is::Tags).once(),
        field!(admin_state_up: Is::Bool),
        ruled::<Self>("shared", Is::Bool, |view, network| view.is_given(network).into()).admin_sets(),
        ruled::<Self>("router:external", Is::Bool, |_, network| network.external.into()).admin_sets(),
        field!(is_default: Is::Bool).admin_sets(),
        field!(port_security_enabled: Is::Bool),
        ruled::<Self>("mtu", Is::Int(0, 65535), |_, network| network.mtu.into()),
        field!(dns_domain: Is::Domain),
        ruled::<Self>("qos_policy_id", QOS_POLICY, |_, network| (&network.qos_policy).into()),
        ruled::<Self>("provider:network_type", Is::Text(32), |_, network| {
            if network.external { "flat" } else { NETWORK_TYPE }.into()
        })
        .once()
        .admin(),
        ruled::<Self>("provider:physical_network", Is::Any, |_, _| Json::Null).once().admin(),
        ruled::<Self>("provider:segmentation_id", Is::Any, |_, network| {
            (!network.external).then_some(network.vni).into()
        })
        .once()
        .admin(),
        shown::<Self>("status", |_, _| "ACTIVE".into()),
        shown::<Self>("subnets", |view, network| {
            Json::list(view.snapshot.find::<Subnet>(Index::Network, &network.id).map(|subnet| &subnet.value.id))
        }),
        shown::<Self>("ipv4_address_scope", |view, network| {
            AddressScope::of_network(view.snapshot, network, false).into()
        }),
        shown::<Self>("ipv6_address_scope", |view, network| {
            AddressScope::of_network(view.snapshot, network, true).into()
        }),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let external = body.bool("router:external").unwrap_or(false);
        let vni = match segment(body, external)? {
            Some(vni) => {
                if plan.rows.all::<Network>().any(|n| n.value.vni == vni) {
                    let message = format!("Unable to create the network. The tunnel ID {vni} is in use.");
                    return Err(NeutronError::conflict("TunnelIdInUse", message));
                }
                vni
            }
            None => free_vni(plan)?,
        };
        let mut qos_policy = None;
        qos_policies::set(plan, request, body, &mut qos_policy)?;
        let mut network = body.fill(Network {
            qos_policy: qos_policy.or_else(|| qos_policies::default_of(plan, &project)),
            mtu: mtu(body, external)?.unwrap_or_else(|| most_mtu(external)),
            ..Network::new(uuid::Uuid::new_v4().to_string(), project, vni, request.now)
        });
        network.set_external(external);
        only_default(plan, &network)?;
        sharing::give_all(plan, &network, RbacAction::Shared, body.bool("shared"), request.now);
        sharing::give_all(plan, &network, RbacAction::External, Some(external), request.now);
        Ok(network)
    }

    fn withdrawn(plan: &Plan, value: &Self, body: &Attributes) -> Vec<Key> {
        let key = value.key();
        let shared = (body.bool("shared") == Some(false)).then(|| sharing::for_all(plan, &key, RbacAction::Shared));
        let external = (body.bool("router:external") == Some(false)).then(|| sharing::external(plan, &key));
        shared.into_iter().chain(external).flatten().collect()
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        let was_external = value.external;
        qos_policies::set(plan, request, body, &mut value.qos_policy)?;
        value.set_external(body.bool("router:external").unwrap_or(value.external));
        only_default(plan, value)?;
        if let Some(mtu) = mtu(body, value.external)? {
            value.mtu = mtu;
            for subnet in plan.rows.find::<Subnet>(Index::Network, &value.id) {
                check_mtu(value, subnet.value.base.is_ipv6())?;
            }
        }
        if body.bool("shared") == Some(false) && !sharing::unshare(plan, value) {
            return Err(NeutronError::conflict(
                "InvalidSharedSetting",
                format!(
                    "Unable to reconfigure sharing settings for network {}. Multiple projects are using it.",
                    value.id
                ),
            ));
        }
        if was_external && !value.external && uses::has_gateways(plan, value) {
            return Err(NeutronError::conflict(
                "ExternalNetworkInUse",
                format!(
                    "External network {} cannot be updated to be made non-external, since it has existing gateway ports.",
                    value.id
                ),
            ));
        }
        sharing::give_all(plan, value, RbacAction::Shared, body.bool("shared"), request.now);
        if body.bool("router:external") == Some(false) {
            sharing::take_all(plan, &value.key(), |policy| policy.action == RbacAction::External);
        }
        sharing::give_all(plan, value, RbacAction::External, body.bool("router:external"), request.now);
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Request, value: Self) -> Result<(), NeutronError> {
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
        let busy: Vec<&str> = ports.iter().filter(|p| !uses::is_dhcp(p)).map(|p| p.id.as_str()).collect();
        if !busy.is_empty() {
            return Err(NeutronError::conflict(
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
            return Err(NeutronError::conflict("NetworkInUse", message));
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

fn only_default(plan: &Plan, network: &Network) -> Result<(), NeutronError> {
    let mut others = plan.rows.all::<Network>().filter(|other| other.is_default && other.id != network.id);
    match others.next().filter(|_| network.is_default) {
        Some(other) => {
            let message = format!("A default external network already exists: {}.", other.id);
            Err(NeutronError::conflict("DefaultExternalNetworkExists", message))
        }
        None => Ok(()),
    }
}

/// The lowest VXLAN network identifier that no network has.
fn free_vni(plan: &Plan) -> Result<u32, NeutronError> {
    let used: HashSet<u32> = plan.rows.all::<Network>().map(|n| n.value.vni).collect();
    VNI.into_iter().find(|vni| !used.contains(vni)).ok_or_else(|| {
        NeutronError::conflict(
            "NoNetworkAvailable",
            "Unable to create the network. No project network is available for allocation.",
        )
    })
}

/// The segment that an administrator asks for. Networks are VXLANs, external ones bridges of the host.
fn segment(body: &Attributes, external: bool) -> Result<Option<u32>, NeutronError> {
    let kind = body.text("provider:network_type");
    let physical = body.value("provider:physical_network").filter(|v| !v.is_null());
    let wanted = body.value("provider:segmentation_id").filter(|v| !v.is_null());
    if let Some(physical) = physical {
        let physical = super::body::shown_value(physical);
        return Err(NeutronError::invalid(format!("physical_network '{physical}' unknown for flat provider network")));
    }
    match (kind.as_deref(), external) {
        (None, _) if wanted.is_some() => Err(NeutronError::invalid("network_type required")),
        (None, _) | (Some("flat"), true) if wanted.is_none() => Ok(None),
        (Some(NETWORK_TYPE), false) => match wanted {
            None => Ok(None),
            Some(value) => {
                let vni = value.as_u64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
                let vni = vni.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0 && n <= VNI.end());
                vni.map(Some).ok_or_else(|| NeutronError::invalid("segmentation_id out of range (1 through 16777215)"))
            }
        },
        (kind, _) => Err(NeutronError::invalid(format!("network_type value '{}' not supported", kind.unwrap_or("")))),
    }
}

fn mtu(body: &Attributes, external: bool) -> Result<Option<u32>, NeutronError> {
    let max = most_mtu(external);
    match body.int("mtu").and_then(|mtu| u32::try_from(mtu).ok()) {
        // Zero asks for the default.
        None => Ok(None),
        Some(0) => Ok(Some(max)),
        Some(mtu) if mtu > max => Err(NeutronError::invalid(format!("Requested MTU is too big, maximum is {max}"))),
        Some(mtu) => Ok(Some(mtu)),
    }
}

/// What the packets of one of the network's subnets need at least (RFC 791, RFC 8200).
pub fn check_mtu(network: &Network, ipv6: bool) -> Result<(), NeutronError> {
    let (version, least) = if ipv6 { (6, 1280) } else { (4, 68) };
    if network.mtu >= least {
        return Ok(());
    }
    let message = format!(
        "MTU of {} is not valid for network {} with IPv{version} subnets, the least is {least}.",
        network.mtu, network.id
    );
    Err(NeutronError::conflict("NetworkMTUSubnetConflict", message))
}
