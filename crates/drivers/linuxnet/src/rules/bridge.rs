//! The bridge family: who may send as whom, what stays off tunnels, and the marks of ports.

use std::collections::{BTreeMap, BTreeSet};

use model::hostnet::{Bridge, Domain, Wire};

use super::groups::FROM;
use super::words::{set, show_all};
use crate::names;
use crate::ports::Guard;
use driver::address::{Mac, Range, merge, number, parse_cidr, range};

pub fn chains(out: &mut String, domain: &Domain, guards: &[Guard]) {
    let mut entries = Vec::new();
    for guard in guards {
        if guard.wire.rules.is_some() {
            spoof(out, guard);
            entries.push(format!("\"{}\" : goto spoof_{}", guard.wire.device, guard.number));
        } else {
            // Port security is off.
            entries.push(format!("\"{}\" : accept", guard.wire.device));
        }
    }
    for (number, bridge) in domain.bridges.iter().enumerate().filter(|(_, bridge)| !bridge.peers.is_empty()) {
        tunnel(out, bridge, number);
        entries.push(format!("\"{}\" : goto tunnel_{number}", names::tunnel(&bridge.network_id)));
    }
    // A device without an entry is one that is about to come or to go.
    line!(out, "chain prerouting {{\ntype filter hook prerouting priority -300; policy drop;");
    // The inet family's rules do not see what is tagged, and who receives a tag of 0 takes the frame for untagged.
    line!(out, "vlan id 0-4095 drop\nether type 8021ad drop");
    metadata(out, guards);
    if let Some(entries) = set(entries) {
        line!(out, "iifname vmap {entries}");
    }
    line!(out, "}}");
    marking(out, guards);
    // Which port a packet goes to; before the inet family's rules for what is bridged.
    if let Some(marks) = set(guards.iter().map(|guard| format!("\"{}\" : {}", guard.wire.device, guard.number))) {
        line!(out, "chain forward {{\ntype filter hook forward priority -200;");
        line!(out, "meta mark set oifname map {marks}\n}}");
    }
}

/// What a port sends is marked, once it is known to be its own, and before anything reads the mark.
fn marking(out: &mut String, guards: &[Guard]) {
    let marked = || guards.iter().filter_map(|guard| Some((&guard.wire.device, guard.wire.qos.dscp?)));
    let Some(entries) = set(marked().map(|(device, dscp)| format!("\"{device}\" : goto dscp_{dscp}"))) else { return };
    for dscp in marked().map(|(_, dscp)| dscp).collect::<BTreeSet<_>>() {
        line!(out, "chain dscp_{dscp} {{\nip dscp set {dscp}\nip6 dscp set {dscp}\n}}");
    }
    line!(out, "chain marking {{\ntype filter hook prerouting priority -290;\niifname vmap {entries}\n}}");
}

/// Metadata is told by the source address: it is asked for with an address that the port has, and not with one that it may
/// use besides, which can be another port's; nor with whatever a port without security makes up.
fn metadata(out: &mut String, guards: &[Guard]) {
    let own = guards.iter().flat_map(|guard| {
        let v4 = guard.wire.addresses.iter().map(|(address, _)| address).filter(|address| address.is_ipv4());
        v4.map(|address| format!("\"{}\" . {address}", guard.wire.device))
    });
    let from = set(own).map(|own| format!(" iifname . ip saddr != {own}")).unwrap_or_default();
    line!(out, "ip daddr {}{from} drop", netserve::METADATA);
}

/// A port's own addresses, and nothing that only the network itself may say.
fn spoof(out: &mut String, guard: &Guard) {
    line!(out, "chain spoof_{} {{", guard.number);
    if guard.wide {
        line!(out, "meta mark set {}", FROM + guard.number);
    }
    // Nobody plays the DHCP server or the router.
    line!(out, "udp sport 67 udp dport 68 drop\nudp sport 547 udp dport 546 drop");
    line!(out, "icmpv6 type {{ nd-router-advert, nd-redirect }} drop");
    spoof_ipv4(out, guard.wire);
    spoof_ipv6(out, guard.wire);
    line!(out, "drop\n}}");
}

fn spoof_ipv4(out: &mut String, wire: &Wire) {
    for (mac, ranges) in sources(wire, false) {
        let ranges = show_all(&ranges, false);
        if !ranges.is_empty() {
            // ARP speaks for itself, whatever its frame says.
            line!(out, "ether saddr {mac} arp saddr ether {mac} arp saddr ip {{ {ranges} }} accept");
            line!(out, "ether saddr {mac} ip saddr {{ {ranges} }} accept");
        }
        // A probe for an address, and the search for a DHCP server.
        line!(out, "ether saddr {mac} arp saddr ether {mac} arp saddr ip 0.0.0.0 accept");
        line!(out, "ether saddr {mac} ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept");
    }
}

fn spoof_ipv6(out: &mut String, wire: &Wire) {
    let mut sources = sources(wire, true);
    for (mac, ranges) in &mut sources {
        let own = number(mac.link_local().into());
        ranges.push((own, own));
        *ranges = merge(std::mem::take(ranges));
    }
    // A neighbour advertisement is about the address in it, whoever sends it. A pair that allows a whole network has too
    // many to name.
    for (mac, ranges) in &sources {
        let all = show_all(ranges, true);
        for (first, last) in ranges {
            let about = if first == last { format!("@th,64,128 {first:#x} ") } else { String::new() };
            line!(out, "ether saddr {mac} ip6 saddr {{ {all} }} icmpv6 type nd-neighbor-advert {about}accept");
        }
    }
    line!(out, "icmpv6 type nd-neighbor-advert drop");
    // A host without an address asks whether somebody has it, for routers, and for groups.
    const FIRST: &str = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, mld2-listener-report }";
    for (mac, ranges) in sources {
        line!(out, "ether saddr {mac} ip6 saddr {{ {} }} accept", show_all(&ranges, true));
        line!(out, "ether saddr {mac} ip6 saddr :: {FIRST} accept");
    }
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
    let mut sources: BTreeMap<Mac, Vec<Range>> = [(own, Vec::new())].into();
    for (mac, range, _) in fixed.chain(pairs).filter(|source| source.2 == ipv6) {
        sources.entry(mac).or_default().push(range);
    }
    sources.into_iter().map(|(mac, ranges)| (mac, merge(ranges))).collect()
}

/// Each host answers for the gateway, DHCP and router advertisements itself: what is asked of them, and what they say, stays
/// off the tunnel, both when it comes (another host may be of another mind) and when it leaves.
fn tunnel(out: &mut String, bridge: &Bridge, number: usize) {
    let addresses = bridge.addresses.iter().map(|(address, _)| address);
    let gateways = set(addresses.filter(|address| address.is_ipv4()).map(ToString::to_string));
    let name = names::tunnel(&bridge.network_id);
    line!(out, "chain tunnel_{number} {{");
    if let Some(gateways) = &gateways {
        line!(out, "arp operation request arp daddr ip {gateways} drop");
        line!(out, "arp operation reply arp saddr ip {gateways} drop");
    }
    line!(out, "udp dport {{ 67, 68, 546, 547 }} drop\nicmpv6 type nd-router-advert drop\naccept\n}}");
    line!(out, "chain leave_{number} {{\ntype filter hook postrouting priority -300;");
    if let Some(gateways) = &gateways {
        line!(out, "oifname \"{name}\" arp operation request arp daddr ip {gateways} drop");
    }
    line!(out, "oifname \"{name}\" udp dport {{ 67, 68, 546, 547 }} drop");
    line!(out, "oifname \"{name}\" icmpv6 type {{ nd-router-solicit, nd-router-advert }} drop\n}}");
}
