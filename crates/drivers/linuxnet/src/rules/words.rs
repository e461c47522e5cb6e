//! nft's words for what all rules are made of.

use std::fmt::Write;

use driver::address::{Range, ip};

/// IPv4 and IPv6, by the answer to "is it IPv6?".
pub const FAMILIES: [bool; 2] = [false, true];

/// Without these a link has no IPv6. Who may say them is the bridge family's business.
pub const NEIGHBOURS: &str = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, \
    mld-listener-report, mld-listener-done, mld2-listener-report } accept";

/// Errors about flows that were let through, such as a packet that is too big.
pub const ERRORS: &str = "meta l4proto { icmp, ipv6-icmp } ct state related accept";

/// The word for a family in matches of its header.
pub fn family(ipv6: bool) -> &'static str {
    if ipv6 { "ip6" } else { "ip" }
}

/// The word for a family in `meta nfproto`.
pub fn nfproto(ipv6: bool) -> &'static str {
    if ipv6 { "ipv6" } else { "ipv4" }
}

pub fn protocol_name(protocol: u8) -> String {
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

/// A set or a map as nft writes it; `None` if there is nothing in it, which nft would refuse.
pub fn set(elements: impl IntoIterator<Item = String>) -> Option<String> {
    let elements: Vec<String> = elements.into_iter().collect();
    (!elements.is_empty()).then(|| format!("{{ {} }}", elements.join(", ")))
}

/// A range as nft writes it.
pub fn show((first, last): Range, ipv6: bool) -> String {
    if first == last { ip(first, ipv6).to_string() } else { format!("{}-{}", ip(first, ipv6), ip(last, ipv6)) }
}

/// Ranges as the elements of an nft set.
pub fn show_all(ranges: &[Range], ipv6: bool) -> String {
    let mut text = String::new();
    for range in ranges {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{}", show(*range, ipv6));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_short_as_they_can_be() {
        assert_eq!(
            show_all(&[(0x0a00_0000, 0x0a00_00ff), (0x0a00_0105, 0x0a00_0105)], false),
            "10.0.0.0-10.0.0.255, 10.0.1.5"
        );
    }
}
