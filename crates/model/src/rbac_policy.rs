//! What a project gives others access to. Whose a row is stays as it is; a policy says who else may use it.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{
    AddressScope, Change, Claim, Entry, Index, Key, Kind, Limited, Network, Resource, Snapshot, SubnetPool, Time, quota,
};

/// In which way others have access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RbacAction {
    /// As if it were their own, but for changing it.
    #[serde(rename = "access_as_shared")]
    Shared,
    /// A network: as the way out of their routers.
    #[serde(rename = "access_as_external")]
    External,
}

/// The target that stands for every project.
pub const EVERY_PROJECT: &str = "*";

/// A Neutron RBAC policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RbacPolicy {
    pub id: String,
    pub project_id: String,
    /// What it is about: a network, a subnet pool, an address scope, an address group,
    /// a security group or a QoS policy.
    pub object: Key,
    pub action: RbacAction,
    /// A project, which may not exist, or [`EVERY_PROJECT`].
    pub target: String,
    /// It is being taken back, and gives nobody anything new. Whether nobody uses what it gave is looked at afterwards:
    /// whoever uses it expects it to be as it was, and what was used before is seen then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
    pub updated_at: Time,
}

impl RbacPolicy {
    /// The kinds that policies can be about.
    pub const KINDS: &'static [Kind] = &[
        Kind::Network,
        Kind::SubnetPool,
        Kind::AddressScope,
        Kind::AddressGroup,
        Kind::SecurityGroup,
        Kind::QosPolicy,
    ];

    /// The policies about a row.
    pub fn about<'a>(rows: &'a Snapshot, object: &Key) -> impl Iterator<Item = &'a Self> + use<'a> {
        let known = Self::KINDS.contains(&object.kind);
        let object = object.clone();
        let found = known.then(|| rows.find::<Self>(Index::Owner, &object.name));
        found.into_iter().flatten().map(|entry| entry.value).filter(move |policy| policy.object == object)
    }

    /// What an administrator shares with all, by an attribute of the object.
    pub fn for_all(object: Key, project_id: &str, action: RbacAction, now: Time) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project_id.to_owned(),
            object,
            action,
            target: EVERY_PROJECT.into(),
            closing: false,
            updated_at: now,
        }
    }

    /// Whether a policy gives the object to every project in this way.
    pub fn is_for_all(rows: &Snapshot, object: &Key, action: RbacAction) -> bool {
        Self::about(rows, object).any(|policy| policy.action == action && policy.is_for_every_project())
    }

    fn is_for_every_project(&self) -> bool {
        self.target == EVERY_PROJECT && !self.closing
    }

    /// The policies by which a project may use something of another's in this way.
    pub fn giving<'a>(
        rows: &'a Snapshot,
        object: &Key,
        action: RbacAction,
        project: &'a str,
    ) -> impl Iterator<Item = Entry<'a, Self>> + use<'a> {
        let all = Self::about(rows, object).filter(move |policy| policy.action == action);
        all.filter(|policy| policy.covers(Some(project))).filter_map(|policy| rows.get::<Self>(&policy.id))
    }

    /// Makes policies of what rows said by themselves before there were policies for all.
    pub fn upgrade(rows: &Snapshot, now: Time) -> Change {
        let mut change = Change::new();
        for network in rows.all::<Network>() {
            let (key, project) = (network.value.key(), &network.value.project_id);
            if network.external && !Self::about(rows, &key).any(|policy| policy.action == RbacAction::External) {
                change.create(Self::for_all(key.clone(), project, RbacAction::External, now));
            }
            if network.was_shared {
                change.create(Self::for_all(key, project, RbacAction::Shared, now));
                change.edit(network, |network| network.was_shared = false);
            }
        }
        for pool in rows.all::<SubnetPool>().filter(|pool| pool.was_shared) {
            change.create(Self::for_all(pool.value.key(), &pool.value.project_id, RbacAction::Shared, now));
            change.edit(pool, |pool| pool.was_shared = false);
        }
        for scope in rows.all::<AddressScope>().filter(|scope| scope.was_shared) {
            change.create(Self::for_all(scope.value.key(), &scope.value.project_id, RbacAction::Shared, now));
            change.edit(scope, |scope| scope.was_shared = false);
        }
        change
    }

    /// Whether it gives a project something.
    pub fn covers(&self, project: Option<&str>) -> bool {
        !self.closing && (self.target == EVERY_PROJECT || project == Some(&self.target))
    }
}

impl Resource for RbacPolicy {
    kind!(RbacPolicy: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("rbac_policy", 10)];
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![
            Claim::Needs(self.object.clone()),
            Claim::Unique(format!("rbac/{}/{:?}/{}", self.object, self.action, self.target)),
        ];
        // What administrators share with all takes nothing of its project's.
        if self.target != EVERY_PROJECT {
            claims.extend(quota::uses(&self.project_id, "rbac_policy", 1));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.object.name.to_string())]
    }
}
