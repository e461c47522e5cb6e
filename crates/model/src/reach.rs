//! Where an image may be fetched from: what members ask the cloud to open is opened with the cloud's own place in the
//! network, so nothing is reached that is not the public Internet, unless the operator said so.
//!
//! The text of a URI is judged when it is asked for, and at each redirect; the addresses that its name has are judged by
//! whoever connects, to that very address. Refused: judging the name alone (it may mean another address a moment later);
//! a list of what is forbidden for IPv6 (what is handed out for the Internet is one range, and what tunnels or translates
//! to IPv4 lies in known parts of it or outside of it).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub base: IpAddr,
    pub prefix: u8,
}

impl Range {
    /// `10.0.0.0/8`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base.parse().ok()?, Some(prefix.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let most = if matches!(base, IpAddr::V4(_)) { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Self { base, prefix })
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        let within = |a: u128, b: u128, bits: u32| bits == 0 || (a ^ b) >> (128 - bits) == 0;
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let wide = |ip: Ipv4Addr| u128::from(u32::from(ip)) << 96;
                within(wide(base), wide(ip), self.prefix.into())
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => within(base.into(), ip.into(), self.prefix.into()),
            _ => false,
        }
    }
}

/// IPv4 ranges that are not the public Internet (IANA's registry of special purposes, and multicast).
const INSIDE_4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "private"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay to elsewhere"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "private"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "reserved"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "reserved"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// What IPv6 hands out for the Internet.
const OUTSIDE_6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Parts of it that are not.
const INSIDE_6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "for protocols, tunnels among them"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "reserved"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a tunnel to an IPv4 address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "reserved"),
];

/// Why an address is not of the public Internet.
fn inside(ip: IpAddr) -> Option<&'static str> {
    let holds = |base: IpAddr, prefix: u8| Range { base, prefix }.contains(ip);
    match ip {
        IpAddr::V4(_) => INSIDE_4.iter().find(|(base, prefix, _)| holds((*base).into(), *prefix)).map(|(.., why)| *why),
        IpAddr::V6(_) if !holds(OUTSIDE_6.0.into(), OUTSIDE_6.1) => Some("not of the Internet"),
        IpAddr::V6(_) => INSIDE_6.iter().find(|(base, prefix, _)| holds((*base).into(), *prefix)).map(|(.., why)| *why),
    }
}

/// What may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Ports of servers.
    pub ports: Vec<u16>,
    /// Addresses that are not of the Internet, and may be reached all the same.
    pub allowed: Vec<Range>,
}

impl Default for Reach {
    /// As Glance's: the usual ports; nothing inside.
    fn default() -> Self {
        Self { ports: vec![80, 443], allowed: Vec::new() }
    }
}

/// What a URI names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Host and port as they stand in a request.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// The longest URI.
const LONGEST: usize = 2048;

impl Reach {
    /// What a URI names, or why it is not opened.
    pub fn target(&self, uri: &str) -> Result<Target, String> {
        if uri.len() > LONGEST || !uri.bytes().all(|b| b.is_ascii_graphic()) || uri.contains('\\') {
            return Err(format!("it is longer than {LONGEST} bytes, or has others than those of URIs"));
        }
        let (scheme, rest) = uri.split_once("://").ok_or("it has no scheme")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other => return Err(format!("the scheme {other} is neither http nor https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it names a user".into());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("its address has no end")?;
                let ip: Ipv6Addr = host.parse().map_err(|_| format!("{host} is not an IPv6 address"))?;
                (ip.to_string(), port)
            }
            None => {
                let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                (plain_host(host)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| format!("{digits} is not a port"))?
            }
            None if port.is_empty() => {
                if tls {
                    443
                } else {
                    80
                }
            }
            _ => return Err(format!("{port} is not a port")),
        };
        if !self.ports.contains(&port) {
            return Err(format!("port {port} is not one of those that may be reached: {:?}", self.ports));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Target { tls, host, port, path })
    }

    /// Why an address may not be connected to, if it may not; `own` are the cloud's own and its public ranges.
    pub fn refuses(&self, ip: IpAddr, own: &[Range]) -> Option<&'static str> {
        if self.allowed.iter().any(|range| range.contains(ip)) {
            return None;
        }
        inside(ip).or_else(|| own.iter().any(|range| range.contains(ip)).then_some("the cloud's own"))
    }
}

/// A name, or an IPv4 address as everybody writes it. What ends in a number is an address to resolvers, which read
/// `0x7f.1` and `2130706433` too.
fn plain_host(host: &str) -> Result<String, String> {
    let fits = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if name.len() > 253 || !name.split('.').all(fits) {
        return Err(format!("{host} is not the name of a host"));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if number && name.parse::<Ipv4Addr>().is_err() {
        return Err(format!("{host} is an address in a form that is not taken"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_that_mean_what_they_say_are_taken() {
        let reach = Reach::default();
        for (uri, tls, host, port, path) in [
            ("http://example.org", false, "example.org", 80, "/"),
            ("HTTPS://Example.ORG./a?b=c#d", true, "example.org", 443, "/a?b=c"),
            ("http://example.org:443?x", false, "example.org", 443, "/?x"),
            ("http://1.2.3.4/x", false, "1.2.3.4", 80, "/x"),
            ("https://[2600::1]:443/", true, "2600::1", 443, "/"),
        ] {
            let target = reach.target(uri).unwrap_or_else(|why| panic!("{uri}: {why}"));
            assert_eq!(target, Target { tls, host: host.into(), port, path: path.into() }, "{uri}");
        }
        assert_eq!(reach.target("https://[2600::1]:80/").unwrap().authority(), "[2600::1]:80");
    }

    #[test]
    fn others_are_refused() {
        let reach = Reach::default();
        for uri in [
            "",
            "example.org",
            "file:///etc/passwd",
            "ftp://example.org/",
            "gopher://example.org:80/",
            "http://",
            "http:///x",
            "http://user@example.org/",
            "http://example.org@10.0.0.1/",
            "http://example.org:22/",
            "http://example.org:+80/",
            "http://example.org:/",
            "http://example.org:99999/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.01/",
            "http://1.2.3.4.5/",
            "http://ex%61mple.org/",
            "http://example.org\\@10.0.0.1/",
            "http://exa mple.org/",
            "http://exam\u{2024}ple.org/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://a..b/",
        ] {
            assert!(reach.target(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn only_the_internet_is_reached() {
        let own = [Range::parse("5.6.7.0/24").unwrap(), Range::parse("2600:1::1").unwrap()];
        let reach = Reach::default();
        let refused = |ip: &str| reach.refuses(ip.parse().unwrap(), &own).is_some();
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "192.88.99.1",
            "224.0.0.1",
            "255.255.255.255",
            "5.6.7.8",
            "::",
            "::1",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2600:1::1",
            "5f00::1",
        ] {
            assert!(refused(ip), "{ip}");
        }
        for ip in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "5.6.8.1", "2600:1::2", "2a00::1", "2001:4860::1"] {
            assert!(!refused(ip), "{ip}");
        }
    }

    #[test]
    fn an_operator_may_allow_what_is_inside() {
        let reach = Reach { allowed: vec![Range::parse("10.1.0.0/16").unwrap()], ..Reach::default() };
        let taken = |ip: &str| reach.refuses(ip.parse().unwrap(), &[]).is_none();
        assert!(taken("10.1.2.3") && !taken("10.2.0.1") && !taken("::ffff:10.1.2.3") && !taken("127.0.0.1"));
        for text in ["10.0.0.0/33", "x/8", "1.2.3/8", "::/129", "1.2.3.4/"] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }
}
