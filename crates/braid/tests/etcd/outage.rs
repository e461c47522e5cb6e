//! The end of braid, and of the etcd under it.

use serde_json::json;

use crate::cloud::{Braid, eventually};
use crate::server::Server;

/// Everything is there after `kill -9` and a new start; nothing is doubled.
#[tokio::test]
async fn a_cloud_survives_on_etcd() {
    let (etcd, root) = (Server::start(&[]).await, tempfile::tempdir().unwrap());
    let mut braid = Braid::start(root.path(), "one", &["--store", &etcd.url()]);
    braid.ready();
    braid.openstack("server create --flavor m1.tiny --image tiny --network demo-net --wait vm1");
    braid.kubectl("create deployment web --image=braid.local/tiny --replicas=3");
    braid.kubectl("wait --for=condition=Available deployment/web --timeout=60s");
    let pods = || braid.kubectl("get pods -o jsonpath={.items[*].metadata.uid}");
    let before = pods();
    let ports = braid.openstack("port list --sort-column ID -f value -c ID");
    braid.kill();

    braid.restart();
    braid.ready();
    braid.kubectl("wait --for=condition=Available deployment/web --timeout=60s");
    assert_eq!(braid.kubectl("get pods -o jsonpath={.items[*].metadata.uid}"), before);
    assert_eq!(braid.openstack("port list --sort-column ID -f value -c ID"), ports);
    assert_eq!(braid.openstack("server list -f value -c Name -c Status"), "vm1 ACTIVE\n");
}

/// While etcd is away, writes and consistent reads answer 503 in words, and so does the status; it heals by itself.
#[tokio::test]
async fn etcd_goes_away_and_comes_back() {
    let (mut etcd, root) = (Server::start(&[]).await, tempfile::tempdir().unwrap());
    let mut braid = Braid::start(root.path(), "one", &["--store", &etcd.url()]);
    braid.ready();
    eventually("the planners run", || braid.plans_here().then_some(()));
    let token = braid.token();
    let network = json!({"network": {"name": "meanwhile"}});
    etcd.kill();

    let (status, told) = braid.post(&token, "/network/v2.0/networks", &network);
    assert_eq!((status, told.to_string().contains("etcd does not answer")), (503, true), "{told}");
    let (status, told) = braid.get(&token, &braid.kube("pods"));
    assert_eq!((status, told["message"].as_str().unwrap().contains("etcd")), (503, true), "{told}");
    let (healthy, words, _) = braid.command(&["status"]);
    assert!(!healthy && words.contains("store: ") && words.contains("etcd"), "{words}");
    eventually("the planners have stopped", || (!braid.plans_here()).then_some(()));

    etcd.restart().await;
    let made = eventually("networks can be made again", || {
        let (status, made) = braid.post(&token, "/network/v2.0/networks", &network);
        (status == 201).then_some(made)
    });
    let made = made["network"]["id"].as_str().unwrap();
    assert_eq!(braid.get(&token, &format!("/network/v2.0/networks/{made}")).0, 200);
    eventually("everything is well", || {
        braid.status().filter(|status| status["healthy"] == true && status["plans_here"] == true)
    });
    braid.kubectl("create deployment web --image=braid.local/tiny --replicas=2");
    braid.kubectl("wait --for=condition=Available deployment/web --timeout=60s");
}
