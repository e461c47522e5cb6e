//! Who is asked before something is written, what they see, and what becomes of it.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{World, pod};
use face_kube::{Hook, Hooks};
use http::Method;
use model::{Actor, Assignment, Change};
use serde_json::{Value, json};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

type Answer = Box<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// A webhook that remembers what it was asked. With a gate it answers only when that is opened.
struct Fake {
    answer: Answer,
    asked: Mutex<Vec<(Hook, Value)>>,
    gate: Option<tokio::sync::Semaphore>,
}

impl Hooks for Fake {
    fn call(&self, hook: Hook) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + '_>> {
        Box::pin(async move {
            let review: Value = serde_json::from_slice(&hook.body).unwrap();
            self.asked.lock().unwrap().push((hook, review["request"].clone()));
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            let mut response = (self.answer)(&review["request"])?;
            if response["uid"].is_null() {
                response["uid"] = review["request"]["uid"].clone();
            }
            let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
            Ok(answer.to_string().into())
        })
    }
}

impl Fake {
    fn new(answer: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { answer: Box::new(answer), asked: Mutex::default(), gate: None })
    }

    fn requests(&self) -> Vec<Value> {
        self.asked.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

async fn world(fake: &Arc<Fake>) -> World {
    let hooks = fake.clone();
    World::with(|kube| kube.with_hooks(hooks)).await
}

fn configuration(name: &str, change: Value) -> Value {
    let mut hook = json!({
        "name": format!("{name}.example.com"), "clientConfig": {"url": "https://hooks.example.com/check"},
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps"]}],
        "sideEffects": "None", "admissionReviewVersions": ["v1"]
    });
    for (field, value) in change.as_object().into_iter().flatten() {
        hook[field] = value.clone();
    }
    json!({"metadata": {"name": name}, "webhooks": [hook]})
}

async fn configure(world: &World, name: &str, change: Value) {
    let (code, body) = world.post(CONFIGURATIONS, configuration(name, change)).await;
    assert_eq!(code, 201, "{body}");
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"k": value}})
}

#[tokio::test]
async fn nothing_is_written_that_a_webhook_denies() {
    let fake = Fake::new(|request| {
        Ok(match request["object"]["data"]["k"].as_str() {
            Some("bad") => json!({"allowed": false, "status": {"code": 422, "message": "no bad values"}}),
            Some("odd") => json!({"allowed": true, "warnings": ["that is odd"]}),
            _ => json!({"allowed": request["name"] != "kept" || request["operation"] != "DELETE"}),
        })
    });
    let world = world(&fake).await;
    configure(&world, "maps", json!({})).await;
    let (code, body) = world.post(MAPS, map("a", "bad")).await;
    assert_eq!((code, &body["reason"]), (422, &json!("Invalid")), "{body}");
    assert_eq!(body["message"], "admission webhook \"maps.example.com\" denied the request: no bad values");
    assert_eq!(world.get(&format!("{MAPS}/a")).await.0, 404);
    assert_eq!(world.post(MAPS, map("a", "good")).await.0, 201);
    for (media_type, patch) in [
        ("application/merge-patch+json", json!({"data": {"k": "bad"}})),
        ("application/strategic-merge-patch+json", json!({"data": {"k": "bad"}})),
        ("application/json-patch+json", json!([{"op": "replace", "path": "/data/k", "value": "bad"}])),
    ] {
        assert_eq!(world.patch(&format!("{MAPS}/a"), media_type, patch).await.0, 422, "{media_type}");
    }
    let mut applied = map("b", "bad");
    (applied["apiVersion"], applied["kind"]) = ("v1".into(), "ConfigMap".into());
    let path = format!("{MAPS}/b?fieldManager=x");
    assert_eq!(world.patch(&path, "application/apply-patch+yaml", applied).await.0, 422);
    assert_eq!(world.put(&format!("{MAPS}/a"), map("a", "bad")).await.0, 422);
    assert_eq!(world.get(&format!("{MAPS}/a")).await.1["data"]["k"], "good");

    let (status, headers, _) = world.raw(world.request(Method::POST, MAPS, "application/json", &map("c", "odd"))).await;
    assert_eq!((status.as_u16(), headers["warning"].to_str().unwrap()), (201, "299 - \"that is odd\""));
    assert_eq!(world.post(MAPS, map("kept", "x")).await.0, 201);
    let (code, body) = world.delete(&format!("{MAPS}/kept"), Value::Null).await;
    assert!(code == 403 && body["message"].as_str().unwrap().ends_with("without explanation"), "{body}");
    assert_eq!(world.delete(MAPS, Value::Null).await.0, 403, "collections are deleted one by one");
    assert_eq!(world.get(&format!("{MAPS}/kept")).await.0, 200);
    // Whoever made a mistake can take it back.
    assert_eq!(world.delete(&format!("{CONFIGURATIONS}/maps"), Value::Null).await.0, 200);
    assert_eq!(world.delete(&format!("{MAPS}/kept"), Value::Null).await.0, 200);
}

#[tokio::test]
async fn they_see_what_will_be_and_what_was() {
    let fake = Fake::new(|_| Ok(json!({"allowed": true})));
    let world = world(&fake).await;
    configure(
        &world,
        "all",
        json!({"rules": [
            {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
        ]}),
    )
    .await;
    assert_eq!(fake.requests(), [] as [Value; 0], "configurations themselves are nobody's to refuse");
    let (code, _) = world.post("/api/v1/namespaces/default/pods?dryRun=All", pod("p")).await;
    assert_eq!(code, 201);
    let requests = fake.requests();
    let request = &requests[0];
    assert_eq!(request["object"]["spec"]["restartPolicy"], "Always", "with defaults: {request}");
    assert_eq!(request["object"]["metadata"]["namespace"], "default");
    assert_eq!((&request["dryRun"], &request["operation"]), (&json!(true), &json!("CREATE")));
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "pods"}));
    assert_eq!(request["userInfo"]["username"], "openstack:default/demo", "{request}");

    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": {
        "metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(world.post(path, deployment).await.0, 201);
    fake.forget();
    let merge = "application/merge-patch+json";
    let scale = format!("{path}/d/scale");
    assert_eq!(world.patch(&scale, merge, json!({"spec": {"replicas": 4}})).await.0, 200);
    let status = format!("{path}/d/status");
    assert_eq!(world.patch(&status, merge, json!({"status": {"replicas": 1}})).await.0, 200);
    assert_eq!(world.delete(&format!("{path}/d"), Value::Null).await.0, 200);
    let requests = fake.requests();
    let seen: Vec<(&str, &str)> =
        requests.iter().map(|r| (r["operation"].as_str().unwrap(), r["subResource"].as_str().unwrap_or(""))).collect();
    assert_eq!(seen, [("UPDATE", "scale"), ("UPDATE", "status"), ("DELETE", "")]);
    assert_eq!(
        (&requests[0]["kind"]["kind"], &requests[0]["object"]["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    assert_eq!(requests[0]["oldObject"]["spec"]["replicas"], 1);
    assert_eq!(
        (&requests[2]["object"], requests[2]["oldObject"]["spec"]["replicas"].as_i64()),
        (&Value::Null, Some(4))
    );
}

#[tokio::test]
async fn only_those_are_asked_whom_it_concerns() {
    let fake = Fake::new(|_| Ok(json!({"allowed": true})));
    let world = world(&fake).await;
    let rule = |operations: Value, resources: Value, scope: &str| json!({"rules": [{"operations": operations, "apiGroups": [""], "apiVersions": ["v1"], "resources": resources, "scope": scope}]});
    configure(&world, "updates", rule(json!(["UPDATE"]), json!(["configmaps"]), "*")).await;
    configure(&world, "whole", rule(json!(["*"]), json!(["*"]), "Cluster")).await;
    configure(&world, "labelled", json!({"objectSelector": {"matchLabels": {"app": "seen"}}})).await;
    configure(
        &world,
        "placed",
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}),
    )
    .await;
    configure(
        &world,
        "events",
        json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["events.k8s.io"],
        "apiVersions": ["v1"], "resources": ["events"]}]}),
    )
    .await;
    let who = || {
        let asked = fake.asked.lock().unwrap().len();
        fake.forget();
        asked
    };
    assert_eq!(world.post(MAPS, map("a", "x")).await.0, 201);
    assert_eq!(who(), 0);
    assert_eq!(
        world.patch(&format!("{MAPS}/a"), "application/merge-patch+json", json!({"data": {"k": "y"}})).await.0,
        200
    );
    assert_eq!(who(), 1, "an update");
    assert_eq!(world.patch(&format!("{MAPS}/a"), "application/merge-patch+json", json!({})).await.0, 200);
    assert_eq!(who(), 0, "nothing is written");
    assert_eq!(world.post(MAPS, map("seen", "x")).await.0, 201);
    assert_eq!(who(), 1, "a label");
    assert_eq!(world.post("/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await.0, 201);
    assert_eq!(who(), 1, "what is in no namespace");
    assert_eq!(world.post("/api/v1/namespaces/other/configmaps", map("a", "x")).await.0, 201);
    assert_eq!(who(), 1, "a namespace's label");
    let event =
        json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"}});
    assert_eq!(world.post("/api/v1/namespaces/default/events", event).await.0, 201);
    let requests = fake.requests();
    assert_eq!(requests.len(), 1, "the same objects in another group");
    assert_eq!(
        (&requests[0]["resource"]["group"], &requests[0]["requestResource"]["group"]),
        (&json!("events.k8s.io"), &json!(""))
    );
    assert_eq!(requests[0]["object"]["regarding"]["name"], "p", "as the rule knows them");
}

#[tokio::test]
async fn failures_are_what_the_policy_says() {
    let fake = Fake::new(|request| match request["object"]["data"]["k"].as_str() {
        Some("down") => Err("it does not answer".to_owned()),
        Some("other") => Ok(json!({"uid": "another", "allowed": true})),
        _ => Ok(json!({"allowed": "perhaps"})),
    });
    let world = world(&fake).await;
    configure(&world, "maps", json!({})).await;
    for (value, words) in [("down", "it does not answer"), ("other", "another request"), ("x", "does not say")] {
        let (code, body) = world.post(MAPS, map("a", value)).await;
        assert!(code == 500 && body["message"].as_str().unwrap().contains(words), "{body}");
        assert!(body["message"].as_str().unwrap().starts_with("failed calling webhook \"maps.example.com\""), "{body}");
    }
    let (_, mut lenient) = world.get(&format!("{CONFIGURATIONS}/maps")).await;
    lenient["webhooks"][0]["failurePolicy"] = "Ignore".into();
    assert_eq!(world.put(&format!("{CONFIGURATIONS}/maps"), lenient).await.0, 200);
    assert_eq!(world.post(MAPS, map("a", "down")).await.0, 201);
    // Without anybody to call webhooks, they fail.
    let world = World::new().await;
    configure(&world, "maps", json!({})).await;
    assert_eq!(world.post(MAPS, map("a", "x")).await.0, 500);
}

/// While somebody is asked the row moves, a right is lost, or time runs out.
#[tokio::test]
async fn what_changes_meanwhile_is_seen() {
    let hold = |answer: fn(&Value) -> Result<Value, String>| {
        Arc::new(Fake { answer: Box::new(answer), asked: Mutex::default(), gate: Some(tokio::sync::Semaphore::new(0)) })
    };
    let fake = hold(|request| Ok(json!({"allowed": request["object"]["data"]["b"] != "taken"})));
    let world = Arc::new(world(&fake).await);
    assert_eq!(world.post(MAPS, map("a", "x")).await.0, 201);
    configure(
        &world,
        "maps",
        json!({"rules": [
        {"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}),
    )
    .await;
    let asked = |count: usize| {
        let fake = fake.clone();
        async move {
            let come = async {
                while fake.asked.lock().unwrap().len() < count {
                    tokio::task::yield_now().await;
                }
            };
            let patience = std::time::Duration::from_secs(60);
            tokio::time::timeout(patience, come).await.unwrap_or_else(|_| panic!("asked: {:?}", fake.requests()));
        }
    };
    let patch = |body: Value| {
        let world = world.clone();
        let path = format!("{MAPS}/a");
        tokio::spawn(async move { world.patch(&path, "application/merge-patch+json", body).await })
    };
    // The row moves under the first while it waits: it is drafted and shown again, with what the second wrote.
    let first = patch(json!({"data": {"a": "1"}}));
    asked(1).await;
    let second = patch(json!({"data": {"b": "2"}}));
    asked(2).await;
    let gate = fake.gate.as_ref().unwrap();
    gate.add_permits(2);
    asked(3).await;
    gate.add_permits(1);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.0, second.0), (200, 200), "{first:?} {second:?}");
    let requests = fake.requests();
    assert_eq!(requests[2]["object"]["data"], json!({"k": "x", "a": "1", "b": "2"}), "what is committed was shown");
    // Who loses the right while a webhook is asked has lost it.
    fake.forget();
    let third = patch(json!({"data": {"c": "3"}}));
    asked(1).await;
    let user = world.gate.inspect(&world.token).await.unwrap().user_id;
    let mut change = Change::new();
    for given in world.store.snapshot().all::<Assignment>().filter(|a| a.actor == Actor::User(user.clone())) {
        change.delete(given);
    }
    world.store.commit(&change).await.unwrap();
    gate.add_permits(1);
    assert_eq!(third.await.unwrap().0, 401);
    // Time runs out.
    let world = self::world(&fake).await;
    assert_eq!(world.post(MAPS, map("a", "x")).await.0, 201);
    configure(&world, "maps", json!({"timeoutSeconds": 1})).await;
    let (code, body) = world.post(MAPS, map("b", "x")).await;
    assert!(code == 500 && body["message"].as_str().unwrap().contains("within 1 s"), "{body}");
}

#[tokio::test]
async fn configurations_that_would_not_be_kept_to_are_refused_in_words() {
    let world = World::new().await;
    for (change, words) in [
        (
            json!({"clientConfig": {"service": {"namespace": "a", "name": "b"}}}),
            "services of the cluster are not called",
        ),
        (json!({"clientConfig": {"url": "http://a.example.com/"}}), "'https' is the only allowed URL scheme"),
        (json!({"clientConfig": {"url": "https://u@a.example.com/"}}), "not permitted in the URL"),
        (json!({"clientConfig": {"url": "https://a/", "caBundle": "eA=="}}), "unable to load root certificates"),
        (json!({"clientConfig": {}}), "exactly one of url or service"),
        (json!({"sideEffects": "Some"}), "Unsupported value: \"Some\""),
        (json!({"admissionReviewVersions": ["v1beta1"]}), "must include v1"),
        (json!({"timeoutSeconds": 31}), "between 1 and 30 seconds"),
        (json!({"matchConditions": [{"name": "a", "expression": "true"}]}), "CEL"),
        (
            json!({"rules": [{"operations": ["LOOK"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}),
            "Unsupported value: \"LOOK\"",
        ),
        (
            json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}),
            "operations: Required value",
        ),
        (json!({"name": "short"}), "at least three segments"),
        (
            json!({"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": vec!["pods"; 129]}]}),
            "resources: Too many: 129: must have at most 128 items",
        ),
    ] {
        let (code, body) = world.post(CONFIGURATIONS, configuration("a", change.clone())).await;
        assert!(code == 422 && body["message"].as_str().unwrap().contains(words), "{change}: {words}: {body}");
    }
    for n in 0..=50 {
        let (code, body) = world.post(CONFIGURATIONS, configuration(&format!("n{n}"), json!({}))).await;
        assert_eq!(code, if n < 50 { 201 } else { 403 }, "{n}: {body}");
    }
}
