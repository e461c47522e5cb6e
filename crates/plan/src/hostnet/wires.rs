//! The bridge of a network on a host, and the ports that are plugged into it there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use model::hostnet::{Bridge, Plug, Scope, Wire};
use model::{AddressScope, Holder, Host, Network, Port, QosPolicy, Snapshot, Subnet, Trunk};

use super::component::Component;
use super::rules;

/// Where instances ask for their metadata.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// A network as it shall be on the host.
pub fn bridge(snapshot: &Snapshot, host: &str, component: &Component<'_>, network: &Network) -> Bridge {
    let ports: Vec<&Port> = component.ports.iter().filter(|p| p.network_id == network.id).copied().collect();
    let subnets: Vec<&Subnet> = component.subnets.values().filter(|s| s.network_id == network.id).copied().collect();
    let mut addresses: BTreeSet<(IpAddr, u8)> = BTreeSet::new();
    for port in ports.iter().filter(|p| p.is_interface()) {
        let fixed = port.fixed_ips.iter();
        addresses.extend(fixed.filter_map(|f| Some((f.ip, component.subnets.get(f.subnet_id.as_str())?.prefix))));
    }
    let mut scopes = Vec::with_capacity(subnets.len());
    for subnet in subnets {
        let server = server(subnet, &ports);
        addresses.extend(server.map(|ip| (ip, subnet.prefix)));
        scopes.push(scope(subnet, server));
    }
    let (peers, remote_ports) = elsewhere(snapshot, host, component, network);
    Bridge {
        network_id: network.id.clone(),
        vni: network.vni,
        mtu: network.mtu,
        addresses: addresses.into_iter().collect(),
        mac: mac(network, host),
        subnets: scopes,
        address_scopes: [false, true].map(|v6| AddressScope::of_network(snapshot, network, v6).map(str::to_owned)),
        ports: ports
            .iter()
            .filter(|p| p.host.as_deref() == Some(host) && p.is_plug())
            .map(|port| wire(snapshot, component, network, port))
            .collect(),
        peers,
        remote_ports,
    }
}

/// The MAC of a network's bridge on a host: each host has its own.
fn mac(network: &Network, host: &str) -> String {
    Port::mac_from(&model::derived_id(&["bridge", &network.id, host]), 0)
}

/// The address from which DHCP and DNS answer on a subnet: a router's, the gateway's where no router is, or the one that
/// Neutron set aside. A gateway address that is somebody's port is left to them.
fn server(subnet: &Subnet, ports: &[&Port]) -> Option<IpAddr> {
    let holds = |is: fn(&Holder) -> bool| {
        let of_owner = ports.iter().filter(|p| p.holder.as_ref().is_some_and(is));
        let mut fixed = of_owner.flat_map(|p| &p.fixed_ips).filter(|f| f.subnet_id == subnet.id).map(|f| f.ip);
        let first = fixed.next();
        if first.is_some_and(|ip| Some(ip) == subnet.gateway_ip) {
            return first;
        }
        fixed.find(|ip| Some(*ip) == subnet.gateway_ip).or(first)
    };
    let gateway = || {
        let ip = subnet.gateway_ip.filter(|ip| subnet.enable_dhcp && subnet.contains(*ip))?;
        let taken = ports.iter().any(|p| p.fixed_ips.iter().any(|f| f.ip == ip));
        (!taken).then_some(ip)
    };
    holds(|h| matches!(h, Holder::Interface(_))).or_else(gateway).or_else(|| holds(|h| matches!(h, Holder::Dhcp(_))))
}

fn scope(subnet: &Subnet, server: Option<IpAddr>) -> Scope {
    let mut routes = subnet.host_routes.clone();
    // Without a default route nobody would find the metadata.
    if let (None, Some(server @ IpAddr::V4(_))) = (subnet.gateway_ip, server) {
        routes.push((format!("{METADATA}/32"), server));
    }
    Scope {
        subnet_id: subnet.id.clone(),
        base: subnet.base,
        prefix: subnet.prefix,
        gateway: subnet.gateway_ip,
        dhcp: subnet.enable_dhcp,
        server,
        dns: subnet.dns_nameservers.clone(),
        routes,
        ipv6_ra_mode: subnet.ipv6_ra_mode.clone(),
        ipv6_address_mode: subnet.ipv6_address_mode.clone(),
    }
}

/// The other hosts of the domain, and which MACs of the network are where. Every host of the domain is a peer of each of
/// its networks: routing is done on the sender's host, so a packet of any network may come from any of them.
fn elsewhere(
    snapshot: &Snapshot,
    host: &str,
    component: &Component<'_>,
    network: &Network,
) -> (Vec<IpAddr>, Vec<(String, IpAddr)>) {
    let names: BTreeSet<&str> =
        component.ports.iter().filter_map(|p| p.host.as_deref()).filter(|name| *name != host).collect();
    let underlay: BTreeMap<&str, IpAddr> =
        names.into_iter().filter_map(|name| Some((name, snapshot.get::<Host>(name)?.value.underlay?))).collect();
    let mut peers: Vec<IpAddr> = underlay.values().copied().collect();
    peers.sort();
    peers.dedup();
    let on_network = component.ports.iter().filter(|p| p.network_id == network.id);
    let ports = on_network.filter_map(|p| Some((p.mac.clone(), *underlay.get(p.host.as_deref()?)?)));
    let bridges = underlay.iter().map(|(name, ip)| (mac(network, name), *ip));
    let mut remote: Vec<(String, IpAddr)> = ports.chain(bridges).collect();
    remote.sort();
    (peers, remote)
}

fn wire(snapshot: &Snapshot, component: &Component<'_>, network: &Network, port: &Port) -> Wire {
    let (plug, prefix) = match port.holder {
        Some(Holder::Pod { .. }) => (Plug::Veth, "vth"),
        Some(Holder::Trunk(_)) => (Plug::Subport, "spi"),
        _ => (Plug::Tap, "tap"),
    };
    let placed: Vec<(IpAddr, &Subnet)> = port
        .fixed_ips
        .iter()
        .filter_map(|fixed| Some((fixed.ip, *component.subnets.get(fixed.subnet_id.as_str())?)))
        .collect();
    let gateway_of = |v4: bool| placed.iter().find(|(ip, _)| ip.is_ipv4() == v4).and_then(|(_, s)| s.gateway_ip);
    Wire {
        port_id: port.id.clone(),
        device: format!("{prefix}{}", port.short()),
        plug,
        mac: port.mac.clone(),
        addresses: placed.iter().map(|(ip, subnet)| (*ip, subnet.prefix)).collect(),
        gateway: gateway_of(true).or_else(|| gateway_of(false)),
        mtu: network.mtu,
        up: port.admin_state_up && network.admin_state_up,
        allowed_pairs: port.allowed_address_pairs.clone(),
        rules: port.port_security_enabled.then(|| rules::of(snapshot, port)),
        stateless: rules::stateless(snapshot, port),
        qos: QosPolicy::effect_of(snapshot, port.qos_policy.as_ref().or(network.qos_policy.as_ref())),
        trunk: branches(snapshot, port),
        hostname: hostname(port),
        dhcp_options: port
            .extra_dhcp_opts
            .iter()
            .filter_map(|option| {
                let text = |name: &str| option[name].as_str().map(str::to_owned);
                Some((text("opt_name")?, text("opt_value")?, option["ip_version"] == 6))
            })
            .collect(),
    }
}

/// The ports of the trunk of which the port is the parent, by their tags: those that are where it is.
fn branches(snapshot: &Snapshot, port: &Port) -> BTreeMap<u16, String> {
    let trunk = Trunk::of_parent(snapshot, &port.id);
    let subports = trunk.iter().flat_map(|trunk| &trunk.value.sub_ports);
    let here = subports.filter(|sub| snapshot.at::<Port>(&sub.port).is_some_and(|sub| sub.value.host == port.host));
    here.map(|sub| (sub.vlan, sub.port.name.to_string())).collect()
}

/// The port's name, or one made from its first address, as Neutron does.
fn hostname(port: &Port) -> String {
    match port.fixed_ips.first() {
        _ if !port.dns_name.is_empty() => port.dns_name.clone(),
        Some(fixed) => format!("host-{}", fixed.ip.to_string().replace(['.', ':'], "-")),
        None => String::new(),
    }
}
