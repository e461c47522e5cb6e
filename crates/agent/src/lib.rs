//! The agent of one host: it alone does I/O there. It reads the rows bound to its host, lists what the drivers really
//! have, makes the second like the first, and writes what it saw into the rows' status. It is told nothing and
//! remembers nothing that matters: a wake-up carries no news but "look again", so that a lost one costs a moment, and a
//! killed agent's successor adopts whatever runs. An agent that did only as it was told was refused: it left things
//! running in 38 of 300 simulated runs.
//!
//! * [`Agent`]: the loop; [`net`], [`vm`], [`pod`], [`host`]: one noun each
//! * [`metadata`]: what guests may ask; [`streams`]: logs, consoles and commands for the faces

pub mod cni;
pub mod host;
pub mod metadata;
pub mod net;
pub mod pod;
mod pod_env;
mod pod_probe;
mod pod_security;
mod pod_status;
mod pod_volumes;
mod pod_wanted;
pub mod streams;
pub mod vm;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::{NetDriver, PodDriver, VmDriver};
use model::hostnet::HostNetwork;
use model::{Change, Fault, Kind, Snapshot, Time};
use store::Store;
use tokio::sync::Notify;

/// How often the agent looks although nobody said that anything changed: containers and VMs end by themselves.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The drivers of one host.
#[derive(Clone)]
pub struct Drivers {
    pub vm: Arc<dyn VmDriver>,
    pub pod: Arc<dyn PodDriver>,
    pub net: Arc<dyn NetDriver>,
}

/// What an agent is told at its start.
#[derive(Clone)]
pub struct Config {
    /// The name of the host, that of its Host row.
    pub host: String,
    /// The folder for volumes of pods.
    pub dir: PathBuf,
    /// Begins the names of namespaces, as the network driver has it.
    pub prefix: String,
    /// Where this host serves streams, for the Host row.
    pub endpoint: String,
    /// Where blobs of images lie as files on this host.
    pub blobs: blob::Blobs,
    /// The moment it is now; the simulator has its own.
    pub clock: fn() -> Time,
    /// Makes the tokens that pods find in their volumes; without it they get none.
    pub tokens: Option<Arc<dyn Tokens>>,
}

/// Makes tokens of Kubernetes service accounts.
pub trait Tokens: Send + Sync {
    /// A token of the account, valid until `expires` at most.
    fn service_account(&self, account: &model::KubeObject, expires: Time) -> Result<String, Fault>;
}

/// The agent of one host; clones are the same agent.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: Config,
    store: Store,
    drivers: Drivers,
    wake: Notify,
    /// Things that are being worked on: the key, and whether to look again afterwards.
    busy: Mutex<HashMap<String, bool>>,
    network: Mutex<Applied>,
    probes: pod_probe::Probes,
    /// What went wrong last with each thing, so that it is logged once.
    said: Mutex<HashMap<String, String>>,
    /// A part of the host broke or came back: report that now, not in a while.
    news: AtomicBool,
}

/// The network that was last made.
#[derive(Default)]
struct Applied {
    network: Arc<HostNetwork>,
    when: Option<Time>,
    problem: String,
}

impl Agent {
    pub fn new(config: Config, store: Store, drivers: Drivers) -> Self {
        let inner = Inner {
            config,
            store,
            drivers,
            wake: Notify::new(),
            busy: Mutex::default(),
            network: Mutex::default(),
            probes: pod_probe::Probes::default(),
            said: Mutex::default(),
            news: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub fn drivers(&self) -> &Drivers {
        &self.inner.drivers
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn now(&self) -> Time {
        (self.inner.config.clock)()
    }

    /// Runs until the process ends.
    pub async fn run(self) {
        let mut after = self.store().snapshot().revision();
        let mut watch = self.store().watch(after).ok();
        let mut last_report: Option<Time> = None;
        loop {
            let snapshot = self.store().snapshot();
            after = after.max(snapshot.revision());
            let now = self.now();
            let due = last_report.is_none_or(|t| now.duration_since(t) >= host::REPORT_EVERY);
            if self.inner.news.swap(false, Ordering::Relaxed) || due {
                last_report = Some(now);
                self.task("host".into(), |agent| async move { host::report(&agent).await });
            }
            self.round(&snapshot).await;
            tokio::select! {
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                news = next(&mut watch) => if news.is_err() {
                    watch = self.store().watch(self.store().snapshot().revision()).ok();
                },
            }
        }
    }

    /// Looks at everything once; what takes long goes on in tasks.
    async fn round(&self, snapshot: &Snapshot) {
        if net::due(self, snapshot) {
            self.task("network".into(), |agent| async move { net::step(&agent).await });
        }
        for id in vm::all(self, snapshot).await {
            self.task(format!("vm {id}"), move |agent| async move { vm::step(&agent, &id).await });
        }
        for uid in pod::all(self, snapshot).await {
            self.task(format!("pod {uid}"), move |agent| async move { pod::step(&agent, &uid).await });
        }
    }

    /// Looks at everything once, one after the other, and returns when it is done: for the simulator.
    pub async fn round_inline(&self, snapshot: &Snapshot) {
        self.note("host", host::report(self).await);
        self.note("network", net::step(self).await);
        for id in vm::all(self, snapshot).await {
            self.note(&format!("vm {id}"), vm::step(self, &id).await);
        }
        for uid in pod::all(self, snapshot).await {
            self.note(&format!("pod {uid}"), pod::step(self, &uid).await);
        }
    }

    /// Makes the loop look again now.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Works on one thing in a task of its own, unless that is being done already: then once more afterwards.
    fn task<F, W>(&self, key: String, work: W)
    where
        W: FnOnce(Agent) -> F + Send + 'static,
        F: Future<Output = Result<(), Fault>> + Send,
    {
        {
            let mut busy = self.inner.busy.lock().expect("no panic under this lock");
            if let Some(again) = busy.get_mut(&key) {
                *again = true;
                return;
            }
            busy.insert(key.clone(), false);
        }
        let agent = self.clone();
        tokio::spawn(async move {
            let result = work(agent.clone()).await;
            agent.note(&key, result);
            let again = agent.inner.busy.lock().expect("no panic under this lock").remove(&key).unwrap_or(false);
            if again {
                agent.wake();
            }
        });
    }

    /// Logs what went wrong with a thing, when it is not what went wrong last time; whether that changed.
    fn note(&self, key: &str, result: Result<(), Fault>) -> bool {
        let mut said = self.inner.said.lock().expect("no panic under this lock");
        match result {
            Ok(()) => said.remove(key).is_some(),
            Err(fault) => {
                let text = fault.to_string();
                let changed = said.get(key) != Some(&text);
                if changed {
                    tracing::warn!(host = self.config().host, "{key}: {text}");
                    said.insert(key.to_owned(), text);
                }
                changed
            }
        }
    }

    /// What a driver listed. When it cannot, or can again, the host's report says so at once.
    fn listed<T>(&self, key: &str, result: driver::Result<Vec<T>>) -> Vec<T> {
        let (list, result) = match result {
            Ok(list) => (list, Ok(())),
            Err(e) => (Vec::new(), Err(fault(e))),
        };
        if self.note(key, result) {
            self.inner.news.store(true, Ordering::Relaxed);
        }
        list
    }

    /// Commits a status, planned from fresh rows; no commit if the plan is empty.
    pub(crate) async fn write(&self, plan: impl FnMut(&Snapshot) -> Result<Change, Fault>) -> Result<(), Fault> {
        let mut plan = plan;
        self.store().transact(|snapshot| Ok((plan(snapshot)?, ()))).await
    }

    /// The network as it was last made.
    pub(crate) fn network(&self) -> Arc<HostNetwork> {
        self.inner.network.lock().expect("no panic under this lock").network.clone()
    }
}

/// Waits for a commit that concerns hosts. Whatever else a pod depends on is noticed by the next look anyway.
async fn next(watch: &mut Option<store::Watch>) -> Result<(), Fault> {
    let Some(watch) = watch else { return std::future::pending().await };
    loop {
        let commits = watch.next().await?;
        if commits.iter().flat_map(|commit| &commit.events).any(|event| concerns(&event.key)) {
            return Ok(());
        }
    }
}

fn concerns(key: &model::Key) -> bool {
    match key.kind {
        Kind::KubeObject => {
            ["/pods/", "/services/", "discovery.k8s.io/endpointslices/"].iter().any(|part| key.name.starts_with(part))
        }
        Kind::Server | Kind::Vm | Kind::Port | Kind::Network | Kind::Subnet | Kind::Router | Kind::FloatingIp => true,
        Kind::SecurityGroup | Kind::SecurityGroupRule | Kind::Cluster => true,
        _ => false,
    }
}

/// A driver's fault in the terms of requests.
pub(crate) fn fault(fault: driver::DriverFault) -> Fault {
    Fault::Unavailable(fault.to_string())
}
