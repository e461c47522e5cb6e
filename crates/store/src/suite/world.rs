//! Rows for the suite: few names, few ids and small limits, so that everything collides with everything.

use fastrand::Rng;
use model::{
    Change, Domain, Expect, Host, Key, KubeObject, Network, Object, Project, Quota, Setting, Snapshot, Time, Write,
};

pub fn domain(id: &str, name: &str) -> Domain {
    Domain {
        id: id.into(),
        name: name.into(),
        description: String::new(),
        enabled: true,
        tags: Vec::new(),
        options: Default::default(),
    }
}

pub fn project(id: &str, name: &str, domain: &str) -> Project {
    Project::new(id, name, domain)
}

pub fn setting(name: &str, value: u64) -> Setting {
    Setting { name: name.into(), value: value.into() }
}

pub fn network(id: &str, project: &str, vni: u32) -> Network {
    Network { name: id.into(), ..Network::new(id, project, vni, Time::UNIX_EPOCH) }
}

pub fn quota(project: &str, networks: Option<u64>) -> Quota {
    let mut quota = Quota::new(project);
    quota.limits.insert("network".into(), networks);
    quota
}

pub fn host(name: &str, cpu_milli: u64) -> Host {
    Host {
        id: name.into(),
        cpu_milli,
        memory_mib: 1 << 20,
        disk_gib: 100,
        cores: 4,
        ..Host::new(name, Time::UNIX_EPOCH)
    }
}

pub fn kube(cluster: &str, resource: &str, namespace: &str, name: &str, body: serde_json::Value) -> KubeObject {
    KubeObject {
        cluster_id: cluster.into(),
        project_id: "p0".into(),
        group: String::new(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        body,
    }
}

fn pick(rng: &mut Rng, prefix: &str, n: usize) -> String {
    format!("{prefix}{}", rng.usize(..n))
}

/// Any row of the small world.
pub fn object(rng: &mut Rng) -> Object {
    match rng.u8(..8) {
        0 => domain(&pick(rng, "d", 3), &pick(rng, "name", 3)).into(),
        1 => project(&pick(rng, "p", 4), &pick(rng, "name", 3), &pick(rng, "d", 3)).into(),
        2 => {
            let limit = rng.bool().then(|| rng.u64(..4));
            quota(&pick(rng, "p", 4), limit).into()
        }
        3 => network(&pick(rng, "n", 6), &pick(rng, "p", 4), rng.u32(..6)).into(),
        4 => setting(&pick(rng, "s", 4), rng.u64(..1000)).into(),
        5 => host(&pick(rng, "h", 2), rng.u64(..4) * 1000).into(),
        6 => kube("c", "namespaces", "", &pick(rng, "ns", 2), serde_json::json!({})).into(),
        _ => {
            let cpu = format!("{}m", rng.u64(..20) * 100);
            let body = serde_json::json!({
                "metadata": {"uid": pick(rng, "u", 9)},
                "spec": {"nodeName": pick(rng, "h", 2), "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
                "status": {"phase": if rng.u8(..4) == 0 { "Failed" } else { "Running" }},
            });
            kube("c", "pods", &pick(rng, "ns", 2), &pick(rng, "pod", 5), body).into()
        }
    }
}

/// A change as somebody would make it who has seen `view`; sometimes a careless one.
pub fn change(rng: &mut Rng, view: &Snapshot) -> Change {
    let mut change = Change::new();
    for _ in 0..rng.usize(1..5) {
        let object = object(rng);
        let key = object.key();
        let careless = rng.u8(..12) == 0;
        match view.row(&key) {
            Some(row) if !careless && rng.bool() => {
                change.writes.push(Write::Update { object, expected: row.modified });
            }
            Some(row) if !careless => change.writes.push(Write::Delete { key, expected: row.modified }),
            None if careless => change.writes.push(Write::Delete { key, expected: rng.u64(..9) }),
            _ => change.writes.push(Write::Create(object)),
        }
    }
    if rng.u8(..4) == 0 {
        let key: Key = object(rng).key();
        let revision = view.row(&key).map(|row| row.modified);
        change.expects.push(Expect { key, revision });
    }
    change
}
