//! Real namespaces for tests: a driver under a prefix of its own, pods as plain namespaces, and commands in them.
// Each test file uses a part of it; why a test did not run belongs on the terminal.
#![allow(dead_code, clippy::print_stderr)]

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driver::suite::NetBench;
use driver::{Metadata, NetDriver};
use driver_linuxnet::{Config, LinuxNet};
use model::Direction;

use model::hostnet::{Bridge, Domain, External, HostNetwork, Plug, Rule, Scope, Uplink, Wire, Zone};
use model::wanted::Generation;

/// Here nothing is older than anything else.
pub const NOW: Generation = Generation(1);

/// Answers with the port's id and the path.
struct Echo;

#[async_trait::async_trait]
impl Metadata for Echo {
    async fn get(&self, port_id: &str, path: &str) -> (u16, &'static str, Vec<u8>) {
        (200, "text/plain", format!("{port_id} {path}").into_bytes())
    }

    async fn post(&self, port_id: &str, path: &str, body: &[u8]) -> (u16, &'static str, Vec<u8>) {
        (200, "text/plain", format!("{port_id} {path} {}", String::from_utf8_lossy(body)).into_bytes())
    }
}

/// A cloud's network on this host and what tests put beside it; all of it goes with the value.
pub struct Lab {
    pub net: Arc<LinuxNet>,
    pub prefix: String,
    pub pods: Vec<String>,
    dir: tempfile::TempDir,
}

/// Whether namespaces can be made here; if not, the reason is printed and the test passes without having run.
pub fn able() -> bool {
    let able = Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success());
    if !able {
        eprintln!("skipped: network namespaces cannot be made here (root is needed)");
    }
    able
}

impl Lab {
    pub fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let unique = dir
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .bytes()
            .fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let prefix = format!("t{:05x}", (unique ^ std::process::id().wrapping_mul(7919)) & 0xf_ffff);
        let net = Arc::new(driver(&prefix, dir.path().to_owned()));
        Lab { net, prefix, pods: Vec::new(), dir }
    }

    /// Another driver in the place of this one, as after a crash.
    pub fn restart(&mut self) {
        self.net = Arc::new(driver(&self.prefix, self.dir.path().to_owned()));
    }

    /// A namespace that stands for a pod or a VM.
    pub fn pod(&mut self) -> String {
        let name = format!("{}pod{}", self.prefix, self.pods.len());
        sh(&format!("ip netns add {name}"));
        self.pods.push(name.clone());
        name
    }

    /// Applies and returns how many ports work; nothing may go wrong.
    pub async fn apply(&self, network: &HostNetwork) -> usize {
        let seen = self.net.apply(network, NOW).await.unwrap().wires;
        assert_eq!(self.net.health().await.problem, "");
        seen.iter().filter(|wire| wire.active).count()
    }

    pub async fn plug(&mut self, wire: &Wire) -> String {
        let pod = self.pod();
        self.net.plug(&wire.port_id, &PathBuf::from(format!("/var/run/netns/{pod}")), "eth0", NOW).await.unwrap();
        pod
    }

    /// An address in the middle of a range that is this lab's own on the host.
    pub fn outside(&self, last: u8) -> IpAddr {
        let number = u32::from_str_radix(&self.prefix[1..], 16).unwrap();
        IpAddr::from([198, 18 + (number >> 8 & 1) as u8, (number & 0xff) as u8, last])
    }
}

impl NetBench for Lab {
    fn driver(&self) -> Box<dyn NetDriver> {
        Box::new(driver(&self.prefix, self.dir.path().to_owned()))
    }
    fn network(&self) -> HostNetwork {
        let ports = vec![wire(1, 5, Plug::Tap, Some(egress())), wire(1, 6, Plug::Veth, Some(egress()))];
        network(vec![domain(1, vec![bridge(1, ports)])])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pod in &self.pods {
            let _ = Command::new("ip").args(["netns", "del", pod]).output();
        }
        // The driver's tasks belong to the test's runtime: another one removes what is left.
        let (prefix, dir) = (self.prefix.clone(), self.dir.path().to_owned());
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { driver(&prefix, dir).purge().await }).unwrap();
        })
        .join();
    }
}

fn driver(prefix: &str, dir: PathBuf) -> LinuxNet {
    LinuxNet::new(Config { prefix: prefix.into(), dir, metadata: Arc::new(Echo) }).unwrap()
}

pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command in a namespace.
pub fn inside(netns: &str, command: &str) -> Output {
    Command::new("nsenter").arg(format!("--net=/var/run/netns/{netns}")).args(["sh", "-c", command]).output().unwrap()
}

/// The devices of a namespace, from the kernel: `ip` looks at every named namespace of the host meanwhile, and complains
/// of those of other tests that come or go.
pub fn devices(netns: &str) -> Vec<String> {
    let table = text(&inside(netns, "cat /proc/net/dev"));
    table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

pub fn spawn_inside(netns: &str, arguments: &[&str]) -> Guarded {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/var/run/netns/{netns}")).args(arguments);
    Guarded(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// A process that ends with the value.
pub struct Guarded(pub Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asked until there is an answer: a link that has just come up, or a busy machine, loses or delays the first.
pub fn reaches(netns: &str, target: &str) -> bool {
    inside(netns, &format!("ping -c1 -i.2 -w20 {target}")).status.success()
}

/// One request within a second: for what must not be answered.
pub fn pings(netns: &str, target: &str) -> bool {
    inside(netns, &format!("ping -c1 -W1 {target}")).status.success()
}

/// Waits until it is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not so after 60 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn id(kind: u32, number: u32) -> String {
    format!("{kind:04x}{number:04x}-0000-4000-8000-00000000{number:04x}")
}

pub fn rule(
    direction: Direction,
    protocol: Option<u8>,
    ports: Option<(u16, Option<u16>)>,
    remote: Option<&str>,
) -> Rule {
    Rule { direction, ipv6: false, protocol, ports, remote: remote.map(str::to_owned), remote_group: None }
}

/// What a default security group lets out.
pub fn egress() -> Vec<Rule> {
    vec![rule(Direction::Egress, None, None, None), Rule { ipv6: true, ..rule(Direction::Egress, None, None, None) }]
}

/// A port of the network: `10.<network>.0.<last>`.
pub fn wire(network: u8, last: u8, plug: Plug, rules: Option<Vec<Rule>>) -> Wire {
    let number = u32::from(network) << 8 | u32::from(last);
    let port_id = id(0xa, number);
    let device = format!("{}{}", if plug == Plug::Tap { "tap" } else { "vth" }, &port_id[..11]);
    Wire {
        port_id,
        device,
        plug,
        mac: format!("02:00:00:00:{network:02x}:{last:02x}"),
        addresses: vec![(IpAddr::from([10, network, 0, last]), 24)],
        gateway: Some(IpAddr::from([10, network, 0, 1])),
        mtu: 1450,
        up: true,
        allowed_pairs: Vec::new(),
        rules,
        stateless: false,
        hostname: format!("host-{last}"),
        qos: Default::default(),
        trunk: Default::default(),
        dhcp_options: Vec::new(),
    }
}

pub fn bridge(network: u8, ports: Vec<Wire>) -> Bridge {
    let gateway = IpAddr::from([10, network, 0, 1]);
    Bridge {
        network_id: id(0xb, network.into()),
        vni: 4096 + u32::from(network),
        mtu: 1450,
        addresses: vec![(gateway, 24)],
        mac: format!("02:aa:00:00:00:{network:02x}"),
        subnets: vec![Scope {
            subnet_id: id(0xc, network.into()),
            base: IpAddr::from([10, network, 0, 0]),
            prefix: 24,
            gateway: Some(gateway),
            dhcp: true,
            server: Some(gateway),
            dns: Vec::new(),
            routes: Vec::new(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
        }],
        address_scopes: [None, None],
        ports,
        peers: Vec::new(),
        remote_ports: Vec::new(),
    }
}

pub fn domain(number: u32, bridges: Vec<Bridge>) -> Domain {
    Domain {
        id: id(0xd, number),
        bridges,
        uplinks: Vec::new(),
        routes: Vec::new(),
        services: Vec::new(),
        zone: Zone {
            search: vec!["lab.internal".into()],
            names: [("web.lab.internal".to_owned(), vec![IpAddr::from([10, 1, 0, 5])])].into(),
            srv: Default::default(),
            aliases: Default::default(),
            authority: vec!["lab.internal".into()],
        },
        metadata: true,
        apis: Vec::new(),
        groups: Default::default(),
    }
}

pub fn network(domains: Vec<Domain>) -> HostNetwork {
    HostNetwork { domains, externals: Vec::new() }
}

impl Lab {
    pub fn external(&self) -> External {
        External { network_id: id(0xe, 1), gateways: vec![(self.outside(1), 24)], mtu: 1500 }
    }

    pub fn uplink(&self, floating: Vec<(IpAddr, IpAddr)>) -> Uplink {
        Uplink {
            router_id: id(0xf, 1),
            network_id: id(0xe, 1),
            address: (self.outside(10), 24),
            mac: "02:bb:00:00:00:01".into(),
            gateway: Some(self.outside(1)),
            snat: true,
            floating,
            limits: Vec::new(),
            forwards: Vec::new(),
            mtu: 1500,
        }
    }
}
