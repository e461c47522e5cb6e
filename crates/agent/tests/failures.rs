//! A host that cannot start a VM, over simulated drivers: whoever waits for it is told why.

use std::cell::Cell;
use std::sync::Arc;

use agent::turns::Played;
use agent::{Config, Drivers};
use driver::sim::{Fate, Host as Machine};
use model::{Change, Flavor, Host, Server, Setting, Source, Time, Vm, VmPhase, VmStatus};
use serde_json::json;
use store::Store;

thread_local! {
    static CLOCK: Cell<i64> = const { Cell::new(1_800_000_000) };
}

fn now() -> Time {
    Time::from_second(CLOCK.get()).expect("a moment")
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_and_starts_when_it_can() {
    let dir = tempfile::tempdir().expect("a folder");
    let (machine, store) = (Machine::default(), Store::memory());
    let server = Server::new("s", "p", "s", Flavor::new("f", "f", 1, 64, 1), now());
    let vm = Vm {
        server_id: "s".into(),
        project_id: "p".into(),
        incarnation: server.incarnation,
        host: Some("h".into()),
        cpu_milli: 0,
        memory_mib: 0,
        disk_gib: 0,
        source: Some(Source {
            blob: blob::sha256(b"damaged"),
            format: "qcow2".into(),
            kernel: None,
            initrd: None,
            cmdline: String::new(),
            size_gib: 0,
            hardware: Default::default(),
        }),
        deleting: false,
        decision: Vec::new(),
        status: VmStatus::default(),
        created_at: now(),
    };
    let id = Vm::id("s", vm.incarnation);
    let mut change = Change::new();
    change.create(Setting { name: model::CLOUD_ID.into(), value: json!("c") }).create(Host::new("h", now()));
    change.create(server).create(vm);
    store.commit(&change).await.expect("the first rows");
    let drivers =
        Drivers { vm: Arc::new(machine.clone()), pod: Arc::new(machine.clone()), net: Arc::new(machine.clone()) };
    let config = Config {
        host: "h".into(),
        dir: dir.path().to_owned(),
        max_removals: 2,
        keep_aside: jiff::SignedDuration::from_hours(24),
        prefix: "t-".into(),
        endpoint: "sim:".into(),
        blobs: blob::Blobs::new(dir.path().join("blobs")),
        clock: now,
    };
    let mut agent = Played::new(config, hosts::Local::new(store.clone(), "h", now, None), drivers);
    let status = || store.snapshot().get::<Vm>(&id).expect("a VM").status.clone();
    let mut until = async |what: &str, done: &dyn Fn(&VmStatus) -> bool| {
        for _ in 0..100 {
            CLOCK.set(CLOCK.get() + 11);
            agent.round().await;
            if done(&status()) {
                return;
            }
        }
        panic!("{what}: {:?}", status());
    };
    machine.set_fates(Box::new(|act| if act == "ensure VM" { Fate::Before } else { Fate::Well }));
    until("it is told", &|status| status.phase == VmPhase::Failed).await;
    assert!(status().message.contains("(simulated)") && status().failures == VmStatus::PATIENCE, "{:?}", status());
    machine.heal();
    until("it starts", &|status| status.phase == VmPhase::Running && status.failures == 0).await;
}
