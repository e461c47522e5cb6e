//! What uses what: questions about rows that several resources ask, and the words in which they refuse. Below the resources,
//! which use each other enough.

use model::{FloatingIp, Holder, Index, Key, Kind, Network, Port, Router, Snapshot, Time};

use super::error::NeutronError;
use super::request::Plan;

/// The port belongs to a router.
pub fn is_routers(port: &Port) -> bool {
    port.holder.as_ref().and_then(Holder::router_id).is_some()
}

/// The port holds the address from which DHCP answers.
pub fn is_dhcp(port: &Port) -> bool {
    matches!(port.holder, Some(Holder::Dhcp(_)))
}

/// That something is attached to the port.
pub fn in_use(port: &Port) -> NeutronError {
    NeutronError::conflict(
        "PortInUse",
        format!(
            "Unable to complete operation on port {} for network {}. Port already has an attached device {}.",
            port.id,
            port.network_id,
            port.device_id()
        ),
    )
}

/// A port with nothing set but where it is and whose.
pub fn bare(network: &Network, project: &str, now: Time) -> Port {
    Port {
        project_id: project.to_owned(),
        mac: String::new(),
        port_security_enabled: false,
        ..Port::new(uuid::Uuid::new_v4().to_string(), network, now)
    }
}

/// Routers lead out by it, or addresses of it inwards.
pub fn has_gateways(plan: &Plan, network: &Network) -> bool {
    plan.rows.find::<Router>(Index::Network, &network.id).next().is_some()
        || plan.rows.find::<FloatingIp>(Index::Network, &network.id).next().is_some()
}

/// Something that has a policy.
pub struct PolicyUser {
    pub kind: Kind,
    pub id: String,
    pub project_id: String,
}

/// What has the policy. Looks through all there is: policies are changed seldom, and by administrators.
pub fn policy_users<'a>(rows: &'a Snapshot, policy: &'a Key) -> impl Iterator<Item = PolicyUser> + use<'a> {
    let has = move |of: &Option<Key>| of.as_ref() == Some(policy);
    let user = |kind, id: &str, project: &str| PolicyUser { kind, id: id.to_owned(), project_id: project.to_owned() };
    let networks = rows.all::<Network>().map(|entry| entry.value).filter(move |network| has(&network.qos_policy));
    let ports = rows.all::<Port>().map(|entry| entry.value).filter(move |port| has(&port.qos_policy));
    let floating = rows.all::<FloatingIp>().map(|entry| entry.value).filter(move |floating| has(&floating.qos_policy));
    let networks = networks.map(move |network| user(Kind::Network, &network.id, &network.project_id));
    let routers = rows.all::<Router>().map(|entry| entry.value);
    let routers = routers.filter(move |router| router.gateway.as_ref().is_some_and(|gateway| has(&gateway.qos_policy)));
    let routers = routers.map(move |router| user(Kind::Router, &router.id, &router.project_id));
    let ports = ports.map(move |port| user(Kind::Port, &port.id, &port.project_id));
    networks
        .chain(ports)
        .chain(routers)
        .chain(floating.map(move |fip| user(Kind::FloatingIp, &fip.id, &fip.project_id)))
}
