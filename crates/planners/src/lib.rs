//! The loop around the planners: commits touch items of the [`Agenda`](plan::Agenda), what is due is planned from a book, each
//! change is committed by itself, and so on for ever. A refused change is not an error: the next book shows why, and its items
//! are planned again. Of several processes on one store one plans; the others wait to take over.
//!
//! Each planner plans and commits one [flight](flight) of items at a time, and none waits for another's: while the store writes
//! what one has planned, others plan. One loop in which each saw what the one before had done was refused, since it left the
//! store idle while it planned, and planned nothing while the store wrote.

mod asked;
mod desk;
mod flight;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use face_kube::Kube;
use model::Time;
use store::{Concern, Interest, Store};
use tokio::runtime::{Builder, Runtime};

use desk::Desk;

/// The role that the planning process has.
const ROLE: &str = "planner";

/// How long to wait before asking for the role again when the store did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often the planning process looks which hosts have fallen silent.
const LISTEN: Duration = Duration::from_secs(5);

/// What some planner reads.
const NEWS: Interest = Interest::Concern(Concern { name: "planners", rule: plan::is_news });

/// What the scheduler of the machine is told: these threads have a third of the weight of the process's others (`nice(2)`).
const NICE: i32 = 5;

/// Threads for [`run`]. Those of clients go before them: planning can fill every core for seconds, and a request that came
/// meanwhile would wait for its turn.
pub fn threads() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        // The loop itself and the waiting for commits; what computes has threads beside.
        .worker_threads(1)
        .thread_name("planners")
        // A thread's start costs as much as a plan.
        .thread_keep_alive(Duration::from_secs(3600))
        .on_thread_start(|| {
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::debug!("planners are as important as clients: {error}");
            }
        })
        .enable_all()
        .build()
}

/// Runs until the process ends; plans while this process leads. `here` says whether it does, `kube` asks webhooks.
pub async fn run(store: Store, kube: Kube, here: Arc<AtomicBool>) {
    let mut said = String::new();
    loop {
        match store.lead(ROLE).await {
            Ok(lead) => {
                said.clear();
                here.store(true, Ordering::Relaxed);
                tracing::info!("the planners run here");
                tokio::select! {
                    () = plan(lead.store(), &kube) => {}
                    () = listen(lead.store()) => {}
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

/// Commits for ever which hosts have fallen silent.
async fn listen(store: &Store) {
    let since = Time::now();
    loop {
        tokio::time::sleep(LISTEN).await;
        for change in plan::silent(&store.snapshot(), &store.beats(), since, Time::now()) {
            if let Err(fault) = store.commit(&change).await {
                tracing::debug!("a host fell silent: {fault}");
            }
        }
    }
}

/// Plans for ever; from the beginning when commits were missed.
async fn plan(store: &Store, kube: &Kube) {
    loop {
        match store.watch_part(store.snapshot().revision(), NEWS) {
            Ok(mut watch) => {
                let Err(fault) = Desk::new(store, kube).work(&mut watch).await;
                tracing::info!("the planners begin anew: {fault}");
            }
            Err(fault) => tracing::warn!("the planners cannot follow the store: {fault}"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
