//! DHCP options that a port asks for by name or number, as Neutron's extra_dhcp_opts have them: dnsmasq's names and its
//! way to read values.

use std::net::Ipv4Addr;

/// How a value is written into the packet.
#[derive(Clone, Copy)]
enum Kind {
    Addresses,
    Text,
    Short,
    Long,
    Byte,
    /// Whatever the value looks like.
    Guess,
}

/// dnsmasq's names.
const NAMES: [(&str, u8, Kind); 26] = [
    ("netmask", 1, Kind::Addresses),
    ("time-offset", 2, Kind::Long),
    ("router", 3, Kind::Addresses),
    ("dns-server", 6, Kind::Addresses),
    ("log-server", 7, Kind::Addresses),
    ("lpr-server", 9, Kind::Addresses),
    ("hostname", 12, Kind::Text),
    ("boot-file-size", 13, Kind::Short),
    ("domain-name", 15, Kind::Text),
    ("swap-server", 16, Kind::Addresses),
    ("root-path", 17, Kind::Text),
    ("extension-path", 18, Kind::Text),
    ("ip-forward-enable", 19, Kind::Byte),
    ("default-ttl", 23, Kind::Byte),
    ("mtu", 26, Kind::Short),
    ("broadcast", 28, Kind::Addresses),
    ("nis-domain", 40, Kind::Text),
    ("nis-server", 41, Kind::Addresses),
    ("ntp-server", 42, Kind::Addresses),
    ("vendor-encap", 43, Kind::Text),
    ("T1", 58, Kind::Long),
    ("T2", 59, Kind::Long),
    ("vendor-class", 60, Kind::Text),
    ("tftp-server", 66, Kind::Text),
    ("bootfile-name", 67, Kind::Text),
    ("server-ip-address", 150, Kind::Addresses),
];

/// The option's code and bytes; `None` if it cannot be understood.
pub fn read(name: &str, value: &str) -> Option<(u8, Vec<u8>)> {
    let number = name.strip_prefix("option:").unwrap_or(name);
    let (code, kind) = match NAMES.iter().find(|known| known.0 == number) {
        Some((_, code, kind)) => (*code, *kind),
        None => {
            let code = number.parse::<u8>().ok().filter(|code| (1..255).contains(code))?;
            let kind = NAMES.iter().find(|known| known.1 == code).map_or(Kind::Guess, |known| known.2);
            (code, kind)
        }
    };
    let bytes = write(kind, value)?;
    (!bytes.is_empty() && bytes.len() <= 255).then_some((code, bytes))
}

fn write(kind: Kind, value: &str) -> Option<Vec<u8>> {
    match kind {
        Kind::Text => Some(value.as_bytes().to_vec()),
        Kind::Byte => value.parse::<u8>().ok().map(|number| vec![number]),
        Kind::Short => value.parse::<u16>().ok().map(|number| number.to_be_bytes().to_vec()),
        Kind::Long => value.parse::<u32>().ok().map(|number| number.to_be_bytes().to_vec()),
        Kind::Addresses => {
            let parts = value.split(',').map(|part| part.trim().parse::<Ipv4Addr>().map(|address| address.octets()));
            parts.collect::<Result<Vec<_>, _>>().ok().map(|octets| octets.concat())
        }
        Kind::Guess => {
            let kinds = [Kind::Addresses, Kind::Byte, Kind::Short, Kind::Long, Kind::Text];
            kinds.into_iter().find_map(|kind| write(kind, value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_guesses() {
        assert_eq!(read("bootfile-name", "pxelinux.0"), Some((67, b"pxelinux.0".to_vec())));
        assert_eq!(read("option:ntp-server", "10.0.0.2, 10.0.0.3"), Some((42, vec![10, 0, 0, 2, 10, 0, 0, 3])));
        assert_eq!(read("26", "1400"), Some((26, 1400_u16.to_be_bytes().to_vec())));
        assert_eq!(read("252", "http://wpad"), Some((252, b"http://wpad".to_vec())));
        assert_eq!(read("224", "10.0.0.9"), Some((224, vec![10, 0, 0, 9])));
        for (name, value) in [("no-such", "1"), ("0", "1"), ("255", "1"), ("mtu", "big"), ("router", "x"), ("252", "")]
        {
            assert_eq!(read(name, value), None, "{name}={value}");
        }
    }
}
