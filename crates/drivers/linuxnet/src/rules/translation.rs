//! Other addresses than a packet says: services, floating addresses and the way out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::hostnet::{Domain, Forward, Service, Uplink};

use super::words::{FAMILIES, family, protocol_name, set};
use crate::names;

pub fn chains(out: &mut String, domain: &Domain) {
    for (number, service) in domain.services.iter().enumerate() {
        if let Some(text) = backends(service) {
            line!(out, "chain service_{number} {{\n{text}\n}}");
        }
    }
    for (number, forwards) in by_address(domain).values().enumerate() {
        line!(out, "chain forward_{number} {{");
        for forward in forwards {
            line!(out, "{}", forwarded(forward));
        }
        line!(out, "}}");
    }
    refuse(out, &domain.services);
    // What comes from guests and from outside, and what this process itself begins in the namespace.
    for hook in ["prerouting", "output"] {
        line!(out, "chain target_{hook} {{\ntype nat hook {hook} priority -100;");
        services(out, &domain.services);
        for ipv6 in FAMILIES {
            if let Some(inward) = map(floating(&domain.uplinks, ipv6)) {
                let family = family(ipv6);
                line!(out, "dnat {family} to {family} daddr map {inward}");
            }
            let numbered = by_address(domain).into_keys().enumerate().filter(|(_, outer)| outer.is_ipv6() == ipv6);
            if let Some(jumps) = set(numbered.map(|(number, outer)| format!("{outer} : goto forward_{number}"))) {
                line!(out, "{} daddr vmap {jumps}", family(ipv6));
            }
        }
        line!(out, "}}");
    }
    line!(out, "chain source {{\ntype nat hook postrouting priority srcnat;");
    own_backends(out, &domain.services);
    for uplink in &domain.uplinks {
        way_out(out, uplink);
    }
    line!(out, "}}");
}

/// Floating addresses of a family, each with its inner one.
fn floating(uplinks: &[Uplink], ipv6: bool) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    uplinks.iter().flat_map(|uplink| &uplink.floating).copied().filter(move |pair| pair.0.is_ipv6() == ipv6)
}

/// Floating addresses whose ports are forwarded, each with what is.
pub fn by_address(domain: &Domain) -> BTreeMap<IpAddr, Vec<&Forward>> {
    let mut all: BTreeMap<IpAddr, Vec<&Forward>> = BTreeMap::new();
    let forwards = domain.uplinks.iter().flat_map(|uplink| &uplink.forwards);
    for forward in forwards.filter(|forward| forward.outer.is_ipv6() == forward.inner.is_ipv6()) {
        all.entry(forward.outer).or_default().push(forward);
    }
    all
}

/// The translation of some ports. nft does not reckon with ports, so those that get other numbers are in a map one by one.
fn forwarded(forward: &Forward) -> String {
    let Forward { protocol, ports: (first, last), inner, inner_ports: (inner_first, inner_last), .. } = forward;
    let family = family(inner.is_ipv6());
    let head = format!("meta l4proto {} th dport {first}-{last} dnat {family} to", protocol_name(*protocol));
    let address = if inner.is_ipv6() { format!("[{inner}]") } else { inner.to_string() };
    if inner_first == inner_last {
        return format!("{head} {address}:{inner_first}");
    }
    if first == inner_first {
        return format!("{head} {inner}");
    }
    let pairs = (*first..=*last).zip(*inner_first..=*inner_last).map(|(outer, inner)| format!("{outer} : {inner}"));
    format!("{head} {address} : th dport map {}", set(pairs).unwrap_or_default())
}

/// A map of addresses, each once, in order.
fn map(pairs: impl Iterator<Item = (IpAddr, IpAddr)>) -> Option<String> {
    let pairs: BTreeMap<IpAddr, IpAddr> = pairs.collect();
    set(pairs.iter().map(|(from, to)| format!("{from} : {to}")))
}

/// Who has a floating address goes out with it, the rest with the router's.
fn way_out(out: &mut String, uplink: &Uplink) {
    let name = names::uplink(&uplink.router_id);
    for ipv6 in FAMILIES {
        if let Some(outward) = map(floating(std::slice::from_ref(uplink), ipv6).map(|(outer, inner)| (inner, outer))) {
            let family = family(ipv6);
            line!(out, "oifname \"{name}\" snat {family} to {family} saddr map {outward}");
        }
    }
    if uplink.snat && uplink.address.0.is_ipv4() {
        line!(out, "oifname \"{name}\" meta nfproto ipv4 snat ip to {}", uplink.address.0);
    }
}

/// The translation of one service, if somebody answers.
fn backends(service: &Service) -> Option<String> {
    let ipv6 = service.address.is_ipv6();
    let targets: Vec<_> = service.backends.iter().filter(|(address, _)| address.is_ipv6() == ipv6).collect();
    let (family, protocol) = (family(ipv6), protocol_name(service.protocol));
    let head = format!("meta l4proto {protocol} dnat {family} to");
    match targets.as_slice() {
        [] => None,
        [(address, port)] if ipv6 => Some(format!("{head} [{address}]:{port}")),
        [(address, port)] => Some(format!("{head} {address}:{port}")),
        many => {
            let numbered = many.iter().enumerate();
            let targets = set(numbered.map(|(at, (address, port))| format!("{at} : {address} . {port}")))?;
            let choice = if service.sticky {
                // The same client, the same number.
                format!("jhash {family} saddr mod {} seed 0xb4a1d", many.len())
            } else {
                format!("numgen random mod {}", many.len())
            };
            Some(format!("{head} {choice} map {targets}"))
        }
    }
}

fn has_ports(service: &Service) -> bool {
    matches!(service.protocol, 6 | 17 | 132)
}

fn key(service: &Service) -> String {
    format!("{} . {} . {}", service.address, protocol_name(service.protocol), service.port)
}

/// One look-up, however many services there are.
fn services(out: &mut String, services: &[Service]) {
    for ipv6 in FAMILIES {
        let mut seen = BTreeSet::new();
        let numbered = services.iter().enumerate().filter(|(_, service)| {
            service.address.is_ipv6() == ipv6 && has_ports(service) && backends(service).is_some()
        });
        // Of two that have the same key, which nft would refuse, the first.
        let first = numbered.filter(|(_, service)| seen.insert(key(service)));
        if let Some(chains) = set(first.map(|(number, service)| format!("{} : goto service_{number}", key(service)))) {
            line!(out, "{} daddr . meta l4proto . th dport vmap {chains}", family(ipv6));
        }
    }
}

/// Connections to a service without backends are refused, before anything is routed.
fn refuse(out: &mut String, services: &[Service]) {
    line!(out, "chain refuse {{\ntype filter hook prerouting priority mangle;");
    for ipv6 in FAMILIES {
        let dead: BTreeSet<String> = services
            .iter()
            .filter(|service| service.address.is_ipv6() == ipv6 && has_ports(service) && backends(service).is_none())
            .map(key)
            .collect();
        if let Some(dead) = set(dead) {
            let family = family(ipv6);
            line!(out, "meta l4proto tcp {family} daddr . meta l4proto . th dport {dead} reject with tcp reset");
            line!(out, "{family} daddr . meta l4proto . th dport {dead} reject");
        }
    }
    line!(out, "}}");
}

/// A backend that reaches itself through its service must not see its own address as the sender.
fn own_backends(out: &mut String, services: &[Service]) {
    for ipv6 in FAMILIES {
        let backends = services.iter().flat_map(|service| &service.backends);
        let own: BTreeSet<IpAddr> = backends.map(|backend| backend.0).filter(|one| one.is_ipv6() == ipv6).collect();
        if let Some(own) = set(own.iter().map(|address| format!("{address} . {address}"))) {
            let family = family(ipv6);
            line!(out, "{family} saddr . {family} daddr {own} masquerade");
        }
    }
}
