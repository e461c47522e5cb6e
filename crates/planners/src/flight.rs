//! Items of one planner on their way: planned on a thread of its own, since planning computes, and committed. What became of
//! them the desk hears when all have landed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use face_kube::Kube;
use futures_util::{StreamExt, stream};
use model::{Key, Time};
use plan::{PLANNERS, Plan, Seen, Step};
use store::{Store, StoreFault};
use tokio::sync::Semaphore;

/// How many changes of planners the store has to do with at once, of all of them: as many as it writes together. Of more, those
/// that users commit would have to wait longer.
pub const AT_ONCE: usize = 512;

/// What flights need.
#[derive(Clone)]
pub struct Tower {
    pub store: Store,
    pub kube: Kube,
    /// Places for changes that are being committed.
    pub places: Arc<Semaphore>,
}

/// What became of a step.
pub enum Outcome {
    Committed,
    /// It was not admitted.
    Denied,
    Fault(StoreFault),
    /// It was not tried: the store did not answer for one before it.
    Left,
}

impl From<Result<u64, StoreFault>> for Outcome {
    fn from(result: Result<u64, StoreFault>) -> Self {
        result.map_or_else(Self::Fault, |_| Self::Committed)
    }
}

/// Items of a planner that have landed.
pub struct Flight {
    pub planner: usize,
    pub items: Vec<Key>,
    /// What the planner said of them, without the steps.
    pub plan: Plan,
    /// Steps about which a cluster's webhooks must be asked.
    pub asked: Vec<Step>,
    pub done: Vec<(Step, Outcome)>,
    /// Items that cannot be planned: a bug.
    pub unplanned: Vec<Key>,
}

impl Flight {
    /// Plans items and commits what is to be done for them. What cannot be planned keeps nothing else from being planned.
    pub async fn take_off(tower: Tower, planner: usize, items: Vec<Key>) -> Self {
        let mut parts = vec![items.clone()];
        let mut flight =
            Self { planner, items, plan: Plan::default(), asked: Vec::new(), done: Vec::new(), unplanned: Vec::new() };
        while let Some(mut items) = parts.pop() {
            let planning = tokio::task::spawn_blocking({
                let (tower, items) = (tower.clone(), items.clone());
                move || catch_unwind(AssertUnwindSafe(|| plan(&tower, planner, &items)))
            });
            match planning.await {
                Ok(Ok(planned)) => flight.commit(&tower, planned).await,
                Ok(Err(_)) if items.len() > 1 => {
                    parts.push(items.split_off(items.len() / 2));
                    parts.push(items);
                }
                // Or the process ends.
                Ok(Err(_)) | Err(_) => flight.unplanned.append(&mut items),
            }
        }
        flight
    }

    /// Commits the steps of a plan. They do not build on each other, so that many share one sync of the disk.
    async fn commit(&mut self, tower: &Tower, (mut plan, mut asked): (Plan, Vec<Step>)) {
        self.plan.again.append(&mut plan.again);
        self.plan.waiting.append(&mut plan.waiting);
        self.plan.left.append(&mut plan.left);
        self.asked.append(&mut asked);
        let broken = &AtomicBool::new(false);
        let commits = stream::iter(plan.steps).map(|step| async move {
            let place = tower.places.acquire().await;
            if place.is_err() || broken.load(Ordering::Relaxed) {
                return (step, Outcome::Left);
            }
            let outcome = Outcome::from(tower.store.commit(&step.change).await);
            let answers = match &outcome {
                Outcome::Fault(fault) => matches!(fault, StoreFault::Refused(_) | StoreFault::TooLarge(_)),
                _ => true,
            };
            broken.fetch_or(!answers, Ordering::Relaxed);
            (step, outcome)
        });
        let mut commits = std::pin::pin!(commits.buffered(AT_ONCE));
        while let Some(done) = commits.next().await {
            self.done.push(done);
        }
    }
}

/// The plan of these items, and those of its steps about which somebody must be asked.
fn plan(tower: &Tower, planner: usize, items: &[Key]) -> (Plan, Vec<Step>) {
    let book = tower.store.book();
    let seen = Seen { rows: &book.snapshot, ledger: &book.ledger };
    let mut plan = (PLANNERS[planner].plan)(&seen, items, Time::now());
    let steps = std::mem::take(&mut plan.steps);
    let (asked, steps) = steps.into_iter().partition(|step| tower.kube.asks(&book.snapshot, &step.change));
    plan.steps = steps;
    (plan, asked)
}
