//! `/floatingips/{id}/port_forwardings`: single ports of a floating IP, or ranges of them, lead to ports inside. A floating
//! IP leads to a port as a whole or forwards ports, never both. Whoever changes a forwarding writes its floating IP, so that
//! two of them never take one port of it.

use std::net::IpAddr;

use gate::Ref;
use model::{Fault, FloatingIp, Index, MAX_MOVED_PORTS, Port, PortForwarding, Resource, Router};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan};
use super::attrs::{Attr, Body, DESCRIPTION, Is, free, shown};
use super::floatingips::router_between;
use super::noun::{self, Look, Noun, Standard, referred};
use super::trouble::{Trouble, found, not_found};
use crate::call::{Call, Reply};

const ATTRS: &[Attr] = &[
    shown("id"),
    free("description", DESCRIPTION),
    free("protocol", Is::OneOf(&["tcp", "udp"])).required(),
    free("internal_port_id", Is::Uuid).required(),
    free("internal_ip_address", Is::IpOrNull),
    free("internal_port", Is::Int(1, 65535)),
    free("internal_port_range", Is::Text(11)),
    free("external_port", Is::Int(1, 65535)),
    free("external_port_range", Is::Text(11)),
];

impl Noun for PortForwarding {
    const ONE: &'static str = "port_forwarding";
    const MANY: &'static str = "port_forwardings";

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(_look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        show(value, into);
    }

    fn standard(&self) -> Standard<'_> {
        Standard {
            id: &self.id,
            project_id: &self.project_id,
            name: None,
            description: &self.description,
            tags: None,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    fn updated_mut(&mut self) -> &mut model::Time {
        &mut self.updated_at
    }

    /// One whose port went away with its server or pod is gone, at once for whoever looks.
    fn sees(look: &Look<'_>, value: &Self) -> bool {
        look.view().sees(value) && leads(look.rows, value)
    }

    fn below(ask: &Ask, value: &Self) -> bool {
        value.floatingip_id == ask.param(PARENT)
    }

    fn before_list(plan: &mut Plan, ask: &Ask) -> Result<(), Trouble> {
        parent(plan, ask).map(drop)
    }

    fn create(plan: &mut Plan, ask: &Ask, _project: String, body: &Body) -> Result<Self, Trouble> {
        let floating = own_parent(plan, ask)?;
        let missing =
            |name| Trouble::http_bad(format!("Failed to parse request. Required attribute '{name}' not specified"));
        let external = ports(body, "external_port")?.ok_or_else(|| missing("external_port"))?;
        let internal = ports(body, "internal_port")?.ok_or_else(|| missing("internal_port"))?;
        let port = body.required_reference("internal_port_id")?;
        let forwarding = Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: floating.project_id.clone(),
            floatingip_id: floating.id.clone(),
            description: body.text("description").unwrap_or_default(),
            protocol: body.text("protocol").unwrap_or_default(),
            external,
            internal,
            port_id: String::new(),
            address: floating.address,
            created_at: ask.now,
            updated_at: ask.now,
        };
        if floating.port_id.as_deref().is_some_and(|id| plan.rows.get::<Port>(id).is_some()) {
            return Err(Trouble::conflict(
                "FloatingIPPortAlreadyAssociated",
                format!(
                    "Cannot associate floating IP {} ({}) with port {}, as it already leads to a port.",
                    floating.address,
                    floating.id,
                    port.named()
                ),
            ));
        }
        aimed(plan, ask, floating, forwarding, &port, body.ip("internal_ip_address").flatten())
    }

    fn update(plan: &mut Plan, ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        let floating = own_parent(plan, ask)?;
        body.set_text("description", &mut value.description);
        body.set_text("protocol", &mut value.protocol);
        value.external = ports(body, "external_port")?.unwrap_or(value.external);
        value.internal = ports(body, "internal_port")?.unwrap_or(value.internal);
        let port = body.reference("internal_port_id").unwrap_or_else(|| Ref::sent(&value.port_id));
        let same_port = port.is(&value.port_id);
        let address = body.ip("internal_ip_address").flatten().or_else(|| same_port.then_some(value.address));
        *value = aimed(plan, ask, floating, value.clone(), &port, address)?;
        Ok(())
    }

    fn delete(plan: &mut Plan, ask: &Ask, value: Self) -> Result<(), Trouble> {
        let mut floating = own_parent(plan, ask)?;
        if of(plan, &floating.id).all(|other| other.id == value.id) {
            floating.router_id = None;
        }
        floating.updated_at = ask.now;
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
    noun::list::<PortForwarding>(below(call)).await
}

/// `POST /floatingips/{id}/port_forwardings`
pub async fn create(call: Call) -> Result<Reply, Fault> {
    noun::create::<PortForwarding>(below(call)).await
}

/// `GET /floatingips/{id}/port_forwardings/{forwarding}`
pub async fn show_one(call: Call) -> Result<Reply, Fault> {
    noun::show::<PortForwarding>(below(call)).await
}

/// `PUT /floatingips/{id}/port_forwardings/{forwarding}`
pub async fn update(call: Call) -> Result<Reply, Fault> {
    noun::update::<PortForwarding>(below(call)).await
}

/// `DELETE /floatingips/{id}/port_forwardings/{forwarding}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    noun::delete::<PortForwarding>(below(call)).await
}

/// Its port has its address still.
fn leads(rows: &model::Snapshot, value: &PortForwarding) -> bool {
    let port = rows.get::<Port>(&value.port_id);
    port.is_some_and(|port| port.value.fixed_ips.iter().any(|fixed| fixed.ip == value.address))
}

/// What is particular to forwardings; their floating IP shows it too.
fn show(value: &PortForwarding, into: &mut Map<String, Value>) {
    into.insert("protocol".into(), json!(value.protocol));
    into.insert("internal_port_id".into(), json!(value.port_id));
    into.insert("internal_ip_address".into(), json!(value.address));
    for (name, (first, last)) in [("internal_port", value.internal), ("external_port", value.external)] {
        into.insert(name.into(), json!((first == last).then_some(first)));
        into.insert(format!("{name}_range"), json!(format!("{first}:{last}")));
    }
}

/// The forwardings of a floating IP, as the floating IP shows them.
pub fn shown_with(rows: &model::Snapshot, floating: &FloatingIp) -> Vec<Value> {
    let all = rows.find::<PortForwarding>(Index::Owner, &floating.id).map(|entry| entry.value);
    all.filter(|value| leads(rows, value))
        .map(|value| {
            let mut item = Map::new();
            item.insert("id".into(), json!(value.id));
            show(value, &mut item);
            // Neutron shows ranges here only where there are some.
            for name in ["internal_port", "external_port"] {
                if !item[name].is_null() {
                    item.remove(&format!("{name}_range"));
                }
            }
            Value::Object(item)
        })
        .collect()
}

/// The forwardings of a floating IP that lead somewhere.
pub fn of<'a>(plan: &'a Plan, floating: &'a str) -> impl Iterator<Item = &'a PortForwarding> {
    plan.rows.find::<PortForwarding>(Index::Owner, floating).map(|entry| entry.value).filter(|f| leads(&plan.rows, f))
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

fn parent(plan: &Plan, ask: &Ask) -> Result<FloatingIp, Trouble> {
    let id = ask.param(PARENT);
    let look = Look { rows: &plan.rows, who: &ask.who };
    let seen = plan.rows.get::<FloatingIp>(id).filter(|entry| FloatingIp::sees(&look, entry.value));
    found(seen, id).map(|entry| entry.value.clone())
}

/// The floating IP, if the caller may change it.
fn own_parent(plan: &Plan, ask: &Ask) -> Result<FloatingIp, Trouble> {
    let floating = parent(plan, ask)?;
    let look = Look { rows: &plan.rows, who: &ask.who };
    if FloatingIp::changes(&look, &floating) { Ok(floating) } else { Err(not_found(FloatingIp::KIND, &floating.id)) }
}

fn bad(message: impl std::fmt::Display) -> Trouble {
    Trouble::bad_request("port_forwarding", message)
}

/// The ports of a request: one, or a range `first:last`.
fn ports(body: &Body, name: &str) -> Result<Option<(u16, u16)>, Trouble> {
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
                _ => Err(Trouble::attribute(&range_name, format!("'{text}' is not a range of ports, such as 80:90."))),
            }
        }
    }
}

/// The forwarding with the address to which it leads, if it can be; its floating IP is led over the router between.
fn aimed(
    plan: &mut Plan,
    ask: &Ask,
    mut floating: FloatingIp,
    mut forwarding: PortForwarding,
    named: &Ref<Port>,
    address: Option<IpAddr>,
) -> Result<PortForwarding, Trouble> {
    let port = referred(plan, ask, named)?;
    forwarding.port_id = port.id.clone();
    if !Port::changes(&Look { rows: &plan.rows, who: &ask.who }, &port) {
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
        return Err(Trouble::conflict(
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
    floating.updated_at = ask.now;
    plan.put(floating);
    Ok(forwarding)
}

/// The address of the port that is asked for, or its first IPv4 one, with its subnet.
fn inner(port: &Port, wanted: Option<IpAddr>) -> Result<(IpAddr, String), Trouble> {
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

fn check_ranges(forwarding: &PortForwarding) -> Result<(), Trouble> {
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
fn check_rivals(plan: &Plan, forwarding: &PortForwarding) -> Result<(), Trouble> {
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
