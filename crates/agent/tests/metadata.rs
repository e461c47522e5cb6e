//! What guests ask of a host, over the rows of a store: each learns of its own server, at its own host.

use agent::metadata::Answers;
use driver::Metadata;
use model::{Change, Domain, Flavor, Holder, Host, Network, Port, Project, Server, Time, Vm};
use serde_json::json;
use store::Store;

fn now() -> Time {
    Time::from_second(1_800_000_000).expect("a moment")
}

fn vm(server: &Server) -> Vm {
    let vm = json!({"server_id": server.id, "project_id": "p", "incarnation": 1, "host": "h", "source": null,
        "cpu_milli": 0, "memory_mib": 0, "disk_gib": 0, "deleting": false, "decision": [],
        "status": model::VmStatus::default(), "created_at": now()});
    serde_json::from_value(vm).expect("a VM")
}

#[tokio::test]
async fn a_guest_tells_its_password_once() {
    let store = Store::memory();
    let network = Network::new("n", "p", 1, now());
    let server = Server::new("s", "p", "s", Flavor::new("f", "f", 1, 64, 1), now());
    let port =
        Port { holder: Some(Holder::server(&server)), host: Some("h".into()), ..Port::new("port", &network, now()) };
    let domain =
        json!({"id": "default", "name": "Default", "description": "", "enabled": true, "tags": [], "options": {}});
    let domain: Domain = serde_json::from_value(domain).expect("a domain");
    let mut change = Change::from(domain);
    change
        .create(Project::new("p", "p", "default"))
        .create(Host::new("h", now()))
        .create(network)
        .create(vm(&server))
        .create(server)
        .create(port);
    store.commit(&change).await.expect("the first rows");
    let answers = |host: &str| Answers::new(hosts::Local::new(store.clone(), host, now, None));
    let here = answers("h");
    let tell = async |path: &str, text: &str| here.post("port", path, text.as_bytes()).await.0;
    let told = || store.snapshot().get::<Server>("s").expect("a server").guest_password.clone();
    for path in ["/openstack/2012-08-10/password", "/latest/password", "/openstack/latest/password/x", "/"] {
        assert_eq!(tell(path, "s3cret").await, 404, "{path}");
    }
    let path = "/openstack/latest/password";
    assert_eq!(tell(path, &"x".repeat(Server::MOST_PASSWORD + 1)).await, 400);
    assert_eq!(here.post("port", path, &[0xff]).await.0, 400);
    assert_eq!(here.post("none", path, b"x").await.0, 404);
    assert_eq!(answers("other").post("port", path, b"x").await.0, 404, "a host speaks for its own guests alone");
    assert_eq!(answers("other").get("port", "/openstack/latest/meta_data.json").await.0, 404);
    assert_eq!((tell(path, "").await, told()), (200, None));
    assert_eq!((tell(path, "s3cret").await, told().as_deref()), (200, Some("s3cret")));
    assert_eq!((tell(path, "other").await, told().as_deref()), (409, Some("s3cret")));
    assert_eq!(here.get("port", path).await.2, b"s3cret");
}
