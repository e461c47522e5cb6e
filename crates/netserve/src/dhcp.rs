//! DHCPv4, answered inside the namespace: one socket a bridge. There is no lease file: who gets what is in the store, so
//! a lease is long, and a new process knows all that the old one knew.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use dhcproto::Name;
use dhcproto::v4::{
    Decodable, Decoder, DhcpOption, Encodable, Encoder, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use driver::address::{Mac, number, parse_cidr, range};
use model::dhcp_option;
use model::hostnet::{Bridge, Scope, Wire};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use std::os::fd::AsRawFd;

use crate::facts::{Current, Facts};
use crate::metadata;
use crate::sockets::packets;

const LEASE_SECONDS: u32 = 86_400;
/// Clients may take no less for granted (RFC 1542).
const SHORTEST: usize = 300;

// Packets between two namespaces of one kernel have no checksum yet when a client reads them raw, and some clients drop
// them for it. None at all is allowed, and is accepted by all.
nix::setsockopt_impl!(NoChecksum, libc::SOL_SOCKET, libc::SO_NO_CHECK, bool, nix::sys::socket::sockopt::SetBool);

/// Turns off UDP checksums of a socket.
#[derive(Clone, Copy)]
struct NoChecksum;

/// Opens the socket of a bridge; runs in the namespace.
pub fn open(bridge: &str) -> io::Result<std::net::UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::Broadcast, &true)?;
    setsockopt(&fd, sockopt::BindToDevice, &bridge.into())?;
    setsockopt(&fd, NoChecksum, &true)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67)))?;
    Ok(fd.into())
}

/// Answers on a bridge until it is dropped.
pub async fn serve(socket: tokio::net::UdpSocket, network_id: String, facts: Current) {
    packets(socket, &network_id, |bytes, _| {
        let (answer, target) = consider(&facts.get(), &network_id, bytes)?;
        Some((answer, SocketAddr::from((target, 68))))
    })
    .await;
}

/// The answer to what came, and where it goes.
pub fn consider(facts: &Facts, network_id: &str, bytes: &[u8]) -> Option<(Vec<u8>, Ipv4Addr)> {
    let needed = needed(bytes)?;
    answer(facts, network_id, &Message::decode(&mut Decoder::new(&needed)).ok()?)
}

/// Where the options of a message begin, behind their magic number.
const OPTIONS: usize = 240;

/// The message with no options but those that are read here, each of the length of its kind: the crate's reader panics
/// about some others.
fn needed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = bytes.split_at_checked(OPTIONS)?;
    let mut needed = head.to_vec();
    while let [code, after @ ..] = rest {
        match (code, after) {
            (0, _) => rest = after,
            (255, _) => break,
            (_, [length, after @ ..]) => {
                let (value, after) = after.split_at_checked(usize::from(*length))?;
                // The address asked for, the kind of message, the server asked.
                if matches!((code, length), (50 | 54, 4) | (53, 1)) {
                    needed.extend([*code, *length]);
                    needed.extend(value);
                }
                rest = after;
            }
            (_, []) => return None,
        }
    }
    needed.push(255);
    Some(needed)
}

/// What a client is told, and where.
fn answer(facts: &Facts, network_id: &str, request: &Message) -> Option<(Vec<u8>, Ipv4Addr)> {
    if request.opcode() != Opcode::BootRequest || request.hlen() != 6 {
        return None;
    }
    let mac = Mac(request.chaddr().get(..6)?.try_into().ok()?);
    let (bridge, wire) = facts.port_by_mac(network_id, mac)?;
    let asked = match request.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => Some(request.ciaddr()).filter(|address| !address.is_unspecified()),
    };
    let leases = leases(bridge, wire);
    let (scope, address) = leases.iter().find(|lease| Some(lease.1) == asked).or(leases.first())?;
    let server = server(bridge, scope)?;
    if let Some(DhcpOption::ServerIdentifier(other)) = request.opts().get(OptionCode::ServerIdentifier)
        && *other != server
    {
        return None;
    }
    let kind = match request.opts().msg_type()? {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request if asked == Some(*address) => MessageType::Ack,
        MessageType::Request => MessageType::Nak,
        MessageType::Inform => MessageType::Ack,
        _ => return None,
    };
    let mut message = Message::default();
    message.set_opcode(Opcode::BootReply).set_xid(request.xid()).set_flags(request.flags());
    message.set_chaddr(&mac.0).set_giaddr(request.giaddr());
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    let mut target = Ipv4Addr::BROADCAST;
    if kind != MessageType::Nak {
        if request.opts().has_msg_type(MessageType::Inform) {
            message.set_ciaddr(request.ciaddr());
        } else {
            message.set_yiaddr(*address).set_siaddr(server);
            message.opts_mut().insert(DhcpOption::AddressLeaseTime(LEASE_SECONDS));
        }
        describe(&mut message, facts, wire, scope, server);
        if !request.ciaddr().is_unspecified() {
            target = request.ciaddr();
        }
    }
    let mut bytes = Vec::with_capacity(SHORTEST);
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    if bytes.len() < SHORTEST {
        bytes.resize(SHORTEST, 0);
    }
    Some((bytes, target))
}

/// The addresses of a port that DHCP may tell it.
fn leases<'a>(bridge: &'a Bridge, wire: &Wire) -> Vec<(&'a Scope, Ipv4Addr)> {
    let addresses = wire.addresses.iter().filter_map(|(address, _)| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    addresses
        .filter_map(|address| {
            let within = |scope: &&Scope| {
                let (first, last) = range(scope.base, scope.prefix);
                scope.dhcp && scope.base.is_ipv4() && (first..=last).contains(&number(address.into()))
            };
            bridge.subnets.iter().find(within).map(|scope| (scope, address))
        })
        .collect()
}

/// The address from which a subnet is served.
fn server(bridge: &Bridge, scope: &Scope) -> Option<Ipv4Addr> {
    let (first, last) = range(scope.base, scope.prefix);
    let held = bridge.addresses.iter().map(|(address, _)| *address);
    let mut own = held.filter(|address| address.is_ipv4() && (first..=last).contains(&number(*address)));
    match scope.server.or_else(|| own.next())? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The options of a lease.
fn describe(message: &mut Message, facts: &Facts, wire: &Wire, scope: &Scope, server: Ipv4Addr) {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    };
    let options = message.opts_mut();
    let mask = u32::MAX.checked_shl(32 - u32::from(scope.prefix.min(32))).unwrap_or(0);
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::from(mask)));
    if let Ok(mtu) = u16::try_from(wire.mtu) {
        options.insert(DhcpOption::InterfaceMtu(mtu));
    }
    let gateway = scope.gateway.as_ref().and_then(v4);
    if let Some(gateway) = gateway {
        options.insert(DhcpOption::Router(vec![gateway]));
    }
    // A subnet that names none has the server for it, whichever address that is.
    let own = [IpAddr::V4(server)];
    let dns = if scope.dns.is_empty() { &own } else { scope.name_servers() };
    let dns: Vec<Ipv4Addr> = dns.iter().filter_map(v4).collect();
    if !dns.is_empty() {
        options.insert(DhcpOption::DomainNameServer(dns));
    }
    if !wire.hostname.is_empty() {
        options.insert(DhcpOption::Hostname(wire.hostname.clone()));
    }
    let Some(domain) = facts.domain() else { return };
    if let Some(first) = domain.zone.search.first() {
        options.insert(DhcpOption::DomainName(first.clone()));
        let names: Vec<Name> = domain.zone.search.iter().filter_map(|name| Name::from_ascii(name).ok()).collect();
        options.insert(DhcpOption::DomainSearch(names));
    }
    let mut routes: Vec<(Ipv4Addr, u8, Ipv4Addr)> = Vec::new();
    for (destination, hop) in &scope.routes {
        if let (Some((IpAddr::V4(base), prefix)), Some(hop)) = (parse_cidr(destination), v4(hop)) {
            routes.push((base, prefix, hop));
        }
    }
    if domain.metadata {
        routes.push((metadata::ADDRESS, 32, server));
    }
    // A client that reads these does not read the router option.
    routes.extend(gateway.map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, gateway)));
    let bytes = dhcp_option::classless(&routes);
    if !bytes.is_empty() && bytes.len() <= 255 {
        options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::ClasslessStaticRoute, bytes)));
    }
    for (name, value, _) in wire.dhcp_options.iter().filter(|option| !option.2) {
        if let Ok((code, bytes)) = dhcp_option::read(name, value, false)
            && let Ok(code) = u8::try_from(code)
        {
            let option = UnknownOption::new(OptionCode::from(code), bytes);
            message.opts_mut().insert(DhcpOption::Unknown(option));
        }
        // Firmware looks for it in the message's head.
        if name == "server-ip-address"
            && let Ok(address) = value.parse::<Ipv4Addr>()
        {
            message.set_siaddr(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{NETWORK, facts};

    fn ask(kind: MessageType, asked: Option<Ipv4Addr>) -> Option<Message> {
        let mut request = Message::default();
        request.set_chaddr(&[2, 0, 0, 0, 0, 5]);
        request.opts_mut().insert(DhcpOption::MessageType(kind));
        if let Some(asked) = asked {
            request.opts_mut().insert(DhcpOption::RequestedIpAddress(asked));
        }
        let (bytes, _) = answer(&facts(), NETWORK, &request)?;
        assert!(bytes.len() >= SHORTEST);
        Message::decode(&mut Decoder::new(&bytes)).ok()
    }

    #[test]
    fn a_port_is_offered_its_address_with_routes() {
        let offer = ask(MessageType::Discover, None).unwrap();
        assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!(offer.opts().get(OptionCode::SubnetMask), Some(&DhcpOption::SubnetMask([255, 255, 255, 0].into())));
        assert_eq!(offer.opts().get(OptionCode::InterfaceMtu), Some(&DhcpOption::InterfaceMtu(1450)));
        let Some(DhcpOption::ClasslessStaticRoute(routes)) = offer.opts().get(OptionCode::ClasslessStaticRoute) else {
            panic!("no routes")
        };
        assert_eq!(routes.len(), 3);
        let boot = Some(&DhcpOption::BootfileName(b"boot.efi".to_vec()));
        assert_eq!(offer.opts().get(OptionCode::BootfileName), boot);
        assert_eq!(offer.siaddr(), Ipv4Addr::new(10, 0, 0, 7), "where it boots from");
    }

    #[test]
    fn no_name_server_is_announced_where_there_shall_be_none() {
        let servers = |dns: &[&str]| {
            let mut domain = facts().domain().unwrap().clone();
            domain.bridges[0].subnets[0].dns = dns.iter().map(|ip| ip.parse().unwrap()).collect();
            let mut request = Message::default();
            request.set_chaddr(&[2, 0, 0, 0, 0, 5]);
            request.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
            let (bytes, _) = answer(&Facts::new(&domain), NETWORK, &request).unwrap();
            match Message::decode(&mut Decoder::new(&bytes)).unwrap().opts().get(OptionCode::DomainNameServer) {
                Some(DhcpOption::DomainNameServer(servers)) => servers.clone(),
                _ => Vec::new(),
            }
        };
        assert_eq!(servers(&[]).len(), 1, "the network's own");
        assert_eq!(servers(&["9.9.9.9"]), [Ipv4Addr::new(9, 9, 9, 9)]);
        assert_eq!(servers(&["0.0.0.0"]), [] as [Ipv4Addr; 0]);
    }

    #[test]
    fn options_that_nobody_needs_do_no_harm() {
        let mut bytes = vec![0; OPTIONS];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 5]);
        bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
        // A network interface identifier of one byte instead of three.
        bytes.extend([94, 1, 1, 53, 1, 1, 0, 255]);
        assert!(consider(&facts(), NETWORK, &bytes).is_some());
        assert!(consider(&facts(), NETWORK, &bytes[..245]).is_none(), "cut off");
    }

    #[test]
    fn a_wrong_address_is_refused_and_a_stranger_is_ignored() {
        let own = Some(Ipv4Addr::new(10, 0, 0, 5));
        assert!(ask(MessageType::Request, own).unwrap().opts().has_msg_type(MessageType::Ack));
        let other = Some(Ipv4Addr::new(10, 0, 0, 6));
        assert!(ask(MessageType::Request, other).unwrap().opts().has_msg_type(MessageType::Nak));
        assert!(ask(MessageType::Release, own).is_none());
        let mut stranger = Message::default();
        stranger.set_chaddr(&[2, 0, 0, 0, 0, 6]);
        stranger.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
        assert!(answer(&facts(), NETWORK, &stranger).is_none());
    }
}
