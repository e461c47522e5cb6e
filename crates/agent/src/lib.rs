//! The agent of one host: it alone does I/O there. It reads what its host shall have, lists what the drivers really
//! have, makes the second like the first, and reports what it saw. It is told nothing and
//! remembers nothing that matters: a wake-up carries no news but "look again", so that a lost one costs a moment, and a
//! killed agent's successor adopts whatever runs. An agent that did only as it was told was refused: it left things
//! running in 38 of 300 simulated runs.
//!
//! * [`cloud`]: what it reads and whom it tells; [`Agent`]: the loop; [`net`], [`vm`], [`image`], [`pod`], [`host`]: one noun each
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
pub mod vm;
mod work;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driver::{NetDriver, PodDriver, VmDriver};
use jiff::SignedDuration;
use model::host_report::{Heard, Report};
use model::host_view::Wanted;
use model::hostnet::HostNetwork;
use model::{Fault, Time};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use cloud::{Cloud, Follow, View};
use trash::Sort;
use work::{Left, Look, Reason, Work};

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
    vms: HashMap<String, Look>,
    pods: HashMap<String, Look>,
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
        let mut watch = None;
        let mut clock = tokio::time::interval(LOOK_AGAIN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_report: Option<Time> = None;
        let mut reason = Reason::Tick;
        loop {
            if watch.is_none() {
                watch = self.cloud().follow().ok();
                net::stale(&self);
            }
            let view = self.cloud().view();
            let may_act = identity::question(&self, &view.host()).await.is_none();
            let now = self.now();
            let due = last_report.is_none_or(|t| now.duration_since(t) >= host::REPORT_EVERY);
            if due && may_act {
                self.task("trash", None, reason, |agent| async move { restore::tidy(&agent).await });
            }
            if self.inner.news.swap(false, Ordering::Relaxed) || due {
                last_report = Some(now);
                self.task(
                    "host",
                    None,
                    reason,
                    |agent| async move { host::report(&agent).await.map(|()| Left::Settled) },
                );
            }
            if may_act {
                self.round(&*view, reason);
            }
            reason = tokio::select! {
                () = self.inner.wake.notified() => Reason::Tick,
                () = self.inner.looked.notified() => Reason::News,
                _ = clock.tick() => Reason::Tick,
                news = next(&mut watch) => {
                    match news {
                        Ok(true) => net::stale(&self),
                        Ok(false) => {}
                        Err(_) => watch = None,
                    }
                    Reason::News
                }
            };
        }
    }

    /// Begins whatever is due, each thing in a task of its own, looks at the drivers too: one that hangs holds up nothing else.
    fn round(&self, view: &dyn View, reason: Reason) {
        if let Some(due) = net::due(self) {
            let follow = move |agent: Agent| async move { net::follow(&agent, due).await.map(|()| Left::Settled) };
            self.task("network", None, reason, follow);
        }
        if reason == Reason::Tick {
            self.task("look at VMs", None, reason, |agent| async move { agent.look_at_vms().await });
            self.task("look at pods", None, reason, |agent| async move { agent.look_at_pods().await });
            self.task("pressure", None, reason, |agent| async move { pressure::step(&agent).await });
        }
        let seen = self.seen().clone();
        let wanted_vms = view.vms();
        let mut keys =
            HashSet::from(["host", "network", "trash", "pressure", "look at VMs", "look at pods"].map(str::to_owned));
        for (id, look) in vm::looks(&wanted_vms, &seen.vms) {
            let key = format!("vm {id}");
            self.task(&key, Some(look), reason, move |agent| async move { vm::step(&agent, &id).await });
            keys.insert(key);
        }
        for id in image::all(self, &wanted_vms) {
            let key = format!("image of vm {id}");
            let step = |agent: Agent| async move { image::step(&agent, &id).await.map(|()| Left::Unsettled) };
            self.task(&key, None, reason, step);
        }
        for (uid, look) in pod::looks(self, &view.pods(), &seen.pods) {
            let key = format!("pod {uid}");
            self.task(&key, Some(look), reason, move |agent| async move { pod::step(&agent, &uid).await });
            keys.insert(key);
        }
        self.inner.work.keep(&keys);
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

    /// Looks at everything once, one after the other, and returns when it is done: for the simulator.
    pub async fn round_inline(&self) {
        self.round_in_order(&mut |_| {}).await;
    }

    /// The same, the VMs and then the pods in another order than that of their ids: their tasks run in any.
    pub async fn round_in_order(&self, order: &mut (dyn FnMut(&mut Vec<String>) + Send)) {
        let view = self.cloud().view();
        let may_act = identity::question(self, &view.host()).await.is_none();
        self.note("host", host::report(self).await);
        if !may_act {
            return;
        }
        self.note("network", net::step(self).await);
        self.note("look at VMs", self.look_at_vms().await.map(drop));
        self.note("look at pods", self.look_at_pods().await.map(drop));
        let seen = self.seen().clone();
        let vms = view.vms();
        for id in in_order(vm::looks(&vms, &seen.vms).into_keys(), order) {
            self.note(&format!("vm {id}"), vm::step(self, &id).await.map(drop));
        }
        for id in image::all(self, &vms) {
            self.note(&format!("image of vm {id}"), image::step(self, &id).await);
        }
        for uid in in_order(pod::looks(self, &view.pods(), &seen.pods).into_keys(), order) {
            self.note(&format!("pod {uid}"), pod::step(self, &uid).await.map(drop));
        }
    }

    /// Makes the loop look again now.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// The host's report is due now.
    pub(crate) fn report_soon(&self) {
        self.inner.news.store(true, Ordering::Relaxed);
    }

    /// Works on one thing in a task of its own, if it needs that, see [`Work::begin`].
    fn task<F, W>(&self, key: &str, look: Option<Look>, reason: Reason, work: W)
    where
        W: FnOnce(Agent) -> F + Send + 'static,
        F: Future<Output = Result<Left, Fault>> + Send + 'static,
    {
        if !self.inner.work.begin(key, look, reason, self.now()) {
            return;
        }
        let step = Step { agent: self.clone(), key: key.to_owned(), left: Left::Unsettled };
        tokio::spawn(step.run(work));
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

/// Ids, each once, first as they are sorted and then as somebody wants them.
fn in_order(ids: impl Iterator<Item = String>, order: &mut (dyn FnMut(&mut Vec<String>) + Send)) -> Vec<String> {
    let mut ids: Vec<String> = ids.collect::<BTreeSet<String>>().into_iter().collect();
    order(&mut ids);
    ids
}

/// A step that runs; when it is dropped, ended or not, its thing is not busy any more.
struct Step {
    agent: Agent,
    key: String,
    left: Left,
}

impl Step {
    async fn run<F, W>(mut self, work: W)
    where
        W: FnOnce(Agent) -> F,
        F: Future<Output = Result<Left, Fault>>,
    {
        let result = work(self.agent.clone()).await;
        self.left = result.as_ref().copied().unwrap_or(Left::Unsettled);
        self.agent.note(&self.key, result.map(drop));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(host = self.agent.config().host, "{}: the step broke off; it is tried again", self.key);
        }
        if self.agent.inner.work.end(&self.key, self.left, self.agent.now()) {
            self.agent.wake();
        }
    }
}

/// Waits for news; whether the network may be made of them.
async fn next(watch: &mut Option<Box<dyn Follow>>) -> Result<bool, Fault> {
    let Some(watch) = watch else { return std::future::pending().await };
    watch.next().await
}

fn ids(wanted: Vec<Wanted>) -> HashSet<String> {
    wanted.into_iter().map(|thing| thing.id).collect()
}

/// A driver's fault in the terms of requests.
pub(crate) fn fault(fault: driver::DriverFault) -> Fault {
    Fault::Unavailable(fault.to_string())
}
