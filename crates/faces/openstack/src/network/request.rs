//! A request to Neutron with its body read, and the plan of a change: rows written so far are visible to what is planned
//! next, so that a bulk request hands out each address once and is still one commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use gate::Principal;
use http::HeaderMap;
use model::{Change, Expect, Fault, Index, Key, Kind, Object, Port, Resource, Snapshot, Time, Write};
use serde_json::Value;
use store::Store;

use super::error::NeutronError;
use crate::call::Call;

/// A request with everything that outlives the reading of its body.
pub struct Request {
    pub store: Store,
    pub who: Principal,
    pub now: Time,
    pub params: BTreeMap<String, String>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    /// Where it was sent, without the query.
    pub url: String,
    pub body: Value,
    pub snapshot: Snapshot,
}

impl Request {
    /// Reads the body. Neutron ignores bodies of requests that have none.
    pub async fn read(mut call: Call, with_body: bool) -> Result<Self, NeutronError> {
        let body = if with_body { call.json().await? } else { Value::Null };
        Ok(Self {
            store: call.cloud.store.clone(),
            who: call.who()?.clone(),
            now: call.now,
            url: format!("{}{}", call.base_url(), call.uri.split('?').next().unwrap_or_default()),
            body,
            params: call.params,
            query: call.query,
            headers: call.headers,
            snapshot: call.snapshot,
        })
    }

    /// For other services' views of Neutron's rows: a request that has been read already.
    pub fn of(call: &Call) -> Result<Self, Fault> {
        Ok(Self {
            store: call.cloud.store.clone(),
            who: call.who()?.clone(),
            now: call.now,
            url: String::new(),
            body: Value::Null,
            params: BTreeMap::new(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            snapshot: call.snapshot.clone(),
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
        mut plan: impl FnMut(&mut Plan) -> Result<T, NeutronError> + Send,
    ) -> Result<T, NeutronError> {
        let mut own = None;
        let result = self
            .store
            .transact(|snapshot| {
                let mut work = Plan::new(snapshot.clone());
                match plan(&mut work) {
                    Ok(value) => Ok((work.into_change(), value)),
                    Err(error) => {
                        let fault = error.as_fault();
                        own = Some(error);
                        Err(fault)
                    }
                }
            })
            .await;
        // What the plan itself refuses ends the transaction, so a refusal that is left over is its result.
        result.map_err(|fault| own.take().unwrap_or(NeutronError::Fault(fault)))
    }
}

/// A change in the making.
pub struct Plan {
    /// The rows as they will be.
    pub rows: Snapshot,
    /// What is to be written, by key; `None`: a row that was made and deleted by the same change, and so never was.
    writes: Vec<Option<Write>>,
    places: HashMap<Key, usize>,
    expects: Vec<Expect>,
    /// What ports take of the networks that were looked at, so that many ports are not counted again for each.
    taken: HashMap<String, Taken>,
}

/// What the ports of a network have.
#[derive(Default)]
pub struct Taken {
    pub addresses: HashSet<IpAddr>,
    pub macs: HashSet<String>,
}

impl Plan {
    pub fn new(rows: Snapshot) -> Self {
        Self { rows, writes: Vec::new(), places: HashMap::new(), expects: Vec::new(), taken: HashMap::new() }
    }

    fn into_change(self) -> Change {
        Change { writes: self.writes.into_iter().flatten().collect(), expects: self.expects }
    }

    /// A copy of a row.
    pub fn get<T: Resource>(&self, id: &str) -> Option<T> {
        self.rows.get::<T>(id).map(|entry| entry.value.clone())
    }

    /// A copy of a row, or that it does not exist.
    pub fn need<T: Resource>(&self, id: &str) -> Result<T, NeutronError> {
        self.get(id).ok_or_else(|| super::error::not_found(T::KIND, id))
    }

    /// Writes a row, new or not.
    pub fn put<T: Resource + Into<Object>>(&mut self, value: T) {
        let key = value.key();
        let object: Object = value.into();
        let write = match self.written(&key) {
            Some(Write::Create(_)) => Write::Create(object),
            Some(Write::Update { expected, .. } | Write::Delete { expected, .. }) => {
                Write::Update { object, expected: *expected }
            }
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
        let modified = row.modified;
        match self.written(key) {
            Some(Write::Create(_)) => {
                self.apply(&Write::Delete { key: key.clone(), expected: modified });
                if let Some(at) = self.places.remove(key) {
                    self.writes[at] = None;
                }
            }
            Some(Write::Update { expected, .. } | Write::Delete { expected, .. }) => {
                let expected = *expected;
                self.write(Write::Delete { key: key.clone(), expected });
            }
            None => self.write(Write::Delete { key: key.clone(), expected: modified }),
        }
    }

    /// Gives a row a new revision.
    pub fn touch(&mut self, key: &Key) {
        if self.written(key).is_some() {
            return;
        }
        if let Some(row) = self.rows.row(key) {
            self.write(Write::Update { object: row.object.clone(), expected: row.modified });
        }
    }

    /// The change holds only as long as the row stays as it was read.
    pub fn hold<T: Resource>(&mut self, id: &str) {
        let Some(entry) = self.rows.get::<T>(id) else { return };
        let (key, revision) = (entry.row.key.clone(), Some(entry.row.modified));
        if self.written(&key).is_none() {
            self.expects.push(Expect { key, revision });
        }
    }

    /// What the ports of a network have, those of this change included.
    pub fn taken(&mut self, network: &str) -> &mut Taken {
        let rows = &self.rows;
        self.taken.entry(network.to_owned()).or_insert_with(|| Taken {
            addresses: model::addresses_in_use(rows, network),
            macs: rows.find::<Port>(Index::Network, network).map(|port| port.value.mac.clone()).collect(),
        })
    }

    fn written(&self, key: &Key) -> Option<&Write> {
        self.places.get(key).and_then(|at| self.writes[*at].as_ref())
    }

    fn write(&mut self, write: Write) {
        self.apply(&write);
        match self.places.get(&write.key()) {
            Some(at) => self.writes[*at] = Some(write),
            None => {
                self.places.insert(write.key(), self.writes.len());
                self.writes.push(Some(write));
            }
        }
    }

    fn apply(&mut self, write: &Write) {
        let revision = self.rows.revision();
        let key = write.key();
        match (self.rows.at::<Port>(&key), write) {
            // A new port only adds to what is taken. Whatever gives something back has it counted anew.
            (None, Write::Create(Object::Port(port))) => {
                if let Some(taken) = self.taken.get_mut(&port.network_id) {
                    taken.addresses.extend(port.fixed_ips.iter().map(|fixed| fixed.ip));
                    taken.macs.insert(port.mac.clone());
                }
            }
            (Some(port), _) => _ = self.taken.remove(&port.network_id),
            _ if matches!(key.kind, Kind::Subnet) => self.taken.clear(),
            _ => {}
        }
        self.rows.apply(revision, std::slice::from_ref(write));
    }

    /// Nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// The project for which something is made: the caller's, unless an administrator names another.
pub fn project_for(who: &Principal, asked: Option<&str>) -> Result<String, NeutronError> {
    match (asked, who.project_id()) {
        (Some(asked), Some(own)) if asked == own => Ok(own.to_owned()),
        (Some(asked), _) if who.is_admin() => Ok(asked.to_owned()),
        (Some(_), _) => Err(NeutronError::http_bad(
            "Specifying 'project_id' other than the authenticated project in request requires admin privileges",
        )),
        (None, Some(own)) => Ok(own.to_owned()),
        (None, None) => {
            Err(NeutronError::Fault(Fault::Forbidden("This request needs a token that is scoped to a project.".into())))
        }
    }
}

/// A reader of the project `p`, for tests.
#[cfg(test)]
pub fn somebody() -> Principal {
    let role = |name: &str| gate::RoleRef { id: name.into(), name: name.into() };
    Principal {
        identity: gate::Identity::Keystone,
        user_id: "u".into(),
        user_name: "u".into(),
        user_domain_id: "default".into(),
        scope: gate::Scope::Project { id: "p".into(), name: "p".into(), domain_id: "default".into() },
        roles: vec![role("reader")],
        methods: vec!["password".into()],
        audit_ids: Vec::new(),
        issued_at: Time::UNIX_EPOCH,
        expires_at: Time::UNIX_EPOCH,
        app_credential_id: None,
        trust: None,
        kube_groups: Vec::new(),
        kube_cluster: None,
    }
}
