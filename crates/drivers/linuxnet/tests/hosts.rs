//! Two hosts: this process in a namespace that stands for the first, a child of it in one for the second.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use driver::NetDriver;
use model::Direction;
use model::hostnet::{HostNetwork, Plug};
use support::*;

const HOST: &str = "LINUXNET_TEST_HOST";

/// What host 1 or 2 has of one network: a port each, all of the other's ports known.
fn share(host: u8) -> (HostNetwork, model::hostnet::Wire) {
    let echo = [egress(), vec![rule(Direction::Ingress, Some(1), None, None)]].concat();
    let mine = wire(1, 4 + host, Plug::Veth, Some(echo.clone()));
    let theirs = wire(1, 4 + (3 - host), Plug::Veth, None);
    let routed = wire(2, 4 + host, Plug::Veth, Some(echo));
    let peer = IpAddr::from([192, 0, 2, 3 - host]);
    let mut networks = [bridge(1, vec![mine.clone()]), bridge(2, vec![routed])];
    for (bridge, ports) in networks.iter_mut().zip([vec![theirs], vec![wire(2, 4 + (3 - host), Plug::Veth, None)]]) {
        bridge.mac = format!("02:aa:00:00:0{host}:{:02x}", bridge.vni & 0xff);
        bridge.peers = vec![peer];
        bridge.remote_ports = ports.iter().map(|port| (port.mac.clone(), peer)).collect();
    }
    (network(vec![domain(1, networks.to_vec())]), mine)
}

/// Not a test of its own: what the child does, in the namespace of its host.
#[tokio::test(flavor = "multi_thread")]
async fn host() {
    let Some(host) = std::env::var(HOST).ok().and_then(|host| host.parse().ok()) else { return };
    let mut lab = Lab::new();
    let (wanted, _) = share(host);
    lab.apply(&wanted).await;
    let mut pods = Vec::new();
    for bridge in &wanted.domains[0].bridges {
        pods.push(lab.plug(&bridge.ports[0]).await);
    }
    // Twice the same changes nothing, the tunnels' tables included.
    assert_eq!(lab.apply(&wanted).await, 2);
    let mut out = std::io::stdout();
    writeln!(out, "\npods {} {}", pods[0], pods[1]).unwrap();
    out.flush().unwrap();
    // Until the parent has seen enough.
    let _ = std::io::stdin().read(&mut [0]);
    lab.net.purge().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_spans_hosts() {
    if !able() || std::env::var(HOST).is_ok() {
        return;
    }
    let mut lab = Lab::new();
    let (one, two) = (lab.pod(), lab.pod());
    sh(&format!("ip -n {one} link add under type veth peer name under netns {two}"));
    for (netns, host) in [(&one, 1), (&two, 2)] {
        sh(&format!("ip -n {netns} addr add 192.0.2.{host}/24 dev under; ip -n {netns} link set under up"));
    }
    let mut children = Vec::new();
    let mut pods = Vec::new();
    for (netns, host) in [(&one, "1"), (&two, "2")] {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/var/run/netns/{netns}"))
            .arg(program)
            .args(["--exact", "host", "--nocapture"])
            .env(HOST, host)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.starts_with("pods ")).expect("the host came up");
        pods.push(line.split(' ').skip(1).map(str::to_owned).collect::<Vec<_>>());
        children.push((child, lines));
    }
    eventually("pods of one network on two hosts reach each other", || pings(&pods[0][0], "10.1.0.6"));
    assert!(reaches(&pods[1][0], "10.1.0.5"));
    assert!(reaches(&pods[0][0], "10.2.0.6"), "routed: host 1 from network 1 into 2, host 2 on the way back");
    assert!(reaches(&pods[1][1], "10.1.0.5"));
    assert!(reaches(&pods[0][0], "10.1.0.1") && reaches(&pods[1][0], "10.1.0.1"), "each host answers for the gateway");
    let gateway = |pod: &str| text(&inside(pod, "ip neigh show 10.1.0.1"));
    assert!(gateway(&pods[0][0]).contains("02:aa:00:00:01:") && gateway(&pods[1][0]).contains("02:aa:00:00:02:"));
    for (mut child, lines) in children {
        drop(child.stdin.take());
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
    }
}
