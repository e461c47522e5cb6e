//! Things that a host has and nobody wants. Those that this agent was given and whose row is gone were deleted by the store,
//! as it saw itself; all others are put aside, and more than a few at once wait for a person: so much is rather a store that
//! has lost its rows than a host that has kept what it should not.
//!
//! No tombstones are kept: a VM's row stays until the host has said that nothing is left of it, so that a VM without a row
//! was never deleted by anybody.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;
use model::Fault;

use crate::Agent;
use crate::trash::{About, Entry, Sort, Trash};

/// What was put aside within so long counts as at once.
const AT_ONCE: SignedDuration = SignedDuration::from_hours(1);
/// So many names stand in a question.
const NAMED: usize = 4;

/// Something that nobody wants, by the VM's id or the pod's uid.
pub(crate) type Thing = (Sort, String);

/// What an agent knows of such things.
#[derive(Default)]
pub(crate) struct Pruning(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Pods that rows gave to this host since the agent lives.
    given: HashSet<String>,
    /// May be put aside.
    approved: BTreeSet<Thing>,
    /// A person has agreed to these.
    confirmed: BTreeSet<Thing>,
    /// Wait for a person.
    waiting: BTreeSet<Thing>,
}

impl Pruning {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row gives a pod to this host.
    pub(crate) fn give(&self, uid: &str) {
        let mut known = self.known();
        if !known.given.contains(uid) {
            known.given.insert(uid.to_owned());
        }
    }

    /// Whether a row gave that pod to this host, as this agent saw.
    pub(crate) fn was_given(&self, uid: &str) -> bool {
        self.known().given.contains(uid)
    }

    /// Nothing is left of a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.known().given.remove(uid);
    }

    /// Forgets all pods but those that are here or in a row.
    pub(crate) fn keep(&self, here: impl Fn(&str) -> bool) {
        self.known().given.retain(|uid| here(uid));
    }

    /// What a person is asked, if anything.
    pub(crate) fn question(&self) -> Option<String> {
        let known = self.known();
        let first: Vec<String> = known.waiting.iter().take(NAMED).map(|(sort, id)| format!("{sort} {id}")).collect();
        let more = if known.waiting.len() > NAMED { ", ..." } else { "" };
        (!first.is_empty()).then(|| {
            let count = known.waiting.len();
            let first = first.join(", ");
            format!(
                "too many to put aside unasked ({count}) are on this host and in no row of the store: {first}{more}"
            )
        })
    }

    /// A person has agreed to what is waiting; how many that are.
    pub(crate) fn confirm(&self) -> usize {
        let mut known = self.known();
        let waiting = std::mem::take(&mut known.waiting);
        let count = waiting.len();
        known.confirmed = waiting;
        count
    }
}

/// Decides about all of a sort that was found at one look and is in no row.
pub(crate) fn judge(agent: &Agent, sort: Sort, found: BTreeSet<Thing>) {
    let recent = || {
        let entries = Trash::of(&agent.config().dir).list();
        let counts = |entry: &Entry| !entry.about.confirmed && agent.now().duration_since(entry.about.since) < AT_ONCE;
        entries.into_iter().filter(counts).count()
    };
    let pruning = &agent.inner.pruning;
    let others =
        |things: &BTreeSet<Thing>| things.iter().filter(|(of, _)| *of != sort).cloned().collect::<BTreeSet<_>>();
    let (unasked, waiting) = {
        let known = pruning.known();
        (found.difference(&known.confirmed).cloned().collect::<BTreeSet<_>>(), others(&known.waiting))
    };
    let too_many = !unasked.is_empty() && unasked.len() + waiting.len() + recent() > agent.config().max_removals;
    let mut known = pruning.known();
    known.confirmed.retain(|thing| thing.0 != sort || found.contains(thing));
    let may = if too_many { found.difference(&unasked).cloned().collect() } else { found };
    known.approved = others(&known.approved).into_iter().chain(may).collect();
    let waiting = waiting.into_iter().chain(if too_many { unasked } else { BTreeSet::new() }).collect();
    if known.waiting != waiting {
        known.waiting = waiting;
        drop(known);
        if let Some(words) = pruning.question() {
            tracing::error!(host = agent.config().host, "{words}");
        }
        agent.report_soon();
    }
}

/// The place for a thing that is to be put aside now; `None`: not now.
pub(crate) fn place(agent: &Agent, sort: Sort, id: &str) -> Result<Option<Entry>, Fault> {
    let thing = (sort, id.to_owned());
    let confirmed = {
        let mut known = agent.inner.pruning.known();
        if !known.approved.remove(&thing) {
            return Ok(None);
        }
        known.confirmed.contains(&thing)
    };
    let cloud = agent.cloud().view().host().cloud.unwrap_or_default();
    let about = About { sort, id: id.to_owned(), cloud, since: agent.now(), confirmed };
    let entry = Trash::of(&agent.config().dir).make(&about);
    entry.map(Some).map_err(|e| Fault::Unavailable(format!("making a place in the trash: {e}")))
}

/// Says what was put aside, if anything was; a place that stayed empty is taken away.
pub(crate) fn placed(agent: &Agent, entry: &Entry, something: Result<bool, Fault>) -> Result<(), Fault> {
    let (host, About { sort, id, .. }) = (&agent.config().host, &entry.about);
    if let Ok(true) = something {
        tracing::warn!(host, "{sort} {id} is in no row of the store: it was stopped and put aside as {}", entry.name);
        return Ok(());
    }
    let withdrawn = entry.withdraw().map_err(|e| Fault::Unavailable(format!("removing {}: {e}", entry.name)));
    something.and(withdrawn)
}
