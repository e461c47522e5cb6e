//! What a host's network is compiled to, from rows made by hand.

use std::net::IpAddr;

use model::hostnet::{Domain, HostNetwork, Plug, Qos, RateLimit};
use model::{
    AddressGroup, Change, Cluster, Direction, FixedIp, FloatingIp, Gateway, Holder, Host, Key, Kind, KubeObject,
    Network, Object, Port, PortForwarding, QosEffect, QosPolicy, QosRule, Realm, Router, SecurityGroup,
    SecurityGroupRule, Snapshot, SubPort, Subnet, SubnetPool, Time, Trunk,
};
use serde_json::json;

use super::compile;

/// Rows made by hand; claims are not checked.
#[derive(Default)]
struct Rows {
    snapshot: Snapshot,
    at: i64,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn server(id: &str) -> Holder {
    Holder::Server(Key::new(Kind::Server, Realm::project("p"), id))
}

fn pod(uid: &str) -> Holder {
    Holder::Pod { key: KubeObject::key_of("c", "", "pods", "default", "web"), uid: uid.into() }
}

impl Rows {
    fn put(&mut self, object: impl Into<Object>) {
        let mut change = Change::new();
        change.create(object);
        let revision = self.snapshot.revision() + 1;
        self.snapshot.apply(revision, &change.writes);
    }

    fn delete<T: model::Resource>(&mut self, id: &str) {
        let mut change = Change::new();
        change.delete(self.snapshot.get::<T>(id).unwrap());
        let revision = self.snapshot.revision() + 1;
        self.snapshot.apply(revision, &change.writes);
    }

    fn now(&mut self) -> Time {
        self.at += 1;
        Time::from_second(self.at).unwrap()
    }

    fn host(&mut self, name: &str, underlay: &str) {
        let created_at = self.now();
        self.put(Host { underlay: underlay.parse().ok(), ..Host::new(name, created_at) });
    }

    fn network(&mut self, id: &str, cidr: &str, gateway: &str, external: bool) {
        let now = self.now();
        let network = Network { external, ..Network::new(id, "p", 1000 + self.at as u32, now) };
        let (base, prefix) = cidr.split_once('/').unwrap();
        self.put(Subnet {
            gateway_ip: gateway.parse().ok(),
            ..Subnet::new(format!("{id}-s"), &network, (ip(base), prefix.parse().unwrap()), now)
        });
        self.put(network);
    }

    fn port(&mut self, id: &str, network: &str, address: &str, holder: Holder, host: &str) -> Port {
        let services = holder.is_services();
        let now = self.now();
        Port {
            fixed_ips: vec![FixedIp { subnet_id: format!("{network}-s"), ip: ip(address) }],
            holder: Some(holder),
            security_groups: vec!["g".into()],
            port_security_enabled: !services,
            dns_name: if services { String::new() } else { id.into() },
            owned: true,
            host: (!host.is_empty()).then(|| host.into()),
            ..Port::new(id, &Network::new(network, "p", 0, now), now)
        }
    }

    fn vm(&mut self, id: &str, network: &str, address: &str, host: &str) {
        let port = self.port(id, network, address, server(&format!("server-{id}")), host);
        self.put(port);
    }

    fn router(&mut self, id: &str, joins: &[(&str, &str)], gateway: Option<(&str, &str)>) {
        let row = Router::new(id, "p", self.now());
        for (network, address) in joins {
            let port = self.port(&format!("{id}-{network}"), network, address, Holder::interface(&row), "");
            self.put(port);
        }
        let gateway = gateway.map(|(network, address)| {
            let mut port = self.port(&format!("{id}-gw"), network, address, Holder::gateway(&row), "");
            port.project_id = String::new();
            self.put(port);
            Gateway { network_id: network.into(), port_id: format!("{id}-gw"), enable_snat: true, qos_policy: None }
        });
        let now = self.now();
        self.put(Router { gateway, ..Router::new(id, "p", now) });
    }

    fn rule(&mut self, id: &str, group: &str, edit: impl FnOnce(&mut SecurityGroupRule)) {
        let now = self.now();
        let group = SecurityGroup::new(group, "p", group, now);
        let mut rule = SecurityGroupRule::new(id, &group, Direction::Ingress, false, now);
        edit(&mut rule);
        self.put(rule);
    }

    fn kube(&mut self, group: &str, resource: &str, name: &str, body: serde_json::Value) {
        self.put(KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: group.into(),
            resource: resource.into(),
            namespace: "default".into(),
            name: name.into(),
            body,
        });
    }

    fn compile(&self) -> HostNetwork {
        compile(&self.snapshot, "h1")
    }
}

fn only(network: &HostNetwork) -> &Domain {
    assert_eq!(network.domains.len(), 1, "{network:#?}");
    &network.domains[0]
}

#[test]
fn networks_joined_by_a_router_are_one_domain() {
    let mut rows = Rows::default();
    rows.host("h1", "192.0.2.1");
    rows.host("h2", "192.0.2.2");
    rows.network("b-first", "10.0.0.0/24", "10.0.0.1", false);
    rows.network("a-second", "10.1.0.0/24", "10.1.0.1", false);
    rows.vm("vm1", "b-first", "10.0.0.5", "h1");
    rows.vm("vm2", "a-second", "10.1.0.5", "h2");
    assert_eq!(only(&rows.compile()).bridges.len(), 1);
    rows.router("r", &[("b-first", "10.0.0.1"), ("a-second", "10.1.0.1")], None);

    let network = rows.compile();
    let domain = only(&network);
    assert_eq!(domain.id, "b-first", "the oldest network names the domain");
    let ids: Vec<&str> = domain.bridges.iter().map(|b| b.network_id.as_str()).collect();
    assert_eq!(ids, ["a-second", "b-first"]);
    let (second, first) = (&domain.bridges[0], &domain.bridges[1]);
    assert_eq!(first.addresses, [(ip("10.0.0.1"), 24)]);
    assert_eq!(first.ports.len(), 1);
    assert_eq!(first.ports[0].plug, Plug::Tap);
    assert_eq!(first.ports[0].gateway, Some(ip("10.0.0.1")));
    assert!(second.ports.is_empty(), "that port is on the other host");
    assert_eq!(first.peers, [ip("192.0.2.2")]);
    assert!(second.remote_ports.contains(&(Port::mac_from("vm2", 0), ip("192.0.2.2"))));
    let there = compile(&rows.snapshot, "h2");
    let their_bridge = &there.domains[0].bridges[0];
    assert_ne!(their_bridge.mac, second.mac, "each host has MACs of its own");
    assert!(second.remote_ports.contains(&(their_bridge.mac.clone(), ip("192.0.2.2"))));
    assert_eq!(network, rows.compile(), "the same rows give the same network");
}

#[test]
fn lone_networks_with_the_same_addresses_are_two_domains() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.network("n2", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    rows.vm("vm2", "n2", "10.0.0.5", "h1");
    let network = rows.compile();
    assert_eq!(network.domains.len(), 2);
    for domain in &network.domains {
        assert_eq!(domain.bridges[0].addresses, [(ip("10.0.0.1"), 24)], "DHCP answers from the gateway's address");
        assert_eq!(domain.bridges[0].subnets[0].server, Some(ip("10.0.0.1")));
    }
    assert!(compile(&rows.snapshot, "h2").domains.is_empty());
}

#[test]
fn a_gateway_address_that_is_a_vms_stays_the_vms() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.1", "h1");
    let network = rows.compile();
    assert!(only(&network).bridges[0].addresses.is_empty());
    assert_eq!(only(&network).bridges[0].subnets[0].server, None);
}

#[test]
fn a_rule_removed_leaves_the_wire() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    rows.rule("icmp", "g", |r| {
        r.protocol = Some("icmp".into());
        (r.port_min, r.port_max) = (Some(8), Some(0));
    });
    rows.rule("web", "g", |r| {
        r.protocol = Some("tcp".into());
        (r.port_min, r.port_max) = (Some(80), Some(80));
        r.remote_ip_prefix = Some("0.0.0.0/0".into());
    });
    let rules = |rows: &Rows| only(&rows.compile()).bridges[0].ports[0].rules.clone().unwrap();
    let both = rules(&rows);
    assert_eq!(both.len(), 2);
    assert_eq!((both[0].protocol, both[0].ports), (Some(1), Some((8, Some(0)))));
    assert_eq!((both[1].protocol, both[1].ports, &both[1].remote), (Some(6), Some((80, Some(80))), &None));
    rows.delete::<SecurityGroupRule>("icmp");
    assert_eq!(rules(&rows), both[1..]);
    rows.delete::<SecurityGroupRule>("web");
    assert_eq!(rules(&rows), []);
}

#[test]
fn forwarded_ports_go_with_their_router_and_their_ports_address() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("ext", "172.24.4.0/24", "172.24.4.1", true);
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    rows.router("r", &[("n1", "10.0.0.1")], Some(("ext", "172.24.4.2")));
    let now = rows.now();
    rows.put(FloatingIp {
        id: "f".into(),
        project_id: "p".into(),
        description: String::new(),
        network_id: "ext".into(),
        address: ip("172.24.4.9"),
        qos_policy: None,
        address_port_id: "fp".into(),
        port_id: None,
        fixed_ip: None,
        router_id: Some("r".into()),
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    });
    for (id, address) in [("one", "10.0.0.5"), ("gone", "10.0.0.6")] {
        rows.put(PortForwarding {
            id: id.into(),
            project_id: "p".into(),
            floatingip_id: "f".into(),
            description: String::new(),
            protocol: "udp".into(),
            external: (53, 54),
            internal: (5353, 5354),
            port_id: "vm1".into(),
            address: ip(address),
            created_at: now,
            updated_at: now,
        });
    }
    let network = rows.compile();
    let uplink = &only(&network).uplinks[0];
    assert_eq!(uplink.floating, []);
    let [forward] = uplink.forwards.as_slice() else { panic!("{uplink:#?}") };
    assert_eq!((forward.outer, forward.inner, forward.protocol), (ip("172.24.4.9"), ip("10.0.0.5"), 17));
    assert_eq!((forward.ports, forward.inner_ports), ((53, 54), (5353, 5354)));
}

fn limit(id: &str, max_kbps: u32, max_burst_kbps: u32, direction: Direction) -> QosRule {
    QosRule { id: id.into(), effect: QosEffect::BandwidthLimit { max_kbps, max_burst_kbps, direction } }
}

#[test]
fn a_port_has_its_own_qos_policy_or_else_its_networks() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("ext", "172.24.4.0/24", "172.24.4.1", true);
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.router("r", &[("n1", "10.0.0.1")], Some(("ext", "172.24.4.2")));
    let now = rows.now();
    let key = |id: &str| Some(Key::new(Kind::QosPolicy, Realm::project("p"), id));
    let policy = |rows: &mut Rows, id: &str, rules| {
        rows.put(QosPolicy {
            id: id.into(),
            project_id: "p".into(),
            name: String::new(),
            description: String::new(),
            is_default: false,
            rules,
            tags: Vec::new(),
            created_at: now,
            updated_at: now,
        });
    };
    policy(&mut rows, "net", vec![limit("a", 1000, 0, Direction::Ingress), limit("b", 0, 0, Direction::Egress)]);
    let mark = QosRule { id: "d".into(), effect: QosEffect::DscpMarking { dscp_mark: 46 } };
    policy(&mut rows, "own", vec![limit("c", 8, 100, Direction::Egress), mark]);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    let qos = |rows: &Rows| only(&rows.compile()).bridges[0].ports[0].qos;
    assert_eq!(qos(&rows), Qos::default());
    let network = rows.snapshot.get::<Network>("n1").unwrap().value.clone();
    rows.delete::<Network>("n1");
    rows.put(Network { qos_policy: key("net"), ..network });
    let by_network = Some(RateLimit { rate: 125_000, burst: 100_000 });
    assert_eq!(qos(&rows), Qos { ingress: by_network, ..Qos::default() }, "a limit of nothing is none");
    let port = rows.snapshot.get::<Port>("vm1").unwrap().value.clone();
    rows.delete::<Port>("vm1");
    rows.put(Port { qos_policy: key("own"), ..port });
    let by_port = Some(RateLimit { rate: 1000, burst: 12_500 });
    assert_eq!(qos(&rows), Qos { ingress: None, egress: by_port, dscp: Some(46) }, "all of its own, none of the other");

    // A floating IP has its own or else that of the external network; the marks are the ports'.
    let floating = |qos_policy| FloatingIp {
        id: "f".into(),
        project_id: "p".into(),
        description: String::new(),
        network_id: "ext".into(),
        address: ip("172.24.4.9"),
        qos_policy,
        address_port_id: "fp".into(),
        port_id: Some("vm1".into()),
        fixed_ip: Some(ip("10.0.0.5")),
        router_id: Some("r".into()),
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    rows.put(floating(None));
    let limits = |rows: &Rows| only(&rows.compile()).uplinks[0].limits.clone();
    assert_eq!(limits(&rows), []);
    rows.delete::<FloatingIp>("f");
    let mut router = rows.snapshot.get::<Router>("r").unwrap().value.clone();
    rows.delete::<Router>("r");
    router.gateway.as_mut().unwrap().qos_policy = key("net");
    rows.put(router.clone());
    assert_eq!(limits(&rows), [(ip("172.24.4.2"), Qos { ingress: by_network, ..Qos::default() })]);
    rows.delete::<Router>("r");
    router.gateway.as_mut().unwrap().qos_policy = None;
    rows.put(router);
    rows.put(floating(key("own")));
    assert_eq!(limits(&rows), [(ip("172.24.4.9"), Qos { egress: by_port, ..Qos::default() })]);
    let external = rows.snapshot.get::<Network>("ext").unwrap().value.clone();
    rows.delete::<Network>("ext");
    rows.put(Network { qos_policy: key("net"), ..external });
    let both = [("172.24.4.2", by_network, None), ("172.24.4.9", None, by_port)];
    let both = both.map(|(address, ingress, egress)| (ip(address), Qos { ingress, egress, dscp: None }));
    assert_eq!(limits(&rows), both, "the router's own address has the network's, too");
    rows.delete::<FloatingIp>("f");
    rows.put(floating(None));
    assert_eq!(limits(&rows)[1].1.ingress, by_network);
}

#[test]
fn a_wire_is_stateless_if_none_of_its_groups_is_stateful() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    let stateless = |rows: &Rows| only(&rows.compile()).bridges[0].ports[0].stateless;
    assert!(!stateless(&rows), "without a group nothing passes anyway");
    let now = rows.now();
    rows.put(SecurityGroup { stateful: false, ..SecurityGroup::new("g", "p", "g", now) });
    assert!(stateless(&rows));
    rows.delete::<SecurityGroup>("g");
    rows.put(SecurityGroup::new("g", "p", "g", now));
    assert!(!stateless(&rows));
}

#[test]
fn a_network_has_the_address_scope_of_its_subnets_pool() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    assert_eq!(only(&rows.compile()).bridges[0].address_scopes, [None, None]);
    let now = rows.now();
    rows.put(SubnetPool {
        id: "pool".into(),
        project_id: "p".into(),
        name: String::new(),
        description: String::new(),
        prefixes: vec!["10.0.0.0/16".into()],
        default_prefixlen: 24,
        min_prefixlen: 8,
        max_prefixlen: 32,
        default_quota: None,
        was_shared: false,
        is_default: false,
        address_scope: Some(Key::new(Kind::AddressScope, Realm::project("p"), "scope")),
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    });
    let subnet = rows.snapshot.get::<Subnet>("n1-s").unwrap().value.clone();
    rows.delete::<Subnet>("n1-s");
    rows.put(Subnet { subnetpool_id: Some("pool".into()), ..subnet });
    assert_eq!(only(&rows.compile()).bridges[0].address_scopes, [Some("scope".into()), None]);
}

#[test]
fn an_address_group_is_in_a_domain_once_however_many_rules_name_it() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    rows.vm("vm2", "n1", "10.0.0.6", "h1");
    let now = rows.now();
    for id in ["offices", "unused"] {
        rows.put(AddressGroup {
            id: id.into(),
            project_id: "p".into(),
            name: id.into(),
            description: String::new(),
            addresses: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()],
            created_at: now,
            updated_at: now,
        });
    }
    let offices = Key::new(Kind::AddressGroup, Realm::project("p"), "offices");
    rows.rule("one", "g", |r| r.remote_address_group = Some(offices.clone()));
    rows.rule("two", "g", |r| {
        r.ipv6 = true;
        r.remote_address_group = Some(offices.clone());
    });
    let network = rows.compile();
    let domain = only(&network);
    let groups: Vec<_> = domain.groups.iter().map(|(id, addresses)| (id.as_str(), addresses.len())).collect();
    assert_eq!(groups, [("offices", 2)]);
    for wire in &domain.bridges[0].ports {
        let rules = wire.rules.as_ref().unwrap();
        assert_eq!(rules.len(), 2);
        assert!(rules.iter().all(|r| r.remote.is_none() && r.remote_group.as_deref() == Some("offices")));
    }
}

#[test]
fn a_remote_group_is_its_members_in_the_domain() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.network("n2", "10.9.0.0/24", "10.9.0.1", false);
    rows.vm("vm1", "n1", "10.0.0.5", "h1");
    rows.vm("elsewhere", "n2", "10.9.0.7", "h1");
    let mut member = rows.port("vm2", "n1", "10.0.0.6", server("s"), "h1");
    member.security_groups = vec!["friends".into()];
    member.allowed_address_pairs = vec![(None, "10.0.0.100".into())];
    rows.put(member);
    rows.rule("r4", "g", |r| r.remote_group_id = Some("friends".into()));
    rows.rule("r6", "g", |r| {
        r.ipv6 = true;
        r.remote_group_id = Some("friends".into());
    });
    let network = rows.compile();
    let wire = network.domains[0].bridges[0].ports.iter().find(|w| w.port_id == "vm1").unwrap();
    let rules = wire.rules.as_ref().unwrap();
    assert_eq!(rules.len(), 2);
    assert!(rules.iter().all(|r| r.remote.is_none() && r.remote_group.as_deref() == Some("friends")));
    assert_eq!(network.domains[0].groups["friends"], ["10.0.0.100/32", "10.0.0.6/32"]);
}

#[test]
fn members_who_let_each_other_in_are_counted_once() {
    let bytes = |ports: u8| {
        let mut rows = Rows::default();
        rows.host("h1", "");
        rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
        (0..ports).for_each(|n| rows.vm(&format!("vm{n:03}"), "n1", &format!("10.0.0.{}", n + 2), "h1"));
        rows.rule("each-other", "g", |r| r.remote_group_id = Some("g".into()));
        let network = rows.compile();
        assert_eq!(only(&network).groups["g"].len(), usize::from(ports));
        serde_json::to_string(&network).unwrap().len()
    };
    let (few, many) = (bytes(50), bytes(200));
    assert!(many < few * 5, "four times as many ports: {few} bytes become {many}");
}

#[test]
fn floating_ips_lead_inside() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("ext", "172.24.4.0/24", "172.24.4.1", true);
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.router("r", &[("n1", "10.0.0.1")], Some(("ext", "172.24.4.9")));
    rows.vm("vm1", "n1", "10.0.0.5", "");
    let now = rows.now();
    let mut floating = FloatingIp {
        id: "f".into(),
        project_id: "p".into(),
        description: String::new(),
        network_id: "ext".into(),
        address: ip("172.24.4.10"),
        qos_policy: None,
        address_port_id: "x".into(),
        port_id: Some("vm1".into()),
        fixed_ip: Some(ip("10.0.0.5")),
        router_id: Some("r".into()),
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    rows.put(floating.clone());
    floating.id = "dangling".into();
    floating.port_id = Some("gone".into());
    rows.put(floating);
    let network = rows.compile();
    let uplink = &only(&network).uplinks[0];
    assert_eq!(uplink.address, (ip("172.24.4.9"), 24));
    assert_eq!(uplink.gateway, Some(ip("172.24.4.1")));
    assert_eq!(uplink.floating, [(ip("172.24.4.10"), ip("10.0.0.5"))]);
    assert_eq!(network.externals[0].gateways, [(ip("172.24.4.1"), 24)]);
    // With a second host the router is only where its ports are.
    rows.host("h2", "");
    assert!(rows.compile().domains.is_empty());
}

#[test]
fn services_and_names_of_a_cluster() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("web-vm", "n1", "10.0.0.5", "h1");
    let mut pod = rows.port("web-pod", "n1", "10.0.0.6", pod("uid"), "h1");
    pod.pod = Some(("default".into(), "c".into()));
    rows.put(pod);
    let created_at = rows.now();
    rows.put(Cluster::new("c", &Network::new("n1", "p", 0, created_at), created_at));
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    rows.kube(
        "",
        "services",
        "web",
        json!({"spec": {
        "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": ports, "sessionAffinity": "ClientIP"}}),
    );
    rows.kube("", "services", "db", json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}}));
    let elsewhere = json!({"spec": {"type": "ExternalName", "externalName": "DB.example.org."}});
    rows.kube("", "services", "elsewhere", elsewhere);
    for (slice, service, extra) in [("web-1", "web", json!(null)), ("db-1", "db", json!("db-0"))] {
        rows.kube(
            "discovery.k8s.io",
            "endpointslices",
            slice,
            json!({
            "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.0.0.6"], "conditions": {"ready": true}, "hostname": extra},
                {"addresses": ["10.0.0.7"], "conditions": {"ready": false}},
            ]}),
        );
    }
    let network = rows.compile();
    let domain = only(&network);
    assert_eq!(domain.bridges[0].ports.iter().filter(|w| w.plug == Plug::Veth).count(), 1);
    assert_eq!(domain.services.len(), 1, "a headless service has no address");
    let service = &domain.services[0];
    assert_eq!((service.address, service.protocol, service.port), (ip("10.96.0.10"), 6, 80));
    assert_eq!(service.backends, [(ip("10.0.0.6"), 8080)]);
    assert!(service.sticky);
    let zone = &domain.zone;
    let name = |n: &str| zone.names.get(n).cloned().unwrap_or_else(|| panic!("{n} in {:#?}", zone.names));
    assert_eq!(name("web-vm.braid.internal"), [ip("10.0.0.5")]);
    assert_eq!(name("web-pod.braid.internal"), [ip("10.0.0.6")]);
    assert_eq!(name("web.default.svc.cluster.local"), [ip("10.96.0.10")]);
    assert_eq!(name("db.default.svc.cluster.local"), [ip("10.0.0.6")]);
    assert_eq!(name("db-0.db.default.svc.cluster.local"), [ip("10.0.0.6")]);
    assert_eq!(name("10-0-0-6.default.pod.cluster.local"), [ip("10.0.0.6")]);
    let aliases = [("elsewhere.default.svc.cluster.local".to_owned(), "db.example.org".to_owned())];
    assert_eq!(zone.aliases, aliases.into());
    assert_eq!(
        zone.srv["_http._tcp.web.default.svc.cluster.local"],
        [("web.default.svc.cluster.local".to_owned(), 80)]
    );
    assert_eq!(
        zone.srv["_http._tcp.db.default.svc.cluster.local"],
        [("db-0.db.default.svc.cluster.local".to_owned(), 8080)]
    );
    assert_eq!(zone.search, ["braid.internal"]);
    assert_eq!(zone.authority, ["braid.internal", "cluster.local"]);
}

#[test]
fn a_trunk_carries_what_is_where_it_is() {
    let mut rows = Rows::default();
    rows.host("h1", "");
    rows.network("n1", "10.0.0.0/24", "10.0.0.1", false);
    rows.network("n2", "10.0.0.0/24", "10.0.0.1", false);
    rows.vm("vm", "n1", "10.0.0.5", "h1");
    let key = |kind: Kind, id: &str| Key::new(kind, Realm::project("p"), id);
    let holder = Holder::Trunk(key(Kind::Trunk, "t"));
    for (id, address, host) in [("here", "10.0.0.6", "h1"), ("not-yet", "10.0.0.7", "")] {
        let port = rows.port(id, "n2", address, holder.clone(), host);
        rows.put(port);
    }
    let now = rows.now();
    let sub = |id: &str, vlan| SubPort { port: key(Kind::Port, id), vlan };
    rows.put(Trunk {
        id: "t".into(),
        project_id: "p".into(),
        name: String::new(),
        description: String::new(),
        port: key(Kind::Port, "vm"),
        admin_state_up: false,
        sub_ports: vec![sub("here", 7), sub("not-yet", 8)],
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    });
    let network = rows.compile();
    assert_eq!(network.domains.len(), 2, "a trunk joins no networks");
    let (parent, port) = (&network.domains[0].bridges[0].ports[0], &network.domains[1].bridges[0].ports[0]);
    assert_eq!((parent.plug, parent.trunk.clone()), (Plug::Tap, [(7, "here".to_owned())].into()));
    assert_eq!((port.plug, port.device.as_str(), port.port_id.as_str()), (Plug::Subport, "spihere", "here"));
    assert_eq!(network.domains[1].bridges[0].ports.len(), 1);
    assert!(port.trunk.is_empty() && port.rules.is_some(), "with rules of its own");
    // In one domain it is the same.
    rows.router("r", &[("n1", "10.0.0.1"), ("n2", "10.0.0.2")], None);
    assert_eq!(only(&rows.compile()).bridges.iter().flat_map(|bridge| &bridge.ports).count(), 2);
    rows.delete::<Trunk>("t");
    assert!(rows.compile().domains[0].bridges[0].ports[0].trunk.is_empty());
}
