//! Trunks: a guest that is this test itself speaks by tags with neighbours on other networks, and with nobody by tags that
//! are not its own.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use driver::{Attach, Attachment, NetDriver, SeenWire};
use model::Direction;
use model::hostnet::{HostNetwork, Plug, Qos, RateLimit, Rule, Wire};
use model::wanted::Nic;
use support::*;

const CUSTOMER: u16 = 0x8100;
const PROVIDER: u16 = 0x88a8;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
/// What a tap puts before each frame.
const HEADER: usize = 10;

fn open() -> Vec<Rule> {
    [egress(), vec![rule(Direction::Ingress, None, None, None)]].concat()
}

fn subport(network: u8, last: u8, rules: Vec<Rule>) -> Wire {
    let wire = wire(network, last, Plug::Tap, Some(rules));
    Wire { device: format!("spi{}", &wire.port_id[..11]), plug: Plug::Subport, ..wire }
}

fn with(parent: &Wire, subports: &[(u16, &Wire)]) -> Wire {
    Wire { trunk: subports.iter().map(|(vlan, wire)| (*vlan, wire.port_id.clone())).collect(), ..parent.clone() }
}

fn v4(wire: &Wire) -> Ipv4Addr {
    match wire.addresses[0].0 {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(_) => unreachable!("wires of tests have IPv4"),
    }
}

fn mac(text: &str) -> Vec<u8> {
    text.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect()
}

/// The sum over words by which IPv4 and ICMP check themselves.
fn sum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Who sends, and by which tags, the outermost first: protocol and number.
#[derive(Clone)]
struct From<'a> {
    wire: &'a Wire,
    tags: Vec<(u16, u16)>,
}

impl From<'_> {
    fn frame(&self, to: &[u8], kind: u16, packet: &[u8]) -> Vec<u8> {
        let tags = self.tags.iter().flat_map(|(protocol, tci)| [protocol.to_be_bytes(), tci.to_be_bytes()].concat());
        let head = to.iter().copied().chain(mac(&self.wire.mac)).chain(tags).chain(kind.to_be_bytes());
        head.chain(packet.iter().copied()).collect()
    }

    /// Who has the address?
    fn question(&self, address: Ipv4Addr) -> Vec<u8> {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
        packet.extend(mac(&self.wire.mac));
        packet.extend(v4(self.wire).octets());
        packet.extend([0; 6]);
        packet.extend(address.octets());
        self.frame(&[0xff; 6], ARP, &packet)
    }

    fn echo(&self, to: &Wire) -> Vec<u8> {
        let mut icmp = vec![8, 0, 0, 0, 0, 7, 0, 1];
        icmp.extend(b"by its tag");
        let check = sum(&icmp);
        icmp[2..4].copy_from_slice(&check);
        let mut packet = vec![0x45, 0, 0, 20 + icmp.len() as u8, 0, 1, 0, 0, 64, 1, 0, 0];
        packet.extend(v4(self.wire).octets());
        packet.extend(v4(to).octets());
        let check = sum(&packet);
        packet[10..12].copy_from_slice(&check);
        packet.extend(icmp);
        self.frame(&mac(&to.mac), IPV4, &packet)
    }
}

/// What came: the number of the tag, if there is one, and what is in it.
#[derive(Debug, PartialEq)]
struct Heard {
    tag: Option<u16>,
    kind: u16,
    packet: Vec<u8>,
}

impl Heard {
    fn read(frame: &[u8]) -> Heard {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        match word(12) {
            CUSTOMER => Heard { tag: Some(word(14) & 0xfff), kind: word(16), packet: frame[18..].to_vec() },
            kind => Heard { tag: None, kind, packet: frame[14..].to_vec() },
        }
    }

    fn is_answer_of(&self, address: Ipv4Addr) -> bool {
        self.kind == ARP && self.packet[7] == 2 && self.packet[14..18] == address.octets()
    }

    fn is_echo_of(&self, address: Ipv4Addr) -> bool {
        self.kind == IPV4 && self.packet[9] == 1 && self.packet[12..16] == address.octets() && self.packet[20] == 0
    }
}

/// A VM's side of a tap.
struct Guest {
    file: std::fs::File,
    frames: mpsc::Receiver<Heard>,
}

impl Guest {
    async fn of(lab: &Lab, wanted: &HostNetwork, wire: &Wire) -> Guest {
        Self::of_domain(lab, wanted, 0, wire).await
    }

    async fn of_domain(lab: &Lab, wanted: &HostNetwork, at: usize, wire: &Wire) -> Guest {
        let nic = Nic {
            port_id: wire.port_id.clone(),
            mac: wire.mac.clone(),
            mtu: wire.mtu,
            device: wire.device.clone(),
            namespace: wanted.domains[at].namespace(&lab.prefix),
        };
        let attachment = lab.net.attach(&nic).await.unwrap();
        let Attachment::Tap(tap) = attachment else { panic!("{attachment} instead of a tap") };
        let file = std::fs::File::from(tap);
        let (mut tap, (sender, frames)) = (file.try_clone().unwrap(), mpsc::channel());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = tap.read(&mut buffer) {
                if sender.send(Heard::read(&buffer[HEADER..length])).is_err() {
                    return;
                }
            }
        });
        Guest { file, frames }
    }

    fn send(&mut self, frame: &[u8]) {
        let _ = self.file.write([&[0; HEADER], frame].concat().as_slice()).unwrap();
    }

    /// Everything that comes until what is waited for.
    fn until(&mut self, what: &str, mut again: impl FnMut(&mut Self), is_it: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let (end, mut all) = (Instant::now() + Duration::from_secs(60), Vec::new());
        loop {
            assert!(Instant::now() < end, "{what} did not come within 60 s, but {all:?}");
            again(self);
            while let Ok(heard) = self.frames.recv_timeout(Duration::from_millis(200)) {
                let found = is_it(&heard);
                all.push(heard);
                if found {
                    return all;
                }
            }
        }
    }

    /// Asks a neighbour for its MAC and for an echo by a tag; both answers have the same tag.
    fn reaches(&mut self, from: &From<'_>, to: &Wire) {
        let address = v4(to);
        let tag = from.tags.first().map(|tag| tag.1 & 0xfff);
        let answers = |heard: &Heard| heard.tag == tag && heard.is_answer_of(address);
        self.until("an answer", |guest| guest.send(&from.question(address)), answers);
        let echoes = |heard: &Heard| heard.tag == tag && heard.is_echo_of(address);
        self.until("an echo", |guest| guest.send(&from.echo(to)), echoes);
    }
}

fn tagged(wire: &Wire, vlan: u16) -> From<'_> {
    From { wire, tags: vec![(CUSTOMER, vlan)] }
}

/// What the driver says of its ports: `-` for one that is down, `+` for one that works, `!` for one that cannot.
async fn state(lab: &Lab, wanted: &HostNetwork) -> String {
    let seen = lab.net.apply(wanted, NOW).await.unwrap();
    assert_eq!(seen.late, Vec::<String>::new());
    let by_id: BTreeMap<String, SeenWire> = seen.wires.into_iter().map(|wire| (wire.port_id.clone(), wire)).collect();
    by_id
        .values()
        .map(|wire| {
            if wire.failed {
                '!'
            } else if wire.active {
                '+'
            } else {
                '-'
            }
        })
        .collect()
}

fn left(namespace: &str) -> Vec<String> {
    devices(namespace).into_iter().filter(|name| name.starts_with("sp")).collect()
}

fn programs(namespace: &str) -> String {
    let show = |name: &String| text(&inside(namespace, &format!("tc filter show dev {name} ingress")));
    devices(namespace).iter().map(show).collect()
}

/// A VM on network 1 whose subports are on network 2, in another domain, and on network 3, in its own; and a pod on each.
struct World {
    lab: Lab,
    parent: Wire,
    other: Wire,
    same: Wire,
    pods: [Wire; 3],
}

impl World {
    fn new(other: Vec<Rule>) -> World {
        let pod = |network| wire(network, 6, Plug::Veth, Some(open()));
        World {
            lab: Lab::new(),
            parent: wire(1, 5, Plug::Tap, Some(open())),
            other: subport(2, 5, other),
            same: subport(3, 5, open()),
            pods: [pod(1), pod(2), pod(3)],
        }
    }

    /// With these subports, by their tags.
    fn network(&self, subports: &[(u16, &Wire)]) -> HostNetwork {
        let parent = with(&self.parent, subports);
        let on = |network: u8, first: Option<Wire>| {
            let ports = first.into_iter().chain([self.pods[usize::from(network) - 1].clone()]);
            let here = subports.iter().map(|(_, wire)| *wire).filter(|wire| wire.addresses[0].0.is_ipv4());
            let here = here.filter(|wire| v4(wire).octets()[1] == network).cloned();
            bridge(network, ports.chain(here).collect())
        };
        network(vec![domain(1, vec![on(1, Some(parent)), on(3, None)]), domain(2, vec![on(2, None)])])
    }

    async fn plug(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for pod in self.pods.clone() {
            names.push(self.lab.plug(&pod).await);
        }
        names
    }

    fn namespaces(&self, wanted: &HostNetwork) -> Vec<String> {
        wanted.domains.iter().map(|domain| domain.namespace(&self.lab.prefix)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_networks_by_their_tags() {
    if !able() {
        return;
    }
    let mut world = World::new(open());
    let (parent, other, same) = (world.parent.clone(), world.other.clone(), world.same.clone());
    let wanted = world.network(&[(100, &other), (4094, &same)]);
    let namespaces = world.namespaces(&wanted);
    assert_eq!(state(&world.lab, &wanted).await, "------", "nothing is plugged in");
    assert_eq!(left(&namespaces[0]), Vec::<String>::new());
    let pods = world.plug().await;
    let mut guest = Guest::of(&world.lab, &wanted, &parent).await;
    // Before any further pass, as soon as the device is there.
    guest.reaches(&tagged(&other, 100), &world.pods[1]);
    guest.reaches(&tagged(&same, 4094), &world.pods[2]);
    guest.reaches(&From { wire: &parent, tags: Vec::new() }, &world.pods[0]);
    // A priority is no part of the tag.
    guest.reaches(&From { wire: &other, tags: vec![(CUSTOMER, 0xe000 | 100)] }, &world.pods[1]);
    assert_eq!(state(&world.lab, &wanted).await, "++++++");
    // What others begin comes with the tag, too.
    let far = tokio::task::spawn_blocking(move || pings(&pods[1], "10.2.0.5"));
    let asks = |heard: &Heard| heard.tag == Some(100) && heard.kind == ARP && heard.packet[7] == 1;
    guest.until("a question", |_| (), asks);
    let _ = far.await;

    let rules = text(&inside(&namespaces[0], "nft list table inet braid"));
    assert_eq!(rules.matches("iifname \"spt*\" drop").count(), 2, "to the namespace, and through it: {rules}");

    // A new process finds all as it is, and changes nothing of it.
    let before = programs(&namespaces[0]);
    assert_eq!(before.matches("direct-action").count(), 3, "{before}");
    world.lab.restart();
    assert_eq!(state(&world.lab, &wanted).await, "++++++");
    assert_eq!(programs(&namespaces[0]), before);
    guest.reaches(&tagged(&other, 100), &world.pods[1]);
    // Somebody took away what tells the tags apart.
    inside(&namespaces[0], &format!("tc qdisc del dev {} ingress", parent.device));
    assert_eq!(state(&world.lab, &wanted).await, "++++++");
    guest.reaches(&tagged(&other, 100), &world.pods[1]);

    // Other tags for the same ports.
    let wanted = world.network(&[(7, &other), (8, &same)]);
    assert_eq!(state(&world.lab, &wanted).await, "++++++");
    guest.reaches(&tagged(&other, 7), &world.pods[1]);
    guest.reaches(&tagged(&same, 8), &world.pods[2]);
    // One goes, and its tag leads nowhere; nor is anything left of it.
    let wanted = world.network(&[(8, &same)]);
    assert_eq!(state(&world.lab, &wanted).await, "+++++");
    assert_eq!(left(&namespaces[1]), Vec::<String>::new());
    guest.send(&tagged(&other, 7).question(v4(&world.pods[1])));
    guest.reaches(&tagged(&same, 8), &world.pods[2]);
    // Then the last, and the trunk with it.
    let wanted = world.network(&[]);
    assert_eq!(state(&world.lab, &wanted).await, "++++");
    assert_eq!((left(&namespaces[0]), programs(&namespaces[0])), (Vec::new(), String::new()));
    guest.send(&tagged(&same, 8).question(v4(&world.pods[2])));
    guest.reaches(&From { wire: &parent, tags: Vec::new() }, &world.pods[0]);

    // A VM that stops takes its subports along; when it comes back, they do.
    let wanted = world.network(&[(100, &other), (4094, &same)]);
    assert_eq!(state(&world.lab, &wanted).await, "++++++");
    inside(&namespaces[0], &format!("ip link del {}", parent.device));
    drop(guest);
    assert_eq!(state(&world.lab, &wanted).await, "-+-+-+");
    assert_eq!((left(&namespaces[0]), left(&namespaces[1])), (Vec::new(), Vec::new()));
    let mut guest = Guest::of(&world.lab, &wanted, &parent).await;
    guest.reaches(&tagged(&other, 100), &world.pods[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tags_lead_nowhere() {
    if !able() {
        return;
    }
    let mut world = World::new(open());
    let (parent, other, same) = (world.parent.clone(), world.other.clone(), world.same.clone());
    let wanted = world.network(&[(100, &other)]);
    world.lab.apply(&wanted).await;
    world.plug().await;
    let mut guest = Guest::of(&world.lab, &wanted, &parent).await;
    let neighbour = v4(&world.pods[1]);
    let tags = |tags: &[(u16, u16)]| From { wire: &other, tags: tags.to_vec() };
    for wrong in [
        // Of nobody, of no number, of a provider, of one in another.
        tags(&[(CUSTOMER, 101)]),
        tags(&[(CUSTOMER, 0)]),
        tags(&[(CUSTOMER, 4095)]),
        tags(&[(PROVIDER, 100)]),
        tags(&[(CUSTOMER, 100), (CUSTOMER, 100)]),
        tags(&[(CUSTOMER, 100), (PROVIDER, 100)]),
        tags(&[(PROVIDER, 100), (CUSTOMER, 100)]),
        tags(&[]),
        // In the name of another port of the trunk, and of one of nobody's.
        From { wire: &parent, tags: vec![(CUSTOMER, 100)] },
        From { wire: &same, tags: vec![(CUSTOMER, 100)] },
    ] {
        guest.send(&wrong.question(neighbour));
    }
    let answers = |heard: &Heard| heard.is_answer_of(neighbour);
    let heard = guest.until("an answer", |guest| guest.send(&tagged(&other, 100).question(neighbour)), answers);
    assert!(heard.iter().all(|heard| heard.tag == Some(100) || !answers(heard)), "{heard:?}");
    // Whoever was believed would be known to the neighbour.
    let known = text(&inside(&world.lab.pods[1], "ip neigh"));
    assert!(known.contains("10.2.0.5") && !known.contains("10.1.0.5") && !known.contains("10.3.0.5"), "{known}");
    let answers: Vec<&Heard> = heard.iter().filter(|heard| answers(heard)).collect();
    assert_eq!(answers.len(), 1, "one question of eleven was right: {heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subport_has_rules_of_its_own() {
    if !able() {
        return;
    }
    let mut world = World::new(egress());
    let (parent, mut other) = (world.parent.clone(), world.other.clone());
    let wanted = world.network(&[(100, &other)]);
    world.lab.apply(&wanted).await;
    let pods = world.plug().await;
    let mut guest = Guest::of(&world.lab, &wanted, &parent).await;
    guest.reaches(&tagged(&other, 100), &world.pods[1]);
    let asked = |heard: &Heard| heard.tag == Some(100) && heard.kind == IPV4 && heard.packet[20] == 8;
    let ping =
        |pod: &str| inside(pod, "ip neigh replace 10.2.0.5 lladdr 02:00:00:00:02:05 dev eth0; ping -c1 -W1 10.2.0.5");
    ping(&pods[1]);
    let answers = |heard: &Heard| heard.is_echo_of(v4(&world.pods[1]));
    let heard = guest.until("an echo", |guest| guest.send(&tagged(&other, 100).echo(&world.pods[1])), answers);
    assert!(!heard.iter().any(asked), "no group lets anything in: {heard:?}");
    other.rules = Some(open());
    world.lab.apply(&world.network(&[(100, &other)])).await;
    guest.until("a ping", |_| drop(ping(&pods[1])), asked);
    // Nothing may come from it any more.
    other.rules = Some(Vec::new());
    world.lab.apply(&world.network(&[(100, &other)])).await;
    guest.send(&tagged(&other, 100).echo(&world.pods[1]));
    let heard = guest.until(
        "an answer",
        |guest| guest.send(&tagged(&other, 100).question(v4(&world.pods[1]))),
        |heard| heard.is_answer_of(v4(&world.pods[1])),
    );
    assert!(!heard.iter().any(answers), "{heard:?}");
    // It is another's, and down.
    other.up = false;
    assert_eq!(state(&world.lab, &world.network(&[(100, &other)])).await, "++-++");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_port_can_be_a_trunk() {
    if !able() {
        return;
    }
    let mut world = World::new(open());
    let free = world.parent.clone();
    let limit = RateLimit { rate: 1_250_000, burst: 1_000_000 };
    let limited = Wire { qos: Qos { egress: Some(limit), ..Qos::default() }, ..free.clone() };
    world.parent = limited.clone();
    let other = Wire { qos: limited.qos, ..world.other.clone() };
    let wanted = world.network(&[(100, &other)]);
    let namespace = world.namespaces(&wanted)[0].clone();
    world.lab.apply(&wanted).await;
    world.plug().await;
    let mut guest = Guest::of(&world.lab, &wanted, &limited).await;
    let at_entry = || text(&inside(&namespace, &format!("tc filter show dev {} ingress", limited.device)));
    let both = at_entry();
    assert!(both.contains("Egress Redirect") && both.contains("direct-action"), "{both}");
    let branch = text(&inside(&world.namespaces(&wanted)[1], &format!("tc filter show dev {} ingress", other.device)));
    assert!(branch.contains("Egress Redirect"), "a subport is limited as any port: {branch}");
    guest.reaches(&tagged(&other, 100), &world.pods[1]);
    guest.reaches(&From { wire: &limited, tags: Vec::new() }, &world.pods[0]);
    world.lab.apply(&world.network(&[])).await;
    let alone = at_entry();
    assert!(alone.contains("Egress Redirect") && !alone.contains("direct-action"), "{alone}");
    world.parent = free;
    world.lab.apply(&world.network(&[(100, &other)])).await;
    let alone = at_entry();
    assert!(!alone.contains("Egress Redirect") && alone.contains("direct-action"), "{alone}");
    guest.reaches(&tagged(&other, 100), &world.pods[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subport_goes_along_with_trunks_and_domains() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (first, second) = (wire(1, 5, Plug::Tap, Some(open())), wire(3, 5, Plug::Tap, Some(open())));
    let (other, neighbour) = (subport(2, 5, open()), wire(2, 6, Plug::Veth, Some(open())));
    let middle = bridge(2, vec![other.clone(), neighbour.clone()]);
    let carried = |wire: &Wire| with(wire, &[(100, &other)]);
    let apart = |one: &Wire, two: &Wire| {
        network(vec![
            domain(1, vec![bridge(1, vec![one.clone()])]),
            domain(2, vec![middle.clone()]),
            domain(3, vec![bridge(3, vec![two.clone()])]),
        ])
    };
    let wanted = apart(&carried(&first), &second);
    lab.apply(&wanted).await;
    lab.plug(&neighbour).await;
    let mut guest = Guest::of(&lab, &wanted, &first).await;
    guest.reaches(&tagged(&other, 100), &neighbour);
    // A router joins the subport's network with that of the trunk, and leaves it again; its devices change namespaces.
    let joined = network(vec![
        domain(1, vec![bridge(1, vec![carried(&first)]), middle.clone()]),
        domain(3, vec![bridge(3, vec![second.clone()])]),
    ]);
    for wanted in [&joined, &wanted] {
        assert_eq!(state(&lab, wanted).await, "+++-");
        guest.reaches(&tagged(&other, 100), &neighbour);
    }
    // It becomes that of another trunk, whose device is in another namespace.
    let wanted = apart(&first, &carried(&second));
    assert_eq!(state(&lab, &wanted).await, "+-+-", "that one's device is not there yet");
    let mut elsewhere = Guest::of_domain(&lab, &wanted, 2, &second).await;
    elsewhere.reaches(&tagged(&other, 100), &neighbour);
    assert_eq!(state(&lab, &wanted).await, "++++");
    let namespace = |at: usize| wanted.domains[at].namespace(&lab.prefix);
    assert_eq!(left(&namespace(0)), Vec::<String>::new());
    // And back, from one that is there to one that is there.
    let wanted = apart(&carried(&first), &second);
    assert_eq!(state(&lab, &wanted).await, "++++");
    guest.reaches(&tagged(&other, 100), &neighbour);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_joined_is_said() {
    if !able() {
        return;
    }
    let mut world = World::new(open());
    let (parent, other, same) = (world.parent.clone(), world.other.clone(), world.same.clone());
    // No pair can carry such packets.
    let huge = Wire { mtu: 1 << 20, ..same.clone() };
    let wanted = world.network(&[(100, &other), (200, &huge)]);
    world.lab.apply(&wanted).await;
    world.plug().await;
    let mut guest = Guest::of(&world.lab, &wanted, &parent).await;
    assert_eq!(state(&world.lab, &wanted).await, "++++!+");
    let problem = world.lab.net.health().await.problem;
    assert!(problem.contains(&format!("the trunk of the port {}", parent.port_id)), "{problem}");
    guest.reaches(&tagged(&other, 100), &world.pods[1]);
    assert_eq!(state(&world.lab, &world.network(&[(100, &other), (200, &same)])).await, "++++++");
    assert_eq!(world.lab.net.health().await.problem, "");
    guest.reaches(&tagged(&same, 200), &world.pods[2]);
    // Nobody is told of a trunk that is no more.
    state(&world.lab, &wanted).await;
    state(&world.lab, &world.network(&[])).await;
    assert_eq!(world.lab.net.health().await.problem, "");
}

/// Asks a neighbour by a tag from within a pod, whose kernel need not know of tags, until it answers by the same.
const ASK: &str = "import socket,struct,sys
mine,me,address,vlan=sys.argv[1:5]
raw=bytes.fromhex(mine.replace(':',''))
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3))
s.setsockopt(263,8,1)
s.bind(('eth0',0))
s.settimeout(0.2)
arp=struct.pack('!HHBBH6s4s6s4s',1,0x0800,6,4,1,raw,socket.inet_aton(me),b'\\0'*6,socket.inet_aton(address))
while True:
  s.send(b'\\xff'*6+raw+struct.pack('!HHH',0x8100,int(vlan),0x0806)+arp)
  try:
    while True:
      frame,extra,_,_=s.recvmsg(2000,200)
      tags=[struct.unpack('IIIHHHH',data[:20])[5]&0xfff for level,kind,data in extra if level==263]
      if frame[12:14]==b'\\x08\\x06' and frame[20:22]==b'\\0\\2' and frame[28:32]==socket.inet_aton(address) and tags==[int(vlan)]:
        print('answered'); sys.exit()
  except TimeoutError: pass
";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_can_be_a_trunks_parent() {
    if !able() {
        return;
    }
    let mut world = World::new(open());
    world.parent = wire(1, 5, Plug::Veth, Some(open()));
    let (parent, other) = (world.parent.clone(), world.other.clone());
    let wanted = world.network(&[(100, &other)]);
    world.lab.apply(&wanted).await;
    world.plug().await;
    let pod = world.lab.plug(&with(&parent, &[(100, &other)])).await;
    let (me, address) = (v4(&other).to_string(), v4(&world.pods[1]).to_string());
    let mut command = std::process::Command::new("nsenter");
    command.arg(format!("--net=/var/run/netns/{pod}")).args(["timeout", "60", "python3", "-c", ASK]);
    let output = command.args([&other.mac, &me, &address, "100"]).output().unwrap();
    assert_eq!(text(&output).trim(), "answered");
    assert_eq!(state(&world.lab, &wanted).await, "+++++");
    world.lab.net.unplug(&parent.port_id, NOW).await.unwrap();
    assert_eq!(state(&world.lab, &wanted).await, "-+-++");
    for namespace in world.namespaces(&wanted) {
        assert_eq!(left(&namespace), Vec::<String>::new());
    }
}
