//! IPv6 as a guest learns it: the kernel's own SLAAC from router advertisements, DHCPv6, and what guests may not say.

mod support;

use std::net::IpAddr;

use model::Direction;
use model::hostnet::{Bridge, Plug, Rule, Scope, Wire};
use support::*;

/// The lab's network of that number with the subnet `fd00:<number>::/64` beside its own.
fn dual(number: u8, mode: &str, ports: Vec<Wire>) -> Bridge {
    let gateway: IpAddr = format!("fd00:{number}::1").parse().unwrap();
    let mut bridge = bridge(number, ports);
    bridge.addresses.push((gateway, 64));
    bridge.subnets.push(Scope {
        subnet_id: id(0xc6, number.into()),
        base: format!("fd00:{number}::").parse().unwrap(),
        prefix: 64,
        gateway: Some(gateway),
        dhcp: true,
        server: Some(gateway),
        dns: Vec::new(),
        routes: Vec::new(),
        ipv6_ra_mode: Some(mode.into()),
        ipv6_address_mode: Some(mode.into()),
    });
    bridge
}

/// A port with an address that it makes itself, or another one; it answers echoes.
fn six(network: u8, last: u8, address: Option<&str>) -> Wire {
    let any = Rule { ipv6: true, ..rule(Direction::Ingress, Some(58), None, None) };
    let mut wire = wire(network, last, Plug::Veth, Some([egress(), vec![any]].concat()));
    let own = format!("fd00:{network}::ff:fe00:{network:x}{last:02x}");
    wire.addresses.push((address.unwrap_or(&own).parse().unwrap(), 64));
    wire
}

/// Makes a pod forget what the plug told it, and listen as a VM does.
fn forget(pod: &str) {
    let forget = "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra; echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; \
        ip -6 addr flush dev eth0 scope global; ip -6 route flush dev eth0 default; \
        ip link set eth0 down; ip link set eth0 up";
    sh(&format!("nsenter --net=/var/run/netns/{pod} sh -c '{forget}'"));
}

/// What a program in a pod says.
fn python(pod: &str, program: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("nsenter");
    command.arg(format!("--net=/var/run/netns/{pod}")).args(["python3", "-c", program]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn addresses(pod: &str) -> String {
    text(&inside(pod, "ip -6 -o addr show dev eth0 scope global"))
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_make_their_addresses_and_reach_each_other_through_the_router() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (a, b, c) = (six(1, 5, None), six(1, 6, None), six(2, 7, None));
    let (first, second) = (dual(1, "slaac", vec![a.clone(), b.clone()]), dual(2, "slaac", vec![c.clone()]));
    lab.apply(&network(vec![domain(1, vec![first, second])])).await;
    let (pod_a, pod_b, pod_c) = (lab.plug(&a).await, lab.plug(&b).await, lab.plug(&c).await);
    for pod in [&pod_a, &pod_c] {
        forget(pod);
    }
    eventually("the kernel has made an address of the advertised prefix", || {
        addresses(&pod_a).contains("fd00:1::ff:fe00:105/64") && addresses(&pod_c).contains("fd00:2::ff:fe00:207/64")
    });
    let route = text(&inside(&pod_a, "ip -6 route show default"));
    assert!(route.contains("proto ra") && route.contains("via fe80::"), "{route}");
    eventually("they reach each other", || pings(&pod_a, "fd00:2::ff:fe00:207"));
    assert!(reaches(&pod_a, "fd00:1::1"), "the gateway answers");

    // A guest that plays the router is not heard, nor one with an address that nobody gave it.
    let advertise = "import socket,struct,sys\ns=socket.socket(socket.AF_INET6,socket.SOCK_RAW,58)\ns.setsockopt(41,18,255)\n\
        prefix=struct.pack('!BBBBIII16s',3,4,64,0xc0,9000,9000,0,socket.inet_pton(10,'fd66::'))\n\
        p=struct.pack('!BBHBBHII',134,0,0,64,0,1800,0,0)+prefix\n\
        s.sendto(p,('ff02::1',0,0,socket.if_nametoindex('eth0')))\n";
    python(&pod_b, advertise, &[]);
    sh(&format!("ip -n {pod_b} -6 addr add fd00:1::77/64 dev eth0 nodad"));
    assert!(!pings(&pod_a, "fd00:1::77"), "a foreign address is nobody's neighbour");
    assert!(!addresses(&pod_a).contains("fd66:"), "{}", addresses(&pod_a));
}

/// Tells all neighbours that the addresses are at the MAC, one after the other.
const CLAIM: &str = "import socket,struct,sys
s=socket.socket(socket.AF_INET6,socket.SOCK_RAW,58)
s.setsockopt(41,18,255)
for address in sys.argv[2:]:
  target=socket.inet_pton(10,address)
  p=struct.pack('!BBHI',136,0,0,0x20000000)+target+b'\\x02\\x01'+bytes.fromhex(sys.argv[1].replace(':',''))
  s.sendto(p,('ff02::1',0,0,socket.if_nametoindex('eth0')))
";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_believed_about_the_address_of_a_neighbour() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let [a, b, c] = [5, 6, 7].map(|last| six(1, last, None));
    let bridge = dual(1, "slaac", vec![a.clone(), b.clone(), c.clone()]);
    lab.apply(&network(vec![domain(1, vec![bridge])])).await;
    let (pod_a, pod_b, _pod_c) = (lab.plug(&a).await, lab.plug(&b).await, lab.plug(&c).await);
    let (of_b, of_c) = ("fd00:1::ff:fe00:106", "fd00:1::ff:fe00:107");
    eventually("they know each other", || pings(&pod_a, of_b) && pings(&pod_a, of_c));
    let neighbour = |address: &str| text(&inside(&pod_a, &format!("ip -6 neigh show {address} dev eth0")));
    let elsewhere = "02:00:00:00:66:66";
    // What it says of its own address it may say: that it comes shows that the other has come, or has been dropped.
    eventually("a neighbour is believed about its own address", || {
        python(&pod_b, CLAIM, &[elsewhere, of_c, of_b]);
        neighbour(of_b).contains(elsewhere)
    });
    assert!(neighbour(of_c).contains(&c.mac), "{}", neighbour(of_c));
}

const CLIENT: &str = "import socket,struct,sys
mac=bytes.fromhex(sys.argv[1]); s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); s.bind(('::',546)); s.settimeout(1)
to=('ff02::1:2',547,0,socket.if_nametoindex('eth0'))
opt=lambda c,b: struct.pack('!HH',c,len(b))+b
me=opt(1,bytes([0,3,0,1])+mac)
def ask(kind,more):
  for _ in range(10):
    s.sendto(bytes([kind,1,2,3])+me+more,to)
    try: a=s.recv(1500)
    except OSError: continue
    o={}; a_=a[4:]
    while a_:
      c,n=struct.unpack('!HH',a_[:4]); o[c]=a_[4:4+n]; a_=a_[4+n:]
    return a[0],o
  return 0,{}
ia=opt(3,struct.pack('!III',7,0,0))
kind,o=ask(*((11,b'') if sys.argv[2]=='info' else (1,ia)))
if sys.argv[2]!='info': kind,o=ask(3,ia+opt(2,o[2]))
print(kind, socket.inet_ntop(10,o[3][16:32]) if 3 in o else '', socket.inet_ntop(10,o[23][:16]))
";

fn dhcp(pod: &str, wire: &Wire, what: &str) -> String {
    python(pod, CLIENT, &[&wire.mac.replace(':', ""), what]).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dhcpv6_gives_a_port_its_address_or_only_names() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = (six(1, 5, Some("fd00:1::abcd")), six(2, 6, None));
    let bridges = vec![dual(1, "dhcpv6-stateful", vec![a.clone()]), dual(2, "dhcpv6-stateless", vec![b.clone()])];
    lab.apply(&network(vec![domain(1, bridges)])).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    forget(&pod_a);
    forget(&pod_b);
    eventually("the route is advertised", || {
        text(&inside(&pod_a, "ip -6 route show default")).contains("proto ra") && addresses(&pod_b).contains("fd00:2::")
    });
    assert!(!addresses(&pod_a).contains("fd00:1::"), "hosts make no address of a prefix of DHCPv6");
    assert_eq!(dhcp(&pod_a, &a, "lease"), "7 fd00:1::abcd fd00:1::1");
    assert_eq!(dhcp(&pod_b, &b, "info"), "7  fd00:2::1");
}
