//! Two processes on one etcd, over TLS: one cloud with two hosts and two places to ask, of which one plans.

use std::io::{BufRead, BufReader};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cloud::{Braid, eventually};
use crate::server::Server;

#[tokio::test]
async fn two_processes_are_one_cloud() {
    let root = tempfile::tempdir().unwrap();
    let (etcd, tls) = Server::start_tls(&[]).await;
    let url = etcd.url();
    let file = |name: &str| tls.path(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let store = ["--store", &url, "--store-ca", &ca, "--store-cert", &certificate, "--store-key", &key];

    // Both make the cloud; one of them wins.
    let mut processes = ["a", "b"].map(|name| Braid::start(root.path(), name, &store));
    processes.iter_mut().for_each(Braid::ready);
    if !processes[0].password().exists() {
        processes.swap(0, 1);
    }
    let [mut one, mut two] = processes;
    assert!(!two.password().exists(), "who joined does not know the password");
    let (done, _, told) = two.command(&["env"]);
    assert!(!done && told.contains("joined a cloud"), "{told}");
    two.take_passwords(&one);
    assert_eq!(std::fs::read(one.dir.join("ca.pem")).unwrap(), std::fs::read(two.dir.join("ca.pem")).unwrap());

    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_braid"))
        .args(["up", "--sim", "--listen=127.0.0.1:0", "--host-name=a", "--dir"])
        .arg(root.path().join("c"))
        .args(store)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("served by another process"), "{told}");

    // A token of one is good at the other; what one takes the other shows, and consistent reads at once.
    let token = one.token();
    for (writer, reader, name) in [(&one, &two, "from-one"), (&two, &one, "from-two")] {
        let made = writer.config_map(&token, name);
        let (status, seen) = reader.get(&token, &reader.kube(&format!("configmaps/{name}")));
        assert_eq!((status, &seen["metadata"]["uid"]), (200, &made["metadata"]["uid"]));
        let body = json!({"network": {"name": name}});
        assert_eq!(writer.post(&token, "/network/v2.0/networks", &body).0, 201);
        eventually("the other shows the network", || {
            let (_, found) = reader.get(&token, &format!("/network/v2.0/networks?name={name}"));
            (found["networks"].as_array()?.len() == 1).then_some(())
        });
    }

    // One plans. When it is killed the other takes over, and a watch goes on there where it was.
    let planning = eventually("one plans", || [&one, &two].iter().position(|braid| braid.plans_here()));
    if planning == 1 {
        std::mem::swap(&mut one, &mut two);
    }
    assert!(one.plans_here() && !two.plans_here());
    one.kubectl("create deployment web --image=braid.local/tiny --replicas=2");
    one.kubectl("wait --for=condition=Available deployment/web --timeout=60s");
    let start = one.config_map(&token, "begin")["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let first = two.config_map(&token, "first");
    let second = one.config_map(&token, "second");
    assert_eq!(watched(&one, &token, &start, 2), [name(&first), name(&second)]);
    one.kill();
    let third = two.config_map(&token, "third");
    let from = second["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(watched(&two, &token, from, 1), [name(&third)]);
    two.kubectl("scale deployment web --replicas=4");
    eventually("the other plans", || two.plans_here().then_some(()));
    eventually("there are four pods, each with a host", || {
        let (_, pods) = two.get(&token, &two.kube("pods"));
        let bound = pods["items"].as_array()?.iter().filter(|pod| pod["spec"]["nodeName"].is_string()).count();
        (bound == 4).then_some(())
    });

    // Who ends in order gives the planning up by itself.
    one.restart();
    one.ready();
    assert!(!one.plans_here());
    let leader = || planner(&url, [&ca, &certificate, &key]);
    let before = leader();
    assert!(before.is_some());
    two.down();
    assert_ne!(leader(), before, "the planning was not given up");
    eventually("the first plans again", || one.plans_here().then_some(()));
}

/// What etcd says of who plans; `None`: nobody.
fn planner(url: &str, [ca, certificate, key]: [&str; 3]) -> Option<String> {
    let (etcd, prefix) = url.trim_start_matches("etcds://").split_once('/').unwrap();
    let url = format!("https://{etcd}/v3/kv/range");
    let body = json!({"key": STANDARD.encode(format!("/{prefix}/lease/planner"))}).to_string();
    let files = ["--silent", "--show-error", "--cacert", ca, "--cert", certificate, "--key", key];
    let answer = std::process::Command::new("curl").args(files).args(["--data", &body, &url]).output().unwrap();
    let told = String::from_utf8_lossy(&answer.stderr).into_owned();
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_else(|e| panic!("{url}: {e}: {told}"));
    assert!(answer["header"].is_object(), "{url}: {answer}");
    answer["kvs"][0]["value"].as_str().map(str::to_owned)
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The names of the next config maps after a resource version.
fn watched(braid: &Braid, token: &str, after: &str, count: usize) -> Vec<String> {
    let path = braid.kube(&format!("configmaps?watch=1&timeoutSeconds=30&resourceVersion={after}"));
    let mut curl = braid.watch(token, &path);
    let lines = BufReader::new(curl.stdout.take().unwrap()).lines().map_while(Result::ok);
    let events = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()).take(count);
    let names = events.map(|event| name(&event["object"])).collect();
    _ = curl.kill();
    _ = curl.wait();
    names
}
