//! What a store must do, said as simply as possible: all claims of all rows are looked at anew for every change. It
//! shares nothing with [`model::Delta`] and [`model::Ledger`], which it is there to check.

use std::collections::{BTreeMap, BTreeSet};

use model::{Change, Claim, Committed, Key, Object, Pool, Refused, Revision, Snapshot, Write};

#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub object: Object,
    pub created: Revision,
    pub modified: Revision,
}

/// All rows, without any index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    pub rows: BTreeMap<Key, Line>,
}

impl Reference {
    pub fn of(snapshot: &Snapshot) -> Self {
        let line = |row: &model::Row| Line { object: row.object.clone(), created: row.created, modified: row.modified };
        Self { rows: snapshot.rows().map(|row| (row.key.clone(), line(row))).collect() }
    }

    fn claims(&self) -> impl Iterator<Item = (&Key, Claim)> {
        self.rows.iter().flat_map(|(key, line)| line.object.claims().into_iter().map(move |claim| (key, claim)))
    }

    fn pools(&self) -> BTreeMap<String, Pool> {
        let mut pools: BTreeMap<String, Pool> = BTreeMap::new();
        for (_, claim) in self.claims() {
            match claim {
                Claim::Use { pool, amount } => pools.entry(pool).or_default().used += amount,
                Claim::Limit { pool, limit } => pools.entry(pool).or_default().limit = Some(limit),
                _ => {}
            }
        }
        pools
    }

    fn modified(&self, key: &Key) -> Option<Revision> {
        self.rows.get(key).map(|line| line.modified)
    }

    /// The rows after the change, or none when a revision is not what the change expects.
    fn written(&self, change: &Change, revision: Revision) -> Option<Self> {
        if change.expects.iter().any(|expect| self.modified(&expect.key) != expect.revision) {
            return None;
        }
        let keys: BTreeSet<Key> = change.writes.iter().map(Write::key).collect();
        if keys.len() < change.writes.len() {
            return None;
        }
        let mut next = self.clone();
        for write in &change.writes {
            let key = write.key();
            let now = self.rows.get(&key);
            let (object, expected) = match write {
                Write::Create(object) => (Some(object), None),
                Write::Update { object, expected } => (Some(object), Some(*expected)),
                Write::Delete { expected, .. } => (None, Some(*expected)),
            };
            if now.map(|line| line.modified) != expected {
                return None;
            }
            let created = now.map_or(revision, |line| line.created);
            match object {
                Some(object) => next.rows.insert(key, Line { object: object.clone(), created, modified: revision }),
                None => next.rows.remove(&key),
            };
        }
        Some(next)
    }

    fn whole(&self, before: &Self) -> bool {
        let (mut names, mut needs, mut distinct) = (BTreeMap::new(), BTreeSet::new(), true);
        for (key, claim) in self.claims() {
            match claim {
                Claim::Unique(name) => distinct &= names.insert(name, key).is_none_or(|other| other == key),
                Claim::Needs(other) => _ = needs.insert(other),
                _ => {}
            }
        }
        let former = before.pools();
        let fits = |(name, pool): (&String, &Pool)| {
            let used = former.get(name).copied().unwrap_or_default().used;
            pool.used <= used || pool.limit.is_none_or(|limit| pool.used <= limit)
        };
        distinct && needs.iter().all(|key| self.rows.contains_key(key)) && self.pools().iter().all(fits)
    }

    /// The rows after the change at this revision, if it must be accepted.
    pub fn accept(&self, change: &Change, revision: Revision) -> Option<Self> {
        self.written(change, revision).filter(|next| next.whole(self))
    }

    /// Whether what a refusal says is so.
    pub fn confirms(&self, change: &Change, refused: &Refused) -> bool {
        let writes = |key: &Key| change.writes.iter().filter(|write| write.key() == *key).count();
        let next = self.written(change, Revision::MAX);
        match refused {
            Refused::Stale(key) => {
                let expects = change.expects.iter().filter(|expect| expect.key == *key);
                let expected = change.writes.iter().filter(|write| write.key() == *key).map(|write| match write {
                    Write::Create(_) => None,
                    Write::Update { expected, .. } | Write::Delete { expected, .. } => Some(*expected),
                });
                let now = self.modified(key);
                writes(key) > 1 || expects.map(|e| e.revision).chain(expected).any(|revision| revision != now)
            }
            Refused::Taken { name, holder } if *name == holder.to_string() => self.rows.contains_key(holder),
            Refused::Taken { name, holder } => next.is_some_and(|next| {
                let holds = |key: &Key| next.claims().any(|(k, c)| k == key && c == Claim::Unique(name.clone()));
                holds(holder) && next.rows.keys().any(|other| other != holder && holds(other))
            }),
            Refused::Exceeded { pool, asked, used, limit } => next.is_some_and(|next| {
                let (now, then) = (self.pools(), next.pools());
                let of = |pools: &BTreeMap<String, Pool>| pools.get(pool).copied().unwrap_or_default();
                of(&now).used == *used
                    && of(&then).limit == Some(*limit)
                    && of(&then).used == used + asked
                    && used + asked > *limit
            }),
            Refused::Missing(key) => next.is_some_and(|next| !next.rows.contains_key(key)),
            Refused::InUse { key, users } => next.is_some_and(|next| {
                let needers = next.claims().filter(|(_, claim)| *claim == Claim::Needs(key.clone())).count() as u64;
                !next.rows.contains_key(key) && needers == *users
            }),
        }
    }

    /// Replays a commit as a watch told it; panics when that commit cannot have happened here.
    pub fn replay(&mut self, commit: &Committed) {
        let before = self.clone();
        for event in &commit.events {
            let told = event.before.as_ref().map(|row| row.modified);
            assert_eq!(told, before.modified(&event.key), "{} before {}", event.key, commit.revision);
            match &event.after {
                Some(row) => {
                    assert_eq!(row.modified, commit.revision);
                    let line = Line { object: row.object.clone(), created: row.created, modified: row.modified };
                    self.rows.insert(event.key.clone(), line);
                }
                None => _ = self.rows.remove(&event.key),
            }
        }
        assert!(self.whole(&before), "commit {} breaks a claim: {:?}", commit.revision, commit.events);
    }
}
