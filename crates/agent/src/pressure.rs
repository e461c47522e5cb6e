//! A host that runs short of disk or memory evicts pods, one at a time, in kubelets' order and words: first those that take
//! more than they asked for, of these the least important, of these the one that takes most beyond. Its nodes say so and get
//! a taint, so that nothing new comes meanwhile.
//!
//! Refused: evicting a pod from whose end nothing is gained, as kubelets do when nobody takes more than was asked; and
//! evicting VMs, which take no more than was counted for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use driver::Used;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod};
use model::{Fault, KubeObject, Time};

use crate::pod_storage::quantity;
use crate::work::Left;
use crate::{Agent, pod, pod_storage};

/// Disks keep a tenth, and at most so much.
const DISK: u64 = 1 << 30;
/// As kubelets' default.
const MEMORY: u64 = 100 << 20;
/// Nodes say that they are short for so long after they were, so that what was evicted does not come back at once.
const LINGERS: SignedDuration = SignedDuration::from_secs(30);
/// So much has to be gained.
const WORTHWHILE: u64 = 16 << 20;
/// Pods of the system's own, which stay.
const CRITICAL: i64 = 2_000_000_000;

/// What a host can be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Memory,
    Disk,
}

impl Resource {
    /// By the name in requests.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "ephemeral-storage",
        }
    }

    fn of(self, used: &Used) -> u64 {
        match self {
            Self::Memory => used.memory,
            Self::Disk => used.disk,
        }
    }
}

/// How much is left of something, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margin {
    pub available: u64,
    pub threshold: u64,
}

/// What the host is short of, and who has to go.
#[derive(Default)]
pub struct Pressure(Mutex<State>);

#[derive(Default)]
struct State {
    since: BTreeMap<Resource, Time>,
    /// A pod's uid, and why.
    victim: Option<(String, String)>,
}

impl Pressure {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the host is short of, or was a moment ago.
    pub fn short_of(&self, now: Time) -> Vec<Resource> {
        let state = self.state();
        let recent = |last: &Time| now.duration_since(*last) < LINGERS;
        state.since.iter().filter(|(_, last)| recent(last)).map(|(resource, _)| *resource).collect()
    }

    /// Why a pod has to go, if it has.
    pub fn verdict(&self, uid: &str) -> Option<String> {
        self.state().victim.as_ref().filter(|(victim, _)| victim == uid).map(|(_, words)| words.clone())
    }
}

/// Looks how much is left, and chooses who goes when it is too little.
pub async fn step(agent: &Agent) -> Result<Left, Fault> {
    let short = look(&agent.config().dir);
    let pressure = &agent.inner.pressure;
    let now = agent.now();
    let before = pressure.short_of(now);
    pressure.state().since.extend(short.keys().map(|resource| (*resource, now)));
    if pressure.short_of(now) != before {
        agent.report_soon();
    }
    let snapshot = agent.store().snapshot();
    let chosen = pressure.state().victim.clone();
    if let Some((uid, _)) = chosen {
        let there = pod::row(agent, &snapshot, &uid).is_some_and(|row| !row.pod_finished());
        if there || pod::seen(agent, &uid).await?.is_some() {
            return Ok(Left::Unsettled);
        }
        pressure.state().victim = None;
    }
    let Some((resource, margin)) = short.into_iter().next() else { return Ok(Left::Settled) };
    let mut takers = Vec::new();
    for row in pod::of_host(&snapshot, &agent.config().host).filter(|row| !row.pod_finished() && !row.deleting()) {
        takers.extend(taker(agent, row.value, resource).await);
    }
    if let Some(taker) = choose(takers) {
        let words = taker.words(resource, margin);
        tracing::warn!(pod = taker.uid, "evicted: {words}");
        pressure.state().victim = Some((taker.uid, words));
        agent.wake();
    }
    Ok(Left::Unsettled)
}

/// What there is too little of.
fn look(dir: &Path) -> BTreeMap<Resource, Margin> {
    let disk = nix::sys::statvfs::statvfs(dir).ok().map(|fs| {
        let bytes = |blocks: u64| blocks.saturating_mul(fs.fragment_size());
        Margin { available: bytes(fs.blocks_available()), threshold: (bytes(fs.blocks()) / 10).min(DISK) }
    });
    let memory = available_memory().map(|available| Margin { available, threshold: MEMORY });
    let all = [(Resource::Memory, memory), (Resource::Disk, disk)];
    let short = all.into_iter().filter_map(|(resource, margin)| Some((resource, margin?)));
    short.filter(|(_, margin)| margin.available < margin.threshold).collect()
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// A pod and what it takes of something.
struct Taker {
    uid: String,
    priority: i64,
    asked: u64,
    taken: u64,
    /// For each container: its name, what it takes and asked for.
    containers: Vec<(String, u64, u64)>,
}

async fn taker(agent: &Agent, row: &KubeObject, resource: Resource) -> Option<Taker> {
    let pod: Pod = serde_json::from_value(row.body.clone()).ok()?;
    let seen = pod::seen(agent, row.uid()).await.ok()??;
    let used = agent.drivers().pod.used(row.uid()).await.ok()?;
    let own = match resource {
        Resource::Disk => pod_storage::folder_of(agent, row.uid()).await,
        Resource::Memory => 0,
    };
    let by_container = pod_storage::by_container(&seen, &used, |used| resource.of(used), resource == Resource::Disk);
    Some(Taker::of(row, &pod, resource, by_container, own))
}

impl Taker {
    fn of(row: &KubeObject, pod: &Pod, resource: Resource, taken: BTreeMap<String, u64>, own: u64) -> Self {
        let containers: Vec<(String, u64, u64)> = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|one| (one.name.clone(), taken.get(&one.name).copied().unwrap_or(0), asked(one, resource)))
            .collect();
        Self {
            uid: row.uid().to_owned(),
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
            quantity(margin.threshold),
            quantity(margin.available >> 10 << 10)
        );
        for (container, taken, asked) in self.containers.iter().filter(|(_, taken, asked)| taken > asked) {
            words += &format!(
                "Container {container} was using {}, request is {}, has larger consumption of {name}. ",
                quantity(taken >> 10 << 10),
                quantity(*asked)
            );
        }
        words
    }
}

fn asked(container: &Container, resource: Resource) -> u64 {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let quantity = requests.and_then(|requests| requests.get(resource.name()));
    quantity.and_then(|quantity| model::quantity_bytes(&quantity.0)).unwrap_or(0)
}

fn choose(takers: Vec<Taker>) -> Option<Taker> {
    let may = |taker: &Taker| taker.beyond() >= WORTHWHILE && taker.priority < CRITICAL;
    takers.into_iter().filter(may).min_by_key(|taker| (taker.priority, std::cmp::Reverse(taker.beyond())))
}

/// What a node shows for what its host is short of: the condition's type, its taint, and words for both states.
pub const CONDITIONS: [(Resource, &str, &str, [&str; 2]); 2] = [
    (
        Resource::Memory,
        "MemoryPressure",
        "node.kubernetes.io/memory-pressure",
        ["KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"],
    ),
    (
        Resource::Disk,
        "DiskPressure",
        "node.kubernetes.io/disk-pressure",
        ["KubeletHasNoDiskPressure", "KubeletHasDiskPressure"],
    ),
];

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
        let chosen = |takers: Vec<Taker>| choose(takers).map(|taker| taker.uid);
        let modest = || taker("modest", -5, "10Gi", 9000);
        assert_eq!(chosen(vec![modest(), taker("greedy", 100, "0", 100)]).as_deref(), Some("greedy"));
        assert_eq!(chosen(vec![taker("more", 0, "0", 90), taker("less", 0, "0", 80)]).as_deref(), Some("more"));
        let important = taker("important", 10, "0", 9000);
        assert_eq!(chosen(vec![important, taker("less", 0, "0", 80)]).as_deref(), Some("less"));
        assert_eq!(chosen(vec![modest(), taker("little", 0, "0", 1)]), None, "nothing would be gained");
        assert_eq!(chosen(vec![taker("system", CRITICAL, "0", 9000)]), None);
        let margin = Margin { available: 5 << 20, threshold: 1 << 30 };
        assert_eq!(
            taker("greedy", 0, "1Mi", 100).words(Resource::Disk, margin),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 5Mi. Container c was using \
             100Mi, request is 1Mi, has larger consumption of ephemeral-storage. "
        );
    }

    #[test]
    fn what_was_short_is_said_for_a_while() {
        let (pressure, at) = (Pressure::default(), |second: i64| Time::from_second(1_800_000_000 + second).unwrap());
        assert_eq!(pressure.short_of(at(0)), []);
        pressure.state().since.insert(Resource::Disk, at(0));
        assert_eq!(pressure.short_of(at(29)), [Resource::Disk]);
        assert_eq!(pressure.short_of(at(61)), []);
    }
}
