//! A domain's rules as nft text: a pure function.
//!
//! No flow is let through because it was let through before. Every packet of a flow, in either direction, is judged by
//! the flow's first packet as conntrack remembers it: who began it (`ct original … saddr`), with whom, after translation
//! (`ct reply … saddr`), on which port. So a rule that goes takes its flows along in the same transaction, without a hunt
//! through the table of flows, and replies need no rule of their own. An ICMP error belongs to the flow that it is about.
//!
//! Conntrack does not exist in nftables' bridge family, so these rules are in the inet family, which sees bridged packets
//! through br_netfilter but not their bridge ports. Ports are therefore told apart by address, of which a domain has each
//! but once; the bridge family sees to it that each port uses only its own (anti-spoofing), and marks packets with the
//! port to which they go where the address does not tell: broadcast, multicast and wide allowed pairs.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use model::Direction;
use model::hostnet::{Bridge, Domain, Rule, Service, Uplink, Wire};

use crate::address::{Mac, Range, merge, number, parse_cidr, range, show, show_all};
use crate::names;
use crate::nft::STALE;
use crate::ports::{Guard, spans};

/// Marks below are numbers of ports that a packet goes to; from here on, of ports that it comes from.
const FROM: usize = 0x1_0000;

/// Writing to a string does not fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "ip6" } else { "ip" }
}

fn nfproto(ipv6: bool) -> &'static str {
    if ipv6 { "ipv6" } else { "ipv4" }
}

/// The whole rule set of a domain's namespace.
pub fn domain(domain: &Domain) -> String {
    let guards = crate::ports::guards(domain);
    let mut out = String::new();
    for family in ["inet", "bridge"] {
        line!(out, "table {family} braid\ndelete table {family} braid");
    }
    line!(out, "table inet braid {{");
    for guard in &guards {
        port_chains(&mut out, guard);
    }
    input(&mut out, domain, &guards);
    forward(&mut out, domain, &guards);
    translation(&mut out, domain);
    line!(out, "}}\ntable bridge braid {{");
    bridge(&mut out, domain, &guards);
    line!(out, "}}");
    out
}

/// Two chains of a port: what it may begin, and what others may begin with it. They return what is allowed.
fn port_chains(out: &mut String, guard: &Guard) {
    let Some(rules) = &guard.wire.rules else { return };
    for (direction, name) in [(Direction::Egress, "from"), (Direction::Ingress, "to")] {
        line!(out, "chain {name}_{} {{", guard.number);
        let matches: BTreeSet<String> =
            rules.iter().filter(|rule| rule.direction == direction).filter_map(allow).collect();
        for text in matches {
            line!(out, "{text} return");
        }
        line!(out, "drop\n}}");
    }
}

/// What a rule matches, on the flow's first packet. `None`: nothing.
fn allow(rule: &Rule) -> Option<String> {
    let side = match rule.direction {
        Direction::Ingress => "ct original",
        Direction::Egress => "ct reply",
    };
    let mut text = match &rule.remote {
        None => format!("meta nfproto {}", nfproto(rule.ipv6)),
        Some(cidrs) => {
            let parsed = cidrs.iter().filter_map(|cidr| parse_cidr(cidr)).filter(|cidr| cidr.0.is_ipv6() == rule.ipv6);
            let ranges = merge(parsed.map(|(address, prefix)| range(address, prefix)).collect());
            if ranges.is_empty() {
                return None;
            }
            format!("{side} {} saddr {{ {} }}", family(rule.ipv6), show_all(&ranges, rule.ipv6))
        }
    };
    // Neutron lets "icmp" stand for ICMPv6 in an IPv6 rule.
    let protocol = if rule.ipv6 && rule.protocol == Some(1) { Some(58) } else { rule.protocol };
    let Some(protocol) = protocol else { return Some(text) };
    let _ = write!(text, " meta l4proto {}", protocol_name(protocol));
    match (protocol, rule.ports) {
        (_, None) => {}
        (1 | 58, Some((kind, code))) => {
            // Conntrack keeps type and code of the first packet where others have the destination port.
            let (kind, code) = (u32::from(kind.min(255)), code.map(|code| u32::from(code.min(255))));
            let first = (kind << 8) | code.unwrap_or(0);
            let last = (kind << 8) | code.unwrap_or(255);
            let _ = write!(text, " ct original proto-dst {first}-{last}");
        }
        (6 | 17 | 33 | 132 | 136, Some((first, last))) => {
            let last = last.unwrap_or(first);
            if last < first {
                return None;
            }
            let _ = write!(text, " ct reply proto-src {first}-{last}");
        }
        // Ports of a protocol that has none: Neutron does not let such a rule be made.
        _ => {}
    }
    Some(text)
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        33 => "dccp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string(),
    }
}

const NEIGHBOURS: &str = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, \
    mld-listener-report, mld-listener-done, mld2-listener-report } accept";

/// Jumps by address into the chains of ports that guard the side: `from` or `to`.
fn dispatch(out: &mut String, domain: &Domain, guards: &[Guard], name: &str) {
    let side = if name == "from" { "ct original" } else { "ct reply" };
    for ipv6 in [false, true] {
        let spans = spans(domain, guards, ipv6);
        // Several ports with one address (a virtual address that moves): what either allows. They are few, so in line.
        let (single, shared): (Vec<_>, Vec<_>) = spans.into_iter().partition(|span| span.guards.len() == 1);
        let elements: Vec<String> = single
            .iter()
            .map(|span| format!("{} : jump {name}_{}", show(span.range, ipv6), guards[span.guards[0]].number))
            .collect();
        let family = family(ipv6);
        if !elements.is_empty() {
            line!(out, "{side} {family} saddr vmap {{ {} }}", elements.join(", "));
        }
        let direction = if name == "from" { Direction::Egress } else { Direction::Ingress };
        for span in shared {
            let rules = span.guards.iter().flat_map(|&guard| guards[guard].wire.rules.iter().flatten());
            let matches: BTreeSet<String> =
                rules.filter(|rule| rule.direction == direction).filter_map(allow).collect();
            line!(out, "{side} {family} saddr {} jump {{", show(span.range, ipv6));
            for text in matches {
                line!(out, "{text} return");
            }
            line!(out, "drop\n}}");
        }
    }
}

/// What guests and the outside may ask of the namespace itself: DHCP, names, metadata and an echo.
fn input(out: &mut String, domain: &Domain, guards: &[Guard]) {
    line!(out, "chain input {{\ntype filter hook input priority filter; policy drop;");
    line!(out, "iifname lo accept\nct state invalid drop\n{NEIGHBOURS}");
    line!(out, "meta l4proto {{ icmp, ipv6-icmp }} ct state related accept");
    // Answers to what was begun in the namespace: probes.
    line!(out, "ct direction reply accept");
    line!(out, "iifname \"br*\" udp sport 68 udp dport 67 accept");
    line!(out, "iifname \"br*\" ip6 saddr fe80::/10 udp sport 546 udp dport 547 accept");
    dispatch(out, domain, guards, "from");
    line!(out, "icmp type echo-request accept\nicmpv6 type echo-request accept");
    line!(out, "iifname \"br*\" meta l4proto {{ tcp, udp }} th dport 53 accept");
    if domain.metadata {
        line!(out, "iifname \"br*\" ip daddr 169.254.169.254 tcp dport 80 accept");
    }
    for api in &domain.apis {
        let family = family(api.address.is_ipv6());
        line!(out, "iifname \"br*\" {family} daddr {} tcp dport {} accept", api.address, api.port);
    }
    line!(out, "iifname \"br*\" meta l4proto tcp reject with tcp reset\n}}");
}

/// What is bridged and what is routed.
fn forward(out: &mut String, domain: &Domain, guards: &[Guard]) {
    let wide: Vec<&Guard> = guards.iter().filter(|guard| guard.wide && guard.wire.rules.is_some()).collect();
    if !wide.is_empty() {
        // After the translation of destinations, so that the other side is known.
        line!(out, "chain wide {{\ntype filter hook prerouting priority 0;");
        line!(out, "ct direction original meta mark vmap {{ {} }}\n}}", marks(&wide, FROM, "from"));
    }
    line!(out, "chain forward {{\ntype filter hook forward priority filter; policy drop;");
    line!(out, "ct state invalid drop\n{NEIGHBOURS}");
    stale(out, domain);
    line!(out, "meta l4proto {{ icmp, ipv6-icmp }} ct state related accept");
    for uplink in domain.uplinks.iter().filter(|uplink| uplink.snat) {
        let name = names::uplink(&uplink.router_id);
        line!(out, "iifname \"{name}\" meta nfproto ipv4 ct direction original ct status & dnat == 0 drop");
    }
    dispatch(out, domain, guards, "from");
    dispatch(out, domain, guards, "to");
    let ruled: Vec<&Guard> = guards.iter().filter(|guard| guard.wire.rules.is_some()).collect();
    if !ruled.is_empty() {
        line!(out, "meta pkttype {{ broadcast, multicast }} meta mark vmap {{ {} }}", marks(&ruled, 0, "to"));
    }
    if !wide.is_empty() {
        line!(out, "ct direction original meta mark vmap {{ {} }}", marks(&wide, 0, "to"));
    }
    line!(out, "oifname \"up*\" tcp flags syn tcp option maxseg size set rt mtu");
    line!(out, "iifname \"up*\" tcp flags syn tcp option maxseg size set rt mtu");
    line!(out, "accept\n}}");
}

fn marks(guards: &[&Guard], offset: usize, name: &str) -> String {
    let elements = guards.iter().map(|guard| format!("{} : jump {name}_{}", offset + guard.number, guard.number));
    elements.collect::<Vec<_>>().join(", ")
}

/// Flows through a translation that is gone (a floating address, a backend) are cut and marked, to be forgotten.
fn stale(out: &mut String, domain: &Domain) {
    for ipv6 in [false, true] {
        let mut pairs: BTreeSet<(IpAddr, IpAddr)> = BTreeSet::new();
        for service in domain.services.iter().filter(|service| service.address.is_ipv6() == ipv6) {
            pairs.extend(service.backends.iter().map(|backend| (service.address, backend.0)));
        }
        for (outer, inner) in domain.uplinks.iter().flat_map(|uplink| &uplink.floating) {
            if outer.is_ipv6() == ipv6 {
                pairs.insert((*outer, *inner));
            }
        }
        let family = family(ipv6);
        let known: Vec<String> = pairs.iter().map(|(outer, inner)| format!("{outer} . {inner}")).collect();
        let but = if known.is_empty() {
            String::new()
        } else {
            format!("ct original {family} daddr . ct reply {family} saddr != {{ {} }} ", known.join(", "))
        };
        line!(out, "meta nfproto {} ct status dnat {but}ct mark set {STALE:#x} drop", nfproto(ipv6));
    }
}

/// Service addresses, floating addresses and the way out.
fn translation(out: &mut String, domain: &Domain) {
    for (number, service) in domain.services.iter().enumerate() {
        if let Some(text) = backends(service) {
            line!(out, "chain service_{number} {{\n{text}\n}}");
        }
    }
    refuse(out, &domain.services);
    for hook in ["prerouting", "output"] {
        line!(out, "chain target_{hook} {{\ntype nat hook {hook} priority -100;");
        services(out, &domain.services);
        floating(out, &domain.uplinks, "daddr", "dnat", |outer, inner| (outer, inner));
        line!(out, "}}");
    }
    line!(out, "chain source {{\ntype nat hook postrouting priority srcnat;");
    own_backends(out, &domain.services);
    for uplink in &domain.uplinks {
        let name = names::uplink(&uplink.router_id);
        let one = std::slice::from_ref(uplink);
        floating(out, one, &format!("@{name}"), "snat", |outer, inner| (inner, outer));
        if uplink.snat && uplink.address.0.is_ipv4() {
            line!(out, "oifname \"{name}\" meta nfproto ipv4 snat ip to {}", uplink.address.0);
        }
    }
    line!(out, "}}");
}

fn floating(
    out: &mut String,
    uplinks: &[Uplink],
    place: &str,
    verb: &str,
    order: impl Fn(IpAddr, IpAddr) -> (IpAddr, IpAddr),
) {
    for ipv6 in [false, true] {
        let pairs = uplinks.iter().flat_map(|uplink| &uplink.floating).filter(|pair| pair.0.is_ipv6() == ipv6);
        let map: std::collections::BTreeMap<IpAddr, IpAddr> =
            pairs.map(|&(outer, inner)| order(outer, inner)).collect();
        if map.is_empty() {
            continue;
        }
        let family = family(ipv6);
        let elements: Vec<String> = map.iter().map(|(from, to)| format!("{from} : {to}")).collect();
        let (condition, side) = match place.strip_prefix('@') {
            Some(device) => (format!("oifname \"{device}\" "), "saddr"),
            None => (String::new(), place),
        };
        line!(out, "{condition}{verb} {family} to {family} {side} map {{ {} }}", elements.join(", "));
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
            let elements: Vec<String> =
                many.iter().enumerate().map(|(at, (address, port))| format!("{at} : {address} . {port}")).collect();
            let choice = if service.sticky {
                format!("jhash {family} saddr mod {} seed 0xb4a1d", many.len())
            } else {
                format!("numgen random mod {}", many.len())
            };
            Some(format!("{head} {choice} map {{ {} }}", elements.join(", ")))
        }
    }
}

fn has_ports(service: &Service) -> bool {
    matches!(service.protocol, 6 | 17 | 132)
}

fn services(out: &mut String, services: &[Service]) {
    for ipv6 in [false, true] {
        let mut seen = BTreeSet::new();
        let elements: Vec<String> = services
            .iter()
            .enumerate()
            .filter(|(_, service)| {
                service.address.is_ipv6() == ipv6 && has_ports(service) && backends(service).is_some()
            })
            .filter(|(_, service)| seen.insert((service.address, service.protocol, service.port)))
            .map(|(number, service)| format!("{} : goto service_{number}", key(service)))
            .collect();
        if !elements.is_empty() {
            line!(out, "{} daddr . meta l4proto . th dport vmap {{ {} }}", family(ipv6), elements.join(", "));
        }
    }
}

fn key(service: &Service) -> String {
    format!("{} . {} . {}", service.address, protocol_name(service.protocol), service.port)
}

/// Connections to a service without backends are refused, before anything is routed.
fn refuse(out: &mut String, services: &[Service]) {
    line!(out, "chain refuse {{\ntype filter hook prerouting priority mangle;");
    for ipv6 in [false, true] {
        let dead: BTreeSet<String> = services
            .iter()
            .filter(|service| service.address.is_ipv6() == ipv6 && has_ports(service) && backends(service).is_none())
            .map(key)
            .collect();
        if !dead.is_empty() {
            let family = family(ipv6);
            let dead = dead.into_iter().collect::<Vec<_>>().join(", ");
            line!(out, "meta l4proto tcp {family} daddr . meta l4proto . th dport {{ {dead} }} reject with tcp reset");
            line!(out, "{family} daddr . meta l4proto . th dport {{ {dead} }} reject");
        }
    }
    line!(out, "}}");
}

/// A backend that reaches itself through its service must not see its own address as the sender.
fn own_backends(out: &mut String, services: &[Service]) {
    for ipv6 in [false, true] {
        let backends = services.iter().flat_map(|service| &service.backends);
        let own: BTreeSet<IpAddr> = backends.map(|backend| backend.0).filter(|one| one.is_ipv6() == ipv6).collect();
        if !own.is_empty() {
            let family = family(ipv6);
            let own: Vec<String> = own.iter().map(|address| format!("{address} . {address}")).collect();
            line!(out, "{family} saddr . {family} daddr {{ {} }} masquerade", own.join(", "));
        }
    }
}

/// The bridge family: who may send as whom, and marks.
fn bridge(out: &mut String, domain: &Domain, guards: &[Guard]) {
    let mut entries = Vec::new();
    for guard in guards {
        if guard.wire.rules.is_some() {
            spoof(out, guard);
            entries.push(format!("\"{}\" : goto spoof_{}", guard.wire.device, guard.number));
        } else {
            entries.push(format!("\"{}\" : accept", guard.wire.device));
        }
    }
    for (number, bridge) in domain.bridges.iter().enumerate().filter(|(_, bridge)| !bridge.peers.is_empty()) {
        tunnel(out, bridge, number);
        entries.push(format!("\"{}\" : goto tunnel_{number}", names::tunnel(&bridge.network_id)));
    }
    // A device without an entry is one that is about to come or to go.
    line!(out, "chain prerouting {{\ntype filter hook prerouting priority -300; policy drop;");
    if !entries.is_empty() {
        line!(out, "iifname vmap {{ {} }}", entries.join(", "));
    }
    line!(out, "}}");
    let marks: Vec<String> =
        guards.iter().map(|guard| format!("\"{}\" : {}", guard.wire.device, guard.number)).collect();
    if !marks.is_empty() {
        line!(out, "chain forward {{\ntype filter hook forward priority -200;");
        line!(out, "meta mark set oifname map {{ {} }}\n}}", marks.join(", "));
    }
}

/// A port's own addresses, and nothing that only the network itself may say.
fn spoof(out: &mut String, guard: &Guard) {
    let wire = guard.wire;
    line!(out, "chain spoof_{} {{", guard.number);
    if guard.wide {
        line!(out, "meta mark set {}", FROM + guard.number);
    }
    line!(out, "udp sport 67 udp dport 68 drop\nudp sport 547 udp dport 546 drop");
    line!(out, "icmpv6 type {{ nd-router-advert, nd-redirect }} drop");
    for (mac, ranges) in sources(wire, false) {
        let ranges = show_all(&ranges, false);
        if !ranges.is_empty() {
            line!(out, "ether saddr {mac} arp saddr ether {mac} arp saddr ip {{ {ranges} }} accept");
            line!(out, "ether saddr {mac} ip saddr {{ {ranges} }} accept");
        }
        // A probe for an address, and the search for a DHCP server.
        line!(out, "ether saddr {mac} arp saddr ether {mac} arp saddr ip 0.0.0.0 accept");
        line!(out, "ether saddr {mac} ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept");
    }
    let six: Vec<(Mac, Vec<Range>)> = sources(wire, true)
        .into_iter()
        .map(|(mac, mut ranges)| {
            let own = number(mac.link_local().into());
            ranges.push((own, own));
            (mac, merge(ranges))
        })
        .collect();
    // A neighbour advertisement is about the address in it, whoever sends it. A pair that allows a whole network has too
    // many to name.
    for (mac, ranges) in &six {
        for (first, last) in ranges {
            let about = if first == last { format!("@th,64,128 {first:#x} ") } else { String::new() };
            line!(
                out,
                "ether saddr {mac} ip6 saddr {{ {} }} icmpv6 type nd-neighbor-advert {about}accept",
                show_all(ranges, true)
            );
        }
    }
    line!(out, "icmpv6 type nd-neighbor-advert drop");
    for (mac, ranges) in six {
        let ranges = show_all(&ranges, true);
        line!(out, "ether saddr {mac} ip6 saddr {{ {ranges} }} accept");
        line!(
            out,
            "ether saddr {mac} ip6 saddr :: icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, \
            mld2-listener-report }} accept"
        );
    }
    line!(out, "drop\n}}");
}

/// The MACs that a port may use, each with its addresses of a family.
fn sources(wire: &Wire, ipv6: bool) -> Vec<(Mac, Vec<Range>)> {
    let Some(own) = Mac::parse(&wire.mac) else { return Vec::new() };
    let fixed =
        wire.addresses.iter().map(|(address, _)| (own, (number(*address), number(*address)), address.is_ipv6()));
    let pairs = wire.allowed_pairs.iter().filter_map(|(mac, cidr)| {
        let (address, prefix) = parse_cidr(cidr)?;
        let mac = mac.as_deref().map_or(Some(own), Mac::parse)?;
        Some((mac, range(address, prefix), address.is_ipv6()))
    });
    let mut sources: std::collections::BTreeMap<Mac, Vec<Range>> = [(own, Vec::new())].into();
    for (mac, range, _) in fixed.chain(pairs).filter(|source| source.2 == ipv6) {
        sources.entry(mac).or_default().push(range);
    }
    sources.into_iter().map(|(mac, ranges)| (mac, merge(ranges))).collect()
}

/// Each host answers for the gateway itself: what is asked of it, and what it says, stays off the tunnel.
fn tunnel(out: &mut String, bridge: &Bridge, number: usize) {
    let own = bridge.addresses.iter().filter(|(address, _)| address.is_ipv4()).map(|(address, _)| address.to_string());
    let own = own.collect::<Vec<_>>().join(", ");
    let name = names::tunnel(&bridge.network_id);
    line!(out, "chain tunnel_{number} {{");
    if !own.is_empty() {
        line!(
            out,
            "arp operation request arp daddr ip {{ {own} }} drop\narp operation reply arp saddr ip {{ {own} }} drop"
        );
    }
    line!(out, "udp dport {{ 67, 68, 546, 547 }} drop\nicmpv6 type nd-router-advert drop\naccept\n}}");
    line!(out, "chain leave_{number} {{\ntype filter hook postrouting priority -300;");
    if !own.is_empty() {
        line!(out, "oifname \"{name}\" arp operation request arp daddr ip {{ {own} }} drop");
    }
    line!(out, "oifname \"{name}\" udp dport {{ 67, 68, 546, 547 }} drop");
    line!(out, "oifname \"{name}\" icmpv6 type {{ nd-router-solicit, nd-router-advert }} drop\n}}");
}

/// The host's own table: what leaves the external networks is masqueraded, and of the host itself guests reach nothing but
/// an echo and the TCP ports that it offers.
pub fn host(table: &str, externals: &[model::hostnet::External], prefix: &str, host_ports: &[u16]) -> String {
    let mut out = String::new();
    line!(out, "table inet {table}\ndelete table inet {table}\ntable inet {table} {{");
    line!(out, "chain input {{\ntype filter hook input priority filter;");
    for external in externals {
        let name = names::external(prefix, &external.network_id);
        line!(out, "iifname \"{name}\" ct direction reply accept\niifname \"{name}\" {NEIGHBOURS}");
        line!(
            out,
            "iifname \"{name}\" icmp type echo-request accept\niifname \"{name}\" icmpv6 type echo-request accept"
        );
        line!(out, "iifname \"{name}\" meta l4proto {{ icmp, ipv6-icmp }} ct state related accept");
        if !host_ports.is_empty() {
            let ports: Vec<String> = host_ports.iter().map(u16::to_string).collect();
            line!(out, "iifname \"{name}\" tcp dport {{ {} }} accept", ports.join(", "));
        }
        line!(out, "iifname \"{name}\" meta l4proto tcp reject with tcp reset\niifname \"{name}\" drop");
    }
    line!(out, "}}\nchain postrouting {{\ntype nat hook postrouting priority srcnat;");
    for external in externals {
        for (address, prefix) in &external.gateways {
            let ipv6 = address.is_ipv6();
            let (family, range) = (family(ipv6), show(range(*address, *prefix), ipv6));
            line!(out, "{family} saddr {range} {family} daddr != {range} masquerade");
        }
    }
    line!(out, "}}\n}}");
    out
}
