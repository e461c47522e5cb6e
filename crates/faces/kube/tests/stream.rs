//! Streams reach the host that the pod's row names, and only that.

mod common;

use common::{World, pod};
use http::Method;
use model::{Change, Host, Time};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn world_with_host(socket: &std::path::Path) -> World {
    let world = World::new().await;
    let host = Host {
        id: "i".into(),
        cpu_milli: 4000,
        memory_mib: 4000,
        disk_gib: 10,
        cores: 4,
        endpoint: format!("unix:{}", socket.display()),
        ..Host::new("h", Time::now())
    };
    world.store.commit(&Change::from(host)).await.unwrap();
    assert_eq!(world.post(PODS, pod("a")).await.0, 201);
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "h"}});
    let (status, body) = world.post(&format!("{PODS}/a/binding"), binding.clone()).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(world.post(&format!("{PODS}/a/binding"), binding).await.0, 409);
    world
}

/// Answers one request with these bytes, then echoes; gives the request's head.
fn host(listener: UnixListener, answer: String) -> tokio::task::JoinHandle<String> {
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        if answer.contains("101") {
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        }
        String::from_utf8(head).unwrap()
    })
}

#[tokio::test]
async fn logs_come_from_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("h");
    let world = world_with_host(&socket).await;
    let task = host(UnixListener::bind(&socket).unwrap(), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".into());
    let request = world.request(Method::GET, &format!("{PODS}/a/log?tailLines=3"), "application/json", &Value::Null);
    let (status, headers, bytes) = world.raw(request).await;
    assert_eq!(
        (status.as_u16(), &bytes[..], &headers["content-type"]),
        (200, &b"hello"[..], &"text/plain".parse().unwrap())
    );
    let uid = world.get(&format!("{PODS}/a")).await.1["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(task.await.unwrap().starts_with(&format!("GET /logs/{}/{uid}/c?tailLines=3 ", world.cluster.id)));
    assert_eq!(world.get(&format!("{PODS}/a/log?container=other")).await.0, 400);
}

#[tokio::test]
async fn exec_is_an_upgrade_to_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("h");
    let world = world_with_host(&socket).await;
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n";
    let task = host(UnixListener::bind(&socket).unwrap(), answer.into());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = world.router.clone();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n",
        world.path(&format!("{PODS}/a/exec?command=ls&stdout=true")),
        world.token
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("v5.channel.k8s.io"), "{head}");
    client.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    client.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
    let seen = task.await.unwrap();
    assert!(seen.contains("/c?command=ls&stdout=true HTTP/1.1") && seen.contains("sec-websocket-key: k"), "{seen}");
    assert!(!seen.contains(&world.token), "the caller's token stays here");
    server.abort();
}
