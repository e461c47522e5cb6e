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
    for (name, node, status) in [("a", "theirs", 403), ("b", "ours", 201), ("c", "", 201)] {
        let (found, body) = world.post(PODS, pod(name, node)).await;
        assert_eq!(found, status, "{body}");
    }
    let binding = |node: &str| json!({"metadata": {"name": "c"}, "target": {"kind": "Node", "name": node}});
    let (status, body) = world.post(&format!("{PODS}/c/binding"), binding("theirs")).await;
    assert!(status == 403 && body["message"].as_str().unwrap().contains("reserved"), "{status} {body}");
    assert_eq!(world.post(&format!("{PODS}/c/binding"), binding("ours")).await.0, 201);
}
