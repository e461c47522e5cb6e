//! Rows that a compute test needs around the API: a network, an image, flavors, a host, and what planners and agents do.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use model::*;

use crate::common::Harness;

/// Ids of what is there.
pub struct Rows {
    pub image: String,
    pub network: String,
    pub subnet: String,
    /// Too small for the image.
    pub tiny: String,
    pub small: String,
    pub large: String,
    /// Larger than the host.
    pub giant: String,
}

/// The row, or the fault of its absence.
pub fn at<'a, T: Resource>(snapshot: &'a Snapshot, id: &str) -> Result<Entry<'a, T>, Fault> {
    snapshot.get::<T>(id).ok_or_else(|| Fault::not_found(T::KIND, id))
}

fn flavor(name: &str, ram: u64, disk: u64) -> Flavor {
    Flavor::new(uuid::Uuid::new_v4().to_string(), name, 1, ram, disk)
}

fn image(now: Time) -> Image {
    Image {
        name: Some("guest".into()),
        visibility: Visibility::Public,
        status: ImageStatus::Active,
        disk_format: Some("raw".into()),
        container_format: Some("bare".into()),
        min_ram: 64,
        blob: Some("00".into()),
        size: Some(1 << 20),
        ..Image::new(uuid::Uuid::new_v4().to_string(), String::new(), now)
    }
}

fn network(project: &str, now: Time) -> Network {
    Network { name: "private".into(), ..Network::new(uuid::Uuid::new_v4().to_string(), project, 77, now) }
}

fn subnet(network: &Network) -> Subnet {
    Subnet {
        gateway_ip: Some("10.1.0.1".parse().unwrap()),
        pools: vec![("10.1.0.5".parse().unwrap(), "10.1.0.200".parse().unwrap())],
        ..Subnet::new(uuid::Uuid::new_v4().to_string(), network, ("10.1.0.0".parse().unwrap(), 24), network.created_at)
    }
}

fn host(now: Time) -> Host {
    Host {
        id: uuid::Uuid::new_v4().to_string(),
        cpu_milli: 16_000,
        memory_mib: 8192,
        disk_gib: 100,
        cores: 4,
        endpoint: "unix:/nowhere".into(),
        traits: vec!["COMPUTE_NODE".into(), "HW_CPU_X86_AVX2".into()],
        status: HostStatus { heartbeat: Some(now), hypervisor_version: "10.0.2".into(), ..HostStatus::default() },
        ..Host::new("node1", now)
    }
}

impl Rows {
    /// Makes all of it for the demo project.
    pub async fn new(h: &Harness) -> Self {
        let now = Time::now();
        let (image, network, host) = (image(now), network(&h.demo_project, now), host(now));
        let subnet = subnet(&network);
        let flavors = [
            flavor("m1.micro", 32, 1),
            flavor("m1.small", 256, 1),
            flavor("m1.big", 512, 2),
            flavor("m1.giant", 9000, 2),
        ];
        let [tiny, small, large, giant] = flavors.clone().map(|f| f.id);
        let rows = Self {
            image: image.id.clone(),
            network: network.id.clone(),
            subnet: subnet.id.clone(),
            tiny,
            small,
            large,
            giant,
        };
        let mut change = Change::new();
        change.create(image).create(network).create(subnet).create(host);
        for flavor in flavors {
            change.create(flavor);
        }
        h.cloud.store.commit(&change).await.unwrap();
        rows
    }

    /// Changes a row.
    pub async fn edit<T: Resource>(&self, h: &Harness, id: &str, edit: impl Fn(&mut T))
    where
        Object: From<T>,
    {
        let done = h.cloud.store.transact(|snapshot| {
            let mut change = Change::new();
            change.edit(at::<T>(snapshot, id)?, &edit);
            Ok((change, ()))
        });
        done.await.unwrap();
    }

    fn vm_id(h: &Harness, server: &str) -> String {
        let snapshot = h.cloud.store.snapshot();
        Vm::id(server, snapshot.get::<Server>(server).unwrap().incarnation)
    }

    /// What the planners and the host do for the server's current incarnation: ports, a VM on the host, a report.
    pub async fn place(&self, h: &Harness, server: &str, host: &str, phase: VmPhase) {
        let now = Time::now();
        h.cloud
            .store
            .transact(|snapshot| {
                let entry = at::<Server>(snapshot, server)?;
                let mut change = Change::new();
                for old in snapshot.find::<Vm>(Index::Owner, server) {
                    change.delete(old);
                }
                change.create(Vm {
                    server_id: server.into(),
                    project_id: entry.project_id.clone(),
                    incarnation: entry.incarnation,
                    host: Some(host.into()),
                    cpu_milli: entry.flavor.vcpus * 1000,
                    memory_mib: entry.flavor.ram,
                    disk_gib: entry.flavor.disk,
                    source: None,
                    deleting: false,
                    decision: vec![],
                    status: VmStatus { phase, ..VmStatus::default() },
                    created_at: now,
                });
                let mut nics = entry.nics.clone();
                for nic in nics.iter_mut().filter(|nic| nic.port_id.is_none()) {
                    let port = self.port(snapshot, &entry, now);
                    nic.port_id = Some(port.id.clone());
                    change.create(port);
                }
                change.edit(entry, |s| {
                    s.nics = nics;
                    s.launched_at = Some(now);
                    s.sized_at = s.sized_at.or(s.launched_at);
                });
                Ok((change, ()))
            })
            .await
            .unwrap();
    }

    fn port(&self, snapshot: &Snapshot, server: &Server, now: Time) -> Port {
        let subnet = snapshot.get::<Subnet>(&self.subnet).unwrap();
        let network = snapshot.get::<Network>(&self.network).unwrap();
        Port {
            project_id: server.project_id.clone(),
            fixed_ips: vec![FixedIp { subnet_id: subnet.id.clone(), ip: allocate(snapshot, &subnet, &[]).unwrap() }],
            holder: Some(Holder::server(server)),
            port_security_enabled: true,
            dns_name: server.hostname.clone(),
            owned: true,
            status: PortStatus::Active,
            ..Port::new(uuid::Uuid::new_v4().to_string(), &network, now)
        }
    }

    /// What the host says of the current incarnation.
    pub async fn report(&self, h: &Harness, server: &str, phase: VmPhase) {
        self.edit::<Vm>(h, &Self::vm_id(h, server), |vm| vm.status.phase = phase).await;
    }

    /// The current incarnation ended though it was to run.
    pub async fn ended(&self, h: &Harness, server: &str) {
        let end = |vm: &mut Vm| (vm.status.phase, vm.status.ended) = (VmPhase::Stopped, true);
        self.edit::<Vm>(h, &Self::vm_id(h, server), end).await;
    }

    /// The host has done all reboots.
    pub async fn rebooted(&self, h: &Harness, server: &str) {
        let wanted = h.cloud.store.snapshot().get::<Server>(server).unwrap().value.clone();
        self.edit::<Vm>(h, &Self::vm_id(h, server), |vm| {
            vm.status.soft_reboots = wanted.soft_reboots;
            vm.status.hard_reboots = wanted.hard_reboots;
        })
        .await;
    }

    /// Nothing is left of a server that was deleted.
    pub async fn vanish(&self, h: &Harness, server: &str) {
        h.cloud
            .store
            .transact(|snapshot| {
                let entry = at::<Server>(snapshot, server)?;
                assert!(entry.deleting);
                let mut change = Change::new();
                for vm in snapshot.find::<Vm>(Index::Owner, server) {
                    change.delete(vm);
                }
                for port in Port::of_server(snapshot, entry.value) {
                    change.delete(port);
                }
                for action in snapshot.find::<ServerAction>(Index::Owner, server) {
                    change.delete(action);
                }
                ServerUsage::of(&entry, Time::now(), true).map(|usage| change.create(usage));
                change.delete(entry);
                Ok((change, ()))
            })
            .await
            .unwrap();
    }
}
