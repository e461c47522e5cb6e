//! Limits and marks: what the kernel is told, what then passes, and that nothing is left of them when they go. Bytes are
//! counted, never seconds.

mod support;

use driver::{Attach, NetDriver};
use model::Direction;
use model::hostnet::{HostNetwork, Plug, Qos, RateLimit, Wire};
use model::wanted::Nic;
use support::*;

/// So slow that what is sent at once passes by the burst alone, however long the machine takes for it.
const SLOW: RateLimit = RateLimit { rate: 1000, burst: 50_000 };
/// Datagrams of a thousand bytes.
const SENT: usize = 400;

fn open() -> Vec<model::hostnet::Rule> {
    [egress(), vec![rule(Direction::Ingress, None, None, None)]].concat()
}

fn tc(namespace: &str, arguments: &str) -> String {
    text(&inside(namespace, &format!("tc {arguments}")))
}

/// What is said of a device's bucket, and how many packets it has dropped.
fn bucket(namespace: &str, device: &str) -> Option<(String, u64)> {
    let shown = tc(namespace, &format!("-s qdisc show dev {device} root"));
    let line = shown.lines().next().filter(|line| line.starts_with("qdisc tbf"))?.to_owned();
    let dropped = shown.split("dropped ").nth(1)?.split(',').next()?.parse().ok()?;
    Some((line, dropped))
}

/// Sends datagrams from one pod to an address of another; how many come, and with what DSCP values. Waits for all of them,
/// or else for no more than have come when the last was sent.
fn carried(from: &str, to: &str, address: &str, all: bool) -> (usize, Vec<u8>) {
    let listen = format!(
        "import socket\ns=socket.socket(2,2); s.setsockopt(1,33,1<<22); s.setsockopt(0,13,1); s.bind(('0.0.0.0',9000))\nprint('ready',flush=True)\nn=0; marks=set()\nwhile 1:\n d,extra,_,_=s.recvmsg(2000,200)\n if d==b'end': break\n n+=1; marks|={{c[2][0]>>2 for c in extra}}\n if n=={SENT}: break\nprint(n,*marks,flush=True)\n"
    );
    let send = format!(
        "import socket\ns=socket.socket(2,2)\nfor i in range({SENT}):\n try: s.sendto(b'x'*972,0x40,('{address}',9000))\n except OSError: pass\n"
    );
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/var/run/netns/{to}")).args(["timeout", "60", "python3", "-c", &listen]);
    let mut ear = Guarded(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(ear.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    assert!(inside(from, &format!("python3 -c \"{send}\"")).status.success());
    // The last word goes round the limits.
    let end = "import socket\nsocket.socket(2,2).sendto(b'end',('127.0.0.1',9000))\n";
    assert!(all || inside(to, &format!("ip link set lo up; python3 -c \"{end}\"")).status.success());
    let last = lines.next().unwrap();
    let mut words = last.split(' ').map(|word| word.parse::<usize>().unwrap());
    (words.next().unwrap(), words.map(|mark| u8::try_from(mark).unwrap()).collect())
}

fn with(wire: &Wire, qos: Qos) -> Wire {
    Wire { qos, ..wire.clone() }
}

fn both(a: &Wire, b: &Wire) -> HostNetwork {
    network(vec![domain(1, vec![bridge(1, vec![a.clone(), b.clone()])])])
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_and_vms_are_no_faster_than_their_limits() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = (wire(1, 5, Plug::Veth, Some(open())), wire(1, 6, Plug::Veth, Some(open())));
    let free = both(&a, &b);
    let namespace = free.domains[0].namespace(&lab.prefix);
    lab.apply(&free).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    lab.apply(&free).await;
    assert_eq!(carried(&pod_a, &pod_b, "10.1.0.6", true).0, SENT, "without a limit all of it comes");
    assert_eq!(bucket(&namespace, &b.device), None);

    // What goes to the port; what comes from it is not meant.
    let slow = with(&b, Qos { ingress: Some(SLOW), ..Qos::default() });
    assert_eq!(lab.apply(&both(&a, &slow)).await, 2);
    let (line, dropped) = bucket(&namespace, &b.device).unwrap();
    assert!(line.contains("rate 8Kbit burst 50000b") && dropped == 0, "{line} {dropped}");
    let (came, _) = carried(&pod_a, &pod_b, "10.1.0.6", false);
    assert!((40..SENT / 2).contains(&came), "{came} came");
    let dropped = bucket(&namespace, &b.device).unwrap().1;
    assert!(dropped > SENT as u64 / 2, "{dropped} dropped");
    assert_eq!(carried(&pod_b, &pod_a, "10.1.0.5", true).0, SENT);

    // A second pass, also of a new process, leaves it as it is; another limit is that from then on.
    let before = tc(&namespace, "qdisc show");
    lab.restart();
    lab.apply(&both(&a, &slow)).await;
    assert_eq!(tc(&namespace, "qdisc show"), before);
    let other = with(&b, Qos { ingress: Some(RateLimit { rate: 2000, burst: 60_000 }), ..Qos::default() });
    lab.apply(&both(&a, &other)).await;
    assert!(bucket(&namespace, &b.device).unwrap().0.contains("rate 16Kbit burst 60000b"));
    lab.apply(&free).await;
    assert_eq!(bucket(&namespace, &b.device), None);
    assert_eq!(carried(&pod_a, &pod_b, "10.1.0.6", true).0, SENT, "the limit is gone");

    // What comes from the port.
    let turn = format!("ifb{}", &b.port_id[..11]);
    let slow = with(&b, Qos { egress: Some(SLOW), ..Qos::default() });
    assert_eq!(lab.apply(&both(&a, &slow)).await, 2);
    let (came, _) = carried(&pod_b, &pod_a, "10.1.0.5", false);
    assert!((40..SENT / 2).contains(&came), "{came} came");
    assert!(bucket(&namespace, &turn).unwrap().1 > SENT as u64 / 2);
    assert_eq!(carried(&pod_a, &pod_b, "10.1.0.6", true).0, SENT);
    let before = tc(&namespace, &format!("filter show dev {} ingress", b.device));
    assert!(before.contains(&format!("Egress Redirect to device {turn}")), "{before}");
    lab.restart();
    lab.apply(&both(&a, &slow)).await;
    assert_eq!(tc(&namespace, &format!("filter show dev {} ingress", b.device)), before);
    // Somebody took away where it leads: nothing would pass.
    inside(&namespace, &format!("ip link del {turn}"));
    lab.apply(&both(&a, &slow)).await;
    assert!((40..SENT / 2).contains(&carried(&pod_b, &pod_a, "10.1.0.5", false).0));
    lab.apply(&free).await;
    assert_eq!(carried(&pod_b, &pod_a, "10.1.0.5", true).0, SENT, "the limit is gone");
    let left = format!("{}{:?}", tc(&namespace, "qdisc show"), devices(&namespace));
    assert!(!left.contains("tbf") && !left.contains("ingress") && !left.contains("ifb"), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_is_limited_at_once() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let qos = Qos { ingress: Some(SLOW), egress: Some(RateLimit { rate: 125_000, burst: 100_000 }), dscp: None };
    let (a, b) = (with(&wire(1, 5, Plug::Veth, Some(open())), qos), with(&wire(1, 6, Plug::Tap, Some(open())), qos));
    let wanted = both(&a, &b);
    let namespace = wanted.domains[0].namespace(&lab.prefix);
    lab.apply(&wanted).await;
    lab.plug(&a).await;
    let (port_id, device) = (b.port_id.clone(), b.device.clone());
    let nic = Nic { port_id, mac: b.mac.clone(), mtu: b.mtu, device, namespace: namespace.clone() };
    let _tap = lab.net.attach(&nic).await.unwrap();
    for wire in [&a, &b] {
        let turn = format!("ifb{}", &wire.port_id[..11]);
        assert!(bucket(&namespace, &wire.device).unwrap().0.contains("rate 8Kbit burst 50000b"), "{}", wire.device);
        assert!(bucket(&namespace, &turn).unwrap().0.contains("rate 1Mbit burst 100000b"), "{turn}");
        let led = tc(&namespace, &format!("filter show dev {} ingress", wire.device));
        assert!(led.contains(&turn), "{led}");
    }
    lab.net.apply(&wanted, NOW).await.unwrap();
    assert_eq!(lab.net.health().await.problem, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_port_sends_is_marked() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = (wire(1, 5, Plug::Veth, Some(open())), wire(1, 6, Plug::Veth, Some(open())));
    let free = both(&a, &b);
    let namespace = free.domains[0].namespace(&lab.prefix);
    lab.apply(&free).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    assert_eq!(carried(&pod_a, &pod_b, "10.1.0.6", true), (SENT, vec![0]));
    let marked = with(&a, Qos { dscp: Some(46), ..Qos::default() });
    lab.apply(&both(&marked, &b)).await;
    assert_eq!(carried(&pod_a, &pod_b, "10.1.0.6", true), (SENT, vec![46]));
    assert_eq!(carried(&pod_b, &pod_a, "10.1.0.5", true), (SENT, vec![0]), "the other port is another");
    let rules = text(&inside(&namespace, "nft list table bridge braid"));
    assert!(rules.contains("ip6 dscp set ef"), "{rules}");
    lab.apply(&free).await;
    assert_eq!(carried(&pod_a, &pod_b, "10.1.0.6", true), (SENT, vec![0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floating_address_is_no_faster_than_its_limits() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let a = wire(1, 5, Plug::Veth, Some(open()));
    let outer = lab.outside(20);
    let mut cloud = domain(1, vec![bridge(1, vec![a.clone()])]);
    cloud.uplinks = vec![lab.uplink(vec![(outer, a.addresses[0].0)])];
    let mut wanted = network(vec![cloud]);
    wanted.externals = vec![lab.external()];
    lab.apply(&wanted).await;
    let pod = lab.plug(&a).await;
    let beyond = lab.pod();
    let bridge_name = sh(&format!("ip -o link show type bridge | grep -o '{}b[0-9a-f]*' | head -1", lab.prefix));
    let (bridge_name, end, far) = (bridge_name.trim(), format!("{}x", lab.prefix), lab.outside(200).to_string());
    sh(&format!(
        "ip link add {end} type veth peer name eth0 netns {beyond}; ip link set {end} master {bridge_name} up; ip -n {beyond} addr add {far}/24 dev eth0; ip -n {beyond} link set eth0 up"
    ));
    let near = outer.to_string();
    eventually("the floating address is reached", || pings(&beyond, &near));
    assert_eq!(carried(&beyond, &pod, &near, true).0, SENT);
    let limit = |ingress, egress| vec![(outer, Qos { ingress, egress, dscp: None })];
    // A burst is no smaller than 128 KiB.
    wanted.domains[0].uplinks[0].limits = limit(Some(SLOW), None);
    lab.apply(&wanted).await;
    let (came, _) = carried(&beyond, &pod, &near, false);
    assert!((100..SENT / 2).contains(&came), "{came} came");
    assert_eq!(carried(&pod, &beyond, &far, true).0, SENT, "what goes out is not meant");
    wanted.domains[0].uplinks[0].limits = limit(None, Some(SLOW));
    lab.apply(&wanted).await;
    let (came, _) = carried(&pod, &beyond, &far, false);
    assert!((100..SENT / 2).contains(&came), "{came} went");
    assert_eq!(carried(&beyond, &pod, &near, true).0, SENT);
    wanted.domains[0].uplinks[0].limits = Vec::new();
    lab.apply(&wanted).await;
    assert_eq!(carried(&pod, &beyond, &far, true).0, SENT, "the limit is gone");
    sh(&format!("ip link del {end}"));
}
