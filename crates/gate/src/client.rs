//! Where a request comes from. Shares and delays are counted by address, so that nobody can spend another's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address of a client, as far as one client is told from another: of an IPv6 address its first 64 bits, since
/// whoever has one address there has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// Somebody of whom no address is known. All such are one.
    pub const UNKNOWN: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// The client behind an address.
    pub fn at(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            other => other,
        })
    }

    /// A program on the host itself.
    pub fn is_local(self) -> bool {
        self.0.is_loopback()
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            _ if *self == Self::UNKNOWN => f.write_str("unknown"),
            address => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn one_client_is_one_address_or_one_prefix() {
        let at = |text: &str| Client::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.2"), at("192.0.2.1"));
        assert!(at("::1").is_local() && at("127.0.0.1").is_local() && !at("192.0.2.1").is_local());
        assert!(at("::ffff:127.0.0.1").is_local() && !Client::UNKNOWN.is_local());
    }
}
