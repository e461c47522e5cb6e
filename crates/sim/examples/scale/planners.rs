//! The planners as `braid` runs them, without webhooks and threads: what is due is planned from a book, and its changes are
//! committed many at a time.

use std::error::Error;
use std::time::Duration;

use futures_util::future::join_all;
use model::{KubeObject, Time};
use plan::{Agenda, PLANNERS, Plan, Seen};
use store::{Concern, Interest, Store, StoreFault, Watch};

/// How many changes are committed at once.
const AT_ONCE: usize = 512;

pub struct Cloud {
    pub store: Store,
    agenda: Agenda,
    news: Watch,
    refused: usize,
}

impl Cloud {
    pub fn new(store: Store) -> Result<Self, Box<dyn Error>> {
        let rows = store.snapshot();
        let interest = Interest::Concern(Concern { name: "planners", rule: plan::is_news });
        let news = store.watch_part(rows.revision(), interest)?;
        Ok(Self { agenda: Agenda::new(&rows), news, store, refused: 0 })
    }

    /// Plans until nothing is due.
    pub async fn plan(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            let mut busy = false;
            for (at, planner) in PLANNERS.iter().enumerate() {
                while let Some(commit) = self.news.next_now()? {
                    let rows = self.store.snapshot();
                    commit.events.iter().for_each(|event| self.agenda.touch(&rows, event, Time::now()));
                }
                let items = self.agenda.take(at, Time::now());
                if items.is_empty() {
                    continue;
                }
                busy = true;
                let book = self.store.book();
                let seen = Seen { rows: &book.snapshot, ledger: &book.ledger };
                let plan = (planner.plan)(&seen, &items, Time::now());
                self.carry_out(at, plan).await?;
            }
            if !busy {
                return Ok(());
            }
        }
    }

    async fn carry_out(&mut self, at: usize, plan: Plan) -> Result<(), StoreFault> {
        self.agenda.planned(at, &plan);
        for some in plan.steps.chunks(AT_ONCE) {
            let results = join_all(some.iter().map(|step| self.store.commit(&step.change))).await;
            for (step, result) in some.iter().zip(results) {
                match result {
                    Ok(_) => self.agenda.committed(at, &step.items),
                    Err(StoreFault::Refused(refused)) => {
                        self.refused += 1;
                        self.agenda.refused(at, &step.items, &refused, Time::now());
                    }
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(())
    }

    /// Waits for what may be due, and plans it, for so long.
    pub async fn rest(&mut self, span: Duration) -> Result<(), Box<dyn Error>> {
        let end = tokio::time::Instant::now() + span;
        while tokio::time::Instant::now() < end {
            self.plan().await?;
            let next = self.agenda.next().map(|at| at.duration_since(Time::now()));
            let rest = next.map_or(Duration::MAX, |rest| rest.try_into().unwrap_or_default());
            tokio::select! {
                () = tokio::time::sleep(rest.min(span)) => {}
                () = tokio::time::sleep_until(end) => {}
                result = self.news.changed() => result?,
            }
        }
        Ok(())
    }

    /// Pods that have a host.
    pub fn bound(&self) -> usize {
        let rows = self.store.snapshot();
        rows.all::<KubeObject>().filter(|o| o.is_pod() && o.body["spec"]["nodeName"].is_string()).count()
    }

    /// Changes that the store refused: most of them were planned beside another for the same item.
    pub fn refused(&self) -> usize {
        self.refused
    }
}
