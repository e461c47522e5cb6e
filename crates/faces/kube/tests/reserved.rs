//! Hosts that are reserved for projects, as seen by a cluster of another: no way leads to them.

mod common;

use common::World;
use model::Change;
use serde_json::json;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn no_request_leads_to_a_host_that_is_reserved_for_others() {
    let world = World::new().await;
    let now = model::Time::now();
    let mut change = Change::new();
    for name in ["ours", "theirs"] {
        let room = model::Host { cpu_milli: 9000, memory_mib: 9000, disk_gib: 90, ..model::Host::new(name, now) };
        change.create(room);
    }
    change.create(model::Aggregate {
        id: "1".into(),
        uuid: "1".into(),
        name: "rack".into(),
        hosts: ["theirs".to_owned()].into(),
        metadata: [("filter_tenant_id".to_owned(), "another-project".to_owned())].into(),
        created_at: now,
        updated_at: None,
    });
    world.store.commit(&change).await.unwrap();
    let pod = |name: &str, node: &str| {
        let containers = json!([{"name": "c", "image": "braid.local/tiny"}]);
        let mut spec = json!({"containers": containers});
        if !node.is_empty() {
            spec["nodeName"] = node.into();
        }
        json!({"metadata": {"name": name}, "spec": spec})
    };
    for (name, node, status) in [("a", "theirs", 403), ("a", "nobodys", 403), ("b", "ours", 201), ("c", "", 201)] {
        let (found, body) = world.post(PODS, pod(name, node)).await;
        assert_eq!(found, status, "{body}");
        let why = format!("pods \"a\" is forbidden: there is no node {node:?} for this cluster");
        assert!(found == 201 || body["message"] == why, "{body}");
    }
    let binding = |node: &str| json!({"metadata": {"name": "c"}, "target": {"kind": "Node", "name": node}});
    for node in ["theirs", "nobodys"] {
        let (status, body) = world.post(&format!("{PODS}/c/binding"), binding(node)).await;
        assert!(status == 403 && body["message"].as_str().unwrap().contains("there is no node"), "{status} {body}");
    }
    assert_eq!(world.post(&format!("{PODS}/c/binding"), binding("ours")).await.0, 201);

    // A name is taken once, also by a host that is not seen.
    let node = |name: &str, label: &str| json!({"metadata": {"name": name, "labels": {"label": label}}});
    for (name, status) in [("theirs", 409), ("ours", 409), ("own", 201), ("own", 409)] {
        let (found, body) = world.post("/api/v1/nodes", node(name, &status.to_string())).await;
        assert_eq!(found, status, "{body}");
    }
    let (_, own) = world.get("/api/v1/nodes/own").await;
    assert_eq!(own["metadata"]["labels"]["label"], "201");
    let taint = |key: &str, value: &str, effect: &str| json!({"key": key, "value": value, "effect": effect});
    for (taints, words) in [
        (vec![taint("k", "v", "NoSchedule"), taint("k", "w", "NoSchedule")], "spec.taints[1]: Duplicate value"),
        (vec![json!({"key": "k"})], "spec.taints[0].effect: Required value"),
        (vec![taint("k", "a b", "NoExecute")], "spec.taints[0].value: Invalid value"),
        (vec![taint("", "", "NoExecute")], "spec.taints[0].key: Invalid value"),
    ] {
        let (status, body) =
            world.patch("/api/v1/nodes/own", "application/merge-patch+json", json!({"spec": {"taints": taints}})).await;
        assert!(status == 422 && body["message"].as_str().unwrap().contains(words), "{status} {body}");
    }
    // A Node of the cluster's own is no place, not even when a host of others gets its name.
    let (status, body) = world.post(PODS, pod("d", "own")).await;
    assert!(status == 403 && body["message"].as_str().unwrap().contains("is no host"), "{status} {body}");
}
