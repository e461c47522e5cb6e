//! A set of hosts that an administrator treats alike: an availability zone, hardware that is reserved for some projects,
//! hosts that a flavor asks for. One place says what aggregates mean for a host, for VMs and pods alike.
//!
//! What several rows say of a host is no function of one row, so claims cannot hold it. Every change of aggregates writes
//! one [`Setting`] beside, and whoever puts work on a host demands that it is as it was: of a placement and a reservation
//! made from one snapshot, one is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Change, Claim, Expect, Index, Key, Kind, Realm, Resource, Setting, Snapshot, Time, ZONE};

/// The key of an aggregate's metadata that makes it an availability zone.
const ZONE_KEY: &str = "availability_zone";
/// Keys that begin so name projects for which the hosts are reserved, as with Nova's tenant isolation.
const TENANT_KEY: &str = "filter_tenant_id";

/// The setting that counts changes of aggregates.
const CHANGES: &str = "aggregate-changes";

/// A Nova host aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// A number, as Nova has it.
    pub id: String,
    pub uuid: String,
    pub name: String,
    /// Names of hosts.
    pub hosts: BTreeSet<String>,
    pub metadata: BTreeMap<String, String>,
    pub created_at: Time,
    pub updated_at: Option<Time>,
}

impl Aggregate {
    /// The availability zone that it makes of its hosts.
    pub fn zone(&self) -> Option<&str> {
        self.metadata.get(ZONE_KEY).map(String::as_str)
    }

    /// The zone of one host.
    pub fn zone_of<'a>(snapshot: &'a Snapshot, host: &str) -> &'a str {
        snapshot.find::<Self>(Index::Host, host).find_map(|aggregate| aggregate.value.zone()).unwrap_or(ZONE)
    }

    /// The projects for which aggregates reserve a host; none: it is for all.
    pub fn reserved_for(snapshot: &Snapshot, host: &str) -> Vec<String> {
        let all = snapshot.find::<Self>(Index::Host, host).flat_map(|aggregate| aggregate.value.tenants());
        all.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Makes it an availability zone, or none.
    pub fn set_zone(&mut self, zone: Option<String>) {
        match zone {
            Some(zone) => _ = self.metadata.insert(ZONE_KEY.to_owned(), zone),
            None => _ = self.metadata.remove(ZONE_KEY),
        }
    }

    /// Notes in a change that aggregates are no longer as they were.
    pub fn changed(snapshot: &Snapshot, change: &mut Change) {
        match snapshot.get::<Setting>(CHANGES) {
            Some(entry) => change.edit(entry, |s| s.value = (s.value.as_u64().unwrap_or(0) + 1).into()),
            None => change.create(Setting { name: CHANGES.to_owned(), value: 1.into() }),
        };
    }

    /// What a placement demands: that aggregates are as they were.
    pub fn unchanged(snapshot: &Snapshot) -> Expect {
        let key = Key::new(Kind::Setting, Realm::Cloud, CHANGES);
        Expect { revision: snapshot.row(&key).map(|row| row.modified), key }
    }

    /// The projects for which its hosts are reserved; none: they are not.
    fn tenants(&self) -> impl Iterator<Item = &str> {
        let keys = self.metadata.iter().filter(|(key, _)| key.starts_with(TENANT_KEY));
        keys.flat_map(|(_, value)| value.split(',').map(str::trim)).filter(|project| !project.is_empty())
    }
}

impl Resource for Aggregate {
    kind!(Aggregate: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::Unique(format!("aggregate-name/{}", self.name))];
        for host in &self.hosts {
            claims.push(Claim::Needs(Key::new(Kind::Host, Realm::Cloud, host.as_str())));
            // A host is in one zone.
            claims.extend(self.zone().map(|_| Claim::Unique(format!("host-zone/{host}"))));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        self.hosts.iter().map(|host| (Index::Host, host.clone())).chain([(Index::Name, self.name.clone())]).collect()
    }
}

/// What all aggregates say of hosts, as of a snapshot.
#[derive(Default)]
pub struct Aggregates<'a> {
    of_host: BTreeMap<&'a str, Vec<&'a Aggregate>>,
    /// Projects for which some host is reserved: their work goes nowhere else.
    reserving: BTreeSet<&'a str>,
}

impl<'a> Aggregates<'a> {
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let mut all = Self::default();
        for aggregate in snapshot.all::<Aggregate>().map(|aggregate| aggregate.value) {
            for host in &aggregate.hosts {
                all.of_host.entry(host).or_default().push(aggregate);
            }
            if !aggregate.hosts.is_empty() {
                all.reserving.extend(aggregate.tenants());
            }
        }
        all
    }

    fn on(&self, host: &str) -> impl Iterator<Item = &'a Aggregate> {
        self.of_host.get(host).into_iter().flatten().copied()
    }

    /// The zone of a host: that of its aggregate, or [`ZONE`].
    pub fn zone(&self, host: &str) -> &'a str {
        self.on(host).find_map(Aggregate::zone).unwrap_or(ZONE)
    }

    /// Whether a project's work may be on a host: a reserved host is for the projects that it is reserved for, and these
    /// have no other.
    pub fn admits(&self, host: &str, project: &str) -> bool {
        let mut tenants = self.on(host).flat_map(Aggregate::tenants).peekable();
        match tenants.peek() {
            Some(_) => tenants.any(|tenant| tenant == project),
            None => !self.reserving.contains(project),
        }
    }

    /// Whether a host is in an aggregate whose metadata has a value for a key; several stand there with commas between.
    pub fn has(&self, host: &str, key: &str, value: &str) -> bool {
        self.on(host)
            .filter_map(|aggregate| aggregate.metadata.get(key))
            .any(|text| text.split(',').any(|v| v.trim() == value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_in_a_zone_and_reserved() {
        let aggregate = |id: &str, hosts: &[&str], metadata: &[(&str, &str)]| Aggregate {
            id: id.into(),
            uuid: id.into(),
            name: id.into(),
            hosts: hosts.iter().map(|&h| h.into()).collect(),
            metadata: metadata.iter().map(|&(k, v)| (k.into(), v.into())).collect(),
            created_at: Time::UNIX_EPOCH,
            updated_at: None,
        };
        let rows = [
            aggregate("1", &["a", "b"], &[(ZONE_KEY, "east")]),
            aggregate(
                "2",
                &["b", "c"],
                &[("filter_tenant_id", "p, q"), ("filter_tenant_id2", "r"), ("ssd", "true,fast")],
            ),
            aggregate("3", &[], &[("filter_tenant_id", "nobody")]),
        ];
        let mut snapshot = Snapshot::default();
        for (at, row) in (1..).zip(rows) {
            let mut change = crate::Change::new();
            change.create(row);
            snapshot.apply(at, &change.writes);
        }
        let all = Aggregates::of(&snapshot);
        assert_eq!(["a", "b", "c", "d"].map(|host| all.zone(host)), ["east", "east", ZONE, ZONE]);
        let admitted = |project| ["a", "b", "c", "d"].map(|host| all.admits(host, project));
        assert_eq!(admitted("p"), [false, true, true, false]);
        assert_eq!(admitted("r"), [false, true, true, false]);
        assert_eq!(admitted("other"), [true, false, false, true]);
        assert_eq!(admitted("nobody"), [true, false, false, true], "an aggregate without hosts reserves none");
        assert!(all.has("c", "ssd", "fast") && !all.has("a", "ssd", "fast") && !all.has("c", "ssd", "slow"));
    }
}
