//! Router advertisements, sent inside the namespace: one socket a bridge. They tell IPv6 hosts of a subnet's prefix, of
//! the router, and whether addresses come by them (SLAAC) or by DHCPv6. Each host's bridge has a link-local address of its
//! own, and advertisements stay off the tunnel, so that every guest routes by its own host. A separate radvd was refused:
//! a process a network, for one packet that follows from the rows.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use driver::address::{Mac, base};
use model::hostnet::{Bridge, Scope};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use crate::facts::{Current, Facts};

/// How often everybody is told, asked or not.
const EVERY: Duration = Duration::from_secs(20);
/// Nobody who asks over and over makes more of them than this.
const APART: Duration = Duration::from_millis(200);

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const ROUTER_SECONDS: u16 = 1800;
const VALID_SECONDS: u32 = 86_400;
const PREFERRED_SECONDS: u32 = 14_400;
const NAMES_SECONDS: u32 = 1800;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

nix::setsockopt_impl!(
    MulticastHops,
    libc::IPPROTO_IPV6,
    libc::IPV6_MULTICAST_HOPS,
    i32,
    nix::sys::socket::sockopt::SetStruct<i32>
);
nix::setsockopt_impl!(
    Filter,
    libc::IPPROTO_ICMPV6,
    ICMPV6_FILTER,
    [u32; 8],
    nix::sys::socket::sockopt::SetStruct<[u32; 8]>
);
/// Linux' number of the option; libc lacks it.
const ICMPV6_FILTER: libc::c_int = 1;

/// The hop limit of multicast packets: neighbours take nothing that may have been routed.
#[derive(Clone, Copy)]
struct MulticastHops;
/// The types of ICMPv6 that the socket does not receive, as a bit set.
#[derive(Clone, Copy)]
struct Filter;

/// Opens the socket of a bridge; runs in the namespace. The socket is a raw one, which is used like one of UDP: packets
/// with addresses.
pub fn open(bridge: &str) -> io::Result<std::net::UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
    setsockopt(&fd, sockopt::BindToDevice, &bridge.into())?;
    setsockopt(&fd, MulticastHops, &255)?;
    let mut filter = [u32::MAX; 8];
    filter[usize::from(SOLICITATION / 32)] &= !(1 << (SOLICITATION % 32));
    setsockopt(&fd, Filter, &filter)?;
    Ok(fd.into())
}

/// Advertises on a bridge, by its index, until it is dropped.
pub async fn serve(socket: UdpSocket, network_id: String, index: u32, facts: Current) {
    let everybody = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    loop {
        if let Some(packet) = advertisement(&facts.get(), &network_id) {
            // Without a port the bridge has no address to send from, and nobody to hear it.
            if let Err(error) = socket.send_to(&packet, everybody).await {
                tracing::debug!(network_id, %error, "a router advertisement could not be sent");
            }
        }
        let sent = Instant::now();
        tokio::select! {
            () = sleep_until(sent + EVERY) => {}
            () = asked(&socket) => sleep_until(sent + APART).await,
        }
    }
}

/// Waits until somebody asks for an advertisement.
async fn asked(socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, SocketAddr::V6(from))) if is_solicitation(&buffer[..length], *from.ip()) => return,
            Ok(_) => {}
            Err(_) => tokio::time::sleep(APART).await,
        }
    }
}

fn is_solicitation(packet: &[u8], from: Ipv6Addr) -> bool {
    let near = from.is_unspecified() || from.is_unicast_link_local();
    packet.len() >= 8 && packet[0] == SOLICITATION && packet[1] == 0 && near
}

/// The subnets of a bridge that are advertised.
pub fn advertised(bridge: &Bridge) -> impl Iterator<Item = &Scope> {
    bridge.subnets.iter().filter(|scope| scope.base.is_ipv6() && scope.ipv6_ra_mode.is_some())
}

/// What a network's hosts are told; the kernel fills in the checksum.
fn advertisement(facts: &Facts, network_id: &str) -> Option<Vec<u8>> {
    let domain = facts.domain()?;
    let bridge = domain.bridges.iter().find(|bridge| bridge.network_id == network_id)?;
    let scopes: Vec<&Scope> = advertised(bridge).collect();
    let mode = |name: &str| scopes.iter().any(|scope| scope.ipv6_ra_mode.as_deref() == Some(name));
    let managed = if mode("dhcpv6-stateful") { 0x80 } else { 0 };
    let other = if mode("dhcpv6-stateful") || mode("dhcpv6-stateless") { 0x40 } else { 0 };
    let holds = |scope: &&Scope| bridge.addresses.iter().any(|(address, _)| Some(*address) == scope.gateway);
    let lifetime = if scopes.iter().any(holds) { ROUTER_SECONDS } else { 0 };
    scopes.first()?;

    let mut packet = vec![ADVERTISEMENT, 0, 0, 0, 64, managed | other];
    packet.extend(lifetime.to_be_bytes());
    packet.extend([0; 8]);
    if let Some(mac) = Mac::parse(&bridge.mac) {
        packet.extend([1, 1]);
        packet.extend(mac.0);
    }
    packet.extend([5, 1, 0, 0]);
    packet.extend(bridge.mtu.to_be_bytes());
    for scope in &scopes {
        prefix(&mut packet, scope);
    }
    let servers: Vec<Ipv6Addr> = name_servers(scopes.iter().copied());
    names(&mut packet, &servers, &domain.zone.search);
    Some(packet)
}

fn prefix(packet: &mut Vec<u8>, scope: &Scope) {
    let IpAddr::V6(address) = base(scope.base, scope.prefix) else { return };
    // On this link; and, unless DHCPv6 gives them, hosts make their own addresses of it.
    let flags = if scope.ipv6_ra_mode.as_deref() == Some("dhcpv6-stateful") { 0x80 } else { 0xc0 };
    packet.extend([3, 4, scope.prefix, flags]);
    packet.extend(VALID_SECONDS.to_be_bytes());
    packet.extend(PREFERRED_SECONDS.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(address.octets());
}

/// The IPv6 name servers of subnets: those that were given, else the network's own.
pub fn name_servers<'a>(scopes: impl Iterator<Item = &'a Scope>) -> Vec<Ipv6Addr> {
    let mut servers = Vec::new();
    for scope in scopes {
        for address in scope.name_servers() {
            if let IpAddr::V6(address) = address
                && !servers.contains(address)
            {
                servers.push(*address);
            }
        }
    }
    // As many as one option holds, and more than any resolver asks.
    servers.truncate(16);
    servers
}

/// Name servers and search list (RFC 8106).
fn names(packet: &mut Vec<u8>, servers: &[Ipv6Addr], search: &[String]) {
    if !servers.is_empty() {
        packet.extend([25, (1 + 2 * servers.len()) as u8, 0, 0]);
        packet.extend(NAMES_SECONDS.to_be_bytes());
        servers.iter().for_each(|server| packet.extend(server.octets()));
    }
    let mut domains = Vec::new();
    for name in search.iter().take(8).filter(|name| name.split('.').all(|label| matches!(label.len(), 1..64))) {
        for label in name.split('.') {
            domains.push(label.len() as u8);
            domains.extend(label.bytes());
        }
        domains.push(0);
    }
    domains.resize(domains.len().next_multiple_of(8), 0);
    if !domains.is_empty() && domains.len() <= 1000 {
        packet.extend([31, (1 + domains.len() / 8) as u8, 0, 0]);
        packet.extend(NAMES_SECONDS.to_be_bytes());
        packet.extend(domains);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{NETWORK, with_mode};

    #[test]
    fn flags_follow_the_mode() {
        for (mode, flags, prefix) in
            [("slaac", 0, 0xc0), ("dhcpv6-stateless", 0x40, 0xc0), ("dhcpv6-stateful", 0xc0, 0x80)]
        {
            let packet = advertisement(&with_mode(Some(mode)), NETWORK).unwrap();
            assert_eq!(
                (packet[0], packet[5], &packet[6..8]),
                (134, flags, &ROUTER_SECONDS.to_be_bytes()[..]),
                "{mode}"
            );
            assert_eq!(packet.len() % 8, 0);
            // Link-layer address and MTU come before the prefix.
            assert_eq!(packet[32..36], [3, 4, 64, prefix], "{mode}");
        }
        assert_eq!(advertisement(&with_mode(None), NETWORK), None);
    }

    #[test]
    fn only_neighbours_may_ask() {
        let ask = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        assert!(is_solicitation(&ask, "fe80::1".parse().unwrap()));
        assert!(is_solicitation(&ask, Ipv6Addr::UNSPECIFIED));
        assert!(
            !is_solicitation(&ask, "fd00::1".parse().unwrap()) && !is_solicitation(&ask[..7], Ipv6Addr::UNSPECIFIED)
        );
    }
}
