//! The first start: what a new cloud has before anybody asks for anything. One commit, so that a start that was killed
//! half-way leaves either nothing or all of it.

use std::net::{IpAddr, Ipv4Addr};

use model::{
    Change, Cluster, Fault, FixedIp, Flavor, Gateway, Holder, Index, Network, Port, Project, RbacAction, RbacPolicy,
    Resource, Router, Setting, Snapshot, Subnet, Time,
};
use serde_json::json;
use store::Store;

use crate::Problem;

/// The name of the setting that says that all this was done.
const DONE: &str = "first-start";

/// The range of addresses that face the outside, and the networks' size.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// `172.24.4.0/24`: base and prefix length of the external network.
    pub public: (Ipv4Addr, u8),
}

/// Makes the first networks, flavors and the cluster, once. Returns the id of the cluster of the project demo.
pub async fn run(store: &Store, ranges: &Ranges, now: Time) -> Result<String, Problem> {
    let identity = id();
    let cloud_id = |snapshot: &Snapshot| {
        let mut change = Change::new();
        if Setting::cloud_id(snapshot).is_none() {
            change.create(Setting { name: model::CLOUD_ID.into(), value: json!(identity) });
        }
        change
    };
    let cluster = store
        .transact(|snapshot| {
            if let Some(done) = snapshot.get::<Setting>(DONE) {
                // A cloud that is older than identities gets one too.
                let mut change = cloud_id(snapshot);
                change.writes.extend(RbacPolicy::upgrade(snapshot, now).writes);
                change.writes.extend(model::node::upgrade(snapshot).writes);
                return Ok((change, done.value.value["cluster"].as_str().unwrap_or("").to_owned()));
            }
            let project = |name: &str| {
                let found = snapshot.find::<Project>(Index::Name, &format!("{}/{name}", model::DEFAULT_DOMAIN)).next();
                found.map(|p| p.id.clone()).ok_or_else(|| model::Fault::Internal(format!("there is no project {name}")))
            };
            let (admin, demo) = (project("admin")?, project("demo")?);
            let mut first = First { change: cloud_id(snapshot), snapshot, now };
            first.flavors();
            let public = first.public(&admin, ranges);
            let network = first.demo(&demo, &public);
            let cluster = first.cluster(&demo, &network)?;
            first.change.create(Setting { name: DONE.into(), value: json!({"cluster": cluster}) });
            Ok((first.change, cluster))
        })
        .await?;
    Ok(cluster)
}

/// Whether the first rows are there.
pub fn is_done(snapshot: &Snapshot) -> bool {
    snapshot.get::<Setting>(DONE).is_some()
}

struct First<'a> {
    change: Change,
    snapshot: &'a Snapshot,
    now: Time,
}

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A network and its one subnet.
struct Made {
    network: Network,
    subnet: Subnet,
}

impl First<'_> {
    fn flavors(&mut self) {
        // Name, cores, MiB, GiB. The smallest has just what the image `tiny` boots in and a disk of the image's size.
        let flavors = [
            ("1", "m1.tiny", 1, 96, 0),
            ("2", "m1.small", 1, 512, 1),
            ("3", "m1.medium", 2, 2048, 10),
            ("4", "m1.large", 4, 4096, 20),
        ];
        for (id, name, vcpus, ram, disk) in flavors {
            self.change.create(Flavor::new(id, name, vcpus, ram, disk));
        }
    }

    fn network(&mut self, name: &str, project: &str, base: Ipv4Addr, prefix: u8, external: bool, vni: u32) -> Made {
        let network = Network {
            name: name.into(),
            external,
            is_default: external,
            mtu: model::most_mtu(external),
            ..Network::new(id(), project, vni, self.now)
        };
        let number = u32::from(base);
        let size = 1u32 << (32 - u32::from(prefix));
        let at = |offset: u32| IpAddr::V4(Ipv4Addr::from(number + offset));
        let subnet = Subnet {
            name: name.replace("-net", "") + "-subnet",
            gateway_ip: Some(at(1)),
            pools: vec![(at(2), at(size - 2))],
            enable_dhcp: !external,
            ..Subnet::new(id(), &network, (at(0), prefix), self.now)
        };
        self.change.create(network.clone()).create(subnet.clone());
        if external {
            self.change.create(RbacPolicy::for_all(network.key(), project, RbacAction::External, self.now));
        }
        Made { network, subnet }
    }

    fn public(&mut self, admin: &str, ranges: &Ranges) -> Made {
        let (base, prefix) = ranges.public;
        self.network("public", admin, base, prefix, true, 1000)
    }

    /// The demo project's network and its router, which leads out.
    fn demo(&mut self, demo: &str, public: &Made) -> Made {
        let made = self.network("demo-net", demo, Ipv4Addr::new(10, 10, 0, 0), 24, false, 1001);
        let mut router = Router { name: "demo-router".into(), ..Router::new(id(), demo, self.now) };
        let gateway_port = id();
        let outside = model::allocate(self.snapshot, &public.subnet, &[]);
        let mut gateway = self.port(&public.network, "", &gateway_port, Holder::gateway(&router));
        gateway.fixed_ips.extend(outside.map(|ip| FixedIp { subnet_id: public.subnet.id.clone(), ip }));
        let mut inside = self.port(&made.network, demo, &id(), Holder::interface(&router));
        inside.fixed_ips.extend(made.subnet.gateway_ip.map(|ip| FixedIp { subnet_id: made.subnet.id.clone(), ip }));
        router.gateway = Some(Gateway {
            network_id: public.network.id.clone(),
            port_id: gateway_port,
            enable_snat: true,
            qos_policy: None,
        });
        self.change.create(gateway).create(inside).create(router);
        made
    }

    fn port(&self, network: &Network, project: &str, id: &str, holder: Holder) -> Port {
        Port {
            project_id: project.into(),
            holder: Some(holder),
            port_security_enabled: false,
            status: model::PortStatus::Active,
            ..Port::new(id, network, self.now)
        }
    }

    fn cluster(&mut self, demo: &str, network: &Made) -> Result<String, Fault> {
        let (service_base, service_prefix, domain) = Cluster::apart(self.snapshot, demo, "demo")
            .ok_or_else(|| Fault::Exhausted("there is no range of service addresses left".into()))?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let cluster = Cluster {
            name: "demo".into(),
            service_base,
            service_prefix,
            domain,
            authority: Some(gate::new_authority(&id)?),
            ..Cluster::new(&id, &network.network, self.now)
        };
        for object in face_kube::cluster_rows(&cluster, self.now) {
            self.change.create(object);
        }
        self.change.create(cluster);
        Ok(id)
    }
}
