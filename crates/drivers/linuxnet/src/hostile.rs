//! What reads a stranger's bytes, for the crate `fuzz`: one domain with one port, and its servers without sockets.

use std::net::IpAddr;

use model::hostnet::{Bridge, Domain, Plug, Scope, Wire};

use crate::facts::Facts;

/// A guest's question to the DNS server.
pub fn dns(bytes: &[u8]) {
    crate::dns::consider(&facts(), bytes);
}

/// A guest's DHCPv4 and DHCPv6 message.
pub fn dhcp(bytes: &[u8]) {
    let facts = facts();
    let _ = crate::dhcp::consider(&facts, "n", bytes);
    let from = crate::address::Mac([2, 0, 0, 0, 0, 5]).link_local();
    let _ = crate::dhcp6::consider(&facts, "n", from, bytes);
}

fn facts() -> Facts {
    let [base, gateway, own] = [0, 1, 5].map(|last| IpAddr::from([10, 0, 0, last]));
    let wire = Wire {
        port_id: "p".into(),
        device: "tap0".into(),
        plug: Plug::Tap,
        mac: "02:00:00:00:00:05".into(),
        addresses: vec![(own, 24)],
        gateway: Some(gateway),
        mtu: 1450,
        up: true,
        allowed_pairs: Vec::new(),
        rules: None,
        hostname: "web-1".into(),
        device_id: String::new(),
        dhcp_options: vec![("bootfile-name".into(), "boot.efi".into(), false)],
    };
    let scope = Scope {
        subnet_id: "s".into(),
        base,
        prefix: 24,
        gateway: Some(gateway),
        dhcp: true,
        server: Some(gateway),
        dns: Vec::new(),
        routes: Vec::new(),
        ipv6_ra_mode: None,
        ipv6_address_mode: None,
    };
    let bridge = Bridge {
        network_id: "n".into(),
        vni: 1,
        mtu: 1450,
        addresses: vec![(gateway, 24)],
        mac: "02:aa:00:00:00:01".into(),
        subnets: vec![scope],
        ports: vec![wire],
        peers: Vec::new(),
        remote_ports: Vec::new(),
    };
    let mut zone = model::hostnet::Zone::default();
    zone.search.push("demo.internal".into());
    zone.names.insert("web-1.demo.internal".into(), vec![own]);
    Facts::new(&Domain {
        id: "d".into(),
        bridges: vec![bridge],
        uplinks: Vec::new(),
        routes: Vec::new(),
        services: Vec::new(),
        apis: Vec::new(),
        zone,
        metadata: true,
    })
}
