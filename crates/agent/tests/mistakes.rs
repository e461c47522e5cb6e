//! A host that is given another store than its own, and things that nobody wants: over simulated drivers, real folders.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use agent::trash::Trash;
use agent::turns::Played;
use agent::{Config, Drivers};
use driver::sim::Host as Machine;
use model::{Change, Host, Setting, Time};
use serde_json::json;
use store::Store;

thread_local! {
    static CLOCK: Cell<i64> = const { Cell::new(1_800_000_000) };
}

fn now() -> Time {
    Time::from_second(CLOCK.get()).expect("a moment")
}

fn agent(dir: &Path, machine: &Machine, store: &Store, host: &str) -> Played {
    let config = Config {
        host: host.into(),
        dir: dir.to_owned(),
        max_removals: 2,
        keep_aside: jiff::SignedDuration::from_hours(24),
        prefix: "t-".into(),
        endpoint: "sim:".into(),
        blobs: blob::Blobs::new(dir.join("blobs")),
        clock: now,
    };
    let drivers =
        Drivers { vm: Arc::new(machine.clone()), pod: Arc::new(machine.clone()), net: Arc::new(machine.clone()) };
    Played::new(config, hosts::Local::new(store.clone(), host, now, None), drivers)
}

/// A store of a cloud with one host, which may have reported.
async fn store(cloud: &str, host: &str, reports: u64) -> Store {
    let store = Store::memory();
    let mut row = Host::new(host, now());
    row.status.reports = reports;
    row.status.heartbeat = (reports > 0).then(now);
    let mut change = Change::new();
    change.create(Setting { name: model::CLOUD_ID.into(), value: json!(cloud) }).create(row);
    store.commit(&change).await.expect("the first rows");
    store
}

/// Time passes, so much that the host reports and looks at everything.
async fn round(agent: &mut Played) {
    CLOCK.set(CLOCK.get() + 11);
    agent.round().await;
}

fn vms(machine: &Machine) -> Vec<String> {
    machine.everything().0
}

fn parts(store: &Store, host: &str) -> String {
    let snapshot = store.snapshot();
    let parts = &snapshot.get::<Host>(host).expect("a host").status.parts;
    parts.iter().filter(|(part, _)| part == "asks").map(|(_, words)| words.as_str()).collect()
}

#[tokio::test]
async fn a_host_that_is_well_and_idle_costs_no_commit() {
    let dir = tempfile::tempdir().expect("a folder");
    let machine = Machine::default();
    machine.lasting();
    let store = store("one", "h", 0).await;
    let mut agent = agent(dir.path(), &machine, &store, "h");
    round(&mut agent).await;
    let host = || store.snapshot().get::<Host>("h").expect("a host").value.clone();
    let told = store.snapshot().revision();
    assert_eq!((host().is_up(), host().status.reports), (true, 1));
    for _ in 0..3 {
        store.beat("h", Time::UNIX_EPOCH).await.expect("a beat");
        round(&mut agent).await;
        assert_eq!(store.last_beat("h"), Some(now()), "it says that it lives");
    }
    assert_eq!(store.snapshot().revision(), told);
    // It was away for the others: it says that it is back.
    let mut change = Change::new();
    change.edit(store.snapshot().get::<Host>("h").expect("a host"), |host| host.status.silent = true);
    store.commit(&change).await.expect("the change");
    round(&mut agent).await;
    assert_eq!((host().is_up(), host().status.reports), (true, 2));
}

#[tokio::test]
async fn a_host_does_nothing_for_another_cloud_name_or_past() {
    let dir = tempfile::tempdir().expect("a folder");
    let machine = Machine::default();
    machine.lasting();
    let own = store("one", "h", 0).await;
    let mut first = agent(dir.path(), &machine, &own, "h");
    round(&mut first).await;
    round(&mut first).await;
    machine.leave_behind("a.1");
    for (other, host, words) in [
        (store("two", "h", 9).await, "h", "the store is of the cloud two"),
        (store("one", "i", 9).await, "i", "start with --host-name h"),
        (store("one", "h", 0).await, "h", "the store is older than this host: it knows 0 of 1 reports"),
    ] {
        let mut agent = agent(dir.path(), &machine, &other, host);
        round(&mut agent).await;
        assert!(agent.agent().holds());
        assert_eq!(vms(&machine), ["a.1"], "{words}");
        let said = parts(&other, host);
        assert!(said.contains(words) && said.contains("braid confirm"), "{said}");
    }
    // Its own store is not held up by what the others did.
    round(&mut first).await;
    assert_eq!((vms(&machine), machine.aside()), (vec![], vec!["a.1".to_owned()]));
}

#[tokio::test]
async fn a_mistaken_name_leaves_no_host_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let machine = Machine::default();
    let own = store("one", "h", 0).await;
    let mut right = agent(dir.path(), &machine, &own, "h");
    round(&mut right).await;
    let mut change = Change::new();
    change.create(Host::new("mistaken", now())).create(Host::new("new", now()));
    own.commit(&change).await.expect("the rows of hosts");
    round(&mut agent(dir.path(), &machine, &own, "mistaken")).await;
    assert!(parts(&own, "mistaken").contains("not of mistaken"));
    let mut again = agent(dir.path(), &machine, &own, "h");
    round(&mut again).await;
    let names: Vec<String> = own.snapshot().all::<Host>().map(|host| host.name.clone()).collect();
    assert_eq!(names, ["h", "new"], "another host that has not reported yet stays");
}

#[tokio::test]
async fn a_person_may_go_on_with_an_older_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let machine = Machine::default();
    let own = store("one", "h", 5).await;
    round(&mut agent(dir.path(), &machine, &own, "h")).await;
    let older = store("one", "h", 2).await;
    let mut agent = agent(dir.path(), &machine, &older, "h");
    round(&mut agent).await;
    assert_eq!(agent.agent().questions().len(), 1);
    let agreed = agent.agent().confirm().expect("the folder is written");
    assert!(agreed[0].contains("older"), "{agreed:?}");
    round(&mut agent).await;
    assert!(!agent.agent().holds());
    assert_eq!(parts(&older, "h"), "");
}

#[tokio::test]
async fn a_folder_in_use_is_not_taken_by_a_new_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let machine = Machine::default();
    machine.leave_behind("a.1");
    let mut new = agent(dir.path(), &machine, &store("new", "h", 0).await, "h");
    round(&mut new).await;
    assert!(new.agent().holds(), "an older Braid left a folder without a name, and this cloud has never had it");
    assert_eq!(vms(&machine), ["a.1"]);
    let mut known = agent(dir.path(), &machine, &store("known", "h", 1).await, "h");
    round(&mut known).await;
    assert!(!known.agent().holds(), "this one has");
}

#[tokio::test]
async fn more_than_a_few_removals_wait_for_a_person() {
    let dir = tempfile::tempdir().expect("a folder");
    let machine = Machine::default();
    let own = store("one", "h", 1).await;
    let mut agent = agent(dir.path(), &machine, &own, "h");
    round(&mut agent).await;
    machine.leave_behind("a.1");
    round(&mut agent).await;
    assert_eq!(machine.aside(), ["a.1"]);
    // One was put aside just now; with these it would be too many.
    machine.leave_behind("b.1");
    machine.leave_behind("c.1");
    round(&mut agent).await;
    round(&mut agent).await;
    assert_eq!(vms(&machine), ["b.1", "c.1"]);
    assert!(!agent.agent().holds(), "everything else goes on");
    let said = parts(&own, "h");
    assert!(said.contains("unasked (2)") && said.contains("vm b.1, vm c.1"), "{said}");
    agent.agent().confirm().expect("agreed");
    round(&mut agent).await;
    assert_eq!(vms(&machine), Vec::<String>::new());
    assert_eq!(machine.aside().len(), 3);
    // What was agreed to does not count against the next.
    machine.leave_behind("d.1");
    round(&mut agent).await;
    assert_eq!(vms(&machine), Vec::<String>::new());
    assert_eq!(Trash::of(dir.path()).list().len(), 4);
    let why = agent.agent().restore("b.1").await.expect_err("nobody wants it");
    assert!(why.to_string().contains("in no row of the store"), "{why}");
}
