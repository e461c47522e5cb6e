//! What is due, when: the agenda, and how much of a cloud one event touches.

use std::collections::BTreeSet;

use model::*;
use plan::{Agenda, PLANNERS, Plan, Seen};
use serde_json::{Value, json};

fn at(seconds: i64) -> Time {
    Time::from_second(1_800_000_000 + seconds).unwrap()
}

fn object(group: &str, resource: &str, name: &str, mut body: Value) -> KubeObject {
    body["metadata"]["name"] = json!(name);
    body["metadata"]["uid"] = json!(format!("{resource}/{name}"));
    let namespace = if resource == "namespaces" { "" } else { "n" };
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

/// A cluster with so many ReplicaSets that each have their pod.
fn cloud(sets: usize) -> Snapshot {
    let mut change = Change::new();
    change.create(Cluster::new("c", &Network::new("net", "p", 1, at(0)), at(0)));
    change.create(object("", "namespaces", "n", json!({})));
    change.create(object("", "serviceaccounts", "default", json!({})));
    for n in 0..sets {
        let template = json!({"metadata": {"labels": {"set": n.to_string()}}, "spec": {"containers": [{"name": "c"}]}});
        let spec = json!({"replicas": 1, "selector": {"matchLabels": {"set": n.to_string()}}, "template": template});
        change.create(object("apps", "replicasets", &format!("set-{n}"), json!({"kind": "ReplicaSet", "spec": spec})));
        change.create(pod(n));
    }
    let mut rows = Snapshot::default();
    rows.apply(1, &change.writes);
    rows
}

fn pod(n: usize) -> KubeObject {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("set-{n}"), "uid": format!("replicasets/set-{n}"),
        "controller": true,
    });
    let body = json!({
        "kind": "Pod", "metadata": {"labels": {"set": n.to_string()}, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "c"}]},
    });
    object("", "pods", &format!("pod-{n}"), body)
}

fn number(name: &str) -> usize {
    PLANNERS.iter().position(|planner| planner.name == name).unwrap()
}

/// Takes what is due, which lands at once.
fn take(agenda: &mut Agenda, rows: &Snapshot, planner: usize, now: Time) -> Vec<Key> {
    let items = agenda.take(planner, now);
    agenda.landed(planner, &items, rows);
    items
}

/// Everything was planned.
fn idle(rows: &Snapshot) -> Agenda {
    let mut agenda = Agenda::new(rows);
    (0..PLANNERS.len()).for_each(|planner| while !take(&mut agenda, rows, planner, at(0)).is_empty() {});
    agenda
}

fn taken(agenda: &mut Agenda, now: Time) -> Vec<(&'static str, Vec<Key>)> {
    let all = (0..PLANNERS.len()).map(|n| (PLANNERS[n].name, agenda.take(n, now)));
    all.filter(|(_, items)| !items.is_empty()).collect()
}

#[test]
fn planners_have_names_of_their_own_and_what_they_write_is_read() {
    let names: BTreeSet<_> = PLANNERS.iter().map(|planner| planner.name).collect();
    assert_eq!(names.len(), PLANNERS.len());
    for planner in PLANNERS {
        assert!(planner.at_once > 0 && !planner.reads.is_empty() && !planner.writes.is_empty(), "{}", planner.name);
    }
}

#[test]
fn what_an_event_touches_does_not_grow_with_the_cloud() {
    for sets in [3, 300] {
        let mut rows = cloud(sets);
        let mut agenda = idle(&rows);
        let mut change = Change::new();
        change.delete(rows.at::<KubeObject>(&pod(1).key()).unwrap());
        let commit = rows.apply(2, &change.writes);
        commit.events.iter().for_each(|event| agenda.touch(&rows, event, at(1)));
        let taken = taken(&mut agenda, at(1));
        let named: Vec<_> = taken.iter().map(|(planner, items)| (*planner, items.len())).collect();
        // A pod that is gone is still looked at by those of whom it was an item.
        assert_eq!(named, [("replicaset", 1), ("schedule", 1), ("port", 1), ("garbage", 1)], "of {sets}");
        let set = &taken[0].1;
        let ledger = Ledger::of(&rows);
        let plan = (PLANNERS[number("replicaset")].plan)(&Seen { rows: &rows, ledger: &ledger }, set, at(1));
        assert_eq!(plan.steps.len(), 1, "the one pod that is missing");
    }
}

/// What hosts report wakes those who count it, and nobody who only cares what is asked for.
#[test]
fn reports_and_wishes_wake_different_planners() {
    let mut rows = cloud(2);
    let mut host = Host::new("h", at(0));
    let vm = Vm {
        server_id: "s".into(),
        project_id: "p".into(),
        incarnation: 1,
        host: Some("h".into()),
        cpu_milli: 1000,
        memory_mib: 1,
        disk_gib: 1,
        source: None,
        deleting: false,
        decision: Vec::new(),
        status: VmStatus::default(),
        created_at: at(0),
    };
    let port: Port = serde_json::from_value(json!({
        "id": "port", "project_id": "p", "network_id": "net", "network_project_id": "p", "name": "", "mac": "fa:16:3e:0:0:1",
        "admin_state_up": true, "port_security_enabled": true, "created_at": at(0), "updated_at": at(0), "fixed_ips": [],
    }))
    .unwrap();
    host.status.heartbeat = Some(at(0));
    let first = [Object::from(host.clone()), vm.clone().into(), port.clone().into()];
    rows.apply(2, &first.map(Write::Create));
    let mut touched = |object: Object| {
        let mut agenda = idle(&rows);
        let expected = rows.row(&object.key()).unwrap().modified;
        let commit = rows.apply(rows.revision() + 1, &[Write::Update { object, expected }]);
        commit.events.iter().for_each(|event| agenda.touch(&rows, event, at(1)));
        taken(&mut agenda, at(1)).into_iter().map(|(planner, _)| planner).collect::<Vec<_>>()
    };
    let with = |field: &str, value: Value| {
        let mut pod = pod(1);
        pod.body[field] = value;
        Object::from(pod)
    };
    assert_eq!(touched(with("status", json!({"phase": "Running"}))), ["replicaset"]);
    let all = ["replicaset", "schedule", "port", "garbage"];
    assert_eq!(touched(with("status", json!({"phase": "Failed"}))), all, "it came to its end");
    assert_eq!(touched(pod(1).into()), all, "it is back");
    let labels = touched(with("metadata", json!({"labels": {"set": "0"}, "uid": "pods/pod-1", "name": "pod-1"})));
    assert_eq!(labels, all);
    let mut alive = host.clone();
    alive.status.reports = 1;
    assert_eq!(touched(alive.into()), [""; 0]);
    let status = VmStatus { phase: VmPhase::Running, ..VmStatus::default() };
    assert_eq!(touched(Vm { status, ..vm }.into()), [""; 0], "its server is gone");
    assert_eq!(touched(Port { status: PortStatus::Active, ..port.clone() }.into()), [""; 0]);
    assert_eq!(touched(Port { name: "another".into(), ..port }.into()), ["port"]);
}

#[test]
fn refusals_are_tried_again_and_told_when_they_come_back() {
    let rows = cloud(2);
    let mut agenda = idle(&rows);
    let (planner, item) = (number("port"), pod(0).key());
    let refusal = |used| Refused::Exceeded { pool: "quota/p/port".into(), asked: 1, used, limit: 1 };
    assert!(!agenda.refused(planner, std::slice::from_ref(&item), &refusal(1), at(0)));
    assert_eq!(take(&mut agenda, &rows, planner, at(1)), []);
    assert_eq!(take(&mut agenda, &rows, planner, at(5)), std::slice::from_ref(&item));
    assert!(agenda.refused(planner, std::slice::from_ref(&item), &refusal(1), at(5)), "the same again");
    assert!(!agenda.refused(planner, std::slice::from_ref(&item), &refusal(2), at(6)), "another");
    agenda.committed(planner, std::slice::from_ref(&item));
    assert!(!agenda.refused(planner, std::slice::from_ref(&item), &refusal(2), at(7)), "it went well in between");
    // Of what is gone nothing is remembered.
    let gone = Event { key: item.clone(), before: rows.row(&item).cloned(), after: None };
    agenda.touch(&rows, &gone, at(7));
    assert!(!agenda.refused(planner, std::slice::from_ref(&item), &refusal(2), at(7)));
    // Who planned from old rows plans again at once.
    assert!(!agenda.refused(planner, std::slice::from_ref(&item), &Refused::Stale(item.clone()), at(7)));
    assert_eq!(take(&mut agenda, &rows, planner, at(7)), [item]);
}

#[test]
fn what_waits_is_planned_when_something_comes_but_not_each_time_if_it_is_much() {
    let mut rows = cloud(200);
    let planner = number("schedule");
    let mut agenda = idle(&rows);
    let all: Vec<Key> = (0..200).map(|n| pod(n).key()).collect();
    let mut comes = |agenda: &mut Agenda, revision: u64, now: Time| {
        let host = Host::new(&format!("host-{revision}"), now);
        let commit = rows.apply(revision, &[Write::Create(host.into())]);
        commit.events.iter().for_each(|event| agenda.touch(&rows, event, now));
        let taken = take(agenda, &rows, planner, now);
        agenda.planned(planner, &Plan { waiting: taken.clone(), ..Plan::default() });
        taken.len()
    };
    agenda.planned(planner, &Plan { waiting: all, ..Plan::default() });
    assert_eq!(comes(&mut agenda, 2, at(10)), 200);
    assert_eq!(comes(&mut agenda, 3, at(10)), 0, "so soon after");
    assert_eq!(agenda.next(), Some(at(11)));
    assert_eq!(take(&mut agenda, &rows, planner, at(11)).len(), 200);
}

#[test]
fn of_two_moments_the_earlier_counts_and_what_was_planned_has_none() {
    let rows = cloud(1);
    let mut agenda = idle(&rows);
    let (planner, item) = (number("deployment"), pod(0).key());
    for seconds in [60, 30, 90] {
        agenda.planned(planner, &Plan { again: vec![(at(seconds), item.clone())], ..Plan::default() });
    }
    assert_eq!(agenda.next(), Some(at(30)));
    assert_eq!(taken(&mut agenda, at(30)), [("deployment", vec![item])]);
    assert_eq!(agenda.next(), None);
}

#[test]
fn plain_data_that_stays_wakes_nobody() {
    let mut rows = cloud(1);
    let mut news = |object: KubeObject| {
        let revision = rows.revision() + 1;
        let commit = rows.apply(revision, &[Write::Create(object.into())]);
        commit.events.iter().any(plan::is_news)
    };
    assert!(!news(object("", "configmaps", "a", json!({}))));
    assert!(news(object("", "configmaps", "owned", json!({"metadata": {"ownerReferences": [{"uid": "u"}]}}))));
    assert!(news(object("", "configmaps", "kube-root-ca.crt", json!({}))), "every namespace has it as it is");
    assert!(news(object("", "services", "s", json!({}))));
    let mut change = Change::new();
    change.delete(rows.at::<KubeObject>(&object("", "configmaps", "a", json!({})).key()).unwrap());
    let commit = rows.apply(rows.revision() + 1, &change.writes);
    assert!(commit.events.iter().all(plan::is_news), "what goes may have been waited for");
}

#[test]
fn what_is_held_is_planned_when_it_is_let_go() {
    let rows = cloud(2);
    let (sets, mut agenda) = (number("replicaset"), Agenda::new(&rows));
    let taken = take(&mut agenda, &rows, sets, at(0));
    assert_eq!(taken.len(), 2);
    let one = &taken[..1];
    // Two changes of one item are being decided on.
    agenda.hold(sets, one);
    agenda.hold(sets, one);
    agenda.put_back(sets, &taken, at(0));
    assert_eq!(take(&mut agenda, &rows, sets, at(5)), &taken[1..], "only what is not held");
    agenda.release(sets, one);
    assert!(take(&mut agenda, &rows, sets, at(5)).is_empty(), "it is held by another");
    agenda.release(sets, one);
    assert_eq!(take(&mut agenda, &rows, sets, at(5)), one, "it was due meanwhile");
    agenda.hold(sets, one);
    agenda.release(sets, one);
    assert!(take(&mut agenda, &rows, sets, at(5)).is_empty(), "nothing touched it");
    agenda.denied(sets, one, at(5));
    assert!(take(&mut agenda, &rows, sets, at(6)).is_empty());
    agenda.put_back(sets, one, at(6));
    assert!(take(&mut agenda, &rows, sets, at(8)).is_empty(), "whoever denies may touch it each time");
    assert_eq!(take(&mut agenda, &rows, sets, at(60)), one);
}

#[test]
fn each_has_its_turn() {
    let rows = cloud(300);
    let (sets, mut agenda) = (number("replicaset"), Agenda::new(&rows));
    let first = take(&mut agenda, &rows, sets, at(0));
    assert!(first.len() < 150, "{} are taken at once", first.len());
    // They are due again at once, as they may be for ever.
    agenda.planned(sets, &Plan { left: first.clone(), ..Plan::default() });
    let second = take(&mut agenda, &rows, sets, at(0));
    assert!(second.iter().all(|item| !first.contains(item)), "others wait");
}

#[test]
fn what_is_never_new_enough_is_not_tried_without_end() {
    let rows = cloud(1);
    let (sets, mut agenda) = (number("replicaset"), Agenda::new(&rows));
    let stale = Refused::Stale(pod(0).key());
    let tries = |agenda: &mut Agenda| {
        let mut tries = 0;
        while let [item] = take(agenda, &rows, sets, at(0)).as_slice() {
            tries += 1;
            assert!(tries < 100, "it is tried for ever");
            agenda.refused(sets, std::slice::from_ref(item), &stale, at(0));
        }
        tries
    };
    assert_eq!(tries(&mut agenda), 10);
    let item = take(&mut agenda, &rows, sets, at(60));
    assert_eq!(item.len(), 1, "but later it is");
    agenda.committed(sets, &item);
    agenda.put_back(sets, &item, at(0));
    assert_eq!(take(&mut agenda, &rows, sets, at(5)), item);
    agenda.refused(sets, &item, &stale, at(0));
    assert_eq!(tries(&mut agenda), 9, "it is counted anew");
}

#[test]
fn nobody_plans_without_what_he_has_just_done() {
    let mut rows = cloud(1);
    let (sets, mut agenda) = (number("replicaset"), idle(&rows));
    let again = rows.at::<KubeObject>(&object("apps", "replicasets", "set-0", json!({})).key()).unwrap().row.clone();
    let touch = |agenda: &mut Agenda, rows: &mut Snapshot| {
        let expected = rows.row(&again.key).unwrap().modified;
        let writes = [Write::Update { object: again.object.clone(), expected }];
        let commit = rows.apply(rows.revision() + 1, &writes);
        commit.events.iter().for_each(|event| agenda.touch(rows, event, at(1)));
    };
    touch(&mut agenda, &mut rows);
    let away = agenda.take(sets, at(1));
    assert_eq!(away, std::slice::from_ref(&again.key));
    // It is touched meanwhile, and others wait for something that comes meanwhile.
    touch(&mut agenda, &mut rows);
    taken(&mut agenda, at(1));
    assert_eq!((agenda.take(sets, at(1)), agenda.next()), (Vec::new(), None));
    agenda.planned(sets, &Plan::default());
    agenda.landed(sets, &away, &rows);
    assert_eq!(agenda.next(), Some(Time::UNIX_EPOCH));
    assert_eq!(take(&mut agenda, &rows, sets, at(1)), away);

    // It is gone before its refusal is heard of.
    touch(&mut agenda, &mut rows);
    let away = agenda.take(sets, at(1));
    let refusal = Refused::Exceeded { pool: "quota/p/object".into(), asked: 1, used: 1, limit: 1 };
    let set = rows.row(&again.key).unwrap().clone();
    let commit = rows.apply(rows.revision() + 1, &[Write::Delete { key: set.key.clone(), expected: set.modified }]);
    commit.events.iter().for_each(|event| agenda.touch(&rows, event, at(1)));
    assert!(!agenda.refused(sets, &away, &refusal, at(1)));
    agenda.landed(sets, &away, &rows);
    assert_eq!(take(&mut agenda, &rows, sets, at(60)), away, "what it left behind is looked at");
    assert!(!agenda.refused(sets, &away, &refusal, at(60)), "nothing is remembered of it");
}
