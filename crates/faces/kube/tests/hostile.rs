//! What one client may hold, and that it does not hold up others.

mod common;

use axum::body::{Body, Bytes};
use common::World;
use http::Method;
use http_body_util::BodyExt;
use model::{Actor, Assignment, Change, KubeObject};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

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
