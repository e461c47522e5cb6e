//! Addresses as numbers: CIDRs, ranges of them and MACs, parsed once so that no text of a row reaches a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First and last address of a range, as numbers.
pub type Range = (u128, u128);

/// A MAC address.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads `02:00:5e:00:00:01`.
    pub fn parse(text: &str) -> Option<Mac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(Mac(bytes))
    }

    /// The link-local address that a host makes of its MAC.
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0.map(u16::from);
        Ipv6Addr::new(0xfe80, 0, 0, 0, ((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f)
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// Reads `10.0.0.0/24`; an address alone is a network of one.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?),
        None => (text.parse::<IpAddr>().ok()?, u8::MAX),
    };
    let bits = bits(address);
    let prefix = if prefix == u8::MAX { bits } else { prefix };
    (prefix <= bits).then_some((address, prefix))
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The first and the last address of a network.
pub fn range(address: IpAddr, prefix: u8) -> Range {
    let host_bits = u32::from(bits(address).saturating_sub(prefix));
    let mask = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    let base = number(address) & !mask;
    (base, base | mask)
}

/// The network address of a host's address: `10.0.0.5/24` is in `10.0.0.0`.
pub fn base(address: IpAddr, prefix: u8) -> IpAddr {
    let (first, _) = range(address, prefix);
    ip(first, address.is_ipv6())
}

/// A number as an address.
pub fn ip(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into() }
}

/// The same addresses as few ranges, in order, none touching another.
pub fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if before.1 == u128::MAX || first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_are_read_strictly() {
        assert_eq!(parse_cidr("10.0.0.5"), Some(("10.0.0.5".parse().unwrap(), 32)));
        assert_eq!(parse_cidr("fd00::/64").map(|cidr| cidr.1), Some(64));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/24; drop", "/"] {
            assert_eq!(parse_cidr(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranges_cover_whole_networks() {
        let all = range("0.0.0.0".parse().unwrap(), 0);
        assert_eq!(all, (0, u32::MAX.into()));
        assert_eq!(range("::".parse().unwrap(), 0), (0, u128::MAX));
        let [first, last] = ["10.0.0.0", "10.0.0.255"].map(|ip| number(ip.parse().unwrap()));
        assert_eq!(range("10.0.0.9".parse().unwrap(), 24), (first, last));
        assert_eq!(base("10.0.0.9".parse().unwrap(), 24).to_string(), "10.0.0.0");
    }

    #[test]
    fn merging_joins_what_touches() {
        assert_eq!(merge(vec![(5, 9), (0, 4), (20, 30), (22, 23)]), vec![(0, 9), (20, 30)]);
        assert_eq!(merge(vec![(0, u128::MAX), (3, 4)]), vec![(0, u128::MAX)]);
    }

    #[test]
    fn macs_are_read_and_written() {
        let mac = Mac::parse("fa:16:3e:01:02:0f").unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:01:02:0f");
        assert_eq!(mac.link_local().to_string(), "fe80::f816:3eff:fe01:20f");
        assert!(Mac::parse("fa:16:3e:01:02").is_none() && Mac::parse("fa:16:3e:01:02:0f:00").is_none());
    }
}
