//! Steps about which a cluster's webhooks are asked: each waits for them by itself, and is committed as it was admitted.

use std::time::Duration;

use face_kube::Unadmitted;
use model::{Change, Key, Time};
use plan::{PLANNERS, Step};
use store::{Store, StoreFault};

use crate::flight::{Outcome, Tower};

/// What a change makes is asked about for so long in all, and then in a while again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Steps of the same items, the next for the case that the store refuses the one before; what became of each.
pub struct Asked {
    pub planner: usize,
    pub items: Vec<Key>,
    pub done: Vec<(Step, Outcome)>,
}

/// Asks about each step whose turn comes, and commits it as it was admitted.
pub async fn ask(tower: Tower, mut asked: Asked, steps: Vec<Step>) -> Asked {
    let name = format!("{}-controller", PLANNERS[asked.planner].name);
    let store = &tower.store;
    for step in steps {
        let rows = store.snapshot();
        // Nobody is asked about what cannot be any more.
        let outcome = match rows.prepare(&step.change) {
            Err(refused) => Outcome::Fault(StoreFault::Refused(refused)),
            Ok(_) => match tower.kube.admit(&rows, &step.change, &name, PATIENCE).await {
                Ok(()) => store.commit(&step.change).await.into(),
                Err(Unadmitted { object, why }) => {
                    tracing::debug!(planner = name, "denied: {why}");
                    tell(store, plan::denied(&store.snapshot(), &step, &object, &why, Time::now())).await;
                    Outcome::Denied
                }
            },
        };
        let ends = matches!(outcome, Outcome::Denied);
        asked.done.push((step, outcome));
        if ends {
            break;
        }
    }
    asked
}

/// Says why something was refused. If all that could be said is refused too, somebody else was faster.
pub async fn tell(store: &Store, ways: Vec<Change>) {
    for said in ways {
        if store.commit(&said).await.is_ok() {
            return;
        }
    }
}
