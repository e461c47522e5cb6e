//! Ranges of addresses that mean one thing: pools of one scope never overlap, so what is cut from them can be routed
//! without translation. Networks of different scopes do not reach each other through a router.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Limited, Network, Resource, Snapshot, Subnet, SubnetPool, Time, quota};

/// A Neutron address scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressScope {
    pub id: String,
    pub project_id: String,
    #[serde(default)]
    pub name: String,
    /// `false`: IPv4.
    pub ipv6: bool,
    /// As a [`Network`](crate::Network)'s.
    #[serde(default, rename = "shared", skip_serializing)]
    pub was_shared: bool,
    /// When a pool was last put into it: pools of a scope are compared one after the other.
    pub updated_at: Time,
}

impl AddressScope {
    /// The scope of a network's subnets of a family, by id. All of them have the same.
    pub fn of_network<'a>(rows: &'a Snapshot, network: &Network, ipv6: bool) -> Option<&'a str> {
        let subnets = rows.find::<Subnet>(Index::Network, &network.id).map(|subnet| subnet.value);
        subnets.filter(|subnet| subnet.base.is_ipv6() == ipv6).find_map(|subnet| Self::of_subnet(rows, subnet))
    }

    /// The scope of the pool from which a subnet was cut, by id.
    pub fn of_subnet<'a>(rows: &'a Snapshot, subnet: &Subnet) -> Option<&'a str> {
        let pool = rows.get::<SubnetPool>(subnet.subnetpool_id.as_deref()?)?;
        pool.value.address_scope.as_ref().map(|key| &*key.name)
    }
}

impl Resource for AddressScope {
    kind!(AddressScope: of a project);
    // Neutron limits none of them.
    const QUOTAS: &[Limited] = &[Limited::new("address_scope", 100)];
    fn claims(&self) -> Vec<Claim> {
        quota::uses(&self.project_id, "address_scope", 1).into_iter().collect()
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}
