//! Where pods go that care about other pods: affinity, anti-affinity, spreading; and that none of it breaks when plans are
//! made from old snapshots.

use std::collections::BTreeMap;

use model::*;
use serde_json::{Value, json};

const HOSTNAME: &str = "kubernetes.io/hostname";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// A cluster of the test's own: rows without claims, for what is tested here is none.
#[derive(Default)]
struct World {
    snapshot: Snapshot,
}

fn now() -> Time {
    Time::from_second(1_800_000_000).unwrap()
}

impl World {
    /// A cluster whose nodes have names and zones; without a zone where it is empty.
    fn new(nodes: &[(&str, &str)]) -> Self {
        let mut w = Self::default();
        w.add(Cluster::new("c", &Network::new("net", "p", 1, now()), now()));
        for (name, zone) in nodes {
            w.add(host(name));
            let labels = if zone.is_empty() { json!({}) } else { json!({"zone": zone}) };
            w.add(object("nodes", "", name, json!({"metadata": {"labels": labels}})));
        }
        for name in ["default", "other"] {
            let labels = json!({"metadata": {"labels": {"team": name}}});
            w.add(object("namespaces", "", name, labels));
        }
        w
    }

    fn commit(&mut self, change: &Change) -> Result<(), Refused> {
        self.snapshot.prepare(change)?;
        self.snapshot.apply(self.snapshot.revision() + 1, &change.writes);
        Ok(())
    }

    fn add(&mut self, object: impl Into<Object>) {
        self.commit(&Change::from(object)).unwrap();
    }

    /// A pod with a label `app`, and what else its specification says.
    fn pod(&mut self, name: &str, app: &str, spec: Value) {
        self.add(pod("default", name, app, spec));
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            let changes = plan::schedule::PLANNER.scan(&self.snapshot, now());
            if changes.is_empty() {
                return;
            }
            for change in changes {
                // What depends on another change of this plan comes with the next.
                let _ = self.commit(&change);
            }
        }
        panic!("the planner never comes to rest");
    }

    fn body(&self, name: &str) -> &Value {
        let key = KubeObject::key_of("c", "", "pods", "default", name);
        &self.snapshot.at::<KubeObject>(&key).unwrap().value.body
    }

    fn node(&self, name: &str) -> Option<&str> {
        self.body(name)["spec"]["nodeName"].as_str()
    }

    fn why(&self, name: &str) -> &str {
        self.body(name)["status"]["conditions"][0]["message"].as_str().unwrap_or("")
    }

    /// How many pods of an app each node has.
    fn spread(&self, app: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for pod in self.snapshot.all::<KubeObject>().filter(|o| o.is_pod()) {
            if let Some(node) = pod.body["spec"]["nodeName"].as_str()
                && pod.body["metadata"]["labels"]["app"] == app
            {
                *counts.entry(node.to_owned()).or_default() += 1;
            }
        }
        counts
    }
}

/// An aggregate of hosts.
fn aggregate(id: &str, hosts: &[&str], metadata: &[(&str, &str)]) -> Aggregate {
    Aggregate {
        id: id.into(),
        uuid: id.into(),
        name: id.into(),
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        metadata: metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        created_at: now(),
        updated_at: None,
    }
}

#[test]
fn pods_keep_to_hosts_that_are_for_their_project() {
    for (tenants, expected) in [("p", Some("b")), ("x", Some("a"))] {
        let mut w = World::new(&[("a", ""), ("b", "")]);
        w.add(aggregate("1", &["b"], &[("filter_tenant_id", tenants)]));
        for n in 0..5 {
            w.pod(&format!("p{n}"), "web", json!({}));
        }
        w.settle();
        assert!((0..5).all(|n| w.node(&format!("p{n}")) == expected), "{tenants}: {:?}", w.spread("web"));
    }
    let mut w = World::new(&[("a", "")]);
    w.add(aggregate("1", &["a"], &[("filter_tenant_id", "x")]));
    w.pod("p", "web", json!({}));
    w.settle();
    assert_eq!(w.why("p"), "no nodes available to schedule pods");
}

/// What a host says of itself holds in every cluster, without a Node of its own.
#[test]
fn a_host_that_is_short_keeps_pods_away_and_wakes_those_that_waited() {
    let mut w = World::new(&[]);
    let short = |short: &[Shortage], zone: &str| {
        let mut host = host("a");
        (host.status.short, host.status.zone) = (short.to_vec(), zone.into());
        host
    };
    w.add(short(&[Shortage::Memory], "west"));
    w.pod("p", "web", json!({"nodeSelector": {"topology.kubernetes.io/zone": "west"}}));
    w.settle();
    let taint = "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/memory-pressure: }.";
    assert_eq!(w.why("p"), taint);
    let mut agenda = plan::Agenda::new(&w.snapshot);
    let schedule = plan::PLANNERS.iter().position(|planner| planner.name == "schedule").unwrap();
    // How many of the pods that wait are planned anew when the host says something.
    let mut due = |w: &mut World, host: Host| {
        let before = w.snapshot.get::<Host>("a").unwrap().row.modified;
        let writes = [Write::Update { object: host.into(), expected: before }];
        let commit = w.snapshot.apply(w.snapshot.revision() + 1, &writes);
        commit.events.iter().for_each(|event| agenda.touch(&w.snapshot, event, now()));
        let items = agenda.take(schedule, now());
        let seen = plan::Seen { rows: &w.snapshot, ledger: &Ledger::of(&w.snapshot) };
        agenda.planned(schedule, &(plan::PLANNERS[schedule].plan)(&seen, &items, now()));
        agenda.landed(schedule, &items, &w.snapshot);
        items.len()
    };
    assert_eq!(due(&mut w, short(&[Shortage::Memory], "west")), 1, "all are due at first");
    let mut lives = short(&[Shortage::Memory], "west");
    lives.status.reports = 1;
    assert_eq!(due(&mut w, lives), 0, "that it lives changes nothing");
    assert_eq!(due(&mut w, short(&[Shortage::Memory], "east")), 1, "another zone");
    assert_eq!(due(&mut w, short(&[], "east")), 1, "well again");
    assert_eq!(due(&mut w, short(&[], "west")), 1, "the zone that it asks for");
    w.settle();
    assert_eq!(w.node("p"), Some("a"));
}

#[test]
fn pods_planned_before_a_reservation_stay_where_they_are() {
    // Alone, and among pods that are placed together since each may care where the others are.
    for spec in [json!({}), must("podAntiAffinity", term("web", HOSTNAME))] {
        let mut w = World::new(&[("a", ""), ("b", "")]);
        w.pod("p0", "web", spec.clone());
        w.pod("p1", "web", spec.clone());
        let planned = plan::schedule::PLANNER.scan(&w.snapshot, now());
        let mut reserve = Change::from(aggregate("1", &["a", "b"], &[("filter_tenant_id", "x")]));
        Aggregate::changed(&w.snapshot, &mut reserve);
        w.commit(&reserve).unwrap();
        assert!(!planned.is_empty());
        for change in planned {
            assert!(w.commit(&change).is_err(), "placed although the host was reserved: {change:?}");
        }
        w.settle();
        assert_eq!((w.node("p0"), w.node("p1")), (None, None), "{spec}");
    }
}

/// What one tenant calls important keeps no other waiting.
#[test]
fn clusters_take_turns() {
    let mut w = World::new(&[("a", "")]);
    w.add(Cluster::new("d", &Network::new("net", "q", 1, now()), now()));
    let large = |name: &str, priority: i64| {
        let mut pod = pod("default", name, "web", json!({"priority": priority}));
        pod.body["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "30"}});
        pod
    };
    for n in 0..3 {
        w.add(large(&format!("p{n}"), 2_000_000_000));
    }
    let other = KubeObject { cluster_id: "d".into(), project_id: "q".into(), ..large("late", 0) };
    let key = other.key();
    w.add(other);
    w.settle();
    let placed = (0..3).filter(|n| w.node(&format!("p{n}")).is_some()).count();
    let late = &w.snapshot.at::<KubeObject>(&key).unwrap().value.body["spec"]["nodeName"];
    assert_eq!((placed, late), (1, &json!("a")), "there is room for two");
}

fn host(name: &str) -> Host {
    Host {
        cpu_milli: 80_000,
        memory_mib: 80_000,
        disk_gib: 100,
        cores: 4,
        status: HostStatus { heartbeat: Some(now()), ..HostStatus::default() },
        ..Host::new(name, now())
    }
}

fn object(resource: &str, namespace: &str, name: &str, mut body: Value) -> KubeObject {
    body["metadata"]["uid"] = json!(format!("uid-{resource}-{namespace}-{name}"));
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

fn pod(namespace: &str, name: &str, app: &str, mut spec: Value) -> KubeObject {
    spec["containers"] = json!([{"name": "c"}]);
    object("pods", namespace, name, json!({"metadata": {"labels": {"app": app}}, "spec": spec}))
}

fn term(app: &str, topology: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology})
}

fn must(kind: &str, term: Value) -> Value {
    json!({"affinity": {kind: {REQUIRED: [term]}}})
}

fn rather(kind: &str, term: Value) -> Value {
    json!({"affinity": {kind: {PREFERRED: [{"weight": 50, "podAffinityTerm": term}]}}})
}

fn constraint(app: &str, topology: &str, action: &str, more: Value) -> Value {
    let mut constraint = json!({
        "maxSkew": 1, "topologyKey": topology, "whenUnsatisfiable": action, "labelSelector": {"matchLabels": {"app": app}},
    });
    constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"topologySpreadConstraints": [constraint]})
}

const TWO: &[(&str, &str)] = &[("one", "a"), ("two", "b")];
const FOUR: &[(&str, &str)] = &[("one", "a"), ("two", "a"), ("three", "b"), ("four", "")];

#[test]
fn anti_affinity_holds_both_ways() {
    let mut w = World::new(TWO);
    for name in ["x1", "x2", "x3"] {
        w.pod(name, "x", must("podAntiAffinity", term("x", HOSTNAME)));
    }
    w.settle();
    assert_eq!(w.spread("x"), [("one".to_owned(), 1), ("two".to_owned(), 1)].into());
    assert_eq!(w.node("x3"), None);
    assert_eq!(w.why("x3"), "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.");
    // It says nothing itself, and is not let near those who do.
    w.pod("plain", "x", json!({}));
    w.pod("stranger", "y", json!({}));
    w.settle();
    assert_eq!(w.why("plain"), "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.");
    assert!(w.node("stranger").is_some());
    // Room again: the one that waited longest gets it.
    let key = KubeObject::key_of("c", "", "pods", "default", "x1");
    let mut change = Change::new();
    change.delete(w.snapshot.at::<KubeObject>(&key).unwrap());
    w.commit(&change).unwrap();
    w.settle();
    assert!(w.node("x3").is_some() && w.node("plain").is_none());
}

#[test]
fn anti_affinity_over_zones_and_namespaces() {
    let mut w = World::new(FOUR);
    w.add(pod("other", "far", "x", json!({"nodeName": "one"})));
    let with = |field: &str, value: Value| {
        let mut term = term("x", "zone");
        term[field] = value;
        must("podAntiAffinity", term)
    };
    let in_a = |mut spec: Value| {
        spec["nodeSelector"] = json!({"zone": "a"});
        spec
    };
    w.pod("own", "z", in_a(must("podAntiAffinity", term("x", "zone"))));
    w.pod("named", "z", with("namespaces", json!(["other"])));
    w.pod("selected", "z", with("namespaceSelector", json!({"matchLabels": {"team": "other"}})));
    w.pod("none", "z", in_a(with("namespaceSelector", json!({"matchLabels": {"team": "nobody"}}))));
    w.pod("all", "z", with("namespaceSelector", json!({})));
    w.settle();
    let in_a = |name: &str| matches!(w.node(name), Some("one" | "two"));
    for name in ["named", "selected", "all"] {
        assert!(w.node(name).is_some() && !in_a(name), "{name}: {:?}", w.node(name));
    }
    assert!(w.node("own").is_some() && w.node("none").is_some());
    // Its own revision's pods only.
    let mut own = term("w", HOSTNAME);
    own["matchLabelKeys"] = json!(["rev"]);
    let revised = |name: &str, rev: &str| {
        let mut pod = pod("default", name, "w", must("podAntiAffinity", own.clone()));
        pod.body["metadata"]["labels"]["rev"] = json!(rev);
        pod.body["spec"]["nodeSelector"] = json!({HOSTNAME: "one"});
        pod
    };
    [revised("w1", "1"), revised("w2", "2"), revised("w3", "2")].into_iter().for_each(|pod| w.add(pod));
    w.settle();
    assert_eq!((w.node("w1"), w.node("w2"), w.node("w3")), (Some("one"), Some("one"), None));
}

#[test]
fn affinity_leads_near() {
    let mut w = World::new(FOUR);
    w.pod("early", "z", must("podAffinity", term("db", "zone")));
    w.settle();
    assert_eq!(w.why("early"), "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.");
    w.pod("db", "db", json!({"nodeName": "three"}));
    for i in 0..6 {
        w.pod(&format!("near-{i}"), "n", must("podAffinity", term("db", HOSTNAME)));
        // Who wants its like near has to begin somewhere.
        w.pod(&format!("group-{i}"), "g", must("podAffinity", term("g", "zone")));
    }
    w.settle();
    assert_eq!(w.node("early"), Some("three"));
    assert_eq!(w.spread("n"), [("three".to_owned(), 6)].into());
    let zones: Vec<&str> = w.spread("g").keys().map(|n| if n == "three" { "b" } else { "a" }).collect();
    assert!(!w.spread("g").contains_key("four") && zones.windows(2).all(|z| z[0] == z[1]), "{:?}", w.spread("g"));
    assert_eq!(w.spread("g").values().sum::<usize>(), 6);
}

#[test]
fn preferences_lead_where_they_can() {
    let mut w = World::new(TWO);
    for i in 0..4 {
        w.pod(&format!("apart-{i}"), "apart", rather("podAntiAffinity", term("apart", HOSTNAME)));
        w.pod(&format!("close-{i}"), "close", rather("podAffinity", term("close", HOSTNAME)));
    }
    w.settle();
    assert_eq!(w.spread("apart"), [("one".to_owned(), 2), ("two".to_owned(), 2)].into());
    assert_eq!(w.spread("close").values().copied().collect::<Vec<_>>(), [4]);
    // Those that stand there have a say too.
    let mut w = World::new(TWO);
    w.pod(
        "shy",
        "s",
        json!({"nodeName": "one", "affinity": rather("podAntiAffinity", term("loud", HOSTNAME))["affinity"]}),
    );
    w.pod("filler", "f", json!({"nodeName": "two"}));
    w.pod("filler-2", "f", json!({"nodeName": "two"}));
    w.pod("loud", "loud", json!({}));
    w.settle();
    assert_eq!(w.node("loud"), Some("two"));
}

#[test]
fn spreading_over_zones() {
    let mut w = World::new(FOUR);
    for i in 0..5 {
        w.pod(&format!("p{i}"), "p", constraint("p", "zone", "DoNotSchedule", json!({})));
    }
    w.settle();
    let in_b = w.spread("p")["three"];
    assert!(w.spread("p").values().sum::<usize>() == 5 && (2..=3).contains(&in_b), "{:?}", w.spread("p"));
    assert!(!w.spread("p").contains_key("four"));
    // Three in one zone already: the next goes elsewhere or nowhere.
    let mut w = World::new(FOUR);
    for i in 0..3 {
        w.pod(&format!("old{i}"), "q", json!({"nodeName": "one"}));
    }
    let mut stuck = constraint("q", "zone", "DoNotSchedule", json!({"nodeAffinityPolicy": "Ignore"}));
    stuck["nodeSelector"] = json!({"zone": "a"});
    w.pod("stuck", "q", stuck.clone());
    // Only zone a counts for a pod that can go nowhere else.
    stuck["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = json!("Honor");
    w.pod("content", "q", stuck);
    w.pod("next", "q", constraint("q", "zone", "DoNotSchedule", json!({})));
    w.settle();
    assert_eq!((w.node("stuck"), w.node("next")), (None, Some("three")));
    assert!(w.node("content").is_some());
    assert_eq!(
        w.why("stuck"),
        "0/4 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, 2 node(s) didn't match pod topology spread constraints."
    );
    let few = constraint("r", "zone", "DoNotSchedule", json!({"minDomains": 3}));
    ["r1", "r2", "r3"].iter().for_each(|name| w.pod(name, "r", few.clone()));
    w.settle();
    assert_eq!(w.spread("r").values().sum::<usize>(), 2, "with too few zones the emptiest counts as empty");
    assert!(w.why("r3").contains("1 node(s) didn't match pod topology spread constraints (missing required label)"));
    for i in 0..6 {
        w.pod(&format!("s{i}"), "s", constraint("s", "zone", "ScheduleAnyway", json!({})));
    }
    w.settle();
    assert_eq!(w.spread("s")["three"], 3);
}

#[test]
fn plain_pods_are_placed_one_by_one() {
    let mut w = World::new(TWO);
    (0..100).for_each(|i| w.pod(&format!("p{i}"), "p", json!({})));
    let changes = plan::schedule::PLANNER.scan(&w.snapshot, now());
    assert_eq!(changes.len(), 100);
    w.settle();
    assert_eq!(w.snapshot.all::<Setting>().count(), 0);
    // Of many that must be told apart each change takes some.
    (0..100).for_each(|i| w.pod(&format!("q{i}"), "q", must("podAntiAffinity", term("nobody", HOSTNAME))));
    let changes = plan::schedule::PLANNER.scan(&w.snapshot, now());
    assert_eq!(changes.len(), 1);
    w.settle();
    assert_eq!(w.spread("q").values().sum::<usize>(), 100);
}

/// One plan knows of a pod that the other does not, and places it first: whichever is committed first, the other is refused.
#[test]
fn plans_from_old_snapshots_exclude_each_other() {
    let apart = |priority: u32| {
        let mut spec = must("podAntiAffinity", term("x", HOSTNAME));
        spec["priority"] = json!(priority);
        spec
    };
    for (older, newer) in [(apart(0), json!({"priority": 1})), (json!({}), apart(1)), (apart(0), apart(1))] {
        for old_first in [true, false] {
            let mut w = World::new(&[("one", "a")]);
            w.pod("older", "x", older.clone());
            let before = w.snapshot.clone();
            w.pod("newer", "x", newer.clone());
            let [old, new] = [&before, &w.snapshot].map(|snapshot| plan::schedule::PLANNER.scan(snapshot, now()));
            let of = |changes: Vec<Change>, name: &str| {
                let places = |write: &Write| match write {
                    Write::Update { object: Object::KubeObject(o), .. } => {
                        o.name == name && o.body["spec"]["nodeName"] == "one"
                    }
                    _ => false,
                };
                changes.into_iter().find(|change| change.writes.iter().any(places)).expect("it is placed")
            };
            let (old, new) = (of(old, "older"), of(new, "newer"));
            let (first, second) = if old_first { (old, new) } else { (new, old) };
            w.commit(&first).unwrap();
            assert!(w.commit(&second).is_err(), "{older} and {newer}, the older first: {old_first}");
            w.settle();
            together(&w.snapshot).unwrap();
        }
    }
}

/// Planners that see old snapshots and commit late, pods that come and go: two that must be apart never meet.
#[test]
fn nobody_meets_whom_it_must_not() {
    let mut placed = 0;
    for seed in 0..100 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut w = World::new(&TWO[..chance.usize(1..3)]);
        let mut history = vec![w.snapshot.clone()];
        let mut underway: Vec<Change> = Vec::new();
        for step in 0..40 {
            match chance.u32(0..10) {
                0..3 => {
                    let apart = must("podAntiAffinity", term("x", HOSTNAME));
                    let app = if chance.bool() { "x" } else { "y" };
                    let mut spec = if chance.u32(0..3) == 0 { apart } else { json!({}) };
                    spec["priority"] = json!(chance.u32(0..3));
                    w.pod(&format!("p{step}"), app, spec);
                }
                3 => {
                    let pods: Vec<_> = w.snapshot.all::<KubeObject>().filter(|o| o.is_pod()).collect();
                    if let Some(pod) = pods.get(chance.usize(0..pods.len().max(1))) {
                        let mut change = Change::new();
                        change.delete(*pod);
                        w.commit(&change).unwrap();
                    }
                }
                4..6 => {
                    let old = history.len() - 1 - chance.usize(0..history.len().min(6));
                    underway.extend(plan::schedule::PLANNER.scan(&history[old], now()));
                }
                _ if !underway.is_empty() => {
                    let change = underway.swap_remove(chance.usize(0..underway.len()));
                    let _ = w.commit(&change);
                }
                _ => {}
            }
            history.push(w.snapshot.clone());
            together(&w.snapshot).unwrap_or_else(|why| panic!("seed {seed}, step {step}: {why}"));
        }
        placed += w.spread("x").values().sum::<usize>();
    }
    assert!(placed > 50, "only {placed} pods were placed: nothing was tested");
}

/// Whether a node has two pods of which one must not be near the other.
fn together(snapshot: &Snapshot) -> Result<(), String> {
    let pods: Vec<&KubeObject> = snapshot.all::<KubeObject>().map(|o| o.value).filter(|o| o.is_pod()).collect();
    let node = |pod: &KubeObject| pod.body["spec"]["nodeName"].as_str().map(str::to_owned);
    for pod in pods.iter().filter(|pod| pod.body["spec"]["affinity"].is_object() && node(pod).is_some()) {
        let other = pods.iter().find(|other| {
            other.name != pod.name && other.body["metadata"]["labels"]["app"] == "x" && node(other) == node(pod)
        });
        if let Some(other) = other {
            return Err(format!("{} and {} are on {:?}", pod.name, other.name, node(pod)));
        }
    }
    Ok(())
}
