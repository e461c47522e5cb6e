//! That objects are not written as JSON again for everybody who looks at them: counted, since times differ.

mod common;

use std::time::Duration;

use axum::body::Body;
use common::{World, pod};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// The next so many events of a watch.
async fn events(watch: &mut Body, count: usize) -> Vec<Value> {
    let mut text = String::new();
    while text.lines().count() < count || !text.ends_with('\n') {
        let frame = tokio::time::timeout(Duration::from_secs(20), watch.frame()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test]
async fn what_many_look_at_is_written_once() {
    let mut face = None;
    let world = World::with(|kube| face.insert(kube).clone()).await;
    let written = || face.as_ref().unwrap().objects_written();
    for n in 0..20 {
        assert_eq!(world.post(PODS, pod(&format!("p{n}"))).await.0, 201);
    }
    let (_, list) = world.get(PODS).await;
    let items = list["items"].as_array().unwrap();
    assert_eq!((written(), items.len(), world.get("/api/v1/pods?limit=5").await.0), (20, 20, 200));
    assert_eq!(world.get(PODS).await.1, list);
    let name = items[7]["metadata"]["name"].as_str().unwrap();
    assert_eq!(world.get(&format!("{PODS}/{name}")).await.1, items[7]);
    let mut watches = Vec::new();
    for _ in 0..10 {
        let request = world.request(Method::GET, &format!("{PODS}?watch=true"), "application/json", &Value::Null);
        let mut watch = world.router.clone().oneshot(request).await.unwrap().into_body();
        let added: Vec<Value> = items.iter().map(|item| json!({"type": "ADDED", "object": item})).collect();
        assert_eq!(events(&mut watch, 20).await, added);
        watches.push(watch);
    }
    assert_eq!(written(), 20, "neither the second list nor any watch writes them again");
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    let (_, changed) = world.patch(&format!("{PODS}/p7"), "application/merge-patch+json", labels).await;
    for watch in &mut watches {
        assert_eq!(events(watch, 1).await, [json!({"type": "MODIFIED", "object": changed})]);
    }
    assert_eq!(written(), 21, "an event is written once for all that watch");
    let shown = async |form: &str| {
        let mut request = world.request(Method::GET, PODS, "application/json", &Value::Null);
        request
            .headers_mut()
            .insert("accept", format!("application/json;as={form};v=v1;g=meta.k8s.io").parse().unwrap());
        serde_json::from_slice::<Value>(&world.raw(request).await.2).unwrap()
    };
    let (metadata, rows) = (shown("PartialObjectMetadataList").await, shown("Table").await);
    assert_eq!(written(), 41, "the table has the metadata that was written for the list");
    assert_eq!(shown("PartialObjectMetadataList").await, metadata);
    for (row, item) in rows["rows"].as_array().unwrap().iter().zip(metadata["items"].as_array().unwrap()) {
        assert_eq!((&row["object"], &row["cells"][0]), (item, &item["metadata"]["name"]));
    }
    assert_eq!((written(), rows["rows"].as_array().map(Vec::len)), (41, Some(20)));
}
