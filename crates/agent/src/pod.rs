//! Pods of this host, one step at a time: network, volumes, sandbox, init containers in order, containers, and in the end
//! the status. Nothing is remembered between steps; restarts are counted by the containers that the runtime has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use driver::{ContainerState, SeenContainer, SeenPod};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use model::wanted::{WantedContainer, WantedPod};
use model::{Change, Entry, Fault, Index, KubeObject, Port, Snapshot, Time};

use crate::{Agent, fault, pod_security, pod_status, pod_volumes, pod_wanted};

/// Pods with one uid of the snapshot: found by host.
pub(crate) fn of_host<'a>(snapshot: &'a Snapshot, host: &str) -> impl Iterator<Item = Entry<'a, KubeObject>> {
    snapshot.find::<KubeObject>(Index::Host, host).filter(|object| object.is_pod())
}

/// The pod with this uid.
pub(crate) fn by_uid<'a>(snapshot: &'a Snapshot, uid: &str) -> Option<Entry<'a, KubeObject>> {
    snapshot.find::<KubeObject>(Index::Name, uid).find(|object| object.is_pod())
}

/// Uids of all pods that somebody wants here or that are here.
pub async fn all(agent: &Agent, snapshot: &Snapshot) -> BTreeSet<String> {
    let mut uids: BTreeSet<String> = of_host(snapshot, &agent.config().host).map(|pod| pod.uid().to_owned()).collect();
    let seen = agent.listed("listing pods", agent.drivers().pod.list().await);
    uids.extend(seen.into_iter().map(|pod| pod.uid));
    uids
}

/// What stands in a container's way, as Kubernetes names it, and the words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

impl Waiting {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

/// Why each container (by name) does not run; the empty name: the whole pod.
pub type WaitingFor = HashMap<String, Waiting>;

/// Brings one pod a step further and writes what it is.
pub async fn step(agent: &Agent, uid: &str) -> Result<(), Fault> {
    let snapshot = agent.store().fresh().await?;
    let row = by_uid(&snapshot, uid)
        .filter(|pod| pod.body["spec"]["nodeName"].as_str() == Some(agent.config().host.as_str()));
    let Some(row) = row else {
        agent.inner.probes.forget(uid);
        agent.drivers().pod.remove(uid, Duration::ZERO).await.map_err(fault)?;
        return pod_volumes::remove(agent, uid);
    };
    if row.deleting() {
        return remove(agent, row).await;
    }
    let pod: Pod = serde_json::from_value(row.body.clone())
        .map_err(|e| Fault::invalid(format!("pod {}/{} cannot be read: {e}", row.namespace, row.name)))?;
    let mut waiting = WaitingFor::new();
    if !row.pod_finished()
        && let Err(why) = run(agent, &snapshot, row, &pod, &mut waiting).await
    {
        let reason = match &why {
            Fault::Invalid(_) => "CreateContainerConfigError",
            _ => "ContainerCreating",
        };
        waiting.entry(String::new()).or_insert_with(|| Waiting::new(reason, why.to_string()));
        tracing::debug!("pod {}/{}: {why}", row.namespace, row.name);
    }
    report(agent, uid, &pod, &waiting).await
}

/// Stops and removes a pod that is being deleted, then its row.
async fn remove(agent: &Agent, row: Entry<'_, KubeObject>) -> Result<(), Fault> {
    let grace = row.body["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
    let uid = row.uid().to_owned();
    agent.inner.probes.forget(&uid);
    agent.drivers().pod.remove(&uid, Duration::from_secs(grace)).await.map_err(fault)?;
    pod_volumes::remove(agent, &uid)?;
    agent
        .write(|snapshot| {
            let mut change = Change::new();
            if let Some(row) = by_uid(snapshot, &uid).filter(|row| row.deleting()) {
                let held = row.body["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
                if !held {
                    change.delete(row);
                }
            }
            Ok(change)
        })
        .await
}

async fn seen(agent: &Agent, uid: &str) -> Result<Option<SeenPod>, Fault> {
    let all = agent.drivers().pod.list().await.map_err(fault)?;
    Ok(all.into_iter().find(|pod| pod.uid == uid))
}

/// The newest attempt of a container.
pub(crate) fn newest<'a>(seen: Option<&'a SeenPod>, name: &str) -> Option<&'a SeenContainer> {
    seen?.containers.iter().filter(|c| c.name == name).max_by_key(|c| c.attempt)
}

async fn run(
    agent: &Agent,
    snapshot: &Snapshot,
    row: Entry<'_, KubeObject>,
    pod: &Pod,
    waiting: &mut WaitingFor,
) -> Result<(), Fault> {
    let spec = pod.spec.as_ref().ok_or_else(|| Fault::invalid("the pod has no spec"))?;
    pod_security::check(pod)?;
    let port = snapshot.find::<Port>(Index::Owner, row.uid()).next();
    if !spec.host_network.unwrap_or(false) {
        let port = port.ok_or_else(|| Fault::Unavailable("waits for an address".into()))?;
        let wires = agent.network();
        let here =
            |id: &str| wires.domains.iter().flat_map(|d| &d.bridges).flat_map(|b| &b.ports).any(|w| w.port_id == id);
        if !here(&port.id) {
            return Err(Fault::Unavailable("waits for its network".into()));
        }
    }
    let volumes = pod_volumes::ensure(agent, snapshot, row, pod).await?;
    let context = pod_wanted::Context { agent, snapshot, row, pod, port: port.map(|p| p.value), volumes: &volumes };
    let mut wanted = context.pod()?;
    let before = seen(agent, row.uid()).await?;
    if !before.as_ref().is_some_and(|pod| pod.ready) {
        agent.drivers().pod.ensure_sandbox(&wanted).await.map_err(fault)?;
    }
    let seen = seen(agent, row.uid()).await?;
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let init: Vec<String> = spec.init_containers.iter().flatten().map(|c| c.name.clone()).collect();
    for name in &init {
        // An init container runs to its end, again until it succeeds, unless the pod must not restart.
        let policy = if policy == "Always" { "OnFailure" } else { policy };
        match newest(seen.as_ref(), name).map(|c| &c.state) {
            Some(ContainerState::Exited { code: 0, .. }) => {}
            _ => {
                container(agent, &context, &mut wanted, seen.as_ref(), name, policy, waiting).await;
                for later in spec.containers.iter().map(|c| &c.name) {
                    waiting.insert(later.clone(), Waiting::new("PodInitializing", ""));
                }
                return Ok(());
            }
        }
    }
    let names: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
    for name in &names {
        container(agent, &context, &mut wanted, seen.as_ref(), name, policy, waiting).await;
    }
    agent.inner.probes.watch(agent, row, pod, port.map(|p| p.value));
    Ok(())
}

/// Starts a container if it shall run now.
async fn container(
    agent: &Agent,
    context: &pod_wanted::Context<'_>,
    wanted: &mut WantedPod,
    seen: Option<&SeenPod>,
    name: &str,
    policy: &str,
    waiting: &mut WaitingFor,
) {
    let newest = newest(seen, name);
    let attempt = match newest.map(|c| (&c.state, c)) {
        None => 0,
        Some((ContainerState::Created, c)) => c.attempt,
        Some((ContainerState::Running { .. } | ContainerState::Unknown, _)) => return,
        Some((ContainerState::Exited { code, finished, started, .. }, c)) => {
            let again = policy == "Always" || (policy == "OnFailure" && *code != 0);
            if !again {
                return;
            }
            let left = backoff_left(c.attempt, *started, *finished, agent.now());
            if let Some(left) = left {
                let message = format!("back-off: the container ended; it is started again in {left} s");
                waiting.insert(name.into(), Waiting::new("CrashLoopBackOff", message));
                return;
            }
            c.attempt + 1
        }
    };
    let prepared = match context.container(name, attempt) {
        Ok(prepared) => prepared,
        Err(why) => {
            waiting.insert(name.into(), Waiting::new("CreateContainerConfigError", why.to_string()));
            return;
        }
    };
    put(wanted, prepared);
    let pods = &agent.drivers().pod;
    if let Err(why) = pods.ensure_image(wanted, name).await {
        // The driver's words begin with Kubernetes' name for what went wrong.
        let words = why.to_string();
        let reason = words.split(':').next().filter(|r| r.chars().all(char::is_alphanumeric)).unwrap_or("ErrImagePull");
        waiting.insert(name.into(), Waiting::new(reason, words.as_str()));
        return;
    }
    if let Err(why) = pods.ensure_container(wanted, name).await {
        waiting.insert(name.into(), Waiting::new("CreateContainerError", why.to_string()));
    }
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
    let wait = 10i64.saturating_mul(1 << (attempt - 1).min(5)).min(300);
    let left = wait - now.duration_since(finished).as_secs();
    (left > 0).then_some(left)
}

/// Writes the status as a fresh look shows it. Without one, a pod that has been started is left as it was last seen: it
/// most likely runs on.
async fn report(agent: &Agent, uid: &str, pod: &Pod, waiting: &WaitingFor) -> Result<(), Fault> {
    let before = pod.status.as_ref();
    let seen = match seen(agent, uid).await {
        Err(_) if before.is_none_or(|status| status.container_statuses.iter().flatten().all(never_ran)) => None,
        other => other?,
    };
    let now = agent.now();
    let probes = agent.inner.probes.results(uid);
    agent
        .write(|snapshot| {
            let mut change = Change::new();
            let Some(row) = by_uid(snapshot, uid).filter(|row| !row.deleting()) else { return Ok(change) };
            let port = snapshot.find::<Port>(Index::Owner, uid).next();
            let look = pod_status::Look {
                pod,
                seen: seen.as_ref(),
                waiting,
                probes: &probes,
                port: port.map(|p| p.value),
                now,
            };
            let status = look.status(&row.body["status"]);
            if row.body["status"] != status {
                change.edit(row, |row| row.body["status"] = status);
            }
            Ok(change)
        })
        .await
}

/// By its status no such container was ever made.
fn never_ran(container: &ContainerStatus) -> bool {
    container.container_id.as_deref().is_none_or(str::is_empty)
}

/// Names of a pod's containers by kind, for callers that look one up.
pub(crate) fn container_ids(seen: &SeenPod) -> BTreeMap<String, String> {
    let mut newest: BTreeMap<String, &SeenContainer> = BTreeMap::new();
    for container in &seen.containers {
        let slot = newest.entry(container.name.clone()).or_insert(container);
        if container.attempt > slot.attempt {
            *slot = container;
        }
    }
    newest.into_iter().map(|(name, c)| (name, c.id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
