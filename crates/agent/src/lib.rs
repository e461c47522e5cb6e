//! The agent of one host: it alone does I/O there. It reads what its host shall have, lists what the drivers really
//! have, makes the second like the first, and reports what it saw. It is told nothing and
//! remembers nothing that matters: a wake-up carries no news but "look again", so that a lost one costs a moment, and a
//! killed agent's successor adopts whatever runs. An agent that did only as it was told was refused: it left things
//! running in 38 of 300 simulated runs.
//!
//! * [`cloud`]: what it reads and whom it tells; [`turns`]: the loop; [`net`], [`vm`], [`image`], [`pod`], [`host`]: one noun each
//! * `identity`: whether this host is this cloud's; `prune`: what nobody wants; [`trash`]: where that goes
//! * `work`: what needs a step
//! * [`metadata`]: what guests may ask; [`streams`]: logs, consoles and commands for the faces

pub mod cloud;
pub mod cni;
pub mod host;
mod identity;
pub mod image;
mod log;
pub mod metadata;
pub mod net;
pub mod pod;
mod pressure;
mod prune;
mod restore;
pub mod streams;
pub mod trash;
pub mod turns;
pub mod vm;
mod work;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver::{NetDriver, PodDriver, VmDriver};
use jiff::SignedDuration;
use model::host_report::{Heard, Report};
use model::host_view::Wanted;
use model::hostnet::HostNetwork;
use model::{Fault, Time};
use tokio::sync::Notify;

use cloud::Cloud;
use trash::Sort;
use turns::{Steps, Turns};
use work::{Digest, Left, Work};

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
    /// The host's folder: volumes of pods, what was put aside, and whose the folder is.
    pub dir: PathBuf,
    /// So many things that nobody wants are put aside without asking.
    pub max_removals: usize,
    /// How long what was put aside is kept.
    pub keep_aside: SignedDuration,
    /// Begins the names of namespaces, as the network driver has it.
    pub prefix: String,
    /// Where this host serves streams, for the Host row.
    pub endpoint: String,
    /// Where blobs of images lie as files on this host.
    pub blobs: blob::Blobs,
    /// The moment it is now; the simulator has its own.
    pub clock: fn() -> Time,
}

/// The agent of one host; clones are the same agent.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: Config,
    cloud: Arc<dyn Cloud>,
    drivers: Drivers,
    wake: Notify,
    /// A driver was looked at, and things are not as they were.
    looked: Notify,
    seen: Mutex<Seen>,
    work: Work,
    network: Mutex<Applied>,
    standing: identity::Standing,
    pruning: prune::Pruning,
    probes: pod::probe::Probes,
    pulls: pod::pull_backoff::PullBackoff,
    pressure: pressure::Pressure,
    steps: Steps,
    /// What went wrong last with each thing, so that it is logged once.
    said: Mutex<HashMap<String, String>>,
    /// A part of the host broke or came back: report that now, not in a while.
    news: AtomicBool,
    /// Something was committed since the last report that was.
    wrote: AtomicBool,
}

/// What the drivers had when they were last looked at, by id, as digests.
#[derive(Clone, Default)]
struct Seen {
    vms: HashMap<String, Digest>,
    pods: HashMap<String, Digest>,
}

/// The network that was last made.
#[derive(Default)]
struct Applied {
    network: Arc<HostNetwork>,
    /// Rows changed of which it may be made.
    stale: bool,
    when: Option<Time>,
    problem: String,
}

impl Agent {
    pub fn new(config: Config, cloud: Arc<dyn Cloud>, drivers: Drivers) -> Self {
        Self::with(config, cloud, drivers, Steps::Spawned)
    }

    fn with(config: Config, cloud: Arc<dyn Cloud>, drivers: Drivers, steps: Steps) -> Self {
        let inner = Inner {
            config,
            cloud,
            drivers,
            wake: Notify::new(),
            looked: Notify::new(),
            seen: Mutex::default(),
            work: Work::default(),
            network: Mutex::default(),
            standing: identity::Standing::default(),
            pruning: prune::Pruning::default(),
            probes: pod::probe::Probes::default(),
            pulls: pod::pull_backoff::PullBackoff::default(),
            pressure: pressure::Pressure::default(),
            steps,
            said: Mutex::default(),
            news: AtomicBool::new(false),
            wrote: AtomicBool::new(true),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn cloud(&self) -> &dyn Cloud {
        &*self.inner.cloud
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
        Turns::of(self).run().await;
    }

    async fn look_at_vms(&self) -> Result<Left, Fault> {
        // Older than the look: what was wanted when the driver was asked is not taken for unwanted.
        let wanted = ids(self.cloud().view().vms());
        let vms = vm::seen(self).await;
        prune::judge(self, Sort::Vm, vm::unwanted(&wanted, &vms).collect());
        self.note_look(|seen| std::mem::replace(&mut seen.vms, vms.clone()) != vms);
        Ok(Left::Settled)
    }

    async fn look_at_pods(&self) -> Result<Left, Fault> {
        let wanted = ids(self.cloud().view().pods());
        let pods = pod::all_seen(self).await;
        prune::judge(self, Sort::Pod, pod::unwanted(self, &wanted, &pods).collect());
        self.inner.pruning.keep(|uid| pods.contains_key(uid) || wanted.contains(uid));
        self.note_look(|seen| std::mem::replace(&mut seen.pods, pods.clone()) != pods);
        Ok(Left::Settled)
    }

    fn note_look(&self, note: impl FnOnce(&mut Seen) -> bool) {
        if note(&mut self.seen()) {
            self.inner.looked.notify_one();
        }
    }

    // Whoever panicked under this lock left it whole.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the loop look again now.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// The host's report is due now.
    pub(crate) fn report_soon(&self) {
        self.inner.news.store(true, Ordering::Relaxed);
    }

    /// Logs what went wrong with a thing, when it is not what went wrong last time; whether that changed.
    fn note(&self, key: &str, result: Result<(), Fault>) -> bool {
        let mut said = self.inner.said.lock().unwrap_or_else(PoisonError::into_inner);
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
            self.report_soon();
        }
        list
    }

    /// Says something that the cloud keeps.
    pub(crate) async fn report(&self, report: Report) -> Result<Heard, Fault> {
        let heard = self.cloud().report(report).await?;
        self.inner.wrote.fetch_or(heard.wrote, Ordering::Relaxed);
        Ok(heard)
    }

    /// The network as it was last made.
    pub(crate) fn network(&self) -> Arc<HostNetwork> {
        self.inner.network.lock().unwrap_or_else(PoisonError::into_inner).network.clone()
    }
}

fn ids(wanted: Vec<Wanted>) -> HashSet<String> {
    wanted.into_iter().map(|thing| thing.id).collect()
}

/// A driver's fault in the terms of requests.
pub(crate) fn fault(fault: driver::DriverFault) -> Fault {
    Fault::Unavailable(fault.to_string())
}
