//! The rows of a cloud at size, as faces would have written them: hosts, projects with a network and a cluster each, and what is
//! asked for in them.

use std::net::Ipv4Addr;

use model::{
    Change, Cluster, Flavor, Host, HostStatus, KubeObject, Network, NicRequest, Project, Quota, Server, Subnet, Time,
    Write,
};
use serde_json::{Value, json};

/// Pods of one ReplicaSet.
pub const REPLICAS: usize = 100;

/// Who has what: each project a network and a cluster.
pub struct Tenants {
    pub clusters: usize,
    /// The first project, whose user asks meanwhile.
    pub first: String,
}

impl Tenants {
    fn project(&self, n: usize) -> String {
        match n % self.clusters {
            0 => self.first.clone(),
            n => format!("project-{n}"),
        }
    }

    fn object(&self, n: usize, group: &str, resource: &str, name: &str, mut body: Value) -> KubeObject {
        let n = n % self.clusters;
        body["metadata"]["name"] = json!(name);
        body["metadata"]["namespace"] = json!("default");
        body["metadata"]["uid"] = json!(model::derived_id(&[&cluster(n), resource, name]));
        KubeObject {
            cluster_id: cluster(n),
            project_id: self.project(n),
            group: group.into(),
            resource: resource.into(),
            namespace: "default".into(),
            name: name.into(),
            body,
        }
    }

    /// The network and the cluster of a project, and the project where it is not there.
    pub fn tenant(&self, n: usize) -> Vec<Write> {
        let (now, project) = (Time::now(), self.project(n));
        let mut change = Change::new();
        if n > 0 {
            change.create(Project::new(&project, &project, "default"));
            let mut quota = Quota::new(&project);
            model::quota::all().for_each(|limited| _ = quota.limits.insert(limited.name.into(), None));
            change.create(quota);
        }
        let network = Network::new(format!("net-{n}"), &project, 1000 + n as u32, now);
        let cluster = Cluster::new(cluster(n), &network, now);
        let subnet = Subnet {
            pools: vec![(Ipv4Addr::new(10, 0, 0, 2).into(), Ipv4Addr::new(10, 255, 255, 254).into())],
            ..Subnet::new(format!("subnet-{n}"), &network, (Ipv4Addr::new(10, 0, 0, 0).into(), 8), now)
        };
        face_kube::cluster_rows(&cluster, now).into_iter().for_each(|row| _ = change.create(row));
        change.create(network).create(subnet).create(cluster);
        change.writes
    }

    pub fn replica_set(&self, set: usize) -> KubeObject {
        let labels = json!({"app": format!("set-{set}")});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container()]}});
        let spec = json!({"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template});
        let body = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec});
        self.object(set, "apps", "replicasets", &format!("set-{set}"), body)
    }

    pub fn deployment(&self) -> KubeObject {
        let template = json!({"metadata": {"labels": {"app": "many"}}, "spec": {"containers": [container()]}});
        let spec = json!({"replicas": 1000, "selector": {"matchLabels": {"app": "many"}}, "template": template});
        let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec});
        self.object(self.clusters / 2, "apps", "deployments", "many", body)
    }

    pub fn pod(&self, n: usize, name: &str) -> KubeObject {
        let body = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container()]}});
        self.object(n, "", "pods", name, body)
    }

    pub fn config_map(&self, n: usize, name: &str) -> KubeObject {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": "x".repeat(1000)}});
        self.object(n, "", "configmaps", name, body)
    }

    pub fn server(&self, n: usize) -> Server {
        let network = format!("net-{}", n % self.clusters);
        let nic = NicRequest { network_id: Some(network), ..NicRequest::default() };
        let flavor = Flavor::new("small", "small", 1, 512, 1);
        let (name, project) = (format!("server-{n}"), self.project(n));
        Server { nics: vec![nic], ..Server::new(&name, &project, "web", flavor, Time::now()) }
    }
}

pub fn hosts(count: usize) -> Vec<Write> {
    let now = Time::now();
    let mut change = Change::new();
    for n in 0..count {
        change.create(Host {
            cpu_milli: 256_000,
            memory_mib: 1 << 20,
            disk_gib: 1000,
            status: HostStatus { heartbeat: Some(now), ..HostStatus::default() },
            ..Host::new(&host(n), now)
        });
    }
    change.writes
}

pub fn host(n: usize) -> String {
    format!("host-{n:05}")
}

pub fn cluster(n: usize) -> String {
    format!("cluster-{n}")
}

fn container() -> Value {
    json!({"name": "c", "image": "tiny", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}})
}
