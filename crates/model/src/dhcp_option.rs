//! DHCP options that a port asks for by name or number, as Neutron's extra_dhcp_opts have them: dnsmasq's names and its
//! way to read values. The API refuses what cannot be read here, and the host's DHCP servers send what can.
//!
//! Options that are the protocol's own (message type, identifiers, leases) are left out: servers say them themselves.

use std::net::{Ipv4Addr, Ipv6Addr};

/// How a value is written into the packet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Encoding {
    Addresses,
    /// Names as DNS writes them.
    Names,
    Text,
    /// Texts, each with its length before it.
    Texts,
    Byte,
    Short,
    Long,
    /// Seconds, or as many as `1h` or `infinite` mean.
    Time,
    /// CIDRs, each with its next hop (RFC 3442).
    Routes,
    /// Addresses and names of time servers, each as an option of its own (RFC 5908).
    TimeServers,
    /// Whatever the value looks like.
    Guess,
}

use Encoding::{Addresses, Byte, Guess, Long, Names, Routes, Short, Text, Texts, Time, TimeServers};

type Known = (&'static str, u16, Encoding);

/// dnsmasq's names for IPv4.
const V4: &[Known] = &[
    ("netmask", 1, Addresses),
    ("time-offset", 2, Long),
    ("router", 3, Addresses),
    ("dns-server", 6, Addresses),
    ("log-server", 7, Addresses),
    ("lpr-server", 9, Addresses),
    ("hostname", 12, Text),
    ("boot-file-size", 13, Short),
    ("domain-name", 15, Text),
    ("swap-server", 16, Addresses),
    ("root-path", 17, Text),
    ("extension-path", 18, Text),
    ("ip-forward-enable", 19, Byte),
    ("non-local-source-routing", 20, Byte),
    ("policy-filter", 21, Addresses),
    ("max-datagram-reassembly", 22, Short),
    ("default-ttl", 23, Byte),
    ("mtu", 26, Short),
    ("all-subnets-local", 27, Byte),
    ("broadcast", 28, Addresses),
    ("router-discovery", 31, Byte),
    ("router-solicitation", 32, Addresses),
    ("static-route", 33, Addresses),
    ("trailer-encapsulation", 34, Byte),
    ("arp-timeout", 35, Long),
    ("ethernet-encap", 36, Byte),
    ("tcp-ttl", 37, Byte),
    ("tcp-keepalive", 38, Long),
    ("nis-domain", 40, Text),
    ("nis-server", 41, Addresses),
    ("ntp-server", 42, Addresses),
    ("vendor-encap", 43, Text),
    ("netbios-ns", 44, Addresses),
    ("netbios-dd", 45, Addresses),
    ("netbios-nodetype", 46, Byte),
    ("netbios-scope", 47, Text),
    ("x-windows-fs", 48, Addresses),
    ("x-windows-dm", 49, Addresses),
    ("T1", 58, Time),
    ("T2", 59, Time),
    ("vendor-class", 60, Text),
    ("nis+-domain", 64, Text),
    ("nis+-server", 65, Addresses),
    ("tftp-server", 66, Text),
    ("bootfile-name", 67, Text),
    ("mobile-ip-home", 68, Addresses),
    ("smtp-server", 69, Addresses),
    ("pop3-server", 70, Addresses),
    ("nntp-server", 71, Addresses),
    ("irc-server", 74, Addresses),
    ("user-class", 77, Text),
    ("posix-timezone", 100, Text),
    ("tzdb-timezone", 101, Text),
    ("ipv6-only", 108, Time),
    ("domain-search", 119, Names),
    ("classless-static-route", 121, Routes),
    ("tftp-server-address", 150, Addresses),
    ("server-ip-address", 150, Addresses),
];

/// dnsmasq's names for IPv6.
const V6: &[Known] = &[
    ("sip-server-domain", 21, Names),
    ("sip-server", 22, Addresses),
    ("dns-server", 23, Addresses),
    ("domain-search", 24, Names),
    ("nis-server", 27, Addresses),
    ("nis+-server", 28, Addresses),
    ("nis-domain", 29, Names),
    ("nis+-domain", 30, Names),
    ("sntp-server", 31, Addresses),
    ("information-refresh-time", 32, Time),
    ("posix-timezone", 41, Text),
    ("tzdb-timezone", 42, Text),
    ("ntp-server", 56, TimeServers),
    ("bootfile-url", 59, Text),
    ("bootfile-param", 60, Texts),
];

/// Codes that are the protocol's own.
fn is_protocols(code: u16, ipv6: bool) -> bool {
    if ipv6 { matches!(code, 0..=20 | 25 | 26 | 39) } else { matches!(code, 0 | 50..=57 | 61 | 81 | 82 | 118 | 255..) }
}

/// The option's code, and how its value is written.
fn find(name: &str, ipv6: bool) -> Result<(u16, Encoding), String> {
    let (known, prefix, version) = if ipv6 { (V6, "option6:", 6) } else { (V4, "option:", 4) };
    let bare = name.strip_prefix(prefix).unwrap_or(name);
    if let Some((_, code, encoding)) = known.iter().find(|known| known.0 == bare) {
        return Ok((*code, *encoding));
    }
    match bare.parse::<u16>() {
        Ok(code) if is_protocols(code, ipv6) => Err(format!("the DHCPv{version} option {code} is the server's own")),
        Ok(code) => Ok((code, known.iter().find(|known| known.1 == code).map_or(Guess, |known| known.2))),
        Err(_) => Err(format!("'{name}' is no DHCPv{version} option that is known")),
    }
}

/// The option's code and bytes, or in words why there are none.
pub fn read(name: &str, value: &str, ipv6: bool) -> Result<(u16, Vec<u8>), String> {
    let (code, encoding) = find(name, ipv6)?;
    let longest = if ipv6 { usize::from(u16::MAX) } else { usize::from(u8::MAX) };
    let bytes = write(encoding, value, ipv6).filter(|bytes| !bytes.is_empty() && bytes.len() <= longest);
    bytes.map(|bytes| (code, bytes)).ok_or_else(|| format!("'{value}' is not a value of the DHCP option '{name}'"))
}

/// Whether an option may be asked for, or in words why not. Addresses may be of the other version, which is not sent then:
/// clients of Neutron leave an option's version at 4 beside IPv6 addresses (tempest, for one) and expect no error.
pub fn check(name: &str, value: &str, ipv6: bool) -> Result<(), String> {
    let other = |text: &str| address(text.trim(), !ipv6).is_some();
    match find(name, ipv6)? {
        (_, Addresses) if value.split(',').all(other) => Ok(()),
        _ => read(name, value, ipv6).map(drop),
    }
}

fn write(encoding: Encoding, value: &str, ipv6: bool) -> Option<Vec<u8>> {
    match encoding {
        Text => Some(value.as_bytes().to_vec()),
        Texts => each(value, |text| sized(text.as_bytes())),
        Byte => value.parse::<u8>().ok().map(|number| vec![number]),
        Short => value.parse::<u16>().ok().map(|number| number.to_be_bytes().to_vec()),
        Long => {
            let number = value.parse::<u32>().or_else(|_| value.parse::<i32>().map(i32::cast_unsigned));
            number.ok().map(|number| number.to_be_bytes().to_vec())
        }
        Time => seconds(value).map(|number| number.to_be_bytes().to_vec()),
        Addresses => each(value, |text| address(text, ipv6)),
        Names => each(value, dns_name),
        Routes => routes(value),
        TimeServers => each(value, time_server),
        Guess => [Addresses, Byte, Short, Long, Text].into_iter().find_map(|encoding| write(encoding, value, ipv6)),
    }
}

/// The parts between commas, one after the other.
fn each(value: &str, write: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let parts: Option<Vec<_>> = value.split(',').map(|part| write(part.trim())).collect();
    parts.map(|parts| parts.concat())
}

fn sized(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(bytes.len()).ok().filter(|length| *length > 0)?;
    Some([&length.to_be_bytes()[..], bytes].concat())
}

/// IPv6 addresses may be in brackets, as dnsmasq wants them.
fn address(text: &str, ipv6: bool) -> Option<Vec<u8>> {
    if !ipv6 {
        return text.parse::<Ipv4Addr>().ok().map(|address| address.octets().to_vec());
    }
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inner.parse::<Ipv6Addr>().ok().map(|address| address.octets().to_vec())
}

fn seconds(value: &str) -> Option<u32> {
    if value == "infinite" {
        return Some(u32::MAX);
    }
    let (number, unit) = match value.char_indices().last()? {
        (at, 's') => (&value[..at], 1),
        (at, 'm') => (&value[..at], 60),
        (at, 'h') => (&value[..at], 3600),
        (at, 'd') => (&value[..at], 86_400),
        (at, 'w') => (&value[..at], 604_800),
        _ => (value, 1),
    };
    number.parse::<u32>().ok()?.checked_mul(unit)
}

fn dns_name(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in text.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    (bytes.len() <= 255).then_some(bytes)
}

fn routes(value: &str) -> Option<Vec<u8>> {
    let mut routes = Vec::new();
    let mut parts = value.split(',').map(str::trim);
    while let Some(cidr) = parts.next() {
        let (base, prefix) = cidr.split_once('/')?;
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| *prefix <= 32)?;
        routes.push((base.parse().ok()?, prefix, parts.next()?.parse().ok()?));
    }
    Some(classless(&routes))
}

/// Routes (base, prefix, next hop) as RFC 3442 writes them.
pub fn classless(routes: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (base, prefix, hop) in routes {
        bytes.push(*prefix);
        bytes.extend(&base.octets()[..usize::from(prefix.div_ceil(8)).min(4)]);
        bytes.extend(hop.octets());
    }
    bytes
}

fn time_server(text: &str) -> Option<Vec<u8>> {
    const SERVER: u16 = 1;
    const MULTICAST: u16 = 2;
    const NAME: u16 = 3;
    let (kind, bytes) = match address(text, true) {
        Some(octets) if octets[0] == 0xff => (MULTICAST, octets),
        Some(octets) => (SERVER, octets),
        None => (NAME, dns_name(text)?),
    };
    Some([&kind.to_be_bytes()[..], &sized(&bytes)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_guesses() {
        let four = |name, value| read(name, value, false).ok();
        assert_eq!(four("bootfile-name", "pxelinux.0"), Some((67, b"pxelinux.0".to_vec())));
        assert_eq!(four("option:ntp-server", "10.0.0.2, 10.0.0.3"), Some((42, vec![10, 0, 0, 2, 10, 0, 0, 3])));
        assert_eq!(four("26", "1400"), Some((26, 1400_u16.to_be_bytes().to_vec())));
        assert_eq!(four("252", "http://wpad"), Some((252, b"http://wpad".to_vec())));
        assert_eq!(four("224", "10.0.0.9"), Some((224, vec![10, 0, 0, 9])));
        assert_eq!(four("T1", "2h"), Some((58, 7200_u32.to_be_bytes().to_vec())));
        let routes = Some((121, vec![16, 10, 9, 10, 0, 0, 9, 0, 10, 0, 0, 1]));
        assert_eq!(four("classless-static-route", "10.9.0.0/16,10.0.0.9,0.0.0.0/0,10.0.0.1"), routes);
        for (name, value) in
            [("no-such", "1"), ("0", "1"), ("53", "1"), ("255", "1"), ("mtu", "big"), ("router", "x"), ("252", "")]
        {
            assert!(four(name, value).is_none() && check(name, value, false).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn addresses_of_the_other_version_are_not_sent_and_do_no_harm() {
        assert_eq!(check("server-ip-address", "2015::badd", false), Ok(()));
        assert!(read("server-ip-address", "2015::badd", false).is_err());
        assert!(check("server-ip-address", "2015::badd,x", false).is_err());
    }

    #[test]
    fn options_of_ipv6_have_codes_and_forms_of_their_own() {
        let six = |name, value| read(name, value, true).ok();
        let (one, two) = ("fd00::1".parse::<Ipv6Addr>().unwrap().octets(), "ff05::101".parse::<Ipv6Addr>().unwrap());
        assert_eq!(six("dns-server", "[fd00::1]"), Some((23, one.to_vec())));
        assert_eq!(six("option6:sntp-server", "fd00::1, ff05::101"), Some((31, [one, two.octets()].concat())));
        assert_eq!(six("domain-search", "a.bc,d"), Some((24, b"\x01a\x02bc\0\x01d\0".to_vec())));
        let servers = [&[0, 1, 0, 16][..], &one, &[0, 2, 0, 16], &two.octets(), &[0, 3, 0, 5], b"\x03ntp\0"].concat();
        assert_eq!(six("ntp-server", "fd00::1,ff05::101,ntp"), Some((56, servers)));
        assert_eq!(six("information-refresh-time", "1d"), Some((32, 86_400_u32.to_be_bytes().to_vec())));
        assert_eq!(six("bootfile-url", "tftp://[fd00::1]/a"), Some((59, b"tftp://[fd00::1]/a".to_vec())));
        assert_eq!(six("60", "root=a,b"), Some((60, b"\0\x06root=a\0\x01b".to_vec())));
        assert_eq!(six("1234", "fd00::1"), Some((1234, one.to_vec())));
        for (name, value) in
            [("mtu", "1400"), ("3", "x"), ("dns-server", "10.0.0.1"), ("bootfile-param", ","), ("70000", "1")]
        {
            assert!(six(name, value).is_none(), "{name}={value}");
        }
    }
}
