//! What security groups allow: two chains a port, and the way to them by address or mark.

use std::collections::BTreeSet;
use std::fmt::Write;

use model::Direction;
use model::hostnet::{Domain, Rule};

use super::words::{FAMILIES, family, nfproto, protocol_name, set, show, show_all};
use crate::ports::{Guard, Span, spans};
use driver::address::{Range, merge, parse_cidr, range};

/// Marks below are numbers of ports that a packet goes to; from here on, of ports that it comes from.
pub const FROM: usize = 0x1_0000;

/// Which of a port's two chains.
#[derive(Clone, Copy)]
pub enum Side {
    /// What it may begin.
    From,
    /// What others may begin with it.
    To,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Side::From => "from",
            Side::To => "to",
        }
    }

    const fn direction(self) -> Direction {
        match self {
            Side::From => Direction::Egress,
            Side::To => Direction::Ingress,
        }
    }

    const fn opposite(self) -> Side {
        match self {
            Side::From => Side::To,
            Side::To => Side::From,
        }
    }

    /// Where the port's own address is: in what conntrack keeps of the flow's first packet, or in the packet itself.
    fn own(self, stateless: bool, ipv6: bool) -> String {
        let family = family(ipv6);
        match (self, stateless) {
            (Side::From, false) => format!("ct original {family} saddr"),
            (Side::To, false) => format!("ct reply {family} saddr"),
            (Side::From, true) => format!("{family} saddr"),
            (Side::To, true) => format!("{family} daddr"),
        }
    }

    /// Where the other's address is.
    fn other(self, stateless: bool, ipv6: bool) -> String {
        self.opposite().own(stateless, ipv6)
    }
}

/// Groups as named sets: one member more is one in its set, not one in each rule that names it. A group that the domain does
/// not have is nobody.
pub fn sets(out: &mut String, domain: &Domain, guards: &[Guard]) {
    let rules = guards.iter().flat_map(|guard| guard.wire.rules.iter().flatten());
    let named: BTreeSet<&String> = rules.filter_map(|rule| rule.remote_group.as_ref()).collect();
    for (group, ipv6) in named.into_iter().flat_map(|group| FAMILIES.map(|ipv6| (group, ipv6))) {
        let addresses = domain.groups.get(group).into_iter().flatten();
        let ranges = ranges(addresses, ipv6);
        let kind = if ipv6 { "ipv6_addr" } else { "ipv4_addr" };
        line!(out, "set {} {{ type {kind}; flags interval;", set_name(group, ipv6));
        if !ranges.is_empty() {
            line!(out, "elements = {{ {} }}", show_all(&ranges, ipv6));
        }
        line!(out, "}}");
    }
}

/// Ids have hyphens, which names in nft have not.
fn set_name(group: &str, ipv6: bool) -> String {
    let id: String = group.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("group{}_{id}", if ipv6 { 6 } else { 4 })
}

/// The ranges of one family, as few as can be.
fn ranges<'a>(cidrs: impl IntoIterator<Item = &'a String>, ipv6: bool) -> Vec<Range> {
    let parsed = cidrs.into_iter().filter_map(|cidr| parse_cidr(cidr)).filter(|cidr| cidr.0.is_ipv6() == ipv6);
    merge(parsed.map(|(address, prefix)| range(address, prefix)).collect())
}

/// The chains of a port. They return what is allowed, for the other port of the flow has a word, too.
pub fn chains(out: &mut String, guard: &Guard) {
    let Some(rules) = &guard.wire.rules else { return };
    for side in [Side::From, Side::To] {
        line!(out, "chain {}_{} {{", side.name(), guard.number);
        verdicts(out, rules, side, guard.wire.stateless);
        line!(out, "}}");
    }
}

/// Returns what one of the rules allows, and drops the rest.
fn verdicts<'a>(out: &mut String, rules: impl IntoIterator<Item = &'a Rule>, side: Side, stateless: bool) {
    let rules = rules.into_iter().filter(|rule| rule.direction == side.direction());
    // Groups often say the same.
    let matches: BTreeSet<String> = rules.filter_map(|rule| matched(rule, side, stateless)).collect();
    for text in matches {
        line!(out, "{text} return");
    }
    line!(out, "drop");
}

/// What a rule matches, on the flow's first packet or on each. `None`: nothing.
fn matched(rule: &Rule, side: Side, stateless: bool) -> Option<String> {
    let other = side.other(stateless, rule.ipv6);
    let mut text = match &rule.remote {
        None => format!("meta nfproto {}", nfproto(rule.ipv6)),
        Some(cidr) => {
            let ranges = ranges([cidr], rule.ipv6);
            if ranges.is_empty() {
                return None;
            }
            format!("{other} {{ {} }}", show_all(&ranges, rule.ipv6))
        }
    };
    if let Some(group) = &rule.remote_group {
        let _ = write!(text, " {other} @{}", set_name(group, rule.ipv6));
    }
    // Neutron lets "icmp" stand for ICMPv6 in an IPv6 rule.
    let protocol = if rule.ipv6 && rule.protocol == Some(1) { Some(58) } else { rule.protocol };
    let Some(protocol) = protocol else { return Some(text) };
    let _ = write!(text, " meta l4proto {}", protocol_name(protocol));
    match (protocol, rule.ports) {
        (_, None) => {}
        (1 | 58, Some((kind, code))) if stateless => {
            let name = if protocol == 1 { "icmp" } else { "icmpv6" };
            let _ = write!(text, " {name} type {}", kind.min(255));
            if let Some(code) = code {
                let _ = write!(text, " {name} code {}", code.min(255));
            }
        }
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
            // The port that was reached, after translation.
            let port = if stateless { "th dport" } else { "ct reply proto-src" };
            let _ = write!(text, " {port} {first}-{last}");
        }
        // Ports of a protocol that has none: Neutron does not let such a rule be made.
        _ => {}
    }
    Some(text)
}

/// Jumps by address into the chains of one side.
pub fn dispatch(out: &mut String, domain: &Domain, guards: &[Guard], side: Side) {
    for ipv6 in FAMILIES {
        let sure = |span: &Span| span.guards.iter().any(|&guard| !guards[guard].wire.stateless);
        let (stateful, stateless): (Vec<_>, Vec<_>) = spans(domain, guards, ipv6).into_iter().partition(sure);
        for (spans, stateless) in [(stateful, false), (stateless, true)] {
            let address = side.own(stateless, ipv6);
            let (single, shared): (Vec<_>, Vec<_>) = spans.into_iter().partition(|span| span.guards.len() == 1);
            let jumps = single.iter().map(|span| {
                let number = guards[span.guards[0]].number;
                format!("{} : jump {}_{number}", show(span.range, ipv6), side.name())
            });
            if let Some(jumps) = set(jumps) {
                line!(out, "{address} vmap {jumps}");
            }
            // Several ports with one address (a virtual address that moves): what either allows. They are few, so in line.
            for span in shared {
                line!(out, "{address} {} jump {{", show(span.range, ipv6));
                let rules = span.guards.iter().flat_map(|&guard| guards[guard].wire.rules.iter().flatten());
                verdicts(out, rules, side, stateless);
                line!(out, "}}");
            }
        }
    }
}

/// Jumps by mark into the chains of one side, for flows of stateful ports and for packets of stateless ones.
pub fn marked(out: &mut String, guards: &[&Guard], side: Side) {
    let (stateless, stateful): (Vec<&Guard>, Vec<&Guard>) = guards.iter().partition(|guard| guard.wire.stateless);
    if let Some(jumps) = by_mark(&stateful, side) {
        line!(out, "ct direction original meta mark vmap {jumps}");
    }
    if let Some(jumps) = by_mark(&stateless, side) {
        line!(out, "meta mark vmap {jumps}");
    }
}

/// Jumps by mark into the chains of one side.
pub fn by_mark(guards: &[&Guard], side: Side) -> Option<String> {
    let offset = match side {
        Side::From => FROM,
        Side::To => 0,
    };
    set(guards.iter().map(|guard| format!("{} : jump {}_{}", offset + guard.number, side.name(), guard.number)))
}
