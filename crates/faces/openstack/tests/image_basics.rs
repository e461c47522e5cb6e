//! Images from registering to deletion, and their bytes.

mod common;

use common::{Harness, text};
use face_openstack::dispatch::Face;
use face_openstack::{Cloud, SERVICES};
use serde_json::{Value, json};

const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");
const PATCH: (&str, &str) = ("content-type", "application/openstack-images-v2.1-json-patch");
const OLD_PATCH: (&str, &str) = ("content-type", "application/openstack-images-v2.0-json-patch");

fn raw(name: &str) -> Value {
    json!({"name": name, "disk_format": "raw", "container_format": "bare"})
}

async fn register(cloud: &Harness, token: &str, body: Value) -> Value {
    cloud.ok("POST", "/image/v2/images", token, body).await.2
}

async fn patch(cloud: &Harness, token: &str, id: &Value, body: Value) -> (u16, Value) {
    let path = format!("/image/v2/images/{}", text(id));
    let answer = cloud.raw("PATCH", &path, token, &[PATCH], body.to_string().into_bytes()).await;
    (answer.0, serde_json::from_slice(&answer.2).unwrap_or(Value::Null))
}

async fn put(cloud: &Harness, token: &str, id: &Value, bytes: &[u8]) -> u16 {
    let path = format!("/image/v2/images/{}/file", text(id));
    cloud.raw("PUT", &path, token, &[OCTETS], bytes.to_vec()).await.0
}

#[tokio::test]
async fn versions_are_public() {
    let cloud = Harness::new().await;
    let (status, _, body) = cloud.call("GET", "/image/", "", Value::Null).await;
    assert_eq!(status, 300);
    assert_eq!(body["versions"][0]["status"], "CURRENT");
    assert_eq!(body["versions"][0]["links"][0]["href"], "https://127.0.0.1:8443/image/v2/");
    assert_eq!(cloud.call("GET", "/image/versions", "", Value::Null).await.0, 200);
    assert_eq!(cloud.call("GET", "/image/v2/images", "", Value::Null).await.0, 401);
}

#[tokio::test]
async fn an_image_from_registering_to_deletion() {
    let cloud = Harness::new().await;
    let demo = &cloud.demo;
    let mut body = raw("first");
    body["ramdisk_id"] = json!("00000000-1111-2222-3333-444455556666");
    body["visibility"] = json!("private");
    body["tags"] = json!(["a", "a", "b"]);
    let (status, headers, image) = cloud.call("POST", "/image/v2/images", demo, body).await;
    assert_eq!(status, 201, "{image}");
    let path = format!("/image/v2/images/{}", text(&image["id"]));
    assert_eq!(headers["location"], format!("https://127.0.0.1:8443{path}"));
    assert_eq!(image["status"], "queued");
    assert_eq!(image["owner"], json!(cloud.demo_project));
    assert_eq!(image["tags"], json!(["a", "b"]));
    assert_eq!(image["size"], Value::Null);

    let file = format!("{path}/file");
    let (status, _, bytes) = cloud.raw("GET", &file, demo, &[], vec![]).await;
    assert_eq!((status, bytes.len()), (204, 0));

    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(put(&cloud, demo, &image["id"], &bytes).await, 204);
    assert_eq!(put(&cloud, demo, &image["id"], b"again").await, 409);
    let (_, _, shown) = cloud.ok("GET", &path, demo, Value::Null).await;
    assert_eq!(shown["status"], "active");
    assert_eq!((&shown["size"], &shown["virtual_size"]), (&json!(3_000_000), &json!(3_000_000)));
    assert_eq!(shown["ramdisk_id"], "00000000-1111-2222-3333-444455556666");
    assert_eq!(shown["os_hash_algo"], "sha512");
    assert_eq!(text(&shown["os_hash_value"]).len(), 128);

    let (status, headers, got) = cloud.raw("GET", &file, demo, &[], vec![]).await;
    assert_eq!(status, 200);
    assert!(got == bytes);
    assert_eq!(headers["content-length"], "3000000");
    assert_eq!(headers["content-md5"], text(&shown["checksum"]));
    let (status, headers, got) = cloud.raw("GET", &file, demo, &[("range", "bytes=10-19")], vec![]).await;
    assert_eq!((status, &got[..]), (206, &bytes[10..20]));
    assert_eq!(headers["content-range"], "bytes 10-19/3000000");
    assert_eq!(cloud.raw("GET", &file, demo, &[("range", "bytes=3000000-")], vec![]).await.0, 416);

    let snapshot = cloud.cloud.store.snapshot();
    let needed = face_openstack::image::needed_blobs(&snapshot);
    assert!(needed.iter().any(|blob| cloud.cloud.blobs.size(blob) == Some(3_000_000)));

    for (action, status) in [("deactivate", "deactivated"), ("reactivate", "active")] {
        cloud.ok("POST", &format!("{path}/actions/{action}"), demo, Value::Null).await;
        assert_eq!(cloud.ok("GET", &path, demo, Value::Null).await.2["status"], status);
        let expected = if status == "active" { 200 } else { 403 };
        assert_eq!(cloud.raw("GET", &file, demo, &[], vec![]).await.0, expected);
    }

    let (status, answer) =
        patch(&cloud, demo, &image["id"], json!([{"op": "replace", "path": "/protected", "value": true}])).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(cloud.call("DELETE", &path, demo, Value::Null).await.0, 403);
    patch(&cloud, demo, &image["id"], json!([{"op": "replace", "path": "/protected", "value": false}])).await;
    assert_eq!(cloud.call("DELETE", &path, demo, Value::Null).await.0, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(cloud.call(method, &path, demo, Value::Null).await.0, 404);
        assert_eq!(cloud.call(method, "/image/v2/images/", demo, Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn what_cannot_be_registered() {
    let cloud = Harness::new().await;
    let demo = &cloud.demo;
    for (body, expected) in [
        (json!({"disk_format": "wrong", "container_format": "bare"}), 400),
        (json!({"disk_format": "vhd", "container_format": "wrong"}), 400),
        (json!({"name": "x".repeat(256)}), 400),
        (json!({"id": "not-a-uuid"}), 400),
        (json!({"min_disk": -1}), 400),
        (json!({"min_ram": "1"}), 400),
        (json!({"min_ram": 1u64 << 40}), 400),
        (json!({"protected": "yes"}), 400),
        (json!({"visibility": "secret"}), 400),
        (json!({"property": 5}), 400),
        (json!({"tags": ["x".repeat(256)]}), 400),
        (json!({"tags": (0..129).map(|i| i.to_string()).collect::<Vec<_>>()}), 413),
        (json!({"visibility": "public"}), 403),
        (json!({"owner": cloud.admin_project}), 403),
        (json!({"owner": null}), 403),
        (json!({"status": "active"}), 403),
        (json!({"self": "x"}), 403),
        (json!({"os_glance_foo": "bar"}), 403),
        (json!({"locations": []}), 403),
        (json!(["name"]), 400),
        (Value::Null, 400),
    ] {
        let sent = body.to_string();
        let (status, _, answer) = cloud.call("POST", "/image/v2/images", demo, body).await;
        assert_eq!(status, expected, "{sent}: {answer}");
    }
    let id = "11111111-2222-4333-8444-555555555555";
    register(&cloud, demo, json!({"id": id})).await;
    for token in [demo, &cloud.admin] {
        assert_eq!(cloud.call("POST", "/image/v2/images", token, json!({"id": id})).await.0, 409);
    }
    assert_eq!(put(&cloud, demo, &json!(id), b"bytes").await, 400, "without formats");
}

#[tokio::test]
async fn changes_by_patch() {
    let cloud = Harness::new().await;
    let demo = &cloud.demo;
    let image = register(&cloud, demo, raw("before")).await;
    let id = &image["id"];
    let path = format!("/image/v2/images/{}", text(id));
    let change = json!([
        {"op": "replace", "path": "/name", "value": "after"},
        {"op": "add", "path": "/color", "value": "red"},
        {"op": "add", "path": "/a~1b", "value": "slash"},
        {"op": "replace", "path": "/color", "value": "blue"},
        {"op": "replace", "path": "/tags", "value": ["x"]},
        {"op": "replace", "path": "/disk_format", "value": "qcow2"},
        {"op": "remove", "path": "/a~1b"},
    ]);
    let (status, image) = patch(&cloud, demo, id, change).await;
    assert_eq!(status, 200, "{image}");
    assert_eq!((&image["name"], &image["color"], &image["tags"]), (&json!("after"), &json!("blue"), &json!(["x"])));
    assert_eq!((&image["disk_format"], &image["a/b"]), (&json!("qcow2"), &Value::Null));

    for (change, expected) in [
        (json!([{"op": "replace", "path": "/absent", "value": "x"}]), 409),
        (json!([{"op": "remove", "path": "/absent"}]), 409),
        (json!([{"op": "remove", "path": "/name"}]), 403),
        (json!([{"op": "replace", "path": "/status", "value": "active"}]), 403),
        (json!([{"op": "replace", "path": "/id", "value": "x"}]), 403),
        (json!([{"op": "replace", "path": "/owner", "value": "x"}]), 403),
        (json!([{"op": "replace", "path": "/visibility", "value": "public"}]), 403),
        (json!([{"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/shadow", "metadata": {}}}]), 403),
        (json!([{"op": "add", "path": "/color", "value": null}]), 400),
        (json!({"op": "add"}), 400),
        (json!(["x"]), 400),
    ] {
        let (status, answer) = patch(&cloud, demo, id, change.clone()).await;
        assert_eq!(status, expected, "{change}: {answer}");
    }
    let json_type = ("content-type", "application/json");
    assert_eq!(cloud.raw("PATCH", &path, demo, &[json_type], b"[]".to_vec()).await.0, 415);
    let old = json!([{"replace": "/name", "value": "older"}]).to_string().into_bytes();
    assert_eq!(cloud.raw("PATCH", &path, demo, &[OLD_PATCH], old).await.0, 200);
    let old = json!([{"add": "/color", "value": "there"}]).to_string().into_bytes();
    assert_eq!(cloud.raw("PATCH", &path, demo, &[OLD_PATCH], old).await.0, 409);

    let mut bytes = [0; 72];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    assert_eq!(put(&cloud, demo, id, &bytes).await, 204);
    let change = json!([{"op": "replace", "path": "/disk_format", "value": "raw"}]);
    assert_eq!(patch(&cloud, demo, id, change).await.0, 403, "only of queued images");

    // An administrator gives the image away; it stays one image.
    let change = json!([{"op": "replace", "path": "/owner", "value": cloud.admin_project}]);
    assert_eq!(patch(&cloud, &cloud.admin, id, change).await.0, 200);
    let (_, _, image) = cloud.ok("GET", &path, &cloud.admin, Value::Null).await;
    assert_eq!((&image["owner"], &image["name"]), (&json!(cloud.admin_project), &json!("older")));
    assert_eq!(cloud.call("GET", &path, demo, Value::Null).await.0, 404);
}

#[tokio::test]
async fn uploads_that_are_refused_leave_the_image_as_it_was() {
    let cloud = Harness::new().await;
    let demo = &cloud.demo;
    let image = register(&cloud, demo, json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    let path = format!("/image/v2/images/{}/file", text(&image["id"]));
    let mut leaky = vec![0u8; 512];
    leaky[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    leaky[15] = 104;
    assert_eq!(put(&cloud, demo, &image["id"], &leaky).await, 415, "it names a backing file");
    let short = [OCTETS, ("x-openstack-image-size", "10")];
    assert_eq!(cloud.raw("PUT", &path, demo, &short, b"short".to_vec()).await.0, 400);
    let huge = [OCTETS, ("x-openstack-image-size", "999999999999999")];
    assert_eq!(cloud.raw("PUT", &path, demo, &huge, b"short".to_vec()).await.0, 413);
    assert_eq!(cloud.raw("PUT", &path, demo, &[("content-type", "text/plain")], vec![]).await.0, 415);
    let failing = futures_util::stream::iter([Ok("some"), Err(std::io::Error::other("the client went away"))]);
    let request = http::Request::put(&path).header("x-auth-token", demo).header(OCTETS.0, OCTETS.1);
    let request = request.body(axum::body::Body::from_stream(failing)).unwrap();
    assert_eq!(cloud.face.clone().dispatch(request).await.status(), 400);

    let (_, _, shown) = cloud.ok("GET", path.trim_end_matches("/file"), demo, Value::Null).await;
    assert_eq!(shown["status"], "queued");
    assert_eq!(put(&cloud, demo, &image["id"], b"of another kind").await, 415, "it is not qcow2");
    leaky[15] = 0;
    let plain = register(&cloud, demo, json!({"disk_format": "raw", "container_format": "bare"})).await;
    assert_eq!(put(&cloud, demo, &plain["id"], &leaky).await, 415, "it is qcow2");
    leaky[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    assert_eq!(put(&cloud, demo, &image["id"], &leaky).await, 204);
    let (_, _, shown) = cloud.ok("GET", path.trim_end_matches("/file"), demo, Value::Null).await;
    assert_eq!((&shown["size"], &shown["virtual_size"]), (&json!(512), &json!(1u64 << 30)));
}

#[tokio::test]
async fn tags_stores_and_schemas() {
    let cloud = Harness::new().await;
    let demo = &cloud.demo;
    let image = register(&cloud, demo, raw("tagged")).await;
    let path = format!("/image/v2/images/{}", text(&image["id"]));
    let tag = format!("{path}/tags/mine");
    assert_eq!(cloud.call("PUT", &tag, demo, Value::Null).await.0, 204);
    assert_eq!(cloud.ok("GET", &path, demo, Value::Null).await.2["tags"], json!(["mine"]));
    assert_eq!(cloud.call("DELETE", &tag, demo, Value::Null).await.0, 204);
    assert_eq!(cloud.call("DELETE", &tag, demo, Value::Null).await.0, 404);
    assert_eq!(cloud.call("PUT", &format!("{path}/tags/{}", "x".repeat(256)), demo, Value::Null).await.0, 400);
    let absent = format!("/image/v2/images/{}/tags/x", uuid::Uuid::new_v4());
    assert_eq!(cloud.call("PUT", &absent, demo, Value::Null).await.0, 404);

    let (_, _, stores) = cloud.ok("GET", "/image/v2/info/stores", demo, Value::Null).await;
    assert_eq!((stores["stores"].as_array().unwrap().len(), text(&stores["stores"][0]["id"])), (1, "blobs"));
    for name in ["image", "images", "member", "members", "task", "tasks"] {
        let (_, _, schema) = cloud.ok("GET", &format!("/image/v2/schemas/{name}"), demo, Value::Null).await;
        assert_eq!(schema["name"], name);
    }
    assert_eq!(cloud.call("GET", "/image/v2/schemas/other", demo, Value::Null).await.0, 404);
}

#[tokio::test]
async fn errors_come_as_the_request_accepts_them() {
    let cloud = Harness::new().await;
    let id = uuid::Uuid::new_v4();
    let path = format!("/image/v2/images/{id}");
    let (_, headers, body) =
        cloud.call_with("GET", &path, &cloud.demo, &[("accept", "application/json")], Value::Null).await;
    assert_eq!(headers["content-type"], "application/json");
    let message = format!("No image found with ID {id}<br /><br />\n\n\n");
    assert_eq!(body, json!({"message": message, "code": "404 Not Found", "title": "Not Found"}));
    let (_, headers, body) = cloud.call("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(headers["content-type"], "text/html; charset=UTF-8");
    assert!(text(&body).contains("<h1>404 Not Found</h1>"), "{body}");
}

#[tokio::test]
async fn bytes_of_images_count_towards_the_projects_limit() {
    let cloud = Harness::new().await;
    let quota = json!({"quota": {"image_size_total": 1, "image_count_total": 2}});
    cloud.ok("PUT", &format!("/network/v2.0/quotas/{}", cloud.demo_project), &cloud.admin, quota).await;
    let new = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let (_, _, image) = cloud.ok("POST", "/image/v2/images", &cloud.demo, new.clone()).await;
    let file = format!("/image/v2/images/{}/file", common::text(&image["id"]));
    let octets = [("content-type", "application/octet-stream")];
    let (status, _, why) = cloud.raw("PUT", &file, &cloud.demo, &octets, vec![7; (1 << 20) + 1]).await;
    assert_eq!(status, 413, "{}", String::from_utf8_lossy(&why));
    let (_, _, shown) =
        cloud.ok("GET", &format!("/image/v2/images/{}", common::text(&image["id"])), &cloud.demo, Value::Null).await;
    assert_eq!((&shown["status"], &shown["size"]), (&json!("queued"), &Value::Null), "nothing is left of it");
    assert_eq!(cloud.raw("PUT", &file, &cloud.demo, &octets, vec![7; 1 << 20]).await.0, 204);
    cloud.ok("POST", "/image/v2/images", &cloud.demo, new.clone()).await;
    assert_eq!(cloud.call("POST", "/image/v2/images", &cloud.demo, new).await.0, 413);
}

#[tokio::test]
async fn bytes_are_refused_before_the_disk_is_short() {
    let mut cloud = Harness::new().await;
    let image = register(&cloud, &cloud.demo, raw("large")).await;
    let path = format!("/image/v2/images/{}/file", text(&image["id"]));
    let words = "There is not enough disk space on the image storage media.";
    let refused = async |cloud: &Harness, headers: &[(&str, &str)]| {
        let (status, _, answer) = cloud.raw("PUT", &path, &cloud.demo, headers, b"bytes".to_vec()).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(status == 413 && answer.contains(words), "{status} {answer}");
    };
    // As large as an image may be, and larger than what the disk has.
    let room = blob::room::room(&std::env::temp_dir()).unwrap();
    let size = room.disk.available.min(1 << 40).to_string();
    refused(&cloud, &[OCTETS, ("x-openstack-image-size", &size)]).await;
    let blobs = cloud.cloud.blobs.clone();
    let nearly_full = Cloud { blobs: blobs.clone().keeping(room.disk.available), ..cloud.cloud.clone() };
    cloud.face = std::sync::Arc::new(Face::new(nearly_full, SERVICES));
    refused(&cloud, &[OCTETS]).await;
    cloud.face = std::sync::Arc::new(Face::new(cloud.cloud.clone(), SERVICES));
    let (status, ..) = cloud.raw("PUT", &path, &cloud.demo, &[OCTETS], b"bytes".to_vec()).await;
    assert_eq!(status, 204);
}
