//! A request to Neutron with its body read, and the plan of a change: rows written so far are visible to what is planned
//! next, so that a bulk request hands out each address once and is still one commit.

use std::collections::BTreeMap;

use gate::Principal;
use http::HeaderMap;
use model::{Change, Expect, Fault, Key, Object, Resource, Snapshot, Time, Write};
use serde_json::Value;
use store::Store;

use super::trouble::Trouble;
use crate::call::Call;

/// A request with everything that outlives the reading of its body.
pub struct Ask {
    pub store: Store,
    pub who: Principal,
    pub now: Time,
    pub params: BTreeMap<String, String>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    /// With the service's prefix.
    pub base_url: String,
    pub body: Value,
    pub snapshot: Snapshot,
}

impl Ask {
    /// Reads the body. Neutron ignores bodies of requests that have none.
    pub async fn read(mut call: Call, with_body: bool) -> Result<Self, Trouble> {
        let body = if with_body { call.json().await? } else { Value::Null };
        Ok(Self {
            store: call.cloud.store.clone(),
            who: call.who()?.clone(),
            now: call.now,
            base_url: format!("{}/network", call.base_url()),
            body,
            params: call.params,
            query: call.query,
            headers: call.headers,
            snapshot: call.snapshot,
        })
    }

    /// A part of the path; the `.json` that old clients append is not part of it.
    pub fn param(&self, name: &str) -> &str {
        let value = self.params.get(name).map_or("", String::as_str);
        value.strip_suffix(".json").unwrap_or(value)
    }

    /// All values of a query parameter.
    pub fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Plans and commits a change; plans again as long as others get in between.
    pub async fn commit<T: Send>(
        &self,
        mut plan: impl FnMut(&mut Plan) -> Result<T, Trouble> + Send,
    ) -> Result<T, Trouble> {
        let mut own = None;
        let result = self
            .store
            .transact(|snapshot| {
                let mut work = Plan::new(snapshot.clone());
                match plan(&mut work) {
                    Ok(value) => Ok((work.change, value)),
                    Err(trouble) => {
                        let fault = trouble.as_fault();
                        own = Some(trouble);
                        Err(fault)
                    }
                }
            })
            .await;
        // What the plan itself refuses ends the transaction, so a refusal that is left over is its result.
        result.map_err(|fault| own.take().unwrap_or(Trouble::Fault(fault)))
    }
}

/// A change in the making.
pub struct Plan {
    /// The rows as they will be.
    pub rows: Snapshot,
    change: Change,
}

impl Plan {
    pub fn new(rows: Snapshot) -> Self {
        Self { rows, change: Change::new() }
    }

    /// A copy of a row.
    pub fn get<T: Resource>(&self, id: &str) -> Option<T> {
        self.rows.get::<T>(id).map(|entry| entry.value.clone())
    }

    /// A copy of a row, or that it does not exist.
    pub fn need<T: Resource>(&self, id: &str) -> Result<T, Trouble> {
        self.get(id).ok_or_else(|| super::trouble::not_found(T::KIND, id))
    }

    /// Writes a row, new or not.
    pub fn put<T: Resource>(&mut self, value: T)
    where
        Object: From<T>,
    {
        let key = value.key();
        let object = Object::from(value);
        let write = match self.change.writes.iter().position(|w| w.key() == key) {
            Some(at) => match self.change.writes.remove(at) {
                Write::Create(_) => Write::Create(object),
                Write::Update { expected, .. } | Write::Delete { expected, .. } => Write::Update { object, expected },
            },
            None => match self.rows.row(&key) {
                Some(row) => Write::Update { object, expected: row.modified },
                None => Write::Create(object),
            },
        };
        self.write(write);
    }

    /// Deletes a row.
    pub fn remove(&mut self, key: &Key) {
        let Some(row) = self.rows.row(key) else { return };
        let expected = match self.change.writes.iter().position(|w| w.key() == *key) {
            Some(at) => match self.change.writes.remove(at) {
                Write::Create(_) => {
                    // Made and deleted by the same change: never was.
                    let modified = row.modified;
                    self.rows.apply(self.rows.revision(), &[Write::Delete { key: key.clone(), expected: modified }]);
                    return;
                }
                Write::Update { expected, .. } | Write::Delete { expected, .. } => expected,
            },
            None => row.modified,
        };
        self.write(Write::Delete { key: key.clone(), expected });
    }

    /// The change holds only as long as the row stays as it was read.
    pub fn hold<T: Resource>(&mut self, id: &str) {
        let Some(entry) = self.rows.get::<T>(id) else { return };
        let (key, revision) = (entry.row.key.clone(), Some(entry.row.modified));
        if !self.change.writes.iter().any(|write| write.key() == key) {
            self.change.expects.push(Expect { key, revision });
        }
    }

    fn write(&mut self, write: Write) {
        let revision = self.rows.revision();
        self.rows.apply(revision, std::slice::from_ref(&write));
        self.change.writes.push(write);
    }

    /// Nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.change.is_empty()
    }
}

/// The project for which something is made: the caller's, unless an administrator names another.
pub fn project_for(who: &Principal, asked: Option<&str>) -> Result<String, Trouble> {
    match (asked, who.project_id()) {
        (Some(asked), Some(own)) if asked == own => Ok(own.to_owned()),
        (Some(asked), _) if who.is_admin() => Ok(asked.to_owned()),
        (Some(_), _) => Err(Trouble::http_bad(
            "Specifying 'project_id' other than the authenticated project in request requires admin privileges",
        )),
        (None, Some(own)) => Ok(own.to_owned()),
        (None, None) => {
            Err(Trouble::Fault(Fault::Forbidden("This request needs a token that is scoped to a project.".into())))
        }
    }
}
