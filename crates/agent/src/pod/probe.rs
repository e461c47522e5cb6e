//! Startup, readiness and liveness probes: one task for each container that has any, for as long as the container's
//! attempt runs. Results live in memory only; a new agent probes again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::{ContainerState, SeenPod};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use model::kube_event::News;
use model::{KubeObject, Port};

use super::find::newest;
use super::handler::{Handler, place};
use super::news::{news, part, together};
use crate::Agent;
use crate::work::{Digest, digest};

/// What the probes of one container say.
#[derive(Clone, Debug, Default)]
struct Verdict {
    /// There is no startup probe, or it succeeded.
    started: bool,
    ready: bool,
    /// What was not told yet.
    news: Vec<News>,
}

/// What the probes of one pod say, by container.
#[derive(Clone, Debug, Default)]
pub struct Results(HashMap<String, Verdict>);

impl Results {
    /// Whether the container counts as started; one without probes does at once.
    pub fn started(&self, container: &str) -> bool {
        self.0.get(container).is_none_or(|v| v.started)
    }

    /// Whether the container counts as ready; one without a readiness probe does as soon as it is started.
    pub fn ready(&self, container: &str, probed: bool) -> bool {
        if probed { self.0.get(container).is_some_and(|v| v.ready) } else { true }
    }
}

type Key = (String, String);

/// All probes of a host.
#[derive(Default)]
pub struct Probes {
    /// By pod and container: the attempt's id, the task and what it found.
    running: Mutex<HashMap<Key, Running>>,
}

struct Running {
    container_id: String,
    task: tokio::task::JoinHandle<()>,
    verdict: Arc<Mutex<Verdict>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Probes what shall be probed of a pod, and nothing that is gone.
    pub fn watch(&self, agent: &Agent, row: &KubeObject, pod: &Pod, port: Option<&Port>, seen: Option<&SeenPod>) {
        let spec = pod.spec.as_ref();
        let grace = spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        for container in spec.into_iter().flat_map(together).filter(|c| probed(c)) {
            let id = newest(seen, &container.name)
                .filter(|c| matches!(c.state, ContainerState::Running { .. }))
                .map(|c| c.id.clone());
            let key = (row.uid().to_owned(), container.name.clone());
            let mut running = self.running.lock().expect("no panic under this lock");
            let Some(id) = id else {
                // Not running: not started, not ready.
                if let Some(old) = running.get(&key) {
                    *old.verdict.lock().expect("no panic under this lock") = Verdict::default();
                }
                continue;
            };
            if running.get(&key).is_some_and(|r| r.container_id == id) {
                continue;
            }
            let started = container.startup_probe.is_none();
            let verdict = Arc::new(Mutex::new(Verdict { started, ..Verdict::default() }));
            let (container_id, container) = (id.clone(), container.clone());
            let handler = Handler { agent: agent.clone(), container, id, place: place(port) };
            let part = part(pod, &handler.container.name);
            let work = Work { handler, verdict: verdict.clone(), grace, part };
            running.insert(key, Running { container_id, task: tokio::spawn(work.run()), verdict });
        }
    }

    /// Stops probing a pod.
    pub fn forget(&self, uid: &str) {
        self.running.lock().expect("no panic under this lock").retain(|(u, _), _| u != uid);
    }

    /// What happened since this was last asked.
    pub fn take_news(&self, uid: &str) -> Vec<News> {
        let running = self.running.lock().expect("no panic under this lock");
        let of_pod = running.iter().filter(|((u, _), _)| u == uid);
        of_pod
            .flat_map(|(_, r)| std::mem::take(&mut r.verdict.lock().expect("no panic under this lock").news))
            .collect()
    }

    /// How the probes of each pod look, for [`crate::work`].
    pub fn digests(&self) -> HashMap<String, Digest> {
        let running = self.running.lock().expect("no panic under this lock");
        let mut digests = HashMap::new();
        for ((uid, container), probe) in running.iter() {
            let verdict = probe.verdict.lock().expect("no panic under this lock");
            let one = digest((container, &probe.container_id, verdict.started, verdict.ready, verdict.news.len()));
            // In whatever order they come.
            let all: &mut Digest = digests.entry(uid.clone()).or_default();
            *all = all.wrapping_add(one);
        }
        digests
    }

    /// What the probes of a pod say now.
    pub fn results(&self, uid: &str) -> Results {
        let running = self.running.lock().expect("no panic under this lock");
        let of_pod = running.iter().filter(|((u, _), _)| u == uid);
        Results(
            of_pod
                .map(|((_, c), r)| (c.clone(), r.verdict.lock().expect("no panic under this lock").clone()))
                .collect(),
        )
    }
}

fn probed(container: &Container) -> bool {
    container.startup_probe.is_some() || container.readiness_probe.is_some() || container.liveness_probe.is_some()
}

struct Work {
    handler: Handler,
    verdict: Arc<Mutex<Verdict>>,
    /// Seconds that the container gets to end when a probe says so, unless the probe has its own.
    grace: i64,
    /// The container as events name it.
    part: String,
}

impl Work {
    async fn run(self) {
        let container = self.handler.container.clone();
        if let Some(probe) = &container.startup_probe {
            if !self.until_started(probe).await {
                return self.kill("Startup", probe).await;
            }
            self.change(|v| v.started = true);
        }
        let (readiness, liveness) = (container.readiness_probe, container.liveness_probe);
        tokio::select! {
            () = self.readiness(readiness.as_ref()) => {}
            probe = self.liveness(liveness.as_ref()) => self.kill("Liveness", probe).await,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Verdict)) {
        change(&mut self.verdict.lock().expect("no panic under this lock"));
        self.handler.agent.wake();
    }

    async fn kill(&self, which: &str, probe: &Probe) {
        let (agent, name) = (&self.handler.agent, &self.handler.container.name);
        let words = format!("Container {name} failed {} probe, will be restarted", which.to_lowercase());
        self.change(|v| v.news.push(news(agent, "Killing", words).about(self.part.clone())));
        let grace = probe.termination_grace_period_seconds.unwrap_or(self.grace);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        super::stop::container(&self.handler, grace).await.unwrap_or_else(|e| {
            tracing::warn!("stopping container {name}: {e}");
        });
        agent.wake();
    }

    async fn until_started(&self, probe: &Probe) -> bool {
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        for _ in 0..probe.failure_threshold.unwrap_or(3).max(1) {
            if self.once("Startup", probe).await {
                return true;
            }
            tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
        }
        false
    }

    async fn readiness(&self, probe: Option<&Probe>) {
        let Some(probe) = probe else { return std::future::pending().await };
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let (mut good, mut bad) = (0, 0);
        loop {
            let before = self.verdict.lock().expect("no panic under this lock").ready;
            if self.once("Readiness", probe).await {
                (good, bad) = (good + 1, 0);
            } else {
                (good, bad) = (0, bad + 1);
            }
            let ready = if before {
                bad < probe.failure_threshold.unwrap_or(3).max(1)
            } else {
                good >= probe.success_threshold.unwrap_or(1).max(1)
            };
            if ready != before {
                self.change(|v| v.ready = ready);
            }
            tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
        }
    }

    /// Returns the probe when the container shall be restarted.
    async fn liveness<'p>(&self, probe: Option<&'p Probe>) -> &'p Probe {
        let Some(probe) = probe else { return std::future::pending().await };
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let mut bad = 0;
        while bad < probe.failure_threshold.unwrap_or(3).max(1) {
            bad = if self.once("Liveness", probe).await { 0 } else { bad + 1 };
            tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
        }
        probe
    }

    async fn once(&self, which: &str, probe: &Probe) -> bool {
        let Err(why) = self.handler.probe(probe).await else { return true };
        let told = news(&self.handler.agent, "Unhealthy", format!("{which} probe failed: {why}"));
        let told = told.warning().about(self.part.clone());
        let mut verdict = self.verdict.lock().expect("no panic under this lock");
        if !verdict.news.contains(&told) {
            verdict.news.push(told);
        }
        false
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.map_or(default, |v| u64::try_from(v).unwrap_or(0)))
}
