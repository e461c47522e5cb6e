//! Metadata definitions: namespaces and what is in them.

mod common;

use common::{Harness, text};
use model::MetadefNamespace;
use serde_json::{Value, json};

const NAMESPACES: &str = "/image/v2/metadefs/namespaces";

fn at(rest: &str) -> String {
    format!("{NAMESPACES}/{rest}")
}

async fn make(cloud: &Harness, body: Value) -> Value {
    cloud.ok("POST", NAMESPACES, &cloud.admin, body).await.2
}

async fn get(cloud: &Harness, path: &str) -> Value {
    cloud.ok("GET", path, &cloud.admin, Value::Null).await.2
}

/// The status of a request, and what it was told.
async fn refused(cloud: &Harness, method: &str, path: &str, body: Value) -> (u16, String) {
    let answer = cloud.call_with(method, path, &cloud.admin, &[("accept", "application/json")], body).await;
    (answer.0, answer.2["message"].as_str().unwrap_or_default().to_owned())
}

fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| text(&item[field]).to_owned()).collect()
}

fn everything() -> Value {
    json!({
        "namespace": "Acme::Disks",
        "display_name": "Disks",
        "description": "How disks are attached",
        "visibility": "public",
        "protected": true,
        "resource_type_associations": [
            {"name": "OS::Glance::Image", "prefix": "hw_"},
            {"name": "Acme::Robot", "properties_target": "arms"},
        ],
        "properties": {
            "disk_bus": {"title": "Bus", "type": "string", "enum": ["virtio", "scsi"], "operators": ["<or>"]},
        },
        "objects": [{
            "name": "cdrom",
            "description": "A drive",
            "required": ["bus"],
            "properties": {"bus": {"title": "Bus", "type": "integer", "minimum": 0, "default": 1}},
        }],
        "tags": [{"name": "fast"}, {"name": "slow"}],
    })
}

#[tokio::test]
async fn a_namespace_is_made_whole_and_shown_whole() {
    let cloud = Harness::new().await;
    let (status, headers, made) = cloud.call("POST", NAMESPACES, &cloud.admin, everything()).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(headers["location"], "https://127.0.0.1:8443/image/v2/metadefs/namespaces/Acme::Disks");
    let shown = get(&cloud, &at("Acme::Disks")).await;
    assert_eq!(shown, made);
    let sent = everything();
    for name in ["namespace", "display_name", "description", "visibility", "protected", "properties", "tags"] {
        assert_eq!(shown[name], sent[name], "{name}");
    }
    assert_eq!(shown["owner"], json!(cloud.admin_project));
    assert_eq!(shown["self"], "/v2/metadefs/namespaces/Acme::Disks");
    assert_eq!(shown["schema"], "/v2/schemas/metadefs/namespace");
    assert_eq!(shown["objects"][0]["self"], "/v2/metadefs/namespaces/Acme::Disks/objects/cdrom");
    assert_eq!(shown["objects"][0]["properties"], sent["objects"][0]["properties"]);
    assert_eq!(names(&shown["resource_type_associations"], "name"), ["Acme::Robot", "OS::Glance::Image"]);

    // Everybody sees it, in lists with its resource types alone, and by the names that properties have on an image.
    let list = cloud.ok("GET", NAMESPACES, &cloud.demo, Value::Null).await.2;
    assert_eq!(list["namespaces"][0]["resource_type_associations"], shown["resource_type_associations"]);
    assert!(list["namespaces"][0].get("objects").is_none());
    let path = at("Acme::Disks?resource_type=OS::Glance::Image");
    let on_image = cloud.ok("GET", &path, &cloud.demo, Value::Null).await.2;
    assert!(on_image["properties"]["hw_disk_bus"].is_object(), "{on_image}");
    assert_eq!(on_image["objects"][0]["required"], json!(["hw_bus"]));
    assert!(on_image["objects"][0]["properties"]["hw_bus"].is_object());
    let property = at("Acme::Disks/properties/hw_disk_bus?resource_type=OS::Glance::Image");
    assert_eq!(cloud.ok("GET", &property, &cloud.demo, Value::Null).await.2["name"], "disk_bus");
    for (path, why) in [
        ("properties/disk_bus?resource_type=OS::Glance::Image", "does not start with"),
        ("properties/disk_bus?resource_type=Acme::Robot", "does not start with"),
        ("properties/disk_bus?resource_type=OS::Nova::Flavor", "association of resource-type=OS::Nova::Flavor"),
    ] {
        let (status, said) = refused(&cloud, "GET", &at(&format!("Acme::Disks/{path}")), Value::Null).await;
        assert!(status == 404 && said.contains(why), "{path}: {status} {said}");
    }

    let types = get(&cloud, "/image/v2/metadefs/resource_types").await;
    assert_eq!(
        names(&types["resource_types"], "name"),
        ["Acme::Robot", "OS::Glance::Image", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Nova::Server"]
    );
}

#[tokio::test]
async fn what_is_protected_stays() {
    let cloud = Harness::new().await;
    make(&cloud, everything()).await;
    let before = get(&cloud, &at("Acme::Disks")).await;
    for rest in [
        "",
        "/objects",
        "/objects/cdrom",
        "/properties",
        "/properties/disk_bus",
        "/tags",
        "/tags/fast",
        "/resource_types/Acme::Robot",
    ] {
        let (status, said) = refused(&cloud, "DELETE", &at(&format!("Acme::Disks{rest}")), Value::Null).await;
        assert!(status == 403 && said.contains("is protected and cannot be deleted"), "{rest}: {status} {said}");
    }
    assert_eq!(get(&cloud, &at("Acme::Disks")).await, before);
    let body = json!({"namespace": "Acme::Disks", "protected": false});
    cloud.ok("PUT", &at("Acme::Disks"), &cloud.admin, body).await;
    for rest in ["/objects/cdrom", "/tags/fast", "/properties", "/resource_types/Acme::Robot", ""] {
        cloud.ok("DELETE", &at(&format!("Acme::Disks{rest}")), &cloud.admin, Value::Null).await;
    }
    let (status, said) = refused(&cloud, "GET", &at("Acme::Disks"), Value::Null).await;
    assert!(status == 404 && said.contains("namespace=Acme::Disks was not found"), "{status} {said}");
}

#[tokio::test]
async fn private_ones_are_their_projects() {
    let cloud = Harness::new().await;
    make(&cloud, json!({"namespace": "mine", "owner": cloud.demo_project, "tags": [{"name": "a"}]})).await;
    make(&cloud, json!({"namespace": "theirs", "resource_type_associations": [{"name": "Secret"}]})).await;
    make(&cloud, json!({"namespace": "all", "visibility": "public"})).await;
    let seen = async |token: &str, query: &str| {
        let path = format!("{NAMESPACES}?sort_key=namespace&sort_dir=asc{query}");
        names(&cloud.ok("GET", &path, token, Value::Null).await.2["namespaces"], "namespace")
    };
    assert_eq!(seen(&cloud.demo, "").await, ["all", "mine"]);
    assert_eq!(seen(&cloud.demo, "&visibility=private").await, ["mine"]);
    assert_eq!(seen(&cloud.admin, "").await, ["all", "mine", "theirs"]);
    for rest in ["theirs", "theirs/tags", "theirs/objects", "theirs/properties", "theirs/resource_types"] {
        assert_eq!(cloud.call("GET", &at(rest), &cloud.demo, Value::Null).await.0, 404, "{rest}");
    }
    let types = cloud.ok("GET", "/image/v2/metadefs/resource_types", &cloud.demo, Value::Null).await.2;
    assert!(!names(&types["resource_types"], "name").contains(&"Secret".to_owned()));
    // Seen, but for administrators to write.
    for (method, rest, body) in [
        ("DELETE", "mine", Value::Null),
        ("PUT", "mine", json!({"namespace": "mine"})),
        ("POST", "mine/tags/b", Value::Null),
        ("DELETE", "mine/tags/a", Value::Null),
    ] {
        assert_eq!(cloud.call(method, &at(rest), &cloud.demo, body).await.0, 403, "{method} {rest}");
    }
    // The names are the cloud's.
    let (status, said) = refused(&cloud, "POST", NAMESPACES, json!({"namespace": "mine"})).await;
    assert!(status == 409 && said.contains("namespace=mine already exists"), "{status} {said}");
    // An owner is a project that there is, and goes with what it owns.
    let (status, said) = refused(&cloud, "POST", NAMESPACES, json!({"namespace": "x", "owner": "nobody"})).await;
    assert!(status == 400 && said.contains("no project nobody"), "{status} {said}");
    let (_, _, project) =
        cloud.ok("POST", "/identity/v3/projects", &cloud.admin, json!({"project": {"name": "short"}})).await;
    let id = text(&project["project"]["id"]).to_owned();
    make(&cloud, json!({"namespace": "short", "owner": id})).await;
    cloud.ok("DELETE", &format!("/identity/v3/projects/{id}"), &cloud.admin, Value::Null).await;
    assert_eq!(cloud.call("GET", &at("short"), &cloud.admin, Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_update_replaces_texts_and_leaves_whose_and_for_whom_it_is() {
    let cloud = Harness::new().await;
    make(&cloud, everything()).await;
    make(&cloud, json!({"namespace": "taken"})).await;
    let body = json!({"namespace": "Acme::Renamed", "owner": cloud.demo_project, "description": "other"});
    let (_, _, shown) = cloud.ok("PUT", &at("Acme::Disks"), &cloud.admin, body).await;
    assert_eq!((&shown["visibility"], &shown["protected"]), (&everything()["visibility"], &everything()["protected"]));
    assert_eq!(shown["description"], "other");
    assert!(shown.get("display_name").is_none());
    assert_eq!(cloud.call("GET", &at("Acme::Disks"), &cloud.admin, Value::Null).await.0, 404);
    let (_, _, kept) = cloud.ok("GET", &at("Acme::Renamed"), &cloud.demo, Value::Null).await;
    assert_eq!(kept["tags"], everything()["tags"]);
    assert_eq!(kept["owner"], json!(cloud.demo_project));
    let body = json!({"namespace": "Acme::Renamed", "visibility": "private", "protected": false});
    let (_, _, shown) = cloud.ok("PUT", &at("Acme::Renamed"), &cloud.admin, body).await;
    assert_eq!((&shown["visibility"], &shown["protected"]), (&json!("private"), &json!(false)));
    assert_eq!(shown["owner"], json!(cloud.demo_project));
    for (body, expected, why) in [
        (json!({"namespace": "taken"}), 409, "namespace=taken already exists"),
        (json!({}), 400, "'namespace' is a required property"),
        (json!({"namespace": "x", "tags": []}), 400, "requests of its own"),
        (json!({"namespace": "x", "self": "y"}), 403, "read-only"),
        (json!({"namespace": "x", "visibility": "shared"}), 400, "'public', 'private'"),
        (json!({"namespace": "x", "colour": "red"}), 400, "'colour' was unexpected"),
    ] {
        let sent = body.to_string();
        let (status, said) = refused(&cloud, "PUT", &at("Acme::Renamed"), body).await;
        assert!(status == expected && said.contains(why), "{sent}: {status} {said}");
    }
}

#[tokio::test]
async fn objects() {
    let cloud = Harness::new().await;
    make(&cloud, json!({"namespace": "n"})).await;
    let (_, _, made) = cloud.ok("POST", &at("n/objects"), &cloud.admin, json!({"name": "one"})).await;
    assert_eq!((&made["required"], &made["properties"]), (&json!([]), &json!({})));
    assert_eq!(made["schema"], "/v2/schemas/metadefs/object");
    let size = json!({"size": {"title": "Size", "type": "integer"}});
    cloud.ok("POST", &at("n/objects"), &cloud.admin, json!({"name": "two", "properties": size})).await;
    let list = get(&cloud, &at("n/objects?sort_key=name&sort_dir=asc")).await;
    assert_eq!(list["schema"], "v2/schemas/metadefs/objects");
    assert_eq!(names(&list["objects"], "name"), ["one", "two"]);
    let list = get(&cloud, &at("n/objects?sort_key=name&limit=1&marker=two")).await;
    assert_eq!(names(&list["objects"], "name"), ["one"]);
    let body = json!({"name": "three", "required": ["size"], "properties": size});
    let (_, _, changed) = cloud.ok("PUT", &at("n/objects/one"), &cloud.admin, body).await;
    assert_eq!(get(&cloud, &at("n/objects/three")).await, changed);
    assert_eq!(changed["created_at"], made["created_at"]);
    let object = |more: Value| {
        let mut body = json!({"name": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (method, rest, body, expected, why) in [
        ("GET", "n/objects/one", Value::Null, 404, "name=one was not found in namespace=n"),
        ("PUT", "n/objects/one", object(json!({})), 404, "name=one was not found"),
        ("PUT", "n/objects/two", json!({"name": "three"}), 409, "name=three already exists"),
        ("POST", "n/objects", json!({"name": "two"}), 409, "name=two already exists in namespace=n"),
        ("POST", "n/objects", json!({}), 400, "'name' is a required property"),
        ("POST", "n/objects", Value::Null, 400, "Body expected"),
        ("POST", "n/objects", object(json!({"required": ["a", "a"]})), 400, "each once"),
        ("POST", "n/objects", object(json!({"properties": {"p": {"type": "string"}}})), 400, "'title' is a required"),
        ("POST", "n/objects", object(json!({"properties": {"p": {"title": "t", "type": "text"}}})), 400, "one of"),
        ("GET", "n/objects?limit=0", Value::Null, 400, "positive"),
        ("GET", "n/objects?sort_key=colour", Value::Null, 400, "Invalid sort key"),
        ("GET", "n/objects?visibility=public", Value::Null, 400, "no filter 'visibility'"),
        ("GET", "n/objects?marker=nothing", Value::Null, 404, "name=nothing was not found"),
    ] {
        let (status, said) = refused(&cloud, method, &at(rest), body).await;
        assert!(status == expected && said.contains(why), "{method} {rest}: {status} {said}");
    }
    cloud.ok("DELETE", &at("n/objects/two"), &cloud.admin, Value::Null).await;
    assert_eq!(names(&get(&cloud, &at("n/objects")).await["objects"], "name"), ["three"]);
    cloud.ok("DELETE", &at("n/objects"), &cloud.admin, Value::Null).await;
    assert_eq!(get(&cloud, &at("n/objects")).await["objects"], json!([]));
}

#[tokio::test]
async fn properties() {
    let cloud = Harness::new().await;
    make(&cloud, json!({"namespace": "n"})).await;
    let full = json!({
        "name": "p", "title": "t", "type": "array", "description": "d", "operators": ["<in>"], "default": ["a"],
        "readonly": true, "minimum": 1, "maximum": 2.5, "enum": ["a", "b"], "pattern": "^a", "minLength": 1, "maxLength": 2,
        "items": {"type": "string", "enum": ["a"]}, "uniqueItems": true, "minItems": 0, "maxItems": 3,
        "additionalItems": false,
    });
    let (_, _, made) = cloud.ok("POST", &at("n/properties"), &cloud.admin, full.clone()).await;
    assert_eq!(made, full);
    assert_eq!(get(&cloud, &at("n/properties/p")).await, full);
    let mut unnamed = full.clone();
    unnamed.as_object_mut().unwrap().remove("name");
    assert_eq!(get(&cloud, &at("n/properties")).await, json!({"properties": {"p": unnamed}}));
    let with = |name: &str, value: Value| {
        let mut body = json!({"name": "q", "title": "t", "type": "string"});
        body[name] = value;
        body
    };
    for body in [
        json!({"title": "t", "type": "string"}),
        with("name", json!("a\u{0}b")),
        with("name", json!("x".repeat(81))),
        with("name", json!(" ")),
        with("type", json!(null)),
        with("operators", json!([1])),
        with("minimum", json!("1")),
        with("maxLength", json!(-1)),
        with("readonly", json!("yes")),
        with("enum", json!("a")),
        with("items", json!({"type": "odd"})),
        with("items", json!({"title": "t"})),
        with("confidential", json!(true)),
    ] {
        let sent = body.to_string();
        let (status, said) = refused(&cloud, "POST", &at("n/properties"), body).await;
        assert!(status == 400 && said.contains("does not match schema 'property'"), "{sent}: {status} {said}");
    }
    let other = json!({"name": "other", "title": "t", "type": "string"});
    let (_, _, changed) = cloud.ok("PUT", &at("n/properties/p"), &cloud.admin, other.clone()).await;
    assert_eq!(changed, other);
    assert_eq!(cloud.call("GET", &at("n/properties/p"), &cloud.admin, Value::Null).await.0, 404);
    assert_eq!(cloud.call("POST", &at("n/properties"), &cloud.admin, other).await.0, 409);
    cloud.ok("DELETE", &at("n/properties/other"), &cloud.admin, Value::Null).await;
    assert_eq!(cloud.call("DELETE", &at("n/properties/other"), &cloud.admin, Value::Null).await.0, 404);
    assert_eq!(get(&cloud, &at("n/properties")).await, json!({"properties": {}}));
}

#[tokio::test]
async fn tags() {
    let cloud = Harness::new().await;
    make(&cloud, json!({"namespace": "n"})).await;
    let listed =
        async |query: &str| names(&get(&cloud, &at(&format!("n/tags?sort_key=name{query}"))).await["tags"], "name");
    let sent = |names: &[&str]| json!({"tags": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
    let (status, _, made) = cloud.call("POST", &at("n/tags/a"), &cloud.admin, Value::Null).await;
    assert_eq!((status, made), (201, json!({"name": "a"})));
    let (status, _, made) = cloud.call("POST", &at("n/tags"), &cloud.admin, sent(&["b", "c"])).await;
    assert_eq!((status, made), (201, sent(&["b", "c"])));
    assert_eq!(listed("").await, ["c", "b"], "in place of those before");
    let append = [("x-openstack-append", "True")];
    cloud.call_with("POST", &at("n/tags"), &cloud.admin, &append, sent(&["d"])).await;
    assert_eq!(listed("&sort_dir=asc").await, ["b", "c", "d"]);
    assert_eq!(listed("&limit=1&marker=d").await, ["c"]);
    let again = cloud.call_with("POST", &at("n/tags"), &cloud.admin, &append, sent(&["e", "d"])).await;
    assert_eq!(again.0, 409);
    assert_eq!(cloud.call("POST", &at("n/tags"), &cloud.admin, sent(&["x", "x"])).await.0, 409);
    assert_eq!(listed("&sort_dir=asc").await, ["b", "c", "d"], "nothing of what is refused is done");
    cloud.ok("POST", &at("n/tags"), &cloud.admin, sent(&[])).await;
    assert_eq!(listed("&sort_dir=asc").await, ["b", "c", "d"]);
    let (_, _, renamed) = cloud.ok("PUT", &at("n/tags/b"), &cloud.admin, json!({"name": "z"})).await;
    assert_eq!(renamed, get(&cloud, &at("n/tags/z")).await);
    for (method, rest, body, expected) in [
        ("PUT", "n/tags/c", json!({"name": "z"}), 409),
        ("PUT", "n/tags/b", json!({"name": "y"}), 404),
        ("POST", "n/tags/z", Value::Null, 409),
        ("POST", "n/tags/y", json!({"name": "y"}), 400),
        ("GET", "n/tags/b", Value::Null, 404),
        ("GET", "n/tags?marker=b", Value::Null, 404),
        ("DELETE", "n/tags/b", Value::Null, 404),
    ] {
        assert_eq!(cloud.call(method, &at(rest), &cloud.admin, body).await.0, expected, "{method} {rest}");
    }
    cloud.ok("DELETE", &at("n/tags/z"), &cloud.admin, Value::Null).await;
    cloud.ok("DELETE", &at("n/tags"), &cloud.admin, Value::Null).await;
    assert!(listed("").await.is_empty());
}

#[tokio::test]
async fn resource_types() {
    let cloud = Harness::new().await;
    make(&cloud, json!({"namespace": "n"})).await;
    let body = json!({"name": "OS::Nova::Server", "prefix": "p:", "properties_target": "metadata"});
    let (_, _, made) = cloud.ok("POST", &at("n/resource_types"), &cloud.admin, body.clone()).await;
    for name in ["name", "prefix", "properties_target"] {
        assert_eq!(made[name], body[name]);
    }
    assert_eq!(get(&cloud, &at("n/resource_types")).await, json!({"resource_type_associations": [made]}));
    assert_eq!(cloud.call("POST", &at("n/resource_types"), &cloud.admin, body).await.0, 409);
    make(&cloud, json!({"namespace": "m"})).await;
    let found = get(&cloud, &format!("{NAMESPACES}?resource_types=Other,OS::Nova::Server")).await;
    assert_eq!(names(&found["namespaces"], "namespace"), ["n"]);
    cloud.ok("DELETE", &at("n/resource_types/OS::Nova::Server"), &cloud.admin, Value::Null).await;
    let (status, said) = refused(&cloud, "DELETE", &at("n/resource_types/OS::Nova::Server"), Value::Null).await;
    assert!(status == 404 && said.contains("OS::Nova::Server to delete"), "{status} {said}");
}

#[tokio::test]
async fn lists_have_pages() {
    let cloud = Harness::new().await;
    for name in ["a", "b", "c"] {
        make(&cloud, json!({"namespace": name, "visibility": "public"})).await;
    }
    let (mut path, mut seen) = (format!("{NAMESPACES}?limit=2&sort_key=namespace&sort_dir=asc"), Vec::new());
    loop {
        let page = get(&cloud, &path).await;
        assert_eq!(page["first"], "/v2/metadefs/namespaces?limit=2&sort_key=namespace&sort_dir=asc");
        seen.extend(names(&page["namespaces"], "namespace"));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/image{next}");
    }
    assert_eq!(seen, ["a", "b", "c"]);
    let newest = get(&cloud, NAMESPACES).await;
    assert_eq!(names(&newest["namespaces"], "namespace"), ["c", "b", "a"]);
    for (query, status) in [("limit=-1", 400), ("limit=x", 400), ("sort_dir=up", 400), ("visibility=shared", 400)] {
        assert_eq!(cloud.call("GET", &format!("{NAMESPACES}?{query}"), &cloud.demo, Value::Null).await.0, status);
    }
    assert_eq!(get(&cloud, &format!("{NAMESPACES}?limit=0")).await["namespaces"], json!([]));
    assert_eq!(refused(&cloud, "GET", &format!("{NAMESPACES}?marker=x"), Value::Null).await.0, 404);
    assert_eq!(refused(&cloud, "GET", &format!("{NAMESPACES}?colour=red"), Value::Null).await.0, 400);
}

#[tokio::test]
async fn there_is_an_end_to_everything() {
    let cloud = Harness::new().await;
    make(&cloud, json!({"namespace": "n"})).await;
    let many = |count: usize| (0..count).map(|i| json!({"name": format!("t{i}")})).collect::<Vec<_>>();
    let most = MetadefNamespace::MOST_WITHIN;
    cloud.ok("POST", &at("n/tags"), &cloud.admin, json!({"tags": many(most)})).await;
    let (status, said) = refused(&cloud, "POST", &at("n/tags/more"), Value::Null).await;
    assert!(status == 413 && said.contains("tags. Attempted: 513, Maximum: 512"), "{status} {said}");
    let long = json!({"title": "t", "type": "string", "enum": ["x".repeat(MetadefNamespace::LARGEST)]});
    for (path, body) in [
        (NAMESPACES.to_owned(), json!({"namespace": "large", "properties": {"p": long}})),
        (at("n/objects"), json!({"name": "large", "properties": {"p": long}})),
    ] {
        let (status, said) = refused(&cloud, "POST", &path, body).await;
        assert!(status == 413 && said.contains("bytes in one namespace"), "{path}: {status} {said}");
    }
    let taken = 1;
    for i in taken..MetadefNamespace::MOST {
        make(&cloud, json!({"namespace": format!("n{i}")})).await;
    }
    let (status, said) = refused(&cloud, "POST", NAMESPACES, json!({"namespace": "more"})).await;
    assert!(status == 413 && said.contains("the most there may be"), "{status} {said}");
    cloud.ok("DELETE", &at("n7"), &cloud.admin, Value::Null).await;
    make(&cloud, json!({"namespace": "more"})).await;
}

#[tokio::test]
async fn schemas() {
    let cloud = Harness::new().await;
    for (path, name) in [
        ("namespace", "namespace"),
        ("namespaces", "namespaces"),
        ("object", "object"),
        ("objects", "objects"),
        ("property", "property"),
        ("properties", "properties"),
        ("tag", "tag"),
        ("tags", "tags"),
        ("resource_type", "resource_type_association"),
        ("resource_types", "resource_type_associations"),
    ] {
        let schema = cloud.ok("GET", &format!("/image/v2/schemas/metadefs/{path}"), &cloud.demo, Value::Null).await.2;
        assert_eq!(schema["name"], name, "{path}");
        assert!(schema["properties"].is_object(), "{path}");
    }
    assert_eq!(cloud.call("GET", "/image/v2/schemas/metadefs/odd", &cloud.demo, Value::Null).await.0, 404);
}
