//! Pods of this host, one step at a time: what is still to be started or ended, and in the end the
//! status and events in one commit. Nothing is remembered between steps; restarts are counted by the containers that the
//! runtime has.
//!
//! * `find`, `context`: at the bottom, used by all others; they use none
//! * `start` (by `pull_backoff`), `stop`: what is begun and ended
//! * `wanted`, of `env`, `volumes` (of `files` and `parts`) and `termination`: instructions for the runtime
//! * `handler` (by `client`): what probes and hooks do; `probe`: when
//! * `status`, `news`: what is told; `storage`: how much of the disk is taken

mod client;
mod context;
mod env;
mod files;
pub(crate) mod find;
mod handler;
pub(crate) mod news;
pub mod parts;
pub(crate) mod probe;
pub(crate) mod pull_backoff;
mod start;
mod status;
mod stop;
pub(crate) mod storage;
mod termination;
pub(crate) mod volumes;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use driver::{ContainerState, SeenPod};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use model::host_report::Report;
use model::host_view::{PodView, Wanted};
use model::wanted::Generation;
use model::{Fault, KubeObject, Time};
use serde::Deserialize;

use crate::prune::{self, Thing};
use crate::trash::Sort;
use crate::work::{Digest, Left, digest};
use crate::{Agent, fault};
use find::seen;
use news::{Said, Waiting, news};

/// How all pods look that the driver has.
pub async fn all_seen(agent: &Agent) -> HashMap<String, Digest> {
    let seen = agent.listed("listing pods", agent.drivers().pod.list().await);
    // Newer rows that change nothing about it are no news of it.
    let same = |pod: SeenPod| (pod.uid.clone(), digest(SeenPod { generation: Generation::default(), ..pod }));
    seen.into_iter().map(same).collect()
}

/// All pods that somebody wants here or that are here, by uid, and how they look.
pub fn digests(agent: &Agent, wanted: &[Wanted], seen: &HashMap<String, Digest>) -> HashMap<String, Digest> {
    let mut digests: HashMap<String, Digest> = seen.clone();
    let probes = agent.inner.probes.digests();
    for Wanted { id: uid, rows, .. } in wanted {
        agent.inner.pruning.give(uid);
        digests.insert(uid.clone(), digest((rows, seen.get(uid), probes.get(uid))));
    }
    digests
}

/// Pods that the driver has, that nobody wants here, and that this agent never saw wanted.
pub(crate) fn unwanted<'a>(
    agent: &'a Agent,
    wanted: &'a HashSet<String>,
    seen: &'a HashMap<String, Digest>,
) -> impl Iterator<Item = Thing> + 'a {
    let pruning = &agent.inner.pruning;
    let uids = seen.keys().filter(|uid| !pruning.was_given(uid) && !wanted.contains(*uid));
    uids.map(|uid| (Sort::Pod, uid.clone()))
}

/// A pod that nobody wants. One whose row this agent has seen was deleted at once, by force; of another its volumes are put
/// aside.
async fn unwanted_step(agent: &Agent, uid: &str, at: Generation) -> Result<Left, Fault> {
    let place = match agent.inner.pruning.was_given(uid) {
        true => None,
        false => match prune::place(agent, Sort::Pod, uid)? {
            None => return Ok(Left::Unsettled),
            place => place,
        },
    };
    agent.inner.probes.forget(uid);
    let removed = agent.drivers().pod.remove(uid, Duration::ZERO, at).await.map_err(fault);
    match place {
        Some(place) => {
            let something = removed.and_then(|()| volumes::put_aside(agent, uid, &place.content()));
            prune::placed(agent, &place, something)?;
        }
        None => {
            removed?;
            volumes::remove(agent, uid).await?;
        }
    }
    agent.inner.pruning.forget(uid);
    Ok(Left::Settled)
}

/// Brings one pod a step further and writes what it is.
pub async fn step(agent: &Agent, uid: &str) -> Result<Left, Fault> {
    let view = agent.cloud().fresh().await?;
    let at = view.generation();
    let Some(of) = view.pod(uid) else { return unwanted_step(agent, uid, at).await };
    let row = &of.pod;
    let pod = Pod::deserialize(&row.body)
        .map_err(|e| Fault::invalid(format!("pod {}/{} cannot be read: {e}", row.namespace, row.name)))?;
    if row.deleting() {
        return remove(agent, at, &of, &pod).await.map(|()| Left::Settled);
    }
    let mut said = Said::default();
    if row.pod_finished() && row.body["status"]["reason"] == EVICTED {
        return clear(agent, uid, at).await;
    }
    if row.pod_finished() {
        // Whatever still runs of it, sidecars most likely, has no purpose any more.
        if let Some(seen) = seen(agent, uid).await?.filter(runs) {
            agent.inner.probes.forget(uid);
            let grace = start::grace(&pod);
            said.news = stop::all(agent, &pod, of.port.as_ref(), &seen, grace).await.map_err(fault)?;
        }
    } else if let Some((reason, words)) = doomed(agent, row, &pod).await? {
        said.tell(news(agent, reason, words.clone()).warning());
        said.failed = Some((reason, words));
        if reason == EVICTED {
            // On a full disk that cannot be written down before there is room.
            let told = report(agent, uid, &pod, said).await;
            return clear(agent, uid, at).await.and(told.map(|()| Left::Unsettled));
        }
    } else if let Err(why) = start::run(agent, at, &of, &pod, &mut said).await {
        let reason = match &why {
            Fault::Invalid(_) => "CreateContainerConfigError",
            _ => "ContainerCreating",
        };
        said.waiting.entry(String::new()).or_insert_with(|| Waiting::new(reason, why.to_string()));
        tracing::debug!("pod {}/{}: {why}", row.namespace, row.name);
    }
    // A deadline passes without any news.
    let timed = row.body["spec"]["activeDeadlineSeconds"].is_number() && !row.pod_finished();
    let left = if said.waiting.is_empty() && !timed { Left::Settled } else { Left::Unsettled };
    report(agent, uid, &pod, said).await.map(|()| left)
}

fn runs(seen: &SeenPod) -> bool {
    seen.containers.iter().any(|c| matches!(c.state, ContainerState::Running { .. }))
}

/// Waits until a pod that is being deleted has less time than this, or no row any more.
async fn hurried(agent: &Agent, uid: &str, grace: Duration) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let grace_of = |of: PodView| of.pod.body["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
        let left = agent.cloud().view().pod(uid).map(grace_of);
        if left.is_none_or(|left| left < grace.as_secs()) {
            return;
        }
    }
}

/// The reason of pods that were evicted.
const EVICTED: &str = "Evicted";

/// Makes room: nothing of the pod stays on the host.
async fn clear(agent: &Agent, uid: &str, at: Generation) -> Result<Left, Fault> {
    agent.inner.probes.forget(uid);
    agent.drivers().pod.remove(uid, Duration::ZERO, at).await.map_err(fault)?;
    volumes::remove(agent, uid).await.map(|()| Left::Settled)
}

/// Why the pod has to end as a whole, if it has: it has been active for longer, or has taken more, than it may.
async fn doomed(agent: &Agent, row: &KubeObject, pod: &Pod) -> Result<Option<(&'static str, String)>, Fault> {
    let deadline = row.body["spec"]["activeDeadlineSeconds"].as_i64();
    let started = row.body["status"]["startTime"].as_str().and_then(|t| t.parse::<Time>().ok());
    if let (Some(deadline), Some(started)) = (deadline, started)
        && agent.now().duration_since(started).as_secs() >= deadline
    {
        let words = "Pod was active on the node longer than the specified deadline";
        return Ok(Some(("DeadlineExceeded", words.to_owned())));
    }
    if let Some(words) = agent.inner.pressure.verdict(row.uid()) {
        return Ok(Some((EVICTED, words)));
    }
    Ok(storage::overfull(agent, row.uid(), pod).await?.map(|words| (EVICTED, words)))
}

/// Stops and removes a pod that is being deleted, and says that it is gone.
async fn remove(agent: &Agent, at: Generation, of: &PodView, pod: &Pod) -> Result<(), Fault> {
    let row = &of.pod;
    let grace = Duration::from_secs(row.body["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30));
    let uid = row.uid().to_owned();
    agent.inner.probes.forget(&uid);
    let mut said = Vec::new();
    if let Some(seen) = seen(agent, &uid).await?.filter(runs) {
        said = tokio::select! {
            stopped = stop::all(agent, pod, of.port.as_ref(), &seen, grace) => stopped.map_err(fault)?,
            // Somebody wants it gone sooner, or has taken its row: the next step knows how.
            () = hurried(agent, &uid, grace) => return Err(Fault::Unavailable("it has to end sooner".into())),
        };
    }
    let removed = match agent.drivers().pod.remove(&uid, grace, at).await.map_err(fault) {
        Ok(()) => volumes::remove(agent, &uid).await,
        failed => failed,
    };
    if let Err(why) = removed {
        said.push(news(agent, "FailedKillPod", format!("error killing pod: {why}")).warning());
        let report = Report::Pod { uid, status: row.body["status"].clone(), news: said };
        return agent.report(report).await.and(Err(why));
    }
    agent.inner.pruning.forget(&uid);
    agent.report(Report::PodGone { uid, news: said }).await.map(drop)
}

/// Says the status as a fresh look shows it, and what there is to tell. Without a look, a pod that has been started is
/// left as it was last seen: it most likely runs on.
async fn report(agent: &Agent, uid: &str, pod: &Pod, mut said: Said) -> Result<(), Fault> {
    let found = seen(agent, uid).await;
    // What is said of it is made of what the cloud has by now: others may have written meanwhile.
    let view = agent.cloud().view();
    let Some(of) = view.pod(uid).filter(|of| !of.pod.deleting()) else { return Ok(()) };
    let before = pod.status.as_ref();
    let seen = match found {
        Err(_) if before.is_none_or(|status| status.container_statuses.iter().flatten().all(never_ran)) => None,
        other => other?,
    };
    let probes = agent.inner.probes.results(uid);
    agent.inner.probes.take_news(uid).into_iter().for_each(|news| said.tell(news));
    let observed = status::Observed {
        agent,
        pod,
        seen: seen.as_ref(),
        said: &said,
        probes: &probes,
        port: of.port.as_ref(),
        host_ip: view.host().address(),
        now: agent.now(),
    };
    let status = observed.status(&of.pod.body["status"]);
    agent.report(Report::Pod { uid: uid.to_owned(), status, news: said.news }).await.map(drop)
}

/// By its status no such container was ever made.
fn never_ran(container: &ContainerStatus) -> bool {
    container.container_id.as_deref().is_none_or(str::is_empty)
}
