//! A domain's rules as nft text: a pure function.
//!
//! No flow is let through because it was let through before. Every packet of a flow, in either direction, is judged by
//! the flow's first packet as conntrack remembers it: who began it (`ct original … saddr`), with whom, after translation
//! (`ct reply … saddr`), on which port. So a rule that goes takes its flows along in the same transaction, without a hunt
//! through the table of flows, and replies need no rule of their own. An ICMP error belongs to the flow that it is about.
//!
//! Ports whose groups are stateless are the exception: each packet to or from them is judged by what it says itself. Conntrack
//! follows their flows all the same, for translation; what the namespace answers them needs no rule, as for all.
//!
//! Conntrack does not exist in nftables' bridge family, so these rules are in the inet family, which sees bridged packets
//! through br_netfilter but not their bridge ports. Ports are therefore told apart by address, of which a domain has each
//! but once; the bridge family sees to it that each port uses only its own (anti-spoofing), and marks packets with the
//! port to which they go where the address does not tell: broadcast, multicast and wide allowed pairs.
//!
//! A packet of a port meets, in this order: [`bridge`] (is it who it says?), [`translation`] (service and floating
//! addresses), then [`filter`] (may it pass?), which asks the ports' own chains, [`groups`]. [`limits`] holds floating
//! addresses to their rates. [`host`] is another table: that
//! of the host's own namespace.

/// Writing to a string does not fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => { { use std::fmt::Write as _; let _ = writeln!($out, $($text)*); } };
}

mod bridge;
mod filter;
mod groups;
mod host;
mod limits;
mod translation;
mod words;

use model::hostnet::Domain;

pub use host::host;

/// The whole rule set of a domain's namespace.
pub fn domain(domain: &Domain) -> String {
    let guards = crate::ports::guards(domain);
    let mut out = String::new();
    // A table must be there to be deleted.
    for family in ["inet", "bridge"] {
        line!(out, "table {family} braid\ndelete table {family} braid");
    }
    line!(out, "table inet braid {{");
    groups::sets(&mut out, domain, &guards);
    for guard in &guards {
        groups::chains(&mut out, guard);
    }
    filter::forwarded(&mut out, domain);
    filter::input(&mut out, domain, &guards);
    filter::forward(&mut out, domain, &guards);
    translation::chains(&mut out, domain);
    limits::chains(&mut out, domain);
    line!(out, "}}\ntable bridge braid {{");
    bridge::chains(&mut out, domain, &guards);
    line!(out, "}}");
    out
}
