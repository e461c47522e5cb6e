//! What a row lays claim to. Quota, addresses, room on hosts, unique names and the existence of what a row refers to are
//! all claims, so that one mechanism, checked inside the commit, serves every noun of both faces. Checking first and
//! writing later was refused: with stale snapshots it gives one address to two ports.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::{Key, Object, Snapshot};

/// The most that one row may use of one pool: 2^53, which every JSON reader keeps exact.
pub const MOST: u64 = 1 << 53;

/// So many claims of one row are compared one by one.
const FEW: usize = 32;

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

impl Claim {
    /// The row that must exist, if it is such a claim.
    pub fn needed(self) -> Option<Key> {
        match self {
            Self::Needs(key) => Some(key),
            _ => None,
        }
    }
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
    /// A use that is larger than [`MOST`], or a sum that no number holds: the pool and the amount. Never granted.
    pub excess: Option<(String, u64)>,
    /// The limits that the replaced rows stated, by which [`Delta::settle`] knows those that did not change.
    #[serde(skip)]
    stated: BTreeMap<String, u64>,
}

impl Delta {
    /// The replacement of `before` by `after`, and nothing else.
    pub fn between(key: &Key, before: Option<&Object>, after: Option<&Object>) -> Self {
        let mut delta = Self::default();
        delta.replace(key, before, after);
        delta.settle();
        delta
    }

    /// Adds the replacement of `before` by `after`, rows of the same key.
    pub fn replace(&mut self, key: &Key, before: Option<&Object>, after: Option<&Object>) {
        let mut released = before.map(Object::claims).unwrap_or_default();
        let mut laid = after.map(Object::claims).unwrap_or_default();
        if released.len() <= FEW && laid.len() <= FEW {
            // Mostly they stay as they are.
            released.retain(|claim| match laid.iter().position(|other| other == claim) {
                Some(at) => {
                    laid.swap_remove(at);
                    false
                }
                None => true,
            });
        }
        released.into_iter().for_each(|claim| self.release(key, claim));
        laid.into_iter().for_each(|claim| self.lay(key, claim));
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
        let stated = std::mem::take(&mut self.stated);
        self.limits.retain(|pool, limit| limit.is_none() || *limit != stated.get(pool).copied());
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
            Claim::Use { pool, amount } => self.use_more(pool, amount, 1),
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
            Claim::Use { pool, amount } => self.use_more(pool, amount, -1),
            Claim::Limit { pool, limit } => {
                self.stated.insert(pool.clone(), limit);
                self.limits.entry(pool).or_insert(None);
            }
            Claim::Needs(other) => *self.needs.entry(other).or_default() -= 1,
        }
    }

    fn use_more(&mut self, pool: String, amount: u64, sign: i64) {
        let sum = self.uses.get(&pool).copied().unwrap_or_default();
        let next = i64::try_from(amount).ok().filter(|n| *n as u64 <= MOST).and_then(|n| sum.checked_add(n * sign));
        match next {
            Some(next) => {
                self.uses.insert(pool, next);
            }
            None => self.excess = Some((pool, amount)),
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

/// The claims standing in a whole store, in memory: what the embedded and the in-memory backends check against. A
/// persistent map like the snapshot, so that a backend can try a group of commits on a copy and drop it. Names are shared: a
/// part of a tree that is copied copies none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    names: OrdMap<Arc<str>, Key>,
    pools: OrdMap<Arc<str>, Pool>,
    needed: OrdMap<Key, u64>,
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
        let limit = limit.unwrap_or(self.limit);
        let used = if change < 0 {
            Some(self.used.saturating_add_signed(change))
        } else {
            self.used.checked_add_signed(change)
        };
        match used {
            Some(used) if change <= 0 || limit.is_none_or(|limit| used <= limit) => Ok(Self { used, limit }),
            _ => Err(Refused::Exceeded {
                pool: name.to_owned(),
                asked: change.unsigned_abs(),
                used: self.used,
                limit: limit.unwrap_or(u64::MAX),
            }),
        }
    }
}

impl Ledger {
    /// The claims of these rows.
    pub fn of(rows: &Snapshot) -> Self {
        let mut ledger = Self::default();
        for row in rows.rows() {
            ledger.apply(&Delta::between(&row.key, None, Some(&row.object)));
        }
        ledger
    }

    /// Checks a delta against the ledger. `exists` answers whether a row exists after the change.
    pub fn check(&self, delta: &Delta, exists: impl Fn(&Key) -> bool) -> Result<(), Refused> {
        if let Some((name, holder)) = &delta.clash {
            return Err(Refused::Taken { name: name.clone(), holder: holder.clone() });
        }
        if let Some((pool, asked)) = &delta.excess {
            let now = self.pool(pool);
            let limit = now.limit.unwrap_or(MOST).min(MOST);
            return Err(Refused::Exceeded { pool: pool.clone(), asked: *asked, used: now.used, limit });
        }
        for name in delta.take.keys() {
            if let Some(holder) = self.names.get(name.as_str())
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
            self.names.remove(name.as_str());
        }
        for (name, key) in &delta.take {
            self.names.insert(name.as_str().into(), key.clone());
        }
        for (pool, limit) in &delta.limits {
            let now = self.pool(pool);
            self.set_pool(pool, Pool { limit: *limit, ..now });
        }
        for (pool, change) in &delta.uses {
            let now = self.pool(pool);
            self.set_pool(pool, Pool { used: now.used.saturating_add_signed(*change), ..now });
        }
        for (key, change) in &delta.needs {
            match self.needed(key).saturating_add_signed(*change) {
                0 => _ = self.needed.remove(key),
                users => put(&mut self.needed, key, users, Key::clone),
            };
        }
    }

    /// A pool that is empty and unlimited is not kept, so that equal rows make equal ledgers.
    fn set_pool(&mut self, name: &str, pool: Pool) {
        if pool == Pool::default() {
            self.pools.remove(name);
        } else {
            put(&mut self.pools, name, pool, |name| name.into());
        }
    }

    /// Use and limit of a pool; a pool that nobody mentioned is empty and unlimited.
    pub fn pool(&self, name: &str) -> Pool {
        self.pools.get(name).copied().unwrap_or_default()
    }

    /// The pools whose names begin so, by what follows.
    pub fn pools<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, Pool)> {
        let all = self.pools.range::<_, str>((Bound::Included(prefix), Bound::Unbounded));
        all.map_while(move |(name, pool)| Some((name.strip_prefix(prefix)?, *pool)))
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

/// Sets what a map says of a key, of which it keeps the copy that it has.
fn put<K, Q, V>(map: &mut OrdMap<K, V>, key: &Q, value: V, own: impl FnOnce(&Q) -> K)
where
    K: Ord + Clone + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
    V: Clone,
{
    match map.get_mut(key) {
        Some(kept) => *kept = value,
        None => _ = map.insert(own(key), value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flavor, Kind, Quota, Realm};

    fn flavor(id: &str, name: &str) -> Object {
        Flavor::new(id, name, 1, 1, 0).into()
    }

    fn used(pool: &str, amount: u64) -> Delta {
        let mut delta = Delta::default();
        delta.lay(&Key::new(Kind::Setting, Realm::Cloud, "a"), Claim::Use { pool: pool.into(), amount });
        delta.settle();
        delta
    }

    #[test]
    fn an_unchanged_limit_is_no_change() {
        let (key, quota) = (Key::new(Kind::Quota, Realm::Cloud, "p"), Object::from(Quota::new("p")));
        let mut lower = Quota::new("p");
        lower.limits.insert("ram".into(), Some(1));
        let mut delta = Delta::default();
        delta.replace(&key, Some(&quota), Some(&quota));
        delta.settle();
        assert_eq!(delta, Delta::default());
        delta.replace(&key, Some(&quota), Some(&lower.into()));
        delta.settle();
        assert_eq!(delta.limits, BTreeMap::from([("quota/p/ram".to_owned(), Some(1))]));
    }

    #[test]
    fn a_name_moves_within_one_change() {
        let [a, b] = ["a", "b"].map(|id| Key::new(Kind::Flavor, Realm::Cloud, id));
        let mut ledger = Ledger::default();
        let mut delta = Delta::default();
        delta.replace(&a, None, Some(&flavor("a", "small")));
        delta.settle();
        ledger.apply(&delta);
        let mut delta = Delta::default();
        delta.replace(&b, None, Some(&flavor("b", "small")));
        assert!(matches!(ledger.check(&delta, |_| true), Err(Refused::Taken { .. })));
        delta.replace(&a, Some(&flavor("a", "small")), Some(&flavor("a", "large")));
        delta.settle();
        assert_eq!(ledger.check(&delta, |_| true), Ok(()));
        ledger.apply(&delta);
        assert_eq!(ledger.holder("flavor-name/small"), Some(&b));
        assert_eq!(ledger.holder("flavor-name/large"), Some(&a));
    }

    #[test]
    fn amounts_that_no_number_holds_are_refused() {
        let ledger = Ledger::default();
        for amount in [MOST + 1, i64::MAX as u64, u64::MAX] {
            assert!(matches!(ledger.check(&used("p", amount), |_| true), Err(Refused::Exceeded { .. })), "{amount}");
        }
        assert_eq!(ledger.check(&used("p", MOST), |_| true), Ok(()));
        let full = Pool { used: u64::MAX - 1, limit: None };
        assert!(full.after("p", 2, None).is_err());
        assert!(full.after("p", 1, None).is_ok());
        assert!(full.after("p", -2, Some(Some(1))).is_ok(), "shrinking is always allowed");
    }

    #[test]
    fn an_empty_pool_leaves_no_trace() {
        let mut ledger = Ledger::default();
        ledger.apply(&used("p", 5));
        assert_eq!(ledger.pool("p").used, 5);
        let mut back = used("p", 5);
        back.uses.insert("p".into(), -5);
        ledger.apply(&back);
        assert_eq!(ledger, Ledger::default());
    }
}
