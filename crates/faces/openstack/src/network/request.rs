//! A request to Neutron with its body read, and the plan of a change: rows written so far are visible to what is planned
//! next, so that a bulk request hands out each address once and is still one commit.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use gate::Principal;
use http::HeaderMap;
use model::{Change, Expect, Fault, Key, Ledger, Object, Port, Resource, Snapshot, Time, Write};
use serde_json::Value;
use store::{Book, Store};

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
            .transact_by_book(|book| {
                let mut work = Plan::new(book.clone());
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
    /// The claims of all rows that were there before.
    ledger: Ledger,
    /// The ports to which this change gives addresses and MACs, by claim.
    given: HashMap<String, Key>,
}

impl Plan {
    pub fn new(Book { snapshot: rows, ledger }: Book) -> Self {
        Self { rows, ledger, writes: Vec::new(), places: HashMap::new(), expects: Vec::new(), given: HashMap::new() }
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

    /// Whether a port of the network will have an address.
    pub fn has_address(&self, network: &str, ip: IpAddr) -> bool {
        self.has(&Port::address_claim(network, ip), |port| port.fixed_ips.iter().any(|fixed| fixed.ip == ip))
    }

    /// Whether a port of the network will have a MAC.
    pub fn has_mac(&self, network: &str, mac: &str) -> bool {
        self.has(&Port::mac_claim(network, mac), |port| port.mac == mac)
    }

    /// Whether the port that has a claim will still be so.
    fn has(&self, claim: &str, so: impl Fn(&Port) -> bool) -> bool {
        let holder = self.given.get(claim).or_else(|| self.ledger.holder(claim));
        holder.and_then(|key| self.rows.at::<Port>(key)).is_some_and(|port| so(port.value))
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
        if let Write::Create(Object::Port(port)) | Write::Update { object: Object::Port(port), .. } = write {
            let addresses = port.fixed_ips.iter().map(|fixed| Port::address_claim(&port.network_id, fixed.ip));
            let claims = addresses.chain([Port::mac_claim(&port.network_id, &port.mac)]);
            self.given.extend(claims.map(|claim| (claim, key.clone())));
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

#[cfg(test)]
mod tests {
    use model::{FixedIp, Network, Row};

    use super::*;

    #[test]
    fn what_a_port_has_is_as_the_change_leaves_it() {
        let network = Network::new("n", "p", 1, Time::UNIX_EPOCH);
        let port = |id: &str, number: u8| Port {
            mac: format!("fa:16:3e:00:00:{number:02x}"),
            fixed_ips: vec![FixedIp { subnet_id: "s".into(), ip: IpAddr::from([10, 0, 0, number]) }],
            ..Port::new(id.to_owned(), &network, Time::UNIX_EPOCH)
        };
        let rows = [port("a", 1), port("b", 2)].map(|port| Row {
            key: port.key(),
            object: port.into(),
            created: 1,
            modified: 1,
        });
        let mut plan = Plan::new(Book::load(rows, 1));
        let has = |plan: &Plan| {
            [1, 2, 3].map(|number: u8| {
                let mac = port("", number).mac;
                let both = (plan.has_address("n", [10, 0, 0, number].into()), plan.has_mac("n", &mac));
                assert_eq!(both.0, both.1, "{number}");
                assert!(!plan.has_address("other", [10, 0, 0, number].into()));
                both.0
            })
        };
        assert_eq!(has(&plan), [true, true, false]);
        plan.put(port("c", 3));
        assert_eq!(has(&plan), [true, true, true], "a new port's");
        plan.put(port("a", 4));
        assert_eq!(has(&plan), [false, true, true], "one port let go of it");
        plan.remove(&port("b", 2).key());
        plan.put(port("c", 2));
        assert_eq!(has(&plan), [false, true, false], "what was another's before");
        plan.remove(&port("c", 2).key());
        assert_eq!(has(&plan), [false, false, false], "what was made and deleted");
        plan.put(port("b", 1));
        assert_eq!(has(&plan), [true, false, false], "a row that is there again");
    }
}
