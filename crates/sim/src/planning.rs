//! What the planning processes do: one plans what is due, while what it planned before is still being committed; others plan
//! everything, at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Change, Key, KubeObject, Ledger, Refused, Resource, Server, Snapshot, Time, Write};
use plan::{Agenda, PLANNERS, Plan, Seen, Step};
use store::{Store, StoreFault, Watch};

use crate::mutation::{self, Mutation};
use crate::{World, now, policy};

/// The process that plans what is due.
pub(crate) struct Planning {
    /// What it has still to plan, and what it has heard of.
    agenda: Agenda,
    news: Watch,
    /// By planner: items that are planned, and what is not committed yet.
    flights: BTreeMap<usize, (Vec<Key>, Plan)>,
    /// What the cluster's webhook still thinks about.
    asked: Vec<(usize, Step)>,
    /// When it began.
    began: Time,
}

impl Planning {
    /// Plans from the beginning.
    pub fn begin(store: &Store) -> Result<Self, String> {
        let rows = store.snapshot();
        let news = store.watch(rows.revision()).map_err(|why| format!("no watch for the planners: {why}"))?;
        let (flights, asked) = Default::default();
        Ok(Self { agenda: Agenda::new(&rows), news, flights, asked, began: now() })
    }
}

impl World {
    /// A planner plans: what is due, or from the beginning and from a snapshot that may be old, and may be stopped half-way;
    /// every other time in two processes at once.
    pub(crate) async fn plan(&mut self) -> &'static str {
        let planner = match self.chance.u8(0..4) {
            0 => schedule(),
            _ => self.chance.usize(0..PLANNERS.len()),
        };
        if self.chance.bool() {
            self.plan_due(planner).await;
            return "plan what is due";
        }
        let processes = self.chance.usize(1..3);
        self.plan_anew(planner, processes).await;
        "plan"
    }

    /// Processes plan everything, all of them before the first commits.
    pub(crate) async fn plan_anew(&mut self, planner: usize, processes: usize) {
        let mut changes = Vec::new();
        for _ in 0..processes {
            let snapshot = self.some_snapshot();
            let ledger = Ledger::of(&snapshot);
            let items = (PLANNERS[planner].items)(&snapshot);
            let mut planned = self.planned(planner, &snapshot, &ledger, &items).steps;
            if self.chance.u8(0..10) == 0 {
                planned.truncate(self.chance.usize(0..=planned.len()));
            }
            changes.extend(planned);
        }
        for step in changes {
            if self.denied(&step).is_none() {
                self.commit_planned(&step).await;
            }
        }
    }

    /// The planning process plans what is due.
    pub(crate) async fn plan_due(&mut self, planner: usize) {
        let beats = match self.mutation {
            Some(Mutation::Beats) => BTreeMap::new(),
            _ => self.store.beats(),
        };
        for change in plan::silent(&self.store.snapshot(), &beats, self.planning.began, now()) {
            self.commit(&change).await;
        }
        self.hear();
        // What it plans next must not wait for ever.
        self.land(planner).await;
        let items = self.planning.agenda.take(planner, now());
        let book = self.store.book();
        let plan = self.planned(planner, &book.snapshot, &book.ledger, &items);
        self.planning.flights.insert(planner, (items, plan));
        // Or others plan and work before it is committed.
        if self.chance.bool() {
            self.land(planner).await;
        }
    }

    /// Something of what was planned is committed, or not yet.
    pub(crate) async fn land_some(&mut self) {
        if self.chance.u8(0..3) == 0 {
            let planner = self.chance.usize(0..PLANNERS.len());
            let next = self.planning.flights.range(planner..).chain(&self.planning.flights).next();
            if let Some((planner, _)) = next {
                self.land(*planner).await;
                // Before anybody forgets what was.
                if let Err(why) = self.hear_commits() {
                    self.wrong.push(why);
                }
            }
        }
    }

    /// What was planned is committed.
    pub(crate) async fn land(&mut self, planner: usize) {
        let Some((items, plan)) = self.planning.flights.remove(&planner) else { return };
        self.planning.agenda.planned(planner, &plan);
        for step in plan.steps {
            if policy::asks(&step.change) && self.chance.bool() {
                self.planning.agenda.hold(planner, &step.items);
                self.planning.asked.push((planner, step));
            } else {
                self.decide(planner, &self.store.snapshot(), &step).await;
            }
        }
        self.planning.agenda.landed(planner, &items, &self.store.snapshot());
    }

    /// Whether the webhook still thinks.
    pub(crate) fn thinks(&self) -> bool {
        !self.planning.asked.is_empty()
    }

    /// The webhook answers what it was asked, now or a while ago.
    pub(crate) async fn answer(&mut self) -> &'static str {
        if self.planning.asked.is_empty() {
            return "nobody is asked";
        }
        let (planner, step) = self.planning.asked.swap_remove(self.chance.usize(0..self.planning.asked.len()));
        self.decide(planner, &self.store.snapshot(), &step).await;
        self.planning.agenda.release(planner, &step.items);
        "the webhook answers"
    }

    /// What the planning process does with a step that nobody thinks about any more.
    async fn decide(&mut self, planner: usize, rows: &Snapshot, step: &Step) {
        if let Some(pod) = self.denied(step) {
            self.planning.agenda.denied(planner, &step.items, now());
            return self.say(plan::denied(rows, step, &pod, "it is forbidden", now())).await;
        }
        match self.commit_planned(step).await {
            None => self.planning.agenda.committed(planner, &step.items),
            Some(refused) => {
                let comes_back = self.planning.agenda.refused(planner, &step.items, &refused, now());
                self.say(plan::refused(rows, step, &refused, comes_back, now())).await;
            }
        }
    }

    fn denied(&self, step: &Step) -> Option<Arc<KubeObject>> {
        policy::denied(&step.change).filter(|_| self.mutation != Some(Mutation::Unasked)).cloned()
    }

    /// Notes what the newest commits touch; begins anew when some were missed.
    fn hear(&mut self) {
        loop {
            match self.planning.news.next_now() {
                Ok(Some(commit)) => {
                    let rows = self.store.snapshot();
                    let mutation = self.mutation;
                    let heard = commit.events.iter().filter(|event| mutation.is_none_or(|m| m.hears(event)));
                    heard.for_each(|event| self.planning.agenda.touch(&rows, event, now()));
                }
                Ok(None) => return,
                // Who asked, and what was in the air, is no more.
                Err(_) => match Planning::begin(&self.store) {
                    Ok(anew) => self.planning = Planning { began: self.planning.began, ..anew },
                    Err(why) => return self.wrong.push(why),
                },
            }
        }
    }

    /// Nothing is left to do for any item that nothing touched: what the full scan finds, the store refuses, or it is that
    /// somebody still waits, which is told again from time to time.
    pub async fn audit(&mut self) -> Result<(), String> {
        for planner in PLANNERS {
            let book = self.store.book();
            let seen = Seen { rows: &book.snapshot, ledger: &book.ledger };
            let told_again = |write: &Write| {
                let event = |object| KubeObject::of(object).is_some_and(|object| object.is("", "events"));
                matches!(write, Write::Update { object, .. } if event(object))
            };
            for mut step in planner.audit(&seen, now()).steps {
                step.change.writes.retain(|write| !told_again(write));
                if self.denied(&step).is_some() {
                    continue;
                }
                if !step.change.is_empty() && self.store.commit(&step.change).await.is_ok() {
                    let what = step.change.writes.iter().map(|write| write.key().to_string()).collect::<Vec<_>>();
                    return Err(format!("nobody touched {:?}, for which {} writes {what:?}", step.items, planner.name));
                }
            }
        }
        Ok(())
    }

    /// What a planner wants for some items.
    fn planned(&mut self, planner: usize, rows: &Snapshot, ledger: &Ledger, items: &[Key]) -> Plan {
        let planner = &PLANNERS[planner];
        let plan = |rows: &Snapshot| (planner.plan)(&Seen { rows, ledger }, items, now());
        let mut planned = match self.mutation {
            Some(mutation) => plan(&mutation.believed(planner.name, rows.clone())),
            None => plan(rows),
        };
        if let Some(key) = planned.steps.iter().find_map(|step| planner.undeclared(&step.change)) {
            self.wrong.push(format!("{} does not say that it writes {key}", planner.name));
        }
        let Some(mutation) = self.mutation else { return planned };
        planned.steps.iter_mut().for_each(|step| mutation.planned(planner.name, rows, &mut step.change));
        planned.steps.retain(|step| !step.change.is_empty());
        if mutation == Mutation::Again {
            planned.again.clear();
        }
        if mutation == Mutation::LostServers && self.chance.u8(0..50) == 0 {
            let lost = |server| {
                let change = std::mem::take(Change::new().edit(server, |server: &mut Server| server.deleting = true));
                Step { items: Vec::new(), change }
            };
            planned.steps.extend(rows.all::<Server>().find(|server| !server.deleting).map(lost));
        }
        if mutation == Mutation::LostPods && self.chance.u8(0..50) == 0 {
            let pod = rows.all::<KubeObject>().find(|object| object.is_pod() && object.controller().is_none());
            let lost = |pod| Step { items: Vec::new(), change: std::mem::take(Change::new().delete(pod)) };
            planned.steps.extend(pod.map(lost));
        }
        planned
    }

    /// Commits what a planner wants, or says why it was refused.
    async fn commit_planned(&mut self, step: &Step) -> Option<Refused> {
        let done = match self.mutation {
            Some(Mutation::DerivedIds) => self.store.commit(&mutation::rename(&step.change, &mut self.chance)).await,
            _ => self.store.commit(&step.change).await,
        };
        match done {
            Err(StoreFault::Refused(refused)) => Some(refused),
            _ => None,
        }
    }

    /// Tells why something was refused, as `braid` does it.
    async fn say(&self, ways: Vec<Change>) {
        if self.mutation == Some(Mutation::Untold) {
            return;
        }
        for said in ways {
            if self.store.commit(&said).await.is_ok() {
                break;
            }
        }
    }
}

/// Which of the planners the scheduler is.
pub(crate) fn schedule() -> usize {
    PLANNERS.iter().position(|planner| planner.name == "schedule").unwrap_or_default()
}
