//! A named list of addresses to which rules of security groups refer, so that a change of the list is one row and not
//! one for each rule.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Limited, Resource, Time, quota};

/// The most addresses and ranges that a group has: a host puts each of them into its rules.
pub const MAX_ADDRESSES: usize = 2000;

/// A Neutron address group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressGroup {
    pub id: String,
    pub project_id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// CIDRs of both families in their normal form, each once, in order.
    pub addresses: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Resource for AddressGroup {
    kind!(AddressGroup: of a project);
    // Neutron limits none of them.
    const QUOTAS: &[Limited] = &[Limited::new("address_group", 100)];
    fn claims(&self) -> Vec<Claim> {
        quota::uses(&self.project_id, "address_group", 1).into_iter().collect()
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}
