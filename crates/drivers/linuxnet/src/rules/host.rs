//! The host's own table, for its external networks.

use model::hostnet::External;

use super::words::{ERRORS, NEIGHBOURS, family, set, show};
use crate::names;
use driver::address::range;

/// What leaves the external networks is masqueraded, and of the host itself guests reach nothing but an echo and the TCP
/// ports that it offers.
pub fn host(table: &str, externals: &[External], prefix: &str, host_ports: &[u16]) -> String {
    let mut out = String::new();
    // A table must be there to be deleted.
    line!(out, "table inet {table}\ndelete table inet {table}\ntable inet {table} {{");
    // The host has rules of its own for the rest: nothing is dropped that is not from an external network.
    line!(out, "chain input {{\ntype filter hook input priority filter;");
    for external in externals {
        let from = format!("iifname \"{}\"", names::external(prefix, &external.network_id));
        // Answers to what the host began.
        line!(out, "{from} ct direction reply accept");
        line!(out, "{from} {NEIGHBOURS}");
        line!(out, "{from} icmp type echo-request accept\n{from} icmpv6 type echo-request accept");
        line!(out, "{from} {ERRORS}");
        if let Some(ports) = set(host_ports.iter().map(u16::to_string)) {
            line!(out, "{from} tcp dport {ports} accept");
        }
        // A client that mistook the host for somebody else need not wait.
        line!(out, "{from} meta l4proto tcp reject with tcp reset\n{from} drop");
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
