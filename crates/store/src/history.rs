//! The newest commits, bounded in number and bytes, for watches to resume from. Watchers of the same part of the store
//! share a *topic*: the commits that touch this part and a bell of their own. A thousand watchers of one cluster's pods
//! are then neither woken by, nor look through, what happens elsewhere.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use model::{Committed, Event, Fault, Kind, Realm, Revision};
use serde::Serialize;
use tokio::sync::watch;

/// How many commits are kept.
const COMMITS: usize = 16_384;

/// How many bytes of rows, as JSON, the kept commits may have. The newest commit is always kept.
const BYTES: usize = 64 << 20;

/// What of the store somebody watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Rows of one kind: in every realm if none is given, and with names that begin with the prefix.
    Rows { kind: Kind, realm: Option<Realm>, prefix: String },
    /// What a rule picks.
    Concern(Concern),
}

/// A rule that picks events; those of one name are one rule.
#[derive(Clone, Copy, Debug)]
pub struct Concern {
    pub name: &'static str,
    pub rule: fn(&Event) -> bool,
}

impl PartialEq for Concern {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Concern {}

impl Hash for Concern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Interest {
    /// All rows of a kind.
    pub fn kind(kind: Kind) -> Self {
        Self::Rows { kind, realm: None, prefix: String::new() }
    }

    pub fn matches(&self, event: &Event) -> bool {
        match self {
            Self::Rows { kind, realm, prefix } => {
                event.key.kind == *kind
                    && realm.as_ref().is_none_or(|realm| *realm == event.key.realm)
                    && event.key.name.starts_with(prefix.as_str())
            }
            Self::Concern(concern) => (concern.rule)(event),
        }
    }

    fn touched(&self, commit: &Committed) -> bool {
        commit.events.iter().any(|event| self.matches(event))
    }
}

#[derive(Debug)]
struct Topic {
    commits: VecDeque<Arc<Committed>>,
    /// Every commit of the topic after this revision is here. What was forgotten of others does not count.
    complete_after: Revision,
    bell: watch::Sender<()>,
}

impl Topic {
    fn new(complete_after: Revision, commits: VecDeque<Arc<Committed>>) -> Self {
        Self { commits, complete_after, bell: watch::channel(()).0 }
    }

    fn after(&self, revision: Revision, most: usize) -> Result<Vec<Arc<Committed>>, Fault> {
        if revision < self.complete_after {
            return Err(Fault::Expired(format!(
                "revision {revision} is too old: what happened up to {} is no longer kept",
                self.complete_after
            )));
        }
        let start = self.commits.partition_point(|commit| commit.revision <= revision);
        Ok(self.commits.range(start..).take(most).cloned().collect())
    }

    fn forget(&mut self, revision: Revision) {
        while let Some(commit) = self.commits.pop_front_if(|commit| commit.revision <= revision) {
            self.complete_after = commit.revision;
        }
    }
}

/// The newest commits.
#[derive(Debug)]
pub struct History {
    all: Topic,
    weights: VecDeque<usize>,
    bytes: usize,
    topics: HashMap<Interest, Topic>,
}

impl History {
    /// The history of a store that begins, for this process, behind `complete_after` with these commits.
    pub fn new(complete_after: Revision, commits: Vec<Arc<Committed>>) -> Self {
        let all = Topic::new(complete_after, VecDeque::new());
        let mut history = Self { all, weights: VecDeque::new(), bytes: 0, topics: HashMap::new() };
        commits.into_iter().map(|commit| Weighed::new(commit, &[])).for_each(|commit| history.push(commit));
        history
    }

    pub fn complete_after(&self) -> Revision {
        self.all.complete_after
    }

    pub fn push(&mut self, Weighed(weight, commit): Weighed) {
        self.bytes += weight;
        self.weights.push_back(weight);
        for (interest, topic) in &mut self.topics {
            if interest.touched(&commit) {
                topic.commits.push_back(commit.clone());
            }
        }
        self.all.commits.push_back(commit);
        while self.weights.len() > COMMITS || (self.bytes > BYTES && self.weights.len() > 1) {
            let oldest = self.all.commits.front().map_or(0, |commit| commit.revision);
            self.forget(oldest);
        }
    }

    /// Forgets the commits up to and including a revision.
    pub fn forget(&mut self, revision: Revision) {
        let before = self.all.commits.len();
        self.all.forget(revision);
        let forgotten: usize = self.weights.drain(..before - self.all.commits.len()).sum();
        self.bytes -= forgotten;
        self.all.complete_after = self.all.complete_after.max(revision);
        self.topics.values_mut().for_each(|topic| topic.forget(revision));
    }

    /// Wakes the watchers of everything that was pushed with a revision after this one.
    pub fn ring(&mut self, after: Revision) {
        let news = |topic: &Topic| topic.commits.back().is_some_and(|commit| commit.revision > after);
        self.topics.retain(|_, topic| topic.bell.receiver_count() > 0);
        self.topics.values().filter(|topic| news(topic)).for_each(|topic| topic.bell.send_replace(()));
        self.all.bell.send_replace(());
    }

    /// Wakes every watcher, whatever it watches.
    pub fn ring_all(&self) {
        self.topics.values().chain([&self.all]).for_each(|topic| topic.bell.send_replace(()));
    }

    /// A bell that rings when there is news of an interest, or of anything.
    pub fn subscribe(&mut self, interest: Option<&Interest>) -> watch::Receiver<()> {
        let Some(interest) = interest else { return self.all.bell.subscribe() };
        if !self.topics.contains_key(interest) {
            let topic = self.topic(interest);
            self.topics.insert(interest.clone(), topic);
        }
        self.topics[interest].bell.subscribe()
    }

    fn topic(&self, interest: &Interest) -> Topic {
        let commits = self.all.commits.iter().filter(|commit| interest.touched(commit)).cloned().collect();
        Topic::new(self.complete_after(), commits)
    }

    /// The next commits of an interest after a revision, so many at most.
    pub fn after(
        &self,
        interest: Option<&Interest>,
        revision: Revision,
        most: usize,
    ) -> Result<Vec<Arc<Committed>>, Fault> {
        match interest {
            None => self.all.after(revision, most),
            Some(interest) => match self.topics.get(interest) {
                Some(topic) => topic.after(revision, most),
                None => self.topic(interest).after(revision, most),
            },
        }
    }
}

/// A commit with how much memory it holds, about: the JSON of the rows that it wrote, or deleted.
#[derive(Debug)]
pub struct Weighed(pub(crate) usize, pub(crate) Arc<Committed>);

impl Weighed {
    /// Weighs a commit. `rows` are the rows that it wrote, as JSON, where they are at hand; others take a while, so this is
    /// done outside of any lock.
    pub fn new(commit: Arc<Committed>, rows: &[Option<String>]) -> Self {
        let known = |place: usize| rows.get(place).and_then(Option::as_ref).map(String::len);
        let bytes = commit.events.iter().enumerate().map(|(i, event)| 256 + known(i).unwrap_or_else(|| weight(event)));
        Self(bytes.sum(), commit)
    }
}

fn weight(event: &Event) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    if let Some(row) = event.after.as_ref().or(event.before.as_ref()) {
        // Counting cannot fail; a row that is no JSON was refused before it got here.
        _ = row.object.serialize(&mut serde_json::Serializer::new(&mut count));
    }
    count.0
}
