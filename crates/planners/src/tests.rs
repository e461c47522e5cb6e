//! What the loop does while a cluster's webhooks think, and when they deny.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use bytes::Bytes;
use face_kube::{Hook, Hooks};
use model::{Change, Cluster, Domain, KubeObject, Network, Project};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::*;

/// A webhook that answers when its gate is opened, and denies what is labelled so.
struct Fake {
    asked: Mutex<Vec<Value>>,
    gate: Semaphore,
}

impl Hooks for Fake {
    fn call(&self, hook: Hook) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + '_>> {
        Box::pin(async move {
            let review: Value = serde_json::from_slice(&hook.body).map_err(|e| e.to_string())?;
            let request = &review["request"];
            self.asked.lock().unwrap().push(request.clone());
            self.gate.acquire().await.map_err(|e| e.to_string())?.forget();
            let allowed = request["object"]["metadata"]["labels"]["set"] != "bad";
            let response = json!({"uid": request["uid"], "allowed": allowed, "status": {"message": "not here"}});
            let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
            Ok(answer.to_string().into())
        })
    }
}

fn object(group: &str, resource: &str, namespace: &str, name: &str, mut body: Value) -> KubeObject {
    body["metadata"] = json!({"name": name, "namespace": namespace, "uid": format!("{resource}/{name}")});
    KubeObject {
        cluster_id: "c".into(),
        project_id: "p".into(),
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        body,
    }
}

fn set(name: &str, replicas: u32) -> KubeObject {
    let template =
        json!({"metadata": {"labels": {"set": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"set": name}}, "template": template});
    object("apps", "replicasets", "default", name, json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec}))
}

async fn cloud() -> (Store, Kube, Arc<Fake>) {
    let store = Store::memory();
    let gate = Arc::new(gate::Gate::with_cost(store.clone(), 4));
    let fake = Arc::new(Fake { asked: Mutex::default(), gate: Semaphore::new(0) });
    let kube = Kube::new(store.clone(), gate).with_hooks(fake.clone());
    let now = Time::now();
    let network = Network::new("net", "p", 1, now);
    let cluster = Cluster::new("c", &network, now);
    let mut change = Change::new();
    change.create(Domain {
        id: "default".into(),
        name: "Default".into(),
        description: String::new(),
        enabled: true,
        tags: Vec::new(),
        options: Default::default(),
    });
    change.create(Project::new("p", "p", "default"));
    change.create(network);
    let hook = json!({
        "name": "pods.example.com", "clientConfig": {"url": "https://hooks.example.com/"},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    });
    let group = "admissionregistration.k8s.io";
    let webhook = object(group, "validatingwebhookconfigurations", "", "pods", json!({"webhooks": [hook]}));
    face_kube::cluster_rows(&cluster, now).into_iter().for_each(|row| _ = change.create(row));
    change.create(webhook);
    change.create(cluster);
    store.commit(&change).await.unwrap();
    (store, kube, fake)
}

fn pods(store: &Store) -> Vec<KubeObject> {
    store.snapshot().all::<KubeObject>().filter(|o| o.is_pod()).map(|o| o.value.clone()).collect()
}

async fn until(store: &Store, what: &str, holds: impl Fn() -> bool) {
    let mut watch = store.watch(store.snapshot().revision()).unwrap();
    let all = async {
        while !holds() {
            let _ = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn make(store: &Store, object: KubeObject) {
    let mut change = Change::new();
    change.create(object);
    store.commit(&change).await.unwrap();
}

#[tokio::test]
async fn webhooks_that_take_too_long_for_all_of_a_change_are_named() {
    let (store, kube, fake) = cloud().await;
    fake.gate.add_permits(1);
    let mut change = Change::new();
    for name in ["a", "b"] {
        change.create(object("", "pods", "default", name, json!({"kind": "Pod", "apiVersion": "v1"})));
    }
    // One is answered, the other never.
    let late = kube.admit(&store.snapshot(), &change, "controller", Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(late.why, "the cluster's webhooks did not answer for all within 200ms");
}

#[tokio::test]
async fn no_pod_is_there_before_it_is_admitted() {
    let (store, kube, fake) = cloud().await;
    let planning = tokio::spawn({
        let store = store.clone();
        async move { plan(&store, &kube).await }
    });
    make(&store, set("good", 3)).await;
    until(&store, "somebody is asked", || !fake.asked.lock().unwrap().is_empty()).await;
    // Others go on meanwhile, and what is being asked about is not made up a second time.
    let mut other = object("", "pods", "default", "other", json!({"kind": "Pod", "status": {"phase": "Failed"}}));
    other.body["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "good", "uid": "replicasets/good", "controller": true,
    }]);
    make(&store, other).await;
    make(&store, set("none", 0)).await;
    let key = KubeObject::key_of("c", "apps", "replicasets", "default", "none");
    let counted = || store.snapshot().at::<KubeObject>(&key).is_some_and(|set| set.body["status"]["replicas"] == 0);
    until(&store, "the other set is planned", counted).await;
    assert_eq!(fake.asked.lock().unwrap().len(), 1);
    assert_eq!(pods(&store).len(), 1, "a pod is there that nobody admitted");

    fake.gate.add_permits(1000);
    until(&store, "three pods", || pods(&store).len() == 4).await;
    let asked = fake.asked.lock().unwrap().clone();
    for pod in pods(&store).iter().filter(|pod| pod.name != "other") {
        let request = asked.iter().find(|r| r["name"] == pod.name.as_str()).expect("asked about");
        assert_eq!(request["object"]["metadata"]["uid"], pod.uid());
        assert_eq!(request["userInfo"]["username"], "system:serviceaccount:kube-system:replicaset-controller");
    }

    make(&store, set("bad", 2)).await;
    let key = KubeObject::key_of("c", "apps", "replicasets", "default", "bad");
    let condition = || {
        let rows = store.snapshot();
        let set = rows.at::<KubeObject>(&key).expect("the set");
        set.body["status"]["conditions"][0].clone()
    };
    until(&store, "the denial is told", || condition()["type"] == "ReplicaFailure").await;
    let why = "admission webhook \"pods.example.com\" denied the request: not here";
    assert_eq!(condition()["message"], why);
    let rows = store.snapshot();
    let told = |o: &KubeObject| {
        o.is("", "events") && o.body["reason"] == "FailedCreate" && o.body["involvedObject"]["name"] == "bad"
    };
    assert!(rows.all::<KubeObject>().any(|o| told(&o)), "no event tells it");
    assert_eq!(pods(&store).len(), 4, "a pod is there that was denied");
    planning.abort();
}

#[test]
fn planners_go_behind_clients() {
    let nice = || rustix::process::getpriority_process(None).unwrap();
    let threads = threads().unwrap();
    let (own, wanted) = (nice(), (nice() + NICE).min(19));
    let both = threads
        .block_on(async { (tokio::spawn(async move { nice() }).await, tokio::task::spawn_blocking(nice).await) });
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (wanted, wanted));
    assert_eq!(nice(), own, "who makes the threads stays what it was");
}
