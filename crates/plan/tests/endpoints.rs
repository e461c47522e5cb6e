//! Slices of endpoints, where pods are not what makes them.

use model::*;
use serde_json::{Value, json};

fn now() -> Time {
    Time::from_second(1_800_000_000).unwrap()
}

fn service(name: &str, spec: Value) -> KubeObject {
    KubeObject {
        cluster_id: "c".into(),
        project_id: "p".into(),
        group: String::new(),
        resource: "services".into(),
        namespace: "default".into(),
        name: name.into(),
        body: json!({"apiVersion": "v1", "kind": "Service", "metadata": {"uid": format!("uid-{name}")}, "spec": spec}),
    }
}

fn apply(snapshot: &mut Snapshot, change: &Change) {
    snapshot.prepare(change).unwrap();
    snapshot.apply(snapshot.revision() + 1, &change.writes);
}

#[test]
fn the_api_answers_at_its_services_address() {
    let mut snapshot = Snapshot::default();
    let cluster = Cluster::new("c", &Network::new("net", "p", 1, now()), now());
    apply(&mut snapshot, &cluster.into());
    let ports = json!([{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]);
    let spec = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": ports});
    apply(&mut snapshot, &service("kubernetes", spec).into());
    let named = json!({"type": "ExternalName", "externalName": "db.example.org", "selector": {"app": "x"}});
    apply(&mut snapshot, &service("elsewhere", named).into());
    let changes = plan::kube::endpointslice::PLANNER.scan(&snapshot, now());
    assert_eq!(changes.len(), 1, "a name elsewhere has no endpoints");
    apply(&mut snapshot, &changes[0]);
    let key = KubeObject::key_of("c", "discovery.k8s.io", "endpointslices", "default", "kubernetes");
    let slice = snapshot.at::<KubeObject>(&key).expect("the slice").value.body.clone();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.96.0.1"]));
    assert_eq!(slice["ports"], json!([{"name": "https", "port": 443, "protocol": "TCP"}]));
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(plan::kube::endpointslice::PLANNER.scan(&snapshot, now()), []);
    // What somebody wrote into it does not stay.
    let mut change = Change::new();
    change.edit(snapshot.at::<KubeObject>(&key).unwrap(), |s| s.body["endpoints"] = json!([]));
    apply(&mut snapshot, &change);
    let changes = plan::kube::endpointslice::PLANNER.scan(&snapshot, now());
    apply(&mut snapshot, &changes[0]);
    assert_eq!(snapshot.at::<KubeObject>(&key).unwrap().body["endpoints"], slice["endpoints"]);
}
