//! Kubernetes' controllers: what they take over, what they let go, and in which order they act.

use model::*;
use plan::Planner;
use serde_json::{Value, json};

fn now() -> Time {
    Time::from_second(1_800_000_000).unwrap()
}

struct World(Snapshot);

const DEPLOYMENT: &Planner = &plan::kube::deployment::PLANNER;
const REPLICASET: &Planner = &plan::kube::replicaset::PLANNER;
const SLICES: &Planner = &plan::kube::endpointslice::PLANNER;
const GARBAGE: &Planner = &plan::kube::garbage::PLANNER;
const DEFINITION: &Planner = &plan::kube::definition::PLANNER;
const JOB: &Planner = &plan::kube::job::PLANNER;
const NAMESPACE: &Planner = &plan::kube::namespace::PLANNER;

impl World {
    fn new() -> Self {
        let mut world = Self(Snapshot::default());
        world.commit(&Cluster::new("c", &Network::new("net", "p", 1, now()), now()).into());
        world.put("", "namespaces", "n", json!({}));
        world.put("", "serviceaccounts", "default", json!({}));
        world
    }

    fn commit(&mut self, change: &Change) {
        self.0.prepare(change).unwrap();
        self.0.apply(self.0.revision() + 1, &change.writes);
    }

    fn key(group: &str, resource: &str, name: &str) -> Key {
        let namespace = if matches!(resource, "namespaces" | "nodes") { "" } else { "n" };
        KubeObject::key_of("c", group, resource, namespace, name)
    }

    fn put(&mut self, group: &str, resource: &str, name: &str, mut body: Value) {
        body["metadata"]["name"] = json!(name);
        if !body["metadata"]["uid"].is_string() {
            body["metadata"]["uid"] = json!(format!("{resource}/{name}"));
        }
        let object = KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: group.into(),
            resource: resource.into(),
            namespace: if matches!(resource, "namespaces" | "nodes") { String::new() } else { "n".into() },
            name: name.into(),
            body,
        };
        self.commit(&object.into());
    }

    fn get(&self, group: &str, resource: &str, name: &str) -> Option<&Value> {
        self.0.at::<KubeObject>(&Self::key(group, resource, name)).map(|row| &row.value.body)
    }

    fn edit(&mut self, group: &str, resource: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut change = Change::new();
        change.edit(self.0.at::<KubeObject>(&Self::key(group, resource, name)).unwrap(), |o| edit(&mut o.body));
        self.commit(&change);
    }

    fn all(&self, group: &str, resource: &str) -> Vec<&KubeObject> {
        let prefix = KubeObject::prefix(group, resource, "n");
        self.0.names::<KubeObject>(&Realm::cluster("c"), &prefix, None).map(|row| row.value).collect()
    }

    /// Plans and commits until nothing is left to do.
    fn settle(&mut self, planners: &[&Planner]) {
        for _ in 0..50 {
            let mut moved = false;
            for planner in planners {
                for change in planner.scan(&self.0, now()) {
                    moved = true;
                    if self.0.prepare(&change).is_ok() {
                        self.0.apply(self.0.revision() + 1, &change.writes);
                    }
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the controllers do not come to rest");
    }

    fn deployment(&mut self, name: &str, uid: &str, replicas: i64) {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}});
        let selector = json!({"matchLabels": {"app": "web"}});
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
        let spec = json!({"replicas": replicas, "selector": selector, "template": template, "strategy": rolling});
        let meta = json!({"uid": uid, "generation": 1});
        let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec});
        self.put("apps", "deployments", name, body);
    }

    fn remove(&mut self, group: &str, resource: &str, name: &str) {
        let mut change = Change::new();
        change.delete(self.0.at::<KubeObject>(&Self::key(group, resource, name)).unwrap());
        self.commit(&change);
    }
}

fn owners(object: &Value) -> Vec<&str> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten().filter_map(|o| o["uid"].as_str()).collect()
}

#[test]
fn a_deployment_made_again_takes_over_what_it_had() {
    let mut world = World::new();
    world.deployment("web", "first", 2);
    world.settle(&[DEPLOYMENT, REPLICASET]);
    let pods: Vec<String> = world.all("", "pods").iter().map(|pod| pod.uid().to_owned()).collect();
    let set = world.all("apps", "replicasets")[0].name.clone();
    assert_eq!(pods.len(), 2);
    // As `--cascade=orphan` leaves it.
    world.edit("apps", "replicasets", &set, |set| set["metadata"]["ownerReferences"] = json!([]));
    world.remove("apps", "deployments", "web");
    world.deployment("web", "second", 2);
    world.settle(&[DEPLOYMENT, REPLICASET]);
    let sets = world.all("apps", "replicasets");
    assert_eq!((sets.len(), owners(&sets[0].body)), (1, vec!["second"]));
    let after: Vec<String> = world.all("", "pods").iter().map(|pod| pod.uid().to_owned()).collect();
    assert_eq!(after, pods, "the same pods");
    assert_eq!(world.get("apps", "deployments", "web").unwrap()["status"]["observedGeneration"], 1);
}

#[test]
fn equal_quantities_roll_nothing() {
    let mut world = World::new();
    let with = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
    world.deployment("web", "first", 2);
    let resources = |d: &mut Value, r: Value| d["spec"]["template"]["spec"]["containers"][0]["resources"] = r;
    world.edit("apps", "deployments", "web", |d| resources(d, with("1000m", "0.0625Gi")));
    world.settle(&[DEPLOYMENT, REPLICASET]);
    world.edit("apps", "deployments", "web", |d| resources(d, with("1", "64Mi")));
    world.settle(&[DEPLOYMENT, REPLICASET]);
    assert_eq!(world.all("apps", "replicasets").len(), 1);
    world.edit("apps", "deployments", "web", |d| resources(d, with("2", "64Mi")));
    world.settle(&[DEPLOYMENT, REPLICASET]);
    assert_eq!(world.all("apps", "replicasets").len(), 2);
}

#[test]
fn a_taken_name_stops_nobody() {
    let mut world = World::new();
    world.deployment("web", "first", 1);
    world.settle(&[DEPLOYMENT]);
    let set = world.all("apps", "replicasets")[0].name.clone();
    world.remove("apps", "replicasets", &set);
    world.remove("apps", "deployments", "web");
    let other = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}}});
    world.put("apps", "replicasets", &set, other);
    world.deployment("web", "second", 1);
    world.settle(&[DEPLOYMENT, REPLICASET]);
    let sets = world.all("apps", "replicasets");
    let ours: Vec<&str> = sets.iter().filter(|s| owners(&s.body) == ["second"]).map(|s| s.name.as_str()).collect();
    assert!(ours.len() == 1 && ours[0] != set, "{ours:?}");
    assert_eq!(world.get("apps", "deployments", "web").unwrap()["status"]["collisionCount"], 1);
}

#[test]
fn pods_come_and_go_by_their_labels() {
    let mut world = World::new();
    world.deployment("web", "first", 2);
    world.settle(&[DEPLOYMENT, REPLICASET]);
    let sick = world.all("", "pods")[0].name.clone();
    world.edit("", "pods", &sick, |pod| pod["metadata"]["labels"]["app"] = json!("sick"));
    world.settle(&[DEPLOYMENT, REPLICASET]);
    let pod = world.get("", "pods", &sick).unwrap();
    assert!(pod["metadata"].get("ownerReferences").is_none(), "it is free, without an empty list: {pod}");
    assert_eq!(world.all("", "pods").len(), 3, "another took its place");
    world.edit("", "pods", &sick, |pod| pod["metadata"]["labels"]["app"] = json!("web"));
    world.settle(&[DEPLOYMENT, REPLICASET]);
    let pods = world.all("", "pods");
    assert!(
        pods.len() == 2 && pods.iter().all(|pod| owners(&pod.body).len() == 1),
        "taken back, and one too many gone"
    );
}

#[test]
fn an_owner_that_stays_keeps_what_it_owns() {
    let owner = |uid: &str| json!({"uid": uid, "blockOwnerDeletion": true});
    let dying = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]});
    let mut world = World::new();
    world.put("", "configmaps", "a", json!({"metadata": dying}));
    world.put("", "configmaps", "b", json!({}));
    let both = json!([owner("configmaps/a"), owner("configmaps/b")]);
    world.put("", "configmaps", "shared", json!({"metadata": {"ownerReferences": both}}));
    let alone = json!([owner("configmaps/a")]);
    world.put("", "configmaps", "alone", json!({"metadata": {"ownerReferences": alone}}));
    world.settle(&[GARBAGE]);
    assert_eq!(world.get("", "configmaps", "a"), None, "it is gone");
    assert_eq!(world.get("", "configmaps", "alone"), None, "with what was its alone");
    let shared = world.get("", "configmaps", "shared").unwrap();
    assert_eq!(owners(shared), ["configmaps/b"]);
    assert!(shared["metadata"].get("deletionTimestamp").is_none());
    // An owner that went in the background.
    world.put("", "configmaps", "d", json!({}));
    let both = json!([owner("gone"), owner("configmaps/d")]);
    world.put("", "configmaps", "other", json!({"metadata": {"ownerReferences": both}}));
    world.settle(&[GARBAGE]);
    assert_eq!(owners(world.get("", "configmaps", "other").unwrap()), ["configmaps/d"]);
}

/// A Node need not be a row: its host is one.
#[test]
fn what_a_host_owns_stays_as_long_as_the_host() {
    let mut world = World::new();
    world.commit(&Host::new("h", now()).into());
    let owner = |name: &str| json!([{"kind": "Node", "name": name, "uid": node::uid("c", name)}]);
    for name in ["h", "lost"] {
        world.put("", "configmaps", name, json!({"metadata": {"ownerReferences": owner(name)}}));
    }
    let forged = json!([{"kind": "Node", "name": "h", "uid": "another"}]);
    world.put("", "configmaps", "forged", json!({"metadata": {"ownerReferences": forged}}));
    world.settle(&[GARBAGE]);
    let left = |world: &World| world.all("", "configmaps").iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    assert_eq!(left(&world), ["h"]);
    let mut agenda = plan::Agenda::new(&world.0);
    let garbage = plan::PLANNERS.iter().position(|planner| planner.name == "garbage").unwrap();
    let items = agenda.take(garbage, now());
    agenda.landed(garbage, &items, &world.0);
    let gone = world.0.row(&Host::new("h", now()).key()).cloned().unwrap();
    let writes = [Write::Delete { key: gone.key.clone(), expected: gone.modified }];
    let commit = world.0.apply(world.0.revision() + 1, &writes);
    commit.events.iter().for_each(|event| agenda.touch(&world.0, event, now()));
    assert_eq!(agenda.take(garbage, now()).len(), 1, "whoever collects hears of it");
    world.settle(&[GARBAGE]);
    assert!(left(&world).is_empty());
}

/// Heard of when the host goes or when it is said too late, and found after a start. A Node that a cluster made stays.
#[test]
fn what_was_said_of_a_host_goes_with_it() {
    let mut world = World::new();
    let garbage = plan::PLANNERS.iter().position(|planner| planner.name == "garbage").unwrap();
    let mut agenda = plan::Agenda::new(&world.0);
    let mut taken = |world: &World, writes: &[Write]| {
        let mut rows = world.0.clone();
        let items = agenda.take(garbage, now());
        agenda.landed(garbage, &items, &rows);
        let commit = rows.apply(rows.revision() + 1, writes);
        commit.events.iter().for_each(|event| agenda.touch(&rows, event, now()));
        agenda.take(garbage, now()).len()
    };
    let said = |uid: &str| json!({"metadata": {"uid": uid, "finalizers": ["example.com/hold"]}});
    let host = Host::new("h", now());
    world.commit(&host.clone().into());
    world.put("", "nodes", "h", said(&node::uid("c", "h")));
    world.put("", "nodes", "own", said("own"));
    world.settle(&[GARBAGE]);
    assert!(world.get("", "nodes", "h").is_some());
    let row = world.0.row(&host.key()).cloned().unwrap();
    let gone = [Write::Delete { key: row.key.clone(), expected: row.modified }];
    assert_eq!(taken(&world, &gone), 1, "whoever collects hears of the host");
    world.0.apply(world.0.revision() + 1, &gone);
    let late = world.0.at::<KubeObject>(&node::key("c", "h")).unwrap().value.clone();
    let late = KubeObject { name: "late".into(), body: said(&node::uid("c", "late")), ..late };
    assert_eq!(taken(&world, &[Write::Create(late.into())]), 1, "and of what is said of none");
    let planned = GARBAGE.scan(&world.0, now());
    let mut back = world.0.clone();
    back.apply(back.revision() + 1, &[Write::Create(host.into())]);
    assert!(back.prepare(&planned[0]).is_err(), "a host that is back keeps it");
    world.settle(&[GARBAGE]);
    assert_eq!((world.get("", "nodes", "h"), world.get("", "nodes", "own").is_some()), (None, true));
}

#[test]
fn a_namespace_says_what_it_waits_for() {
    let mut world = World::new();
    world.put("", "configmaps", "held", json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    world.edit("", "namespaces", "n", |n| n["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    world.settle(&[NAMESPACE]);
    let space = world.get("", "namespaces", "n").unwrap();
    let told = |kind: &str| {
        let conditions = space["status"]["conditions"].as_array().into_iter().flatten();
        let of_kind = conditions.filter(|c| c["type"] == kind && c["status"] == "True");
        of_kind.map(|c| c["message"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>().join(";")
    };
    assert_eq!(told("NamespaceContentRemaining"), "Some resources are remaining: configmaps. has 1 resource instances");
    assert_eq!(
        told("NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
}

#[test]
fn each_pod_is_reached_at_its_own_number() {
    let mut world = World::new();
    let pod = |port: i64, ip: &str| {
        json!({
            "metadata": {"labels": {"app": "two"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    world.put("", "pods", "v1", pod(80, "10.0.0.1"));
    world.put("", "pods", "v2", pod(8080, "10.0.0.2"));
    let spec = json!({"selector": {"app": "two"}, "ports": [{"port": 80, "targetPort": "http"}]});
    world.put("", "services", "svc", json!({"apiVersion": "v1", "kind": "Service", "spec": spec}));
    let seen = |world: &World| -> Vec<(String, i64)> {
        let slices = world.all("discovery.k8s.io", "endpointslices");
        let mut seen: Vec<(String, i64)> = slices
            .iter()
            .flat_map(|slice| {
                let port = slice.body["ports"][0]["port"].as_i64().unwrap_or(0);
                let endpoints = slice.body["endpoints"].as_array().unwrap().iter();
                endpoints.map(move |e| (e["targetRef"]["name"].as_str().unwrap_or("").to_owned(), port))
            })
            .collect();
        seen.sort();
        seen
    };
    world.settle(&[SLICES]);
    assert_eq!(seen(&world), [("v1".to_owned(), 80), ("v2".to_owned(), 8080)]);
    world.remove("", "pods", "v1");
    world.settle(&[SLICES]);
    assert_eq!(seen(&world), [("v2".to_owned(), 8080)]);
    assert_eq!(world.all("discovery.k8s.io", "endpointslices").len(), 1);
}

/// A Deployment of 10 in the middle of a roll-out: 8 of the old template, 5 of the new.
fn stuck() -> World {
    let mut world = World::new();
    world.deployment("web", "first", 10);
    world.settle(&[DEPLOYMENT]);
    let old = world.all("apps", "replicasets")[0].name.clone();
    let status = |n: i64| json!({"replicas": n, "readyReplicas": n, "availableReplicas": n});
    world.edit("apps", "replicasets", &old, |set| set["status"] = status(10));
    let image = |d: &mut Value| d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("new");
    world.edit("apps", "deployments", "web", image);
    world.settle(&[DEPLOYMENT]);
    world.edit("apps", "replicasets", &old, |set| set["status"] = status(8));
    world.settle(&[DEPLOYMENT]);
    world
}

fn sizes(world: &World) -> Vec<i64> {
    let mut sizes: Vec<i64> =
        world.all("apps", "replicasets").iter().filter_map(|s| s.body["spec"]["replicas"].as_i64()).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn a_stuck_roll_out_is_scaled_in_proportion() {
    let mut world = stuck();
    assert_eq!(sizes(&world), [5, 8]);
    world.edit("apps", "deployments", "web", |d| d["spec"]["replicas"] = json!(30));
    let change = &DEPLOYMENT.scan(&world.0, now())[0];
    world.commit(change);
    assert_eq!(sizes(&world), [13, 20]);
}

#[test]
fn a_roll_out_says_how_it_goes() {
    let mut world = stuck();
    let condition = |world: &World| -> (String, String) {
        let deployment = world.get("apps", "deployments", "web").unwrap();
        let conditions = deployment["status"]["conditions"].as_array().unwrap();
        let progress = conditions.iter().find(|c| c["type"] == "Progressing").unwrap();
        (progress["reason"].as_str().unwrap().to_owned(), progress["message"].as_str().unwrap().to_owned())
    };
    let (reason, message) = condition(&world);
    assert_eq!(reason, "ReplicaSetUpdated");
    assert!(message.starts_with("ReplicaSet \"web-") && message.ends_with("\" is progressing."), "{message}");
    let later = Time::from_second(now().as_second() + 700).unwrap();
    for change in DEPLOYMENT.scan(&world.0, later) {
        world.commit(&change);
    }
    let (reason, message) = condition(&world);
    assert_eq!(reason, "ProgressDeadlineExceeded");
    assert!(message.ends_with("\" has timed out progressing."), "{message}");
    assert_eq!(DEPLOYMENT.scan(&world.0, later), [], "it says so once");
    world.edit("apps", "deployments", "web", |d| d["spec"]["paused"] = json!(true));
    world.settle(&[DEPLOYMENT]);
    assert_eq!(condition(&world).0, "DeploymentPaused");
}

#[test]
fn the_least_useful_pods_go_first() {
    let mut world = World::new();
    let selector = json!({"matchLabels": {"app": "web"}});
    let spec = json!({"replicas": 8, "selector": selector});
    world.put("apps", "replicasets", "web", json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec}));
    let stamp = |ago: i64| Time::from_second(now().as_second() - ago).unwrap().to_string();
    let pod = |host: &str, ready: bool, cost: i64, ago: i64, restarts: i64| {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "replicasets/web", "controller": true}]);
        let notes = json!({"controller.kubernetes.io/pod-deletion-cost": cost.to_string()});
        let condition =
            json!({"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": stamp(ago)});
        json!({
            "metadata": {"labels": {"app": "web"}, "annotations": notes, "ownerReferences": owner, "creationTimestamp": stamp(ago)},
            "spec": if host.is_empty() { json!({}) } else { json!({"nodeName": host}) },
            "status": {
                "phase": if host.is_empty() { "Pending" } else { "Running" },
                "conditions": [condition], "containerStatuses": [{"restartCount": restarts}],
            },
        })
    };
    let expected = ["unplaced", "unready", "cheap", "crowded", "young", "restarted", "steady"];
    world.put("", "pods", "steady", pod("c", true, 0, 1000, 0));
    world.put("", "pods", "restarted", pod("d", true, 0, 1000, 3));
    world.put("", "pods", "young", pod("e", true, 0, 10, 0));
    world.put("", "pods", "crowded", pod("a", true, 0, 5000, 0));
    world.put("", "pods", "cheap", pod("f", true, -1, 5000, 0));
    world.put("", "pods", "unready", pod("a", false, 5, 5000, 0));
    world.put("", "pods", "unplaced", pod("", false, 5, 5000, 0));
    world.put("", "pods", "dear", pod("a", true, 9, 1, 9));
    let mut gone: Vec<String> = Vec::new();
    for left in (1..8).rev() {
        world.edit("apps", "replicasets", "web", |set| set["spec"]["replicas"] = json!(left));
        world.settle(&[REPLICASET]);
        let there = world.all("", "pods");
        let name = |name: &&&str| {
            let pod = there.iter().find(|pod| pod.name == **name);
            pod.is_none_or(|pod| pod.deleting()) && !gone.iter().any(|g| g == *name)
        };
        let new = expected.iter().find(name).map(|name| (*name).to_owned());
        gone.extend(new);
    }
    assert_eq!(gone, expected);
}

#[test]
fn taints_push_pods_off_their_node() {
    const TAINT: &Planner = &plan::kube::taint::PLANNER;
    let mut world = World::new();
    world.put("", "nodes", "h", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    let pod = |tolerations: Value| json!({"spec": {"nodeName": "h", "tolerations": tolerations}});
    let bears = |seconds: Value| json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    world.put("", "pods", "plain", pod(json!([])));
    world.put("", "pods", "patient", pod(bears(json!(60))));
    world.put("", "pods", "steady", pod(bears(Value::Null)));
    let gone = |world: &World| -> Vec<String> {
        world.all("", "pods").iter().filter(|pod| pod.deleting()).map(|pod| pod.name.clone()).collect()
    };
    world.settle(&[TAINT]);
    assert!(gone(&world).is_empty(), "that taint only keeps new ones away");
    world.edit("", "nodes", "h", |node| node["spec"]["taints"][0]["effect"] = json!("NoExecute"));
    world.settle(&[TAINT]);
    assert_eq!(gone(&world), ["plain"]);
    assert_eq!(world.all("", "events")[0].body["reason"], "TaintManagerEviction");
    let at = |seconds: i64| Time::from_second(now().as_second() + seconds).unwrap();
    assert_eq!(TAINT.scan(&world.0, at(59)), []);
    for change in TAINT.scan(&world.0, at(60)) {
        world.commit(&change);
    }
    assert_eq!(gone(&world), ["patient", "plain"]);
    assert_eq!(TAINT.scan(&world.0, at(1_000_000)), []);
}

#[test]
fn a_definition_goes_with_the_last_object_of_its_kind() {
    let (group, resource, name) = ("apiextensions.k8s.io", "customresourcedefinitions", "gadgets.example.com");
    let key = KubeObject::key_of("c", group, resource, "", name);
    let mut world = World::new();
    let spec = json!({"group": "example.com", "names": {"plural": "gadgets", "kind": "Gadget"}});
    world.commit(
        &KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: group.into(),
            resource: resource.into(),
            namespace: String::new(),
            name: name.into(),
            body: json!({"metadata": {"name": name, "uid": "d", "finalizers": [format!("customresourcecleanup.{group}")]},
                "spec": spec}),
        }
        .into(),
    );
    world.put("example.com", "gadgets", "g", json!({}));
    world.settle(&[DEFINITION]);
    assert!(world.0.row(&key).is_some(), "nobody deletes it");
    let mut change = Change::new();
    change.edit(world.0.at::<KubeObject>(&key).unwrap(), |d| {
        d.body["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    });
    world.commit(&change);
    world.settle(&[DEFINITION]);
    assert!(world.0.row(&key).is_some(), "an object is left");
    let mut change = Change::new();
    change.delete(world.0.at::<KubeObject>(&World::key("example.com", "gadgets", "g")).unwrap());
    world.commit(&change);
    world.settle(&[DEFINITION]);
    assert!(world.0.row(&key).is_none());
}

/// A Job of so many completions, and what else its specification says.
fn job(world: &mut World, spec: Value) {
    let labels = json!({"job": "j"});
    let mut all = json!({
        "completions": 2, "parallelism": 2, "backoffLimit": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
    });
    for (name, value) in spec.as_object().unwrap() {
        all[name] = value.clone();
    }
    world.put("batch", "jobs", "j", json!({"apiVersion": "batch/v1", "kind": "Job", "spec": all, "status": {}}));
}

fn end(world: &mut World, pod: &str, phase: &str) {
    world.edit("", "pods", pod, |body| {
        body["spec"]["nodeName"] = json!("host");
        let ended = json!({"state": {"terminated": {"finishedAt": now().to_string()}}});
        body["status"] = json!({"phase": phase, "containerStatuses": [ended]});
    });
}

fn state(world: &World) -> (Value, Value, Vec<String>) {
    let status = &world.get("batch", "jobs", "j").unwrap()["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let conditions = conditions.map(|c| c["type"].as_str().unwrap().to_owned()).collect();
    (status["active"].clone(), json!([status["succeeded"], status["failed"]]), conditions)
}

fn pods(world: &World) -> Vec<String> {
    world.all("", "pods").into_iter().filter(|pod| !pod.deleting()).map(|pod| pod.name.clone()).collect()
}

#[test]
fn a_job_runs_until_enough_have_succeeded() {
    let mut world = World::new();
    job(&mut world, json!({"completions": 3}));
    world.settle(&[JOB]);
    assert_eq!((pods(&world).len(), state(&world).0), (2, json!(2)), "no more at once than it says");
    for round in 0..3 {
        let next = world.all("", "pods").into_iter().find(|pod| pod.body["status"]["phase"] != "Succeeded").unwrap();
        let name = next.name.clone();
        assert_eq!(next.body["metadata"]["finalizers"], json!(["batch.kubernetes.io/job-tracking"]));
        end(&mut world, &name, "Succeeded");
        world.settle(&[JOB]);
        let (_, counts, _) = state(&world);
        assert_eq!(counts, json!([round + 1, null]));
    }
    let (active, _, conditions) = state(&world);
    assert_eq!((active, conditions), (Value::Null, vec!["SuccessCriteriaMet".into(), "Complete".into()]));
    assert!(world.all("", "pods").iter().all(|pod| pod.body["metadata"]["finalizers"].is_null()), "nothing is held");
    // What has ended is counted once, whoever takes the pod away then.
    let name = world.all("", "pods")[0].name.clone();
    let mut change = Change::new();
    change.delete(world.0.at::<KubeObject>(&World::key("", "pods", &name)).unwrap());
    world.commit(&change);
    world.settle(&[JOB]);
    assert_eq!(state(&world).1, json!([3, null]));
}

#[test]
fn a_job_fails_when_too_many_pods_did_and_waits_after_each() {
    let mut world = World::new();
    job(&mut world, json!({"completions": 1, "parallelism": 1}));
    world.settle(&[JOB]);
    let first = pods(&world)[0].clone();
    end(&mut world, &first, "Failed");
    world.settle(&[JOB]);
    assert_eq!(pods(&world), std::slice::from_ref(&first), "the next one waits");
    let later = Time::from_second(now().as_second() + 10).unwrap();
    for change in JOB.scan(&world.0, later) {
        world.commit(&change);
    }
    let second = pods(&world).into_iter().find(|name| *name != first).unwrap();
    end(&mut world, &second, "Failed");
    world.settle(&[JOB]);
    let (_, counts, conditions) = state(&world);
    assert_eq!((counts, conditions), (json!([null, 2]), vec!["FailureTarget".into(), "Failed".into()]));
}

#[test]
fn a_job_is_halted_and_has_a_deadline() {
    let mut world = World::new();
    job(&mut world, json!({"activeDeadlineSeconds": 60}));
    world.settle(&[JOB]);
    world.edit("batch", "jobs", "j", |job| job["spec"]["suspend"] = json!(true));
    world.settle(&[JOB]);
    assert_eq!((pods(&world).len(), state(&world).1), (0, json!([null, null])), "none of them has failed");
    world.edit("batch", "jobs", "j", |job| job["spec"]["suspend"] = json!(false));
    world.settle(&[JOB]);
    assert_eq!(pods(&world).len(), 2);
    let later = Time::from_second(now().as_second() + 60).unwrap();
    for change in JOB.scan(&world.0, later) {
        world.commit(&change);
    }
    assert_eq!(state(&world).2.last().map(String::as_str), Some("Failed"));
    assert_eq!(world.get("batch", "jobs", "j").unwrap()["status"]["conditions"][1]["reason"], "DeadlineExceeded");
    assert_eq!(pods(&world).len(), 0);
}

#[test]
fn nothing_holds_the_pods_of_a_job_that_is_gone() {
    let mut world = World::new();
    job(&mut world, json!({}));
    world.settle(&[JOB]);
    let mut change = Change::new();
    change.delete(world.0.at::<KubeObject>(&World::key("batch", "jobs", "j")).unwrap());
    world.commit(&change);
    world.settle(&[GARBAGE, JOB]);
    assert_eq!(world.all("", "pods").len(), 0);
}

#[test]
fn a_cluster_keeps_its_latest_events_and_what_is_held_takes_no_room() {
    let mut world = World::new();
    let told = |minute: i64| json!(seconds(now().checked_sub(jiff::SignedDuration::from_mins(minute)).unwrap()));
    let held = json!(["example.com/hold"]);
    for n in 0..300 {
        let body = json!({"metadata": {"finalizers": held.clone()}, "lastTimestamp": told(59)});
        world.put("", "events", &format!("held-{n}"), body);
    }
    for n in 0..5020 {
        let minute = if n < 20 { 50 } else { 1 };
        world.put("", "events", &format!("told-{n}"), json!({"lastTimestamp": told(minute)}));
    }
    world.put("", "events", "over", json!({"lastTimestamp": told(61)}));
    world.settle(&[&plan::kube::event::PLANNER]);
    let names: Vec<&str> = world.all("", "events").iter().map(|event| event.name.as_str()).collect();
    let kept = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((kept("held-"), kept("told-"), kept("over")), (300, 5000, 0));
    assert!(!names.contains(&"told-0") && names.contains(&"told-20"), "the oldest went");
}
