//! Reads from containerd what pods there are. Only what carries our labels is a pod of ours; there is nothing else in
//! our own containerd, but a person may have tried something by hand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use driver::{ContainerState, Result, SeenContainer, SeenPod};
use k8s_cri::v1;
use model::Time;
use model::wanted::Generation;

use crate::client::look;
use crate::pods::{by_uid, record};
use crate::{Cri, spec};

/// What a container was when last asked for. Neither its start nor its end changes any more, so each is asked for once.
#[derive(Clone)]
pub struct Known {
    state: i32,
    seen: ContainerState,
    image_ref: String,
}

impl Cri {
    pub(crate) async fn seen(&self, uid: Option<&str>) -> Result<Vec<SeenPod>> {
        let client = self.up().await?;
        let labels = uid.map(by_uid);
        let of_containers = labels.clone().map(|l| v1::ContainerFilter { label_selector: l, ..Default::default() });
        let of_sandboxes = labels.map(|l| v1::PodSandboxFilter { label_selector: l, ..Default::default() });
        // Containers first: one that is made in between belongs to a sandbox that the second list has.
        let containers = client.containers(of_containers).await?;
        let sandboxes = client.sandboxes(of_sandboxes).await?;
        if uid.is_none() {
            let there: HashSet<&str> = containers.iter().map(|c| c.id.as_str()).collect();
            self.statuses().retain(|id, _| there.contains(id.as_str()));
        }
        let mut pods: BTreeMap<String, (SeenPod, u32)> = BTreeMap::new();
        for sandbox in sandboxes {
            note_sandbox(&mut pods, sandbox);
        }
        // One after the other, so that a containerd that answers to nothing costs one limit and not one for each.
        for container in containers {
            let uid = container.labels.get(spec::POD_UID).cloned().unwrap_or_default();
            let Some((pod, _)) = pods.get_mut(&uid) else { continue };
            if let Some(seen) = self.seen_container(container).await? {
                pod.containers.push(seen);
            }
        }
        let mut pods: Vec<SeenPod> = pods.into_values().map(|(pod, _)| pod).collect();
        for pod in &mut pods {
            pod.generation = self.generations.newest(&record(&pod.uid));
            pod.containers.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
        }
        Ok(pods)
    }

    // Whoever panicked under this lock left it whole; it is never held over a call.
    fn statuses(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if it went away meanwhile.
    async fn seen_container(&self, container: v1::Container) -> Result<Option<SeenContainer>> {
        let known = self.statuses().get(&container.id).filter(|known| known.state == container.state).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let Some(status) = self.status_of(&container.id).await? else { return Ok(None) };
                let known = Known { state: status.state, seen: state(&status), image_ref: status.image_ref };
                self.statuses().insert(container.id.clone(), known.clone());
                known
            }
        };
        let metadata = container.metadata.unwrap_or_default();
        let label = |key: &str| container.labels.get(key).map(String::as_str).unwrap_or_default();
        let (namespace, name, uid) = (label(spec::POD_NAMESPACE), label(spec::POD_NAME), label(spec::POD_UID));
        let logs = spec::log_dir(&self.paths.dir, namespace, name, uid);
        Ok(Some(SeenContainer {
            log_path: logs.join(spec::log_file(&metadata.name, metadata.attempt)),
            id: container.id,
            name: metadata.name,
            attempt: metadata.attempt,
            image: container.image.unwrap_or_default().image,
            image_ref: known.image_ref,
            state: known.seen,
        }))
    }

    /// None if there is no such container any more.
    async fn status_of(&self, id: &str) -> Result<Option<v1::ContainerStatus>> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let mut runtime = self.client.runtime();
        let asked = async {
            match runtime.container_status(request).await {
                Err(status) if status.code() == tonic::Code::NotFound => Ok(tonic::Response::new(Default::default())),
                other => other,
            }
        };
        Ok(look("look at a container", asked).await?.status)
    }
}

/// A pod whose sandbox was replaced has several for a moment: the latest counts.
fn note_sandbox(pods: &mut BTreeMap<String, (SeenPod, u32)>, sandbox: v1::PodSandbox) {
    let Some(uid) = sandbox.labels.get(spec::POD_UID).cloned() else { return };
    let metadata = sandbox.metadata.unwrap_or_default();
    if pods.get(&uid).is_some_and(|(_, attempt)| *attempt > metadata.attempt) {
        return;
    }
    let pod = SeenPod {
        uid: uid.clone(),
        generation: Generation::default(),
        name: metadata.name,
        namespace: metadata.namespace,
        cluster_id: sandbox.labels.get(spec::CLUSTER).cloned().unwrap_or_default(),
        ready: sandbox.state == v1::PodSandboxState::SandboxReady as i32,
        created: time(sandbox.created_at),
        containers: Vec::new(),
    };
    pods.insert(uid, (pod, metadata.attempt));
}

fn state(status: &v1::ContainerStatus) -> ContainerState {
    // A moment that containerd does not know is zero, which is no moment: what never ran has no start, only an end.
    let created = time(status.created_at).unwrap_or_default();
    let finished = time(status.finished_at).or(time(status.started_at)).unwrap_or(created);
    match v1::ContainerState::try_from(status.state) {
        Ok(v1::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(v1::ContainerState::ContainerRunning) => {
            ContainerState::Running { started: time(status.started_at).unwrap_or(created) }
        }
        Ok(v1::ContainerState::ContainerExited) => ContainerState::Exited {
            code: status.exit_code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            // containerd notes the start when its own call returns: a container that ended at once ended before.
            started: time(status.started_at).map_or(finished, |started| started.min(finished)),
            finished,
        },
        _ => ContainerState::Unknown,
    }
}

/// containerd's nanoseconds; zero is never.
fn time(nanoseconds: i64) -> Option<Time> {
    (nanoseconds > 0).then(|| Time::from_nanosecond(i128::from(nanoseconds)).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_nobody_knows_are_none() {
        let exited = |started_at: i64, finished_at: i64| {
            let status = v1::ContainerStatus {
                state: v1::ContainerState::ContainerExited as i32,
                created_at: 5_000_000_000,
                started_at,
                finished_at,
                ..Default::default()
            };
            match state(&status) {
                ContainerState::Exited { started, finished, .. } => (started.as_second(), finished.as_second()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(exited(7_000_000_000, 9_000_000_000), (7, 9));
        assert_eq!(exited(9_000_000_000, 8_000_000_000), (8, 8), "noted late");
        assert_eq!(exited(0, 9_000_000_000), (9, 9), "it never ran");
        assert_eq!(exited(0, 0), (5, 5));
    }
}
