//! What a host may know and write: what runs there, and nothing of others. Who has taken a host is the stranger here.

use std::collections::BTreeMap;

use model::host_report::{HostReport, ImageBytes, Report};
use model::kube_event::News;
use model::{
    Change, Flavor, Holder, Host, Image, ImageSource, ImageStatus, KubeObject, Network, Port, PortStatus, Server,
    Setting, Snapshot, Time, Vm, VmPhase, VmStatus,
};
use plan::host_report::change;
use plan::host_view;
use serde_json::{Value, json};

fn now() -> Time {
    Time::from_second(1_800_000_000).expect("a moment")
}

fn object(resource: &str, namespace: &str, name: &str, body: Value) -> KubeObject {
    let mut body = body;
    body["metadata"] = json!({"name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}")});
    KubeObject {
        cluster_id: "c".into(),
        project_id: "p".into(),
        group: String::new(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        body,
    }
}

fn secret(namespace: &str, name: &str) -> KubeObject {
    object("secrets", namespace, name, json!({"kind": "Secret", "data": {"key": format!("hush-{namespace}-{name}")}}))
}

/// A pod that names things in every way there is.
fn pod(node: &str, name: &str) -> KubeObject {
    let spec = json!({
        "nodeName": node,
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "volume"}},
            {"name": "b", "configMap": {"name": "map"}},
            {"name": "c", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "map-part"}}]}},
        ],
        "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "map-all"}}]}],
        "containers": [{"name": "c", "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "one", "key": "key"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "map-one", "key": "key"}}},
        ]}],
    });
    object("pods", "n", name, json!({"kind": "Pod", "apiVersion": "v1", "spec": spec, "status": {"phase": "Pending"}}))
}

const NAMED: [&str; 5] = ["pull", "volume", "part", "all", "one"];
const MAPS: [&str; 4] = ["map", "map-part", "map-all", "map-one"];

fn cloud() -> Snapshot {
    let network = Network::new("net", "p", 1, now());
    let mut change = Change::new();
    change.create(Setting { name: model::CLOUD_ID.into(), value: json!("cloud") });
    change.create(Host::new("a", now())).create(Host::new("b", now())).create(network.clone());
    let server = Server { image_id: None, ..Server::new("s", "p", "s", Flavor::new("f", "f", 1, 64, 1), now()) };
    let port =
        Port { holder: Some(Holder::server(&server)), host: Some("a".into()), ..Port::new("port", &network, now()) };
    let vm = json!({"server_id": "s", "project_id": "p", "incarnation": 1, "host": "a", "source": null, "cpu_milli": 0,
        "memory_mib": 0, "disk_gib": 0, "deleting": false, "decision": [], "created_at": now(),
        "status": VmStatus { phase: VmPhase::Running, ..VmStatus::default() }});
    let source = ImageSource { server_id: "s".into(), project_id: "p".into(), request_id: "r".into(), rotation: None };
    change.create(serde_json::from_value::<Vm>(vm).expect("a VM")).create(server).create(port);
    change.create(Image { source: Some(source), ..Image::new("image", "p", now()) });
    change.create(object("namespaces", "", "n", json!({"kind": "Namespace"})));
    change.create(pod("a", "here"));
    let mut going = pod("a", "going");
    going.body["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    change.create(going);
    for name in NAMED.iter().chain(&["other"]) {
        change.create(secret("n", name)).create(secret("m", name));
    }
    for name in MAPS.iter().chain(&["map-other"]) {
        change.create(object(
            "configmaps",
            "n",
            name,
            json!({"kind": "ConfigMap", "data": {"key": format!("hush-n-{name}")}}),
        ));
    }
    let mut rows = Snapshot::default();
    rows.apply(1, &change.writes);
    rows
}

#[test]
fn a_host_knows_what_its_pods_name_and_no_more() {
    let rows = cloud();
    let view = host_view::pod(&rows, "a", "uid-n-here").expect("it is there");
    let told = serde_json::to_string(&view).expect("text");
    for name in NAMED.iter().chain(&MAPS) {
        assert!(told.contains(&format!("hush-n-{name}\"")), "{name} is named and not there: {told}");
        assert!(!told.contains(&format!("hush-m-{name}")), "{name} of another namespace is there");
    }
    assert!(!told.contains("other"), "{told}");
    assert_eq!(host_view::pod(&rows, "b", "uid-n-here"), None);
    assert!(host_view::account(&rows, "b", "uid-n-here").is_err_and(|why| why.to_string().contains("no pod")));
    assert_eq!(host_view::pods(&rows, "a").len(), 2);
    assert_eq!(host_view::pods(&rows, "b"), []);
    assert!(host_view::vm(&rows, "a", "s.1").is_some_and(|view| view.saving.is_some() && view.ports.len() == 1));
    assert!(host_view::vm_of_port(&rows, "a", "port").is_some());
    assert_eq!(host_view::vm(&rows, "b", "s.1"), None);
    assert_eq!(host_view::vm_of_port(&rows, "b", "port"), None);
    assert_eq!(host_view::vms(&rows, "b"), []);
}

/// Something new of every sort, about things of host a.
fn reports() -> Vec<Report> {
    let bytes = ImageBytes { sha256: "0".into(), ..ImageBytes::default() };
    let news = vec![News::new("kubelet", "Said", "something")];
    let all = vec![
        Report::Host(Box::new(HostReport { counts: true, ..HostReport::default() })),
        Report::Holds(vec![("asks".into(), "why".into())]),
        Report::Ports(BTreeMap::from([("port".into(), PortStatus::Active)])),
        Report::Vm { id: "s.1".into(), status: VmStatus { phase: VmPhase::Stopped, ..VmStatus::default() } },
        Report::Pod { uid: "uid-n-here".into(), status: json!({"phase": "Running"}), news: news.clone() },
        Report::PodGone { uid: "uid-n-going".into(), news },
        Report::Saving { image: "image".into() },
        Report::Saved { image: "image".into(), bytes },
        Report::NotSaved { image: "image".into(), why: "no room".into() },
        Report::Password { port: "port".into(), password: "secret".into() },
    ];
    for report in &all {
        // A sort that is added is added above, too.
        match report {
            Report::Host(_) | Report::Holds(_) | Report::Ports(_) | Report::Vm { .. } | Report::Pod { .. } => {}
            Report::PodGone { .. } | Report::Saving { .. } | Report::Saved { .. } | Report::NotSaved { .. } => {}
            Report::Password { .. } => {}
        }
    }
    all
}

#[test]
fn a_host_writes_what_is_its_own() {
    let rows = cloud();
    for report in reports() {
        let (own, _) = change(&rows, "a", &report, now()).expect("it is its own");
        assert!(!own.is_empty(), "{report:?} changes nothing");
        let text = serde_json::to_string(&report).expect("text");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report, "it passes a wire");
        let Ok((strange, _)) = change(&rows, "b", &report, now()) else { continue };
        for write in &strange.writes {
            let key = write.key();
            assert!(key.kind == model::Kind::Host && *key.name == *"b", "{report:?} by another host writes {key:?}");
        }
    }
}

#[test]
fn a_pods_status_is_its_hosts_as_far_as_it_goes() {
    let mut rows = cloud();
    let key = KubeObject::key_of("c", "", "pods", "n", "here");
    let mut edit = Change::new();
    edit.edit(rows.at::<KubeObject>(&key).expect("a pod"), |pod| {
        pod.body["status"] = json!({"phase": "Pending", "message": "waits", "qosClass": "Burstable", "startTime": "then",
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "mine.example/gate", "status": "True"}]});
    });
    rows.apply(2, &edit.writes);
    let tell = |rows: &mut Snapshot, status: Value| {
        let report = Report::Pod { uid: "uid-n-here".into(), status, news: vec![] };
        let (change, heard) = change(rows, "a", &report, now()).expect("its own");
        rows.apply(rows.revision() + 1, &change.writes);
        (rows.at::<KubeObject>(&key).expect("a pod").body["status"].clone(), heard.wrote)
    };
    let said = json!({"phase": "Running", "qosClass": "Guaranteed", "startTime": "then", "hostIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "mine.example/gate", "status": "False"}]});
    let want = json!({"phase": "Running", "qosClass": "Burstable", "startTime": "then", "hostIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "mine.example/gate", "status": "True"}]});
    assert_eq!(tell(&mut rows, said.clone()), (want.clone(), true));
    assert_eq!(tell(&mut rows, said), (want, false), "what is known is no news");
    let (ended, _) = tell(&mut rows, json!({"phase": "Failed", "reason": "Evicted", "message": "no room"}));
    assert_eq!((&ended["phase"], &ended["reason"]), (&json!("Failed"), &json!("Evicted")));
    let (still, _) = tell(&mut rows, json!({"phase": "Running"}));
    assert_eq!(
        (&still["phase"], &still["reason"], &still["message"]),
        (&json!("Failed"), &json!("Evicted"), &json!("no room"))
    );
}

#[test]
fn an_image_that_is_saved_is_saved_once() {
    let mut rows = cloud();
    let (saving, _) = change(&rows, "a", &Report::Saving { image: "image".into() }, now()).expect("its own");
    rows.apply(2, &saving.writes);
    let bytes = ImageBytes { sha256: "0".repeat(64), size: 7, virtual_size: 9, ..ImageBytes::default() };
    let report = Report::Saved { image: "image".into(), bytes };
    let (saved, _) = change(&rows, "a", &report, now()).expect("its own");
    rows.apply(3, &saved.writes);
    let image = rows.get::<Image>("image").expect("an image").value;
    assert_eq!((image.status, image.size, image.virtual_size), (ImageStatus::Active, Some(7), Some(9)));
    assert!(change(&rows, "a", &report, now()).expect("passed over").0.is_empty());
}
