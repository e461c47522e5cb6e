//! Ports on one subnet: reach, rules, spoofing, services, servers, taking over and cleaning up.

mod support;

use std::net::IpAddr;

use driver::{Attach, Attachment, DriverFault, NetDriver};
use model::Direction;
use model::hostnet::{Plug, Rule, Service, Wire};
use model::wanted::Nic;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_every_driver_does() {
    if able() {
        driver::suite::networks(&Lab::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_let_in_cut_at_once_and_let_in_again() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let open = [
        egress(),
        vec![
            rule(Direction::Ingress, Some(1), Some((8, Some(0))), None),
            rule(Direction::Ingress, Some(6), Some((8000, Some(8010))), Some("10.1.0.0/24")),
            rule(Direction::Ingress, Some(17), Some((9000, None)), None),
        ],
    ]
    .concat();
    let (a, b) = (wire(1, 5, Plug::Veth, Some(egress())), wire(1, 6, Plug::Veth, Some(open)));
    let wanted = network(vec![domain(1, vec![bridge(1, vec![a.clone(), b.clone()])])]);
    assert!(matches!(
        lab.net.plug(&a.port_id, "/proc/self/ns/net".as_ref(), "eth0", NOW).await,
        Err(DriverFault::NotReady(_))
    ));
    assert_eq!(lab.apply(&wanted).await, 0);
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    assert_eq!(lab.apply(&wanted).await, 2);
    assert!(reaches(&pod_a, "10.1.0.6"), "an allowed echo is answered");
    assert!(!pings(&pod_b, "10.1.0.5"), "what no rule allows is dropped");
    assert!(reaches(&pod_a, "10.1.0.1"), "the gateway answers");

    // A server that sends without end, whether or not the client says anything.
    let server = "import socket,time\ns=socket.socket(); s.setsockopt(1,2,1); s.bind(('0.0.0.0',8000)); s.listen()\nwhile 1:\n c,_=s.accept()\n try:\n  while 1: c.send(b'x'); time.sleep(0.01)\n except OSError: pass\n";
    let udp = "import socket,time\ns=socket.socket(2,2); s.bind(('0.0.0.0',9000))\nd,a=s.recvfrom(9)\nwhile 1:\n s.sendto(b'x',a); time.sleep(0.01)\n";
    let _server = spawn_inside(&pod_b, &["python3", "-c", server]);
    let _udp = spawn_inside(&pod_b, &["python3", "-c", udp]);
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let client = format!(
        "import socket,time,threading\ndef tcp():\n while 1:\n  try:\n   s=socket.create_connection(('10.1.0.6',8000),1); s.settimeout(None); break\n  except OSError: time.sleep(0.1)\n f=open('{}','ab',0)\n while 1: f.write(s.recv(1))\nthreading.Thread(target=tcp).start()\nu=socket.socket(2,2); u.settimeout(0.2)\nwhile 1:\n try:\n  u.sendto(b'x',('10.1.0.6',9000)); u.recv(9); break\n except OSError: pass\nu.settimeout(None)\nf=open('{}','ab',0)\nwhile 1: f.write(u.recv(9))\n",
        path("tcp"),
        path("udp"),
    );
    let _client = spawn_inside(&pod_a, &["python3", "-c", &client]);
    let size = |name: &str| std::fs::metadata(path(name)).map_or(0, |file| file.len());
    let flows = |name: &str| {
        let before = size(name);
        std::thread::sleep(std::time::Duration::from_millis(300));
        size(name) > before
    };
    eventually("both flows run", || flows("tcp") && flows("udp"));

    // An unrelated change leaves them alone: nothing is lost of the one-way flow.
    let mut other = wanted.clone();
    other.domains[0].bridges[0].ports[1].rules.as_mut().unwrap().push(rule(
        Direction::Ingress,
        Some(6),
        Some((1, None)),
        None,
    ));
    lab.apply(&other).await;
    assert!(flows("tcp") && flows("udp"), "a change beside them does not stop flows");

    let mut closed = wanted.clone();
    closed.domains[0].bridges[0].ports[1].rules = Some(egress());
    lab.apply(&closed).await;
    std::thread::sleep(std::time::Duration::from_millis(50));
    let (tcp, udp) = (size("tcp"), size("udp"));
    assert!(!pings(&pod_a, "10.1.0.6"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!((size("tcp"), size("udp")), (tcp, udp), "running flows are cut, in both directions");
    lab.apply(&wanted).await;
    eventually("the flow goes on when the rule is back", || flows("tcp") && flows("udp"));
    assert!(reaches(&pod_a, "10.1.0.6"));
    // UDP to a closed port: the ICMP error of an allowed flow comes back.
    let mut narrow = wanted.clone();
    narrow.domains[0].bridges[0].ports[1].rules.as_mut().unwrap().push(rule(
        Direction::Ingress,
        Some(17),
        Some((9001, None)),
        None,
    ));
    lab.apply(&narrow).await;
    let probe = "import socket\ns=socket.socket(2,2); s.settimeout(3); s.connect(('10.1.0.6',9001)); s.send(b'x')\ntry: s.recv(1)\nexcept ConnectionRefusedError: print('refused')";
    assert!(text(&inside(&pod_a, &format!("python3 -c \"{probe}\""))).contains("refused"));
}

/// A rule about an address group follows the group: who is added gets in, who is taken out is cut off, and an empty group is
/// nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_group_lets_in_whom_it_names() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let named = id(0xa9, 1);
    let about = |ipv6, protocol| Rule {
        ipv6,
        remote_group: Some(named.clone()),
        ..rule(Direction::Ingress, Some(protocol), None, None)
    };
    let dual = |last: u8, rules| {
        let mut wire = wire(1, last, Plug::Veth, Some(rules));
        wire.addresses.push((format!("fd00:1::{last}").parse().unwrap(), 64));
        wire
    };
    let guarded = [egress(), vec![about(false, 1), about(true, 58)]].concat();
    let (a, b, c) = (dual(5, egress()), dual(6, egress()), dual(7, guarded));
    let mut net = bridge(1, vec![a.clone(), b.clone(), c.clone()]);
    let mut scope = net.subnets[0].clone();
    (scope.subnet_id, scope.base, scope.prefix, scope.gateway, scope.server) =
        (id(0xc, 6), "fd00:1::".parse().unwrap(), 64, None, None);
    net.subnets.push(scope);
    let mut wanted = network(vec![domain(1, vec![net])]);
    lab.apply(&wanted).await;
    let (pod_a, pod_b, _pod_c) = (lab.plug(&a).await, lab.plug(&b).await, lab.plug(&c).await);
    let mut reach = async |addresses: &[&str]| {
        let addresses = addresses.iter().map(|cidr| (*cidr).to_owned()).collect();
        wanted.domains[0].groups = [(named.clone(), addresses)].into();
        lab.apply(&wanted).await;
        [(&pod_a, "10.1.0.7"), (&pod_b, "10.1.0.7"), (&pod_a, "fd00:1::7"), (&pod_b, "fd00:1::7")]
            .map(|(pod, target)| pings(pod, target))
    };
    assert_eq!(reach(&[]).await, [false; 4], "nobody is in an empty group");
    assert_eq!(reach(&["10.1.0.5/32", "fd00:1::6/128"]).await, [true, false, false, true]);
    assert_eq!(reach(&["10.1.0.0/24", "10.1.0.5/32"]).await, [true, true, false, false], "ranges may overlap");
    assert_eq!(reach(&["0.0.0.0/0", "::/0"]).await, [true; 4]);
    assert_eq!(reach(&["fd00:1::/64"]).await, [false, false, true, true]);
    // A group that the domain does not have is nobody, and stops nothing else.
    wanted.domains[0].groups.clear();
    lab.apply(&wanted).await;
    assert!(!pings(&pod_a, "10.1.0.7"));
    assert!(reaches(&pod_a, "10.1.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_can_only_be_itself() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let open = [egress(), vec![rule(Direction::Ingress, None, None, None)]].concat();
    let mut a = wire(1, 5, Plug::Veth, Some(open.clone()));
    a.allowed_pairs = vec![(None, "10.1.0.50".into())];
    let b = wire(1, 6, Plug::Veth, Some(open));
    lab.apply(&network(vec![domain(1, vec![bridge(1, vec![a.clone(), b.clone()])])])).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    assert!(reaches(&pod_a, "10.1.0.6"));
    sh(&format!("ip -n {pod_a} addr add 10.1.0.77/24 dev eth0; ip -n {pod_a} addr add 10.1.0.50/24 dev eth0"));
    assert!(inside(&pod_a, "ping -c1 -W1 -I 10.1.0.50 10.1.0.6").status.success(), "an allowed pair works");
    assert!(reaches(&pod_b, "10.1.0.50"));
    assert!(!inside(&pod_a, "ping -c1 -W1 -I 10.1.0.77 10.1.0.6").status.success(), "a foreign address does not");
    assert!(!pings(&pod_b, "10.1.0.77"), "nor is ARP answered for it");
    sh(&format!(
        "ip -n {pod_a} link set eth0 down; ip -n {pod_a} link set eth0 address 02:00:00:00:99:99; ip -n {pod_a} link set eth0 up"
    ));
    assert!(!pings(&pod_a, "10.1.0.6"), "a foreign MAC does not get through");
}

/// An address that changes hands is where it is now, for the gateway and for neighbours that knew the one before, without
/// anybody asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_reused_address_is_announced() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let open = [egress(), vec![rule(Direction::Ingress, None, None, None)]].concat();
    let (first, neighbour) = (wire(1, 5, Plug::Veth, Some(open.clone())), wire(1, 6, Plug::Veth, Some(open)));
    let mut second = Wire { mac: "02:00:00:00:99:05".into(), ..first.clone() };
    second.port_id = id(0xa, 0x199);
    second.device = format!("vth{}", &second.port_id[..11]);
    let of = |wire: &Wire| network(vec![domain(1, vec![bridge(1, vec![wire.clone(), neighbour.clone()])])]);
    lab.apply(&of(&first)).await;
    let space = of(&first).domains[0].namespace(&lab.prefix);
    let (pod, other) = (lab.plug(&first).await, lab.plug(&neighbour).await);
    let known = |by: &str| text(&inside(by, "ip neigh show to 10.1.0.5"));
    assert!(reaches(&other, "10.1.0.5") && reaches(&pod, "10.1.0.1"));
    eventually("both know the first", || known(&other).contains(&first.mac) && known(&space).contains(&first.mac));
    lab.net.unplug(&first.port_id, NOW).await.unwrap();
    lab.apply(&of(&second)).await;
    lab.plug(&second).await;
    eventually("both know the second", || known(&other).contains(&second.mac) && known(&space).contains(&second.mac));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_answer_from_everywhere_and_refuse_without_backends() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let open = || Some([egress(), vec![rule(Direction::Ingress, None, None, None)]].concat());
    let (a, b, c) = (wire(1, 5, Plug::Veth, open()), wire(1, 6, Plug::Veth, open()), wire(2, 7, Plug::Veth, open()));
    let mut cloud = domain(1, vec![bridge(1, vec![a.clone(), b.clone()]), bridge(2, vec![c.clone()])]);
    let service = |last: u8, backends: Vec<(IpAddr, u16)>| Service {
        address: IpAddr::from([10, 96, 0, last]),
        protocol: 6,
        port: 80,
        backends,
        sticky: last == 2,
    };
    let (first, second) = ((IpAddr::from([10, 1, 0, 5]), 8080), (IpAddr::from([10, 1, 0, 6]), 8080));
    cloud.services = vec![
        service(1, vec![first, second]),
        service(2, vec![first, second]),
        service(3, vec![]),
        service(4, vec![first]),
    ];
    lab.apply(&network(vec![cloud])).await;
    let (pod_a, pod_b, pod_c) = (lab.plug(&a).await, lab.plug(&b).await, lab.plug(&c).await);
    let answer = |name: &str| {
        format!(
            "import http.server as h\nclass H(h.BaseHTTPRequestHandler):\n def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(b'{name}')\n def log_message(*a): pass\nh.HTTPServer(('0.0.0.0',8080),H).serve_forever()"
        )
    };
    let _servers = [
        spawn_inside(&pod_a, &["python3", "-c", &answer("A")]),
        spawn_inside(&pod_b, &["python3", "-c", &answer("B")]),
    ];
    let get = |pod: &str, url: &str| text(&inside(pod, &format!("curl -sS -m 3 http://{url}/")));
    eventually("servers are up", || get(&pod_b, "10.1.0.5:8080") == "A" && get(&pod_a, "10.1.0.6:8080") == "B");
    for pod in [&pod_a, &pod_b, &pod_c] {
        let answers: std::collections::BTreeSet<String> = (0..24).map(|_| get(pod, "10.96.0.1")).collect();
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["A", "B"], "from {pod}");
        let sticky: std::collections::BTreeSet<String> = (0..8).map(|_| get(pod, "10.96.0.2")).collect();
        assert_eq!(sticky.len(), 1, "{sticky:?}");
        let refused = get(pod, "10.96.0.3");
        assert!(refused.contains("(7)"), "refused at once: {refused}");
        assert_eq!(get(pod, "10.96.0.4"), "A", "also to itself");
    }
    assert!(reaches(&pod_c, "10.1.0.5"), "networks of a router reach each other");
    let stream = lab.net.dial(&a.port_id, "10.1.0.5:8080".parse().unwrap()).await;
    assert!(stream.is_ok(), "{stream:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dhcp_names_and_metadata() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let a = wire(1, 5, Plug::Veth, Some(egress()));
    lab.apply(&network(vec![domain(1, vec![bridge(1, vec![a.clone()])])])).await;
    let pod = lab.plug(&a).await;
    let lookup = |name: &str| text(&inside(&pod, &format!("busybox nslookup {name} 10.1.0.1")));
    assert!(lookup("web.lab.internal").contains("10.1.0.5"), "{}", lookup("web.lab.internal"));
    assert!(lookup("nobody.lab.internal").contains("NXDOMAIN"), "{}", lookup("nobody.lab.internal"));
    let metadata = text(&inside(&pod, "curl -sS -m 3 http://169.254.169.254/openstack/latest"));
    assert_eq!(metadata, format!("{} /openstack/latest", a.port_id));
    let post = "curl -sS -m 3 http://169.254.169.254/openstack/latest/password -d";
    let told = text(&inside(&pod, &format!("{post} s3cret")));
    assert_eq!(told, format!("{} /openstack/latest/password s3cret", a.port_id));
    let large = text(&inside(&pod, &format!("{post} $(head -c 5000 /dev/zero | tr '\\0' x)")));
    assert_eq!(large, "Request is too large.");
    let other = text(&inside(&pod, "curl -sS -m 3 http://10.1.0.1:8080/"));
    assert!(other.contains("(7)"), "the gateway offers nothing else: {other}");
    // Again as a VM would: without an address.
    sh(&format!("ip -n {pod} addr flush dev eth0"));
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n[ \"$1\" = bound ] && env\nexit 0\n").unwrap();
    sh(&format!("chmod +x {}", script.display()));
    let lease = inside(
        &pod,
        &format!(
            "busybox udhcpc -i eth0 -n -q -t 3 -T 2 -O mtu -O staticroutes -O search -s {} 2>&1",
            script.display()
        ),
    );
    let lease = text(&lease);
    for part in [
        "ip=10.1.0.5",
        "router=10.1.0.1",
        "dns=10.1.0.1",
        "hostname=host-5",
        "mtu=1450",
        "169.254.169.254/32 10.1.0.1",
        "search=lab.internal",
        "lease=86400",
    ] {
        assert!(lease.contains(part), "{part} is missing: {lease}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn taps_are_opened_moved_and_adopted() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = (wire(1, 5, Plug::Veth, None), wire(2, 6, Plug::Tap, None));
    let apart = network(vec![domain(1, vec![bridge(1, vec![a.clone()])]), domain(2, vec![bridge(2, vec![b.clone()])])]);
    let nic = Nic {
        port_id: b.port_id.clone(),
        mac: b.mac.clone(),
        mtu: b.mtu,
        device: b.device.clone(),
        namespace: String::new(),
    };
    assert!(matches!(lab.net.attach(&nic).await, Err(DriverFault::NotReady(_))));
    lab.apply(&apart).await;
    let attachment = lab.net.attach(&nic).await.unwrap();
    let Attachment::Tap(tap) = attachment else { panic!("{attachment} instead of a tap") };
    assert!(matches!(lab.net.attach(&nic).await, Err(DriverFault::NotReady(_))), "held by another");
    let pod = lab.plug(&a).await;
    assert_eq!(lab.apply(&apart).await, 2);
    // A router joins the networks: both are one domain now, and the devices that are in use follow.
    let joined = network(vec![domain(1, vec![bridge(1, vec![a.clone()]), bridge(2, vec![b.clone()])])]);
    assert_eq!(lab.apply(&joined).await, 2);
    assert!(!sh("ip netns").contains(&domain(2, vec![]).namespace(&lab.prefix)));
    assert!(reaches(&pod, "10.2.0.1"));
    drop(tap);
    assert_eq!(lab.apply(&joined).await, 1, "a tap goes with its VM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_takes_over_and_purge_leaves_nothing() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = (wire(1, 5, Plug::Veth, None), wire(1, 6, Plug::Veth, None));
    let mut cloud = domain(1, vec![bridge(1, vec![a.clone(), b.clone()])]);
    cloud.uplinks = vec![lab.uplink(Vec::new())];
    let mut wanted = network(vec![cloud]);
    wanted.externals = vec![lab.external()];
    lab.apply(&wanted).await;
    let (pod_a, _pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    let pinging = std::process::Command::new("nsenter")
        .arg(format!("--net=/var/run/netns/{pod_a}"))
        .args(["ping", "-i", "0.02", "-c", "100", "-W", "1", "10.1.0.6"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let links = |netns: &str| sh(&format!("ip -n {netns} -o link | sed 's/ qlen.*//'"));
    let namespace = wanted.domains[0].namespace(&lab.prefix);
    let before = links(&namespace);
    for _ in 0..3 {
        lab.restart();
        assert_eq!(lab.apply(&wanted).await, 2);
    }
    assert_eq!(links(&namespace), before, "nothing was made anew");
    let output = text(&pinging.wait_with_output().unwrap());
    assert!(output.contains(" 0% packet loss"), "{output}");
    assert!(text(&inside(&pod_a, "curl -sS -m 3 http://169.254.169.254/x")).contains(&a.port_id));
    lab.net.unplug(&a.port_id, NOW).await.unwrap();
    lab.net.unplug(&a.port_id, NOW).await.unwrap();
    assert_eq!(lab.apply(&wanted).await, 1);
    lab.net.purge().await.unwrap();
    let left = sh("ip netns; ip -o link; nft list tables");
    let ours: Vec<&str> = left.lines().filter(|line| line.contains(&lab.prefix) && !line.contains("pod")).collect();
    assert_eq!(ours, Vec::<&str>::new());
    // After that it can begin again.
    lab.apply(&wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_ruled_like_ipv4() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let six = |direction, protocol, ports| Rule { ipv6: true, ..rule(direction, protocol, ports, None) };
    let open = [
        egress(),
        vec![
            six(Direction::Ingress, Some(58), Some((128, Some(0)))),
            six(Direction::Ingress, Some(6), Some((8080, None))),
        ],
    ]
    .concat();
    let dual = |last: u8, rules| {
        let mut wire = wire(1, last, Plug::Veth, Some(rules));
        wire.addresses.push((format!("fd00:1::{last}").parse().unwrap(), 64));
        wire
    };
    let (a, b) = (dual(5, egress()), dual(6, open.clone()));
    let mut net = bridge(1, vec![a.clone(), b.clone()]);
    let gateway: IpAddr = "fd00:1::1".parse().unwrap();
    net.addresses.push((gateway, 64));
    let mut scope = net.subnets[0].clone();
    (scope.base, scope.prefix, scope.gateway, scope.server) =
        ("fd00:1::".parse().unwrap(), 64, Some(gateway), Some(gateway));
    net.subnets.push(scope);
    let mut cloud = domain(1, vec![net]);
    let service = |last: u8, backends| Service {
        address: format!("fd00:96::{last}").parse().unwrap(),
        protocol: 6,
        port: 80,
        backends,
        sticky: false,
    };
    let backend = ("fd00:1::6".parse().unwrap(), 8080);
    cloud.services = vec![
        service(1, vec![backend]),
        service(2, Vec::new()),
        service(3, vec![backend, ("fd00:1::6".parse().unwrap(), 8080)]),
    ];
    let wanted = network(vec![cloud]);
    lab.apply(&wanted).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    assert_eq!(lab.apply(&wanted).await, 2);
    let reached =
        text(&inside(&pod_a, "ping -c1 -W1 fd00:1::6; ping -c1 -W1 fd00:1::1; ip addr; ip -6 route; ip -6 neigh"));
    assert!(
        pings(&pod_a, "fd00:1::6") && pings(&pod_a, "fd00:1::1"),
        "{reached} {}",
        sh(&format!(
            "nsenter --net=/var/run/netns/{} sh -c 'nft list chain inet braid forward; ip -6 addr'",
            wanted.domains[0].namespace(&lab.prefix)
        ))
    );
    assert!(!pings(&pod_b, "fd00:1::5"));
    let _server = spawn_inside(&pod_b, &["python3", "-m", "http.server", "--bind", "::", "8080"]);
    let get = |pod: &str, url: &str| {
        text(&inside(pod, &format!("curl -sS -o /dev/null -w '%{{http_code}}' -m 3 'http://{url}/' 2>&1")))
    };
    eventually("the server is up", || get(&pod_b, "[::1]:8080") == "200");
    assert_eq!(get(&pod_a, "[fd00:1::6]:8080"), "200");
    assert_eq!(get(&pod_a, "[fd00:96::1]"), "200");
    assert_eq!(get(&pod_a, "[fd00:96::3]"), "200");
    assert!(get(&pod_a, "[fd00:96::2]").contains("(7)"));
    assert!(text(&inside(&pod_a, "busybox nslookup web.lab.internal fd00:1::1")).contains("10.1.0.5"));
    let mut closed = wanted.clone();
    closed.domains[0].bridges[0].ports[1].rules = Some(egress());
    lab.apply(&closed).await;
    assert!(!pings(&pod_a, "fd00:1::6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_and_wide_addresses_keep_their_rules() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let echo = [egress(), vec![rule(Direction::Ingress, Some(1), None, None)]].concat();
    let mut a = wire(1, 5, Plug::Veth, Some(echo.clone()));
    let mut b = wire(1, 6, Plug::Veth, Some(egress()));
    let mut router = wire(1, 7, Plug::Veth, Some(egress()));
    let c = wire(1, 8, Plug::Veth, Some(egress()));
    (a.allowed_pairs, b.allowed_pairs) = (vec![(None, "10.1.0.100".into())], vec![(None, "10.1.0.96/28".into())]);
    router.allowed_pairs = vec![(None, "0.0.0.0/0".into())];
    let ports = vec![a.clone(), b.clone(), router.clone(), c.clone()];
    let mut wanted = network(vec![domain(1, vec![bridge(1, ports)])]);
    lab.apply(&wanted).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    let (pod_router, pod_c) = (lab.plug(&router).await, lab.plug(&c).await);
    sh(&format!("ip -n {pod_a} addr add 10.1.0.100/32 dev eth0; ip -n {pod_b} addr add 10.1.0.101/32 dev eth0"));
    assert!(reaches(&pod_c, "10.1.0.100"), "one of the ports that share the address allows it");
    assert!(!pings(&pod_c, "10.1.0.101"), "an address of ports of which none allows it");
    // A guest that routes for others: its rules hold for what is behind it.
    sh(&format!(
        "ip -n {pod_router} addr add 192.0.2.1/32 dev lo; ip -n {pod_c} route add 192.0.2.0/24 via 10.1.0.7; ip -n {pod_a} route add 192.0.2.0/24 via 10.1.0.7"
    ));
    assert!(!pings(&pod_c, "192.0.2.1"));
    wanted.domains[0].bridges[0].ports[2].rules = Some(echo);
    lab.apply(&wanted).await;
    assert!(reaches(&pod_c, "192.0.2.1"));
    wanted.domains[0].bridges[0].ports[3].rules = Some(Vec::new());
    lab.apply(&wanted).await;
    assert!(!pings(&pod_c, "192.0.2.1"), "nothing may be begun without a rule");
    assert!(
        inside(&pod_router, "ping -c1 -W1 -I 192.0.2.1 10.1.0.5").status.success(),
        "from behind it to an open port"
    );
    wanted.domains[0].bridges[0].ports[2].rules = Some(Vec::new());
    lab.apply(&wanted).await;
    assert!(!inside(&pod_router, "ping -c1 -W1 -I 192.0.2.1 10.1.0.5").status.success());
}
