//! How fast floating addresses may be. They have no device of their own to shape: what comes too fast is dropped, as it comes
//! from the outside (before it is led inwards) and as it leaves (once it has its outer address).

use std::net::IpAddr;

use model::hostnet::{Domain, Qos, RateLimit, Uplink};

use super::words::{FAMILIES, family, set};
use crate::names;

/// A kernel may join segments to as much before they come by here: a smaller burst would drop them all.
const BURST: u64 = 1 << 17;

pub fn chains(out: &mut String, domain: &Domain) {
    let limited = || domain.uplinks.iter().filter(|uplink| !uplink.limits.is_empty());
    if limited().next().is_none() {
        return;
    }
    for (number, uplink) in domain.uplinks.iter().enumerate() {
        for (place, (_, qos)) in uplink.limits.iter().enumerate() {
            for (way, limit) in [("in", qos.ingress), ("out", qos.egress)] {
                if let Some(RateLimit { rate, burst }) = limit {
                    let burst = burst.max(BURST).min(u32::MAX.into());
                    line!(out, "limit {way}_{number}_{place} {{ rate over {rate} bytes/second burst {burst} bytes }}");
                }
            }
        }
    }
    line!(out, "chain come {{\ntype filter hook prerouting priority -310;");
    drops(out, domain, ("iifname", "daddr", "in"), |qos| qos.ingress);
    line!(out, "}}\nchain leave {{\ntype filter hook postrouting priority 310;");
    drops(out, domain, ("oifname", "saddr", "out"), |qos| qos.egress);
    line!(out, "}}");
}

fn drops(out: &mut String, domain: &Domain, words: (&str, &str, &str), limit: fn(&Qos) -> Option<RateLimit>) {
    let (device, side, way) = words;
    for (number, uplink) in domain.uplinks.iter().enumerate() {
        for ipv6 in FAMILIES {
            let of_family =
                |(_, (address, qos)): &(usize, &(IpAddr, Qos))| address.is_ipv6() == ipv6 && limit(qos).is_some();
            let entries = uplink.limits.iter().enumerate().filter(of_family);
            let entries = entries.map(|(place, (address, _))| format!("{address} : \"{way}_{number}_{place}\""));
            if let Some(entries) = set(entries) {
                let (name, family) = (uplink_name(uplink), family(ipv6));
                line!(out, "{device} \"{name}\" limit name {family} {side} map {entries} drop");
            }
        }
    }
}

fn uplink_name(uplink: &Uplink) -> String {
    names::uplink(&uplink.router_id)
}
