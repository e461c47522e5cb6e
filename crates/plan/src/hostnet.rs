//! What the network of one host shall look like, compiled from the rows: which domains are there, with which bridges,
//! ports, rules, ways out, service addresses and names. A pure function with ordered output, so that the same rows always
//! give the same network, and a driver can compare.
//!
//! * [`wires`]: bridges and the ports plugged into them; [`rules`]: what security groups allow
//! * [`services`]: service addresses of Kubernetes clusters; [`zone`]: the names of a domain
//!
//! The search for domains begins at the ports of this host and follows routers: its cost depends on what is on the host,
//! not on how large the cloud is.

mod component;
mod rules;
mod services;
#[cfg(test)]
mod tests;
mod wires;
mod zone;

pub(crate) use services::{cluster_ips, is_api};

use std::collections::BTreeSet;
use std::net::IpAddr;

use component::Component;
use model::hostnet::{Domain, External, Forward, HostNetwork, Qos, Uplink};
use model::{FloatingIp, Host, Index, Network, Port, PortForwarding, QosPolicy, Router, Snapshot, Subnet};

/// The network of a host.
pub fn compile(snapshot: &Snapshot, host: &str) -> HostNetwork {
    let mut seeds: BTreeSet<&str> =
        snapshot.find::<Port>(Index::Host, host).map(|port| port.value.network_id.as_str()).collect();
    // The only host there is answers for every router's own address, with or without ports behind it.
    if !snapshot.all::<Host>().any(|h| h.value.name != host) {
        seeds.extend(
            snapshot.all::<Router>().filter(|r| r.value.gateway.is_some()).filter_map(|router| {
                Port::interfaces(snapshot, router.value).next().map(|p| p.value.network_id.as_str())
            }),
        );
    }
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut domains = Vec::new();
    for seed in seeds {
        if seen.contains(seed) {
            continue;
        }
        let Some(component) = Component::around(snapshot, seed) else { continue };
        seen.extend(component.networks.iter().map(|n| n.id.clone()));
        domains.push(domain(snapshot, host, &component));
    }
    domains.sort_by(|a, b| a.id.cmp(&b.id));
    let used: BTreeSet<&str> = domains.iter().flat_map(|d| &d.uplinks).map(|u| u.network_id.as_str()).collect();
    let externals = used.into_iter().filter_map(|id| external(snapshot, id)).collect();
    HostNetwork { domains, externals }
}

fn domain(snapshot: &Snapshot, host: &str, component: &Component<'_>) -> Domain {
    let routers = || component.routers.iter().filter(|r| r.admin_state_up);
    let mut routes: Vec<(String, IpAddr)> = routers().flat_map(|r| r.routes.iter().cloned()).collect();
    routes.sort();
    routes.dedup();
    let mut bridges: Vec<_> =
        component.networks.iter().map(|network| wires::bridge(snapshot, host, component, network)).collect();
    bridges.sort_by(|a, b| a.network_id.cmp(&b.network_id));
    Domain {
        id: component.id().to_owned(),
        groups: rules::groups(snapshot, component, &bridges),
        bridges,
        uplinks: routers().filter_map(|router| uplink(snapshot, router)).collect(),
        routes,
        services: services::of(snapshot, component),
        apis: services::apis(snapshot, component),
        zone: zone::of(snapshot, component),
        metadata: true,
    }
}

/// A router's way out, with the floating IPs that use it.
fn uplink(snapshot: &Snapshot, router: &Router) -> Option<Uplink> {
    let gateway = router.gateway.as_ref()?;
    let network = snapshot.get::<Network>(&gateway.network_id)?;
    let port = snapshot.get::<Port>(&gateway.port_id)?;
    let fixed = port.value.fixed_ips.iter().find(|f| f.ip.is_ipv4()).or_else(|| port.value.fixed_ips.first())?;
    let subnet = snapshot.get::<Subnet>(&fixed.subnet_id)?;
    let has = |port: &str, ip: IpAddr| {
        snapshot.get::<Port>(port).is_some_and(|port| port.value.fixed_ips.iter().any(|fixed| fixed.ip == ip))
    };
    let mut floating: Vec<(IpAddr, IpAddr)> = snapshot
        .find::<FloatingIp>(Index::Owner, &router.id)
        .map(|fip| fip.value)
        .filter(|fip| fip.router_id.as_deref() == Some(&router.id) && fip.network_id == gateway.network_id)
        .filter_map(|fip| {
            let ip = fip.fixed_ip?;
            has(fip.port_id.as_deref()?, ip).then_some((fip.address, ip))
        })
        .collect();
    floating.sort();
    let mut forwards: Vec<Forward> = snapshot
        .find::<FloatingIp>(Index::Owner, &router.id)
        .filter(|fip| fip.value.router_id.as_deref() == Some(&router.id) && fip.value.network_id == gateway.network_id)
        .flat_map(|fip| snapshot.find::<PortForwarding>(Index::Owner, &fip.value.id).map(move |f| (fip, f.value)))
        .filter(|(fip, f)| f.floatingip_id == fip.value.id && has(&f.port_id, f.address))
        .map(|(fip, f)| Forward {
            outer: fip.value.address,
            protocol: f.protocol_number(),
            ports: f.external,
            inner: f.address,
            inner_ports: f.internal,
        })
        .collect();
    forwards.sort();
    let used = |fip: &FloatingIp| {
        floating.iter().any(|pair| pair.0 == fip.address) || forwards.iter().any(|forward| forward.outer == fip.address)
    };
    let own = (fixed.ip, gateway.qos_policy.as_ref());
    let mut limits: Vec<(IpAddr, Qos)> = snapshot
        .find::<FloatingIp>(Index::Owner, &router.id)
        .map(|fip| fip.value)
        .filter(|fip| used(fip))
        .map(|fip| (fip.address, fip.qos_policy.as_ref()))
        .chain([own])
        .map(|(address, policy)| {
            let policy = policy.or(network.value.qos_policy.as_ref());
            // Marks are the ports'.
            (address, Qos { dscp: None, ..QosPolicy::effect_of(snapshot, policy) })
        })
        .filter(|(_, qos)| *qos != Qos::default())
        .collect();
    limits.sort_by_key(|(address, _)| *address);
    Some(Uplink {
        router_id: router.id.clone(),
        network_id: network.value.id.clone(),
        address: (fixed.ip, subnet.value.prefix),
        mac: port.value.mac.clone(),
        gateway: subnet.value.gateway_ip,
        snat: gateway.enable_snat,
        floating,
        limits,
        forwards,
        mtu: network.value.mtu,
    })
}

fn external(snapshot: &Snapshot, id: &str) -> Option<External> {
    let network = snapshot.get::<Network>(id)?;
    let mut gateways: Vec<(IpAddr, u8)> = snapshot
        .find::<Subnet>(Index::Network, id)
        .filter_map(|subnet| {
            let ip = subnet.value.gateway_ip.filter(|ip| subnet.value.contains(*ip))?;
            Some((ip, subnet.value.prefix))
        })
        .collect();
    gateways.sort();
    Some(External { network_id: id.to_owned(), gateways, mtu: network.value.mtu })
}
