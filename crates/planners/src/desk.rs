//! Who follows the store, lets what is due take off, and notes what has become of what has landed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use face_kube::Kube;
use futures_util::FutureExt;
use futures_util::future::join_all;
use model::{Change, Fault, Key, Time};
use plan::{Agenda, PLANNERS, Step};
use store::{Store, StoreFault, Watch};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::asked::{Asked, ask, tell};
use crate::flight::{AT_ONCE, Flight, Outcome, Tower};

pub struct Desk {
    tower: Tower,
    agenda: Agenda,
    flights: JoinSet<Flight>,
    /// Steps about which somebody is being asked.
    asked: JoinSet<Asked>,
}

impl Desk {
    /// Everything is due.
    pub fn new(store: &Store, kube: &Kube) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self {
            tower: Tower { store: store.clone(), kube: kube.clone(), places },
            agenda: Agenda::new(&store.snapshot()),
            flights: JoinSet::new(),
            asked: JoinSet::new(),
        }
    }

    /// Ends when the watch does.
    pub async fn work(&mut self, watch: &mut Watch) -> Result<Infallible, Fault> {
        loop {
            self.follow(watch)?;
            for planner in 0..PLANNERS.len() {
                let items = self.agenda.take(planner, Time::now());
                if !items.is_empty() {
                    self.flights.spawn(Flight::take_off(self.tower.clone(), planner, items));
                }
            }
            let next = self.agenda.next().map(|at| at.duration_since(Time::now()));
            let rest = next.map_or(Duration::MAX, |rest| rest.try_into().unwrap_or_default());
            let lost = |error: JoinError| Fault::Unavailable(format!("a plan was lost: {error}"));
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                result = watch.changed() => result?,
                Some(flight) = self.flights.join_next() => self.landed(flight.map_err(lost)?).await,
                Some(asked) = self.asked.join_next() => self.answered(asked.map_err(lost)?).await,
            }
        }
    }

    /// Notes what the newest commits touch.
    fn follow(&mut self, watch: &mut Watch) -> Result<(), Fault> {
        while let Some(commit) = watch.next_now()? {
            let rows = self.tower.store.snapshot();
            commit.events.iter().for_each(|event| self.agenda.touch(&rows, event, Time::now()));
        }
        Ok(())
    }

    async fn landed(&mut self, flight: Flight) {
        let Flight { planner, items, plan, asked, done, unplanned } = flight;
        self.agenda.planned(planner, &plan);
        if !unplanned.is_empty() {
            tracing::error!(planner = PLANNERS[planner].name, "a bug: {unplanned:?} cannot be planned");
            self.agenda.put_back(planner, &unplanned, Time::now());
        }
        self.ask(planner, asked);
        self.note(planner, done).await;
        self.agenda.landed(planner, &items, &self.tower.store.snapshot());
    }

    /// Has those asked whom clusters ask about these steps, which wait for nothing but that.
    fn ask(&mut self, planner: usize, steps: Vec<Step>) {
        let mut together: BTreeMap<Vec<Key>, Vec<Step>> = BTreeMap::new();
        steps.into_iter().for_each(|step| together.entry(step.items.clone()).or_default().push(step));
        for (items, steps) in together {
            self.agenda.hold(planner, &items);
            let asked = Asked { planner, items, done: Vec::new() };
            let broken = Asked { items: asked.items.clone(), done: Vec::new(), planner };
            let answer = AssertUnwindSafe(ask(self.tower.clone(), asked, steps)).catch_unwind();
            self.asked.spawn(async move {
                let name = PLANNERS[planner].name;
                let bug = |_| tracing::error!(planner = name, "a bug: nobody can be asked about {:?}", broken.items);
                answer.await.map_err(bug).unwrap_or(broken)
            });
        }
    }

    async fn answered(&mut self, asked: Asked) {
        let Asked { planner, items, done } = asked;
        if done.is_empty() {
            self.agenda.put_back(planner, &items, Time::now());
        }
        self.note(planner, done).await;
        self.agenda.release(planner, &items);
    }

    /// Notes what became of steps, and says of those that were refused why.
    async fn note(&mut self, planner: usize, done: Vec<(Step, Outcome)>) {
        let name = PLANNERS[planner].name;
        let (mut said, mut broken) = (Vec::new(), None);
        for (step, outcome) in done {
            match outcome {
                Outcome::Committed => self.agenda.committed(planner, &step.items),
                Outcome::Denied => self.agenda.denied(planner, &step.items, Time::now()),
                Outcome::Fault(StoreFault::Refused(refused)) => {
                    tracing::debug!(planner = name, "refused: {refused}");
                    let comes_back = self.agenda.refused(planner, &step.items, &refused, Time::now());
                    let rows = self.tower.store.snapshot();
                    said.push(plan::refused(&rows, &step, &refused, comes_back, Time::now()));
                }
                Outcome::Fault(fault) => {
                    self.agenda.put_back(planner, &step.items, Time::now());
                    broken = Some(fault);
                }
                Outcome::Left => self.agenda.put_back(planner, &step.items, Time::now()),
            }
        }
        if let Some(fault) = broken {
            tracing::warn!(planner = name, "{fault}");
        }
        let store = &self.tower.store;
        join_all(said.into_iter().filter(|ways: &Vec<Change>| !ways.is_empty()).map(|ways| tell(store, ways))).await;
    }
}
