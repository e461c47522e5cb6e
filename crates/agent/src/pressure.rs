//! A host that runs short of disk, files or memory evicts pods, one at a time, in kubelets' words: the one that takes most
//! beyond what it asked for, or in its place one of the same cluster that does so too and is less important. Its nodes say so
//! and get a taint, so that nothing new comes meanwhile. One that is being deleted, however slowly, is evicted like others.
//!
//! Refused: evicting a pod from whose end little is gained, as kubelets do when nobody takes more than was asked; importance
//! between tenants, who each say it of their own; evicting VMs, which take no more than was counted for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blob::room::Margin;
use driver::Used;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod};
use model::host_view::PodView;
use model::{Fault, KubeObject, Shortage, Time};
use serde::Deserialize;

use crate::Agent;
use crate::pod::find;
use crate::pod::news::together;
use crate::pod::storage::{self, quantity};
use crate::work::Left;

/// As kubelets' default.
const MEMORY: u64 = 100 << 20;
/// Nodes say that they are short for so long after they were, so that what was evicted does not come back at once.
const LINGERS: SignedDuration = SignedDuration::from_secs(30);
/// A victim has so long to go before another is chosen.
const TO_GO: SignedDuration = SignedDuration::from_secs(30);

/// What a host can be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Memory,
    Disk,
    /// Files that a file system can have.
    Inodes,
}

impl Resource {
    /// By the name in requests.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "ephemeral-storage",
            Self::Inodes => "inodes",
        }
    }

    /// By which nodes say it.
    fn shown(self) -> Shortage {
        match self {
            Self::Memory => Shortage::Memory,
            Self::Disk | Self::Inodes => Shortage::Disk,
        }
    }

    /// So much has to be gained by an eviction.
    fn worthwhile(self, margin: Margin) -> u64 {
        let least = if self == Self::Inodes { 1000 } else { 16 << 20 };
        least.max(margin.threshold.saturating_sub(margin.available) / 10)
    }

    fn show(self, amount: u64) -> String {
        match (self, amount) {
            (_, u64::MAX) => "too much to be counted".to_owned(),
            (Self::Inodes, amount) => amount.to_string(),
            (_, bytes) => quantity(bytes >> 10 << 10),
        }
    }

    fn of(self, used: &Used) -> u64 {
        match self {
            Self::Memory => used.memory,
            Self::Disk => used.disk,
            Self::Inodes => used.inodes,
        }
    }
}

/// What the host is short of, and who has to go.
#[derive(Default)]
pub struct Pressure(Mutex<State>);

#[derive(Default)]
struct State {
    since: BTreeMap<Shortage, Time>,
    victim: Option<Victim>,
}

#[derive(Clone)]
struct Victim {
    uid: String,
    why: String,
    since: Time,
}

impl Pressure {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the host is short of, or was a moment ago.
    pub fn short_of(&self, now: Time) -> Vec<Shortage> {
        let state = self.state();
        let recent = |last: &Time| now.duration_since(*last) < LINGERS;
        state.since.iter().filter(|(_, last)| recent(last)).map(|(resource, _)| *resource).collect()
    }

    /// Why a pod has to go, if it has.
    pub fn verdict(&self, uid: &str) -> Option<String> {
        self.state().victim.as_ref().filter(|victim| victim.uid == uid).map(|victim| victim.why.clone())
    }
}

/// Looks how much is left, and chooses who goes when it is too little.
pub async fn step(agent: &Agent) -> Result<Left, Fault> {
    let short = look(&agent.config().dir);
    let pressure = &agent.inner.pressure;
    let now = agent.now();
    let before = pressure.short_of(now);
    pressure.state().since.extend(short.keys().map(|resource| (resource.shown(), now)));
    if pressure.short_of(now) != before {
        agent.report_soon();
    }
    let chosen = pressure.state().victim.clone();
    if let Some(victim) = chosen {
        if !is_gone(agent, &victim.uid).await? && now.duration_since(victim.since) < TO_GO {
            return Ok(Left::Unsettled);
        }
        pressure.state().victim = None;
    }
    if short.is_empty() {
        return Ok(Left::Settled);
    }
    let view = agent.cloud().view();
    let pods: Vec<PodView> = view.pods().iter().filter_map(|pod| view.pod(&pod.id)).collect();
    for (resource, margin) in &short {
        let mut takers = Vec::new();
        for row in pods.iter().map(|of| &of.pod).filter(|row| !row.pod_finished()) {
            takers.extend(taker(agent, row, *resource).await);
        }
        if let Some(taker) = choose(takers, resource.worthwhile(*margin)) {
            let why = taker.words(*resource, *margin);
            tracing::warn!(pod = taker.uid, "evicted: {why}");
            pressure.state().victim = Some(Victim { uid: taker.uid, why, since: now });
            agent.wake();
            break;
        }
    }
    Ok(Left::Unsettled)
}

/// Whether a victim has left. One that is being deleted takes its time in its own step, so it is ended from here.
async fn is_gone(agent: &Agent, uid: &str) -> Result<bool, Fault> {
    let view = agent.cloud().view();
    let row = view.pod(uid).map(|of| of.pod).filter(|row| !row.pod_finished());
    if find::seen(agent, uid).await?.is_none() {
        return Ok(row.is_none());
    }
    if row.is_some_and(|row| row.deleting()) {
        let removed = agent.drivers().pod.remove(uid, std::time::Duration::ZERO, view.generation()).await;
        removed.map_err(crate::fault)?;
    }
    Ok(false)
}

/// What there is too little of.
fn look(dir: &Path) -> BTreeMap<Resource, Margin> {
    let room = blob::room::room(dir).ok();
    let (disk, inodes) = (room.map(|room| room.disk), room.and_then(|room| room.inodes));
    let memory = available_memory().map(|available| Margin { available, threshold: MEMORY });
    let all = [(Resource::Memory, memory), (Resource::Disk, disk), (Resource::Inodes, inodes)];
    let short = all.into_iter().filter_map(|(resource, margin)| Some((resource, margin?)));
    short.filter(|(_, margin)| margin.is_short()).collect()
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// A pod and what it takes of something.
struct Taker {
    uid: String,
    cluster: String,
    priority: i64,
    asked: u64,
    taken: u64,
    /// For each container: its name, what it takes and asked for.
    containers: Vec<(String, u64, u64)>,
}

async fn taker(agent: &Agent, row: &KubeObject, resource: Resource) -> Option<Taker> {
    let pod = Pod::deserialize(&row.body).ok()?;
    let seen = find::seen(agent, row.uid()).await.ok()??;
    let used = agent.drivers().pod.used(row.uid()).await.ok()?;
    let own = match resource {
        Resource::Memory => 0,
        _ => resource.of(&storage::folder_of(agent, row.uid()).await),
    };
    let by_container = storage::by_container(&seen, &used, |used| resource.of(used), resource == Resource::Disk);
    Some(Taker::of(row, &pod, resource, by_container, own))
}

impl Taker {
    fn of(row: &KubeObject, pod: &Pod, resource: Resource, taken: BTreeMap<String, u64>, own: u64) -> Self {
        let containers: Vec<(String, u64, u64)> = pod
            .spec
            .iter()
            .flat_map(together)
            .map(|one| (one.name.clone(), taken.get(&one.name).copied().unwrap_or(0), asked(one, resource)))
            .collect();
        Self {
            uid: row.uid().to_owned(),
            cluster: row.cluster_id.clone(),
            priority: row.body["spec"]["priority"].as_i64().unwrap_or(0),
            asked: containers.iter().fold(0, |sum, (_, _, asked)| sum.saturating_add(*asked)),
            taken: taken.values().fold(own, |sum, bytes| sum.saturating_add(*bytes)),
            containers,
        }
    }

    fn beyond(&self) -> u64 {
        self.taken.saturating_sub(self.asked)
    }

    /// As kubelets say it.
    fn words(&self, resource: Resource, margin: Margin) -> String {
        let name = resource.name();
        let mut words = format!(
            "The node was low on resource: {name}. Threshold quantity: {}, available: {}. ",
            resource.show(margin.threshold),
            resource.show(margin.available)
        );
        for (container, taken, asked) in self.containers.iter().filter(|(_, taken, asked)| taken > asked) {
            words += &format!(
                "Container {container} was using {}, request is {}, has larger consumption of {name}. ",
                resource.show(*taken),
                resource.show(*asked)
            );
        }
        let in_containers = self.containers.iter().fold(0u64, |sum, (_, taken, _)| sum.saturating_add(*taken));
        match self.taken.saturating_sub(in_containers) {
            0 => {}
            own => words += &format!("Volumes and files of the pod took {}. ", resource.show(own)),
        }
        words
    }
}

fn asked(container: &Container, resource: Resource) -> u64 {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let quantity = requests.and_then(|requests| requests.get(resource.name()));
    quantity.and_then(|quantity| model::quantity_bytes(&quantity.0)).unwrap_or(0)
}

fn choose(takers: Vec<Taker>, worthwhile: u64) -> Option<Taker> {
    let mut takers: Vec<Taker> = takers.into_iter().filter(|taker| taker.beyond() >= worthwhile).collect();
    let cluster = takers.iter().max_by_key(|taker| taker.beyond())?.cluster.clone();
    takers.retain(|taker| taker.cluster == cluster);
    takers.into_iter().min_by_key(|taker| (taker.priority, std::cmp::Reverse(taker.beyond())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taker(uid: &str, priority: i64, asked: &str, mib: u64) -> Taker {
        let requests = json!({"requests": {"ephemeral-storage": asked}});
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": requests}]});
        let body = json!({"metadata": {"uid": uid}, "spec": spec});
        let pod: Pod = serde_json::from_value(body.clone()).unwrap();
        let row = KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: String::new(),
            resource: "pods".into(),
            namespace: "n".into(),
            name: uid.into(),
            body,
        };
        Taker::of(&row, &pod, Resource::Disk, [("c".to_owned(), mib << 20)].into(), 0)
    }

    #[test]
    fn who_takes_more_than_was_asked_for_goes_first() {
        let chosen = |takers: Vec<Taker>| choose(takers, 16 << 20).map(|taker| taker.uid);
        let modest = || taker("modest", -5, "10Gi", 9000);
        assert_eq!(chosen(vec![modest(), taker("greedy", 100, "0", 100)]).as_deref(), Some("greedy"));
        assert_eq!(chosen(vec![taker("more", 0, "0", 90), taker("less", 0, "0", 80)]).as_deref(), Some("more"));
        let important = || taker("important", 10, "0", 9000);
        assert_eq!(chosen(vec![important(), taker("less", 0, "0", 80)]).as_deref(), Some("less"));
        let other = Taker { cluster: "other".into(), ..taker("neighbour", -10, "0", 80) };
        assert_eq!(chosen(vec![important(), other]).as_deref(), Some("important"), "to its own tenant alone");
        assert_eq!(chosen(vec![modest(), taker("little", 0, "0", 1)]), None, "nothing would be gained");
        let margin = Margin { available: 0, threshold: 1 << 30 };
        assert_eq!(Resource::Disk.worthwhile(margin), (1 << 30) / 10, "little is no help");
        let margin = Margin { available: 5 << 20, threshold: 1 << 30 };
        assert_eq!(
            taker("greedy", 0, "1Mi", 100).words(Resource::Disk, margin),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 5Mi. Container c was using \
             100Mi, request is 1Mi, has larger consumption of ephemeral-storage. "
        );
        let hides = Taker { taken: u64::MAX, ..taker("hides", 0, "0", 0) };
        assert!(
            hides.words(Resource::Disk, margin).ends_with("Volumes and files of the pod took too much to be counted. ")
        );
    }

    #[test]
    fn what_was_short_is_said_for_a_while() {
        let (pressure, at) = (Pressure::default(), |second: i64| Time::from_second(1_800_000_000 + second).unwrap());
        assert_eq!(pressure.short_of(at(0)), []);
        pressure.state().since.insert(Shortage::Disk, at(0));
        assert_eq!(pressure.short_of(at(29)), [Shortage::Disk]);
        assert_eq!(pressure.short_of(at(61)), []);
    }
}
