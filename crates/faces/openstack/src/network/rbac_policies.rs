//! `/rbac-policies`: what a project gives others access to. Who has access is decided by `gate::View`, by these rows.
//!
//! The attributes `shared` and `router:external` are policies for all: what sets them makes one, and what takes it away
//! takes the attribute. Refused: a flag beside the policies, which would be a second truth about who has access.
//!
//! A policy is taken back in two commits ([`withdraw`]): who begins to use something does not write its policy, so one commit
//! that looks for users and deletes would not see who began a moment before.

use std::collections::BTreeSet;

use gate::View;
use model::{
    AddressGroup, AddressScope, EVERY_PROJECT, FloatingIp, Index, Key, Kind, Network, Port, QosPolicy, RbacAction,
    RbacPolicy, Realm, Resource, Router, SecurityGroup, SecurityGroupRule, Snapshot, Subnet, SubnetPool, Time,
};

use super::attrs::{Attr, Is, owned, ruled};
use super::body::{Body, python_list};
use super::error::NeutronError;
use super::networks::has_gateways;
use super::qos_policies::{self};
use super::request::{Plan, Request};
use super::resource::{NeutronResource, referred};

/// By the names of the API.
const TYPES: &[(&str, Kind)] = &[
    ("address_group", Kind::AddressGroup),
    ("address_scope", Kind::AddressScope),
    ("network", Kind::Network),
    ("qos_policy", Kind::QosPolicy),
    ("security_group", Kind::SecurityGroup),
    ("subnetpool", Kind::SubnetPool),
];

const ACTIONS: &[(&str, RbacAction)] =
    &[("access_as_shared", RbacAction::Shared), ("access_as_external", RbacAction::External)];

impl NeutronResource for RbacPolicy {
    const ONE: &'static str = "rbac_policy";
    const MANY: &'static str = "rbac_policies";
    const ATTRS: &'static [Attr<Self>] = owned![
        ruled::<Self>("object_type", Is::Text(255), |_, policy| {
            TYPES.iter().find(|(_, kind)| *kind == policy.object.kind).map(|(name, _)| *name).into()
        })
        .once()
        .required(),
        ruled::<Self>("object_id", Is::Uuid(Self::KINDS), |_, policy| (&policy.object).into()).once().required(),
        ruled::<Self>("action", Is::Text(255), |_, policy| {
            ACTIONS.iter().find(|(_, action)| *action == policy.action).map(|(name, _)| *name).into()
        })
        .once()
        .required(),
        ruled::<Self>("target_tenant", Is::Text(255), |_, policy| (&policy.target).into()).required(),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Body) -> Result<Self, NeutronError> {
        let asked = body.text("object_type").unwrap_or_default();
        let name = asked.trim().to_ascii_lowercase();
        let object = match TYPES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind) {
            Some(Kind::AddressGroup) => own::<AddressGroup>(plan, request, body)?,
            Some(Kind::AddressScope) => own::<AddressScope>(plan, request, body)?,
            Some(Kind::SecurityGroup) => own::<SecurityGroup>(plan, request, body)?,
            Some(Kind::Network) => own::<Network>(plan, request, body)?,
            Some(Kind::QosPolicy) => own::<QosPolicy>(plan, request, body)?,
            Some(Kind::SubnetPool) => own::<SubnetPool>(plan, request, body)?,
            _ => return Err(NeutronError::invalid(format!("'{asked}' is not a valid RBAC object type"))),
        };
        let action = action(&body.text("action").unwrap_or_default(), object.kind, &name)?;
        let target = target(request, body, "create")?.unwrap_or_default();
        let policy = Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            object,
            action,
            target,
            closing: false,
            updated_at: request.now,
        };
        check_new(plan, &policy)?;
        check_scope(plan, &policy)?;
        if action == RbacAction::External {
            make_external(plan, request, &policy.object)?;
        }
        // Who may use something is part of it.
        plan.touch(&policy.object);
        Ok(policy)
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Body) -> Result<(), NeutronError> {
        let target = target(request, body, "update")?;
        if target.is_some() {
            value.closing = false;
        }
        if let Some(target) = target.filter(|target| *target != value.target) {
            check_not_default(plan, value)?;
            value.target = target;
            check_new(plan, value)?;
            check_scope(plan, value)?;
            check_unused(&plan.rows, &value.object, value.action, &value.id, Some(value))?;
            plan.touch(&value.object);
        }
        Ok(())
    }

    fn withdrawn(_plan: &Plan, value: &Self, body: &Body) -> Vec<Key> {
        let stays = body.text("target_tenant").is_none_or(|target| target == value.target);
        if stays { Vec::new() } else { vec![value.key()] }
    }

    fn withdrawn_with(value: &Self) -> Vec<Key> {
        vec![value.key()]
    }

    fn delete(plan: &mut Plan, request: &Request, value: Self) -> Result<(), NeutronError> {
        check_unused(&plan.rows, &value.object, value.action, &value.id, None)?;
        check_not_default(plan, &value)?;
        let another = |other: &RbacPolicy| other.id != value.id && other.action == value.action;
        let last = !RbacPolicy::about(&plan.rows, &value.object).any(another);
        if last && value.action == RbacAction::External {
            return make_internal(plan, request, &value.object);
        }
        plan.touch(&value.object);
        Ok(())
    }
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
    if which(&Plan::new(request.store.snapshot()))?.is_empty() {
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

/// The keys of the policies that give something to all in one way.
pub fn for_all(plan: &Plan, object: &Key, action: RbacAction) -> Vec<Key> {
    let all = RbacPolicy::about(&plan.rows, object);
    all.filter(|policy| policy.action == action && policy.target == EVERY_PROJECT).map(Resource::key).collect()
}

/// The caller may lead out by a network: it is external for them. That it is shared with them besides is another thing, which is
/// taken back by itself.
pub fn leads_out(view: &View<'_>, network: &Network) -> bool {
    let outward = |policy: &RbacPolicy| policy.action == RbacAction::External;
    network.external && (Network::changes(view, network) || view.policies(network).any(outward))
}

/// The keys of the policies that make a network external for somebody.
pub fn external(plan: &Plan, network: &Key) -> Vec<Key> {
    let all = RbacPolicy::about(&plan.rows, network);
    all.filter(|policy| policy.action == RbacAction::External).map(Resource::key).collect()
}

/// The key of something of the caller's own.
fn own<T: NeutronResource>(plan: &mut Plan, request: &Request, body: &Body) -> Result<Key, NeutronError> {
    let value: T = referred(plan, request, &body.required_reference("object_id")?)?;
    if T::changes(&View::new(&plan.rows, &request.who), &value) {
        return Ok(value.key());
    }
    let what = T::MANY.replace('_', " ");
    Err(NeutronError::invalid(format!("Only admins can manipulate policies on {what} they do not own")))
}

fn action(asked: &str, kind: Kind, name: &str) -> Result<RbacAction, NeutronError> {
    let valid = &ACTIONS[..if kind == Kind::Network { 2 } else { 1 }];
    valid.iter().find(|(known, _)| *known == asked).map(|(_, action)| *action).ok_or_else(|| {
        let valid = python_list(valid.iter().map(|(known, _)| *known));
        NeutronError::invalid(format!("Invalid action '{asked}' for object type '{name}'. Valid actions: {valid}"))
    })
}

/// For whom; all projects at once are an administrator's to give to.
fn target(request: &Request, body: &Body, verb: &str) -> Result<Option<String>, NeutronError> {
    let target = body.text("target_tenant");
    match target.as_deref() {
        Some("") => Err(NeutronError::attribute("target_tenant", "'' is not a project or '*'.")),
        Some(EVERY_PROJECT) if !request.who.is_admin() => {
            Err(NeutronError::policy(&format!("(rule:{verb}_rbac_policy and rule:{verb}_rbac_policy:target_tenant)")))
        }
        _ => Ok(target),
    }
}

fn check_new(plan: &Plan, policy: &RbacPolicy) -> Result<(), NeutronError> {
    let same =
        |other: &RbacPolicy| other.id != policy.id && other.action == policy.action && other.target == policy.target;
    if RbacPolicy::about(&plan.rows, &policy.object).any(same) {
        return Err(NeutronError::conflict("DuplicateRbacPolicy", "An RBAC policy already exists with those values."));
    }
    Ok(())
}

/// Subnets are cut from a pool by those alone who may use the pool's scope too.
fn check_scope(plan: &Plan, policy: &RbacPolicy) -> Result<(), NeutronError> {
    let pool = plan.rows.at::<SubnetPool>(&policy.object);
    let Some(scope) = pool.and_then(|pool| pool.address_scope.clone()) else { return Ok(()) };
    let target = &policy.target;
    let reaches = Realm::project(target) == scope.realm
        || RbacPolicy::about(&plan.rows, &scope).any(|other| other.covers(Some(target)));
    if reaches {
        return Ok(());
    }
    let message = format!("Project {target} has no access to address scope {}, in which the pool is", scope.name);
    Err(NeutronError::invalid(message))
}

/// A network that policies make external is so for those alone whom they name. Like `router:external` that is an
/// administrator's to do: it is a bridge of the host.
fn make_external(plan: &mut Plan, request: &Request, key: &Key) -> Result<(), NeutronError> {
    let mut network: Network = plan.need(&key.name)?;
    if !request.who.is_admin() {
        return Err(NeutronError::invalid("Only admins can manipulate access_as_external policies"));
    }
    if !network.external {
        if plan.rows.find::<Port>(Index::Network, &network.id).next().is_some() {
            let message = format!("There are ports on network {}, it cannot be made external", network.id);
            return Err(NeutronError::invalid(message));
        }
        network.set_external(true);
    }
    network.updated_at = request.now;
    plan.put(network);
    Ok(())
}

/// A network that is external for nobody leads nowhere.
fn make_internal(plan: &mut Plan, request: &Request, key: &Key) -> Result<(), NeutronError> {
    let mut network: Network = plan.need(&key.name)?;
    if has_gateways(plan, &network) {
        return Err(in_use(key, &network.project_id));
    }
    network.set_external(false);
    network.updated_at = request.now;
    plan.put(network);
    Ok(())
}

/// The default way out is every project's.
fn check_not_default(plan: &Plan, policy: &RbacPolicy) -> Result<(), NeutronError> {
    let for_all = policy.action == RbacAction::External && policy.target == EVERY_PROJECT;
    match plan.rows.at::<Network>(&policy.object).filter(|network| for_all && network.is_default) {
        Some(network) => Err(in_use(&policy.object, &network.project_id)),
        None => Ok(()),
    }
}

fn in_use(object: &Key, project: &str) -> NeutronError {
    NeutronError::conflict(
        "RbacPolicyInUse",
        format!(
            "RBAC policy on object {} cannot be removed because other objects depend on it.\nDetails: project {project} uses it",
            object.name
        ),
    )
}

/// Every project that uses the object in this way has access without the policy: it is the owner, or another policy is for
/// it. `instead` is what the policy will be.
fn check_unused(
    rows: &Snapshot,
    object: &Key,
    action: RbacAction,
    policy: &str,
    instead: Option<&RbacPolicy>,
) -> Result<(), NeutronError> {
    let lost = loser(rows, object, action, |other| other.id != policy, instead);
    match lost {
        None => Ok(()),
        Some(project) => Err(in_use(object, &project)),
    }
}

/// A project that uses the object in this way and has no access by the policies that stay.
fn loser(
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
        (Kind::QosPolicy, _) => qos_policies::users(rows, object).map(|user| user.project_id).collect(),
        _ => rows.find::<SecurityGroupRule>(Index::Owner, id).map(|rule| rule.project_id.clone()).collect(),
    };
    // What is Neutron's own is nobody's.
    users.remove("");
    users
}

/// Removes the policies about something that goes.
pub fn remove_about(plan: &mut Plan, object: &Key) {
    take_all(plan, object, |_| true);
}

/// Removes policies about something.
pub fn take_all(plan: &mut Plan, object: &Key, which: impl Fn(&RbacPolicy) -> bool) {
    let gone: Vec<Key> =
        RbacPolicy::about(&plan.rows, object).filter(|policy| which(policy)).map(Resource::key).collect();
    for key in gone {
        plan.remove(&key);
    }
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
