//! Which items of which planner are to be planned, and when: what events touched, what asked to be planned at a moment, what
//! waits for others, what was refused. It is remembered by the process that plans and by no row: another one that takes over
//! begins with everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use jiff::SignedDuration;
use model::{Event, Key, KubeObject, Refused, Snapshot, Time};

use crate::PLANNERS;
use crate::kube::namespace::ROOT_CERTIFICATE;
use crate::planner::{News, Plan, Rows, Touched, objects};

/// A refusal is tried again after so long, if nothing touches the item before.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// What was planned from old rows so often in a row is planned as seldom as what is refused.
const OFTEN: u32 = 10;
/// So many that wait are planned anew at once when something comes that they may wait for; more of them once in a while.
const FEW: usize = 64;
const A_WHILE: SignedDuration = SignedDuration::from_secs(1);

/// Whether an event concerns any planner. Kubernetes' plain data does not as long as it stays and nobody owns it, but for
/// what every namespace has: whoever plans is not woken for it.
pub fn is_news(event: &Event) -> bool {
    let news = News::of(event);
    !is_plain(event) && PLANNERS.iter().any(|planner| planner.reads(&news))
}

fn is_plain(event: &Event) -> bool {
    const PLAIN: [Rows; 3] =
        [Rows::Objects("", "configmaps"), Rows::Objects("", "secrets"), Rows::Objects("coordination.k8s.io", "leases")];
    let plain =
        |object: &KubeObject| !object.deleting() && object.owners().next().is_none() && object.name != ROOT_CERTIFICATE;
    PLAIN.iter().any(|rows| rows.have(&event.key)) && event.after.is_some() && objects(event).all(plain)
}

/// What is to be planned.
#[derive(Default)]
pub struct Agenda {
    /// In the order of [`PLANNERS`].
    pending: Vec<Pending>,
}

#[derive(Default)]
struct Pending {
    due: BTreeSet<Key>,
    later: BTreeMap<Key, Time>,
    moments: BTreeSet<(Time, Key)>,
    waiting: BTreeSet<Key>,
    /// Items were taken, and have not landed.
    away: bool,
    /// Items for which something is being decided elsewhere, by how many decisions, and whether they became due meanwhile.
    held: BTreeMap<Key, (usize, bool)>,
    /// Why the last change for an item was refused.
    refused: BTreeMap<Key, Refused>,
    /// How often in a row an item was planned from rows that were old by then.
    stale: BTreeMap<Key, u32>,
    /// Items that are not planned before a moment, whatever touches them.
    rests: BTreeMap<Key, Time>,
    /// The last item that was taken: those behind it have their turn first.
    last: Option<Key>,
    /// What waits shall be planned, not before this moment.
    stirred: Option<Time>,
    /// When it was last.
    last_stirred: Option<Time>,
}

impl Agenda {
    /// Everything is due.
    pub fn new(rows: &Snapshot) -> Self {
        let pending = PLANNERS
            .iter()
            .map(|planner| Pending { due: (planner.items)(rows).into_iter().collect(), ..Pending::default() })
            .collect();
        Self { pending }
    }

    /// Notes what an event touches. The rows are those after the event, or newer.
    pub fn touch(&mut self, rows: &Snapshot, event: &Event, now: Time) {
        if is_plain(event) {
            return;
        }
        let news = News::of(event);
        if event.after.is_none() {
            self.pending.iter_mut().for_each(|pending| pending.drop_item(&event.key));
        }
        for (planner, pending) in PLANNERS.iter().zip(&mut self.pending).filter(|(planner, _)| planner.reads(&news)) {
            let mut touched = Touched::default();
            (planner.touched)(rows, event, &mut touched);
            // Not by `append`: that goes through all that is due.
            pending.due.extend(touched.items);
            if touched.all {
                pending.due.extend((planner.items)(rows));
            }
            if touched.waiting && pending.stirred.is_none() {
                let rest = pending.last_stirred.filter(|_| pending.waiting.len() > FEW);
                pending.stirred = Some(rest.map_or(now, |last| after(last, A_WHILE)));
            }
        }
    }

    /// Takes the items of a planner that are due, as many as it plans at once; none before those taken last have
    /// [landed](Self::landed): it would plan without what it has just done.
    pub fn take(&mut self, planner: usize, now: Time) -> Vec<Key> {
        let Some(pending) = self.pending.get_mut(planner).filter(|pending| !pending.away) else { return Vec::new() };
        while let Some((at, _)) = pending.moments.first()
            && *at <= now
        {
            let Some((_, key)) = pending.moments.pop_first() else { break };
            pending.later.remove(&key);
            pending.due.insert(key);
        }
        if pending.stirred.is_some_and(|at| at <= now) {
            pending.due.append(&mut pending.waiting);
            (pending.stirred, pending.last_stirred) = (None, Some(now));
        }
        let mut taken = Vec::new();
        while taken.len() < PLANNERS[planner].at_once
            && let Some(key) = pending.pop()
        {
            pending.forget(&key);
            pending.waiting.remove(&key);
            if let Some(at) = pending.rests.remove(&key).filter(|at| now < *at) {
                pending.later(&key, at);
                pending.rests.insert(key, at);
                continue;
            }
            match pending.held.get_mut(&key) {
                Some((_, due)) => *due = true,
                None => taken.push(key),
            }
        }
        pending.away = !taken.is_empty();
        taken
    }

    /// What was taken is planned, and what became of it is noted. Of what is gone meanwhile nothing is remembered.
    pub fn landed(&mut self, planner: usize, items: &[Key], rows: &Snapshot) {
        let Some(pending) = self.pending.get_mut(planner) else { return };
        pending.away = false;
        for key in items {
            let again = pending.due.contains(key) || pending.later.contains_key(key);
            if !again && rows.row(key).is_none() {
                pending.drop_item(key);
            }
        }
    }

    /// Notes what a plan says of its items' future.
    pub fn planned(&mut self, planner: usize, plan: &Plan) {
        let Some(pending) = self.pending.get_mut(planner) else { return };
        plan.again.iter().for_each(|(at, key)| pending.later(key, *at));
        pending.waiting.extend(plan.waiting.iter().cloned());
        pending.due.extend(plan.left.iter().cloned());
    }

    /// Items whose change was refused are planned again: at once if they were planned from old rows, unless that happens again and
    /// again, else in a while.
    /// Whether the refusal comes back: it is the same as the last time, from newer rows.
    pub fn refused(&mut self, planner: usize, items: &[Key], refused: &Refused, now: Time) -> bool {
        let Some(pending) = self.pending.get_mut(planner) else { return false };
        if matches!(refused, Refused::Stale(_)) {
            for key in items {
                let times = pending.stale.entry(key.clone()).or_default();
                *times += 1;
                match *times < OFTEN {
                    true => _ = pending.due.insert(key.clone()),
                    // Others are faster each time, or it can never be committed.
                    false => pending.later(key, after(now, TRY_AGAIN)),
                }
            }
            return false;
        }
        items.iter().for_each(|key| pending.later(key, after(now, TRY_AGAIN)));
        let Some(first) = items.first() else { return false };
        pending.refused.insert(first.clone(), refused.clone()).as_ref() == Some(refused)
    }

    /// What was refused of these items before is forgotten.
    pub fn committed(&mut self, planner: usize, items: &[Key]) {
        if let Some(pending) = self.pending.get_mut(planner) {
            for key in items {
                pending.refused.remove(key);
                pending.stale.remove(key);
            }
        }
    }

    /// These items are not planned until they are [`release`](Self::release)d: a change of theirs is made up, and somebody
    /// thinks about it.
    pub fn hold(&mut self, planner: usize, items: &[Key]) {
        let Some(pending) = self.pending.get_mut(planner) else { return };
        items.iter().for_each(|key| pending.held.entry(key.clone()).or_default().0 += 1);
    }

    /// What became due while it was held is due now.
    pub fn release(&mut self, planner: usize, items: &[Key]) {
        let Some(pending) = self.pending.get_mut(planner) else { return };
        for key in items {
            let Some((holders, due)) = pending.held.get_mut(key) else { continue };
            *holders -= 1;
            if *holders == 0 {
                let due = *due;
                pending.held.remove(key);
                pending.due.extend(due.then(|| key.clone()));
            }
        }
    }

    /// Items whose change somebody denied are planned again in a while, and not before, whatever touches them: whoever denies
    /// may touch them each time.
    pub fn denied(&mut self, planner: usize, items: &[Key], now: Time) {
        let Some(pending) = self.pending.get_mut(planner) else { return };
        for key in items {
            pending.rests.insert(key.clone(), after(now, TRY_AGAIN));
            pending.later(key, after(now, TRY_AGAIN));
        }
    }

    /// Items that could not be looked at are due in a while.
    pub fn put_back(&mut self, planner: usize, items: &[Key], now: Time) {
        if let Some(pending) = self.pending.get_mut(planner) {
            items.iter().for_each(|key| pending.later(key, after(now, A_WHILE)));
        }
    }

    /// When the next item is due that can be taken; `None`: not before something happens.
    pub fn next(&self) -> Option<Time> {
        let due = |pending: &Pending| match pending.due.is_empty() {
            false => Some(Time::UNIX_EPOCH),
            true => pending.moments.first().map(|(at, _)| *at).into_iter().chain(pending.stirred).min(),
        };
        self.pending.iter().filter(|pending| !pending.away).filter_map(due).min()
    }
}

impl Pending {
    /// The earlier of two moments counts.
    fn later(&mut self, key: &Key, at: Time) {
        if self.later.get(key).is_some_and(|before| *before <= at) {
            return;
        }
        self.forget(key);
        self.later.insert(key.clone(), at);
        self.moments.insert((at, key.clone()));
    }

    /// Nothing is remembered of what is gone.
    fn drop_item(&mut self, key: &Key) {
        self.forget(key);
        self.waiting.remove(key);
        self.refused.remove(key);
        self.stale.remove(key);
        self.rests.remove(key);
    }

    /// The next that is due, each in its turn: who is first by name is not always first.
    fn pop(&mut self) -> Option<Key> {
        let behind = self.last.take().and_then(|last| self.due.range((Excluded(last), Unbounded)).next().cloned());
        let next = behind.or_else(|| self.due.first().cloned())?;
        self.due.remove(&next);
        self.last = Some(next.clone());
        Some(next)
    }

    fn forget(&mut self, key: &Key) {
        if let Some(at) = self.later.remove(key) {
            self.moments.remove(&(at, key.clone()));
        }
    }
}

/// A while after a moment; for ever, if that is beyond all calendars.
fn after(moment: Time, span: SignedDuration) -> Time {
    moment.checked_add(span).unwrap_or(Time::MAX)
}
