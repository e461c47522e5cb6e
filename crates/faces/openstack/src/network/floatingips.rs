//! `/floatingips`

use std::net::IpAddr;

use gate::Ref;
use model::{Fault, FloatingIp, Holder, Index, Network, Port, QosPolicy, Resource, Router, Subnet, Time};
use serde_json::{Map, Value, json};

use super::addresses::{self, Wanted};
use super::ask::{Ask, Plan};
use super::attrs::{Attr, Body, DESCRIPTION, Is, free, shown};
use super::noun::{self, Look, Noun, Standard, referred, referred_own};
use super::port_forwardings;
use super::ports;
use super::qos_policies;
use super::rbac_policies;
use super::tags;
use super::trouble::Trouble;
use crate::call::Call;

const ATTRS: &[Attr] = &[
    shown("id"),
    free("description", DESCRIPTION),
    free("floating_network_id", Is::Uuid).once().required(),
    free("subnet_id", Is::UuidOrNull).once(),
    free("floating_ip_address", Is::IpOrNull).once().admin_sets(),
    free("port_id", Is::UuidOrNull),
    free("fixed_ip_address", Is::IpOrNull),
    qos_policies::ATTR,
    qos_policies::NETWORKS_ATTR,
    free("tags", Is::TextList).once(),
    shown("router_id"),
    shown("status"),
    shown("port_details"),
    shown("port_forwardings"),
];

impl Noun for FloatingIp {
    const ONE: &'static str = "floatingip";
    const MANY: &'static str = "floatingips";

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        // A port that went away with its server or pod takes the association with it, at once for whoever looks.
        let port = value.port_id.as_deref().and_then(|id| look.rows.get::<Port>(id));
        let fixed_ip = value.fixed_ip.filter(|_| port.is_some());
        let forwardings = port_forwardings::shown_with(look.rows, value);
        let leads = port.is_some() || !forwardings.is_empty();
        let router = value.router_id.as_deref().filter(|_| leads);
        let details = port.map(|port| {
            json!({
                "name": port.value.name,
                "network_id": port.value.network_id,
                "mac_address": port.value.mac,
                "admin_state_up": port.value.admin_state_up,
                "status": if port.value.status == model::PortStatus::Active { "ACTIVE" } else { "DOWN" },
                "device_id": port.value.device_id(),
                "device_owner": port.value.device_owner(),
            })
        });
        qos_policies::show(value.qos_policy.as_ref(), "qos_policy_id", into);
        let of_network = QosPolicy::of_network(look.rows, &value.network_id);
        qos_policies::show(of_network.as_ref(), "qos_network_policy_id", into);
        into.insert("floating_network_id".into(), json!(value.network_id));
        into.insert("floating_ip_address".into(), json!(value.address));
        into.insert("fixed_ip_address".into(), json!(fixed_ip));
        into.insert("port_id".into(), json!(port.map(|p| p.value.id.clone())));
        into.insert("router_id".into(), json!(router));
        into.insert("status".into(), json!(if leads { "ACTIVE" } else { "DOWN" }));
        into.insert("port_forwardings".into(), json!(forwardings));
        into.insert("port_details".into(), json!(details));
    }

    fn standard(&self) -> Standard<'_> {
        Standard {
            id: &self.id,
            project_id: &self.project_id,
            name: None,
            description: &self.description,
            tags: Some(&self.tags),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<String>> {
        Some(&mut self.tags)
    }

    fn updated_mut(&mut self) -> &mut Time {
        &mut self.updated_at
    }

    fn create(plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble> {
        let network: Network = referred(plan, ask, &body.required_reference("floating_network_id")?)?;
        if !rbac_policies::leads_out(&Look { rows: &plan.rows, who: &ask.who }, &network) {
            let message = format!("Network {} is not a valid external network", network.id);
            return Err(Trouble::bad_request("floatingip", message));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let port = address_port(plan, ask, &network, Holder::floating(&project, &id), body)?;
        let address = port.fixed_ips[0].ip;
        let mut floating = FloatingIp {
            id,
            project_id: project,
            description: body.text("description").unwrap_or_default(),
            network_id: network.id,
            address,
            address_port_id: port.id.clone(),
            qos_policy: None,
            port_id: None,
            fixed_ip: None,
            router_id: None,
            tags: tags::checked(body.texts("tags").unwrap_or_default())?,
            created_at: ask.now,
            updated_at: ask.now,
        };
        plan.put(port);
        qos_policies::set(plan, ask, body, &mut floating.qos_policy)?;
        associate(plan, ask, &mut floating, body)?;
        Ok(floating)
    }

    fn update(plan: &mut Plan, ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        body.set_text("description", &mut value.description);
        // It once had no other attribute, and an update of nothing still ends the association.
        if body.is_empty() {
            return dissociate(plan, value);
        }
        qos_policies::set(plan, ask, body, &mut value.qos_policy)?;
        associate(plan, ask, value, body)
    }

    fn delete(plan: &mut Plan, _ask: &Ask, value: Self) -> Result<(), Trouble> {
        check_forwards_nothing(plan, &value)?;
        port_forwardings::sweep(plan, &value.id);
        if let Some(port) = plan.get::<Port>(&value.address_port_id) {
            plan.remove(&port.key());
        }
        Ok(())
    }
}

/// The port that holds the address on the external network; it has at least one address.
fn address_port(plan: &mut Plan, ask: &Ask, network: &Network, holder: Holder, body: &Body) -> Result<Port, Trouble> {
    let v4: Vec<Subnet> = plan
        .rows
        .find::<Subnet>(Index::Network, &network.id)
        .map(|s| s.value.clone())
        .filter(|s| s.base.is_ipv4())
        .collect();
    if v4.is_empty() {
        let message = format!("Network {} does not contain any IPv4 subnet", network.id);
        return Err(Trouble::bad_request("floatingip", message));
    }
    let mut port = ports::bare(network, "", ask.now);
    port.hold(holder);
    port.mac = ports::free_mac(plan, &port);
    let ip = body.ip("floating_ip_address").flatten();
    let subnet = body.reference("subnet_id");
    let tries: Vec<Wanted> = match (&ip, &subnet) {
        (None, None) => v4.iter().map(|s| Wanted { subnet: Some(Ref::sent(&s.id)), ip: None }).collect(),
        _ => vec![Wanted { subnet, ip }],
    };
    let exhausted = || {
        Trouble::bad(
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
            Err(Trouble::Own { kind: "IpAddressGenerationFailure", .. }) => last = exhausted(),
            Err(other) => last = other,
        }
    }
    Err(last)
}

fn check_forwards_nothing(plan: &Plan, floating: &FloatingIp) -> Result<(), Trouble> {
    if port_forwardings::of(plan, &floating.id).next().is_some() {
        let message = format!("Floating IP {} in use by Port Forwarding resources.", floating.id);
        return Err(Trouble::conflict("FipInUseByPortForwarding", message));
    }
    Ok(())
}

/// Leads the floating IP to no port.
fn dissociate(plan: &Plan, floating: &mut FloatingIp) -> Result<(), Trouble> {
    floating.port_id = None;
    floating.fixed_ip = None;
    if port_forwardings::of(plan, &floating.id).next().is_none() {
        floating.router_id = None;
    }
    Ok(())
}

/// Leads the floating IP to the port asked for, or to none.
fn associate(plan: &mut Plan, ask: &Ask, floating: &mut FloatingIp, body: &Body) -> Result<(), Trouble> {
    let fixed = body.ip("fixed_ip_address").flatten();
    let port = match body.reference_or_null("port_id") {
        None if fixed.is_none() => return Ok(()),
        None => floating.port_id.as_deref().map(Ref::sent),
        Some(port) => port,
    };
    let Some(named) = port else {
        if fixed.is_some() {
            let message = "fixed_ip_address cannot be specified without a port_id";
            return Err(Trouble::bad_request("floatingip", message));
        }
        return dissociate(plan, floating);
    };
    check_forwards_nothing(plan, floating)?;
    let port: Port = referred_own(plan, ask, &named)?;
    let port_id = port.id.clone();
    let (ip, subnet_id) = inner_address(&port, fixed)?;
    let router = router_between(plan, floating, &subnet_id).ok_or_else(|| {
        Trouble::missing(
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
        return Err(Trouble::conflict(
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
fn inner_address(port: &Port, wanted: Option<IpAddr>) -> Result<(IpAddr, String), Trouble> {
    let bad = |message: String| Trouble::bad_request("floatingip", message);
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
        let body = Body::post(ATTRS, FloatingIp::ONE, &body, true)?;
        noun::make::<FloatingIp>(&Ask::of(call)?, &[(project.to_owned(), body)]).await
    };
    let ids = made.await.map_err(Trouble::into_fault)?;
    ids.into_iter().next().ok_or_else(|| Fault::Internal("no floating IP was made".into()))
}

/// Likewise: leads one to an address of a port, or nowhere.
pub async fn lead(call: &Call, id: &str, to: Option<(&Port, IpAddr)>) -> Result<(), Fault> {
    let body = match to {
        Some((port, ip)) => json!({"port_id": port.id, "fixed_ip_address": ip}),
        None => json!({"port_id": null}),
    };
    let led = async {
        let body = Body::put(ATTRS, FloatingIp::ONE, &body, true)?;
        noun::change::<FloatingIp>(&Ask::of(call)?, id, &body).await
    };
    led.await.map_err(Trouble::into_fault)
}

/// Likewise: gives one back.
pub async fn release(call: &Call, id: &str) -> Result<(), Fault> {
    let released = async { noun::remove::<FloatingIp>(&Ask::of(call)?, id).await };
    released.await.map_err(Trouble::into_fault)
}
