//! Brings a pod up: network, volumes, sandbox, init containers in order with the sidecars among them, containers.

use std::collections::BTreeMap;

use driver::{ContainerState, SeenPod};
use k8s_openapi::api::core::v1::{Container, Pod};
use model::host_view::PodView;
use model::wanted::{Generation, WantedContainer, WantedPod};
use model::{Fault, Time};

use super::context::Context;
use super::find::{newest, seen};
use super::handler::{Handler, place};
use super::news::{Said, Waiting, news, part, sidecar};
use super::{stop, volumes};
use crate::{Agent, fault};

/// How long the hook `postStart` may take.
const HOOK_LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

/// An image is not asked for again yet.
const BACK_OFF: &str = "ImagePullBackOff";

/// One step towards a pod that runs.
pub async fn run(agent: &Agent, at: Generation, of: &PodView, pod: &Pod, said: &mut Said) -> Result<(), Fault> {
    let row = &of.pod;
    let spec = pod.spec.as_ref().ok_or_else(|| Fault::invalid("the pod has no spec"))?;
    // The API and the planners refuse such pods; here nothing leads around it.
    if let Some(violations) = model::pod_security::violations(&row.body) {
        return Err(Fault::invalid(model::pod_security::refusal(&violations)));
    }
    if !of.admitted && seen(agent, row.uid()).await?.is_none() {
        let host = &agent.config().host;
        return Err(Fault::Forbidden(format!("the node {host} is not for this project: hosts are reserved")));
    }
    let port = of.port.as_ref().ok_or_else(|| Fault::Unavailable("waits for an address".into()))?;
    let wires = agent.network();
    let here = |id: &str| wires.domains.iter().flat_map(|d| &d.bridges).flat_map(|b| &b.ports).any(|w| w.port_id == id);
    if !here(&port.id) {
        return Err(Fault::Unavailable("waits for its network".into()));
    }
    let (host, none) = (agent.cloud().view().host(), BTreeMap::new());
    let context = Context { agent, at, host: &host, of, pod, volumes: &none };
    let volumes = volumes::ensure(&context).await.inspect_err(|why| {
        said.tell(news(agent, "FailedMount", format!("MountVolume.SetUp failed: {why}")).warning());
    })?;
    let context = Context { volumes: &volumes, ..context };
    let mut start = Start { wanted: context.pod()?, seen: seen(agent, row.uid()).await?, context, said };
    if !start.seen.as_ref().is_some_and(|pod| pod.ready) {
        agent.drivers().pod.ensure_sandbox(&start.wanted).await.map_err(fault).inspect_err(|why| {
            start.said.tell(news(agent, "FailedCreatePodSandBox", why.to_string()).warning());
        })?;
        start.look().await?;
    }
    start.watch_probes();
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    if !start.initialized(policy).await? {
        for later in &spec.containers {
            start.said.waiting.insert(later.name.clone(), Waiting::new("PodInitializing", ""));
        }
        return Ok(());
    }
    for container in &spec.containers {
        start.container(container, policy).await;
    }
    start.watch_probes();
    Ok(())
}

struct Start<'a> {
    context: Context<'a>,
    wanted: WantedPod,
    seen: Option<SeenPod>,
    said: &'a mut Said,
}

impl Start<'_> {
    async fn look(&mut self) -> Result<(), Fault> {
        self.seen = seen(self.context.agent, self.context.row().uid()).await?;
        Ok(())
    }

    fn watch_probes(&self) {
        let (agent, context) = (self.context.agent, &self.context);
        agent.inner.probes.watch(agent, context.row(), context.pod, context.port(), self.seen.as_ref());
    }

    /// Whether the turn of the containers has come: every init container has succeeded, every sidecar has started.
    async fn initialized(&mut self, policy: &str) -> Result<bool, Fault> {
        let init = self.context.pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
        for container in init.collect::<Vec<_>>() {
            if sidecar(container) {
                self.container(container, "Always").await;
                self.look().await?;
                self.watch_probes();
                let state = newest(self.seen.as_ref(), &container.name).map(|c| &c.state);
                let results = self.context.agent.inner.probes.results(self.context.row().uid());
                if !matches!(state, Some(ContainerState::Running { .. })) || !results.started(&container.name) {
                    return Ok(false);
                }
                continue;
            }
            // It runs to its end, again until it succeeds, unless the pod must not restart.
            let policy = if policy == "Always" { "OnFailure" } else { policy };
            let state = newest(self.seen.as_ref(), &container.name).map(|c| &c.state);
            if !matches!(state, Some(ContainerState::Exited { code: 0, .. })) {
                self.container(container, policy).await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Starts a container if it shall run now.
    async fn container(&mut self, container: &Container, policy: &str) {
        let (agent, name) = (self.context.agent, container.name.as_str());
        let part = part(self.context.pod, name);
        let attempt = match newest(self.seen.as_ref(), name).map(|c| (&c.state, c)) {
            None => 0,
            Some((ContainerState::Created, c)) => c.attempt,
            Some((ContainerState::Running { .. } | ContainerState::Unknown, _)) => return,
            Some((ContainerState::Exited { code, finished, started, .. }, c)) => {
                let again = policy == "Always" || (policy == "OnFailure" && *code != 0);
                if !again {
                    return;
                }
                if backoff_left(c.attempt, *started, *finished, agent.now()).is_some() {
                    let row = self.context.row();
                    let message = format!(
                        "back-off {} restarting failed container={name} pod={}_{}({})",
                        duration(wait_of(c.attempt)),
                        row.name,
                        row.namespace,
                        row.uid()
                    );
                    self.said.waiting.insert(name.into(), Waiting::new("CrashLoopBackOff", message));
                    let words = format!(
                        "Back-off restarting failed container {name} in pod {}_{}({})",
                        row.name,
                        row.namespace,
                        row.uid()
                    );
                    self.said.tell(news(agent, "BackOff", words).warning().about(part));
                    return;
                }
                c.attempt + 1
            }
        };
        if let Err((waiting, told)) = self.create(container, attempt, &part).await {
            let reason = if waiting.reason == BACK_OFF { "BackOff" } else { "Failed" };
            self.said.tell(news(agent, reason, told).warning().about(part));
            self.said.waiting.insert(name.into(), waiting);
        }
    }

    async fn create(&mut self, container: &Container, attempt: u32, part: &str) -> Result<(), (Waiting, String)> {
        let (agent, name) = (self.context.agent, container.name.as_str());
        let pods = &agent.drivers().pod;
        let failed = |reason: &str, why: &str| (Waiting::new(reason, why), format!("Error: {why}"));
        let prepared =
            self.context.container(name, attempt).map_err(|e| failed("CreateContainerConfigError", &e.to_string()))?;
        put(&mut self.wanted, prepared);
        let image = container.image.as_deref().unwrap_or("");
        let uid = self.context.row().uid();
        if let Some(last) = agent.inner.pulls.holds(uid, image, agent.now()) {
            let told = format!("Back-off pulling image {image:?}");
            return Err((Waiting::new(BACK_OFF, format!("{told}: {last}")), told));
        }
        let begun = std::time::Instant::now();
        if let Err(why) = pods.ensure_image(&self.wanted, name).await {
            // The driver's words begin with Kubernetes' name for what went wrong.
            let words = why.to_string();
            let reason =
                words.split(':').next().filter(|r| r.chars().all(char::is_alphanumeric)).unwrap_or("ErrImagePull");
            if reason == "ErrImagePull" {
                agent.inner.pulls.failed(uid, image, &words, agent.now());
            }
            return Err((Waiting::new(reason, words.as_str()), format!("Failed to pull image {image:?}: {words}")));
        }
        agent.inner.pulls.pulled(uid, image);
        let took = begun.elapsed();
        // An image that is there is found at once.
        let pulled = match took.as_secs() {
            0 => format!("Container image {image:?} is present on the host"),
            seconds => format!("Successfully pulled image {image:?} in {seconds}s"),
        };
        self.said.tell(news(agent, "Pulled", pulled).about(part.to_owned()));
        pods.ensure_container(&self.wanted, name).await.map_err(|why| {
            // The driver says which of its steps failed.
            let words = why.to_string();
            let reason =
                if words.contains("cannot start container") { "RunContainerError" } else { "CreateContainerError" };
            failed(reason, &words)
        })?;
        self.said.tell(news(agent, "Created", format!("Created container: {name}")).about(part.to_owned()));
        self.said.tell(news(agent, "Started", format!("Started container {name}")).about(part.to_owned()));
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.clone());
        let Some(hook) = hook else { return Ok(()) };
        self.look().await.map_err(|why| failed("PostStartHookError", &why.to_string()))?;
        let Some(id) = newest(self.seen.as_ref(), name).map(|c| c.id.clone()) else { return Ok(()) };
        let place = place(self.context.port());
        let handler = Handler { agent: agent.clone(), container: container.clone(), id, place };
        if let Err(why) = handler.hook(&hook, HOOK_LIMIT).await {
            let told = news(agent, "FailedPostStartHook", format!("PostStartHook failed: {why}")).warning();
            self.said.tell(told.about(part.to_owned()));
            let _ = stop::container(&handler, grace(self.context.pod)).await;
            return Err(failed("PostStartHookError", &why));
        }
        Ok(())
    }
}

/// What the containers of a pod get to end.
pub fn grace(pod: &Pod) -> std::time::Duration {
    let seconds = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn put(pod: &mut WantedPod, container: WantedContainer) {
    pod.containers.retain(|c| c.name != container.name);
    pod.containers.push(container);
}

/// Seconds until a container that ended may start again: 10 s, doubled with each restart, at most five minutes; none
/// for the first restart, nor after ten minutes of good running. As the kubelet does it.
fn backoff_left(attempt: u32, started: Time, finished: Time, now: Time) -> Option<i64> {
    const GOOD_RUN: i64 = 600;
    if attempt == 0 || finished.duration_since(started).as_secs() >= GOOD_RUN {
        return None;
    }
    let left = wait_of(attempt) - now.duration_since(finished).as_secs();
    (left > 0).then_some(left)
}

/// How long the restart after this attempt waits, in seconds.
fn wait_of(attempt: u32) -> i64 {
    10i64.saturating_mul(1 << attempt.saturating_sub(1).min(5)).min(300)
}

/// Seconds as Go writes them: `1m20s`.
fn duration(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_as_go_does() {
        assert_eq!([10, 80, 300].map(duration), ["10s", "1m20s", "5m0s"]);
    }

    #[test]
    fn restarts_wait_longer_each_time() {
        let at = |s: i64| Time::from_second(1_000_000 + s).expect("a moment");
        assert_eq!(backoff_left(0, at(0), at(1), at(1)), None);
        assert_eq!(backoff_left(1, at(0), at(1), at(2)), Some(9));
        assert_eq!(backoff_left(2, at(0), at(1), at(2)), Some(19));
        assert_eq!(backoff_left(9, at(0), at(1), at(1)), Some(300));
        assert_eq!(backoff_left(1, at(0), at(1), at(11)), None);
        assert_eq!(backoff_left(9, at(0), at(700), at(700)), None);
    }
}
