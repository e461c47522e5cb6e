//! `/floatingips`

use std::net::IpAddr;

use gate::{Ref, View};
use model::{Fault, FloatingIp, Holder, Index, Kind, Network, Port, PortStatus, Resource, Router, Subnet};
use serde_json::json;

use super::addresses::{self, Wanted};
use super::attrs::{Attr, Is, field, ruled, said, shown, standard};
use super::body::Attributes;
use super::error::NeutronError;
use super::port_forwardings;
use super::ports;
use super::qos_policies::{self, QOS_POLICY};
use super::rbac_policies;
use super::request::{Plan, Request};
use super::resource::{self, NeutronResource, referred, referred_own};
use super::uses;
use crate::call::Call;
use crate::json::Json;

impl NeutronResource for FloatingIp {
    const ONE: &'static str = "floatingip";
    const MANY: &'static str = "floatingips";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(tags: Is::Tags).once(),
        ruled::<Self>("floating_network_id", Is::Uuid(&[Kind::Network]), |_, floating| (&floating.network_id).into())
            .once()
            .required(),
        said::<Self>("subnet_id", Is::UuidOrNull(&[Kind::Subnet])).once(),
        ruled::<Self>("floating_ip_address", Is::IpOrNull, |_, floating| floating.address.into()).once().admin_sets(),
        ruled::<Self>("port_id", Is::UuidOrNull(&[Kind::Port]), |view, floating| {
            port_of(view, floating).map(|port| &port.id).into()
        }),
        ruled::<Self>("fixed_ip_address", Is::IpOrNull, |view, floating| {
            floating.fixed_ip.filter(|_| port_of(view, floating).is_some()).into()
        }),
        ruled::<Self>("qos_policy_id", QOS_POLICY, |_, floating| (&floating.qos_policy).into()),
        shown::<Self>("qos_network_policy_id", |view, floating| qos_policies::of_network(view, &floating.network_id)),
        shown::<Self>("router_id", |view, floating| {
            floating.router_id.as_ref().filter(|_| leads(view, floating)).into()
        }),
        shown::<Self>("status", |view, floating| if leads(view, floating) { "ACTIVE" } else { "DOWN" }.into()),
        shown::<Self>("port_details", |view, floating| port_of(view, floating).map(details).into()),
        shown::<Self>("port_forwardings", |view, floating| port_forwardings::shown_with(view.snapshot, floating)),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let network: Network = referred(plan, request, &body.required_reference("floating_network_id")?)?;
        if !rbac_policies::leads_out(&View::new(&plan.rows, &request.who), &network) {
            let message = format!("Network {} is not a valid external network", network.id);
            return Err(NeutronError::bad_request("floatingip", message));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let port = address_port(plan, request, &network, Holder::floating(&project, &id), body)?;
        let address = port.fixed_ips[0].ip;
        let mut floating = body.fill(FloatingIp {
            id,
            project_id: project,
            description: String::new(),
            network_id: network.id,
            address,
            address_port_id: port.id.clone(),
            qos_policy: None,
            port_id: None,
            fixed_ip: None,
            router_id: None,
            tags: Vec::new(),
            created_at: request.now,
            updated_at: request.now,
        });
        plan.put(port);
        qos_policies::set(plan, request, body, &mut floating.qos_policy)?;
        associate(plan, request, &mut floating, body)?;
        Ok(floating)
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        // It once had no other attribute, and an update of nothing still ends the association.
        if body.is_empty() {
            return dissociate(plan, value);
        }
        qos_policies::set(plan, request, body, &mut value.qos_policy)?;
        associate(plan, request, value, body)
    }

    fn delete(plan: &mut Plan, _ask: &Request, value: Self) -> Result<(), NeutronError> {
        check_forwards_nothing(plan, &value)?;
        port_forwardings::sweep(plan, &value.id);
        if let Some(port) = plan.get::<Port>(&value.address_port_id) {
            plan.remove(&port.key());
        }
        Ok(())
    }
}

/// The port to which it leads. One that went away with its server or pod takes the association with it, at once for whoever
/// looks.
fn port_of<'a>(view: &View<'a>, floating: &FloatingIp) -> Option<&'a Port> {
    view.snapshot.get::<Port>(floating.port_id.as_deref()?).map(|port| port.value)
}

/// It leads to a port, as a whole or by ports of its own.
fn leads(view: &View<'_>, floating: &FloatingIp) -> bool {
    port_of(view, floating).is_some() || port_forwardings::leading(view.snapshot, &floating.id).next().is_some()
}

/// What a floating IP shows of its port.
fn details(port: &Port) -> Json<'_> {
    let status = if port.status == PortStatus::Active { "ACTIVE" } else { "DOWN" };
    Json::object([
        ("name", (&port.name).into()),
        ("network_id", (&port.network_id).into()),
        ("mac_address", (&port.mac).into()),
        ("admin_state_up", port.admin_state_up.into()),
        ("status", status.into()),
        ("device_id", port.device_id().into()),
        ("device_owner", port.device_owner().into()),
    ])
}

/// The port that holds the address on the external network; it has at least one address.
fn address_port(
    plan: &mut Plan,
    request: &Request,
    network: &Network,
    holder: Holder,
    body: &Attributes,
) -> Result<Port, NeutronError> {
    let v4: Vec<Subnet> = plan
        .rows
        .find::<Subnet>(Index::Network, &network.id)
        .map(|s| s.value.clone())
        .filter(|s| s.base.is_ipv4())
        .collect();
    if v4.is_empty() {
        let message = format!("Network {} does not contain any IPv4 subnet", network.id);
        return Err(NeutronError::bad_request("floatingip", message));
    }
    let mut port = uses::bare(network, "", request.now);
    port.hold(holder);
    port.mac = ports::free_mac(plan, &port);
    let ip = body.ip("floating_ip_address").flatten();
    let subnet = body.reference("subnet_id");
    let tries: Vec<Wanted> = match (&ip, &subnet) {
        (None, None) => v4.iter().map(|s| Wanted { subnet: Some(Ref::sent(&s.id)), ip: None }).collect(),
        _ => vec![Wanted { subnet, ip }],
    };
    let exhausted = || {
        NeutronError::bad(
            "ExternalIpAddressExhausted",
            format!("Unable to find any IP address on external network {}.", network.id),
        )
    };
    let mut last = exhausted();
    for wanted in tries {
        match addresses::assign(plan, network, &port, Some(&[wanted])) {
            Ok(fixed) => {
                port.fixed_ips = fixed.into_iter().filter(|f| f.ip.is_ipv4()).collect();
                if !port.fixed_ips.is_empty() {
                    return Ok(port);
                }
            }
            Err(NeutronError::Own { kind: "IpAddressGenerationFailure", .. }) => last = exhausted(),
            Err(other) => last = other,
        }
    }
    Err(last)
}

fn check_forwards_nothing(plan: &Plan, floating: &FloatingIp) -> Result<(), NeutronError> {
    if port_forwardings::of(plan, &floating.id).next().is_some() {
        let message = format!("Floating IP {} in use by Port Forwarding resources.", floating.id);
        return Err(NeutronError::conflict("FipInUseByPortForwarding", message));
    }
    Ok(())
}

/// Leads the floating IP to no port.
fn dissociate(plan: &Plan, floating: &mut FloatingIp) -> Result<(), NeutronError> {
    floating.port_id = None;
    floating.fixed_ip = None;
    if port_forwardings::of(plan, &floating.id).next().is_none() {
        floating.router_id = None;
    }
    Ok(())
}

/// Leads the floating IP to the port asked for, or to none.
fn associate(
    plan: &mut Plan,
    request: &Request,
    floating: &mut FloatingIp,
    body: &Attributes,
) -> Result<(), NeutronError> {
    let fixed = body.ip("fixed_ip_address").flatten();
    let port = match body.reference_or_null("port_id") {
        None if fixed.is_none() => return Ok(()),
        None => floating.port_id.as_deref().map(Ref::sent),
        Some(port) => port,
    };
    let Some(named) = port else {
        if fixed.is_some() {
            let message = "fixed_ip_address cannot be specified without a port_id";
            return Err(NeutronError::bad_request("floatingip", message));
        }
        return dissociate(plan, floating);
    };
    check_forwards_nothing(plan, floating)?;
    let port: Port = referred_own(plan, request, &named)?;
    let port_id = port.id.clone();
    let (ip, subnet_id) = inner_address(&port, fixed)?;
    let router = router_between(plan, floating, &subnet_id).ok_or_else(|| {
        NeutronError::missing(
            "ExternalGatewayForFloatingIPNotFound",
            format!(
                "External network {} is not reachable from subnet {subnet_id}.  Therefore, cannot associate Port {port_id} with a Floating IP.",
                floating.network_id
            ),
        )
    })?;
    let rival = plan.rows.find::<FloatingIp>(Index::Owner, &port_id).find(|other| {
        other.value.id != floating.id
            && other.value.port_id.as_deref() == Some(&port_id)
            && other.value.fixed_ip == Some(ip)
    });
    if rival.is_some() {
        return Err(NeutronError::conflict(
            "FloatingIPPortAlreadyAssociated",
            format!(
                "Cannot associate floating IP {} ({}) with port {port_id} using fixed IP {ip}, as that fixed IP already has a floating IP on external network {}.",
                floating.address, floating.id, floating.network_id
            ),
        ));
    }
    plan.hold::<Port>(&port_id);
    plan.hold::<Router>(&router);
    floating.port_id = Some(port_id);
    floating.fixed_ip = Some(ip);
    floating.router_id = Some(router);
    Ok(())
}

/// The port's address to which the floating IP shall lead, and its subnet.
fn inner_address(port: &Port, wanted: Option<IpAddr>) -> Result<(IpAddr, String), NeutronError> {
    let bad = |message: String| NeutronError::bad_request("floatingip", message);
    if let Some(wanted) = wanted.filter(IpAddr::is_ipv6) {
        return Err(bad(format!(
            "Cannot process floating IP association with {wanted}, since that is not an IPv4 address"
        )));
    }
    let v4: Vec<_> = port.fixed_ips.iter().filter(|f| f.ip.is_ipv4()).collect();
    match (wanted, v4.as_slice()) {
        (Some(ip), all) => match all.iter().find(|f| f.ip == ip) {
            Some(fixed) => Ok((ip, fixed.subnet_id.clone())),
            None => Err(bad(format!("Port {} does not have fixed ip {ip}", port.id))),
        },
        (None, []) => Err(bad(format!("Cannot add floating IP to port {} that has no fixed IPv4 addresses", port.id))),
        (None, [one]) => Ok((one.ip, one.subnet_id.clone())),
        (None, _) => Err(bad(format!(
            "Port {} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a floating IP",
            port.id
        ))),
    }
}

/// The router of the floating IP's project that joins the subnet and the external network; the one that holds the
/// subnet's gateway address if there are several.
pub fn router_between(plan: &Plan, floating: &FloatingIp, subnet_id: &str) -> Option<String> {
    let subnet: Subnet = plan.get(subnet_id)?;
    let mut found: Vec<(bool, String)> = plan
        .rows
        .find::<Port>(Index::Network, &subnet.network_id)
        .filter_map(|port| {
            let fixed = port.value.fixed_ips.iter().find(|f| f.subnet_id == subnet_id)?;
            let Some(Holder::Interface(router)) = &port.value.holder else { return None };
            let router = plan.rows.at::<Router>(router)?;
            let out = router.value.gateway.as_ref()?.network_id == floating.network_id;
            let own = router.value.project_id == floating.project_id;
            (out && own).then(|| (Some(fixed.ip) != subnet.gateway_ip, router.value.id.clone()))
        })
        .collect();
    found.sort();
    found.into_iter().next().map(|(_, id)| id)
}

/// For Nova's view of floating IPs: makes one on an external network.
pub async fn allocate(call: &Call, project: &str, network: &Network) -> Result<String, Fault> {
    let body = json!({"floating_network_id": network.id});
    let made = async {
        let body = Attributes::post(FloatingIp::ATTRS, FloatingIp::ONE, &body, true)?;
        resource::make::<FloatingIp>(&Request::of(call)?, &[(project.to_owned(), body)]).await
    };
    let ids = made.await.map_err(NeutronError::into_fault)?;
    ids.into_iter().next().ok_or_else(|| Fault::Internal("no floating IP was made".into()))
}

/// Likewise: leads one to an address of a port, or nowhere.
pub async fn lead(call: &Call, id: &str, to: Option<(&Port, IpAddr)>) -> Result<(), Fault> {
    let body = match to {
        Some((port, ip)) => json!({"port_id": port.id, "fixed_ip_address": ip}),
        None => json!({"port_id": null}),
    };
    let led = async {
        let body = Attributes::put(FloatingIp::ATTRS, FloatingIp::ONE, &body, true)?;
        resource::change::<FloatingIp>(&Request::of(call)?, id, &body).await
    };
    led.await.map_err(NeutronError::into_fault)
}

/// Likewise: gives one back.
pub async fn release(call: &Call, id: &str) -> Result<(), Fault> {
    let released = async { resource::remove::<FloatingIp>(&Request::of(call)?, id).await };
    released.await.map_err(NeutronError::into_fault)
}
