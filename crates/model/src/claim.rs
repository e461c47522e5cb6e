//! What a row lays claim to. Quota, addresses, room on hosts, unique names and the existence of what a row refers to are
//! all claims, so that one mechanism, checked inside the commit, serves every noun of both faces. Checking first and
//! writing later was refused: with stale snapshots it gives one address to two ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Key, Object};

/// One claim of one row. A row's claims are a pure function of the row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Claim {
    /// Nobody else may hold this name: `address/<network>/10.0.0.5`, `user-name/<domain>/ann`.
    Unique(String),
    /// Takes an amount out of a pool: `quota/<project>/ram`, `room/<host>/memory`.
    Use { pool: String, amount: u64 },
    /// States how much a pool holds. A pool without a limit is unlimited. At most one row may state it.
    Limit { pool: String, limit: u64 },
    /// The row with this key must exist and cannot be deleted as long as the claim stands.
    Needs(Key),
}

/// The difference between the claims before and after a change, netted over all its rows: what a backend checks and
/// applies in the same transaction as the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Names newly taken, each with the row that takes it.
    pub take: BTreeMap<String, Key>,
    /// Names given back, each with the row that held it.
    pub give: BTreeMap<String, Key>,
    /// Net change of use by pool. A backend refuses when a positive change ends above the limit; shrinking is always allowed.
    pub uses: BTreeMap<String, i64>,
    /// New limits by pool; `None` removes the limit. Lowering a limit below the use is allowed, and blocks further use.
    pub limits: BTreeMap<String, Option<u64>>,
    /// Net change of the number of rows that need a key. Where positive, the key must exist after the change.
    pub needs: BTreeMap<Key, i64>,
    /// Keys deleted by the change: nobody may need them after it.
    pub gone: Vec<Key>,
    /// Two rows of the change itself want the same name: the name and the first of them.
    pub clash: Option<(String, Key)>,
}

impl Delta {
    /// Adds the replacement of `before` by `after`, rows of the same key.
    pub fn replace(&mut self, key: &Key, before: Option<&Object>, after: Option<&Object>) {
        if let Some(object) = before {
            for claim in object.claims() {
                self.release(key, claim);
            }
        }
        if let Some(object) = after {
            for claim in object.claims() {
                self.lay(key, claim);
            }
        }
        if before.is_some() && after.is_none() {
            self.gone.push(key.clone());
        }
    }

    /// Drops entries that cancelled out. Call once, after the last [`Delta::replace`].
    pub fn settle(&mut self) {
        self.uses.retain(|_, n| *n != 0);
        self.needs.retain(|_, n| *n != 0);
        let kept: Vec<String> =
            self.take.iter().filter(|(name, key)| self.give.get(*name) == Some(*key)).map(|(n, _)| n.clone()).collect();
        for name in kept {
            self.take.remove(&name);
            self.give.remove(&name);
        }
    }

    fn lay(&mut self, key: &Key, claim: Claim) {
        match claim {
            Claim::Unique(name) => {
                if let Some(first) = self.take.insert(name.clone(), key.clone())
                    && first != *key
                {
                    self.clash = Some((name, first));
                }
            }
            Claim::Use { pool, amount } => *self.uses.entry(pool).or_default() += amount as i64,
            Claim::Limit { pool, limit } => {
                self.limits.insert(pool, Some(limit));
            }
            Claim::Needs(other) => *self.needs.entry(other).or_default() += 1,
        }
    }

    fn release(&mut self, key: &Key, claim: Claim) {
        match claim {
            Claim::Unique(name) => {
                self.give.insert(name, key.clone());
            }
            Claim::Use { pool, amount } => *self.uses.entry(pool).or_default() -= amount as i64,
            Claim::Limit { pool, .. } => {
                self.limits.entry(pool).or_insert(None);
            }
            Claim::Needs(other) => *self.needs.entry(other).or_default() -= 1,
        }
    }
}

/// Why a commit was refused. Nothing of a refused change is left behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    /// A row was not at the revision that the change was made from. Plan again from a fresh snapshot.
    #[error("{0} was changed by somebody else meanwhile")]
    Stale(Key),
    /// A unique name is already held.
    #[error("{name} is already taken by {holder}")]
    Taken { name: String, holder: Key },
    /// A pool has no room for the use asked.
    #[error("{pool}: asked {asked}, used {used}, limit {limit}")]
    Exceeded { pool: String, asked: u64, used: u64, limit: u64 },
    /// A row that the change needs does not exist.
    #[error("{0} does not exist")]
    Missing(Key),
    /// A row that the change deletes is needed by others.
    #[error("{key} is in use by {users} others")]
    InUse { key: Key, users: u64 },
}

/// The claims standing in a whole store, in memory: what the embedded and the in-memory backends check against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    names: BTreeMap<String, Key>,
    pools: BTreeMap<String, Pool>,
    needed: BTreeMap<Key, u64>,
}

/// How much of a pool is used, and how much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub used: u64,
    /// `None`: unlimited.
    pub limit: Option<u64>,
}

impl Pool {
    /// This pool after a change, or why the change does not fit in.
    pub fn after(self, name: &str, change: i64, limit: Option<Option<u64>>) -> Result<Self, Refused> {
        let next = Self {
            used: self.used.saturating_add_signed(change),
            limit: limit.unwrap_or(self.limit),
        };
        match next.limit {
            Some(limit) if change > 0 && next.used > limit => Err(Refused::Exceeded {
                pool: name.to_owned(),
                asked: change as u64,
                used: self.used,
                limit,
            }),
            _ => Ok(next),
        }
    }
}

impl Ledger {
    /// Checks a delta against the ledger. `exists` answers whether a row exists after the change.
    pub fn check(&self, delta: &Delta, exists: impl Fn(&Key) -> bool) -> Result<(), Refused> {
        if let Some((name, holder)) = &delta.clash {
            return Err(Refused::Taken { name: name.clone(), holder: holder.clone() });
        }
        for name in delta.take.keys() {
            if let Some(holder) = self.names.get(name)
                && delta.give.get(name) != Some(holder)
            {
                return Err(Refused::Taken { name: name.clone(), holder: holder.clone() });
            }
        }
        for (pool, change) in &delta.uses {
            self.pool(pool).after(pool, *change, delta.limits.get(pool).copied())?;
        }
        for (key, change) in &delta.needs {
            if *change > 0 && !exists(key) {
                return Err(Refused::Missing(key.clone()));
            }
        }
        for key in &delta.gone {
            let users = self.needed(key).saturating_add_signed(delta.needs.get(key).copied().unwrap_or(0));
            if users > 0 {
                return Err(Refused::InUse { key: key.clone(), users });
            }
        }
        Ok(())
    }

    /// Applies a delta that was checked.
    pub fn apply(&mut self, delta: &Delta) {
        for name in delta.give.keys() {
            self.names.remove(name);
        }
        for (name, key) in &delta.take {
            self.names.insert(name.clone(), key.clone());
        }
        for (pool, limit) in &delta.limits {
            self.pools.entry(pool.clone()).or_default().limit = *limit;
        }
        for (pool, change) in &delta.uses {
            let entry = self.pools.entry(pool.clone()).or_default();
            entry.used = entry.used.saturating_add_signed(*change);
        }
        for (key, change) in &delta.needs {
            let entry = self.needed.entry(key.clone()).or_default();
            *entry = entry.saturating_add_signed(*change);
            if *entry == 0 {
                self.needed.remove(key);
            }
        }
    }

    /// Use and limit of a pool; a pool that nobody mentioned is empty and unlimited.
    pub fn pool(&self, name: &str) -> Pool {
        self.pools.get(name).copied().unwrap_or_default()
    }

    /// How many rows need a key.
    pub fn needed(&self, key: &Key) -> u64 {
        self.needed.get(key).copied().unwrap_or(0)
    }

    /// Who holds a unique name.
    pub fn holder(&self, name: &str) -> Option<&Key> {
        self.names.get(name)
    }
}
