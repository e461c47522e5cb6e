//! `/routers`: the routers themselves, and their way out. Their interfaces are in [`super::interfaces`].

use std::net::IpAddr;

use gate::{Ref, View};
use model::{FloatingIp, Gateway, Holder, Index, Network, Port, QosPolicy, Resource, Router, Subnet};
use serde_json::Value;

use super::addresses;
use super::attrs::{Attr, Is, NAME, field, ruled, shown, standard};
use super::body::{Attributes, boolean};
use super::cidr::Cidr;
use super::error::NeutronError;
use super::port_forwardings;
use super::ports::{self, addresses_json};
use super::qos_policies::{self};
use super::rbac_policies;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, referred};
use super::subnets::{routes_json, routes_of};
use super::uses;
use crate::json::Json;

/// Neutron's limit.
const MAX_ROUTES: usize = 30;

impl NeutronResource for Router {
    const ONE: &'static str = "router";
    const MANY: &'static str = "routers";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME),
        field!(tags: Is::Tags).once(),
        field!(admin_state_up: Is::Bool),
        ruled::<Self>("external_gateway_info", Is::ObjectOrNull, |view, router| {
            router.gateway.as_ref().map(|gateway| gateway_json(view, gateway)).into()
        }),
        ruled::<Self>("routes", Is::ObjectList, |_, router| routes_json(&router.routes)).later(),
        shown::<Self>("status", |_, _| "ACTIVE".into()),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let mut router = body.fill(Router::new(uuid::Uuid::new_v4().to_string(), project, request.now));
        if let Some(info) = body.value("external_gateway_info") {
            set_gateway(plan, request, &mut router, info, "create")?;
        }
        Ok(router)
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        if let Some(info) = body.value("external_gateway_info") {
            set_gateway(plan, request, value, info, "update")?;
        }
        if let Some(routes) = body.value("routes") {
            value.routes = routes_of("routes", routes, MAX_ROUTES, |limit| too_many_routes(&value.id, limit))?;
            check_routes(plan, value)?;
        }
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Request, mut value: Self) -> Result<(), NeutronError> {
        if !interfaces(plan, &value).is_empty() {
            let message = format!("Router {} still has ports", value.id);
            return Err(NeutronError::conflict("RouterInUse", message));
        }
        drop_gateway(plan, &mut value)
    }
}

fn gateway_json<'a>(view: &View<'a>, gateway: &'a Gateway) -> Json<'a> {
    let port = view.snapshot.get::<Port>(&gateway.port_id);
    Json::object([
        ("network_id", (&gateway.network_id).into()),
        ("enable_snat", gateway.enable_snat.into()),
        ("qos_policy_id", (&gateway.qos_policy).into()),
        ("external_fixed_ips", addresses_json(port.map_or(&[], |port| &port.value.fixed_ips))),
    ])
}

pub fn too_many_routes(id: &str, limit: usize) -> NeutronError {
    NeutronError::bad(
        "RoutesExhausted",
        format!("Unable to complete operation for {id}. The number of routes exceeds the maximum {limit}."),
    )
}

/// Adds routes to those that a router has, or takes them away.
pub fn change_routes(plan: &Plan, router: &mut Router, given: &Value, add: bool) -> Result<(), NeutronError> {
    let routes = routes_of("routes", given, MAX_ROUTES, |limit| too_many_routes(&router.id, limit))?;
    if add {
        for route in routes {
            if !router.routes.contains(&route) {
                router.routes.push(route);
            }
        }
        if router.routes.len() > MAX_ROUTES {
            return Err(too_many_routes(&router.id, MAX_ROUTES));
        }
        check_routes(plan, router)
    } else {
        router.routes.retain(|route| !routes.contains(route));
        Ok(())
    }
}

/// The ports by which a router joins networks, in the order in which they were made.
pub fn interfaces(plan: &Plan, router: &Router) -> Vec<Port> {
    let mut ports: Vec<Port> = Port::interfaces(&plan.rows, router).map(|p| p.value.clone()).collect();
    ports.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    ports
}

/// Every next hop is a neighbour of the router and not the router itself.
pub fn check_routes(plan: &Plan, router: &Router) -> Result<(), NeutronError> {
    let mut ports = interfaces(plan, router);
    ports.extend(router.gateway.as_ref().and_then(|g| plan.get::<Port>(&g.port_id)));
    let own: Vec<IpAddr> = ports.iter().flat_map(|p| p.fixed_ips.iter().map(|f| f.ip)).collect();
    let subnets: Vec<Subnet> =
        ports.iter().flat_map(|p| &p.fixed_ips).filter_map(|f| plan.get::<Subnet>(&f.subnet_id)).collect();
    for (destination, hop) in &router.routes {
        let bad = |reason: &str| {
            NeutronError::bad("InvalidRoutes", format!("Invalid format for routes: {destination} via {hop}, {reason}"))
        };
        if !subnets.iter().any(|s| s.contains(*hop)) {
            return Err(bad("the nexthop is not connected with router"));
        }
        if own.contains(hop) {
            return Err(bad("the nexthop is used by router"));
        }
    }
    Ok(())
}

/// What a client says about a way out; `None`: there shall be none.
struct WayOut {
    network: Network,
    enable_snat: Option<bool>,
    qos_policy: Option<Option<Ref<QosPolicy>>>,
    fixed_ips: Option<Value>,
}

fn way_out(plan: &mut Plan, request: &Request, info: &Value, verb: &str) -> Result<Option<WayOut>, NeutronError> {
    let Some(info) = info.as_object().filter(|info| !info.is_empty()) else { return Ok(None) };
    let bad = |reason: String| NeutronError::attribute("external_gateway_info", reason);
    for name in info.keys() {
        match name.as_str() {
            "network_id" | "qos_policy_id" => {}
            "enable_snat" | "external_fixed_ips" if request.who.is_admin() => {}
            "enable_snat" | "external_fixed_ips" => {
                return Err(NeutronError::policy(&format!(
                    "(rule:{verb}_router and rule:{verb}_router:external_gateway_info:{name})"
                )));
            }
            other => return Err(bad(format!("'{other}' is not a key of a gateway."))),
        }
    }
    let no_id = |other: &Value| bad(format!("'{}' is not a valid UUID.", super::body::shown_value(other)));
    let id = match info.get("network_id") {
        Some(Value::String(id)) if super::body::is_uuid(id) => Ref::sent(id),
        None | Some(Value::Null) => return Ok(None),
        Some(other) => return Err(no_id(other)),
    };
    let qos_policy = match info.get("qos_policy_id") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(Value::String(id)) if super::body::is_uuid(id) => Some(Some(Ref::sent(id))),
        Some(other) => return Err(no_id(other)),
    };
    let enable_snat = match info.get("enable_snat") {
        None | Some(Value::Null) => None,
        Some(value) => Some(boolean(value).ok_or_else(|| bad("enable_snat is a boolean.".into()))?),
    };
    let network: Network = referred(plan, request, &id)?;
    if !rbac_policies::leads_out(&View::new(&plan.rows, &request.who), &network) {
        return Err(NeutronError::bad_request("router", format!("Network {} is not an external network", network.id)));
    }
    let fixed_ips = info.get("external_fixed_ips").filter(|v| !v.is_null()).cloned();
    Ok(Some(WayOut { network, enable_snat, qos_policy, fixed_ips }))
}

fn set_gateway(
    plan: &mut Plan,
    request: &Request,
    router: &mut Router,
    info: &Value,
    verb: &str,
) -> Result<(), NeutronError> {
    let Some(way) = way_out(plan, request, info, verb)? else { return drop_gateway(plan, router) };
    if let Some(gateway) = router.gateway.as_mut().filter(|g| g.network_id == way.network.id) {
        if let Some(snat) = way.enable_snat {
            gateway.enable_snat = snat;
        }
        qos_policies::give(plan, request, way.qos_policy, &mut gateway.qos_policy)?;
        if let Some(given) = &way.fixed_ips {
            let mut port: Port = plan.need(&gateway.port_id)?;
            let wanted = addresses::wanted(given)?;
            port.fixed_ips = addresses::assign(plan, &way.network, &port, Some(&wanted))?;
            port.updated_at = request.now;
            plan.put(port);
        }
        return Ok(());
    }
    drop_gateway(plan, router)?;
    check_no_overlap(plan, router, &way.network)?;
    let mut port = uses::bare(&way.network, "", request.now);
    port.hold(Holder::gateway(router));
    port.mac = ports::free_mac(plan, &port);
    let wanted = way.fixed_ips.as_ref().map(addresses::wanted).transpose()?;
    port.fixed_ips = addresses::assign(plan, &way.network, &port, wanted.as_deref())?;
    if port.fixed_ips.is_empty() {
        let message = format!("No IPs available for external network {}", way.network.id);
        return Err(NeutronError::bad_request("router", message));
    }
    let mut qos_policy = None;
    qos_policies::give(plan, request, way.qos_policy, &mut qos_policy)?;
    router.gateway = Some(Gateway {
        network_id: way.network.id.clone(),
        port_id: port.id.clone(),
        enable_snat: way.enable_snat.unwrap_or(true),
        qos_policy,
    });
    plan.put(port);
    Ok(())
}

/// A router cannot tell two networks with the same addresses apart.
fn check_no_overlap(plan: &Plan, router: &Router, network: &Network) -> Result<(), NeutronError> {
    let outer: Vec<Subnet> = plan.rows.find::<Subnet>(Index::Network, &network.id).map(|s| s.value.clone()).collect();
    for port in interfaces(plan, router) {
        for inner in port.fixed_ips.iter().filter_map(|f| plan.get::<Subnet>(&f.subnet_id)) {
            if let Some(hit) = outer.iter().find(|o| Cidr::of(o).overlaps(&Cidr::of(&inner))) {
                return Err(overlap(&Cidr::of(hit), &hit.id, &Cidr::of(&inner), &inner.id));
            }
        }
    }
    Ok(())
}

pub fn overlap(new: &Cidr, new_id: &str, old: &Cidr, old_id: &str) -> NeutronError {
    NeutronError::bad_request(
        "router",
        format!("Cidr {new} of subnet {new_id} overlaps with cidr {old} of subnet {old_id}"),
    )
}

fn drop_gateway(plan: &mut Plan, router: &mut Router) -> Result<(), NeutronError> {
    let Some(gateway) = router.gateway.take() else { return Ok(()) };
    let users = plan.rows.find::<FloatingIp>(Index::Owner, &router.id).map(|fip| fip.value);
    let users: Vec<FloatingIp> = users.filter(|fip| fip.router_id.as_deref() == Some(&router.id)).cloned().collect();
    if users.iter().any(|fip| fip.port_id.is_some() || port_forwardings::of(plan, &fip.id).next().is_some()) {
        return Err(NeutronError::conflict(
            "RouterExternalGatewayInUseByFloatingIp",
            format!(
                "Gateway cannot be updated for router {}, since a gateway to external network {} is required by one or more floating IPs.",
                router.id, gateway.network_id
            ),
        ));
    }
    // Those whose last forwarding went with its port.
    for mut idle in users {
        idle.router_id = None;
        plan.put(idle);
    }
    if let Some(port) = plan.get::<Port>(&gateway.port_id) {
        plan.remove(&port.key());
    }
    Ok(())
}
