//! DNS, answered inside the namespace from the domain's zone. What the zone does not know goes to the host's own resolvers,
//! from the host's namespace, as it came; the answer is handed back unread.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use nix::sys::socket::SockType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::facts::{Current, Facts};
use crate::sockets;

mod alias;

use alias::Alias;

/// Names change with pods: nobody shall remember them for long.
const TTL: u32 = 5;
const LARGEST_UDP: u16 = 1232;
/// Questions of one server that are on their way to the host's resolvers; more are refused.
const FORWARDED: usize = 128;
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);

/// The sockets of one address; runs in the namespace.
pub fn open(address: IpAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    Ok((sockets::bound(address, SockType::Datagram, 53)?.into(), sockets::listener(address, 53)?))
}

/// Answers datagrams until it is dropped.
pub async fn serve_udp(socket: UdpSocket, facts: Current) {
    let socket = Arc::new(socket);
    let mut forwarded = JoinSet::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while forwarded.try_join_next().is_some() {}
        let question = &buffer[..length];
        match decide(&facts.get(), question) {
            Decision::Answer(answer) => drop(socket.send_to(&short(&answer), client).await),
            Decision::Forward(query) if forwarded.len() < FORWARDED => {
                let (socket, question) = (socket.clone(), question.to_vec());
                forwarded.spawn(async move {
                    let answer = match forward_udp(&question).await {
                        Some(answer) => answer,
                        None => failure(&query, ResponseCode::ServFail),
                    };
                    let _ = socket.send_to(&answer, client).await;
                });
            }
            Decision::Follow(alias) if forwarded.len() < FORWARDED => {
                let socket = socket.clone();
                forwarded.spawn(async move {
                    let said = forward_udp(&alias.question).await;
                    let _ = socket.send_to(&short(&alias.answer(said.as_deref())), client).await;
                });
            }
            Decision::Follow(alias) => drop(socket.send_to(&short(&alias.answer(None)), client).await),
            Decision::Forward(query) => {
                drop(socket.send_to(&failure(&query, ResponseCode::Refused), client).await);
            }
            Decision::Ignore => {}
        }
    }
}

/// Answers connections until it is dropped.
pub async fn serve_tcp(listener: TcpListener, facts: Current) {
    sockets::connections(listener, CONNECTIONS, |stream, _| {
        let facts = facts.clone();
        async move {
            let _ = timeout(IDLE * 6, converse(stream, facts)).await;
        }
    })
    .await;
}

async fn converse(mut stream: TcpStream, facts: Current) -> io::Result<()> {
    loop {
        let question = timeout(IDLE, read_framed(&mut stream)).await??;
        let answer = match decide(&facts.get(), &question) {
            Decision::Answer(answer) => answer.to_vec().map_err(io::Error::other)?,
            Decision::Forward(query) => match timeout(PATIENCE * 2, forward_tcp(&question)).await {
                Ok(Some(answer)) => answer,
                _ => failure(&query, ResponseCode::ServFail),
            },
            Decision::Follow(alias) => {
                let said = timeout(PATIENCE * 2, forward_tcp(&alias.question)).await.ok().flatten();
                alias.answer(said.as_deref()).to_vec().map_err(io::Error::other)?
            }
            Decision::Ignore => return Ok(()),
        };
        write_framed(&mut stream, &answer).await?;
    }
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_framed(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await
}

/// The host's resolvers.
async fn resolvers() -> Vec<SocketAddr> {
    let text = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    servers.take(3).map(|address| SocketAddr::new(address, 53)).collect()
}

async fn forward_udp(question: &[u8]) -> Option<Vec<u8>> {
    for resolver in resolvers().await {
        if let Ok(Ok(answer)) = timeout(PATIENCE, ask_udp(resolver, question)).await {
            return Some(answer);
        }
    }
    None
}

async fn ask_udp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if resolver.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }.parse().map_err(io::Error::other)?;
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer.get(..2) == question.get(..2) && length >= 12 {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn forward_tcp(question: &[u8]) -> Option<Vec<u8>> {
    for resolver in resolvers().await {
        let asked = timeout(PATIENCE, async {
            let mut stream = TcpStream::connect(resolver).await?;
            write_framed(&mut stream, question).await?;
            read_framed(&mut stream).await
        });
        if let Ok(Ok(answer)) = asked.await {
            return Some(answer);
        }
    }
    None
}

/// What becomes of a question.
#[derive(Debug)]
enum Decision {
    Answer(Message),
    Forward(Message),
    /// A name of the zone that stands for one elsewhere.
    Follow(Alias),
    /// Not a question at all.
    Ignore,
}

/// The answer to a question that the zone knows, as it goes over UDP; for questions that are forwarded, the refusal that
/// is sent when nobody answers.
pub fn consider(facts: &Facts, bytes: &[u8]) -> Vec<u8> {
    match decide(facts, bytes) {
        Decision::Answer(answer) => short(&answer),
        Decision::Forward(query) => failure(&query, ResponseCode::ServFail),
        Decision::Follow(alias) => short(&alias.answer(None)),
        Decision::Ignore => Vec::new(),
    }
}

fn decide(facts: &Facts, bytes: &[u8]) -> Decision {
    let Ok(query) = Message::from_vec(bytes) else { return Decision::Ignore };
    if query.metadata.message_type != MessageType::Query {
        return Decision::Ignore;
    }
    if query.metadata.op_code != OpCode::Query {
        return Decision::Answer(reply(&query, ResponseCode::NotImp));
    }
    let [question] = query.queries.as_slice() else {
        return Decision::Answer(reply(&query, ResponseCode::FormErr));
    };
    if let Some(decision) = alias::decide(facts, &query, question) {
        return decision;
    }
    match local(facts, &query, question) {
        Some(answer) => Decision::Answer(answer),
        None => Decision::Forward(query),
    }
}

fn reply(query: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.add_queries(query.queries.iter().cloned());
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_UDP);
        answer.set_edns(edns);
    }
    answer
}

fn failure(query: &Message, code: ResponseCode) -> Vec<u8> {
    reply(query, code).to_vec().unwrap_or_default()
}

/// The answer as a datagram: cut, with a hint to come again by TCP, if it is too long.
fn short(answer: &Message) -> Vec<u8> {
    let limit = if answer.edns.is_some() { usize::from(LARGEST_UDP) } else { 512 };
    match answer.to_vec() {
        Ok(bytes) if bytes.len() <= limit => bytes,
        _ => answer.truncate().to_vec().unwrap_or_default(),
    }
}

/// The zone's answer, if it has one to give.
fn local(facts: &Facts, query: &Message, question: &Query) -> Option<Message> {
    let zone = &facts.domain()?.zone;
    if question.query_class() != DNSClass::IN {
        return None;
    }
    let name = question.name().to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    let mut answer = reply(query, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    let owner = question.name();
    let wants = |kind| question.query_type() == kind || question.query_type() == RecordType::ANY;
    if let Ok(network) = owner.parse_arpa_name() {
        let names = facts.names_of(network.addr());
        for name in names.iter().filter(|_| wants(RecordType::PTR)) {
            answer.add_answer(Record::from_rdata(
                owner.clone(),
                TTL,
                RData::PTR(PTR(Name::from_ascii(name).ok()?.into_fqdn())),
            ));
        }
        return (!names.is_empty()).then_some(answer);
    }
    let addresses = zone.names.get(name);
    let targets = zone.srv.get(name);
    for address in addresses.into_iter().flatten() {
        answer.answers.extend(address_record(owner, *address).filter(|record| wants(record.record_type())));
    }
    if wants(RecordType::SRV) {
        for (target, port) in targets.into_iter().flatten() {
            let target_name = Name::from_ascii(target).ok()?.into_fqdn();
            answer.add_answer(Record::from_rdata(
                owner.clone(),
                TTL,
                RData::SRV(SRV::new(0, 10, *port, target_name.clone())),
            ));
            let addresses = zone.names.get(target).into_iter().flatten();
            answer.additionals.extend(addresses.filter_map(|address| address_record(&target_name, *address)));
        }
    }
    // The longest: a zone may lie in another.
    let below =
        zone.authority.iter().map(|suffix| suffix.trim_end_matches('.')).filter(|suffix| is_below(name, suffix));
    let suffix = below.max_by_key(|suffix| suffix.len());
    let known = addresses.is_some() || targets.is_some();
    let Some(suffix) = suffix else { return known.then_some(answer) };
    let zone = Apex::of(facts, suffix)?;
    if name == suffix {
        answer.answers.extend([zone.soa(), zone.ns()].into_iter().filter(|record| wants(record.record_type())));
        if wants(RecordType::NS) {
            answer.additionals.extend(zone.addresses());
        }
    } else if name == zone.server {
        answer.answers.extend(zone.addresses().filter(|record| wants(record.record_type())));
    } else if !known && !facts.is_branch(name) {
        // It denies all that lies below, too (RFC 8020), so it is said of no name under which there are others.
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    if answer.answers.is_empty() {
        answer.add_authority(zone.soa());
    }
    Some(answer)
}

/// The beginning of a zone, and what can be said of it.
struct Apex<'a> {
    facts: &'a Facts,
    name: Name,
    /// The name of the server that answers, as Kubernetes' DNS specification has it.
    server: String,
    server_name: Name,
}

impl<'a> Apex<'a> {
    fn of(facts: &'a Facts, suffix: &str) -> Option<Self> {
        let server = format!("ns.dns.{suffix}");
        let name = Name::from_ascii(suffix).ok()?.into_fqdn();
        let server_name = Name::from_ascii(&server).ok()?.into_fqdn();
        Some(Self { facts, name, server, server_name })
    }

    fn soa(&self) -> Record {
        let soa = SOA::new(self.server_name.clone(), self.name.clone(), 1, 3600, 600, 86_400, TTL);
        Record::from_rdata(self.name.clone(), TTL, RData::SOA(soa))
    }

    fn ns(&self) -> Record {
        Record::from_rdata(self.name.clone(), TTL, RData::NS(NS(self.server_name.clone())))
    }

    /// Where the zone is answered for: at the gateways of its networks.
    fn addresses(&self) -> impl Iterator<Item = Record> {
        let bridges = self.facts.domain().into_iter().flat_map(|domain| &domain.bridges);
        let addresses = bridges.flat_map(|bridge| bridge.addresses.iter().map(|(address, _)| *address));
        addresses.filter_map(|address| address_record(&self.server_name, address))
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    let suffix = suffix.trim_end_matches('.');
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn address_record(owner: &Name, address: IpAddr) -> Option<Record> {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Some(Record::from_rdata(owner.clone(), TTL, data))
}

trait IntoFqdn {
    /// The name with its last dot.
    fn into_fqdn(self) -> Self;
}

impl IntoFqdn for Name {
    fn into_fqdn(mut self) -> Name {
        self.set_fqdn(true);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::facts;

    fn ask(name: &str, kind: RecordType) -> Decision {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        decide(&facts(), &query.to_vec().unwrap())
    }

    fn answered(name: &str, kind: RecordType) -> Message {
        match ask(name, kind) {
            Decision::Answer(answer) => answer,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn the_zone_answers_for_its_names() {
        assert_eq!(answered("Web-1.Demo.internal.", RecordType::A).answers.len(), 1);
        assert_eq!(answered("web-1.demo.internal.", RecordType::AAAA).answers.len(), 1);
        let srv = answered("_http._tcp.web-1.demo.internal.", RecordType::SRV);
        assert_eq!((srv.answers.len(), srv.additionals.len()), (1, 2));
        assert_eq!(answered("5.0.0.10.in-addr.arpa.", RecordType::PTR).answers.len(), 1);
    }

    #[test]
    fn unknown_names_below_the_authority_do_not_exist_and_others_are_forwarded() {
        let answer = answered("nobody.demo.internal.", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(answer.authorities.len(), 1);
        let answer = answered("web-1.demo.internal.", RecordType::MX);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 0));
        assert!(matches!(ask("example.org.", RecordType::A), Decision::Forward(_)));
        assert!(matches!(ask("notdemo.internal.", RecordType::A), Decision::Forward(_)));
    }

    #[test]
    fn a_name_under_which_there_are_names_exists() {
        let code = |name: &str| answered(name, RecordType::A).metadata.response_code;
        for branch in ["_tcp.web-1.demo.internal.", "demo.internal."] {
            assert_eq!(code(branch), ResponseCode::NoError, "{branch}");
        }
        assert_eq!(code("_udp.web-1.demo.internal."), ResponseCode::NXDomain);
        let soa = answered("demo.internal.", RecordType::SOA);
        assert!(matches!(soa.answers.as_slice(), [record] if record.record_type() == RecordType::SOA));
        let ns = answered("demo.internal.", RecordType::NS);
        assert_eq!((ns.answers.len(), ns.additionals.is_empty()), (1, false));
        assert!(!answered("ns.dns.demo.internal.", RecordType::A).answers.is_empty());
    }

    #[test]
    fn long_answers_are_cut_and_rubbish_is_ignored() {
        let bytes = short(&answered("many.demo.internal.", RecordType::A));
        assert!(bytes.len() <= 512 && Message::from_vec(&bytes).unwrap().metadata.truncation);
        for length in 0..64 {
            assert!(matches!(decide(&facts(), &vec![0xff; length]), Decision::Ignore | Decision::Answer(_)));
        }
    }
}
