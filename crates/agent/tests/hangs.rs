//! A driver that hangs and a step that panics stop one thing, not the host.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent::{Agent, Config, Drivers};
use async_trait::async_trait;
use driver::sim::Host as Machine;
use driver::{
    Attach, Attachment, ExecOutput, Health, NetDriver, PodDriver, Result, SeenNetwork, SeenPod, StreamRequest,
};
use model::hostnet::HostNetwork;
use model::wanted::{Generation, Nic, WantedPod};
use model::{Change, Host, Setting, Time};
use serde_json::json;
use store::Store;

/// A runtime that answers to nothing, as one that was stopped.
struct Hangs;

#[async_trait]
impl PodDriver for Hangs {
    async fn health(&self) -> Health {
        std::future::pending().await
    }
    async fn list(&self) -> Result<Vec<SeenPod>> {
        std::future::pending().await
    }
    async fn look(&self, _: &str) -> Result<Option<SeenPod>> {
        std::future::pending().await
    }
    async fn ensure_sandbox(&self, _: &WantedPod) -> Result<()> {
        std::future::pending().await
    }
    async fn ensure_image(&self, _: &WantedPod, _: &str) -> Result<String> {
        std::future::pending().await
    }
    async fn ensure_container(&self, _: &WantedPod, _: &str) -> Result<()> {
        std::future::pending().await
    }
    async fn stop_container(&self, _: &str, _: Duration) -> Result<()> {
        std::future::pending().await
    }
    async fn remove(&self, _: &str, _: Duration, _: Generation) -> Result<()> {
        std::future::pending().await
    }
    fn forget_generations(&self) -> Result<()> {
        Ok(())
    }
    async fn exec(&self, _: &str, _: &[String], _: Duration) -> Result<ExecOutput> {
        std::future::pending().await
    }
    async fn stream(&self, _: &StreamRequest) -> Result<String> {
        std::future::pending().await
    }
}

/// A network that panics when it is first made.
#[derive(Default)]
struct Panics {
    panicked: AtomicBool,
    applied: AtomicU32,
}

#[async_trait]
impl Attach for Panics {
    async fn attach(&self, nic: &Nic) -> Result<Attachment> {
        Machine::default().attach(nic).await
    }
}

#[async_trait]
impl NetDriver for Panics {
    async fn health(&self) -> Health {
        Health { part: "network".into(), ..Health::default() }
    }
    async fn apply(&self, _: &HostNetwork, _: Generation) -> Result<SeenNetwork> {
        assert!(self.panicked.swap(true, Ordering::SeqCst), "a bug");
        self.applied.fetch_add(1, Ordering::SeqCst);
        Ok(SeenNetwork::default())
    }
    async fn plug(&self, _: &str, _: &Path, _: &str, _: Generation) -> Result<()> {
        Ok(())
    }
    async fn unplug(&self, _: &str, _: Generation) -> Result<()> {
        Ok(())
    }
    fn forget_generations(&self) -> Result<()> {
        Ok(())
    }
    async fn purge(&self) -> Result<()> {
        Ok(())
    }
}

/// Time passes quickly: a second at each look at the clock.
fn clock() -> Time {
    static SECONDS: AtomicI64 = AtomicI64::new(1_800_000_000);
    Time::from_second(SECONDS.fetch_add(1, Ordering::SeqCst)).expect("a moment")
}

#[tokio::test]
async fn the_rest_of_the_host_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, machine, net) = (Store::memory(), Machine::default(), Arc::new(Panics::default()));
    let mut change = Change::new();
    let setting = Setting { name: model::CLOUD_ID.into(), value: json!("one") };
    change.create(setting).create(Host::new("h", clock()));
    store.commit(&change).await.expect("the first rows");
    let config = Config {
        host: "h".into(),
        dir: dir.path().to_owned(),
        max_removals: 5,
        keep_aside: jiff::SignedDuration::from_hours(24),
        prefix: "t-".into(),
        endpoint: "sim:".into(),
        blobs: blob::Blobs::new(dir.path().join("blobs")),
        clock,
    };
    let drivers = Drivers { vm: Arc::new(machine.clone()), pod: Arc::new(Hangs), net: net.clone() };
    let agent = tokio::spawn(Agent::new(config, hosts::Local::new(store.clone(), "h", clock, None), drivers).run());
    let until = async |what: &str, good: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !good() {
            assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until("a step that panicked is taken again", &|| net.applied.load(Ordering::SeqCst) > 0).await;
    // VMs are looked at and worked on.
    machine.leave_behind("a.1");
    until("a VM that nobody wants is put aside", &|| machine.aside() == ["a.1"]).await;
    until("the host reports, and what does not answer", &|| {
        let snapshot = store.snapshot();
        let status = &snapshot.get::<Host>("h").expect("a host").status;
        let silent = status.parts.iter().any(|(part, why)| part == "pods" && why.contains("did not answer"));
        let heard = store.last_beat("h").map(|last| last.as_second());
        // Again and again, though there is nothing new to commit.
        silent && status.heartbeat.is_some_and(|told| heard.is_some_and(|last| last > told.as_second() + 5))
    })
    .await;
    agent.abort();
}
