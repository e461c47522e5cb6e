//! Joining networks by a router, parting them again, and a router's further routes.

use gate::{Ref, View};
use model::{Fault, FixedIp, FloatingIp, Holder, Index, Network, Port, Resource, Router, Subnet};
use serde_json::{Value, json};

use super::body::is_uuid;
use super::cidr::Cidr;
use super::error::NeutronError;
use super::port_forwardings;
use super::ports;
use super::request::{Plan, Request};
use super::resource::{self, answer, changeable, referred, referred_own};
use super::routers::{change_routes, interfaces, overlap};
use super::trunks;
use super::uses;
use crate::call::{Call, Reply};

/// `PUT /routers/{id}/add_router_interface`
pub async fn add(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let (subnet, port) = (named::<Subnet>(&request, "subnet_id")?, named::<Port>(&request, "port_id")?);
        let done = request
            .commit(|plan| {
                let router: Router = changeable(plan, &request, request.param("id"), "add_router_interface")?;
                let port = match (&subnet, &port) {
                    (Some(_), Some(_)) => {
                        let message = "Cannot specify both subnet-id and port-id";
                        return Err(NeutronError::bad_request("router", message));
                    }
                    (Some(subnet), None) => add_by_subnet(plan, &request, &router, subnet)?,
                    (None, Some(port)) => add_by_port(plan, &request, &router, port)?,
                    (None, None) => {
                        let message = "Either subnet_id or port_id must be specified";
                        return Err(NeutronError::bad_request("router", message));
                    }
                };
                touch(plan, &request, router.clone());
                Ok(interface(&router, &port, subnet.as_ref()))
            })
            .await?;
        Ok(Reply::ok(done))
    })
    .await
}

/// `PUT /routers/{id}/remove_router_interface`
pub async fn remove(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let (subnet, port) = (named::<Subnet>(&request, "subnet_id")?, named::<Port>(&request, "port_id")?);
        if subnet.is_none() && port.is_none() {
            return Err(NeutronError::bad_request("router", "Either subnet_id or port_id must be specified"));
        }
        let done = request
            .commit(|plan| {
                let router: Router = changeable(plan, &request, request.param("id"), "remove_router_interface")?;
                let mut port = leaving(plan, &router, subnet.as_ref(), port.as_ref())?;
                let gone: Vec<FixedIp> = match &subnet {
                    // An interface on several IPv6 subnets leaves only the one that was named.
                    Some(id) => port.fixed_ips.iter().filter(|f| id.is(&f.subnet_id)).cloned().collect(),
                    None => port.fixed_ips.clone(),
                };
                for fixed in &gone {
                    check_unneeded(plan, &router, &fixed.subnet_id)?;
                }
                let reply = interface(&router, &port, subnet.as_ref());
                port.fixed_ips.retain(|fixed| !gone.contains(fixed));
                if port.fixed_ips.is_empty() {
                    plan.remove(&port.key());
                } else {
                    port.updated_at = request.now;
                    plan.put(port);
                }
                touch(plan, &request, router);
                Ok(reply)
            })
            .await?;
        Ok(Reply::ok(done))
    })
    .await
}

/// `PUT /routers/{id}/add_extraroutes`
pub async fn add_routes(call: Call) -> Result<Reply, Fault> {
    routes(call, true).await
}

/// `PUT /routers/{id}/remove_extraroutes`
pub async fn remove_routes(call: Call) -> Result<Reply, Fault> {
    routes(call, false).await
}

async fn routes(call: Call, add: bool) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let given = request.body.pointer("/router/routes").filter(|v| v.is_array()).cloned();
        let given = given.ok_or_else(|| NeutronError::http_bad("Invalid body: router.routes is a list of routes"))?;
        let verb = if add { "add_extraroutes" } else { "remove_extraroutes" };
        request
            .commit(|plan| {
                let mut router: Router = changeable(plan, &request, request.param("id"), verb)?;
                change_routes(plan, &mut router, &given, add)?;
                touch(plan, &request, router);
                Ok(())
            })
            .await?;
        resource::shown::<Router>(&request, request.param("id"))
    })
    .await
}

/// Every change of a router's interfaces also writes the router, so that two of them at once, which could overlap, race.
fn touch(plan: &mut Plan, request: &Request, mut router: Router) {
    router.updated_at = request.now;
    plan.put(router);
}

/// The row that the request names.
fn named<T: Resource>(request: &Request, name: &str) -> Result<Option<Ref<T>>, NeutronError> {
    match &request.body[name] {
        Value::Null => Ok(None),
        Value::String(id) if is_uuid(id) => Ok(Some(Ref::sent(id))),
        other => {
            let message = format!("'{}' is not a valid UUID", super::body::shown_value(other));
            Err(NeutronError::bad_request("router", message))
        }
    }
}

/// The interface as it is shown: on the subnet that the request named, or on all.
fn interface(router: &Router, port: &Port, subnet: Option<&Ref<Subnet>>) -> Value {
    let all = port.fixed_ips.iter().map(|fixed| fixed.subnet_id.as_str());
    let subnets: Vec<&str> = all.filter(|id| subnet.is_none_or(|subnet| subnet.is(id))).collect();
    json!({
        "id": router.id,
        "tenant_id": router.project_id,
        "project_id": router.project_id,
        "port_id": port.id,
        "network_id": port.network_id,
        "subnet_id": subnets.first(),
        "subnet_ids": subnets,
    })
}

pub(super) fn add_by_subnet(
    plan: &mut Plan,
    request: &Request,
    router: &Router,
    id: &Ref<Subnet>,
) -> Result<Port, NeutronError> {
    let subnet: Subnet = referred(plan, request, id)?;
    let Some(gateway) = subnet.gateway_ip else {
        return Err(NeutronError::bad_request("router", "Subnet for router interface must have a gateway IP"));
    };
    let network: Network = plan.need(&subnet.network_id)?;
    may_join(plan, request, &network)?;
    // On a shared network of somebody else a router has a port like anybody; its gateway is its owner's to give.
    if !request.who.is_admin() && !View::new(&plan.rows, &request.who).owns(&network) {
        let message = format!(
            "Cannot add interface to router because subnet {} is not owned by project making the request",
            subnet.id
        );
        return Err(NeutronError::bad_request("router", message));
    }
    check_new(plan, router, &[&subnet])?;
    let taken = plan
        .rows
        .find::<Port>(Index::Network, &network.id)
        .any(|port| port.value.fixed_ips.iter().any(|fixed| fixed.ip == gateway));
    if taken {
        return Err(NeutronError::conflict(
            "IpAddressInUse",
            format!("Unable to complete operation for network {}. The IP address {gateway} is in use.", network.id),
        ));
    }
    let fixed = FixedIp { subnet_id: subnet.id.clone(), ip: gateway };
    // IPv6 subnets of one network share one interface.
    let shared = interfaces(plan, router).into_iter().find(|port| {
        subnet.base.is_ipv6() && port.network_id == network.id && port.fixed_ips.iter().any(|f| f.ip.is_ipv6())
    });
    let mut port = match shared {
        Some(port) => port,
        None => {
            let mut port = uses::bare(&network, &router.project_id, request.now);
            port.hold(Holder::interface(router));
            port.mac = ports::free_mac(plan, &port);
            port
        }
    };
    port.fixed_ips.push(fixed);
    port.updated_at = request.now;
    plan.put(port.clone());
    Ok(port)
}

fn add_by_port(plan: &mut Plan, request: &Request, router: &Router, id: &Ref<Port>) -> Result<Port, NeutronError> {
    let mut port: Port = referred_own(plan, request, id)?;
    if !port.is_free() {
        return Err(uses::in_use(&port));
    }
    // A router's port goes with its router, and has no device that could carry others.
    trunks::check_deleted(plan, &port)?;
    if port.fixed_ips.is_empty() {
        return Err(NeutronError::bad_request("router", "Router port must have at least one fixed IP"));
    }
    let subnets: Vec<Subnet> =
        port.fixed_ips.iter().map(|f| plan.need::<Subnet>(&f.subnet_id)).collect::<Result<_, _>>()?;
    if subnets.iter().filter(|s| s.base.is_ipv4()).count() > 1 {
        return Err(NeutronError::bad_request("router", "Cannot have multiple IPv4 subnets on router port"));
    }
    let network: Network = plan.need(&port.network_id)?;
    may_join(plan, request, &network)?;
    check_new(plan, router, &subnets.iter().collect::<Vec<_>>())?;
    port.hold(Holder::interface(router));
    port.security_groups.clear();
    port.allowed_address_pairs.clear();
    port.port_security_enabled = false;
    port.updated_at = request.now;
    ports::release_floating(plan, &Port { fixed_ips: Vec::new(), ..port.clone() }, request.now);
    plan.put(port.clone());
    Ok(port)
}

/// Others' networks that are only external are reached by a gateway, not by an interface.
fn may_join(plan: &Plan, request: &Request, network: &Network) -> Result<(), NeutronError> {
    let view = View::new(&plan.rows, &request.who);
    if request.who.is_admin() || view.owns(network) || view.is_given(network) {
        return Ok(());
    }
    Err(NeutronError::policy("rule:add_router_interface"))
}

fn check_new(plan: &Plan, router: &Router, new: &[&Subnet]) -> Result<(), NeutronError> {
    let mut all = interfaces(plan, router);
    all.extend(router.gateway.as_ref().and_then(|g| plan.get::<Port>(&g.port_id)));
    let old: Vec<Subnet> =
        all.iter().flat_map(|p| &p.fixed_ips).filter_map(|f| plan.get::<Subnet>(&f.subnet_id)).collect();
    for subnet in new {
        if old.iter().any(|o| o.id == subnet.id) {
            let message = format!("Router already has a port on subnet {}", subnet.id);
            return Err(NeutronError::bad_request("router", message));
        }
        if let Some(hit) = old.iter().find(|o| Cidr::of(o).overlaps(&Cidr::of(subnet))) {
            return Err(overlap(&Cidr::of(subnet), &subnet.id, &Cidr::of(hit), &hit.id));
        }
    }
    Ok(())
}

/// The interface that shall go.
fn leaving(
    plan: &Plan,
    router: &Router,
    subnet: Option<&Ref<Subnet>>,
    port: Option<&Ref<Port>>,
) -> Result<Port, NeutronError> {
    let all = interfaces(plan, router);
    match (port, subnet) {
        (Some(id), subnet) => {
            let port = all.into_iter().find(|p| id.is(&p.id)).ok_or_else(|| {
                NeutronError::missing(
                    "RouterInterfaceNotFound",
                    format!("Router {} does not have an interface with id {}", router.id, id.named()),
                )
            })?;
            if let Some(subnet) = subnet
                && !port.fixed_ips.iter().any(|f| subnet.is(&f.subnet_id))
            {
                return Err(NeutronError::bad(
                    "SubnetMismatchForPort",
                    format!("Subnet on port {} does not match the requested subnet {}.", port.id, subnet.named()),
                ));
            }
            Ok(port)
        }
        (None, Some(id)) => {
            all.into_iter().find(|p| p.fixed_ips.iter().any(|f| id.is(&f.subnet_id))).ok_or_else(|| {
                NeutronError::missing(
                    "RouterInterfaceNotFoundForSubnet",
                    format!("Router {} has no interface on subnet {}", router.id, id.named()),
                )
            })
        }
        (None, None) => Err(NeutronError::bad_request("router", "Either subnet_id or port_id must be specified")),
    }
}

/// Neither a floating IP nor a route needs the router's place on the subnet.
pub(super) fn check_unneeded(plan: &Plan, router: &Router, subnet_id: &str) -> Result<(), NeutronError> {
    let Some(subnet) = plan.get::<Subnet>(subnet_id) else { return Ok(()) };
    let floating = plan.rows.find::<FloatingIp>(Index::Owner, &router.id).any(|fip| {
        let port = fip.value.port_id.as_deref().and_then(|id| plan.rows.get::<Port>(id));
        let inside = |f: &FixedIp| f.subnet_id == subnet_id && Some(f.ip) == fip.value.fixed_ip;
        fip.value.router_id.as_deref() == Some(&router.id) && port.is_some_and(|p| p.value.fixed_ips.iter().any(inside))
    });
    let forwarded = plan.rows.find::<FloatingIp>(Index::Owner, &router.id).any(|fip| {
        fip.value.router_id.as_deref() == Some(&router.id)
            && port_forwardings::of(plan, &fip.value.id).any(|forwarding| subnet.contains(forwarding.address))
    });
    if floating || forwarded {
        return Err(NeutronError::conflict(
            "RouterInterfaceInUseByFloatingIP",
            format!(
                "Router interface for subnet {subnet_id} on router {} cannot be deleted, as it is required by one or more floating IPs.",
                router.id
            ),
        ));
    }
    if router.routes.iter().any(|(_, hop)| subnet.contains(*hop)) {
        return Err(NeutronError::conflict(
            "RouterInterfaceInUseByRoute",
            format!(
                "Router interface for subnet {subnet_id} on router {} cannot be deleted, as it is required by one or more routes.",
                router.id
            ),
        ));
    }
    Ok(())
}
