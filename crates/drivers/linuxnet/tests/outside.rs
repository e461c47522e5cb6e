//! The way out: routers on an external network, floating addresses, translation, and what guests may reach of the host.

mod support;

use std::net::IpAddr;

use driver::NetDriver;
use model::Direction;
use model::hostnet::{Forward, Plug};
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn floating_addresses_and_the_way_out() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let echo = || {
        Some(
            [
                egress(),
                vec![
                    rule(Direction::Ingress, Some(1), None, None),
                    rule(Direction::Ingress, Some(17), Some((9000, None)), None),
                ],
            ]
            .concat(),
        )
    };
    let (a, b) = (wire(1, 5, Plug::Veth, echo()), wire(1, 6, Plug::Veth, echo()));
    let (outer, inner) = (lab.outside(20), IpAddr::from([10, 1, 0, 5]));
    let mut cloud = domain(1, vec![bridge(1, vec![a.clone(), b.clone()])]);
    cloud.uplinks = vec![lab.uplink(vec![(outer, inner)])];
    let mut wanted = network(vec![cloud]);
    wanted.externals = vec![lab.external()];
    lab.apply(&wanted).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    let host_pings = |target: IpAddr| {
        std::process::Command::new("ping").args(["-c1", "-W1", &target.to_string()]).output().unwrap().status.success()
    };
    assert!(host_pings(outer), "the host reaches a floating address");
    assert!(host_pings(lab.outside(10)), "the host reaches the router");
    assert!(
        pings(&pod_a, &lab.outside(1).to_string()) && pings(&pod_b, &lab.outside(1).to_string()),
        "guests reach the gateway"
    );
    assert!(reaches(&pod_b, &outer.to_string()), "a floating address works from the inside, too");

    // Who a guest seems to be, out there: its floating address, or the router's.
    let listener = std::net::TcpListener::bind((lab.outside(1), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = |pod: &str| text(&inside(pod, &format!("curl -sS -m 2 http://{}:{port}/", lab.outside(1))));
    assert!(connect(&pod_a).contains("(7)"), "the host's own ports are closed to guests");
    // The same on an address beyond the host: a namespace on the external bridge.
    let beyond = lab.pod();
    let bridge_name = sh(&format!("ip -o link show type bridge | grep -o '{}b[0-9a-f]*' | head -1", lab.prefix));
    let (bridge_name, end) = (bridge_name.trim(), format!("{}x", lab.prefix));
    sh(&format!(
        "ip link add {end} type veth peer name eth0 netns {beyond}; ip link set {end} master {bridge_name} up; ip -n {beyond} addr add {}/24 dev eth0; ip -n {beyond} link set eth0 up; ip -n {beyond} link set lo up",
        lab.outside(200)
    ));
    let who = "import http.server as h\nclass H(h.BaseHTTPRequestHandler):\n def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(s.client_address[0].encode())\n def log_message(*a): pass\nh.HTTPServer(('0.0.0.0',80),H).serve_forever()";
    let _who = spawn_inside(&beyond, &["python3", "-c", who]);
    let seen_as = |pod: &str| text(&inside(pod, &format!("curl -sS -m 2 http://{}/", lab.outside(200))));
    eventually("the server beyond is up", || seen_as(&pod_a) == outer.to_string());
    assert_eq!(seen_as(&pod_b), lab.outside(10).to_string());
    // The inner addresses are not reachable from out there, and neither are the namespace's own servers.
    sh(&format!("ip -n {beyond} route add 10.1.0.0/24 via {}", lab.outside(10)));
    assert!(!pings(&beyond, "10.1.0.6"));
    assert!(
        !text(&inside(&beyond, &format!("busybox nslookup web.lab.internal {} 2>&1", lab.outside(10))))
            .contains("10.1.0.5")
    );

    // The floating address moves to the other port, also for a client that never pauses.
    let reply = |name: &str| {
        format!(
            "import socket\ns=socket.socket(2,2); s.bind(('0.0.0.0',9000))\nwhile 1:\n d,a=s.recvfrom(9); s.sendto(b'{name}',a)"
        )
    };
    let _replies =
        [spawn_inside(&pod_a, &["python3", "-c", &reply("A")]), spawn_inside(&pod_b, &["python3", "-c", &reply("B")])];
    let client = std::net::UdpSocket::bind((lab.outside(1), 0)).unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    client.connect((outer, 9000)).unwrap();
    let answer = || {
        let mut buffer = [0; 9];
        client.send(b"x").ok()?;
        client.recv(&mut buffer).ok().map(|_| char::from(buffer[0]))
    };
    eventually("A answers", || answer() == Some('A'));
    wanted.domains[0].uplinks[0].floating = vec![(outer, IpAddr::from([10, 1, 0, 6]))];
    lab.apply(&wanted).await;
    while let Some(late) = answer() {
        assert_ne!(late, 'A', "the old port gets nothing more");
        if late == 'B' {
            break;
        }
    }
    eventually("B answers on the same flow", || answer() == Some('B'));
    wanted.domains[0].uplinks[0].floating = Vec::new();
    lab.apply(&wanted).await;
    assert!(!host_pings(outer));
    sh(&format!("ip link del {end}"));
}

/// Ports of a floating address lead to ports inside, one by one and in ranges; other ports lead nowhere, rules of the port
/// hold, and a forwarding that goes takes its flows along although the address stays.
#[tokio::test(flavor = "multi_thread")]
async fn ports_of_a_floating_address_are_forwarded() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let open = |ports| Some([egress(), vec![rule(Direction::Ingress, Some(17), Some(ports), None)]].concat());
    let (a, b) = (wire(1, 5, Plug::Veth, open((9000, Some(9100)))), wire(1, 6, Plug::Veth, open((7000, None))));
    let outer = lab.outside(20);
    let (inner_a, inner_b) = (IpAddr::from([10, 1, 0, 5]), IpAddr::from([10, 1, 0, 6]));
    let forward = |ports, inner, inner_ports| Forward { outer, protocol: 17, ports, inner, inner_ports };
    let all = vec![
        forward((53, 53), inner_a, (9000, 9000)),
        // Each to its own number, each to another, all to one.
        forward((9001, 9009), inner_a, (9001, 9009)),
        forward((8010, 8019), inner_a, (9010, 9019)),
        forward((6000, 6009), inner_b, (7000, 7000)),
        // Which the port lets nobody in by.
        forward((7001, 7001), inner_b, (7001, 7001)),
    ];
    let mut cloud = domain(1, vec![bridge(1, vec![a.clone(), b.clone()])]);
    cloud.uplinks = vec![lab.uplink(Vec::new())];
    cloud.uplinks[0].forwards = all.clone();
    let mut wanted = network(vec![cloud]);
    wanted.externals = vec![lab.external()];
    lab.apply(&wanted).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    // Whoever is asked says who it is and by which port it was reached.
    let replies = |name: &str, first: u16, last: u16| {
        format!(
            "import socket,select\nall=[]\nfor p in range({first},{last}+1):\n s=socket.socket(2,2); s.bind(('0.0.0.0',p)); all.append(s)\nwhile 1:\n for s in select.select(all,[],[])[0]:\n  d,a=s.recvfrom(9); s.sendto(b'{name}%d'%s.getsockname()[1],a)"
        )
    };
    let _replies = [
        spawn_inside(&pod_a, &["python3", "-c", &replies("A", 9000, 9019)]),
        spawn_inside(&pod_b, &["python3", "-c", &replies("B", 7000, 7001)]),
    ];
    let from = lab.outside(1);
    let client = |port: u16| {
        let client = std::net::UdpSocket::bind((from, 0)).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        client.connect((outer, port)).unwrap();
        client
    };
    let ask = |client: &std::net::UdpSocket| {
        let mut buffer = [0; 9];
        client.send(b"x").ok()?;
        client.recv(&mut buffer).ok().map(|size| String::from_utf8_lossy(&buffer[..size]).into_owned())
    };
    let reached = |port: u16| ask(&client(port));
    for (port, who) in [
        (53, "A9000"),
        (9001, "A9001"),
        (9009, "A9009"),
        (8010, "A9010"),
        (8019, "A9019"),
        (6000, "B7000"),
        (6009, "B7000"),
    ] {
        eventually(&format!("{port} leads to {who}"), || reached(port).as_deref() == Some(who));
    }
    for port in [54, 9000, 9010, 8009, 8020, 5999, 6010, 7000, 7001] {
        assert_eq!(reached(port), None, "{port} leads nowhere");
    }
    // From the inside, too.
    let inside_ask = format!(
        "import socket\ns=socket.socket(2,2); s.settimeout(3); s.connect(('{outer}',53)); s.send(b'x'); print(s.recv(9).decode())"
    );
    assert!(text(&inside(&pod_b, &format!("python3 -c \"{inside_ask}\""))).contains("A9000"));

    let running = client(53);
    assert_eq!(ask(&running).as_deref(), Some("A9000"));
    wanted.domains[0].uplinks[0].forwards[0].inner_ports = (9001, 9001);
    lab.apply(&wanted).await;
    eventually("a flow follows its forwarding to another port of the same address", || {
        let answer = ask(&running);
        assert_ne!(answer.as_deref(), Some("A9000"));
        answer.as_deref() == Some("A9001")
    });
    wanted.domains[0].uplinks[0].forwards.remove(0);
    lab.apply(&wanted).await;
    assert_eq!(ask(&running), None, "a flow goes with its forwarding");
    eventually("the others stay", || reached(9001).as_deref() == Some("A9001"));
    wanted.domains[0].uplinks[0].forwards.clear();
    lab.apply(&wanted).await;
    assert_eq!(reached(9001), None);
}

/// Networks behind one router reach each other if they are of one address scope, or of none; those of different ones do so by
/// a floating address only.
#[tokio::test(flavor = "multi_thread")]
async fn networks_of_different_address_scopes_are_apart() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let echo = || Some([egress(), vec![rule(Direction::Ingress, Some(1), None, None)]].concat());
    let (a, b) = (wire(1, 5, Plug::Veth, echo()), wire(2, 5, Plug::Veth, echo()));
    let outer = lab.outside(20);
    let mut cloud = domain(1, vec![bridge(1, vec![a.clone()]), bridge(2, vec![b.clone()])]);
    cloud.uplinks = vec![lab.uplink(vec![(outer, IpAddr::from([10, 2, 0, 5]))])];
    let mut wanted = network(vec![cloud]);
    wanted.externals = vec![lab.external()];
    lab.apply(&wanted).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    for (scopes, apart) in [
        ([None, None], false),
        ([Some("one"), Some("one")], false),
        ([Some("one"), Some("two")], true),
        ([None, Some("two")], true),
        ([Some("two"), Some("two")], false),
    ] {
        for (bridge, scope) in wanted.domains[0].bridges.iter_mut().zip(scopes) {
            // That of the other family is another matter.
            bridge.address_scopes = [scope.map(str::to_owned), Some(bridge.network_id.clone())];
        }
        lab.apply(&wanted).await;
        for (pod, target) in [(&pod_a, "10.2.0.5"), (&pod_b, "10.1.0.5")] {
            assert!(if apart { !pings(pod, target) } else { reaches(pod, target) }, "{scopes:?}: {target}");
        }
        assert!(reaches(&pod_a, &outer.to_string()), "by the floating address: {scopes:?}");
        assert!(reaches(&pod_a, &lab.outside(1).to_string()), "out: {scopes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr)] // Figures for people: cargo test how_long -- --nocapture
async fn how_long_a_pass_takes() {
    if !able() {
        return;
    }
    for ports in [1_u8, 10, 100] {
        let mut lab = Lab::new();
        let open = [
            egress(),
            vec![
                rule(Direction::Ingress, Some(6), Some((22, None)), None),
                rule(Direction::Ingress, None, None, Some("10.1.0.0/24")),
            ],
        ]
        .concat();
        let wires: Vec<_> = (0..ports).map(|at| wire(1, 5 + at, Plug::Veth, Some(open.clone()))).collect();
        let mut wanted = network(vec![domain(1, vec![bridge(1, wires.clone())])]);
        let start = std::time::Instant::now();
        lab.apply(&wanted).await;
        let first = start.elapsed();
        let pod = lab.pod();
        let start = std::time::Instant::now();
        for (at, wire) in wires.iter().enumerate() {
            lab.net
                .plug(&wire.port_id, format!("/var/run/netns/{pod}").as_ref(), &format!("eth{at}"), NOW)
                .await
                .unwrap();
        }
        let plugged = start.elapsed() / u32::from(ports);
        let start = std::time::Instant::now();
        let seen = lab.apply(&wanted).await;
        let unchanged = start.elapsed();
        assert_eq!(seen, usize::from(ports));
        wanted.domains[0].bridges[0].ports[0].rules = Some(egress());
        let start = std::time::Instant::now();
        lab.apply(&wanted).await;
        eprintln!(
            "{ports} ports: first {first:?}, plug {plugged:?} each, unchanged {unchanged:?}, one rule {:?}",
            start.elapsed()
        );
    }
}
