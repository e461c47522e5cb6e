//! What a step finds out about a pod and people should know: why containers wait, and events.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use model::kube_event::News;

use crate::Agent;

/// What stands in a container's way, as Kubernetes names it, and the words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

impl Waiting {
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

/// Why each container (by name) does not run; the empty name: the whole pod.
pub type WaitingFor = HashMap<String, Waiting>;

/// What one step has to say.
#[derive(Default)]
pub struct Said {
    pub waiting: WaitingFor,
    pub news: Vec<News>,
    /// The pod has failed as a whole: the reason and the words.
    pub failed: Option<(&'static str, String)>,
}

impl Said {
    pub fn tell(&mut self, news: News) {
        if !self.news.contains(&news) {
            self.news.push(news);
        }
    }
}

/// News of this host.
pub fn news(agent: &Agent, reason: &'static str, message: impl Into<String>) -> News {
    News { host: agent.config().host.clone(), ..News::new("kubelet", reason, message) }
}

/// The container as events name it: `spec.containers{web}`.
pub fn part(pod: &Pod, name: &str) -> String {
    let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).any(|c| c.name == name);
    format!("spec.{}{{{name}}}", if init { "initContainers" } else { "containers" })
}

/// An init container that runs beside the others from its turn on.
pub fn sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The containers that run at the same time: all but those that run before.
pub fn together(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|c| sidecar(c)))
}
