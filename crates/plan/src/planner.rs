//! What a planner is: what it reads and writes, which of its items an event touches, and how it plans some of them. To plan
//! everything after each commit was refused: with 5,000 pods that took 0.2 s with nothing to do. Planning all items at once
//! is still there as the audit, which must find nothing that was not touched.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use model::{Change, Entry, Event, Key, Kind, KubeObject, Ledger, Resource, Snapshot, Time};

/// What a planner looks at.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub rows: &'a Snapshot,
    /// The claims of these rows.
    pub ledger: &'a Ledger,
}

/// A planner. Its functions are pure; planning an item twice from the same rows gives the same changes.
pub struct Planner {
    /// For logs.
    pub name: &'static str,
    /// Rows whose changes may touch an item.
    pub reads: &'static [Rows],
    /// Rows that its changes write.
    pub writes: &'static [Rows],
    /// How many items are planned together.
    pub at_once: usize,
    /// Every item.
    pub items: fn(&Snapshot) -> Vec<Key>,
    /// Which items may have to be planned anew after an event. The rows are those after the event, or newer.
    pub touched: fn(&Snapshot, &Event, &mut Touched),
    /// How it is told on a Kubernetes object that what this planner makes for it cannot be.
    pub failed: Option<Failed>,
    /// What is to be done for these items; an item that is no more is passed over.
    pub plan: fn(&Seen<'_>, &[Key], Time) -> Plan,
}

/// How it is told on an object why what it controls cannot be made.
pub struct Failed {
    /// Kind, group and plural of the object.
    pub of: (&'static str, &'static str, &'static str),
    /// The object, what could not be made, and why.
    pub tell: fn(&mut Change, &Snapshot, Entry<'_, KubeObject>, (&KubeObject, &str), Time),
}

/// Rows of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Of(Kind),
    /// Kubernetes' objects of a resource, by group and plural.
    Objects(&'static str, &'static str),
    /// Kubernetes' objects of every resource.
    AllObjects,
    /// Those, but not what is [reported](Event::is_report) of them.
    Asked(&'static Rows),
}

impl Rows {
    pub fn have(&self, key: &Key) -> bool {
        match self {
            Self::Of(kind) => key.kind == *kind,
            Self::AllObjects => key.kind == Kind::KubeObject,
            Self::Asked(rows) => rows.have(key),
            Self::Objects(..) if key.kind != Kind::KubeObject => false,
            Self::Objects(group, resource) => {
                let rest = key.name.strip_prefix(group).and_then(|rest| rest.strip_prefix('/'));
                let rest = rest.and_then(|rest| rest.strip_prefix(resource));
                rest.is_some_and(|rest| rest.starts_with('/'))
            }
        }
    }
}

/// What pods ask for, and whether they have come to their end.
pub const PODS_ASKED: Rows = Rows::Asked(&PODS);
/// What objects of every resource ask for.
pub const ALL_ASKED: Rows = Rows::Asked(&Rows::AllObjects);
/// Pods.
pub const PODS: Rows = Rows::Objects("", "pods");
/// Kubernetes' events, which controllers write.
pub const EVENTS: Rows = Rows::Objects("", "events");

/// An event, and whether it is a report, which is found once for all planners.
pub(crate) struct News<'a> {
    pub event: &'a Event,
    report: OnceCell<bool>,
}

impl<'a> News<'a> {
    pub fn of(event: &'a Event) -> Self {
        Self { event, report: OnceCell::new() }
    }

    fn is_report(&self) -> bool {
        *self.report.get_or_init(|| self.event.is_report())
    }
}

/// The items that an event touches.
#[derive(Debug, Default)]
pub struct Touched {
    pub(crate) items: BTreeSet<Key>,
    pub(crate) waiting: bool,
    pub(crate) all: bool,
}

impl Touched {
    pub fn item(&mut self, key: Key) {
        self.items.insert(key);
    }

    pub fn items(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.items.extend(keys);
    }

    /// Every item that [waits](Plan::waits).
    pub fn waiting(&mut self) {
        self.waiting = true;
    }

    /// Every item there is.
    pub fn all(&mut self) {
        self.all = true;
    }
}

/// What is to be done for some items.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Items to be planned anew at a moment, whatever happens until then.
    pub again: Vec<(Time, Key)>,
    /// Items that wait for what others have to bring: room, an address.
    pub waiting: Vec<Key>,
    /// Items that were left for the next plan.
    pub left: Vec<Key>,
}

/// A change, and the items that must be planned anew if it is refused.
#[derive(Clone, Debug)]
pub struct Step {
    pub items: Vec<Key>,
    pub change: Change,
}

impl Plan {
    /// Adds a change for an item, unless it is empty.
    pub fn step(&mut self, item: &Key, change: Change) {
        if !change.is_empty() {
            self.steps.push(Step { items: vec![item.clone()], change });
        }
    }

    pub fn again(&mut self, item: &Key, at: Time) {
        self.again.push((at, item.clone()));
    }

    pub fn waits(&mut self, item: &Key) {
        self.waiting.push(item.clone());
    }
}

impl Planner {
    pub(crate) fn reads(&self, news: &News<'_>) -> bool {
        let hears = |rows: &Rows| !matches!(rows, Rows::Asked(_)) || !news.is_report();
        self.reads.iter().any(|rows| rows.have(&news.event.key) && hears(rows))
    }

    /// The first row of a change that the planner does not say it writes: a bug.
    pub fn undeclared(&self, change: &Change) -> Option<Key> {
        change.writes.iter().map(|write| write.key()).find(|key| !self.writes.iter().any(|rows| rows.have(key)))
    }

    /// What is to be done for all items: the audit.
    pub fn audit(&self, seen: &Seen<'_>, now: Time) -> Plan {
        (self.plan)(seen, &(self.items)(seen.rows), now)
    }

    /// The changes for all items of rows without a ledger, which is made of them: for tests and the simulator.
    pub fn scan(&self, rows: &Snapshot, now: Time) -> Vec<Change> {
        let ledger = Ledger::of(rows);
        let plan = self.audit(&Seen { rows, ledger: &ledger }, now);
        plan.steps.into_iter().map(|step| step.change).collect()
    }
}

/// The object of an event as it was and as it is.
pub(crate) fn objects(event: &Event) -> impl Iterator<Item = &KubeObject> {
    values(event)
}

/// The row of an event as it was and as it is.
pub(crate) fn values<T: Resource>(event: &Event) -> impl Iterator<Item = &T> {
    event.before.iter().chain(&event.after).filter_map(|row| T::of(&row.object))
}
