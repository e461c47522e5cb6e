//! The loop of an agent, one turn at a time: what is due begins, each thing as a step of its own, and then the agent waits
//! for something to look again for. A process runs the steps beside each other; the simulator plays the same turns, and runs
//! the steps when and in which order it likes. (Its own simpler round in their place was refused: wake-ups and digests, in
//! which a loop forgets things, were not in it.)

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use futures_util::FutureExt;
use model::{Fault, Time};
use tokio::time::{Interval, MissedTickBehavior};

use crate::cloud::{Cloud, Follow, View};
use crate::work::{Digest, Left, Reason};
use crate::{Agent, Config, Drivers, host, identity, image, net, pod, pressure, restore, vm};

/// How often the agent looks although nobody said that anything changed: containers and VMs end by themselves.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A step that shall run.
pub struct Begun {
    /// What it is about: `vm ID`, `pod UID`, `network`, ...
    pub key: String,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Begun {
    pub async fn run(self) {
        self.work.await;
    }
}

/// An agent that is played: its turns and its steps happen when somebody says so.
pub struct Played {
    turns: Turns,
    begun: Receiver<Begun>,
    /// Steps that have begun and were not run yet.
    pub steps: Vec<Begun>,
}

impl Played {
    pub fn new(config: Config, cloud: Arc<dyn Cloud>, drivers: Drivers) -> Self {
        let (give, begun) = channel();
        let turns = Turns::of(Agent::with(config, cloud, drivers, Steps::Given(give)));
        Self { turns, begun, steps: Vec::new() }
    }

    pub fn agent(&self) -> &Agent {
        &self.turns.agent
    }

    /// Time passes, and the agent looks at everything.
    pub async fn tick(&mut self) {
        self.turns.reason = Reason::Tick;
        self.turn().await;
    }

    /// The agent looks again if it has a reason to; whether it had.
    pub async fn hear(&mut self) -> bool {
        let hears = self.turns.hears();
        if hears {
            self.turn().await;
        }
        hears
    }

    async fn turn(&mut self) {
        self.turns.turn().await;
        // How short this machine is of memory is no news of a host that is played.
        let mut begun: Vec<Begun> = self.begun.try_iter().filter(|step| step.key != "pressure").collect();
        // The order in which they began is the chance of hash tables, which nobody can play again.
        begun.sort_by(|a, b| a.key.cmp(&b.key));
        self.steps.extend(begun);
    }

    /// Time passes, and everything is done until the agent has no reason to look again.
    pub async fn round(&mut self) {
        const MOST: usize = 50;
        self.tick().await;
        for _ in 0..MOST {
            for step in std::mem::take(&mut self.steps) {
                step.run().await;
            }
            if !self.hear().await {
                return;
            }
        }
    }
}

/// Who runs the steps of an agent.
pub(crate) enum Steps {
    /// The runtime, at once.
    Spawned,
    /// Whoever has the other end.
    Given(Sender<Begun>),
}

/// The loop of an agent between two turns.
pub(crate) struct Turns {
    agent: Agent,
    follow: Option<Box<dyn Follow>>,
    last_report: Option<Time>,
    reason: Reason,
}

impl Turns {
    /// Those of an agent in a process.
    pub(crate) fn of(agent: Agent) -> Self {
        Self { agent, follow: None, last_report: None, reason: Reason::Tick }
    }

    pub(crate) async fn run(mut self) {
        let mut clock = tokio::time::interval(LOOK_AGAIN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.turn().await;
            self.wait(&mut clock).await;
        }
    }

    /// Begins whatever is due.
    async fn turn(&mut self) {
        let (agent, reason) = (&self.agent, self.reason);
        if self.follow.is_none() {
            self.follow = agent.cloud().follow().ok();
            net::stale(agent);
        }
        let view = agent.cloud().view();
        let may_act = identity::question(agent, &view.host()).await.is_none();
        let now = agent.now();
        let due = self.last_report.is_none_or(|t| now.duration_since(t) >= host::REPORT_EVERY);
        if due && may_act {
            agent.begin("trash", None, reason, |agent| async move { restore::tidy(&agent).await });
        }
        if agent.inner.news.swap(false, Ordering::Relaxed) || due {
            self.last_report = Some(now);
            let report = |agent: Agent| async move { host::report(&agent).await.map(|()| Left::Settled) };
            agent.begin("host", None, reason, report);
        }
        if may_act {
            agent.begin_all(&*view, reason);
        }
    }

    async fn wait(&mut self, clock: &mut Interval) {
        let agent = self.agent.clone();
        self.reason = tokio::select! {
            () = agent.inner.wake.notified() => Reason::Tick,
            () = agent.inner.looked.notified() => Reason::News,
            _ = clock.tick() => Reason::Tick,
            news = next(&mut self.follow) => self.heard(news),
        };
    }

    /// Whether there is something to look again for before time passes.
    fn hears(&mut self) -> bool {
        let agent = self.agent.clone();
        let reason = if agent.inner.wake.notified().now_or_never().is_some() {
            Some(Reason::Tick)
        } else if agent.inner.looked.notified().now_or_never().is_some() {
            Some(Reason::News)
        } else {
            let news = next(&mut self.follow).now_or_never();
            news.map(|news| self.heard(news))
        };
        self.reason = reason.unwrap_or(self.reason);
        reason.is_some()
    }

    fn heard(&mut self, news: Result<bool, Fault>) -> Reason {
        match news {
            Ok(true) => net::stale(&self.agent),
            Ok(false) => {}
            Err(_) => self.follow = None,
        }
        Reason::News
    }
}

/// Waits for news; whether the network may be made of them.
async fn next(follow: &mut Option<Box<dyn Follow>>) -> Result<bool, Fault> {
    let Some(follow) = follow else { return std::future::pending().await };
    follow.next().await
}

impl Agent {
    /// Begins whatever is due, each thing as a step of its own, looks at the drivers too: one that hangs holds up nothing else.
    fn begin_all(&self, view: &dyn View, reason: Reason) {
        if let Some(due) = net::due(self) {
            let follow = move |agent: Agent| async move { net::follow(&agent, due).await.map(|()| Left::Settled) };
            self.begin("network", None, reason, follow);
        }
        if reason == Reason::Tick {
            self.begin("look at VMs", None, reason, |agent| async move { agent.look_at_vms().await });
            self.begin("look at pods", None, reason, |agent| async move { agent.look_at_pods().await });
            self.begin("pressure", None, reason, |agent| async move { pressure::step(&agent).await });
        }
        let seen = self.seen().clone();
        let vms = view.vms();
        let mut keys =
            HashSet::from(["host", "network", "trash", "pressure", "look at VMs", "look at pods"].map(str::to_owned));
        for (id, digest) in vm::digests(&vms, &seen.vms) {
            let key = format!("vm {id}");
            self.begin(&key, Some(digest), reason, move |agent| async move { vm::step(&agent, &id).await });
            keys.insert(key);
        }
        for id in image::all(self, &vms) {
            let key = format!("image of vm {id}");
            let step = |agent: Agent| async move { image::step(&agent, &id).await.map(|()| Left::Unsettled) };
            self.begin(&key, None, reason, step);
        }
        for (uid, digest) in pod::digests(self, &view.pods(), &seen.pods) {
            let key = format!("pod {uid}");
            self.begin(&key, Some(digest), reason, move |agent| async move { pod::step(&agent, &uid).await });
            keys.insert(key);
        }
        self.inner.work.keep(&keys);
    }

    /// Begins a step about one thing, if it needs that, see [`crate::work::Work::begin`].
    fn begin<F, W>(&self, key: &str, digest: Option<Digest>, reason: Reason, work: W)
    where
        W: FnOnce(Agent) -> F + Send + 'static,
        F: Future<Output = Result<Left, Fault>> + Send + 'static,
    {
        if !self.inner.work.begin(key, digest, reason, self.now()) {
            return;
        }
        let step = Step { agent: self.clone(), key: key.to_owned(), left: Left::Unsettled };
        match &self.inner.steps {
            Steps::Spawned => drop(tokio::spawn(step.run(work))),
            Steps::Given(give) => drop(give.send(Begun { key: key.to_owned(), work: Box::pin(step.run(work)) })),
        }
    }
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
