//! Who sees which image, members, and lists.

mod common;

use common::{Harness, text};
use serde_json::{Value, json};

async fn register(cloud: &Harness, token: &str, body: Value) -> String {
    let (_, _, image) = cloud.ok("POST", "/image/v2/images", token, body).await;
    text(&image["id"]).to_owned()
}

async fn names(cloud: &Harness, token: &str, query: &str) -> Vec<String> {
    let path = format!("/image/v2/images?{query}");
    let (_, _, body) = cloud.ok("GET", &path, token, Value::Null).await;
    let images = body["images"].as_array().unwrap();
    images.iter().map(|image| text(&image["name"]).to_owned()).collect()
}

async fn upload(cloud: &Harness, token: &str, id: &str, bytes: &[u8]) {
    let path = format!("/image/v2/images/{id}/file");
    let answer = cloud.raw("PUT", &path, token, &[("content-type", "application/octet-stream")], bytes.to_vec()).await;
    assert_eq!(answer.0, 204);
}

#[tokio::test]
async fn visibility() {
    let cloud = Harness::new().await;
    let other = cloud.tenant("other", "member").await;
    let mut ids = std::collections::BTreeMap::new();
    for visibility in ["public", "private", "shared", "community"] {
        let token = if visibility == "public" { &cloud.admin } else { &cloud.demo };
        ids.insert(visibility, register(&cloud, token, json!({"name": visibility, "visibility": visibility})).await);
    }
    let show = |visibility: &str| format!("/image/v2/images/{}", ids[visibility]);
    for (visibility, status) in [("public", 200), ("private", 404), ("shared", 404), ("community", 200)] {
        assert_eq!(cloud.call("GET", &show(visibility), &other, Value::Null).await.0, status, "{visibility}");
        let expected = if status == 200 { 403 } else { 404 };
        assert_eq!(cloud.call("DELETE", &show(visibility), &other, Value::Null).await.0, expected, "{visibility}");
        assert_eq!(cloud.call("GET", &show(visibility), &cloud.admin, Value::Null).await.0, 200);
    }
    assert_eq!(names(&cloud, &other, "").await, ["public"]);
    assert_eq!(names(&cloud, &other, "visibility=community").await, ["community"]);
    assert_eq!(names(&cloud, &other, "visibility=all&sort=name:asc").await, ["community", "public"]);
    assert_eq!(names(&cloud, &cloud.demo, "sort=name:asc").await, ["community", "private", "public", "shared"]);
    assert_eq!(names(&cloud, &cloud.admin, "sort=name:asc").await, ["private", "public", "shared"]);

    let reader = cloud.tenant("reader", "reader").await;
    assert_eq!(names(&cloud, &reader, "").await, ["public"]);
    assert_eq!(cloud.call("POST", "/image/v2/images", &reader, json!({"name": "x"})).await.0, 403);
}

#[tokio::test]
async fn sharing_with_members() {
    let cloud = Harness::new().await;
    let (owner, other) = (&cloud.demo, &cloud.tenant("other", "member").await);
    let third = cloud.tenant("third", "member").await;
    let project = cloud.project_of(other).await;
    let id = register(&cloud, owner, json!({"name": "shared"})).await;
    let image = format!("/image/v2/images/{id}");
    let members = format!("{image}/members");
    let member = format!("{members}/{project}");

    assert_eq!(cloud.call("POST", &members, other, json!({"member": project})).await.0, 404);
    let (status, _, body) = cloud.call("POST", &members, owner, json!({"member": project})).await;
    assert_eq!((status, &body["status"], &body["image_id"]), (200, &json!("pending"), &json!(id)));
    assert_eq!(cloud.call("POST", &members, owner, json!({"member": project})).await.0, 409);
    for body in [json!({"member": ""}), json!({}), json!([]), json!({"member": 5})] {
        assert_eq!(cloud.call("POST", &members, owner, body).await.0, 400);
    }
    cloud.ok("POST", &members, owner, json!({"member": "somebody-else"})).await;

    // Pending: seen by its id, not in the list.
    assert_eq!(cloud.call("GET", &image, other, Value::Null).await.0, 200);
    assert!(names(&cloud, other, "").await.is_empty());
    assert_eq!(names(&cloud, other, "member_status=pending").await, ["shared"]);
    assert_eq!(cloud.call("PUT", &member, owner, json!({"status": "accepted"})).await.0, 403);
    assert_eq!(cloud.call("PUT", &member, other, json!({"status": "sure"})).await.0, 400);
    assert_eq!(
        cloud.call("PUT", &format!("{members}/somebody-else"), other, json!({"status": "accepted"})).await.0,
        404
    );
    let (status, _, body) = cloud.call("PUT", &member, other, json!({"status": "accepted"})).await;
    assert_eq!((status, &body["status"]), (200, &json!("accepted")));
    assert_eq!(names(&cloud, other, "").await, ["shared"]);

    // A member sees itself alone and changes nothing of the image.
    let (_, _, seen) = cloud.ok("GET", &members, other, Value::Null).await;
    assert_eq!(seen["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(cloud.ok("GET", &members, owner, Value::Null).await.2["members"].as_array().map(Vec::len), Some(2));
    assert_eq!(cloud.call("GET", &format!("{members}/somebody-else"), other, Value::Null).await.0, 404);
    assert_eq!(cloud.call("DELETE", &image, other, Value::Null).await.0, 403);
    assert_eq!(cloud.call("DELETE", &member, other, Value::Null).await.0, 403);
    assert_eq!(cloud.call("GET", &members, &third, Value::Null).await.0, 404);

    assert_eq!(cloud.call("DELETE", &member, owner, Value::Null).await.0, 204);
    assert_eq!(cloud.call("DELETE", &member, owner, Value::Null).await.0, 404);
    assert_eq!(cloud.call("GET", &image, other, Value::Null).await.0, 404);
    let private = register(&cloud, owner, json!({"name": "private", "visibility": "private"})).await;
    let members = format!("/image/v2/images/{private}/members");
    assert_eq!(cloud.call("GET", &members, owner, Value::Null).await.0, 403);
    assert_eq!(cloud.call("POST", &members, owner, json!({"member": project})).await.0, 403);
}

#[tokio::test]
async fn lists_filter_and_sort() {
    let cloud = Harness::new().await;
    let demo = &cloud.demo;
    for (name, format, size, tags) in
        [("a", "raw", 300, json!(["x", "y"])), ("b,c", "qcow2", 100, json!(["x"])), ("d", "ami", 200, json!([]))]
    {
        let container = if format == "ami" { "ami" } else { "bare" };
        let body = json!({"name": name, "disk_format": format, "container_format": container, "tags": tags,
            "visibility": "private", "kind": format});
        let id = register(&cloud, demo, body).await;
        let mut bytes = vec![if format == "qcow2" { 0 } else { 7 }; size];
        if format == "qcow2" {
            bytes[..16].copy_from_slice(b"QFI\xfb\0\0\0\x02\0\0\0\0\0\0\0\0");
        }
        upload(&cloud, demo, &id, &bytes).await;
    }
    register(&cloud, demo, json!({"name": "queued", "protected": true})).await;
    register(&cloud, demo, json!({"name": "hidden", "os_hidden": true})).await;

    for (query, expected) in [
        ("sort=size:desc", vec!["a", "d", "b,c", "queued"]),
        ("sort_key=size&sort_dir=asc", vec!["queued", "b,c", "d", "a"]),
        ("sort=status:asc,name:desc", vec!["d", "b,c", "a", "queued"]),
        ("", vec!["queued", "d", "b,c", "a"]),
        ("name=a", vec!["a"]),
        ("name=in:a,%22b,c%22&sort=name:asc", vec!["a", "b,c"]),
        ("disk_format=raw", vec!["a"]),
        ("container_format=in:ami,ovf", vec!["d"]),
        ("status=active&sort=name", vec!["d", "b,c", "a"]),
        ("status=queued", vec!["queued"]),
        ("size_min=150&size_max=250", vec!["d"]),
        ("size=100", vec!["b,c"]),
        ("visibility=private&kind=ami", vec!["d"]),
        ("tag=x&tag=y", vec!["a"]),
        ("tag=x&sort=name:asc", vec!["a", "b,c"]),
        ("os_hidden=true", vec!["hidden"]),
        ("protected=true", vec!["queued"]),
        ("owner=nobody", vec![]),
        ("created_at=gt:2000-01-01T00:00:00Z&name=a", vec!["a"]),
        ("created_at=lt:2000-01-01T00:00:00Z", vec![]),
        ("updated_at=gte:2000-01-01T00:00:00&name=d", vec!["d"]),
        ("limit=0", vec![]),
    ] {
        assert_eq!(names(&cloud, demo, query).await, expected, "{query}");
    }
    for query in [
        "limit=x",
        "limit=-1",
        "sort=color",
        "sort=name:up",
        "sort=name&sort_key=name",
        "visibility=odd",
        "member_status=odd",
        "os_hidden=odd",
        "protected=odd",
        "size_min=x",
        "created_at=gt:yesterday",
        "created_at=odd:2000-01-01T00:00:00Z",
        "name=odd:x",
        "name=in:%22a",
        "changes-since=2000-01-01",
        "marker=00000000-0000-4000-8000-000000000000",
    ] {
        assert_eq!(cloud.call("GET", &format!("/image/v2/images?{query}"), demo, Value::Null).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let cloud = Harness::new().await;
    for i in 0..5 {
        register(&cloud, &cloud.demo, json!({"name": format!("image {i}")})).await;
    }
    let mut path = "/v2/images?limit=2&sort=name:asc".to_owned();
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let (_, _, body) = cloud.ok("GET", &format!("/image{path}"), &cloud.demo, Value::Null).await;
        assert_eq!(body["first"], "/v2/images?limit=2&sort=name%3Aasc");
        seen.extend(body["images"].as_array().unwrap().iter().map(|image| text(&image["name"]).to_owned()));
        pages += 1;
        match body["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, ["image 0", "image 1", "image 2", "image 3", "image 4"]);
}
