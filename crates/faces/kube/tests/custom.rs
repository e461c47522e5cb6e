//! Kinds that a cluster defines for itself.

mod common;

use common::{World, cluster};
use face_kube::cluster_rows;
use http::Method;
use model::{Change, KubeObject, Time};
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GADGETS: &str = "/apis/example.com/v1/namespaces/default/gadgets";

/// A definition of the kind Gadget, with the schema of its specification.
fn definition(spec: Value) -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": spec,
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget", "shortNames": ["gd"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
                ],
                "selectableFields": [{"jsonPath": ".spec.color"}]
            }]
        }
    })
}

fn plain() -> Value {
    json!({"type": "object", "required": ["color"], "properties": {
        "color": {"type": "string", "enum": ["red", "green"]},
        "replicas": {"type": "integer", "minimum": 0, "maximum": 9, "default": 1},
        "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "note": {"type": "string", "nullable": true},
        "port": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "size": {"type": "integer", "default": 3}}}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}
    }})
}

async fn defined() -> World {
    let world = World::new().await;
    let (code, body) = world.post(DEFINITIONS, definition(plain())).await;
    assert_eq!(code, 201, "{body}");
    world
}

fn gadget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_kind_is_there_as_soon_as_it_is_defined_and_in_its_cluster_alone() {
    let world = World::new().await;
    let other = model::Cluster {
        domain: "two.local".into(),
        service_base: "10.97.0.0".parse().unwrap(),
        ..cluster(&world.cluster.project_id, "two")
    };
    let mut change = Change::new();
    change.create(other.clone());
    cluster_rows(&other, Time::now()).into_iter().for_each(|row| _ = change.create(row));
    world.store.commit(&change).await.unwrap();
    assert_eq!(world.get(GADGETS).await.0, 404);

    let (code, crd) = world.post(DEFINITIONS, definition(plain())).await;
    assert_eq!(code, 201, "{crd}");
    assert_eq!(crd["status"]["acceptedNames"]["listKind"], "GadgetList");
    assert!(
        crd["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
    );
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));

    let (code, created) = world.post(GADGETS, gadget("a", json!({"color": "red"}))).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!((&created["spec"]["replicas"], &created["metadata"]["generation"]), (&json!(1), &json!(1)));
    let (_, list) = world.get(GADGETS).await;
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("GadgetList"), &json!("a")));
    let (_, all) = world.get("/apis/example.com/v1").await;
    let names: Vec<&str> = all["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["gadgets", "gadgets/scale", "gadgets/status"]);
    let (code, document) = world.get("/openapi/v3/apis/example.com/v1").await;
    assert_eq!(code, 200);
    let schema = &document["components"]["schemas"]["com.example.v1.Gadget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["color"]["enum"], json!(["red", "green"]));
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Gadget");

    // The project's other cluster has no such kind, whatever is asked of it.
    for path in ["/apis/example.com", "/apis/example.com/v1", "/openapi/v3/apis/example.com/v1", GADGETS] {
        let request = http::Request::builder()
            .uri(format!("/clusters/{}{path}", other.id))
            .header("authorization", format!("Bearer {}", world.token))
            .body(axum::body::Body::empty())
            .unwrap();
        assert_eq!(world.raw(request).await.0, 404, "{path}");
        assert_eq!(world.get(path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn objects_are_held_to_their_schema() {
    let world = defined().await;
    for (spec, words) in [
        (json!({}), "spec.color: Required value"),
        (json!({"color": "blue"}), "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\""),
        (json!({"color": 5}), "spec.color in body must be of type string"),
        (json!({"color": "red", "replicas": 10}), "spec.replicas in body should be less than or equal to 9"),
        (json!({"color": "red", "replicas": -1}), "spec.replicas in body should be greater than or equal to 0"),
        (json!({"color": "red", "replicas": 1.5}), "spec.replicas in body must be of type integer"),
        (json!({"color": "red", "code": "A"}), "spec.code in body should match '^[a-z]+$'"),
        (json!({"color": "red", "code": "abcdef"}), "spec.code in body should be at most 5 chars long"),
        (json!({"color": "red", "code": null}), "spec.code in body must be of type string"),
        (json!({"color": "red", "port": true}), "spec.port in body must be of type integer or string"),
        (json!({"color": "red", "parts": [{"size": 1}]}), "spec.parts[0].name: Required value"),
        (json!({"color": "red", "parts": [{"name": "a"}, {"name": "a"}]}), "spec.parts[1]: Duplicate value"),
        (json!({"color": "red", "tags": ["a", "a"]}), "spec.tags[1]: Duplicate value: \"a\""),
        (json!({"color": "red", "labels": {"a": 1}}), "spec.labels.a in body must be of type string"),
    ] {
        let (code, body) = world.post(GADGETS, gadget("a", spec.clone())).await;
        assert_eq!(code, 422, "{spec}: {body}");
        assert!(body["message"].as_str().unwrap().contains(words), "{spec}: {body}");
    }
    let spec = json!({"color": "red", "note": null, "replicas": null, "port": "http", "free": {"x": {"y": 1}},
        "labels": {"a": "b"}, "parts": [{"name": "a"}], "unknown": 1});
    let (code, body) = world.post(GADGETS, gadget("a", spec)).await;
    assert_eq!(code, 201, "{body}");
    let kept = json!({"color": "red", "note": null, "replicas": 1, "port": "http", "free": {"x": {"y": 1}},
        "labels": {"a": "b"}, "parts": [{"name": "a", "size": 3}]});
    assert_eq!(body["spec"], kept);
    let strict = format!("{GADGETS}?fieldValidation=Strict");
    let (code, body) = world.post(&strict, gadget("b", json!({"color": "red", "unknown": 1}))).await;
    assert!(code == 400 && body["message"].as_str().unwrap().contains("unknown field \"spec.unknown\""), "{body}");
    // Metadata is everybody's.
    let mut bad = gadget("c", json!({"color": "red"}));
    bad["metadata"]["labels"] = json!({"a": 1});
    assert_eq!(world.post(GADGETS, bad).await.0, 400);
}

#[tokio::test]
async fn status_scale_columns_and_selectors() {
    let world = defined().await;
    let mut sent = gadget("a", json!({"color": "red"}));
    sent["status"] = json!({"replicas": 7});
    let (_, created) = world.post(GADGETS, sent).await;
    assert_eq!(created.get("status"), None, "a status is written by itself");
    let merge = "application/merge-patch+json";
    let status = format!("{GADGETS}/a/status");
    let patch = json!({"status": {"replicas": 2, "selector": "app=a"}, "spec": {"color": "green"}});
    let (code, body) = world.patch(&status, merge, patch).await;
    assert_eq!((code, &body["spec"]["color"], &body["metadata"]["generation"]), (200, &json!("red"), &json!(1)));
    let (code, body) = world.patch(&status, merge, json!({"status": {"replicas": "x"}})).await;
    assert!(code == 422 && body["message"].as_str().unwrap().contains("status.replicas"), "{body}");

    let scale = format!("{GADGETS}/a/scale");
    let (_, body) = world.get(&scale).await;
    assert_eq!((&body["spec"]["replicas"], &body["status"]), (&json!(1), &json!({"replicas": 2, "selector": "app=a"})));
    assert_eq!(world.patch(&scale, merge, json!({"spec": {"replicas": 4}})).await.0, 200);
    assert_eq!(world.patch(&scale, merge, json!({"spec": {"replicas": 40}})).await.0, 422, "the schema holds here too");
    let (_, body) = world.get(&format!("{GADGETS}/a")).await;
    assert_eq!((&body["spec"]["replicas"], &body["metadata"]["generation"]), (&json!(4), &json!(2)));

    world.post(GADGETS, gadget("b", json!({"color": "green"}))).await;
    let (_, list) = world.get(&format!("{GADGETS}?fieldSelector=spec.color%3Dgreen")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(world.get(&format!("{GADGETS}?fieldSelector=spec.code%3Da")).await.0, 400);
    let mut request = world.request(Method::GET, GADGETS, "application/json", &Value::Null);
    request.headers_mut().insert("accept", "application/json;as=Table;v=v1;g=meta.k8s.io".parse().unwrap());
    let table: Value = serde_json::from_slice(&world.raw(request).await.2).unwrap();
    let names: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["Name", "Color", "Age"]);
    assert_eq!(table["rows"][0]["cells"][1], "red");
    assert!(table["rows"][0]["cells"][2].as_str().unwrap().ends_with('s'), "{table}");
}

#[tokio::test]
async fn lists_with_keys_are_applied_item_by_item() {
    let world = defined().await;
    let apply = |who: &'static str, parts: Value| {
        let mut object = gadget("a", json!({"color": "red", "parts": parts}));
        object["spec"]["free"] = json!({who: 1});
        let path = format!("{GADGETS}/a?fieldManager={who}");
        let world = &world;
        async move { world.patch(&path, "application/apply-patch+yaml", object).await }
    };
    assert_eq!(apply("ann", json!([{"name": "x", "size": 1}])).await.0, 201);
    let (code, body) = apply("bob", json!([{"name": "y"}])).await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(body["spec"]["parts"], json!([{"name": "x", "size": 1}, {"name": "y", "size": 3}]));
    assert_eq!(body["spec"]["free"], json!({"ann": 1, "bob": 1}), "what has no schema is owned field by field");
    let (code, body) = apply("bob", json!([{"name": "x", "size": 2}])).await;
    assert!(code == 409 && body["message"].as_str().unwrap().contains("ann"), "{body}");
    let (code, body) = apply("ann", json!([])).await;
    assert_eq!((code, &body["spec"]["parts"]), (200, &json!([{"name": "y", "size": 3}])), "{body}");
    let path = format!("{GADGETS}/a");
    let (code, body) = world.patch(&path, "application/strategic-merge-patch+json", json!({})).await;
    assert_eq!(code, 415, "{body}");
}

#[tokio::test]
async fn definitions_that_are_not_kept_to_are_refused_in_words() {
    let world = World::new().await;
    let field = |field: Value| json!({"type": "object", "properties": {"a": field}});
    for (spec, words) in [
        (field(json!({"type": "text"})), "Unsupported value: \"text\""),
        (field(json!({})), "type: Required value: must not be empty for specified object fields"),
        (field(json!({"type": "array"})), "items: Required value"),
        (field(json!({"type": "string", "pattern": "("})), "must be a valid regular expression"),
        (field(json!({"type": "string", "pattern": "(a{1000}){1000}"})), "must be a valid regular expression"),
        (field(json!({"type": "integer", "default": "x"})), "must be of type integer"),
        (field(json!({"type": "string", "$ref": "x"})), "must not be set in a structural schema"),
        (field(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})), "uniqueItems"),
        (field(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self != ''"}]})), "CEL"),
        (
            field(json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}})),
            "must be specified if x-kubernetes-list-type is map",
        ),
    ] {
        let (code, body) = world.post(DEFINITIONS, definition(spec.clone())).await;
        assert!(code == 422 && body["message"].as_str().unwrap().contains(words), "{spec}: {words}: {body}");
    }
    let many: serde_json::Map<String, Value> =
        (0..600).map(|i| (format!("p{i}"), json!({"type": "string", "pattern": "^a$"}))).collect();
    let (_, body) = world.post(DEFINITIONS, definition(json!({"type": "object", "properties": many}))).await;
    assert!(body["message"].as_str().unwrap().contains("a schema may have 500 patterns"), "{body}");
    let mut deep = json!({"type": "string"});
    (0..60).for_each(|_| deep = json!({"type": "array", "items": deep}));
    let (code, body) = world.post(DEFINITIONS, definition(field(deep))).await;
    assert!(matches!(code, 400 | 422), "{code} {body}");
    type Change = fn(&mut Value);
    let changes: &[(Change, &str)] = &[
        (|d| d["spec"]["group"] = "apps".into(), "should be a domain with at least one dot"),
        (|d| d["spec"]["group"] = "storage.k8s.io".into(), "is a group of Kubernetes' own"),
        (|d| d["metadata"]["name"] = "others.example.com".into(), "must be spec.names.plural"),
        (|d| d["spec"]["versions"][0]["storage"] = false.into(), "exactly one version marked as storage version"),
        (|d| d["spec"]["conversion"] = json!({"strategy": "Webhook"}), "conversion by webhooks is not offered"),
        (|d| d["spec"]["scope"] = "Everywhere".into(), "Unsupported value"),
        (
            |d| d["spec"]["versions"][0]["additionalPrinterColumns"][0]["jsonPath"] = ".a[?(@.b>1)]".into(),
            "must be a path",
        ),
        (
            |d| {
                let column = d["spec"]["versions"][0]["additionalPrinterColumns"][0].clone();
                d["spec"]["versions"][0]["additionalPrinterColumns"] = vec![column; 65].into();
            },
            "Too many: 65: must have at most 64 items",
        ),
    ];
    for (change, words) in changes {
        let mut wrong = definition(plain());
        change(&mut wrong);
        let (code, body) = world.post(DEFINITIONS, wrong).await;
        assert!(code == 422 && body["message"].as_str().unwrap().contains(words), "{words}: {body}");
    }
    // Two definitions cannot have one kind.
    assert_eq!(world.post(DEFINITIONS, definition(plain())).await.0, 201);
    let mut twin = definition(plain());
    twin["metadata"]["name"] = "gizmos.example.com".into();
    twin["spec"]["names"] = json!({"plural": "gizmos", "kind": "Gadget"});
    let (code, body) = world.post(DEFINITIONS, twin).await;
    let message = body["message"].as_str().unwrap();
    assert!(code == 409 && message.ends_with("\"gizmos.example.com\": \"Gadget\" is already in use"), "{body}");
}

#[tokio::test]
async fn a_definition_takes_its_objects_along() {
    let world = defined().await;
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    world.post(GADGETS, gadget("a", json!({"color": "red"}))).await;
    let mut held = gadget("b", json!({"color": "red"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.post(GADGETS, held).await;
    let (code, body) = world.delete(&path, Value::Null).await;
    assert_eq!(code, 200);
    assert!(body["status"]["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "Terminating"), "{body}");
    let (_, list) = world.get(GADGETS).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "what is held stays: {list}");
    let (code, body) = world.post(GADGETS, gadget("c", json!({"color": "red"}))).await;
    assert!(code == 403 && body["message"].as_str().unwrap().contains("is terminating"), "{body}");
    let release = json!({"metadata": {"finalizers": null}});
    assert_eq!(world.patch(&format!("{GADGETS}/b"), "application/merge-patch+json", release).await.0, 200);
    assert_eq!(world.get(GADGETS).await.0, 404, "with the last one the kind is gone");
    assert_eq!(world.get(&path).await.0, 404);
    // When a controller takes the last one, a planner lets the definition go; or who deletes it once more.
    assert_eq!(world.post(DEFINITIONS, definition(plain())).await.0, 201);
    let mut held = gadget("b", json!({"color": "red"}));
    held["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    assert_eq!(world.post(GADGETS, held).await.0, 201);
    assert_eq!(world.delete(&path, Value::Null).await.0, 200);
    let snapshot = world.store.snapshot();
    let key = KubeObject::key_of(&world.cluster.id, "example.com", "gadgets", "default", "b");
    let mut change = Change::new();
    change.delete(snapshot.at::<KubeObject>(&key).unwrap());
    world.store.commit(&change).await.unwrap();
    assert_eq!(world.get(&path).await.0, 200);
    assert_eq!(world.delete(&path, Value::Null).await.0, 200);
    assert_eq!(world.get(&path).await.0, 404);
    // The same names may be had again, and nothing is left.
    assert_eq!(world.post(DEFINITIONS, definition(plain())).await.0, 201);
    assert_eq!(world.get(GADGETS).await.1["items"], json!([]));
    assert_eq!(world.delete(&path, Value::Null).await.0, 200);
    assert_eq!(world.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_definition_that_changes_is_read_again_and_versions_show_one_set() {
    let world = defined().await;
    world.post(GADGETS, gadget("a", json!({"color": "red"}))).await;
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    let (_, mut crd) = world.get(&path).await;
    let mut next = crd["spec"]["versions"][0].clone();
    next["name"] = "v2".into();
    next["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"]["enum"] =
        json!(["red", "green", "blue"]);
    crd["spec"]["versions"][0]["storage"] = false.into();
    crd["spec"]["versions"].as_array_mut().unwrap().push(next);
    let (code, crd) = world.put(&path, crd).await;
    assert_eq!((code, &crd["status"]["storedVersions"]), (200, &json!(["v1", "v2"])), "{crd}");
    let newer = GADGETS.replace("/v1/", "/v2/");
    let (_, object) = world.get(&format!("{newer}/a")).await;
    assert_eq!(object["apiVersion"], "example.com/v2");
    let mut blue = gadget("b", json!({"color": "blue"}));
    assert_eq!(world.post(GADGETS, blue.clone()).await.0, 422);
    blue["apiVersion"] = "example.com/v2".into();
    assert_eq!(world.post(&newer, blue).await.0, 201);
    let (_, list) = world.get(GADGETS).await;
    assert!(list["items"].as_array().unwrap().iter().all(|o| o["apiVersion"] == "example.com/v1"), "{list}");
    let (_, group) = world.get("/apis/example.com").await;
    assert_eq!((&group["preferredVersion"]["version"], group["versions"].as_array().unwrap().len()), (&json!("v2"), 2));
    // A version in which objects were stored cannot be taken away.
    let (_, mut crd) = world.get(&path).await;
    crd["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let (code, body) = world.put(&path, crd).await;
    assert!(code == 422 && body["message"].as_str().unwrap().contains("status.storedVersions[0]"), "{body}");
}

/// What a schema and an object make together costs no more than a bound, whatever each of them is.
#[tokio::test]
async fn schemas_and_objects_cannot_multiply() {
    let world = World::new().await;
    let text = "x".repeat(10_000);
    let spec = json!({"type": "object", "properties": {"list": {"type": "array", "items": {
        "type": "object", "properties": {"text": {"type": "string", "default": text}}}}}});
    assert_eq!(world.post(DEFINITIONS, definition(spec)).await.0, 201);
    let many: Vec<Value> = (0..100_000).map(|_| json!({})).collect();
    let (code, body) = world.post(GADGETS, gadget("a", json!({"list": many}))).await;
    assert_eq!(code, 413, "{body}");
    let parts: Vec<Value> = (0..2000).map(|i| json!({"minimum": -i})).collect();
    let spec = json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "integer", "allOf": parts}}}});
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    assert_eq!(world.delete(&path, Value::Null).await.0, 200);
    assert_eq!(world.post(DEFINITIONS, definition(spec)).await.0, 201);
    let many: Vec<Value> = (0..100_000).map(Value::from).collect();
    let (code, body) = world.post(GADGETS, gadget("a", json!({"list": many}))).await;
    assert!(code == 422 && body["message"].as_str().unwrap().contains("too large to be checked"), "{body}");
}

/// Definitions take memory in every process, and there is an end to it.
#[tokio::test]
async fn a_cluster_has_so_many_definitions() {
    let world = World::new().await;
    let mut refused = None;
    for i in 0..=500 {
        let mut one = definition(json!({"type": "object"}));
        one["metadata"]["name"] = format!("k{i}s.example.com").into();
        one["spec"]["names"] = json!({"plural": format!("k{i}s"), "kind": format!("K{i}")});
        one["spec"]["versions"][0]["selectableFields"].take();
        one["spec"]["versions"][0]["additionalPrinterColumns"].take();
        let (code, body) = world.post(DEFINITIONS, one).await;
        if code != 201 {
            refused = Some((i, code, body["message"].as_str().unwrap().to_owned()));
            break;
        }
    }
    let (i, code, message) = refused.expect("one is too many");
    assert!(i == 500 && code == 403 && message.contains("a cluster may have 500 definitions"), "{i} {code} {message}");
    assert_eq!(world.get("/apis/example.com/v1/namespaces/default/k499s").await.0, 200);
}
