//! What passes: to the namespace itself ([`input`]), and through it ([`forward`]), be it bridged or routed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::hostnet::Domain;

use super::groups::{Side, by_mark, dispatch, marked};
use super::translation::by_address;
use super::words::{ERRORS, FAMILIES, NEIGHBOURS, family, nfproto, protocol_name, set};
use crate::names;
use crate::nft::STALE;
use crate::ports::Guard;

/// What guests and the outside may ask of the namespace itself: DHCP, names, metadata, APIs and an echo.
pub fn input(out: &mut String, domain: &Domain, guards: &[Guard]) {
    line!(out, "chain input {{\ntype filter hook input priority filter; policy drop;");
    line!(out, "iifname lo accept");
    branches(out, domain);
    // It has no first packet by which to judge it.
    line!(out, "ct state invalid drop");
    line!(out, "{NEIGHBOURS}\n{ERRORS}");
    // Answers to what was begun in the namespace: probes.
    line!(out, "ct direction reply accept");
    // DHCP comes before a guest has an address by which its port could be told.
    line!(out, "iifname \"br*\" udp sport 68 udp dport 67 accept");
    line!(out, "iifname \"br*\" ip6 saddr fe80::/10 udp sport 546 udp dport 547 accept");
    // What a port may not begin, it may not begin with its gateway either.
    dispatch(out, domain, guards, Side::From);
    line!(out, "icmp type echo-request accept\nicmpv6 type echo-request accept");
    line!(out, "iifname \"br*\" meta l4proto {{ tcp, udp }} th dport 53 accept");
    if domain.metadata {
        line!(out, "iifname \"br*\" ip daddr 169.254.169.254 tcp dport 80 accept");
    }
    for api in &domain.apis {
        let family = family(api.address.is_ipv6());
        line!(out, "iifname \"br*\" {family} daddr {} tcp dport {} accept", api.address, api.port);
    }
    // A client that mistook the gateway for somebody else need not wait. The outside learns nothing.
    line!(out, "iifname \"br*\" meta l4proto tcp reject with tcp reset\n}}");
}

/// What goes from port to port, out, and in.
pub fn forward(out: &mut String, domain: &Domain, guards: &[Guard]) {
    let ruled: Vec<&Guard> = guards.iter().filter(|guard| guard.wire.rules.is_some()).collect();
    let wide: Vec<&Guard> = ruled.iter().copied().filter(|guard| guard.wide).collect();
    if !wide.is_empty() {
        // Of a wide port the mark tells, not the address; and only here, before the mark of the port to which the packet goes
        // takes its place. After the translation of destinations, so that the other side is known.
        line!(out, "chain wide {{\ntype filter hook prerouting priority 0;");
        marked(out, &wide, Side::From);
        line!(out, "}}");
    }
    line!(out, "chain forward {{\ntype filter hook forward priority filter; policy drop;");
    branches(out, domain);
    // It has no first packet by which to judge it.
    line!(out, "ct state invalid drop");
    line!(out, "{NEIGHBOURS}");
    stale(out, domain);
    line!(out, "{ERRORS}");
    // Behind a router that translates, the outside begins nothing but with floating addresses.
    for uplink in domain.uplinks.iter().filter(|uplink| uplink.snat) {
        let name = names::uplink(&uplink.router_id);
        line!(out, "iifname \"{name}\" meta nfproto ipv4 ct direction original ct status & dnat == 0 drop");
    }
    apart(out, domain);
    dispatch(out, domain, guards, Side::From);
    dispatch(out, domain, guards, Side::To);
    // Broadcasts go to many, each copy with the mark of the port to which it goes.
    if let Some(jumps) = by_mark(&ruled, Side::To) {
        line!(out, "meta pkttype {{ broadcast, multicast }} meta mark vmap {jumps}");
    }
    // To an address beyond the subnets, of which a wide port may have any.
    marked(out, &wide, Side::To);
    // The way out may carry less than guests believe, and not everybody hears of it.
    line!(out, "oifname \"up*\" tcp flags syn tcp option maxseg size set rt mtu");
    line!(out, "iifname \"up*\" tcp flags syn tcp option maxseg size set rt mtu");
    // No port's chain has dropped it.
    line!(out, "accept\n}}");
}

/// What comes to a trunk from its subports goes on by tags and never by the namespace, whose affair it is not.
fn branches(out: &mut String, domain: &Domain) {
    let mut wires = domain.bridges.iter().flat_map(|bridge| &bridge.ports);
    if wires.any(|wire| !wire.trunk.is_empty()) {
        line!(out, "iifname \"{}*\" drop", names::BRANCH);
    }
}

/// Networks of different address scopes do not reach each other, but by a floating address.
fn apart(out: &mut String, domain: &Domain) {
    for ipv6 in FAMILIES {
        let mut scopes: BTreeMap<Option<&str>, Vec<String>> = BTreeMap::new();
        for bridge in &domain.bridges {
            let name = format!("\"{}\"", names::bridge(&bridge.network_id));
            scopes.entry(bridge.address_scopes[usize::from(ipv6)].as_deref()).or_default().push(name);
        }
        for (scope, own) in scopes.iter().filter(|_| scopes.len() > 1) {
            let others = scopes.iter().filter(|(other, _)| *other != scope).flat_map(|(_, names)| names).cloned();
            if let (Some(own), Some(others)) = (set(own.iter().cloned()), set(others)) {
                let family = nfproto(ipv6);
                line!(out, "meta nfproto {family} iifname {own} oifname {others} ct status & dnat == 0 drop");
            }
        }
    }
}

/// Of a floating address whose ports are forwarded the flows that are still translated so; the rest is [`stale`].
pub fn forwarded(out: &mut String, domain: &Domain) {
    for (number, forwards) in by_address(domain).values().enumerate() {
        line!(out, "chain forwarded_{number} {{");
        for forward in forwards {
            let ((first, last), (inner_first, inner_last)) = (forward.ports, forward.inner_ports);
            line!(
                out,
                "meta l4proto {} ct original proto-dst {first}-{last} ct reply {} saddr {} ct reply proto-src {inner_first}-{inner_last} return",
                protocol_name(forward.protocol),
                family(forward.inner.is_ipv6()),
                forward.inner
            );
        }
        line!(out, "ct mark set {STALE:#x} drop\n}}");
    }
}

/// Flows through a translation that is gone (a floating address, a backend) are cut and marked, to be forgotten: conntrack
/// would translate them for as long as they last.
fn stale(out: &mut String, domain: &Domain) {
    let services = domain.services.iter();
    let backends = services.flat_map(|service| service.backends.iter().map(|backend| (service.address, backend.0)));
    let floating = domain.uplinks.iter().flat_map(|uplink| uplink.floating.iter().copied());
    let forwards = domain.uplinks.iter().flat_map(|uplink| &uplink.forwards);
    let forwarded = forwards.map(|forward| (forward.outer, forward.inner));
    let known: BTreeSet<(IpAddr, IpAddr)> = backends.chain(floating).chain(forwarded).collect();
    for ipv6 in FAMILIES {
        let family = family(ipv6);
        let pairs = known.iter().filter(|(outer, _)| outer.is_ipv6() == ipv6);
        let but = match set(pairs.map(|(outer, inner)| format!("{outer} . {inner}"))) {
            Some(pairs) => format!("ct original {family} daddr . ct reply {family} saddr != {pairs} "),
            None => String::new(),
        };
        line!(out, "meta nfproto {} ct status dnat {but}ct mark set {STALE:#x} drop", nfproto(ipv6));
        let numbered = by_address(domain).into_keys().enumerate().filter(|(_, outer)| outer.is_ipv6() == ipv6);
        if let Some(jumps) = set(numbered.map(|(number, outer)| format!("{outer} : jump forwarded_{number}"))) {
            line!(out, "meta nfproto {} ct status dnat ct original {family} daddr vmap {jumps}", nfproto(ipv6));
        }
    }
}
