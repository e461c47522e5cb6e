//! From a change to an etcd transaction. Below the prefix:
//!
//! * `data/head`: the id of the newest commit; written by each, so its revision is the store's
//! * `data/row/KEY`: a row as JSON; etcd's create and mod revisions are the row's
//! * `claim/name/NAME`: the key of the row that holds a unique name
//! * `claim/pool/POOL`: use and limit, compared by value
//! * `claim/need/NEEDED␀NEEDER`: one key for each row that needs another. A counter was refused: everything that is made in
//!   a namespace or on a network would then compete for one key. A row can be deleted when the range of its needers is
//!   empty, and etcd compares ranges.
//! * `lease/ROLE`: the leader of a role, see `lease`
//! * `life/NAME`: something lives that has said so lately

use std::collections::{BTreeMap, BTreeSet};

use model::{Claim, Delta, Key, Object, Pool, Revision, Write};

use super::client::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use super::client::pb::request_op::Request;
use super::client::pb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use crate::{Book, Fence, Proposal};

/// The names of keys.
pub struct Names {
    prefix: String,
}

impl Names {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn at(&self, rest: &str) -> Vec<u8> {
        format!("{}{rest}", self.prefix).into_bytes()
    }

    pub fn layout(&self) -> Vec<u8> {
        self.at("layout")
    }

    pub fn head(&self) -> Vec<u8> {
        self.at("data/head")
    }

    /// Everything that is watched: the head and the rows.
    pub fn data(&self) -> (Vec<u8>, Vec<u8>) {
        (self.at("data/"), self.at("data0"))
    }

    pub fn row(&self, key: &Key) -> Vec<u8> {
        self.at(&format!("data/row/{key}"))
    }

    /// The row that a key of etcd's holds, if it is one.
    pub fn row_of<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.strip_prefix("data/row/")
    }

    /// All claims.
    pub fn claims(&self) -> (Vec<u8>, Vec<u8>) {
        (self.at("claim/"), self.at("claim0"))
    }

    fn name(&self, name: &str) -> Vec<u8> {
        self.at(&format!("claim/name/{name}"))
    }

    fn pool(&self, pool: &str) -> Vec<u8> {
        self.at(&format!("claim/pool/{pool}"))
    }

    fn need(&self, needed: &Key, needer: &Key) -> Vec<u8> {
        self.at(&format!("claim/need/{needed}\0{needer}"))
    }

    /// All that need a key.
    fn needers(&self, needed: &Key) -> (Vec<u8>, Vec<u8>) {
        (self.at(&format!("claim/need/{needed}\0")), self.at(&format!("claim/need/{needed}\u{1}")))
    }

    pub fn life(&self, name: &str) -> Vec<u8> {
        self.at(&format!("life/{name}"))
    }

    /// All signs of life.
    pub fn lives(&self) -> (Vec<u8>, Vec<u8>) {
        (self.at("life/"), self.at("life0"))
    }

    pub fn life_of<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.strip_prefix("life/")
    }

    pub fn lease(&self, role: &str) -> Vec<u8> {
        self.at(&format!("lease/{role}"))
    }
}

/// The transaction that commits a change which `book` has found to fit.
pub fn build(
    names: &Names,
    book: &Book,
    proposal: &Proposal,
    delta: &Delta,
    fence: Option<&Fence>,
    id: &str,
) -> TxnRequest {
    let mut txn = TxnRequest::default();
    txn.success.push(put(names.head(), id.as_bytes().to_vec()));
    if let Some(fence) = fence {
        txn.compare.push(created_at(names.lease(&fence.role), fence.token));
    }
    rows(&mut txn, names, proposal);
    unique_names(&mut txn, names, delta);
    pools(&mut txn, names, book, delta);
    needs(&mut txn, names, book, &proposal.change.writes, delta);
    txn
}

fn rows(txn: &mut TxnRequest, names: &Names, proposal: &Proposal) {
    for expect in &proposal.change.expects {
        let key = names.row(&expect.key);
        txn.compare
            .push(expect.revision.map_or_else(|| absent(key.clone()), |revision| unchanged(key.clone(), revision)));
    }
    for (write, row) in proposal.change.writes.iter().zip(&proposal.rows) {
        let key = names.row(&write.key());
        txn.compare.push(match write {
            Write::Create(_) => absent(key.clone()),
            Write::Update { expected, .. } | Write::Delete { expected, .. } => unchanged(key.clone(), *expected),
        });
        txn.success.push(match row {
            Some(row) => put(key, row.clone().into_bytes()),
            None => delete(key),
        });
    }
}

/// A name that the change itself gives back needs no comparison: its holder's row is compared.
fn unique_names(txn: &mut TxnRequest, names: &Names, delta: &Delta) {
    for (name, holder) in &delta.take {
        if !delta.give.contains_key(name) {
            txn.compare.push(absent(names.name(name)));
        }
        txn.success.push(put(names.name(name), holder.to_string().into_bytes()));
    }
    for name in delta.give.keys().filter(|name| !delta.take.contains_key(*name)) {
        txn.success.push(delete(names.name(name)));
    }
}

fn pools(txn: &mut TxnRequest, names: &Names, book: &Book, delta: &Delta) {
    let touched: BTreeSet<&String> = delta.uses.keys().chain(delta.limits.keys()).collect();
    for pool in touched {
        let (key, now) = (names.pool(pool), book.ledger.pool(pool));
        let change = delta.uses.get(pool).copied().unwrap_or_default();
        let limit = delta.limits.get(pool).copied().unwrap_or(now.limit);
        let next = Pool { used: now.used.saturating_add_signed(change), limit };
        txn.compare.push(if now == Pool::default() {
            absent(key.clone())
        } else {
            has_value(key.clone(), pool_text(now))
        });
        txn.success.push(if next == Pool::default() { delete(key) } else { put(key, pool_text(next)) });
    }
}

fn pool_text(pool: Pool) -> Vec<u8> {
    match pool.limit {
        Some(limit) => format!("{} of {limit}", pool.used),
        None => pool.used.to_string(),
    }
    .into_bytes()
}

fn needs(txn: &mut TxnRequest, names: &Names, book: &Book, writes: &[Write], delta: &Delta) {
    let written: BTreeSet<Key> = writes.iter().map(Write::key).collect();
    let (mut existing, mut released) = (BTreeSet::new(), BTreeSet::new());
    for write in writes {
        let needer = write.key();
        let before = needs_of(book.snapshot.row(&needer).map(|row| &row.object));
        let after = match write {
            Write::Create(object) | Write::Update { object, .. } => needs_of(Some(object)),
            Write::Delete { .. } => BTreeSet::new(),
        };
        for needed in after.difference(&before) {
            txn.success.push(put(names.need(needed, &needer), Vec::new()));
            existing.insert(needed.clone());
        }
        for needed in before.difference(&after) {
            txn.success.push(delete(names.need(needed, &needer)));
            released.insert(names.need(needed, &needer));
        }
    }
    // Rows that the change writes are compared already.
    for needed in existing.difference(&written) {
        txn.compare.push(exists(names.row(needed)));
    }
    for gone in &delta.gone {
        nobody_else_needs(txn, names, gone, &released);
    }
}

/// Demands that the range of a key's needers holds only those that the change releases: the gaps between them are empty.
fn nobody_else_needs(txn: &mut TxnRequest, names: &Names, gone: &Key, released: &BTreeSet<Vec<u8>>) {
    let (mut start, end) = names.needers(gone);
    for needer in released.range(start.clone()..end.clone()) {
        if start < *needer {
            txn.compare.push(empty(start, needer.clone()));
        }
        start = needer.clone();
        // The first key behind this one.
        start.push(0);
    }
    txn.compare.push(empty(start, end));
}

fn needs_of(object: Option<&Object>) -> BTreeSet<Key> {
    let claims = object.map(Object::claims).unwrap_or_default();
    claims.into_iter().filter_map(|claim| if let Claim::Needs(key) = claim { Some(key) } else { None }).collect()
}

/// The claims as they must be stored for these rows.
pub fn claims(names: &Names, book: &Book) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut keys = BTreeMap::new();
    let mut pools = BTreeSet::new();
    for row in book.snapshot.rows() {
        for claim in row.object.claims() {
            match claim {
                Claim::Unique(name) => _ = keys.insert(names.name(&name), row.key.to_string().into_bytes()),
                Claim::Needs(needed) => _ = keys.insert(names.need(&needed, &row.key), Vec::new()),
                Claim::Use { pool, .. } | Claim::Limit { pool, .. } => _ = pools.insert(pool),
            }
        }
    }
    let stored = pools.into_iter().map(|pool| (names.pool(&pool), book.ledger.pool(&pool)));
    keys.extend(stored.filter(|(_, pool)| *pool != Pool::default()).map(|(key, pool)| (key, pool_text(pool))));
    keys
}

/// Puts a key that does not exist.
pub fn put_if_absent(key: Vec<u8>, value: Vec<u8>, lease: i64) -> TxnRequest {
    let put = PutRequest { key: key.clone(), value, lease };
    TxnRequest { compare: vec![absent(key)], success: vec![RequestOp { request: Some(Request::RequestPut(put)) }] }
}

/// A key that exists as long as its lease.
pub fn put_with_lease(key: Vec<u8>, lease: i64) -> TxnRequest {
    let put = PutRequest { key, value: Vec::new(), lease };
    TxnRequest { compare: Vec::new(), success: vec![RequestOp { request: Some(Request::RequestPut(put)) }] }
}

fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(PutRequest { key, value, lease: 0 })) }
}

fn delete(key: Vec<u8>) -> RequestOp {
    RequestOp { request: Some(Request::RequestDeleteRange(DeleteRangeRequest { key })) }
}

fn compare(key: Vec<u8>, result: CompareResult, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare { key, result: result.into(), target: target.into(), target_union: Some(union), range_end: Vec::new() }
}

fn absent(key: Vec<u8>) -> Compare {
    created_at(key, 0)
}

fn created_at(key: Vec<u8>, revision: Revision) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Create, TargetUnion::CreateRevision(revision as i64))
}

fn exists(key: Vec<u8>) -> Compare {
    compare(key, CompareResult::Greater, CompareTarget::Create, TargetUnion::CreateRevision(0))
}

fn unchanged(key: Vec<u8>, revision: Revision) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Mod, TargetUnion::ModRevision(revision as i64))
}

fn has_value(key: Vec<u8>, value: Vec<u8>) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Value, TargetUnion::Value(value))
}

/// No key of a range exists: etcd compares each that does.
fn empty(start: Vec<u8>, end: Vec<u8>) -> Compare {
    Compare { range_end: end, ..created_at(start, 0) }
}
