//! The loop around the planners: a commit wakes it, it plans from a snapshot, commits each change by itself, and plans
//! again until nothing is left to do. A refused change is not an error: the next snapshot shows why, and the planner
//! thinks again. Of several processes on one store one plans; the others wait to take over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use model::{Change, Event, Fault, Kind, KubeObject, Resource, Row, Snapshot, Time};
use store::{Concern, Interest, Store, StoreFault};

/// Planners look again after this long although nothing changed: time itself is an input of some.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How many changes are committed at once.
const AT_ONCE: usize = 128;

/// A planner: its name for the log, and the pure function.
type Planner = (&'static str, fn(&Snapshot, Time) -> Vec<Change>);

/// All planners, in the order in which a new thing passes them.
const PLANNERS: &[Planner] = &[
    ("namespace", plan::kube::namespace::plan),
    ("deployment", plan::kube::deployment::plan),
    ("replicaset", plan::kube::replicaset::plan),
    ("taint", plan::kube::taint::plan),
    ("server", plan::server::plan),
    ("schedule", plan::schedule::plan),
    ("port", plan::port::plan),
    ("endpointslice", plan::kube::endpointslice::plan),
    ("garbage", plan::kube::garbage::plan),
    ("event", plan::kube::event::plan),
];

/// The role that the planning process has.
const ROLE: &str = "planner";

/// How long to wait before asking for the role again when the store did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Runs until the process ends; plans while this process leads. `here` says whether it does.
pub async fn run(store: Store, here: Arc<AtomicBool>) {
    let mut said = String::new();
    loop {
        match store.lead(ROLE).await {
            Ok(lead) => {
                said.clear();
                here.store(true, Ordering::Relaxed);
                tracing::info!("the planners run here");
                tokio::select! {
                    () = plan(lead.store()) => {}
                    () = lead.lost() => {}
                }
                here.store(false, Ordering::Relaxed);
            }
            Err(fault) => {
                let text = fault.to_string();
                if said != text {
                    tracing::warn!("the planners wait: {text}");
                    said = text;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// Plans for ever.
async fn plan(store: &Store) {
    let mut watch = None;
    loop {
        let snapshot = store.snapshot();
        let revision = snapshot.revision();
        if watch.is_none() {
            watch = store.watch_part(revision, NEWS).ok();
        }
        let mut moved = false;
        for (name, plan) in PLANNERS {
            // Each sees what the ones before it did in this round.
            moved |= round(store, name, *plan).await;
        }
        if moved {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            result = news(&mut watch) => if result.is_err() { watch = None },
        }
    }
}

/// What some planner reads.
const NEWS: Interest = Interest::Concern(Concern { name: "planners", rule: read_by_planners });

/// Waits for a commit that some planner reads.
async fn news(watch: &mut Option<store::Watch>) -> Result<(), Fault> {
    let Some(watch) = watch else { return std::future::pending().await };
    watch.next().await.map(drop)
}

/// Kubernetes' plain data is read by no planner, unless it goes: then others may go with it.
fn read_by_planners(event: &Event) -> bool {
    const PLAIN: [&str; 4] = ["/configmaps/", "/secrets/", "/events/", "coordination.k8s.io/leases/"];
    let plain = event.key.kind == Kind::KubeObject && PLAIN.iter().any(|part| event.key.name.starts_with(part));
    let stays = |row: &Row| KubeObject::of(&row.object).is_some_and(|object| !object.deleting());
    !(plain && event.after.as_ref().is_some_and(|row| stays(row)))
}

/// Plans once and commits; whether anything was committed. Changes of one plan do not build on each other, so that many
/// share one sync of the disk.
async fn round(store: &Store, name: &str, planner: fn(&Snapshot, Time) -> Vec<Change>) -> bool {
    let snapshot = store.snapshot();
    let mut moved = false;
    let (seen, now) = (snapshot.clone(), Time::now());
    // On a thread of its own: at a thousand times the size a plan takes a while, and others share this one.
    let changes = match tokio::task::spawn_blocking(move || planner(&seen, now)).await {
        Ok(changes) => changes,
        // The process ends.
        Err(error) if error.is_cancelled() => return false,
        Err(error) => {
            tracing::error!(planner = name, %error, "a bug");
            return false;
        }
    };
    for some in changes.chunks(AT_ONCE) {
        let results = join_all(some.iter().map(|change| store.commit(change))).await;
        for (change, result) in some.iter().zip(results) {
            match result {
                Ok(_) => moved = true,
                Err(StoreFault::Refused(refused)) => {
                    tracing::debug!(planner = name, "refused: {refused}");
                    for said in plan::kube::refused::refused(&snapshot, change, &refused, Time::now()) {
                        // If all are refused too, somebody else was faster, and it is planned again.
                        if store.commit(&said).await.is_ok() {
                            break;
                        }
                    }
                }
                Err(e) => {
                    tracing::warn!(planner = name, "{e}");
                    return moved;
                }
            }
        }
    }
    moved
}
