//! Interoperable import as a client meets it. Who fetches is not here, so what it would write is written by the test.

mod common;

use common::{Harness, text};
use face_openstack::image::{blobs_of, imports};
use model::{Image, Object};
use serde_json::{Value, json};

async fn new_image(cloud: &Harness, more: Value) -> String {
    let mut body = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (_, headers, answer) = cloud.ok("POST", "/image/v2/images", &cloud.demo, body).await;
    assert_eq!(headers["openstack-image-import-methods"], "glance-direct,web-download");
    text(&answer["id"]).to_owned()
}

async fn send(cloud: &Harness, id: &str, what: &str, bytes: &[u8]) -> u16 {
    let headers = [("content-type", "application/octet-stream")];
    cloud.raw("PUT", &format!("/image/v2/images/{id}/{what}"), &cloud.demo, &headers, bytes.to_vec()).await.0
}

async fn import(cloud: &Harness, id: &str, body: Value) -> (u16, String) {
    let (status, _, answer) = cloud.call("POST", &format!("/image/v2/images/{id}/import"), &cloud.demo, body).await;
    (status, answer.to_string())
}

async fn show(cloud: &Harness, id: &str) -> Value {
    cloud.ok("GET", &format!("/image/v2/images/{id}"), &cloud.demo, Value::Null).await.2
}

async fn tasks(cloud: &Harness, id: &str) -> Value {
    let path = format!("/image/v2/images/{id}/tasks");
    cloud.ok("GET", &path, &cloud.demo, Value::Null).await.2["tasks"].clone()
}

fn web(uri: &str) -> Value {
    json!({"method": {"name": "web-download", "uri": uri}})
}

#[tokio::test]
async fn what_was_staged_becomes_the_images() {
    let cloud = Harness::new().await;
    let (_, _, info) = cloud.ok("GET", "/image/v2/info/import", &cloud.demo, Value::Null).await;
    assert_eq!(info["import-methods"]["value"], json!(["glance-direct", "web-download"]));
    let id = new_image(&cloud, json!({})).await;
    let direct = json!({"method": {"name": "glance-direct"}, "stores": ["blobs"], "all_stores_must_succeed": true});
    assert_eq!(import(&cloud, &id, direct.clone()).await.0, 409, "nothing is staged");
    assert_eq!(send(&cloud, &id, "stage", b"bytes").await, 204);
    assert_eq!(send(&cloud, &id, "stage", b"other").await, 409);
    assert_eq!(send(&cloud, &id, "file", b"other").await, 409);
    let shown = show(&cloud, &id).await;
    assert_eq!((text(&shown["status"]), &shown["size"], &shown["stores"]), ("uploading", &Value::Null, &Value::Null));
    let row = |id: &str| Object::from(cloud.cloud.store.snapshot().get::<Image>(id).unwrap().value.clone());
    assert_eq!(blobs_of(&row(&id)), [blob::sha256(b"bytes")], "no sweep takes them meanwhile");
    assert_eq!(import(&cloud, &id, web("http://example.org/")).await.0, 409);
    assert_eq!(import(&cloud, &id, direct).await.0, 202);
    let shown = show(&cloud, &id).await;
    assert_eq!((text(&shown["status"]), shown["size"].as_u64(), text(&shown["stores"])), ("active", Some(5), "blobs"));
    assert_eq!(shown["checksum"], "4b3a6218bb3e3a7303e8a171a60fcf92");
    let tasks = tasks(&cloud, &id).await;
    assert_eq!((tasks[0]["status"].as_str(), &tasks[0]["image_id"]), (Some("success"), &json!(id)));
    assert_eq!(tasks[0]["input"]["import_req"], json!({"method": {"name": "glance-direct"}}));
    // Who may use the image learns nothing of how it came, such as a URI that has a secret in it.
    let path = format!("/image/v2/images/{id}");
    let patch = br#"[{"op": "replace", "path": "/visibility", "value": "community"}]"#;
    let kind = [("content-type", "application/openstack-images-v2.1-json-patch")];
    assert_eq!(cloud.raw("PATCH", &path, &cloud.demo, &kind, patch.to_vec()).await.0, 200);
    let stranger = cloud.tenant("stranger", "member").await;
    for (token, count) in [(&stranger, 0), (&cloud.demo, 1), (&cloud.admin, 1)] {
        let (_, _, told) = cloud.ok("GET", &format!("{path}/tasks"), token, Value::Null).await;
        assert_eq!(told["tasks"].as_array().map(Vec::len), Some(count));
    }

    // What is staged is looked at as what is uploaded.
    let id = new_image(&cloud, json!({"disk_format": "qcow2"})).await;
    assert_eq!(send(&cloud, &id, "stage", b"no qcow2").await, 415);
    assert_eq!(show(&cloud, &id).await["status"], "queued");
}

#[tokio::test]
async fn what_lies_at_a_uri_is_fetched_by_others() {
    let cloud = Harness::new().await;
    let id = new_image(&cloud, json!({})).await;
    for (body, words) in [
        (json!({}), "requires a 'method' field"),
        (json!({"method": {}}), "requires a 'name' field"),
        (json!({"method": {"name": "copy-image"}}), "Unknown import method name 'copy-image'"),
        (json!({"method": {"name": "web-download"}}), "URI is required"),
        (json!({"method": {"name": "glance-direct", "uri": "http://a/"}}), "takes no 'uri'"),
        (json!({"method": {"name": "glance-direct"}, "wishes": 1}), "has no field 'wishes'"),
        (json!({"method": {"name": "glance-direct"}, "all_stores": 1}), "must be boolean"),
        (web("ftp://example.org/"), "does not pass filtering"),
        (web("http://example.org:22/"), "port 22"),
        (web("http://u:p@example.org/"), "names a user"),
        (web("http://2130706433/"), "a form that is not taken"),
    ] {
        let (status, answer) = import(&cloud, &id, body.clone()).await;
        assert!(status == 400 && answer.contains(words), "{body}: {status} {answer}");
    }
    let (status, _) = import(&cloud, &id, json!({"method": {"name": "glance-direct"}, "stores": ["other"]})).await;
    assert_eq!(status, 409);
    assert_eq!(import(&cloud, &id, web("http://example.org/disk")).await.0, 202);
    let shown = show(&cloud, &id).await;
    assert_eq!((text(&shown["status"]), text(&shown["os_glance_importing_to_stores"])), ("importing", "blobs"));
    assert_eq!(import(&cloud, &id, web("http://example.org/disk")).await.0, 409);
    assert_eq!(send(&cloud, &id, "file", b"bytes").await, 409);

    // It fails, and then does not.
    let task = text(&shown["os_glance_import_task"]).to_owned();
    let (store, now) = (&cloud.cloud.store, model::Time::now());
    imports::started(store, &task, now).await.unwrap();
    assert_eq!(tasks(&cloud, &id).await[0]["status"], "processing");
    imports::ended(store, &id, &task, Err("no".into()), now).await.unwrap();
    let shown = show(&cloud, &id).await;
    assert_eq!((text(&shown["status"]), text(&shown["os_glance_failed_import"])), ("queued", "blobs"));
    assert_eq!(tasks(&cloud, &id).await[0]["message"], "no");
    assert_eq!(import(&cloud, &id, web("http://example.org/disk")).await.0, 202);
    let task = text(&show(&cloud, &id).await["os_glance_import_task"]).to_owned();
    let body = axum::body::Body::from("bytes");
    let fetched = face_openstack::image::data::receive(&cloud.cloud.blobs, 9, body).await.unwrap();
    imports::ended(store, &id, "another", Ok(fetched.clone()), now).await.unwrap();
    assert_eq!(show(&cloud, &id).await["status"], "importing", "that of another import is not taken");
    imports::ended(store, &id, &task, Ok(fetched), now).await.unwrap();
    let shown = show(&cloud, &id).await;
    assert_eq!((text(&shown["status"]), &shown["os_glance_failed_import"]), ("active", &Value::Null));

    // An administrator sees them all, newest first.
    let (_, _, all) = cloud.ok("GET", "/image/v2/tasks?limit=1&status=success", &cloud.admin, Value::Null).await;
    assert_eq!((&all["tasks"][0]["id"], &all["tasks"][0]["input"]), (&json!(task), &Value::Null));
    let (_, _, one) = cloud.ok("GET", &format!("/image/v2/tasks/{task}"), &cloud.admin, Value::Null).await;
    assert_eq!(one["result"], json!({"image_id": id}));
    let (status, ..) = cloud.call("GET", "/image/v2/tasks", &cloud.demo, Value::Null).await;
    assert_eq!(status, 403);
    let later = now.checked_add(jiff::SignedDuration::from_hours(49)).unwrap();
    imports::forget(store, later).await.unwrap();
    assert_eq!(tasks(&cloud, &id).await, json!([]));
}

#[tokio::test]
async fn a_project_imports_few_at_a_time_and_within_its_limits() {
    let cloud = Harness::new().await;
    let path = format!("/network/v2.0/quotas/{}", cloud.demo_project);
    let quota = json!({"quota": {"image_size_total": 1, "image_count_uploading": 1}});
    cloud.ok("PUT", &path, &cloud.admin, quota).await;
    let (first, second) = (new_image(&cloud, json!({})).await, new_image(&cloud, json!({})).await);
    assert_eq!(imports::room(&cloud.cloud.store.snapshot(), &cloud.demo_project), 1 << 20);
    assert_eq!(import(&cloud, &first, web("http://example.org/")).await.0, 202);
    let (status, answer) = import(&cloud, &second, web("http://example.org/")).await;
    assert!(status == 413 && answer.contains("image_count_uploading"), "{status} {answer}");
    let task = text(&show(&cloud, &first).await["os_glance_import_task"]).to_owned();
    let body = axum::body::Body::from(vec![0; (1 << 20) + 1]);
    let fetched = face_openstack::image::data::receive(&cloud.cloud.blobs, 2 << 20, body).await.unwrap();
    imports::ended(&cloud.cloud.store, &first, &task, Ok(fetched), model::Time::now()).await.unwrap();
    assert_eq!(show(&cloud, &first).await["status"], "queued");
    let message = tasks(&cloud, &first).await[0]["message"].to_string();
    assert!(message.contains("image_size_total"), "{message}");
    // What is staged counts, though it is no image yet.
    assert_eq!(send(&cloud, &second, "stage", &[0; 1 << 20]).await, 204);
    assert_eq!(imports::room(&cloud.cloud.store.snapshot(), &cloud.demo_project), 0);
    assert_eq!(send(&cloud, &first, "file", b"x").await, 413);
}
