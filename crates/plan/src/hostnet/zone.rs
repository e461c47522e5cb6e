//! The names of a domain: VMs and pods in one zone, and the names that Kubernetes promises (its DNS specification).

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::hostnet::Zone;
use model::{Cluster, KubeObject, Network, Port, Snapshot};
use serde_json::Value;

use super::component::Component;
use super::services::{
    NAMESPACES, SERVICES, SLICES, backends, cluster_ips, clusters, objects, port_number, protocol, ready, slices,
};

/// The suffix of VMs' and pods' names.
const SUFFIX: &str = "braid.internal";

/// The names of a domain.
pub fn of(snapshot: &Snapshot, component: &Component<'_>) -> Zone {
    let mut names = Names::default();
    names.suffix(SUFFIX);
    for network in &component.networks {
        names.suffix(suffix_of(network));
    }
    let clusters = clusters(snapshot, component);
    let domain_of = |id: &str| clusters.iter().find(|c| c.id == id).map(|c| c.domain.as_str());
    for port in component.ports.iter().filter(|p| p.is_plug()) {
        let network = component.networks.iter().find(|n| n.id == port.network_id);
        names.port(port, network.copied());
        if let Some((namespace, cluster)) = &port.pod
            && let Some(domain) = domain_of(cluster)
        {
            names.pod(port, namespace, domain);
        }
    }
    for cluster in &clusters {
        names.cluster(snapshot, cluster);
    }
    names.into_zone()
}

fn suffix_of(network: &Network) -> &str {
    match network.dns_domain.trim_end_matches('.') {
        "" => SUFFIX,
        domain => domain,
    }
}

/// `10.0.0.5` as the first label of a pod's name.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

#[derive(Default)]
struct Names {
    search: Vec<String>,
    authority: Vec<String>,
    names: BTreeMap<String, Vec<IpAddr>>,
    srv: BTreeMap<String, Vec<(String, u16)>>,
    aliases: BTreeMap<String, String>,
}

impl Names {
    /// A suffix that clients try and for which the zone alone answers.
    fn suffix(&mut self, suffix: &str) {
        let suffix = suffix.to_ascii_lowercase();
        if !self.search.contains(&suffix) {
            self.search.push(suffix.clone());
            self.authority.push(suffix);
        }
    }

    fn add(&mut self, name: &str, ips: impl IntoIterator<Item = IpAddr>) {
        let known = self.names.entry(name.to_ascii_lowercase()).or_default();
        known.extend(ips);
    }

    /// A VM's or a pod's name, under the suffix of its network and under the one that all have.
    fn port(&mut self, port: &Port, network: Option<&Network>) {
        let own = network.map(suffix_of).filter(|suffix| *suffix != SUFFIX);
        for ip in port.fixed_ips.iter().map(|fixed| fixed.ip) {
            let name = port.name_of(ip);
            self.add(&format!("{name}.{SUFFIX}"), [ip]);
            if let Some(suffix) = own {
                self.add(&format!("{name}.{suffix}"), [ip]);
            }
        }
    }

    fn pod(&mut self, port: &Port, namespace: &str, domain: &str) {
        for fixed in &port.fixed_ips {
            self.add(&format!("{}.{namespace}.pod.{domain}", dashed(fixed.ip)), [fixed.ip]);
        }
    }

    fn cluster(&mut self, snapshot: &Snapshot, cluster: &Cluster) {
        let domain = cluster.domain.trim_end_matches('.').to_ascii_lowercase();
        if !self.authority.contains(&domain) {
            self.authority.push(domain.clone());
        }
        // They exist, with or without anything in them, and so do their branches.
        for branch in ["svc", "pod"] {
            self.add(&format!("{branch}.{domain}"), []);
            for namespace in objects(snapshot, cluster, NAMESPACES) {
                self.add(&format!("{}.{branch}.{domain}", namespace.name), []);
            }
        }
        let all_slices = objects(snapshot, cluster, SLICES);
        for service in objects(snapshot, cluster, SERVICES).into_iter().filter(|s| !s.deleting()) {
            let name = format!("{}.{}.svc.{domain}", service.name, service.namespace);
            let ips = cluster_ips(service);
            if service.body["spec"]["type"] == "ExternalName" {
                self.alias(&name, service.body["spec"]["externalName"].as_str().unwrap_or(""));
            } else if ips.is_empty() {
                self.headless(&name, service, &slices(&all_slices, service));
            } else {
                self.add(&name, ips);
                for port in ports(service) {
                    self.serve(&name, port, [(name.clone(), &port["port"])]);
                }
            }
        }
    }

    /// A name that stands for another.
    fn alias(&mut self, name: &str, target: &str) {
        let target = target.trim_end_matches('.').to_ascii_lowercase();
        if !target.is_empty() {
            self.aliases.insert(name.to_ascii_lowercase(), target);
        }
    }

    /// A service without an address of its own stands for its endpoints.
    fn headless(&mut self, name: &str, service: &KubeObject, slices: &[&KubeObject]) {
        let target = |ip: IpAddr, hostname: &Option<String>| match hostname {
            Some(hostname) => format!("{hostname}.{name}"),
            None => format!("{}.{name}", dashed(ip)),
        };
        self.add(name, []);
        for (ip, hostname) in slices.iter().flat_map(|slice| ready(slice)) {
            self.add(name, [ip]);
            self.add(&target(ip, &hostname), [ip]);
        }
        for port in ports(service) {
            for backend in [true, false].into_iter().flat_map(|ipv4| backends(slices, port, ipv4)) {
                let number = Value::from(backend.port);
                self.serve(name, port, [(target(backend.ip, &backend.hostname), &number)]);
            }
        }
    }

    /// `_http._tcp.<service>`
    fn serve<'v>(&mut self, name: &str, port: &Value, targets: impl IntoIterator<Item = (String, &'v Value)>) {
        let Some(label) = port["name"].as_str().filter(|label| !label.is_empty()) else { return };
        let protocol = match protocol(port) {
            17 => "udp",
            132 => "sctp",
            _ => "tcp",
        };
        let full = format!("_{label}._{protocol}.{name}").to_ascii_lowercase();
        let known = self.srv.entry(full).or_default();
        known.extend(
            targets
                .into_iter()
                .filter_map(|(target, number)| Some((target.to_ascii_lowercase(), port_number(number)?))),
        );
    }

    fn into_zone(mut self) -> Zone {
        for ips in self.names.values_mut() {
            ips.sort();
            ips.dedup();
        }
        for targets in self.srv.values_mut() {
            targets.sort();
            targets.dedup();
        }
        Zone { search: self.search, names: self.names, srv: self.srv, aliases: self.aliases, authority: self.authority }
    }
}

fn ports(service: &KubeObject) -> impl Iterator<Item = &Value> {
    service.body["spec"]["ports"].as_array().into_iter().flatten()
}
