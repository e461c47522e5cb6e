//! A domain with one port in an IPv4 and an IPv6 subnet, of which [`crate::hostile`] and the servers' tests ask.

use std::collections::BTreeMap;
use std::net::IpAddr;

use driver::address::Mac;
use model::hostnet::{Bridge, Domain, Plug, Scope, Wire, Zone};

use crate::facts::Facts;

pub const NETWORK: &str = "n";
/// The port's.
pub const MAC: Mac = Mac([2, 0, 0, 0, 0, 5]);

/// What the servers answer from, DHCPv6 with addresses.
pub fn facts() -> Facts {
    with_mode(Some("dhcpv6-stateful"))
}

/// What the servers answer from when IPv6 addresses come that way.
pub fn with_mode(mode: Option<&str>) -> Facts {
    let mut subnets = vec![scope(four(0), 24, four(1)), scope(six(0), 64, six(1))];
    subnets[0].routes.push(("10.9.0.0/16".into(), four(9)));
    subnets[1].ipv6_ra_mode = mode.map(str::to_owned);
    subnets[1].ipv6_address_mode = mode.map(str::to_owned);
    let bridge = Bridge {
        network_id: NETWORK.into(),
        vni: 1,
        mtu: 1450,
        addresses: vec![(four(1), 24), (six(1), 64)],
        mac: "02:aa:00:00:00:01".into(),
        subnets,
        address_scopes: [None, None],
        ports: vec![wire()],
        peers: Vec::new(),
        remote_ports: Vec::new(),
    };
    Facts::new(&Domain {
        id: "d".into(),
        bridges: vec![bridge],
        uplinks: Vec::new(),
        routes: Vec::new(),
        services: Vec::new(),
        apis: Vec::new(),
        groups: BTreeMap::new(),
        zone: zone(),
        metadata: true,
    })
}

/// `10.0.0.<last>`.
fn four(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// `fd00:1::<last>`.
fn six(last: u16) -> IpAddr {
    [0xfd00, 1, 0, 0, 0, 0, 0, last].into()
}

fn wire() -> Wire {
    Wire {
        port_id: "p".into(),
        device: "tap0".into(),
        plug: Plug::Tap,
        mac: MAC.to_string(),
        addresses: vec![(four(5), 24), (six(5), 64)],
        gateway: Some(four(1)),
        mtu: 1450,
        up: true,
        allowed_pairs: Vec::new(),
        rules: None,
        stateless: false,
        hostname: "web-1".into(),
        qos: Default::default(),
        trunk: Default::default(),
        dhcp_options: vec![
            ("bootfile-name".into(), "boot.efi".into(), false),
            ("server-ip-address".into(), "10.0.0.7".into(), false),
            ("bootfile-url".into(), "http://boot".into(), true),
            ("dns-server".into(), "[fd00:1::53]".into(), true),
            ("mtu".into(), "1400".into(), true),
        ],
    }
}

fn scope(base: IpAddr, prefix: u8, gateway: IpAddr) -> Scope {
    Scope {
        subnet_id: format!("s-{base}"),
        base,
        prefix,
        gateway: Some(gateway),
        dhcp: true,
        server: Some(gateway),
        dns: Vec::new(),
        routes: Vec::new(),
        ipv6_ra_mode: None,
        ipv6_address_mode: None,
    }
}

fn zone() -> Zone {
    let name = |label: &str| format!("{label}.demo.internal");
    Zone {
        search: vec!["demo.internal".into()],
        names: [
            (name("web-1"), vec![four(5), six(5)]),
            (name("many"), (1..200).map(|last| [10, 0, 1, last].into()).collect()),
        ]
        .into(),
        srv: [(name("_http._tcp.web-1"), vec![(name("web-1"), 80)])].into(),
        aliases: [
            ("in", name("web-1")),
            ("twice", name("in")),
            ("gone", name("nobody")),
            ("out", "db.example.org".to_owned()),
            ("round", name("about")),
            ("about", name("round")),
        ]
        .map(|(label, target)| (name(label), target))
        .into(),
        authority: vec!["demo.internal".into()],
    }
}
