//! Bugs on purpose. A simulator that does not notice a claim taken away would not notice it either when somebody takes it
//! away by mistake; `tests/mutations.rs` demands that it notices each of these, and `docs/simulation.md` has the table.
//!
//! The claims are taken away in the store, the rest where the simulator calls the planners and the agents, so that the
//! code under test is the code that ships.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use model::{
    Change, Delta, Entry, Event, Kind, KubeObject, Object, Resource, Revision, Server, Snapshot, Vm, VmPhase, Write,
};
use plan::Rows;
use serde_json::{Value, json};
use store::{Backend, Book, Feed, Fence, Proposal, Store, StoreFault};

/// One thing that Braid relies on, taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Addresses are not claimed.
    Addresses,
    Macs,
    /// Other unique names are not claimed.
    Names,
    Quota,
    /// Room on hosts is not claimed.
    Room,
    /// What a row refers to need not exist when the row is made.
    Missing,
    /// What others refer to can be deleted.
    InUse,
    /// A row that was changed meanwhile is overwritten.
    Revisions,
    /// A change that makes several things does not depend on the row that asked for them (invariant 9).
    WhoAsked,
    /// Pods are placed without regard to what else is placed in that moment (decision 10).
    Placements,
    /// Planners give what they make ids of chance instead of derived ones.
    DerivedIds,
    /// Agents do not see what nobody wants any more.
    Prune,
    /// An agent ends everything when it dies, instead of leaving it to be adopted.
    Adoption,
    /// Watches miss a commit now and then.
    Watch,
    /// What nobody wants is destroyed at once, instead of being put aside.
    Aside,
    /// Agents do not know for which cloud, and up to which of its reports, their folder was kept.
    Identity,
    /// Hosts do as they are told, however long ago that was decided.
    Generations,
    /// No controller ever makes a pod.
    NoPods,
    /// Pods that somebody asked for are deleted by a controller now and then.
    LostPods,
    /// Servers are not rebooted.
    Reboots,
    /// Hosts are told no rules of security groups.
    Rules,
    /// A new incarnation of a server gets a host while the old one is still there.
    TwoIncarnations,
    /// The planning process does not hear of what goes.
    Deaf,
    /// A step of an agent never ends, now and then.
    Stuck,
    /// Disks are not kept for the next incarnation.
    KeptDisks,
    /// What could not be removed is believed to be gone.
    Believed,
    /// What planners make is committed whatever the cluster's webhook says.
    Unasked,
    /// Servers that somebody asked for are deleted now and then.
    LostServers,
    /// A host's network lacks one port of each bridge.
    Wires,
    /// Ports outlive what they were made for.
    LeftPorts,
    /// Nobody hears that hosts live.
    Beats,
    /// What is refused is told to nobody.
    Untold,
    /// Nothing is planned again at the moment that a planner named.
    Again,
    /// Hosts do not see that containers end.
    Ends,
    /// Hosts take each end of a container for a failure.
    Codes,
    /// Jobs make no pods.
    JobPods,
    /// Jobs delete no pods.
    RunOn,
    /// A Job lets go of pods that have ended, and does not count them.
    Uncounted,
    /// A Job counts pods that have ended, and does not let go of them.
    CountedTwice,
    /// Jobs come to no end.
    Endless,
    /// Jobs that have ended go on.
    Ended,
    /// Jobs run one pod too many at once.
    Parallelism,
    /// Suspended Jobs run.
    Suspended,
    /// Jobs fail as often as they like.
    BackoffLimit,
    /// Jobs run for as long as they like.
    JobDeadline,
    /// Jobs that have ended stay longer than they should.
    Expiry,
    /// Pods of deleted Jobs are held for ever.
    HeldPods,
    /// Neither Jobs nor CronJobs say what runs of them.
    Active,
    /// CronJobs make no Jobs.
    Schedules,
    /// CronJobs do not know for which moments they have run.
    Moments,
    /// CronJobs run beside themselves, whatever their policy.
    Concurrency,
    /// CronJobs run however late it is.
    StartingDeadline,
    /// CronJobs keep all Jobs that have ended.
    JobHistory,
}

impl Mutation {
    /// Whether a unique name or a pool is not looked at.
    fn ignores(self, name: &str) -> bool {
        let part = name.split('/').next().unwrap_or("");
        match self {
            Self::Addresses => part == "address",
            Self::Macs => part == "mac",
            Self::Names => part != "address" && part != "mac" && part != "quota" && part != "room",
            Self::Quota => part == "quota",
            Self::Room => part == "room",
            _ => false,
        }
    }

    /// What is left to check of a change's claims.
    fn weaken(self, mut delta: Delta) -> Delta {
        delta.take.retain(|name, _| !self.ignores(name));
        delta.uses.retain(|pool, _| !self.ignores(pool));
        delta.clash = delta.clash.filter(|(name, _)| !self.ignores(name));
        match self {
            Self::Missing => delta.needs.retain(|_, change| *change < 0),
            Self::InUse => delta.gone.clear(),
            _ => {}
        }
        delta
    }

    /// What becomes of a change that a planner made of these rows.
    pub fn planned(self, planner: &str, rows: &Snapshot, change: &mut Change) {
        change.writes.retain(|write| !self.drops(planner, rows, write));
        let writes_job = change.writes.iter().any(|write| Rows::Objects("batch", "jobs").have(&write.key()));
        if self == Self::HeldPods && planner == "job" && !writes_job {
            change.writes.clear();
        }
        for write in &mut change.writes {
            let key = write.key();
            let Write::Update { object: Object::KubeObject(object), .. } = write else { continue };
            let before = rows.at::<KubeObject>(&key).filter(|object| object.group == "batch");
            if let Some(before) = before {
                self.rewrite(Arc::make_mut(object), before.value);
            }
        }
    }

    /// Whether a write of a planner's is left out.
    fn drops(self, planner: &str, rows: &Snapshot, write: &Write) -> bool {
        let key = write.key();
        let pod = Rows::Objects("", "pods").have(&key);
        let makes = matches!(write, Write::Create(_));
        let ended = || rows.at::<KubeObject>(&key).is_some_and(|pod| pod.pod_finished());
        let deletes = || match write {
            Write::Update { object, .. } => KubeObject::of(object).is_some_and(KubeObject::deleting) && !ended(),
            _ => !makes,
        };
        match (self, planner) {
            (Self::NoPods, _) | (Self::JobPods, "job") => pod && makes,
            (Self::RunOn, "job") => pod && deletes(),
            (Self::CountedTwice, "job") => pod && ended(),
            (Self::Schedules, "cronjob") => makes && Rows::Objects("batch", "jobs").have(&key),
            (Self::LeftPorts, "port") => key.kind == Kind::Port && matches!(write, Write::Delete { .. }),
            _ => false,
        }
    }

    /// What a planner writes of a Job or a CronJob, of which it may have misread what was asked for.
    fn rewrite(self, object: &mut KubeObject, before: &KubeObject) {
        object.body["spec"] = before.body["spec"].clone();
        let forget: &[&str] = match self {
            Self::Uncounted => &["succeeded", "failed"],
            Self::Endless => &["conditions"],
            Self::Active => &["active"],
            Self::Moments => &["lastScheduleTime"],
            _ => &[],
        };
        for field in forget {
            object.body["status"][*field] = before.body["status"][*field].clone();
        }
    }

    /// What a planner takes a Job or a CronJob for.
    fn misread(self, object: &mut KubeObject) {
        let spec = &mut object.body["spec"];
        match self {
            Self::Parallelism => spec["parallelism"] = json!(spec["parallelism"].as_i64().unwrap_or(1) + 1),
            Self::Suspended if object.resource == "jobs" => spec["suspend"] = json!(false),
            Self::BackoffLimit => spec["backoffLimit"] = json!(1000),
            Self::JobDeadline => spec["activeDeadlineSeconds"] = Value::Null,
            Self::Expiry => spec["ttlSecondsAfterFinished"] = Value::Null,
            Self::Concurrency => spec["concurrencyPolicy"] = json!("Allow"),
            Self::StartingDeadline => spec["startingDeadlineSeconds"] = Value::Null,
            Self::JobHistory => {
                spec["successfulJobsHistoryLimit"] = json!(1000);
                spec["failedJobsHistoryLimit"] = json!(1000);
            }
            Self::Ended => {
                spec["backoffLimit"] = json!(1000);
                object.body["status"]["conditions"] = json!([]);
            }
            _ => {}
        }
    }

    /// Whether the planning process hears of an event.
    pub fn hears(self, event: &Event) -> bool {
        self != Self::Deaf || event.after.is_some()
    }

    /// The rows as a planner believes that they are.
    pub fn believed(self, planner: &str, mut snapshot: Snapshot) -> Snapshot {
        let objects: Vec<(Object, Revision)> = match (self, planner) {
            (Self::TwoIncarnations, "schedule") => {
                let is_old = |vm: &Entry<'_, Vm>| {
                    snapshot.get::<Server>(&vm.server_id).is_some_and(|server| server.incarnation > vm.incarnation)
                };
                let gone = |vm: Entry<'_, Vm>| {
                    let mut gone = Vm { deleting: true, ..vm.value.clone() };
                    gone.status.phase = VmPhase::Gone;
                    (gone.into(), vm.row.modified)
                };
                snapshot.all::<Vm>().filter(is_old).map(gone).collect()
            }
            (_, "job" | "cronjob") => {
                let misread = |entry: Entry<'_, KubeObject>| {
                    let mut object = entry.value.clone();
                    self.misread(&mut object);
                    (object.into(), entry.row.modified)
                };
                snapshot.all::<KubeObject>().filter(|object| object.group == "batch").map(misread).collect()
            }
            _ => Vec::new(),
        };
        let revision = snapshot.revision();
        for (object, modified) in objects {
            snapshot.apply(modified, &[Write::Update { object, expected: modified }]);
        }
        snapshot.set_revision(revision);
        snapshot
    }

    /// Whether a change goes through although rows that it writes were changed meanwhile.
    fn forces(self, change: &Change) -> bool {
        let makes = |write: &Write| matches!(write, Write::Create(_));
        self == Self::Revisions || self == Self::WhoAsked && change.writes.iter().any(makes)
    }
}

/// The store in memory, but for one bug.
pub fn store(mutation: Mutation) -> Store {
    let feed = Feed::default();
    Store::over(feed.clone(), Broken { mutation, feed, book: Mutex::default() })
}

struct Broken {
    mutation: Mutation,
    feed: Feed,
    book: Mutex<Book>,
}

#[async_trait]
impl Backend for Broken {
    async fn commit(&self, proposal: Proposal, _: Option<&Fence>) -> Result<Revision, StoreFault> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut change = proposal.change;
        if self.mutation == Mutation::Placements {
            place_anyway(&mut change);
        }
        if self.mutation.forces(&change) {
            force(&mut change, &book.snapshot);
        }
        let delta = book.snapshot.prepare(&change)?;
        let made: Vec<_> = change.writes.iter().filter(|write| !matches!(write, Write::Delete { .. })).collect();
        let exists = |key: &model::Key| {
            let gone =
                change.writes.iter().any(|write| matches!(write, Write::Delete { key: gone, .. } if gone == key));
            made.iter().any(|write| write.key() == *key) || book.snapshot.row(key).is_some() && !gone
        };
        book.ledger.check(&self.mutation.weaken(delta.clone()), exists)?;
        let mut next = book.clone();
        let revision = book.revision() + 1;
        let commit = Arc::new(next.apply(revision, &change.writes, &delta));
        *book = next;
        let missed = self.mutation == Mutation::Watch && revision.is_multiple_of(50);
        self.feed.publish(&book, if missed { Vec::new() } else { vec![store::Weighed::new(commit, &[])] });
        Ok(revision)
    }

    async fn catch_up(&self) -> Result<(), StoreFault> {
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreFault> {
        self.feed.forget(revision);
        Ok(())
    }

    async fn close(&self) {}
}

/// A placement depends on nothing but its own pods.
fn place_anyway(change: &mut Change) {
    let shared = |key: &model::Key| key.kind == Kind::Setting && key.name.starts_with("pod-placements/");
    let writes = change.writes.iter().map(Write::key);
    if writes.chain(change.expects.iter().map(|expect| expect.key.clone())).any(|key| shared(&key)) {
        change.expects.clear();
        change.writes.retain(|write| !shared(&write.key()));
    }
}

/// Makes a change fit to rows that somebody has changed meanwhile; what is gone stays gone.
fn force(change: &mut Change, snapshot: &Snapshot) {
    change.writes.retain_mut(|write| {
        let now = snapshot.row(&write.key()).map(|row| row.modified);
        match (write, now) {
            (Write::Update { expected, .. } | Write::Delete { expected, .. }, Some(now)) => {
                *expected = now;
                true
            }
            (Write::Create(_), _) => true,
            _ => false,
        }
    });
}

/// The change with other ids and MACs for the ports and pods that it makes.
pub fn rename(change: &Change, chance: &mut fastrand::Rng) -> Change {
    let mut text = serde_json::to_string(change).unwrap_or_default();
    for write in &change.writes {
        let Write::Create(object) = write else { continue };
        let other = format!("{:08x}-0000-4000-8000-{:012x}", chance.u32(..), chance.u32(..));
        match object {
            Object::Port(port) => {
                text = text.replace(&port.id, &other);
                text = text.replace(
                    &port.mac,
                    &format!("fa:16:3e:{:02x}:{:02x}:{:02x}", chance.u8(..), chance.u8(..), chance.u8(..)),
                );
            }
            Object::KubeObject(pod) if write.key().kind == Kind::KubeObject && pod.is_pod() => {
                text = text.replace(pod.uid(), &other).replace(&pod.name, &format!("{}{}", pod.name, chance.u16(..)));
            }
            _ => {}
        }
    }
    serde_json::from_str(&text).unwrap_or_else(|_| change.clone())
}
