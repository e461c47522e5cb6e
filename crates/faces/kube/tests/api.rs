//! The API over HTTP, in process: what clients rely on beyond what kubectl shows.

mod common;

use std::time::Duration;

use axum::body::Body;
use common::{World, login, pod};
use http::{Method, Request};
use http_body_util::BodyExt;
use model::{Change, Quota, Time};
use serde_json::{Value, json};
use tower::ServiceExt;

const PODS: &str = "/api/v1/namespaces/default/pods";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[tokio::test]
async fn nothing_is_shown_without_a_credential_or_with_another_projects() {
    let world = World::new().await;
    for (method, path) in face_kube::endpoints() {
        for (token, expected) in
            [(None, 401), (Some("Bearer nonsense".to_owned()), 401), (Some(format!("Bearer {}", world.stranger)), 404)]
        {
            let mut request = Request::builder().method(method.clone()).uri(world.path(&path));
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let (status, _, bytes) = world.raw(request.body(Body::from("{}")).unwrap()).await;
            assert_eq!(status.as_u16(), expected, "{method} {path}");
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(body["kind"], "Status", "{method} {path}");
        }
        // With a credential every route leads somewhere.
        let (status, _, _) = tokio::time::timeout(Duration::from_secs(60), async {
            let request = world.request(method.clone(), &path, "application/json", &json!({}));
            let response = world.router.clone().oneshot(request).await.unwrap();
            (response.status(), (), ())
        })
        .await
        .unwrap();
        assert!(status.as_u16() != 401 && status.as_u16() != 403 && status.as_u16() < 500, "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn objects_are_created_read_changed_and_deleted() {
    let world = World::new().await;
    let (status, created) = world.post(PODS, pod("a")).await;
    assert_eq!(status, 201, "{created}");
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "test");
    assert_eq!(world.post(PODS, pod("a")).await.1["reason"], "AlreadyExists");
    let path = format!("{PODS}/a");
    let (_, read) = world.get(&path).await;
    assert_eq!(read, created);
    let (status, labelled) = world.patch(&path, MERGE, json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!((status, &labelled["metadata"]["labels"]["x"]), (200, &json!("y")));
    assert_eq!(world.put(&path, created.clone()).await.1["reason"], "Conflict");
    // The same again is no new revision.
    let (_, again) = world.patch(&path, MERGE, json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(again["metadata"]["resourceVersion"], labelled["metadata"]["resourceVersion"]);
    let (status, invalid) = world.patch(&path, MERGE, json!({"spec": {"restartPolicy": "Never"}})).await;
    assert_eq!((status, invalid["details"]["causes"][0]["field"].as_str()), (422, Some("spec")));
    let (status, bad) = world.patch(&path, MERGE, json!({"spec": {"terminationGracePeriodSeconds": "x"}})).await;
    assert_eq!(status, 400);
    assert!(bad["message"].as_str().unwrap().contains("spec.terminationGracePeriodSeconds of type int64"), "{bad}");
    let stale = json!({"preconditions": {"uid": "other"}});
    assert_eq!(world.delete(&path, stale).await.0, 409);
    assert_eq!(world.delete(&path, Value::Null).await.0, 200);
    assert_eq!(world.get(&path).await.0, 404);
}

#[tokio::test]
async fn invalid_objects_are_refused_field_by_field() {
    let world = World::new().await;
    let mut bad = pod("Bad_Name");
    bad["spec"]["containers"] = json!([
        {"name": "a", "image": "", "ports": [{"containerPort": 70000}], "volumeMounts": [{"name": "none", "mountPath": "/x"}]},
        {"name": "a", "image": "x"}
    ]);
    let (status, body) = world.post(PODS, bad).await;
    assert_eq!(status, 422);
    let fields: Vec<&str> =
        body["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].as_str().unwrap()).collect();
    for field in [
        "metadata.name",
        "spec.containers[0].image",
        "spec.containers[0].ports[0].containerPort",
        "spec.containers[0].volumeMounts[0].name",
        "spec.containers[1].name",
    ] {
        assert!(fields.contains(&field), "{field}: {fields:?}");
    }
    let mut unknown = pod("b");
    unknown["spec"]["nonsense"] = 1.into();
    let (status, strict) = world.post(&format!("{PODS}?fieldValidation=Strict"), unknown.clone()).await;
    assert_eq!(status, 400);
    assert!(strict["message"].as_str().unwrap().contains("unknown field \"spec.nonsense\""));
    let request = world.request(Method::POST, PODS, "application/json", &unknown);
    let (status, headers, _) = world.raw(request).await;
    assert_eq!(status, 201);
    assert_eq!(headers["warning"], "299 - \"unknown field \\\"spec.nonsense\\\"\"");
    assert_eq!(world.post("/api/v1/namespaces/none/pods", pod("c")).await.0, 404);
    let request = world.request(Method::POST, PODS, "application/yaml", &pod("d"));
    assert_eq!(world.raw(request).await.0, 415);
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let world = World::new().await;
    let before = world.store.snapshot().revision();
    assert_eq!(world.post(&format!("{PODS}?dryRun=All"), pod("a")).await.0, 201);
    assert_eq!(world.store.snapshot().revision(), before);
    assert_eq!(world.get(&format!("{PODS}/a")).await.0, 404);
    let (_, generated) = world
        .post(PODS, json!({"metadata": {"generateName": "g-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .await;
    assert!(generated["metadata"]["name"].as_str().unwrap().starts_with("g-"));
}

#[tokio::test]
async fn quota_is_shared_and_exact() {
    let world = World::new().await;
    let snapshot = world.store.snapshot();
    let quota = snapshot.all::<Quota>().find(|q| q.project_id == world.cluster.project_id).unwrap();
    let mut change = Change::new();
    change.edit(quota, |q| {
        q.limits.insert("cores".into(), Some(1));
    });
    world.store.commit(&change).await.unwrap();
    let asking = |name: &str, cpu: &str| {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
        pod
    };
    assert_eq!(world.post(PODS, asking("a", "900m")).await.0, 201);
    let (status, refused) = world.post(PODS, asking("b", "200m")).await;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("Forbidden")));
    assert_eq!(
        refused["message"],
        "pods \"b\" is forbidden: exceeded quota: cores, requested: 0.2, used: 0.9, limited: 1"
    );
    assert_eq!(world.get(&format!("{PODS}/b")).await.0, 404);
    assert_eq!(world.delete(&format!("{PODS}/a"), Value::Null).await.0, 200);
    assert_eq!(world.post(PODS, asking("b", "200m")).await.0, 201);
}

#[tokio::test]
async fn lists_are_paged_selected_and_consistent() {
    let world = World::new().await;
    for i in 0..5 {
        assert_eq!(world.post(PODS, pod(&format!("p{i}"))).await.0, 201);
    }
    let (_, page) = world.get(&format!("{PODS}?limit=2")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["metadata"]["remainingItemCount"], 3);
    world.delete(&format!("{PODS}/p3"), Value::Null).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = world.get(&format!("{PODS}?limit=10&continue={token}")).await;
    let names: Vec<&str> =
        rest["items"].as_array().unwrap().iter().map(|p| p["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["p2", "p3", "p4"], "the deleted one is still on this list");
    assert_eq!(rest["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
    let (_, selected) = world.get("/api/v1/pods?labelSelector=app+in+(p1,p2)&fieldSelector=metadata.name!=p1").await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/api/v1/pods?fieldSelector=spec.nonsense=1").await.0, 400);
    assert_eq!(world.get("/api/v1/pods?resourceVersionMatch=Exact&resourceVersion=1").await.1["reason"], "Expired");
    let (status, swept) = world.delete(&format!("{PODS}?labelSelector=app!=p0"), Value::Null).await;
    assert_eq!((status, swept["items"].as_array().unwrap().len()), (200, 3));
}

/// Reads a watch line by line.
struct Lines {
    body: Body,
    rest: String,
}

impl Lines {
    async fn of(world: &World, path: &str) -> Self {
        let request = world.request(Method::GET, path, "application/json", &Value::Null);
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), rest: String::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let value = serde_json::from_str(line).unwrap();
                self.rest = rest.to_owned();
                return Some(value);
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.unwrap()?;
            self.rest.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    async fn event(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("").to_owned();
        (event["type"].as_str().unwrap().to_owned(), name)
    }
}

#[tokio::test]
async fn watches_tell_everything_once() {
    let world = World::new().await;
    world.post(PODS, pod("a")).await;
    let mut watch = Lines::of(&world, &format!("{PODS}?watch=true&labelSelector=app=a")).await;
    assert_eq!(watch.event().await, ("ADDED".into(), "a".into()));
    world.post(PODS, pod("b")).await;
    world.patch(&format!("{PODS}/a"), MERGE, json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(watch.event().await, ("MODIFIED".into(), "a".into()));
    // Leaving the selection is being deleted, as far as this watch goes.
    world.patch(&format!("{PODS}/a"), MERGE, json!({"metadata": {"labels": {"app": "z"}}})).await;
    assert_eq!(watch.event().await, ("DELETED".into(), "a".into()));
    let (_, list) = world.get(PODS).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    world.delete(&format!("{PODS}/b"), Value::Null).await;
    let mut resumed = Lines::of(
        &world,
        &format!("{PODS}?watch=1&resourceVersion={revision}&timeoutSeconds=1&allowWatchBookmarks=true"),
    )
    .await;
    let deleted = resumed.next().await.unwrap();
    assert_eq!(
        (deleted["type"].as_str(), deleted["object"]["metadata"]["name"].as_str()),
        (Some("DELETED"), Some("b"))
    );
    assert!(
        deleted["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
            > revision.parse().unwrap()
    );
    assert_eq!(resumed.next().await.unwrap()["type"], "BOOKMARK");
    assert!(resumed.next().await.is_none(), "the watch ends when it said");
}

#[tokio::test]
async fn a_watch_can_begin_with_the_list() {
    let world = World::new().await;
    world.post(PODS, pod("a")).await;
    let path =
        format!("{PODS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan");
    let mut watch = Lines::of(&world, &path).await;
    assert_eq!(watch.event().await, ("ADDED".into(), "a".into()));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    world.post(PODS, pod("b")).await;
    assert_eq!(watch.event().await, ("ADDED".into(), "b".into()));
    world.store.compact(world.store.snapshot().revision()).await.unwrap();
    let mut old = Lines::of(&world, &format!("{PODS}?watch=true&resourceVersion=1")).await;
    let error = old.next().await.unwrap();
    assert_eq!((error["type"].as_str(), error["object"]["code"].as_u64()), (Some("ERROR"), Some(410)));
}

#[tokio::test]
async fn deletion_respects_grace_and_finalizers() {
    let world = World::new().await;
    let mut bound = pod("a");
    let room = model::Host::new("host", model::Time::now());
    let room = model::Host { cpu_milli: 9000, memory_mib: 9000, disk_gib: 90, ..room };
    world.store.commit(&room.into()).await.unwrap();
    bound["spec"]["nodeName"] = "host".into();
    world.post(PODS, bound).await;
    let path = format!("{PODS}/a");
    let (_, marked) = world.delete(&path, json!({"gracePeriodSeconds": 20})).await;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 20);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(world.get(&path).await.0, 200);
    assert_eq!(world.delete(&path, json!({"gracePeriodSeconds": 0})).await.0, 200);
    assert_eq!(world.get(&path).await.0, 404);

    let maps = "/api/v1/namespaces/default/configmaps";
    world.post(maps, json!({"metadata": {"name": "m", "finalizers": ["a.b/c"]}})).await;
    let path = format!("{maps}/m");
    world.delete(&path, json!({"propagationPolicy": "Foreground"})).await;
    let (_, held) = world.get(&path).await;
    assert_eq!(held["metadata"]["finalizers"], json!(["a.b/c", "foregroundDeletion"]));
    let (status, _) = world.patch(&path, MERGE, json!({"metadata": {"finalizers": ["x.y/z"]}})).await;
    assert_eq!(status, 422);
    world.patch(&path, MERGE, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(world.get(&path).await.0, 404);

    world.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    world.delete("/api/v1/namespaces/n", Value::Null).await;
    let (_, namespace) = world.get("/api/v1/namespaces/n").await;
    assert_eq!(namespace["status"]["phase"], "Terminating");
    let (status, refused) = world.post("/api/v1/namespaces/n/configmaps", json!({"metadata": {"name": "m"}})).await;
    assert_eq!((status, refused["details"]["causes"][0]["reason"].as_str()), (403, Some("NamespaceTerminating")));
    let accounts = "/api/v1/namespaces/n/serviceaccounts/default";
    assert_eq!(world.delete(accounts, Value::Null).await.0, 200);
    let mut finalized = namespace;
    finalized["spec"] = json!({});
    assert_eq!(world.put("/api/v1/namespaces/n/finalize", finalized).await.0, 200);
    assert_eq!(world.get("/api/v1/namespaces/n").await.0, 404);
}

#[tokio::test]
async fn status_and_specification_are_apart() {
    let world = World::new().await;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let set = json!({"metadata": {"name": "r"}, "status": {"replicas": 9}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    }});
    let (status, created) = world.post(sets, set).await;
    assert_eq!((status, &created["status"]), (201, &json!({"replicas": 0})), "{created}");
    assert_eq!(created["metadata"]["generation"], 1);
    let path = format!("{sets}/r");
    let change = json!({"spec": {"replicas": 4}, "status": {"replicas": 4}});
    let (_, status) = world.patch(&format!("{path}/status"), MERGE, change.clone()).await;
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"], &status["metadata"]["generation"]),
        (&json!(1), &json!(4), &json!(1))
    );
    let (_, spec) = world.patch(&path, MERGE, json!({"spec": {"replicas": 3}, "status": {"replicas": 7}})).await;
    assert_eq!(
        (&spec["spec"]["replicas"], &spec["status"]["replicas"], &spec["metadata"]["generation"]),
        (&json!(3), &json!(4), &json!(2))
    );
    let (_, scale) = world.get(&format!("{path}/scale")).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(3), &json!("a=b")));
    let (code, _) = world.patch(&format!("{path}/scale"), MERGE, json!({"spec": {"replicas": -1}})).await;
    assert_eq!(code, 422);
    let (code, refused) = world.patch(&path, MERGE, json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}})).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn applying_creates_conflicts_and_forces() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/default/configmaps/m";
    let config = |a: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": a, "b": "1"}});
    assert_eq!(world.patch(path, APPLY, config("1")).await.0, 422, "a manager must be named");
    assert_eq!(world.patch(&format!("{path}?fieldManager=ann"), APPLY, config("1")).await.0, 201);
    let (status, refused) = world.patch(&format!("{path}?fieldManager=bob"), APPLY, config("2")).await;
    assert_eq!((status, refused["details"]["causes"][0]["field"].as_str()), (409, Some(".data.a")));
    let (status, forced) = world.patch(&format!("{path}?fieldManager=bob&force=true"), APPLY, config("2")).await;
    assert_eq!((status, &forced["data"]["a"]), (200, &json!("2")));
    let (_, again) = world.patch(&format!("{path}?fieldManager=bob&force=true"), APPLY, config("2")).await;
    assert_eq!(again["metadata"]["resourceVersion"], forced["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn service_accounts_have_what_rbac_gives() {
    let world = World::new().await;
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "robot"}})).await;
    let (status, request) =
        world.post("/api/v1/namespaces/default/serviceaccounts/robot/token", json!({"spec": {}})).await;
    assert_eq!(status, 201, "{request}");
    let robot = World { token: request["status"]["token"].as_str().unwrap().to_owned(), ..world };
    let member = login(&robot.gate, "demo", "d", "demo").await;
    let (status, denied) = robot.get(PODS).await;
    assert_eq!(status, 403);
    assert_eq!(
        denied["message"],
        "pods is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(robot.get("/apis").await.0, 200);
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let rules = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"]}
    ]);
    let owner = World { token: member, ..robot };
    owner.post(roles, json!({"metadata": {"name": "r"}, "rules": rules})).await;
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    assert_eq!(owner.post(bindings, binding).await.0, 201);
    let robot = World { token: request["status"]["token"].as_str().unwrap().to_owned(), ..owner };
    assert_eq!(robot.get(PODS).await.0, 200);
    assert_eq!(robot.get("/api/v1/pods").await.0, 403);
    // It may make roles, but give no more than it has.
    let more =
        json!({"metadata": {"name": "more"}, "rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"]}]});
    assert_eq!(robot.post(roles, more).await.0, 403);
    let less =
        json!({"metadata": {"name": "less"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
    assert_eq!(robot.post(roles, less).await.0, 201);
    let to = |kind: &str, name: &str| json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": name}, "subjects": []});
    assert_eq!(robot.post(bindings, to("ClusterRole", "cluster-admin")).await.0, 403);
    for kind in ["ClusterRole", "Role"] {
        let (status, body) = robot.post(bindings, to(kind, "not-yet")).await;
        assert_eq!(status, 404, "what it may become is nobody's to give: {body}");
    }
    let question =
        json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let (_, answer) = robot.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", question).await;
    assert_eq!(answer["status"]["allowed"], true);
    // Nobody acts as somebody else without the right to.
    let mut request = robot.request(Method::GET, PODS, "application/json", &Value::Null);
    request.headers_mut().insert("impersonate-user", "demo".parse().unwrap());
    assert_eq!(robot.raw(request).await.0, 403);
}

#[tokio::test]
async fn somebody_else_can_be_tried_on() {
    let world = World::new().await;
    let mut request = world.request(Method::GET, PODS, "application/json", &Value::Null);
    request.headers_mut().insert("impersonate-user", "ann".parse().unwrap());
    assert_eq!(world.raw(request).await.0, 403, "ann has no rights");
    let mut request = world.request(Method::GET, PODS, "application/json", &Value::Null);
    request.headers_mut().insert("impersonate-user", "ann".parse().unwrap());
    request.headers_mut().insert("impersonate-group", "system:masters".parse().unwrap());
    assert_eq!(world.raw(request).await.0, 200);
}

#[tokio::test]
async fn events_are_one_set_in_two_groups() {
    let world = World::new().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Why", "message": "because", "type": "Normal", "firstTimestamp": Time::now().to_string()});
    let (status, body) = world.post("/api/v1/namespaces/default/events", event).await;
    assert_eq!(status, 201, "{body}");
    let (_, new) = world.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await;
    assert_eq!(
        (&new["note"], &new["regarding"]["name"], &new["apiVersion"]),
        (&json!("because"), &json!("p"), &json!("events.k8s.io/v1"))
    );
    let event = json!({"metadata": {"name": "f"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "n",
        "reason": "R", "type": "Normal", "action": "A", "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "x", "reportingInstance": "y"});
    let (status, body) = world.post("/apis/events.k8s.io/v1/namespaces/default/events", event).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(world.get("/api/v1/namespaces/default/events/f").await.1["message"], "n");
}

#[tokio::test]
async fn what_pods_may_not_have_is_refused_in_words() {
    let w = World::new().await;
    let with = |spec: Value| {
        let mut pod = pod("p");
        spec.as_object().unwrap().iter().for_each(|(k, v)| pod["spec"][k] = v.clone());
        pod
    };
    let pods = "/api/v1/namespaces/default/pods";
    let (code, body) = w.post(pods, with(json!({"hostNetwork": true}))).await;
    assert_eq!((code, body["reason"].as_str()), (403, Some("Forbidden")), "{body}");
    let words = "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    assert!(body["message"].as_str().unwrap().starts_with(words), "{body}");
    let port = json!({"containers": [{"name": "c", "image": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let (code, body) = w.post(pods, with(port)).await;
    assert!(code == 403 && body["message"].as_str().unwrap().contains("uses hostPort 80"), "{body}");

    for (spec, field) in [
        (json!({"runtimeClassName": "x"}), "spec.runtimeClassName"),
        (json!({"hostUsers": false}), "spec.hostUsers"),
        (
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
            "spec.volumes[0].persistentVolumeClaim",
        ),
        (json!({"volumes": [{"name": "v", "emptyDir": {"medium": "HugePages"}}]}), "spec.volumes[0].emptyDir.medium"),
        (
            json!({"containers": [{"name": "c", "image": "a", "resources": {"limits": {"hugepages-2Mi": "1Gi"}}}]}),
            "spec.containers[0].resources.limits[hugepages-2Mi]",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "restartPolicy": "Always"}]}),
            "spec.containers[0].restartPolicy",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "livenessProbe": {"httpGet": {"port": 1, "scheme": "FTP"}}}]}),
            "spec.containers[0].livenessProbe.httpGet.scheme",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "livenessProbe": {"grpc": {"service": "s"}}}]}),
            "spec.containers[0].livenessProbe.grpc.port",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew",
        ),
    ] {
        let (code, body) = w.post(pods, with(spec)).await;
        assert_eq!(code, 422, "{field}: {body}");
        assert!(body["details"]["causes"].as_array().unwrap().iter().any(|c| c["field"] == field), "{field}: {body}");
    }
    // The type is taken, and told that no port comes with it; a port that is asked for by its number is refused.
    let services = "/api/v1/namespaces/default/services";
    let with = |port: Value| json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [port]}});
    let numbered = with(json!({"port": 80, "nodePort": 30080}));
    assert_eq!(w.post(services, numbered).await.0, 422);
    let request = w.request(Method::POST, services, "application/json", &with(json!({"port": 80})));
    let (status, headers, _) = w.raw(request).await;
    let warned = headers["warning"].to_str().unwrap();
    assert!(status == 201 && warned.contains("no ports of the hosts are offered"), "{status} {warned}");

    // A template is accepted with a warning.
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "a", "securityContext": {"privileged": true}}]}
    }}});
    let request =
        w.request(Method::POST, "/apis/apps/v1/namespaces/default/deployments", "application/json", &deployment);
    let (status, headers, _) = w.raw(request).await;
    let warning = headers.get("warning").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    assert!(
        status == 201 && warning.contains("would violate PodSecurity") && warning.contains("privileged"),
        "{warning}"
    );
}

#[tokio::test]
async fn what_charts_use_is_let_in() {
    let w = World::new().await;
    let selector = json!({"matchLabels": {"app": "web"}});
    let term = json!({"labelSelector": selector, "topologyKey": "kubernetes.io/hostname", "namespaceSelector": {}});
    let mut asks = pod("p");
    asks["spec"] = json!({
        "containers": [{
            "name": "c", "image": "a",
            "livenessProbe": {"httpGet": {"port": 8443, "scheme": "HTTPS"}},
            "readinessProbe": {"grpc": {"port": 50051, "service": "db"}},
            "lifecycle": {"preStop": {"httpGet": {"port": 8443, "scheme": "HTTPS"}}},
            "resources": {"requests": {"ephemeral-storage": "50Mi"}, "limits": {"ephemeral-storage": "2Gi"}},
        }],
        "affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}],
        }},
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector, "matchLabelKeys": ["pod-template-hash"],
        }],
    });
    let (code, body) = w.post("/api/v1/namespaces/default/pods", asks).await;
    assert_eq!(code, 201, "{body}");
    assert_eq!(body["status"]["qosClass"], "BestEffort", "the disk does not count for the class");
}

#[tokio::test]
async fn a_service_may_be_a_name_for_something_elsewhere() {
    let w = World::new().await;
    let services = "/api/v1/namespaces/default/services";
    let named = |spec: Value| json!({"metadata": {"name": "s"}, "spec": spec});
    let (code, body) = w.post(services, named(json!({"type": "ExternalName"}))).await;
    assert!(code == 422 && body["message"].as_str().unwrap().contains("spec.externalName: Required"), "{body}");
    let wrong = json!({"type": "ExternalName", "externalName": "db.example.org", "clusterIP": "None"});
    assert_eq!(w.post(services, named(wrong)).await.0, 422);
    let (code, body) = w.post(services, named(json!({"type": "ExternalName", "externalName": "db.example.org"}))).await;
    assert!(code == 201 && body["spec"].get("clusterIP").is_none(), "{body}");
    // It gets an address when it becomes another, and gives it back.
    let one = format!("{services}/s");
    let merge = "application/merge-patch+json";
    let (code, body) = w.patch(&one, merge, json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}})).await;
    assert!(code == 200 && body["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.contains('.')), "{body}");
    let (code, body) = w.patch(&one, merge, json!({"spec": {"type": "ExternalName"}})).await;
    assert!(code == 200 && body["spec"].get("clusterIPs").is_none(), "{body}");
}

#[tokio::test]
async fn streams_need_the_right_to_create() {
    let w = World::new().await;
    w.post("/api/v1/namespaces/default/pods", pod("p")).await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get"]}]);
    w.post(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
        json!({"metadata": {"name": "r"}, "rules": rules}),
    )
    .await;
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}]});
    w.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding).await;
    let mut request = w.request(Method::GET, "/api/v1/namespaces/default/pods/p/exec?command=a", "", &Value::Null);
    for (name, value) in [("impersonate-user", "reader"), ("upgrade", "websocket"), ("connection", "Upgrade")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (status, _, body) = w.raw(request).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert!(
        status == 403 && body["message"].as_str().unwrap().contains("cannot create resource \"pods/exec\""),
        "{body}"
    );
}

#[tokio::test]
async fn access_rules_of_application_credentials_hold_here() {
    let world = World::new().await;
    let snapshot = world.store.snapshot();
    let user = snapshot.all::<model::User>().find(|u| u.name == "demo").unwrap();
    let role = snapshot.all::<model::Role>().find(|r| r.name == "member").unwrap();
    let rule = json!({"id": "r", "service": "kubernetes", "method": "GET",
        "path": format!("/clusters/{}/api/v1/namespaces/*", world.cluster.id)});
    let credential: model::AppCredential = serde_json::from_value(json!({
        "id": "narrow", "name": "narrow", "user_id": user.id, "project_id": world.cluster.project_id,
        "secret_hash": world.gate.passwords().hash("secret", gate::Client::UNKNOWN).await.unwrap(),
        "role_ids": [role.id], "expires_at": null, "unrestricted": false, "access_rules": [rule],
    }))
    .unwrap();
    world.store.commit(&Change::from(credential)).await.unwrap();
    let proof = gate::Proof::AppCredential {
        id: Some("narrow".into()),
        name: None,
        user: gate::NamedRef::default(),
        secret: "secret".into(),
    };
    let (token, _) = world.gate.login(vec![proof], gate::ScopeRequest::Default, gate::Client::UNKNOWN).await.unwrap();
    let world = World { token, ..world };
    assert_eq!(world.get("/api/v1/namespaces/default").await.0, 200);
    for path in
        ["/api/v1/secrets", "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default%2Fsecrets", "/version"]
    {
        assert_eq!(world.get(path).await.0, 401, "{path}");
    }
    assert_eq!(world.post("/api/v1/namespaces/default/pods", pod("a")).await.0, 401);
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A client certificate of the cluster's authority, as the listener hands it on.
async fn certificate(world: &World, name: &str) -> face_kube::ClientCertificate {
    world.gate.ensure_authorities().await.unwrap();
    let snapshot = world.store.snapshot();
    let authority = snapshot.get::<model::Cluster>(&world.cluster.id).unwrap().authority.clone().unwrap();
    let key = rcgen::KeyPair::from_pem(&authority.key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&authority.certificate, key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let signed = params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap();
    face_kube::ClientCertificate(signed.der().to_vec().into())
}

#[tokio::test]
async fn impersonation_is_checked_to_its_end() {
    let world = World::new().await;
    let rule = |group: &str, resource: &str, names: &[&str]| json!({"verbs": ["impersonate"], "apiGroups": [group], "resources": [resource], "resourceNames": names});
    let rules = json!([
        rule("", "users", &["ann"]),
        rule("authentication.k8s.io", "uids", &["u1"]),
        rule("authentication.k8s.io", "userextras/scopes", &["view"]),
    ]);
    world.post(&format!("{RBAC}/clusterroles"), json!({"metadata": {"name": "actor"}, "rules": rules})).await;
    for (name, role, user) in [("actor", "actor", "actress"), ("seen", "view", "ann")] {
        let binding = json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": user}]});
        assert_eq!(world.post(&format!("{RBAC}/clusterrolebindings"), binding).await.0, 201);
    }
    let certificate = certificate(&world, "actress").await;
    let act = async |headers: &[(&str, &str)]| {
        let mut request = world.request(Method::GET, PODS, "application/json", &Value::Null);
        request.headers_mut().remove("authorization");
        request.extensions_mut().insert(certificate.clone());
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        world.raw(request).await.0.as_u16()
    };
    let ann = ("impersonate-user", "ann");
    assert_eq!(act(&[]).await, 403);
    for (headers, expected) in [
        (vec![ann], 200),
        (vec![("impersonate-user", "bob")], 403),
        (vec![ann, ("impersonate-group", "system:masters")], 403),
        (vec![ann, ("impersonate-uid", "u1")], 200),
        (vec![ann, ("impersonate-uid", "u2")], 403),
        (vec![ann, ("impersonate-extra-scopes", "view")], 200),
        (vec![ann, ("impersonate-extra-scopes", "all")], 403),
        (vec![ann, ("impersonate-extra-scopes", "view"), ("impersonate-extra-scopes", "all")], 403),
        (vec![ann, ("impersonate-extra-other", "view")], 403),
        (vec![ann, ("impersonate-nonsense", "view")], 400),
        (vec![("impersonate-uid", "u1")], 400),
    ] {
        assert_eq!(act(&headers).await, expected, "{headers:?}");
    }
}

/// A user of a domain with a role on the cluster's project, and their token.
async fn user(world: &World, domain: &str, name: &str, role: &str) -> String {
    let snapshot = world.store.snapshot();
    let role_id = snapshot.all::<model::Role>().find(|r| r.name == role).unwrap().id.clone();
    let mut change = Change::new();
    if snapshot.get::<model::Domain>(domain).is_none() {
        let of = |name: &str| json!({"id": name, "name": name, "description": "", "enabled": true, "tags": []});
        change.create(serde_json::from_value::<model::Domain>(of(domain)).unwrap());
    }
    let id = gate::new_id();
    let hash = world.gate.passwords().hash("p", gate::Client::UNKNOWN).await.unwrap();
    let row = json!({"id": id, "name": name, "domain_id": domain, "enabled": true, "password_hash": hash,
        "password_history": [], "description": null, "email": null, "default_project_id": null, "extra": {}});
    change.create(serde_json::from_value::<model::User>(row).unwrap());
    change.create(model::Assignment {
        actor: model::Actor::User(id.clone()),
        target: model::Target::Project(world.cluster.project_id.clone()),
        role_id,
        inherited: false,
    });
    world.store.commit(&change).await.unwrap();
    let user = gate::NamedRef { id: Some(id), ..gate::NamedRef::default() };
    let proof = gate::Proof::Password { user, password: "p".into() };
    let project = gate::NamedRef { id: Some(world.cluster.project_id.clone()), ..gate::NamedRef::default() };
    world.gate.login(vec![proof], gate::ScopeRequest::Project(project), gate::Client::UNKNOWN).await.unwrap().0
}

#[tokio::test]
async fn names_of_one_sort_are_not_names_of_another() {
    let world = World::new().await;
    let everything = |name: &str, subject: Value| json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [subject]});
    for (name, subject) in [
        ("account", json!({"kind": "ServiceAccount", "name": "builder", "namespace": "default"})),
        ("text", json!({"kind": "User", "name": "system:serviceaccount:default:builder"})),
        ("ann", json!({"kind": "User", "name": "openstack:default/ann"})),
        ("bare", json!({"kind": "User", "name": "bob"})),
    ] {
        assert_eq!(world.post(&format!("{RBAC}/clusterrolebindings"), everything(name, subject)).await.0, 201);
    }
    let ann = user(&world, "default", "ann", "reader").await;
    let tokens = [
        user(&world, "elsewhere", "system:serviceaccount:default:builder", "reader").await,
        user(&world, "elsewhere", "ann", "reader").await,
        user(&world, "default", "elsewhere/ann", "reader").await,
        user(&world, "default", "bob", "reader").await,
    ];
    let mut world = world;
    for token in tokens {
        world.token = token;
        let (_, me) = world.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await;
        assert_eq!(world.get("/api/v1/secrets").await.0, 403, "{me}");
    }
    world.token = ann;
    assert_eq!(world.get("/api/v1/secrets").await.0, 200);
    for name in ["openstack:default/ann", "system:serviceaccount:default:builder"] {
        let certificate = certificate(&world, name).await;
        assert!(world.gate.certificate(&certificate.0, &world.cluster.id).is_err(), "{name}");
    }
}

#[tokio::test]
async fn clusters_that_exist_get_what_is_new() {
    let world = World::new().await;
    let ann = user(&world, "default", "ann", "reader").await;
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": "User", "name": "ann"}]});
    world.post(&format!("{RBAC}/clusterrolebindings"), binding).await;
    let own = json!({"verbs": ["get"], "apiGroups": ["own"], "resources": ["things"]});
    let (_, mut view) = world.get(&format!("{RBAC}/clusterroles/view")).await;
    let all = view["rules"].clone();
    view["rules"] = json!([own]);
    assert_eq!(world.put(&format!("{RBAC}/clusterroles/view"), view).await.0, 200);
    world.delete(&format!("{RBAC}/clusterroles/edit"), Value::Null).await;
    let (_, mut admin) = world.get(&format!("{RBAC}/clusterroles/admin")).await;
    admin["rules"] = json!([]);
    admin["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
    assert_eq!(world.put(&format!("{RBAC}/clusterroles/admin"), admin).await.0, 200);
    for _ in 0..2 {
        face_kube::renew(&world.store).await.unwrap();
    }
    let (_, view) = world.get(&format!("{RBAC}/clusterroles/view")).await;
    let expected: Vec<Value> = std::iter::once(own).chain(all.as_array().unwrap().iter().cloned()).collect();
    assert_eq!(view["rules"], json!(expected));
    assert_eq!(world.get(&format!("{RBAC}/clusterroles/edit")).await.0, 200);
    assert_eq!(world.get(&format!("{RBAC}/clusterroles/admin")).await.1["rules"], json!([]));
    let (_, binding) = world.get(&format!("{RBAC}/clusterrolebindings/b")).await;
    assert_eq!(binding["subjects"][1]["name"], "openstack:default/ann");
    assert_eq!(binding["subjects"].as_array().unwrap().len(), 2);
    let world = World { token: ann, ..world };
    assert_eq!(world.get("/api/v1/secrets").await.0, 200);
}
