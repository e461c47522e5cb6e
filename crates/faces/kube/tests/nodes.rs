//! Nodes are hosts as a cluster sees them: nothing is stored of them but what the cluster says itself.

mod common;

use std::time::Duration;

use common::World;
use http::Method;
use http_body_util::BodyExt;
use model::host_report::{HostReport, Report};
use model::{Change, Cluster, Entry, Host, HostStatus, KubeObject, Shortage, Time};
use serde_json::{Value, json};
use tower::ServiceExt;

const NODES: &str = "/api/v1/nodes";
const MERGE: &str = "application/merge-patch+json";

/// A world with hosts, and another cluster of the same project.
async fn world(hosts: &[&str]) -> (World, Cluster) {
    let world = World::new().await;
    let other = common::cluster(&world.cluster.project_id, "two");
    let other = Cluster { domain: "two.local".into(), service_base: [10, 97, 0, 0].into(), ..other };
    let mut change = Change::from(other.clone());
    for row in face_kube::cluster_rows(&other, Time::now()) {
        change.create(row);
    }
    for name in hosts {
        let room = Host { cpu_milli: 4000, memory_mib: 4000, disk_gib: 10, ..Host::new(name, Time::now()) };
        change.create(room);
    }
    world.store.commit(&change).await.unwrap();
    for name in hosts {
        report(&world, name, HostStatus::default()).await;
    }
    (world, other)
}

/// A host says how it is.
async fn report(world: &World, host: &str, status: HostStatus) {
    let report = Report::Host(Box::new(HostReport { status, counts: true, ..HostReport::default() }));
    let (change, _) = plan::host_report::change(&world.store.snapshot(), host, &report, Time::now()).unwrap();
    world.store.commit(&change).await.unwrap();
    world.store.beat(host, Time::now()).await.unwrap();
}

fn stored(world: &World) -> Vec<KubeObject> {
    let rows = world.store.snapshot();
    rows.all::<KubeObject>()
        .filter(|row| row.is("", "nodes"))
        .map(|row: Entry<'_, KubeObject>| row.value.clone())
        .collect()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|node| node["metadata"]["name"].as_str().unwrap()).collect()
}

fn condition<'a>(node: &'a Value, kind: &str) -> &'a Value {
    node["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
}

/// A request to the other cluster, of the same person.
async fn of_other(world: &World, other: &Cluster, path: &str) -> Value {
    let mut request = world.request(Method::GET, path, "application/json", &Value::Null);
    *request.uri_mut() = format!("/clusters/{}{path}", other.id).parse().unwrap();
    serde_json::from_slice(&world.raw(request).await.2).unwrap()
}

#[tokio::test]
async fn every_cluster_sees_all_hosts_and_none_is_stored() {
    let (world, other) = world(&["a", "b", "c"]).await;
    let (_, list) = world.get(NODES).await;
    assert_eq!(names(&list), ["a", "b", "c"]);
    assert_eq!(names(&of_other(&world, &other, NODES).await), ["a", "b", "c"]);
    let (_, page) = world.get(&format!("{NODES}?limit=2")).await;
    let next = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&world.get(&format!("{NODES}?limit=2&continue={next}")).await.1), ["c"]);
    let (_, some) = world.get(&format!("{NODES}?labelSelector=kubernetes.io/hostname%3Db")).await;
    assert_eq!(names(&some), ["b"]);
    let (status, node) = world.get(&format!("{NODES}/a")).await;
    assert_eq!((status, condition(&node, "Ready")["status"].as_str()), (200, Some("True")));
    assert_eq!(node["status"]["capacity"]["cpu"], "4000m");
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "nova");
    assert_eq!(world.get(&format!("{NODES}/d")).await.0, 404);
    assert_eq!(stored(&world), []);
}

#[tokio::test]
async fn what_a_cluster_says_of_a_host_is_its_own() {
    let (world, other) = world(&["a", "b"]).await;
    let path = format!("{NODES}/a");
    let before = world.get(&path).await.1;
    let cordon = json!({"metadata": {"labels": {"disk": "fast", "kubernetes.io/hostname": "x"}}, "spec": {"unschedulable": true}});
    let (status, node) = world.patch(&path, MERGE, cordon).await;
    assert_eq!(
        (status, &node["spec"]["unschedulable"], &node["metadata"]["labels"]["disk"]),
        (200, &json!(true), &json!("fast"))
    );
    assert_eq!(world.get(&path).await.1["metadata"]["labels"]["kubernetes.io/hostname"], "a", "hosts say who they are");
    assert_eq!(world.get(&path).await.1["metadata"]["uid"], before["metadata"]["uid"]);
    let elsewhere = of_other(&world, &other, &path).await;
    assert_eq!(
        (&elsewhere["spec"]["unschedulable"], &elsewhere["metadata"]["labels"]["disk"]),
        (&Value::Null, &Value::Null)
    );
    let [row] = &stored(&world)[..] else { panic!("{:?}", stored(&world)) };
    assert_eq!((&row.body["status"], &row.body["metadata"]["labels"]), (&Value::Null, &json!({"disk": "fast"})));
    // Whoever saw it before writes over nothing.
    let (status, body) = world.put(&path, before).await;
    assert_eq!((status, &body["reason"]), (409, &json!("Conflict")));
    let mut now = world.get(&path).await.1;
    now["spec"]["unschedulable"] = json!(false);
    assert_eq!(world.put(&path, now).await.0, 200);
    assert_ne!(world.get(&path).await.1["spec"]["unschedulable"], json!(true));
    let applied = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b", "labels": {"tier": "one"}}});
    let (status, node) =
        world.patch(&format!("{NODES}/b?fieldManager=me"), "application/apply-patch+yaml", applied).await;
    assert_eq!((status, &node["metadata"]["labels"]["tier"]), (200, &json!("one")), "{node}");
}

#[tokio::test]
async fn a_status_keeps_what_others_than_the_host_write_there() {
    let (world, _) = world(&["a"]).await;
    let ours = json!({"type": "KernelDeadlock", "status": "False", "reason": "Fine", "message": "",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let ready = json!({"type": "Ready", "status": "False", "reason": "Lie", "message": ""});
    let status = json!({"status": {"conditions": [ready, ours], "capacity": {"example.com/dongle": "3", "cpu": "1"}}});
    assert_eq!(world.patch(&format!("{NODES}/a/status"), MERGE, status).await.0, 200);
    report(&world, "a", HostStatus { short: vec![Shortage::Disk], ..HostStatus::default() }).await;
    let node = world.get(&format!("{NODES}/a")).await.1;
    assert_eq!(condition(&node, "KernelDeadlock")["reason"], "Fine");
    assert_eq!(condition(&node, "Ready")["status"], "True");
    assert_eq!(condition(&node, "DiskPressure")["status"], "True");
    assert_eq!(node["spec"]["taints"][0]["key"], "node.kubernetes.io/disk-pressure");
    assert_eq!(
        (&node["status"]["capacity"]["example.com/dongle"], &node["status"]["capacity"]["cpu"]),
        (&json!("3"), &json!("4000m"))
    );
}

#[tokio::test]
async fn a_host_is_neither_made_nor_deleted_by_a_cluster() {
    let (world, _) = world(&["a"]).await;
    let (status, body) = world.delete(&format!("{NODES}/a"), Value::Null).await;
    assert!(status == 403 && body["message"].as_str().unwrap().contains("kubectl cordon"), "{status} {body}");
    assert_eq!(world.delete(NODES, Value::Null).await.0, 403);
    let node = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(world.post(NODES, node("a")).await.0, 409);
    // One that is no host is an object as any.
    assert_eq!(world.post(NODES, node("mine")).await.0, 201);
    assert_eq!(names(&world.get(NODES).await.1), ["a", "mine"]);
    assert_eq!(world.delete(&format!("{NODES}/mine"), Value::Null).await.0, 200);
    assert_eq!((world.get(&format!("{NODES}/mine")).await.0, world.get(&format!("{NODES}/a")).await.0), (404, 200));
}

#[tokio::test]
async fn a_host_that_is_reserved_for_others_is_not_seen() {
    let (world, _) = world(&["a", "b"]).await;
    let aggregate = |project: &str| model::Aggregate {
        id: "1".into(),
        uuid: "1".into(),
        name: "rack".into(),
        hosts: ["a".to_owned()].into(),
        metadata: [("filter_tenant_id".to_owned(), project.to_owned())].into(),
        created_at: Time::now(),
        updated_at: None,
    };
    let cordon = json!({"spec": {"unschedulable": true}});
    assert_eq!(world.patch(&format!("{NODES}/a"), MERGE, cordon).await.0, 200);
    world.store.commit(&Change::from(aggregate("somebody"))).await.unwrap();
    report(&world, "a", HostStatus::default()).await;
    assert_eq!(names(&world.get(NODES).await.1), ["b"]);
    for (method, body) in [(Method::GET, Value::Null), (Method::DELETE, Value::Null), (Method::PATCH, json!({}))] {
        assert_eq!(world.ask(method, &format!("{NODES}/a"), MERGE, body).await.0, 404);
    }
    let mut change = Change::new();
    let rows = world.store.snapshot();
    change.update(rows.get::<model::Aggregate>("1").unwrap(), aggregate(&world.cluster.project_id));
    world.store.commit(&change).await.unwrap();
    report(&world, "a", HostStatus::default()).await;
    assert_eq!(names(&world.get(NODES).await.1), ["a", "b"]);
}

#[tokio::test]
async fn a_watch_tells_what_changes_and_not_that_hosts_live() {
    let (world, _) = world(&["a", "b"]).await;
    let mut answer = watched(&world).await;
    report(&world, "a", HostStatus::default()).await;
    world.patch(&format!("{NODES}/b"), MERGE, json!({"spec": {"unschedulable": true}})).await;
    assert_eq!(next(&mut answer).await, "MODIFIED b cordoned True");
    for change in plan::silent(&world.store.snapshot(), &Default::default(), Time::UNIX_EPOCH, Time::now()) {
        world.store.commit(&change).await.unwrap();
    }
    assert_eq!(next(&mut answer).await, "MODIFIED a Unknown");
    assert_eq!(next(&mut answer).await, "MODIFIED b cordoned Unknown");
    report(&world, "a", HostStatus::default()).await;
    assert_eq!(next(&mut answer).await, "MODIFIED a True");
}

#[tokio::test]
async fn with_a_host_goes_what_clusters_said_of_it_and_no_more() {
    let (world, _) = world(&["a", "b"]).await;
    assert_eq!(world.post(NODES, json!({"metadata": {"name": "mine"}})).await.0, 201);
    let mine = Host {
        status: world.store.snapshot().get::<Host>("a").unwrap().status.clone(),
        ..Host::new("mine", Time::now())
    };
    world.store.commit(&Change::from(mine)).await.unwrap();
    let cordon = json!({"metadata": {"finalizers": ["example.com/hold"]}, "spec": {"unschedulable": true}});
    assert_eq!(world.patch(&format!("{NODES}/a"), MERGE, cordon).await.0, 200);
    let mut answer = watched(&world).await;
    for host in ["a", "b", "mine"] {
        let mut change = Change::new();
        change.delete(world.store.snapshot().get::<Host>(host).unwrap());
        world.store.commit(&change).await.unwrap();
    }
    assert_eq!(next(&mut answer).await, "DELETED a cordoned True");
    assert_eq!(next(&mut answer).await, "DELETED b True");
    assert_eq!(next(&mut answer).await, "MODIFIED mine none");
    assert_eq!(names(&world.get(NODES).await.1), ["mine"]);
    for (method, body) in [(Method::GET, Value::Null), (Method::DELETE, Value::Null), (Method::PATCH, json!({}))] {
        assert_eq!(world.ask(method, &format!("{NODES}/a"), MERGE, body).await.0, 404);
    }
    // Whoever collects says nothing that was not told.
    let change = collected(&world);
    world.store.commit(&change).await.unwrap();
    assert_eq!(stored(&world).iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["mine"]);
    assert_eq!(world.post(NODES, json!({"metadata": {"name": "a"}})).await.0, 201);
    assert_eq!(next(&mut answer).await, "ADDED a none");
}

#[tokio::test]
async fn a_node_takes_the_place_of_what_is_left_of_a_host() {
    let (world, _) = world(&["a"]).await;
    assert_eq!(world.patch(&format!("{NODES}/a"), MERGE, json!({"spec": {"unschedulable": true}})).await.0, 200);
    let mut change = Change::new();
    change.delete(world.store.snapshot().get::<Host>("a").unwrap());
    world.store.commit(&change).await.unwrap();
    let late = collected(&world);
    let mut answer = watched(&world).await;
    let (status, node) = world.post(NODES, json!({"metadata": {"name": "a"}})).await;
    assert_eq!((status, &node["spec"]["unschedulable"]), (201, &Value::Null));
    assert_eq!(next(&mut answer).await, "ADDED a none");
    assert!(world.store.commit(&late).await.is_err(), "it was planned for another");
    assert!(collected(&world).is_empty());
    assert_eq!(names(&world.get(NODES).await.1), ["a"]);
}

#[tokio::test]
async fn a_watch_that_is_behind_tells_each_event_as_it_was() {
    let (world, _) = world(&["a"]).await;
    let from = world.get(NODES).await.1["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let cordon = async |value: Value| world.patch(&format!("{NODES}/a"), MERGE, json!({"spec": value})).await.0;
    for change in plan::silent(&world.store.snapshot(), &Default::default(), Time::UNIX_EPOCH, Time::now()) {
        world.store.commit(&change).await.unwrap();
    }
    assert_eq!(cordon(json!({"unschedulable": true})).await, 200);
    report(&world, "a", HostStatus::default()).await;
    assert_eq!(cordon(json!({"unschedulable": null})).await, 200);
    let mut change = Change::new();
    change.delete(world.store.snapshot().get::<Host>("a").unwrap());
    world.store.commit(&change).await.unwrap();
    world.store.commit(&collected(&world)).await.unwrap();
    let mut all = behind(&world, &from, "").await;
    for told in ["MODIFIED a Unknown", "MODIFIED a cordoned Unknown", "MODIFIED a cordoned True", "MODIFIED a True"] {
        assert_eq!(next(&mut all).await, told);
    }
    assert_eq!(next(&mut all).await, "DELETED a True");
    let mut some = behind(&world, &from, "&fieldSelector=spec.unschedulable%3Dtrue").await;
    for told in ["ADDED a cordoned Unknown", "MODIFIED a cordoned True", "DELETED a cordoned True"] {
        assert_eq!(next(&mut some).await, told);
    }
    // Both are where things happen now.
    let node = json!({"metadata": {"name": "b"}, "spec": {"unschedulable": true}});
    assert_eq!(world.post(NODES, node).await.0, 201);
    assert_eq!(next(&mut all).await, "ADDED b cordoned none");
    assert_eq!(next(&mut some).await, "ADDED b cordoned none");
}

#[tokio::test]
async fn a_watch_that_is_not_behind_does_not_expire() {
    let (world, _) = world(&["a"]).await;
    let mut answer = watched(&world).await;
    assert_eq!(world.post(NODES, json!({"metadata": {"name": "b"}})).await.0, 201);
    assert_eq!(next(&mut answer).await, "ADDED b none");
    let path = "/api/v1/namespaces/default/configmaps";
    assert_eq!(world.post(path, json!({"metadata": {"name": "other"}})).await.0, 201);
    let later = async {
        world.store.compact(world.store.snapshot().revision()).await.unwrap();
        world.post(NODES, json!({"metadata": {"name": "c"}})).await.0
    };
    // It has looked for news before the rest is forgotten.
    assert_eq!(tokio::join!(biased; next(&mut answer), later), ("ADDED c none".to_owned(), 201));
}

/// What the collector of garbage does now.
fn collected(world: &World) -> Change {
    let garbage = plan::PLANNERS.iter().find(|planner| planner.name == "garbage").unwrap();
    let mut all = Change::new();
    for change in garbage.scan(&world.store.snapshot(), Time::now()) {
        all.writes.extend(change.writes);
        all.expects.extend(change.expects);
    }
    all
}

/// A watch of nodes from now on.
async fn watched(world: &World) -> axum::body::Body {
    let from = world.get(NODES).await.1["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    behind(world, &from, "").await
}

/// A watch of nodes from a revision on.
async fn behind(world: &World, from: &str, selector: &str) -> axum::body::Body {
    let path = format!("{NODES}?watch=1&resourceVersion={from}{selector}");
    let request = world.request(Method::GET, &path, "application/json", &Value::Null);
    world.router.clone().oneshot(request).await.unwrap().into_body()
}

/// The next event of a watch, in short; each is a piece of its own if nothing else happens before it is read.
async fn next(answer: &mut axum::body::Body) -> String {
    let frame = tokio::time::timeout(Duration::from_secs(60), answer.frame()).await.expect("an event within a minute");
    let line = frame.unwrap().unwrap().into_data().unwrap();
    let event: Value = serde_json::from_slice(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    let node = &event["object"];
    let cordon = if node["spec"]["unschedulable"] == true { " cordoned" } else { "" };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (kind, name) = (text(&event["type"]), text(&node["metadata"]["name"]));
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.map_or("none".to_owned(), |_| text(&condition(node, "Ready")["status"]));
    format!("{kind} {name}{cordon} {ready}")
}
