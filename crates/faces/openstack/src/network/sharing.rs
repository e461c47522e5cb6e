//! RBAC policies as other changes give them and take them back: the attributes `shared` and `router:external` are policies for
//! all, and what goes takes the policies about it along.
//!
//! A policy is taken back in two commits ([`withdraw`]): who begins to use something does not write its policy, so one commit
//! that looks for users and deletes would not see who began a moment before.

use std::collections::BTreeSet;

use model::{
    EVERY_PROJECT, FloatingIp, Index, Key, Kind, Port, RbacAction, RbacPolicy, Realm, Resource, Router,
    SecurityGroupRule, Snapshot, Subnet, SubnetPool, Time,
};

use super::error::NeutronError;
use super::request::{Plan, Request};
use super::uses::policy_users;

/// The keys of the policies that give something to all in one way.
pub fn for_all(plan: &Plan, object: &Key, action: RbacAction) -> Vec<Key> {
    let all = RbacPolicy::about(&plan.rows, object);
    all.filter(|policy| policy.action == action && policy.target == EVERY_PROJECT).map(Resource::key).collect()
}

/// The keys of the policies that make a network external for somebody.
pub fn external(plan: &Plan, network: &Key) -> Vec<Key> {
    let all = RbacPolicy::about(&plan.rows, network);
    all.filter(|policy| policy.action == RbacAction::External).map(Resource::key).collect()
}

/// Gives something to all if an attribute wants it; `value` is the row as it will be.
pub fn give_all<T: Resource>(plan: &mut Plan, value: &T, action: RbacAction, wanted: Option<bool>, now: Time) {
    let object = value.key();
    let Realm::Project(project) = value.realm() else { return };
    if wanted != Some(true) || RbacPolicy::is_for_all(&plan.rows, &object, action) {
        return;
    }
    // One that was about to be taken back when its request was given up.
    let closing = for_all(plan, &object, action).first().and_then(|key| plan.rows.at::<RbacPolicy>(key));
    let closing = closing.map(|policy| RbacPolicy { closing: false, ..policy.value.clone() });
    plan.put(closing.unwrap_or_else(|| RbacPolicy::for_all(object, &project, action, now)));
}

/// What is no longer shared by its attribute is shared with all by no policy. Whether nobody who uses it loses access by that.
pub fn unshare<T: Resource>(plan: &mut Plan, value: &T) -> bool {
    let object = value.key();
    take_all(plan, &object, |policy| policy.action == RbacAction::Shared && policy.target == EVERY_PROJECT);
    loser(&plan.rows, &object, RbacAction::Shared, |_| true, None).is_none()
}

/// Removes policies about something.
pub fn take_all(plan: &mut Plan, object: &Key, which: impl Fn(&RbacPolicy) -> bool) {
    let gone: Vec<Key> =
        RbacPolicy::about(&plan.rows, object).filter(|policy| which(policy)).map(Resource::key).collect();
    for key in gone {
        plan.remove(&key);
    }
}

/// Removes the policies about something that goes.
pub fn remove_about(plan: &mut Plan, object: &Key) {
    take_all(plan, object, |_| true);
}

/// Makes a change that takes policies back. At first they give nothing new; then the change is made from rows in which all is
/// that was used before. What is refused is given back.
pub async fn withdraw<T: Send>(
    request: &Request,
    which: impl Fn(&Plan) -> Result<Vec<Key>, NeutronError> + Send + Sync,
    write: impl FnMut(&mut Plan) -> Result<T, NeutronError> + Send,
) -> Result<T, NeutronError> {
    let set = |plan: &mut Plan, keys: &[Key], closing: bool| {
        let rows = keys.iter().filter_map(|key| plan.rows.at::<RbacPolicy>(key));
        let rows: Vec<RbacPolicy> = rows.map(|policy| RbacPolicy { closing, ..policy.value.clone() }).collect();
        rows.into_iter().for_each(|policy| plan.put(policy));
    };
    if which(&Plan::new(request.store.book()))?.is_empty() {
        return request.commit(write).await;
    }
    let closing = request.commit(|plan| {
        let keys = which(plan)?;
        set(plan, &keys, true);
        Ok(keys)
    });
    let keys = closing.await?;
    let done = request.commit(write).await;
    if done.is_err() {
        let opened = request.commit(|plan| {
            set(plan, &keys, false);
            Ok(())
        });
        opened.await?;
    }
    done
}

/// A project that uses the object in this way and has no access by the policies that stay.
pub fn loser(
    rows: &Snapshot,
    object: &Key,
    action: RbacAction,
    stays: impl Fn(&RbacPolicy) -> bool,
    instead: Option<&RbacPolicy>,
) -> Option<String> {
    let policies = RbacPolicy::about(rows, object).filter(|other| other.action == action && stays(other));
    let policies: Vec<&RbacPolicy> = policies.chain(instead).collect();
    let may = |project: &str| {
        Realm::project(project) == object.realm || policies.iter().any(|policy| policy.covers(Some(project)))
    };
    users(rows, object, action).into_iter().find(|project| !may(project))
}

/// The projects that use something in this way.
fn users(rows: &Snapshot, object: &Key, action: RbacAction) -> BTreeSet<String> {
    let id = &*object.name;
    let mut users: BTreeSet<String> = match (object.kind, action) {
        (Kind::Network, RbacAction::External) => {
            let routers = rows.find::<Router>(Index::Network, id).map(|router| router.project_id.clone());
            routers.chain(rows.find::<FloatingIp>(Index::Network, id).map(|fip| fip.project_id.clone())).collect()
        }
        (Kind::Network, RbacAction::Shared) => {
            rows.find::<Port>(Index::Network, id).map(|port| port.project_id.clone()).collect()
        }
        (Kind::SubnetPool, _) => {
            let cut = rows.all::<Subnet>().filter(|subnet| subnet.subnetpool_id.as_deref() == Some(id));
            cut.map(|subnet| subnet.project_id.clone()).collect()
        }
        (Kind::AddressScope, _) => {
            rows.find::<SubnetPool>(Index::Owner, id).map(|pool| pool.project_id.clone()).collect()
        }
        (Kind::SecurityGroup, _) => {
            let ports = rows.all::<Port>().filter(|port| port.security_groups.iter().any(|group| group == id));
            let rules = rows.all::<SecurityGroupRule>().filter(|rule| rule.remote_group_id.as_deref() == Some(id));
            ports.map(|port| port.project_id.clone()).chain(rules.map(|rule| rule.project_id.clone())).collect()
        }
        (Kind::QosPolicy, _) => policy_users(rows, object).map(|user| user.project_id).collect(),
        _ => rows.find::<SecurityGroupRule>(Index::Owner, id).map(|rule| rule.project_id.clone()).collect(),
    };
    // What is Neutron's own is nobody's.
    users.remove("");
    users
}
