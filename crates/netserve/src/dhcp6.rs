//! DHCPv6, answered inside the namespace: one socket a bridge. As with DHCPv4 there is no lease file. A client is known by
//! its link-local address, which anti-spoofing ties to its MAC, or by the MAC in its identifier.
//!
//! Answers are written by the crate that DHCPv4 uses too. Its reader was refused: options that are shorter than their kind
//! allows make it subtract below zero.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use dhcproto::v6::{
    DhcpOption, DhcpOptions, Encodable, Encoder, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode,
    UnknownOption,
};
use driver::address::{Mac, number, range};
use model::dhcp_option;
use model::hostnet::{Bridge, Scope, Wire};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt};

use crate::facts::{Current, Facts};
use crate::ra::name_servers;
use crate::sockets::packets;

const PREFERRED_SECONDS: u32 = 43_200;
const VALID_SECONDS: u32 = 86_400;
/// All servers and relays of the link.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Opens the socket of a bridge, by its name and index; runs in the namespace.
pub fn open(bridge: &str, index: u32) -> io::Result<std::net::UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    setsockopt(&fd, sockopt::BindToDevice, &bridge.into())?;
    bind(fd.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 547, 0, 0)))?;
    let socket = std::net::UdpSocket::from(fd);
    socket.join_multicast_v6(&SERVERS, index)?;
    Ok(socket)
}

/// Answers on a bridge until it is dropped.
pub async fn serve(socket: tokio::net::UdpSocket, network_id: String, facts: Current) {
    packets(socket, &network_id, |bytes, client| {
        let SocketAddr::V6(from) = client else { return None };
        Some((consider(&facts.get(), &network_id, *from.ip(), bytes)?, client))
    })
    .await;
}

/// The subnets of a bridge on which DHCPv6 answers.
pub fn served(bridge: &Bridge) -> impl Iterator<Item = &Scope> {
    let modes = [Some("dhcpv6-stateful"), Some("dhcpv6-stateless")];
    bridge.subnets.iter().filter(move |s| s.dhcp && s.base.is_ipv6() && modes.contains(&s.ipv6_address_mode.as_deref()))
}

/// The most identity associations of one message that are answered; clients have one.
const MOST: usize = 8;

/// What counts of a client's message.
#[derive(Debug, Default)]
struct Asked<'a> {
    kind: u8,
    xid: [u8; 3],
    client: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    rapid: bool,
    /// Identity associations, with the addresses that the client believes to have.
    associations: Vec<(u32, Vec<Ipv6Addr>)>,
}

impl<'a> Asked<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, options) = bytes.split_first_chunk::<4>()?;
        let mut asked = Self { kind: head[0], xid: [head[1], head[2], head[3]], ..Self::default() };
        for (code, value) in read_options(options)? {
            match code {
                1 => asked.client = Some(value),
                2 => asked.server = Some(value),
                3 if asked.associations.len() < MOST => asked.associations.push(read_association(value)?),
                14 => asked.rapid = true,
                _ => {}
            }
        }
        Some(asked)
    }
}

/// An association for addresses: its number, two times, and options.
fn read_association(value: &[u8]) -> Option<(u32, Vec<Ipv6Addr>)> {
    let (id, rest) = value.split_first_chunk::<4>()?;
    let options = read_options(rest.get(8..)?)?;
    let addresses = options.into_iter().filter(|(code, _)| *code == 5);
    let addresses = addresses.filter_map(|(_, value)| Some(Ipv6Addr::from(*value.first_chunk::<16>()?)));
    Some((u32::from_be_bytes(*id), addresses.collect()))
}

/// Options with their codes; none if one is cut off.
fn read_options(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        let ([a, b, c, d], rest) = bytes.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*c, *d])))?;
        options.push((u16::from_be_bytes([*a, *b]), value));
        bytes = rest;
    }
    Some(options)
}

/// The answer to what came from an address.
pub fn consider(facts: &Facts, network_id: &str, from: Ipv6Addr, bytes: &[u8]) -> Option<Vec<u8>> {
    let asked = Asked::read(bytes)?;
    let mac = mac_of_link_local(from).or_else(|| mac_of_identifier(asked.client?))?;
    let (bridge, wire) = facts.port_by_mac(network_id, mac)?;
    let answer = answer(facts, bridge, wire, &asked)?;
    let mut bytes = Vec::new();
    answer.encode(&mut Encoder::new(&mut bytes)).ok()?;
    Some(bytes)
}

/// The MAC of which a link-local address was made.
fn mac_of_link_local(address: Ipv6Addr) -> Option<Mac> {
    let bytes = address.octets();
    let made = address.is_unicast_link_local() && bytes[11..13] == [0xff, 0xfe];
    made.then(|| Mac([bytes[8] ^ 2, bytes[9], bytes[10], bytes[13], bytes[14], bytes[15]]))
}

/// The MAC in a client's identifier (DUID-LLT and DUID-LL).
fn mac_of_identifier(client: &[u8]) -> Option<Mac> {
    let bytes = match client {
        [0, 1, 0, 1, _, _, _, _, mac @ ..] => mac,
        [0, 3, 0, 1, mac @ ..] => mac,
        _ => return None,
    };
    Some(Mac(bytes.try_into().ok()?))
}

fn answer(facts: &Facts, bridge: &Bridge, wire: &Wire, asked: &Asked<'_>) -> Option<Message> {
    let scopes: Vec<&Scope> = served(bridge).collect();
    scopes.first()?;
    let identifier = [&[0, 3, 0, 1], &Mac::parse(&bridge.mac)?.0[..]].concat();
    let for_us = asked.server.map(|server| server == identifier);
    use MessageType::{Confirm, Decline, InformationRequest, Rebind, Release, Renew, Request, Solicit};
    let kind = MessageType::from(asked.kind);
    let well_formed = match kind {
        Solicit | Rebind | Confirm => asked.client.is_some() && for_us.is_none(),
        Request | Renew | Release | Decline => asked.client.is_some() && for_us == Some(true),
        InformationRequest => for_us != Some(false),
        _ => false,
    };
    if !well_formed {
        return None;
    }
    let rapid = kind == Solicit && asked.rapid;
    let answer = if kind == Solicit && !rapid { MessageType::Advertise } else { MessageType::Reply };
    let mut message = Message::new_with_id(answer, asked.xid);
    let options = message.opts_mut();
    options.insert(DhcpOption::ServerId(identifier));
    if let Some(client) = asked.client {
        options.insert(DhcpOption::ClientId(client.to_vec()));
    }
    let addresses = addresses(&scopes, wire);
    match kind {
        // A subnet without DHCPv6 addresses has nothing to say here.
        Confirm if addresses.is_empty() => return None,
        Confirm => options.insert(confirmation(asked, &addresses)),
        Release | Decline => options.insert(status(Status::Success, "")),
        InformationRequest => {}
        _ => asked.associations.iter().for_each(|(id, _)| options.insert(DhcpOption::IANA(lease(*id, &addresses)))),
    }
    if rapid {
        options.insert(DhcpOption::RapidCommit);
    }
    if !matches!(kind, Confirm | Release | Decline) {
        describe(options, facts, wire, &scopes);
    }
    Some(message)
}

/// The addresses of a port that DHCPv6 gives it.
fn addresses(scopes: &[&Scope], wire: &Wire) -> Vec<Ipv6Addr> {
    let stateful = scopes.iter().filter(|scope| scope.ipv6_address_mode.as_deref() == Some("dhcpv6-stateful"));
    let ranges: Vec<_> = stateful.map(|scope| range(scope.base, scope.prefix)).collect();
    let own = wire.addresses.iter().filter_map(|(address, _)| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    own.filter(|address| ranges.iter().any(|(first, last)| (*first..=*last).contains(&number((*address).into()))))
        .collect()
}

fn lease(id: u32, addresses: &[Ipv6Addr]) -> IANA {
    let mut opts = DhcpOptions::new();
    for addr in addresses {
        let (preferred_life, valid_life) = (PREFERRED_SECONDS, VALID_SECONDS);
        opts.insert(DhcpOption::IAAddr(IAAddr { addr: *addr, preferred_life, valid_life, opts: DhcpOptions::new() }));
    }
    if addresses.is_empty() {
        opts.insert(status(Status::NoAddrsAvail, "the port has no address of a subnet with DHCPv6 addresses"));
    }
    IANA { id, t1: PREFERRED_SECONDS / 2, t2: PREFERRED_SECONDS / 5 * 4, opts }
}

fn status(status: Status, words: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: words.to_owned() })
}

/// Whether all that the client believes to have is still its own.
fn confirmation(asked: &Asked<'_>, addresses: &[Ipv6Addr]) -> DhcpOption {
    let mut believed = asked.associations.iter().flat_map(|(_, believed)| believed);
    let own = believed.all(|address| addresses.contains(address));
    if own { status(Status::Success, "") } else { status(Status::NotOnLink, "another address is the port's") }
}

/// What goes with every answer that a client keeps.
fn describe(options: &mut DhcpOptions, facts: &Facts, wire: &Wire, scopes: &[&Scope]) {
    let servers = name_servers(scopes.iter().copied());
    if !servers.is_empty() {
        options.insert(DhcpOption::DomainNameServers(servers));
    }
    let search = facts.domain().map(|domain| domain.zone.search.as_slice()).unwrap_or_default();
    let names: Vec<dhcproto::Name> = search.iter().filter_map(|n| dhcproto::Name::from_ascii(n).ok()).take(8).collect();
    if !names.is_empty() {
        options.insert(DhcpOption::DomainSearchList(names));
    }
    for (name, value, _) in wire.dhcp_options.iter().filter(|option| option.2) {
        if let Ok((code, bytes)) = dhcp_option::read(name, value, true) {
            let code = OptionCode::from(code);
            // What the port asks for takes the place of what the subnet has to say.
            drop(options.remove_all(code));
            options.insert(DhcpOption::Unknown(UnknownOption::new(code, bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v6::{Decodable, Decoder};

    use super::*;
    use crate::sample::{MAC, NETWORK, facts, with_mode};

    fn ask(mode: &str, kind: MessageType, more: Vec<DhcpOption>) -> Option<Message> {
        let mut request = Message::new(kind);
        request.opts_mut().insert(DhcpOption::ClientId(vec![0, 2, 1, 2]));
        request.opts_mut().insert(DhcpOption::IANA(IANA { id: 7, t1: 0, t2: 0, opts: DhcpOptions::new() }));
        more.into_iter().for_each(|option| request.opts_mut().insert(option));
        let mut bytes = Vec::new();
        request.encode(&mut Encoder::new(&mut bytes)).unwrap();
        let answer = consider(&with_mode(Some(mode)), NETWORK, MAC.link_local(), &bytes)?;
        let answer = Message::decode(&mut Decoder::new(&answer)).unwrap();
        assert_eq!(answer.xid(), request.xid());
        Some(answer)
    }

    fn leased(answer: &Message) -> Option<Ipv6Addr> {
        let Some(DhcpOption::IANA(ia)) = answer.opts().get(OptionCode::IANA) else { return None };
        match ia.opts.get(OptionCode::IAAddr) {
            Some(DhcpOption::IAAddr(one)) => Some(one.addr),
            _ => None,
        }
    }

    #[test]
    fn a_port_gets_its_own_address() {
        let own = Some("fd00:1::5".parse().unwrap());
        let advertise = ask("dhcpv6-stateful", MessageType::Solicit, Vec::new()).unwrap();
        assert_eq!((advertise.msg_type(), leased(&advertise)), (MessageType::Advertise, own));
        let server = advertise.opts().get(OptionCode::ServerId).unwrap().clone();
        let reply = ask("dhcpv6-stateful", MessageType::Request, vec![server]).unwrap();
        assert_eq!((reply.msg_type(), leased(&reply)), (MessageType::Reply, own));
        let servers = DhcpOption::DomainNameServers(vec!["fd00:1::53".parse().unwrap()]);
        assert_eq!(reply.opts().get_all(OptionCode::DomainNameServers), Some(&[servers][..]), "the port's own");
        assert!(reply.opts().get(OptionCode::OptBootfileUrl).is_some());
        let rapid = ask("dhcpv6-stateful", MessageType::Solicit, vec![DhcpOption::RapidCommit]).unwrap();
        assert_eq!((rapid.msg_type(), leased(&rapid)), (MessageType::Reply, own));
        assert!(ask("dhcpv6-stateful", MessageType::Request, vec![DhcpOption::ServerId(vec![1])]).is_none());
        assert!(ask("dhcpv6-stateful", MessageType::Request, Vec::new()).is_none());
    }

    #[test]
    fn without_state_there_are_names_but_no_address() {
        let told = ask("dhcpv6-stateless", MessageType::InformationRequest, Vec::new()).unwrap();
        assert!(told.opts().get(OptionCode::DomainNameServers).is_some());
        let advertise = ask("dhcpv6-stateless", MessageType::Solicit, Vec::new()).unwrap();
        assert_eq!(leased(&advertise), None);
        assert!(ask("slaac", MessageType::Solicit, Vec::new()).is_none());
    }

    #[test]
    fn clients_are_known_by_their_mac() {
        let mac = Mac([0xfa, 0x16, 0x3e, 1, 2, 3]);
        assert_eq!(mac_of_link_local(mac.link_local()), Some(mac));
        assert_eq!(mac_of_identifier(&[0, 1, 0, 1, 9, 9, 9, 9, 0xfa, 0x16, 0x3e, 1, 2, 3]), Some(mac));
        assert_eq!(mac_of_identifier(&[0, 3, 0, 1, 0xfa, 0x16, 0x3e, 1, 2, 3]), Some(mac));
        assert_eq!(mac_of_identifier(&[0, 3, 0, 1, 0xfa]), None);
    }

    #[test]
    fn options_that_are_cut_off_are_not_read() {
        let facts = facts();
        let from = MAC.link_local();
        let whole =
            [1, 1, 2, 3, 0, 1, 0, 4, 0, 2, 1, 2, 0, 13, 0, 1, 0, 0, 3, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(consider(&facts, NETWORK, from, &whole).is_some(), "a status of one byte is nobody's business");
        for end in (0..whole.len()).filter(|end| ![12, 17].contains(end)) {
            assert!(consider(&facts, NETWORK, from, &whole[..end]).is_none(), "{end}");
        }
    }
}
