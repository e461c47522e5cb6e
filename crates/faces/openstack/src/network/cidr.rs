//! Arithmetic of address ranges, for both versions of IP at once: an address is a number and the version's width.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::Subnet;

/// A range of addresses that begins at a multiple of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    pub base: IpAddr,
    pub prefix: u8,
}

/// An address as a number.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address with a number, of the same version as another.
pub fn address(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The number of bits of an address of this version.
pub fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// 4 or 6.
pub fn version(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

impl Cidr {
    /// `10.0.0.7/24` is `10.0.0.0/24`; an address alone is a range of one.
    pub fn parse(text: &str) -> Result<Self, ()> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| ())?;
        let prefix = match prefix {
            Some(p) if p.len() <= 3 && p.bytes().all(|b| b.is_ascii_digit()) => p.parse().map_err(|_| ())?,
            Some(_) => return Err(()),
            None => width(ip),
        };
        Self::new(ip, prefix).ok_or(())
    }

    /// The range of this size that holds the address.
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= width(ip)).then(|| {
            let host = size_minus_one(width(ip) - prefix);
            Self { base: address(ip, number(ip) & !host), prefix }
        })
    }

    pub fn of(subnet: &Subnet) -> Self {
        Self { base: subnet.base, prefix: subnet.prefix }
    }

    pub fn first(&self) -> u128 {
        number(self.base)
    }

    pub fn last(&self) -> u128 {
        number(self.base) | size_minus_one(width(self.base) - self.prefix)
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.base.is_ipv4() && (self.first()..=self.last()).contains(&number(ip))
    }

    pub fn covers(&self, other: &Self) -> bool {
        self.contains(other.base) && self.prefix <= other.prefix
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Whether a host may have the address: the ends of an IPv4 range are the network's and the broadcast address.
    pub fn host_address(&self, ip: IpAddr) -> bool {
        if !self.contains(ip) {
            return false;
        }
        let small = width(self.base) - self.prefix <= 1;
        match ip {
            _ if small => true,
            IpAddr::V4(_) => number(ip) != self.first() && number(ip) != self.last(),
            IpAddr::V6(_) => number(ip) != self.first(),
        }
    }

    /// The first address that a host may have.
    pub fn first_host(&self) -> IpAddr {
        let skip = u128::from(width(self.base) - self.prefix > 1);
        address(self.base, self.first() + skip)
    }

    /// Neutron's default pools: all addresses for hosts but the gateway's.
    pub fn default_pools(&self, gateway: Option<IpAddr>) -> Vec<(IpAddr, IpAddr)> {
        let first = number(self.first_host());
        let cut = u128::from(self.base.is_ipv4() && self.prefix < 31);
        let last = self.last() - cut;
        let range = |a: u128, b: u128| (a <= b).then(|| (address(self.base, a), address(self.base, b)));
        match gateway.filter(|g| self.contains(*g)).map(number).filter(|g| (first..=last).contains(g)) {
            None => range(first, last).into_iter().collect(),
            Some(g) => {
                let below = g.checked_sub(1).and_then(|below| range(first, below));
                let above = g.checked_add(1).and_then(|above| range(above, last));
                below.into_iter().chain(above).collect()
            }
        }
    }

    /// The address that a MAC gives in this range (RFC 4291, EUI-64); `None` for what is not an IPv6 /64.
    pub fn eui64(&self, mac: &str) -> Option<IpAddr> {
        if self.base.is_ipv4() || self.prefix != 64 {
            return None;
        }
        let bytes: Vec<u8> = mac.split(':').filter_map(|p| u8::from_str_radix(p, 16).ok()).collect();
        let [a, b, c, d, e, f]: [u8; 6] = bytes.try_into().ok()?;
        let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Some(address(self.base, self.first() | u128::from(id)))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn size_minus_one(bits: u8) -> u128 {
    1u128.checked_shl(u32::from(bits)).map_or(u128::MAX, |size| size - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn ranges() {
        assert_eq!(cidr("10.0.0.7/24").to_string(), "10.0.0.0/24");
        assert_eq!(cidr("0.0.0.0/0").last(), u128::from(u32::MAX));
        assert_eq!(cidr("::/0").last(), u128::MAX);
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.1.0.0/16")));
        assert!(!cidr("10.0.0.0/24").overlaps(&cidr("10.0.1.0/24")));
        for bad in ["192.168.1./24", "192.168.1.1/33", "bad", "256", "10.0.0.0/", "10.0.0.0/-1", ""] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn default_pools_leave_the_gateway_out() {
        let pools = |c: &str, g: &str| -> Vec<String> {
            let gateway = g.parse().ok();
            cidr(c).default_pools(gateway).iter().map(|(a, b)| format!("{a}-{b}")).collect()
        };
        assert_eq!(pools("10.0.0.0/24", "10.0.0.1"), ["10.0.0.2-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", "10.0.0.100"), ["10.0.0.1-10.0.0.99", "10.0.0.101-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", ""), ["10.0.0.1-10.0.0.254"]);
        assert_eq!(pools("2001:db8::/64", "2001:db8::1"), ["2001:db8::2-2001:db8::ffff:ffff:ffff:ffff"]);
        assert_eq!(pools("10.0.0.0/30", "10.0.0.1"), ["10.0.0.2-10.0.0.2"]);
        assert_eq!(pools("10.0.0.0/32", ""), ["10.0.0.0-10.0.0.0"]);
    }

    #[test]
    fn addresses_from_macs() {
        let ip = cidr("2001:db8::/64").eui64("fa:16:3e:11:22:33").unwrap();
        assert_eq!(ip.to_string(), "2001:db8::f816:3eff:fe11:2233");
    }
}
