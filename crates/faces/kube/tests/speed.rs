//! How much CPU a request costs. Run with optimisation: `cargo test --release -p face-kube --test speed -- --ignored --nocapture`.

#![allow(clippy::print_stdout, reason = "what it did is shown when it fails or measures")]

mod common;

use common::{World, pod};
use http::Method;
use serde_json::Value;

#[tokio::test]
#[ignore = "measures"]
async fn cost() {
    let world = World::new().await;
    const N: u32 = 3000;
    world.post("/api/v1/namespaces/default/pods?dryRun=All", pod("warm")).await;
    let snapshot = world.store.snapshot();
    let quota = snapshot.all::<model::Quota>().find(|q| q.project_id == world.cluster.project_id).unwrap();
    let mut change = model::Change::new();
    change.edit(quota, |q| {
        q.limits.insert("cores".into(), None);
        q.limits.insert("ram".into(), None);
    });
    world.store.commit(&change).await.unwrap();
    let start = cpu();
    for i in 0..N {
        assert_eq!(world.post("/api/v1/namespaces/default/pods?dryRun=All", pod(&format!("p{i}"))).await.0, 201);
    }
    println!("create pod, dry run: {:?}", (cpu() - start) / N);
    let start = cpu();
    for i in 0..N {
        assert_eq!(world.post("/api/v1/namespaces/default/pods", pod(&format!("p{i}"))).await.0, 201);
    }
    println!("create pod: {:?}", (cpu() - start) / N);
    let start = cpu();
    for i in 0..N {
        let path = format!("/api/v1/namespaces/default/pods/p{i}");
        let request = world.request(Method::GET, &path, "application/json", &Value::Null);
        assert_eq!(world.raw(request).await.0, 200);
    }
    println!("get pod: {:?}", (cpu() - start) / N);
    let start = cpu();
    let request = world.request(Method::GET, "/api/v1/pods", "application/json", &Value::Null);
    let (_, _, bytes) = world.raw(request).await;
    println!("list {N} pods, {} bytes: {:?}", bytes.len(), cpu() - start);
    let start = cpu();
    for i in 0..N {
        let body = serde_json::json!({"metadata": {"name": format!("m{i}")}, "data": {"a": "b"}});
        assert_eq!(world.post("/api/v1/namespaces/default/configmaps", body).await.0, 201);
    }
    println!("create config map: {:?}", (cpu() - start) / N);
    let start = cpu();
    for _ in 0..N {
        world.gate.inspect_bearer(&world.token, &world.cluster.id).await.unwrap();
    }
    println!("gate, known token: {:?}", (cpu() - start) / N);
}

/// The time that this thread has had on a processor.
fn cpu() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
