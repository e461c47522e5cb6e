//! Which port answers for which addresses of a domain: what lets rules tell ports apart by address.

use std::collections::BTreeSet;

use model::hostnet::{Domain, Wire};

use crate::names;
use driver::address::{Mac, Range, merge, number, parse_cidr, range};

/// A port with its number in the rules.
pub struct Guard<'a> {
    pub wire: &'a Wire,
    /// From 1 on.
    pub number: usize,
    /// It may use addresses beyond the domain's subnets, by which it cannot be told from the rest of the world.
    pub wide: bool,
}

/// A range of addresses and the ports (places in the list of guards) that may have them.
#[derive(Debug, PartialEq)]
pub struct Span {
    pub range: Range,
    pub guards: Vec<usize>,
}

/// The domain's ports that can be guarded. One without a readable MAC or device name is left out: it gets nothing through.
pub fn guards(domain: &Domain) -> Vec<Guard<'_>> {
    let subnets = [subnets(domain, false), subnets(domain, true)];
    let wires = domain.bridges.iter().flat_map(|bridge| &bridge.ports);
    let sound = wires.filter(|wire| Mac::parse(&wire.mac).is_some() && names::is_name(&wire.device));
    sound
        .enumerate()
        .map(|(at, wire)| {
            let mut pairs = wire.allowed_pairs.iter().filter_map(|(_, cidr)| parse_cidr(cidr));
            let wide = pairs.any(|(address, prefix)| {
                let (first, last) = range(address, prefix);
                !subnets[usize::from(address.is_ipv6())].iter().any(|subnet| subnet.0 <= first && last <= subnet.1)
            });
            Guard { wire, number: at + 1, wide }
        })
        .collect()
}

fn subnets(domain: &Domain, ipv6: bool) -> Vec<Range> {
    let scopes = domain.bridges.iter().flat_map(|bridge| &bridge.subnets);
    merge(scopes.filter(|scope| scope.base.is_ipv6() == ipv6).map(|scope| range(scope.base, scope.prefix)).collect())
}

/// The addresses of one family, as ranges that do not overlap. An address that is a port's own is that port's alone; others
/// belong to all ports whose allowed pairs cover them. Addresses of a port without port security are in no span.
pub fn spans(domain: &Domain, guards: &[Guard], ipv6: bool) -> Vec<Span> {
    let mut own: Vec<(u128, usize)> = Vec::new();
    let mut pairs: Vec<(Range, usize)> = Vec::new();
    let subnets = subnets(domain, ipv6);
    for (at, guard) in guards.iter().enumerate() {
        let fixed = guard.wire.addresses.iter().filter(|(address, _)| address.is_ipv6() == ipv6);
        own.extend(fixed.map(|(address, _)| (number(*address), at)));
        let allowed = guard.wire.allowed_pairs.iter().filter_map(|(_, cidr)| parse_cidr(cidr));
        for (address, prefix) in allowed.filter(|(address, _)| address.is_ipv6() == ipv6) {
            let (first, last) = range(address, prefix);
            let within = subnets.iter().map(|subnet| (first.max(subnet.0), last.min(subnet.1)));
            pairs.extend(within.filter(|range| range.0 <= range.1).map(|range| (range, at)));
        }
    }
    own.sort_unstable();
    let mut spans = Vec::new();
    for group in own.chunk_by(|one, other| one.0 == other.0) {
        spans.push(Span { range: (group[0].0, group[0].0), guards: group.iter().map(|one| one.1).collect() });
    }
    let taken: BTreeSet<u128> = own.iter().map(|one| one.0).collect();
    spans.extend(pair_spans(&pairs, &taken));
    spans.retain(|span| span.guards.iter().all(|&guard| guards[guard].wire.rules.is_some()));
    spans.sort_by_key(|span| span.range);
    spans
}

/// Cuts the ranges wherever one begins or ends, or an address is taken.
fn pair_spans(pairs: &[(Range, usize)], taken: &BTreeSet<u128>) -> Vec<Span> {
    let mut cuts: BTreeSet<u128> = BTreeSet::new();
    for ((first, last), _) in pairs {
        cuts.insert(*first);
        cuts.extend(last.checked_add(1));
        for address in taken.range(first..=last) {
            cuts.insert(*address);
            cuts.extend(address.checked_add(1));
        }
    }
    let starts: Vec<u128> = cuts.into_iter().collect();
    let mut spans = Vec::new();
    for (at, &first) in starts.iter().enumerate() {
        let last = starts.get(at + 1).map_or(u128::MAX, |next| next - 1);
        let mut guards: Vec<usize> =
            pairs.iter().filter(|(range, _)| range.0 <= first && last <= range.1).map(|pair| pair.1).collect();
        guards.sort_unstable();
        guards.dedup();
        if !guards.is_empty() && !taken.contains(&first) {
            spans.push(Span { range: (first, last), guards });
        }
    }
    spans
}
