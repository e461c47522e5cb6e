//! The service addresses of the Kubernetes clusters whose pods are in a domain: what an address and a port stand for.

use std::net::IpAddr;

use model::hostnet::{Api, Service};
use model::{Cluster, Index, KubeObject, Snapshot};
use serde_json::Value;

use super::component::Component;

/// The clusters whose network is in the domain, by id.
pub fn clusters<'a>(snapshot: &'a Snapshot, component: &Component<'_>) -> Vec<&'a Cluster> {
    let networks = component.networks.iter();
    let mut clusters: Vec<&Cluster> =
        networks.flat_map(|n| snapshot.find::<Cluster>(Index::Network, &n.id)).map(|c| c.value).collect();
    clusters.sort_by(|a, b| a.id.cmp(&b.id));
    clusters
}

/// Where the names of a cluster's services and of its slices of endpoints begin, see [`KubeObject::prefix`].
pub const NAMESPACES: &str = "/namespaces/";
pub const SERVICES: &str = "/services/";
pub const SLICES: &str = "discovery.k8s.io/endpointslices/";

/// The objects of one resource of a cluster, by namespace and name.
pub fn objects<'a>(snapshot: &'a Snapshot, cluster: &Cluster, resource: &'static str) -> Vec<&'a KubeObject> {
    let realm = model::Realm::cluster(&cluster.id);
    snapshot.names::<KubeObject>(&realm, resource, None).map(|o| o.value).collect()
}

/// A backend of a service port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    pub ip: IpAddr,
    pub port: u16,
    /// The endpoint's name below a headless service.
    pub hostname: Option<String>,
}

/// The slices of endpoints of one service.
pub fn slices<'a>(all: &[&'a KubeObject], service: &KubeObject) -> Vec<&'a KubeObject> {
    let label = |o: &KubeObject| o.body["metadata"]["labels"]["kubernetes.io/service-name"] == service.name.as_str();
    all.iter().filter(|o| o.namespace == service.namespace && label(o) && !o.deleting()).copied().collect()
}

/// The addresses of the ready endpoints of one slice, with their names.
pub fn ready(slice: &KubeObject) -> Vec<(IpAddr, Option<String>)> {
    let endpoints = slice.body["endpoints"].as_array().into_iter().flatten();
    // An endpoint that does not say is ready, by the API's own rule.
    let ready = endpoints.filter(|e| e["conditions"]["ready"].as_bool().unwrap_or(true));
    ready
        .flat_map(|e| {
            let hostname = e["hostname"].as_str().filter(|h| !h.is_empty()).map(str::to_owned);
            let addresses = e["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
            addresses.filter_map(|a| a.parse().ok()).map(move |ip: IpAddr| (ip, hostname.clone())).collect::<Vec<_>>()
        })
        .collect()
}

/// The ready backends of a service port, of one version of IP.
pub fn backends(slices: &[&KubeObject], port: &Value, ipv4: bool) -> Vec<Backend> {
    let name = port["name"].as_str().unwrap_or("");
    let mut all: Vec<Backend> = Vec::new();
    for slice in slices {
        let ports = slice.body["ports"].as_array().into_iter().flatten();
        let same = |p: &&Value| p["name"].as_str().unwrap_or("") == name && protocol(p) == protocol(port);
        let numbers: Vec<u16> = ports.filter(same).filter_map(|p| port_number(&p["port"])).collect();
        for (ip, hostname) in ready(slice).into_iter().filter(|(ip, _)| ip.is_ipv4() == ipv4) {
            let backend = |port: &u16| Backend { ip, port: *port, hostname: hostname.clone() };
            all.extend(numbers.iter().map(backend));
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The number of a service port's protocol; TCP unless it says otherwise.
pub fn protocol(port: &Value) -> u8 {
    match port["protocol"].as_str() {
        Some("UDP") => 17,
        Some("SCTP") => 132,
        _ => 6,
    }
}

pub fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)
}

/// The cluster addresses of a service; none for a headless one.
pub fn cluster_ips(service: &KubeObject) -> Vec<IpAddr> {
    let spec = &service.body["spec"];
    let many = spec["clusterIPs"].as_array().into_iter().flatten();
    let mut ips: Vec<IpAddr> =
        many.chain([&spec["clusterIP"]]).filter_map(Value::as_str).filter_map(|t| t.parse().ok()).collect();
    ips.sort();
    ips.dedup();
    ips
}

/// Whether it is the cluster's own API, which no pods stand behind.
pub fn is_api(service: &KubeObject) -> bool {
    service.namespace == "default" && service.name == "kubernetes"
}

/// Where the clusters' own APIs are answered, sorted.
pub fn apis(snapshot: &Snapshot, component: &Component<'_>) -> Vec<Api> {
    let mut apis = Vec::new();
    for cluster in clusters(snapshot, component) {
        let all = objects(snapshot, cluster, SERVICES).into_iter();
        for service in all.filter(|service| is_api(service) && !service.deleting()) {
            let port = service.body["spec"]["ports"].as_array().and_then(|ports| port_number(&ports.first()?["port"]));
            let Some(port) = port else { continue };
            let cluster_id = &cluster.id;
            let api = |address| Api { cluster_id: cluster_id.clone(), address, port };
            apis.extend(cluster_ips(service).into_iter().map(api));
        }
    }
    apis.sort();
    apis
}

/// All service addresses of a domain, sorted.
pub fn of(snapshot: &Snapshot, component: &Component<'_>) -> Vec<Service> {
    let mut services = Vec::new();
    for cluster in clusters(snapshot, component) {
        let all_slices = objects(snapshot, cluster, SLICES);
        for service in objects(snapshot, cluster, SERVICES).into_iter().filter(|s| !s.deleting() && !is_api(s)) {
            let slices = slices(&all_slices, service);
            let ports: Vec<&Value> = service.body["spec"]["ports"].as_array().into_iter().flatten().collect();
            for address in cluster_ips(service) {
                services.extend(ports.iter().filter_map(|port| {
                    let backends = backends(&slices, port, address.is_ipv4());
                    Some(Service {
                        address,
                        protocol: protocol(port),
                        port: port_number(&port["port"])?,
                        backends: backends.into_iter().map(|b| (b.ip, b.port)).collect(),
                        sticky: service.body["spec"]["sessionAffinity"] == "ClientIP",
                    })
                }));
            }
        }
    }
    services.sort_by_key(|s| (s.address, s.protocol, s.port));
    services
}
