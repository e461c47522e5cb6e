//! What there is in the beginning, and what users ask for: so little of everything that it runs out.

use model::{
    Change, Cluster, Domain, Flavor, Host, HostStatus, KubeObject, Network, NicRequest, Project, Quota, Server,
    Setting, Subnet,
};
use serde_json::json;

use crate::{now, policy};

pub const PROJECT: &str = "project-1";
pub const NETWORK: &str = "11111111-1111-4111-8111-111111111111";
pub const SUBNET: &str = "22222222-2222-4222-8222-222222222222";
pub const CLUSTER: &str = "cluster-1";
pub const HOSTS: [&str; 3] = ["host-a", "host-b", "host-c"];

/// What the project may have.
pub const MAX_SERVERS: u64 = 7;
pub const MAX_CORES: u64 = 10;

/// All rows of the beginning.
pub fn first_rows() -> Change {
    let moment = now();
    let mut change = Change::new();
    change.create(Setting { name: model::CLOUD_ID.into(), value: json!("one") });
    change.create(Domain {
        id: "default".into(),
        name: "Default".into(),
        description: String::new(),
        enabled: true,
        tags: Vec::new(),
        options: Default::default(),
    });
    change.create(Project::new(PROJECT, "one", "default"));
    let mut quota = Quota::new(PROJECT);
    quota.limits.insert("cores".into(), Some(MAX_CORES));
    quota.limits.insert("instances".into(), Some(MAX_SERVERS));
    change.create(quota);
    let (group, rules) = model::default_security_group(PROJECT, moment);
    change.create(group);
    rules.into_iter().for_each(|rule| _ = change.create(rule));
    for name in HOSTS {
        change.create(Host {
            // Room for two servers and a few pods, so that it runs out.
            cpu_milli: 4000,
            memory_mib: 320 + 2 * model::Vm::OVERHEAD_MIB,
            disk_gib: 100,
            cores: 4,
            endpoint: format!("sim:{name}"),
            status: HostStatus { heartbeat: Some(moment), ..HostStatus::default() },
            ..Host::new(name, moment)
        });
    }
    change.create(image());
    addresses(&mut change);
    cluster(&mut change);
    change
}

fn image() -> model::Image {
    model::Image {
        name: Some("tiny".into()),
        visibility: model::Visibility::Public,
        status: model::ImageStatus::Active,
        disk_format: Some("raw".into()),
        container_format: Some("bare".into()),
        blob: Some("0".repeat(64)),
        size: Some(1),
        ..model::Image::new("44444444-4444-4444-8444-444444444444", PROJECT, now())
    }
}

/// The project's network.
pub fn network() -> Network {
    Network { name: "net".into(), ..Network::new(NETWORK, PROJECT, 1000, now()) }
}

/// A network with thirteen addresses, so that they run out.
fn addresses(change: &mut Change) {
    let network = network();
    let ip = |last: u8| std::net::IpAddr::from([10, 0, 0, last]);
    change.create(Subnet {
        name: "subnet".into(),
        gateway_ip: Some(ip(1)),
        pools: vec![(ip(2), ip(14))],
        ..Subnet::new(SUBNET, &network, (ip(0), 28), now())
    });
    change.create(network);
}

fn cluster(change: &mut Change) {
    change.create(Cluster { name: "one".into(), ..Cluster::new(CLUSTER, &network(), now()) });
    change.create(object("", "namespaces", "", "default", json!({"apiVersion": "v1", "kind": "Namespace"})));
    // Without a token: nobody signs any here.
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "automountServiceAccountToken": false, "containers": [container()], "affinity": apart("web"),
    }});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    change.create(object("apps", "deployments", "default", "web", deployment));
    let labels = json!({"app": policy::FORBIDDEN});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"automountServiceAccountToken": false, "containers": [container()]},
        }},
    });
    change.create(object("apps", "replicasets", "default", policy::FORBIDDEN, set));
}

fn object(group: &str, resource: &str, namespace: &str, name: &str, mut body: serde_json::Value) -> KubeObject {
    body["metadata"]["name"] = json!(name);
    body["metadata"]["uid"] = json!(model::derived_id(&["sim", resource, name]));
    body["metadata"]["generation"] = json!(1);
    KubeObject {
        cluster_id: CLUSTER.into(),
        project_id: PROJECT.into(),
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        body,
    }
}

/// The affinity of a pod that shares no host with those of an app.
pub fn apart(app: &str) -> serde_json::Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"});
    json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
}

fn container() -> serde_json::Value {
    json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "32Mi"}}})
}

pub fn pod(name: &str) -> KubeObject {
    let body = json!({
        "apiVersion": "v1", "kind": "Pod",
        "spec": {"containers": [container()], "schedulerName": "default-scheduler"},
        "status": {"phase": "Pending"},
    });
    object("", "pods", "default", name, body)
}

/// A Job as the API lets it in.
pub fn job(name: &str, spec: serde_json::Value) -> KubeObject {
    let body = json!({"apiVersion": "batch/v1", "kind": "Job", "spec": spec, "status": {}});
    let mut job = object("batch", "jobs", "default", name, body);
    model::batch::select_own(&mut job.body);
    job
}

pub fn cron_job(name: &str, spec: serde_json::Value) -> KubeObject {
    let meta = json!({"creationTimestamp": model::seconds(now())});
    let body = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec, "status": {}});
    object("batch", "cronjobs", "default", name, body)
}

pub(crate) fn flavor(id: &str, name: &str, vcpus: u64) -> Flavor {
    Flavor::new(id, name, vcpus, 128, 0)
}

pub fn server(id: &str, cores: u64) -> Server {
    Server {
        user_id: "user".into(),
        image_id: Some(image().id),
        nics: vec![NicRequest { network_id: Some(NETWORK.into()), ..NicRequest::default() }],
        reservation_id: "r-1".into(),
        ..Server::new(id, PROJECT, id, flavor("f", "f", cores), now())
    }
}
