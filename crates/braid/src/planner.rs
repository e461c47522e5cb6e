//! The loop around the planners: commits touch items of the [`Agenda`], what is due is planned from a snapshot, each change is
//! committed by itself, and so on until nothing is due. A refused change is not an error: the next snapshot shows why, and
//! its items are planned again. Where a cluster's webhooks are to be asked about what a change makes, the change waits for them
//! by itself; its items are planned again when it is done with. Of several processes on one store one plans; the others wait to take over.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use face_kube::{Kube, Unadmitted};
use futures_util::FutureExt;
use futures_util::future::join_all;
use model::{Change, Fault, Key, Snapshot, Time};
use plan::{Agenda, PLANNERS, Plan, Seen, Step};
use store::{Concern, Interest, Store, StoreFault, Watch};
use tokio::task::JoinSet;

/// How many changes are committed at once.
const AT_ONCE: usize = 512;

/// The role that the planning process has.
const ROLE: &str = "planner";

/// How long to wait before asking for the role again when the store did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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

/// How often the planning process looks which hosts have fallen silent.
const LISTEN: Duration = Duration::from_secs(5);

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
                let agenda = Agenda::new(&store.snapshot());
                let mut desk = Desk { store, kube, agenda, asked: JoinSet::new() };
                let Err(fault) = desk.work(&mut watch).await;
                tracing::info!("the planners begin anew: {fault}");
            }
            Err(fault) => tracing::warn!("the planners cannot follow the store: {fault}"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What some planner reads.
const NEWS: Interest = Interest::Concern(Concern { name: "planners", rule: plan::is_news });

struct Desk<'a> {
    store: &'a Store,
    kube: &'a Kube,
    agenda: Agenda,
    /// Steps about which somebody is being asked.
    asked: JoinSet<Asked>,
}

/// Steps of the same items, the next for the case that the store refuses the one before; what became of each.
struct Asked {
    planner: usize,
    items: Vec<Key>,
    done: Vec<(Step, Outcome)>,
}

/// What a change makes is asked about for so long in all, and then in a while again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a step.
enum Outcome {
    Committed,
    /// It was not admitted.
    Rests,
    Fault(StoreFault),
}

impl From<Result<u64, StoreFault>> for Outcome {
    fn from(result: Result<u64, StoreFault>) -> Self {
        result.map_or_else(Self::Fault, |_| Self::Committed)
    }
}

/// Asks about each step whose turn comes, and commits it as it was admitted.
async fn ask(store: Store, kube: Kube, mut asked: Asked, steps: Vec<Step>) -> Asked {
    let name = format!("{}-controller", PLANNERS[asked.planner].name);
    for step in steps {
        let rows = store.snapshot();
        // Nobody is asked about what cannot be any more.
        let outcome = match rows.prepare(&step.change) {
            Err(refused) => Outcome::Fault(StoreFault::Refused(refused)),
            Ok(_) => match kube.admit(&rows, &step.change, &name, PATIENCE).await {
                Ok(()) => store.commit(&step.change).await.into(),
                Err(Unadmitted { object, why }) => {
                    tracing::debug!(planner = name, "denied: {why}");
                    tell(&store, plan::denied(&store.snapshot(), &step, &object, &why, Time::now())).await;
                    Outcome::Rests
                }
            },
        };
        let ends = matches!(outcome, Outcome::Rests);
        asked.done.push((step, outcome));
        if ends {
            break;
        }
    }
    asked
}

/// Says why something was refused. If all that could be said is refused too, somebody else was faster.
async fn tell(store: &Store, ways: Vec<Change>) {
    for said in ways {
        if store.commit(&said).await.is_ok() {
            return;
        }
    }
}

impl Desk<'_> {
    /// Ends when the watch does.
    async fn work(&mut self, watch: &mut Watch) -> Result<std::convert::Infallible, Fault> {
        loop {
            let mut busy = false;
            for planner in 0..PLANNERS.len() {
                // Each sees what the ones before it did in this round.
                self.follow(watch)?;
                busy |= self.round(planner).await;
            }
            for _ in 0..AT_ONCE {
                let Some(Ok(asked)) = self.asked.try_join_next() else { break };
                self.answered(asked).await;
            }
            if busy {
                continue;
            }
            let next = self.agenda.next().map(|at| at.duration_since(Time::now()));
            let rest = next.map_or(Duration::MAX, |rest| rest.try_into().unwrap_or_default());
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                result = watch.changed() => result?,
                Some(Ok(asked)) = self.asked.join_next() => self.answered(asked).await,
            }
        }
    }

    /// Notes what the newest commits touch.
    fn follow(&mut self, watch: &mut Watch) -> Result<(), Fault> {
        while let Some(commit) = watch.next_now()? {
            let rows = self.store.snapshot();
            commit.events.iter().for_each(|event| self.agenda.touch(&rows, event, Time::now()));
        }
        Ok(())
    }

    /// Plans what is due of one planner and commits it; whether anything was due.
    async fn round(&mut self, planner: usize) -> bool {
        let mut parts = vec![self.agenda.take(planner, Time::now())];
        let mut busy = false;
        while let Some(items) = parts.pop().filter(|items| !items.is_empty()) {
            busy = true;
            let book = self.store.book();
            let rows = book.snapshot.clone();
            // On a thread of its own: others share this one.
            let planned = tokio::task::spawn_blocking(move || {
                let seen = Seen { rows: &book.snapshot, ledger: &book.ledger };
                let plan = catch_unwind(AssertUnwindSafe(|| (PLANNERS[planner].plan)(&seen, &items, Time::now())));
                (items, plan)
            });
            match planned.await {
                Ok((_, Ok(plan))) => self.carry_out(planner, &rows, plan).await,
                // What cannot be planned keeps nothing else from being planned.
                Ok((mut items, Err(_))) if items.len() > 1 => {
                    parts.push(items.split_off(items.len() / 2));
                    parts.push(items);
                }
                Ok((items, Err(_))) => {
                    tracing::error!(planner = PLANNERS[planner].name, "a bug: {items:?} cannot be planned");
                    self.agenda.put_back(planner, &items, Time::now());
                }
                // The process ends.
                Err(_) => return false,
            }
        }
        busy
    }

    /// Commits the steps of a plan. They do not build on each other, so that many share one sync of the disk.
    async fn carry_out(&mut self, planner: usize, rows: &Snapshot, plan: Plan) {
        self.agenda.planned(planner, &plan);
        let (asked, steps): (Vec<Step>, Vec<Step>) =
            plan.steps.into_iter().partition(|step| self.kube.asks(rows, &step.change));
        self.ask(planner, asked);
        let mut parts = steps.chunks(AT_ONCE);
        for some in parts.by_ref() {
            let mut broken = false;
            let results = join_all(some.iter().map(|step| self.store.commit(&step.change))).await;
            for (step, result) in some.iter().zip(results) {
                broken |= self.note(planner, rows, step, result.into()).await;
            }
            if broken {
                break;
            }
        }
        parts.flatten().for_each(|step| self.agenda.put_back(planner, &step.items, Time::now()));
    }

    /// Has those asked whom clusters ask about these steps, which wait for nothing but that.
    fn ask(&mut self, planner: usize, steps: Vec<Step>) {
        let mut together: BTreeMap<Vec<Key>, Vec<Step>> = BTreeMap::new();
        steps.into_iter().for_each(|step| together.entry(step.items.clone()).or_default().push(step));
        for (items, steps) in together {
            self.agenda.hold(planner, &items);
            let asked = Asked { planner, items, done: Vec::new() };
            let broken = Asked { items: asked.items.clone(), done: Vec::new(), planner };
            let answer = AssertUnwindSafe(ask(self.store.clone(), self.kube.clone(), asked, steps)).catch_unwind();
            self.asked.spawn(async move {
                let name = PLANNERS[planner].name;
                let bug = |_| tracing::error!(planner = name, "a bug: nobody can be asked about {:?}", broken.items);
                answer.await.map_err(bug).unwrap_or(broken)
            });
        }
    }

    async fn answered(&mut self, asked: Asked) {
        if asked.done.is_empty() {
            self.agenda.put_back(asked.planner, &asked.items, Time::now());
        }
        let rows = self.store.snapshot();
        for (step, outcome) in asked.done {
            self.note(asked.planner, &rows, &step, outcome).await;
        }
        self.agenda.release(asked.planner, &asked.items);
    }

    /// Notes what became of a step; whether the store does not answer.
    async fn note(&mut self, planner: usize, rows: &Snapshot, step: &Step, outcome: Outcome) -> bool {
        let name = PLANNERS[planner].name;
        match outcome {
            Outcome::Committed => self.agenda.committed(planner, &step.items),
            Outcome::Rests => self.agenda.denied(planner, &step.items, Time::now()),
            Outcome::Fault(StoreFault::Refused(refused)) => {
                tracing::debug!(planner = name, "refused: {refused}");
                let comes_back = self.agenda.refused(planner, &step.items, &refused, Time::now());
                tell(self.store, plan::refused(rows, step, &refused, comes_back, Time::now())).await;
            }
            Outcome::Fault(fault) => {
                tracing::warn!(planner = name, "{fault}");
                self.agenda.put_back(planner, &step.items, Time::now());
                return !matches!(fault, StoreFault::TooLarge(_));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
