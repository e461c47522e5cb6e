//! The simulated host passes what real drivers must.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use driver::sim::Host;
use driver::suite::{self, NetBench, PodBench, VmBench};
use driver::{Attach, Attachment, NetDriver, PodDriver, Result, VmDriver};
use model::hostnet::{Bridge, Domain, HostNetwork, Plug, Wire, Zone};
use model::wanted::{Boot, Disk, Generation, Nic, WantedContainer, WantedPod, WantedVm};

struct Bench(Host, tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(Host::default(), tempfile::tempdir().expect("a folder"))
    }
}

#[async_trait]
impl Attach for Bench {
    async fn attach(&self, nic: &Nic) -> Result<Attachment> {
        self.0.attach(nic).await
    }
}

impl VmBench for Bench {
    fn driver(&self) -> Box<dyn VmDriver> {
        Box::new(self.0.clone())
    }
    fn vm(&self, id: &str) -> WantedVm {
        let root = Disk {
            id: "root".to_owned(),
            base: None,
            format: "raw".to_owned(),
            size: 1 << 20,
            read_only: false,
            take_from: None,
            made: false,
        };
        WantedVm {
            machine: Default::default(),
            generation: Generation::default(),
            id: id.to_owned(),
            uuid: String::new(),
            name: id.to_owned(),
            vcpus: 1,
            memory_mib: 64,
            running: true,
            paused: false,
            suspended: false,
            rescue: false,
            soft_reboots: 0,
            hard_reboots: 0,
            boot: Boot::Disk,
            disks: vec![root],
            config_drive: BTreeMap::new(),
            nics: Vec::new(),
        }
    }
    fn folder(&self) -> &Path {
        self.1.path()
    }
    fn runs(&self) -> bool {
        true
    }
    fn kept(&self) -> Vec<String> {
        let (there, _) = self.0.everything();
        self.0.disks().into_keys().filter(|id| !there.contains(id)).collect()
    }
}

impl PodBench for Bench {
    fn driver(&self) -> Box<dyn PodDriver> {
        Box::new(self.0.clone())
    }
    fn pod(&self, uid: &str) -> WantedPod {
        let main = WantedContainer { name: "main".into(), image: "tiny".into(), ..WantedContainer::default() };
        WantedPod {
            generation: Generation::default(),
            uid: uid.to_owned(),
            name: uid.to_owned(),
            namespace: "default".into(),
            cluster_id: "cluster-1".into(),
            hostname: uid.to_owned(),
            fqdn: String::new(),
            host_aliases: Vec::new(),
            dns_servers: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            labels: BTreeMap::new(),
            host_network: false,
            grace_seconds: 0,
            containers: vec![main],
            share_pid: false,
            run_as_user: None,
            run_as_group: None,
            fs_group: None,
            supplemental_groups: Vec::new(),
            sysctls: BTreeMap::new(),
        }
    }
}

impl NetBench for Bench {
    fn driver(&self) -> Box<dyn NetDriver> {
        Box::new(self.0.clone())
    }
    fn network(&self) -> HostNetwork {
        let wire = |id: &str, plug| Wire {
            port_id: id.into(),
            device: String::new(),
            plug,
            mac: String::new(),
            addresses: Vec::new(),
            gateway: None,
            mtu: 1450,
            up: true,
            allowed_pairs: Vec::new(),
            rules: None,
            stateless: false,
            hostname: String::new(),
            qos: Default::default(),
            trunk: Default::default(),
            dhcp_options: Vec::new(),
        };
        let bridge = Bridge {
            network_id: "net".into(),
            vni: 1,
            mtu: 1450,
            addresses: Vec::new(),
            mac: String::new(),
            subnets: Vec::new(),
            ports: vec![wire("vm", Plug::Tap), wire("pod", Plug::Veth)],
            address_scopes: [None, None],
            peers: Vec::new(),
            remote_ports: Vec::new(),
        };
        let domain = Domain {
            id: "domain".into(),
            groups: Default::default(),
            bridges: vec![bridge],
            uplinks: Vec::new(),
            routes: Vec::new(),
            services: Vec::new(),
            apis: Vec::new(),
            zone: Zone::default(),
            metadata: false,
        };
        HostNetwork { domains: vec![domain], ..HostNetwork::default() }
    }
}

#[tokio::test]
async fn vms() {
    suite::vms(&Bench::new()).await;
}

#[tokio::test]
async fn old_orders_for_vms() {
    suite::old_orders_for_vms(&Bench::new()).await;
}

#[tokio::test]
async fn kept_disks() {
    suite::kept_disks(&Bench::new()).await;
}

#[tokio::test]
async fn pods() {
    suite::pods(&Bench::new()).await;
}

#[tokio::test]
async fn old_orders_for_pods() {
    suite::old_orders_for_pods(&Bench::new()).await;
}

#[tokio::test]
async fn networks() {
    suite::networks(&Bench::new()).await;
}
