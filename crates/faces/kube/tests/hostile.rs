//! What one client may hold, and that it does not hold up others.

mod common;

use axum::body::{Body, Bytes};
use common::World;
use http::Method;
use http_body_util::BodyExt;
use model::{Actor, Assignment, Change, KubeObject, Quota};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE: &str = "application/merge-patch+json";

async fn open(world: &World, path: &str) -> http::Response<Body> {
    world.router.clone().oneshot(world.request(Method::GET, path, "application/json", &Value::Null)).await.unwrap()
}

async fn frame(body: &mut Body) -> usize {
    body.frame().await.unwrap().unwrap().data_ref().unwrap().len()
}

#[tokio::test]
async fn a_watch_makes_no_more_than_is_read() {
    const OBJECT: usize = 200 << 10;
    let world = World::new().await;
    let map = |name: String| json!({"metadata": {"name": name}, "data": {"a": "x".repeat(OBJECT)}});
    let mut watch = open(&world, &format!("{MAPS}?watch=true&resourceVersion=0")).await.into_body();
    for i in 0..20 {
        assert_eq!(world.post(MAPS, map(format!("m{i}"))).await.0, 201);
    }
    let mut late = open(&world, &format!("{MAPS}?watch=true")).await.into_body();
    for (what, body) in [("what happened", &mut watch), ("what was there", &mut late)] {
        let mut sum = 0;
        while sum < 20 * OBJECT {
            let piece = frame(body).await;
            assert!(piece < 3 * OBJECT, "{what}: a piece of {piece} bytes");
            sum += piece;
        }
    }
}

#[tokio::test]
async fn watches_are_shared_by_clusters() {
    let world = World::new().await;
    let mut open_ones = Vec::new();
    let refused = loop {
        let response = open(&world, &format!("{MAPS}?watch=true&timeoutSeconds=600")).await;
        if response.status() != 200 {
            break response.status();
        }
        open_ones.push(response);
        assert!(open_ones.len() <= 2000, "more than a share");
    };
    assert_eq!(refused, 429);
    open_ones.truncate(1999);
    assert_eq!(open(&world, &format!("{MAPS}?watch=true")).await.status(), 200, "given back");
}

#[tokio::test]
async fn who_loses_a_role_while_a_body_comes_has_lost_it() {
    let world = World::new().await;
    let (sender, parts) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let mut request = world.request(Method::POST, MAPS, "application/json", &Value::Null);
    *request.body_mut() = Body::from_stream(ReceiverStream::new(parts));
    let answer = tokio::spawn(world.router.clone().oneshot(request));
    // With room for one part at a time, the second is taken when the first was read.
    for part in ["{\"metadata\": ", "{\"name\""] {
        sender.send(Ok(Bytes::from(part))).await.unwrap();
    }
    let user = world.gate.inspect(&world.token).await.unwrap().user_id;
    let mut change = Change::new();
    for given in world.store.snapshot().all::<Assignment>().filter(|a| a.actor == Actor::User(user.clone())) {
        change.delete(given);
    }
    world.store.commit(&change).await.unwrap();
    sender.send(Ok(Bytes::from(": \"late\"}}"))).await.unwrap();
    drop(sender);
    assert_eq!(answer.await.unwrap().unwrap().status(), 401);
    assert!(world.store.snapshot().all::<KubeObject>().all(|object| object.name != "late"));
}

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";

/// The token of a service account that may write roles in its namespace, without being let to escalate.
async fn author(world: &World) -> String {
    let account = "/api/v1/namespaces/default/serviceaccounts/author";
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "author"}})).await;
    let writes = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create"]});
    let reads = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    let role = json!({"metadata": {"name": "author"}, "rules": [writes, reads]});
    assert_eq!(world.post(ROLES, role).await.0, 201);
    let subject = json!({"kind": "ServiceAccount", "name": "author", "namespace": "default"});
    let given = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "author"});
    let binding = json!({"metadata": {"name": "author"}, "roleRef": given, "subjects": [subject]});
    assert_eq!(world.post(&ROLES.replace("roles", "rolebindings"), binding).await.0, 201);
    let (status, token) = world.post(&format!("{account}/token"), json!({"spec": {}})).await;
    assert_eq!(status, 201, "{token}");
    token["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_an_author_gives_is_compared_within_bounds() {
    let mut world = World::new().await;
    world.token = author(&world).await;
    let many = |text: &str| -> Vec<String> { (0..300).map(|i| format!("{text}{i}")).collect() };
    let product =
        json!({"verbs": many("get"), "apiGroups": many("g"), "resources": many("r"), "resourceNames": many("n")});
    let names = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": many("n")});
    let again = json!({"verbs": vec!["get"; 300], "apiGroups": vec![""; 300], "resources": vec!["pods"; 300]});
    for (name, rules, status, words) in [
        ("held", json!([again, names]), 201, ""),
        ("none", Value::Null, 201, ""),
        ("more", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]), 403, "not currently held"),
        ("product", json!([product]), 403, ""),
        ("entries", json!([{"verbs": ["get"], "apiGroups": [""], "resources": vec!["pods"; 10_001]}]), 422, "Too many"),
    ] {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        let (found, body) = world.post(ROLES, role).await;
        assert!(found == status && body.to_string().contains(words), "{name}: {found} {body}");
    }
}

/// The same role is gone through once, however often it is bound, and what is gone through has an end.
#[tokio::test]
async fn what_somebody_may_is_told_within_bounds() {
    let mut world = World::new().await;
    let token = author(&world).await;
    let subject = json!({"kind": "ServiceAccount", "name": "author", "namespace": "default"});
    let names: Vec<String> = (0..9_000).map(|i| format!("n{i}")).collect();
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": names});
    let role = json!({"metadata": {"name": "large"}, "rules": [rule]});
    assert_eq!(world.post(ROLES, role).await.0, 201);
    let binding = |name: String, role: &str| {
        let given = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role});
        json!({"metadata": {"name": name}, "roleRef": given, "subjects": [subject]})
    };
    let bindings = ROLES.replace("roles", "rolebindings");
    for i in 0..20 {
        assert_eq!(world.post(&bindings, binding(format!("b{i}"), "large")).await.0, 201);
    }
    let master = std::mem::replace(&mut world.token, token.clone());
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let asked = json!({"spec": {"namespace": "default"}});
    let (_, told) = world.post(reviews, asked.clone()).await;
    assert_eq!(told["status"]["resourceRules"].as_array().unwrap().len(), 3, "each rule once");
    assert_eq!(told["status"]["incomplete"], false);
    assert_eq!(world.get("/api/v1/namespaces/default/configmaps/n8999").await.0, 404, "it may look");

    world.token = master;
    for i in 0..12 {
        let mut copy = json!({"metadata": {"name": format!("large{i}")}, "rules": [rule]});
        copy["rules"][0]["resources"] = json!([format!("r{i}")]);
        assert_eq!(world.post(ROLES, copy).await.0, 201);
        assert_eq!(world.post(&bindings, binding(format!("c{i}"), &format!("large{i}"))).await.0, 201);
    }
    world.token = token;
    let (_, told) = world.post(reviews, asked).await;
    assert_eq!(told["status"]["incomplete"], true, "100,000 entries are looked at");
    assert!(told.to_string().len() < 4 << 20, "{} bytes", told.to_string().len());
    let (status, refused) = world.get("/api/v1/namespaces/default/secrets/s").await;
    assert!(status == 403 && refused["message"].as_str().unwrap().contains("entries that are looked at"), "{refused}");
}

/// What an object weighs counts with its owners, and what was let in can be let go of.
#[tokio::test]
async fn an_object_that_is_made_can_be_changed() {
    let world = World::new().await;
    let data = |n: usize| (0..n).map(|i| (format!("k{i}"), json!(""))).collect::<serde_json::Map<_, _>>();
    let map = |n: usize| json!({"metadata": {"name": "m", "finalizers": ["a.example.com/b"]}, "data": data(n)});
    assert_eq!(world.post(MAPS, map(90_000)).await.0, 413);
    assert_eq!(world.post(MAPS, map(50_000)).await.0, 201);
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(world.delete(&format!("{MAPS}/m"), Value::Null).await.0, 200);
    assert_eq!(world.patch(&format!("{MAPS}/m"), MERGE, free).await.0, 200);
    assert_eq!(world.get(&format!("{MAPS}/m")).await.0, 404);
}

#[tokio::test]
async fn what_is_kept_has_a_quota() {
    let world = World::new().await;
    let limit = async |limits: &[(&str, u64)]| {
        let snapshot = world.store.snapshot();
        let quota = snapshot.all::<Quota>().find(|q| q.project_id == world.cluster.project_id).unwrap();
        let mut change = Change::new();
        change.edit(quota, |q| q.limits.extend(limits.iter().map(|(name, limit)| ((*name).to_owned(), Some(*limit)))));
        world.store.commit(&change).await.unwrap();
    };
    let map = |name: &str, bytes: usize| json!({"metadata": {"name": name}, "data": {"a": "x".repeat(bytes)}});
    assert_eq!(world.post(MAPS, map("a", 600 << 10)).await.0, 201);
    limit(&[("kube_megabytes", 1)]).await;
    let (status, refused) = world.post(MAPS, map("b", 900 << 10)).await;
    let message = refused["message"].as_str().unwrap();
    assert!(status == 403 && message.contains("exceeded quota: kube_megabytes, requested: 0.8"), "{message}");
    let used = world.store.pool(&model::quota::pool(&world.cluster.project_id, "kube_objects")).used;
    limit(&[("kube_objects", used)]).await;
    let (status, refused) = world.post(MAPS, map("b", 1)).await;
    let message = refused["message"].as_str().unwrap();
    assert!(status == 403 && message.contains("exceeded quota: kube_objects, requested: 1"), "{message}");
    // What happened in a full project can still be told, at some length.
    let event = |name: &str, bytes: usize| {
        let about = json!({"kind": "ConfigMap", "namespace": "default", "name": "a"});
        json!({"metadata": {"name": name, "namespace": "default"}, "involvedObject": about, "message": "x".repeat(bytes)})
    };
    const EVENTS: &str = "/api/v1/namespaces/default/events";
    for (name, bytes, expected) in [("short", 1000, 201), ("long", 900 << 10, 403)] {
        let (status, body) = world.post(EVENTS, event(name, bytes)).await;
        assert_eq!(status, expected, "{body}");
    }
    // It can be emptied: by finalizers too.
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    assert_eq!(world.patch(&format!("{MAPS}/a"), MERGE, held).await.0, 200);
    limit(&[("kube_megabytes", 0), ("kube_objects", 0)]).await;
    assert_eq!(world.delete(&format!("{MAPS}/a"), Value::Null).await.0, 200);
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(world.patch(&format!("{MAPS}/a"), MERGE, free).await.0, 200);
    assert_eq!(world.get(&format!("{MAPS}/a")).await.0, 404);
}
