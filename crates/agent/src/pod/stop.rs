//! Ends containers as Kubernetes promises: the hook `preStop` first, within the time that there is, then TERM, then KILL;
//! sidecars after the others, the last first.

use std::time::{Duration, Instant};

use driver::{ContainerState, SeenContainer, SeenPod};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use model::Port;
use model::kube_event::News;

use super::handler::{Handler, place};
use super::news::{news, part, sidecar};
use crate::Agent;

/// What a container gets after its hook has used all its time.
const LAST: Duration = Duration::from_secs(2);

/// Ends one container.
pub async fn container(handler: &Handler, grace: Duration) -> driver::Result<()> {
    let begun = Instant::now();
    let hook = handler.container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(hook) = hook.filter(|_| !grace.is_zero())
        && let Err(why) = handler.hook(hook, grace).await
    {
        tracing::info!("the hook preStop of container {}: {why}", handler.container.name);
    }
    let left = grace.saturating_sub(begun.elapsed()).max(LAST.min(grace));
    handler.agent.drivers().pod.stop_container(&handler.id, left).await
}

/// Ends all containers of a pod that run, and says which.
pub async fn all(
    agent: &Agent,
    pod: &Pod,
    port: Option<&Port>,
    seen: &SeenPod,
    grace: Duration,
) -> driver::Result<Vec<News>> {
    let begun = Instant::now();
    let spec = pod.spec.clone().unwrap_or_default();
    let running: Vec<&SeenContainer> =
        seen.containers.iter().filter(|c| matches!(c.state, ContainerState::Running { .. })).collect();
    let handler = |container: &Container| -> Option<Handler> {
        let seen = running.iter().find(|c| c.name == container.name)?;
        Some(Handler { agent: agent.clone(), container: container.clone(), id: seen.id.clone(), place: place(port) })
    };
    let init: Vec<Container> = spec.init_containers.unwrap_or_default();
    let (sidecars, init): (Vec<Container>, Vec<Container>) = init.into_iter().partition(sidecar);
    let first: Vec<Handler> = spec.containers.iter().chain(&init).filter_map(handler).collect();
    for result in join_all(first.iter().map(|handler| container(handler, grace))).await {
        result?;
    }
    for handler in sidecars.iter().rev().filter_map(handler) {
        container(&handler, grace.saturating_sub(begun.elapsed())).await?;
    }
    let told = running
        .iter()
        .map(|c| news(agent, "Killing", format!("Stopping container {}", c.name)).about(part(pod, &c.name)));
    Ok(told.collect())
}
