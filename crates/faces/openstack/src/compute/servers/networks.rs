//! Which interfaces a server shall have: `networks` of a request resolved to networks and ports.

use std::net::IpAddr;

use gate::{Ref, View};
use model::{Change, Entry, Fault, Index, Network, NicRequest, Port, RbacAction, RbacPolicy, Resource, Subnet};
use serde_json::Value;

use super::requests::{self, port_of};
use crate::call::Call;
use crate::compute::body::{Fields, bad};
use crate::compute::fault::referred;
use crate::network::auto_allocated;

/// The interfaces asked for. Without `networks` (before 2.37) and with `auto`: the one network that the project has.
pub fn resolve(call: &Call, view: &View<'_>, asked: Option<&Value>) -> Result<Vec<NicRequest>, Fault> {
    let words = call.version >= (2, 37);
    match asked.filter(|value| !value.is_null()) {
        None if words => {
            Err(Fault::Invalid("Invalid input for field/attribute server. 'networks' is a required property".into()))
        }
        None => automatic(view, false),
        Some(Value::String(word)) if words && word == "auto" => automatic(view, true),
        Some(Value::String(word)) if words && word == "none" => Ok(Vec::new()),
        Some(Value::Array(list)) if list.is_empty() && !words => automatic(view, false),
        Some(Value::Array(list)) => {
            let mut seen: Vec<NicRequest> = Vec::new();
            for item in list {
                let nic = one(call, view, item)?;
                if nic.port_id.is_some() && seen.iter().any(|other| other.port_id == nic.port_id) {
                    return Err(Fault::Invalid("Port is used more than once.".into()));
                }
                seen.push(nic);
            }
            Ok(seen)
        }
        Some(other) => Err(bad("networks", other, "It is not valid under any of the given schemas")),
    }
}

/// Makes the network of a project that has none, for a request whose only want is that: all else is looked at before.
pub async fn allocate(call: &mut Call, body: &Value) -> Result<(), Fault> {
    let asks = call.version >= (2, 37) && body["server"]["networks"] == "auto";
    if !asks || usable(&call.view()?).next().is_some() {
        return Ok(());
    }
    let mut without = body.clone();
    without["server"]["networks"] = Value::from("none");
    requests::read(call, &without)?;
    auto_allocated::ensure(call).await.map_err(|fault| match fault {
        Fault::Conflict(why) | Fault::Forbidden(why) => {
            let project = call.who().ok().and_then(|who| who.project_id()).unwrap_or("").to_owned();
            Fault::Invalid(format!("Unable to automatically allocate a network for project {project}. {why}"))
        }
        other => other,
    })?;
    call.snapshot = call.cloud.store.snapshot();
    Ok(())
}

/// The project's own networks and those that an administrator shares with all. One that somebody gave it by a policy has to
/// be named: else a stranger's would be where servers go that name none.
fn usable<'a>(view: &View<'a>) -> impl Iterator<Item = Entry<'a, Network>> {
    let for_all =
        |network: &Entry<'_, Network>| RbacPolicy::is_for_all(view.snapshot, &network.row.key, RbacAction::Shared);
    let usable =
        move |network: &Entry<'_, Network>| (view.owns(network.value) || for_all(network)) && !network.external;
    view.snapshot.all::<Network>().filter(usable)
}

fn automatic(view: &View<'_>, needed: bool) -> Result<Vec<NicRequest>, Fault> {
    let mut networks = usable(view);
    match (networks.next(), networks.next()) {
        (None, _) if needed => Err(Fault::Invalid(format!(
            "Unable to automatically allocate a network for project {}",
            view.who.project_id().unwrap_or("")
        ))),
        (None, _) => Ok(Vec::new()),
        (Some(network), None) => {
            needs_subnet(view, &network)?;
            Ok(vec![NicRequest { network_id: Some(network.id.clone()), ..NicRequest::default() }])
        }
        (Some(_), Some(_)) => {
            Err(Fault::Conflict("Multiple possible networks found, use a Network ID to be more specific.".into()))
        }
    }
}

fn one(call: &Call, view: &View<'_>, item: &Value) -> Result<NicRequest, Fault> {
    let fields = Fields::new("networks", item)?;
    let tags = call.version == (2, 32) || call.version >= (2, 42);
    fields.only(if tags { &["uuid", "port", "fixed_ip", "tag"] } else { &["uuid", "port", "fixed_ip"] })?;
    let tag = fields.text("tag", 60)?.map(str::to_owned);
    if let Some(named) = fields.reference("port")? {
        if fields.get("fixed_ip").is_some() {
            return Err(Fault::Invalid(format!(
                "Specified Fixed IP '{}' cannot be used with port '{}': the two cannot be specified together.",
                fields.text("fixed_ip", 64)?.unwrap_or(""),
                named.named()
            )));
        }
        let words = format!("Port id {} could not be found.", named.named());
        let port = referred(port_of(view, &named), words)?;
        free(view, &port, view.who.project_id().unwrap_or(""))?;
        return Ok(NicRequest { port_id: Some(port.id.clone()), tag, ..NicRequest::default() });
    }
    let Some(named) = fields.reference("uuid")? else {
        return Err(Fault::Invalid(
            "Bad network format: missing 'uuid' or 'port' of the network to connect to.".into(),
        ));
    };
    let network = network(view, &named)?;
    let fixed_ip = fields.text("fixed_ip", 64)?.map(|text| address(view, &network, text)).transpose()?;
    let by_admin = view.who.is_admin();
    Ok(NicRequest { network_id: Some(network.id.clone()), fixed_ip, tag, port_id: None, by_admin })
}

/// A server of the project can have the port: it is of that project and nobody's yet, has an address, and is where servers
/// can be.
pub fn free(view: &View<'_>, port: &Port, project: &str) -> Result<(), Fault> {
    if port.project_id != project {
        return Err(Fault::Invalid(format!(
            "Port {} not usable for instance: it belongs to another project.",
            port.id
        )));
    }
    if !port.is_free() {
        return Err(Fault::Conflict(format!("Port {} is still in use.", port.id)));
    }
    if port.fixed_ips.is_empty() {
        return Err(Fault::Invalid(format!("Port {} requires a FixedIP in order to be used.", port.id)));
    }
    match view.snapshot.get::<Network>(&port.network_id) {
        Some(network) => inside(&network),
        None => Ok(()),
    }
}

/// The network that is named, if servers of the caller can be on it.
pub fn network<'a>(view: &View<'a>, named: &Ref<Network>) -> Result<Entry<'a, Network>, Fault> {
    let network = referred(view.refer(named), format!("Network {} could not be found.", named.named()))?;
    inside(&network)?;
    needs_subnet(view, &network)?;
    Ok(network)
}

/// What is written about somebody else's network holds only as long as that is shared with the caller.
pub fn hold(view: &View<'_>, network: &Network, change: &mut Change) {
    if view.who.is_admin() || view.owns(network) {
        return;
    }
    let project = view.who.project_id().unwrap_or_default();
    for policy in RbacPolicy::giving(view.snapshot, &network.key(), RbacAction::Shared, project) {
        change.expect(policy);
    }
}

fn inside(network: &Network) -> Result<(), Fault> {
    let words = || format!("It is not allowed to create an interface on external network {}", network.id);
    if network.external { Err(Fault::Forbidden(words())) } else { Ok(()) }
}

fn needs_subnet(view: &View<'_>, network: &Network) -> Result<(), Fault> {
    match view.snapshot.find::<Subnet>(Index::Network, &network.id).next() {
        Some(_) => Ok(()),
        None => Err(Fault::Invalid(format!("Network {} requires a subnet in order to boot instances on.", network.id))),
    }
}

/// A free address of one of the network's subnets.
pub fn address(view: &View<'_>, network: &Network, text: &str) -> Result<IpAddr, Fault> {
    let ip: IpAddr = text.parse().map_err(|_| Fault::Invalid(format!("Invalid fixed IP address ({text})")))?;
    if !view.snapshot.find::<Subnet>(Index::Network, &network.id).any(|subnet| subnet.contains(ip)) {
        return Err(Fault::Invalid(format!("Fixed IP {ip} is not a valid ip address for network {}.", network.id)));
    }
    // An address of one's choice on somebody else's network could be the one that all others take for the gateway.
    if !view.who.is_admin() && !view.owns(network) {
        let rule = "rule:create_port and rule:create_port:fixed_ips:ip_address";
        return Err(Fault::Forbidden(format!("({rule}) is disallowed by policy")));
    }
    let held = |port: Entry<'_, Port>| port.fixed_ips.iter().any(|fixed| fixed.ip == ip);
    if view.snapshot.find::<Port>(Index::Network, &network.id).any(held) {
        return Err(Fault::Invalid(format!(
            "Fixed IP address {ip} is already in use on instance or network {}.",
            network.id
        )));
    }
    Ok(ip)
}
