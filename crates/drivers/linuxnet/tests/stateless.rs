//! Ports whose security groups are stateless: every packet is judged by itself.

mod support;

use std::net::IpAddr;

use model::Direction::{Egress, Ingress};
use model::hostnet::{Plug, Rule, Wire};
use support::*;

fn dual(last: u8, rules: Vec<Rule>) -> Wire {
    let mut wire = wire(1, last, Plug::Veth, Some(rules));
    wire.addresses.push((format!("fd00:1::{last}").parse().unwrap(), 64));
    wire
}

fn six(protocol: u8, ports: Option<(u16, Option<u16>)>) -> Rule {
    Rule { ipv6: true, ..rule(Ingress, Some(protocol), ports, None) }
}

/// Asks over UDP, and says whether an answer came.
fn asks(pod: &str, target: &str, port: u16) -> bool {
    let family = if target.contains(':') { 10 } else { 2 };
    let client = format!(
        "import socket\ns=socket.socket({family},2); s.settimeout(1); s.connect(('{target}',{port})); s.send(b'x'); print(s.recv(9).decode())"
    );
    text(&inside(pod, &format!("python3 -c \"{client}\""))).contains("heard")
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_need_rules_of_their_own() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let open =
        [egress(), vec![rule(Ingress, None, None, None), Rule { ipv6: true, ..rule(Ingress, None, None, None) }]];
    let (a, mut b) = (dual(5, open.concat()), dual(6, egress()));
    b.stateless = true;
    let gateway: IpAddr = "fd00:1::1".parse().unwrap();
    let mut net = bridge(1, vec![a.clone(), b.clone()]);
    net.addresses.push((gateway, 64));
    let mut scope = net.subnets[0].clone();
    (scope.subnet_id, scope.base, scope.prefix, scope.gateway, scope.server) =
        (id(0xc, 6), "fd00:1::".parse().unwrap(), 64, Some(gateway), Some(gateway));
    net.subnets.push(scope);
    let mut wanted = network(vec![domain(1, vec![net])]);
    lab.apply(&wanted).await;
    let (pod_a, pod_b) = (lab.plug(&a).await, lab.plug(&b).await);
    let server = "import socket\ns=socket.socket(10,2); s.setsockopt(41,26,0); s.bind(('::',9000))\nwhile 1:\n d,a=s.recvfrom(9); s.sendto(b'heard',a)";
    let _servers = [spawn_inside(&pod_a, &["python3", "-c", server]), spawn_inside(&pod_b, &["python3", "-c", server])];
    let mut with = async |rules: Vec<Rule>| {
        wanted.domains[0].bridges[0].ports[1].rules = Some(rules);
        lab.apply(&wanted).await;
    };

    // What it asks of others it may not hear.
    with(egress()).await;
    assert!(!pings(&pod_b, "10.1.0.5") && !asks(&pod_b, "10.1.0.5", 9000) && !asks(&pod_b, "fd00:1::5", 9000));
    // What the network itself answers it hears all the same.
    assert!(reaches(&pod_b, "10.1.0.1"));
    eventually("names are answered", || {
        text(&inside(&pod_b, "busybox nslookup web.lab.internal 10.1.0.1 2>&1")).contains("10.1.0.5")
    });
    // Nor does anybody reach it.
    assert!(!pings(&pod_a, "10.1.0.6") && !asks(&pod_a, "10.1.0.6", 9000));

    // Let in, it answers, for it may say all; what is let in is told by the packet.
    with(
        [
            egress(),
            vec![rule(Ingress, Some(1), Some((8, Some(0))), None), rule(Ingress, Some(17), Some((9000, None)), None)],
        ]
        .concat(),
    )
    .await;
    eventually("the server of b answers", || asks(&pod_a, "10.1.0.6", 9000));
    assert!(reaches(&pod_a, "10.1.0.6"));
    assert!(!asks(&pod_a, "fd00:1::6", 9000), "of the other family nothing was said");
    assert!(!pings(&pod_b, "10.1.0.5"), "an echo's answer is of another type");
    with([egress(), vec![six(17, Some((9000, None))), six(58, Some((128, None)))]].concat()).await;
    assert!(asks(&pod_a, "fd00:1::6", 9000) && reaches(&pod_a, "fd00:1::6"));
    assert!(!pings(&pod_b, "fd00:1::5"));

    // With a rule for the answers it hears them: by type, by port and by whom they are from.
    let answers = |from: &str| {
        vec![
            rule(Ingress, Some(1), Some((0, None)), Some(from)),
            rule(Ingress, Some(17), Some((1024, Some(65535))), Some(from)),
        ]
    };
    with([egress(), answers("10.1.0.0/24")].concat()).await;
    eventually("the server of a answers", || asks(&pod_b, "10.1.0.5", 9000));
    assert!(reaches(&pod_b, "10.1.0.5"));
    with([egress(), answers("10.1.0.77/32")].concat()).await;
    assert!(!pings(&pod_b, "10.1.0.5") && !asks(&pod_b, "10.1.0.5", 9000), "answers of others are not these");

    // What it may not say it may not answer.
    let only = rule(Egress, Some(17), Some((53, None)), None);
    with(vec![only, rule(Ingress, None, None, None)]).await;
    assert!(!pings(&pod_a, "10.1.0.6") && !asks(&pod_a, "10.1.0.6", 9000));
}
