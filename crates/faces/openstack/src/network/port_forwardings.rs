//! `/floatingips/{id}/port_forwardings`: single ports of a floating IP, or ranges of them, lead to ports inside. A floating
//! IP leads to a port as a whole or forwards ports, never both. Whoever changes a forwarding writes its floating IP, so that
//! two of them never take one port of it.

use std::net::IpAddr;

use gate::{Ref, View};
use model::{Fault, FloatingIp, Index, Kind, MAX_MOVED_PORTS, Port, PortForwarding, Resource, Router};

use super::attrs::{Attr, Is, field, ruled, standard};
use super::body::Attributes;
use super::error::{NeutronError, found, not_found};
use super::floatingips::router_between;
use super::request::{Plan, Request};
use super::resource::{self, NeutronResource, referred};
use crate::call::{Call, Reply};
use crate::json::Json;

impl NeutronResource for PortForwarding {
    const ONE: &'static str = "port_forwarding";
    const MANY: &'static str = "port_forwardings";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(protocol: Is::OneOf(&["tcp", "udp"])).required(),
        ruled::<Self>("internal_port_id", Is::Uuid(&[Kind::Port]), |_, value| (&value.port_id).into()).required(),
        ruled::<Self>("internal_ip_address", Is::IpOrNull, |_, value| value.address.into()),
        ruled::<Self>("internal_port", Is::Int(1, 65535), |_, value| single(value.internal).into()),
        ruled::<Self>("internal_port_range", Is::Text(11), |_, value| range(value.internal).into()),
        ruled::<Self>("external_port", Is::Int(1, 65535), |_, value| single(value.external).into()),
        ruled::<Self>("external_port_range", Is::Text(11), |_, value| range(value.external).into()),
    ];

    /// One whose port went away with its server or pod is gone, at once for whoever looks.
    fn is_gone(view: &View<'_>, value: &Self) -> bool {
        !leads(view.snapshot, value)
    }

    fn below(request: &Request, value: &Self) -> bool {
        value.floatingip_id == request.param(PARENT)
    }

    fn before_list(plan: &mut Plan, request: &Request) -> Result<(), NeutronError> {
        parent(plan, request).map(drop)
    }

    fn create(plan: &mut Plan, request: &Request, _project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let floating = own_parent(plan, request)?;
        let missing = |name| {
            NeutronError::http_bad(format!("Failed to parse request. Required attribute '{name}' not specified"))
        };
        let external = ports(body, "external_port")?.ok_or_else(|| missing("external_port"))?;
        let internal = ports(body, "internal_port")?.ok_or_else(|| missing("internal_port"))?;
        let port = body.required_reference("internal_port_id")?;
        let forwarding = body.fill(Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: floating.project_id.clone(),
            floatingip_id: floating.id.clone(),
            description: String::new(),
            protocol: String::new(),
            external,
            internal,
            port_id: String::new(),
            address: floating.address,
            created_at: request.now,
            updated_at: request.now,
        });
        if floating.port_id.as_deref().is_some_and(|id| plan.rows.get::<Port>(id).is_some()) {
            return Err(NeutronError::conflict(
                "FloatingIPPortAlreadyAssociated",
                format!(
                    "Cannot associate floating IP {} ({}) with port {}, as it already leads to a port.",
                    floating.address,
                    floating.id,
                    port.named()
                ),
            ));
        }
        aimed(plan, request, floating, forwarding, &port, body.ip("internal_ip_address").flatten())
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        let floating = own_parent(plan, request)?;
        value.external = ports(body, "external_port")?.unwrap_or(value.external);
        value.internal = ports(body, "internal_port")?.unwrap_or(value.internal);
        let port = body.reference("internal_port_id").unwrap_or_else(|| Ref::sent(&value.port_id));
        let same_port = port.is(&value.port_id);
        let address = body.ip("internal_ip_address").flatten().or_else(|| same_port.then_some(value.address));
        *value = aimed(plan, request, floating, value.clone(), &port, address)?;
        Ok(())
    }

    fn delete(plan: &mut Plan, request: &Request, value: Self) -> Result<(), NeutronError> {
        let mut floating = own_parent(plan, request)?;
        if of(plan, &floating.id).all(|other| other.id == value.id) {
            floating.router_id = None;
        }
        floating.updated_at = request.now;
        plan.put(floating);
        Ok(())
    }
}

/// The name under which [`below`] puts the floating IP's part of the path.
const PARENT: &str = "floatingip";

/// The handlers of all resources find a resource's id under `id`; here that is the floating IP's place in the path.
fn below(mut call: Call) -> Call {
    let floating = call.params.remove("id").unwrap_or_default();
    call.params.insert(PARENT.into(), floating);
    if let Some(own) = call.params.remove("forwarding") {
        call.params.insert("id".into(), own);
    }
    call
}

/// `GET /floatingips/{id}/port_forwardings`
pub async fn list(call: Call) -> Result<Reply, Fault> {
    resource::list::<PortForwarding>(below(call)).await
}

/// `POST /floatingips/{id}/port_forwardings`
pub async fn create(call: Call) -> Result<Reply, Fault> {
    resource::create::<PortForwarding>(below(call)).await
}

/// `GET /floatingips/{id}/port_forwardings/{forwarding}`
pub async fn show_one(call: Call) -> Result<Reply, Fault> {
    resource::show::<PortForwarding>(below(call)).await
}

/// `PUT /floatingips/{id}/port_forwardings/{forwarding}`
pub async fn update(call: Call) -> Result<Reply, Fault> {
    resource::update::<PortForwarding>(below(call)).await
}

/// `DELETE /floatingips/{id}/port_forwardings/{forwarding}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    resource::delete::<PortForwarding>(below(call)).await
}

/// Its port has its address still.
fn leads(rows: &model::Snapshot, value: &PortForwarding) -> bool {
    let port = rows.get::<Port>(&value.port_id);
    port.is_some_and(|port| port.value.fixed_ips.iter().any(|fixed| fixed.ip == value.address))
}

/// The port, if it is one.
fn single((first, last): (u16, u16)) -> Option<u16> {
    (first == last).then_some(first)
}

fn range((first, last): (u16, u16)) -> String {
    format!("{first}:{last}")
}

/// The forwardings of a floating IP, as the floating IP shows them.
pub fn shown_with<'a>(rows: &'a model::Snapshot, floating: &FloatingIp) -> Json<'a> {
    // Neutron shows ranges here only where there are some.
    let ranges = |ports: (u16, u16)| if single(ports).is_some() { Json::Absent } else { range(ports).into() };
    let one = |value: &'a PortForwarding| {
        Json::object([
            ("id", (&value.id).into()),
            ("protocol", (&value.protocol).into()),
            ("internal_port_id", (&value.port_id).into()),
            ("internal_ip_address", value.address.into()),
            ("internal_port", single(value.internal).into()),
            ("internal_port_range", ranges(value.internal)),
            ("external_port", single(value.external).into()),
            ("external_port_range", ranges(value.external)),
        ])
    };
    Json::list(leading(rows, &floating.id).map(one))
}

/// The forwardings of a floating IP that lead somewhere.
pub fn leading<'a>(rows: &'a model::Snapshot, floating: &str) -> impl Iterator<Item = &'a PortForwarding> + use<'a> {
    let all = rows.find::<PortForwarding>(Index::Owner, floating).map(|entry| entry.value);
    all.filter(|value| leads(rows, value))
}

pub fn of<'a>(plan: &'a Plan, floating: &str) -> impl Iterator<Item = &'a PortForwarding> + use<'a> {
    leading(&plan.rows, floating)
}

/// Removes the forwardings that lead to addresses which the port no longer has.
pub fn release(plan: &mut Plan, port: &Port, now: model::Time) {
    let gone: Vec<PortForwarding> = plan
        .rows
        .find::<PortForwarding>(Index::Owner, &port.id)
        .map(|entry| entry.value.clone())
        .filter(|value| !port.fixed_ips.iter().any(|fixed| fixed.ip == value.address))
        .collect();
    for value in gone {
        plan.remove(&value.key());
        let left = plan.rows.find::<PortForwarding>(Index::Owner, &value.floatingip_id).next().is_some();
        if let Some(mut floating) = plan.get::<FloatingIp>(&value.floatingip_id).filter(|_| !left) {
            floating.router_id = None;
            floating.updated_at = now;
            plan.put(floating);
        }
    }
}

/// Removes forwardings of the floating IP that lead nowhere any more.
pub fn sweep(plan: &mut Plan, floating: &str) {
    let all = plan.rows.find::<PortForwarding>(Index::Owner, floating).map(|entry| entry.value);
    let dead: Vec<_> = all.filter(|value| !leads(&plan.rows, value)).map(Resource::key).collect();
    for key in dead {
        plan.remove(&key);
    }
}

fn parent(plan: &Plan, request: &Request) -> Result<FloatingIp, NeutronError> {
    let id = request.param(PARENT);
    let view = View::new(&plan.rows, &request.who);
    let seen = plan.rows.get::<FloatingIp>(id).filter(|entry| FloatingIp::sees(&view, entry.value));
    found(seen, id).map(|entry| entry.value.clone())
}

/// The floating IP, if the caller may change it.
fn own_parent(plan: &Plan, request: &Request) -> Result<FloatingIp, NeutronError> {
    let floating = parent(plan, request)?;
    let view = View::new(&plan.rows, &request.who);
    if FloatingIp::changes(&view, &floating) { Ok(floating) } else { Err(not_found(FloatingIp::KIND, &floating.id)) }
}

fn bad(message: impl std::fmt::Display) -> NeutronError {
    NeutronError::bad_request("port_forwarding", message)
}

/// The ports of a request: one, or a range `first:last`.
fn ports(body: &Attributes, name: &str) -> Result<Option<(u16, u16)>, NeutronError> {
    let range_name = format!("{name}_range");
    let single = body.int(name).and_then(|port| u16::try_from(port).ok());
    match (single, body.text(&range_name)) {
        (Some(_), Some(_)) => Err(bad(format!("{name} and {range_name} cannot be given together"))),
        (Some(port), None) => Ok(Some((port, port))),
        (None, None) => Ok(None),
        (None, Some(text)) => {
            let (first, last) = text.split_once(':').unwrap_or((&text, &text));
            let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last => Ok(Some((first, last))),
                _ => Err(NeutronError::attribute(
                    &range_name,
                    format!("'{text}' is not a range of ports, such as 80:90."),
                )),
            }
        }
    }
}

/// The forwarding with the address to which it leads, if it can be; its floating IP is led over the router between.
fn aimed(
    plan: &mut Plan,
    request: &Request,
    mut floating: FloatingIp,
    mut forwarding: PortForwarding,
    named: &Ref<Port>,
    address: Option<IpAddr>,
) -> Result<PortForwarding, NeutronError> {
    let port = referred(plan, request, named)?;
    forwarding.port_id = port.id.clone();
    if !Port::changes(&View::new(&plan.rows, &request.who), &port) {
        return Err(not_found(Port::KIND, &port.id));
    }
    let fixed = inner(&port, address)?;
    forwarding.address = fixed.0;
    let router = router_between(plan, &floating, &fixed.1).ok_or_else(|| {
        bad(format!(
            "External network {} is not reachable from subnet {}. Cannot set Port forwarding for port {} with Floating IP {}",
            floating.network_id, fixed.1, port.id, floating.id
        ))
    })?;
    let others = of(plan, &floating.id).any(|other| other.id != forwarding.id);
    if let Some(set) = floating.router_id.as_ref().filter(|set| others && **set != router) {
        return Err(bad(format!(
            "The Floating IP {} had been set on router {set}, the internal Neutron port {} can not reach it",
            floating.id, port.id
        )));
    }
    let bound = plan.rows.find::<FloatingIp>(Index::Owner, &port.id).find(|other| {
        other.value.port_id.as_deref() == Some(&port.id) && other.value.fixed_ip == Some(forwarding.address)
    });
    if bound.is_some() {
        return Err(NeutronError::conflict(
            "PortHasBindingFloatingIP",
            format!(
                "Cannot create port forwarding to floating IP {} ({}) with port {} using fixed IP {}, as that port already has a binding floating IP.",
                floating.address, floating.id, port.id, forwarding.address
            ),
        ));
    }
    sweep(plan, &floating.id);
    check_ranges(&forwarding)?;
    check_rivals(plan, &forwarding)?;
    plan.hold::<Port>(&port.id);
    plan.hold::<Router>(&router);
    floating.router_id = Some(router);
    floating.updated_at = request.now;
    plan.put(floating);
    Ok(forwarding)
}

/// The address of the port that is asked for, or its first IPv4 one, with its subnet.
fn inner(port: &Port, wanted: Option<IpAddr>) -> Result<(IpAddr, String), NeutronError> {
    let v4: Vec<_> = port.fixed_ips.iter().filter(|fixed| fixed.ip.is_ipv4()).collect();
    let fixed = match wanted {
        _ if v4.is_empty() => {
            return Err(bad(format!("Requested internal port {} must allocate an IPv4 address at least", port.id)));
        }
        None => v4[0],
        Some(ip) => v4.iter().find(|fixed| fixed.ip == ip).ok_or_else(|| {
            bad(format!("Requested internal IP address {ip} is not suitable for internal neutron port {}", port.id))
        })?,
    };
    Ok((fixed.ip, fixed.subnet_id.clone()))
}

fn check_ranges(forwarding: &PortForwarding) -> Result<(), NeutronError> {
    let (outside, inside) = (forwarding.external, forwarding.internal);
    let size = |range: (u16, u16)| range.1 - range.0;
    if size(inside) != 0 && size(inside) != size(outside) {
        return Err(bad("The relation between internal and external ports does not match the pattern 1:N and N:N"));
    }
    if inside != outside && size(inside) >= MAX_MOVED_PORTS {
        return Err(bad(format!("A range that leads to ports of other numbers has at most {MAX_MOVED_PORTS} ports")));
    }
    Ok(())
}

/// No other forwarding has one of its ports, outside or inside.
fn check_rivals(plan: &Plan, forwarding: &PortForwarding) -> Result<(), NeutronError> {
    let overlap = |one: (u16, u16), other: (u16, u16)| one.0 <= other.1 && other.0 <= one.1;
    let other = |rival: &&PortForwarding| rival.id != forwarding.id && rival.protocol == forwarding.protocol;
    let duplicate = |values: String| {
        bad(format!(
            "A duplicate port forwarding entry with same attributes already exists, conflicting values are {values}"
        ))
    };
    let mut outside = of(plan, &forwarding.floatingip_id).filter(other);
    if let Some(rival) = outside.find(|rival| overlap(rival.external, forwarding.external)) {
        let (first, last) = rival.external;
        return Err(duplicate(format!(
            "{{'floatingip_id': '{}', 'external_port_range': '{first}:{last}', 'protocol': '{}'}}",
            rival.floatingip_id, rival.protocol
        )));
    }
    let inside = plan.rows.find::<PortForwarding>(Index::Owner, &forwarding.port_id).map(|entry| entry.value);
    let same =
        |rival: &&PortForwarding| rival.address == forwarding.address && overlap(rival.internal, forwarding.internal);
    if let Some(rival) = inside.filter(other).find(same) {
        let (first, last) = rival.internal;
        return Err(duplicate(format!(
            "{{'internal_port_id': '{}', 'internal_ip_address': '{}', 'internal_port_range': '{first}:{last}'}}",
            rival.port_id, rival.address
        )));
    }
    Ok(())
}
