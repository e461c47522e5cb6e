//! `/rbac-policies`: what a project gives others access to. Who has access is decided by `gate::View`, by these rows.
//!
//! The attributes `shared` and `router:external` are policies for all: what sets them makes one, and what takes it away
//! takes the attribute. Refused: a flag beside the policies, which would be a second truth about who has access.

use gate::View;
use model::{
    AddressGroup, AddressScope, EVERY_PROJECT, Index, Key, Kind, Network, Port, QosPolicy, RbacAction, RbacPolicy,
    Realm, Resource, SecurityGroup, Snapshot, SubnetPool,
};

use super::attrs::{Attr, Is, owned, ruled};
use super::body::{Attributes, python_list};
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, referred};
use super::sharing::loser;
use super::uses::has_gateways;

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

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
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

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
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

    fn withdrawn(_plan: &Plan, value: &Self, body: &Attributes) -> Vec<Key> {
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

/// The caller may lead out by a network: it is external for them. That it is shared with them besides is another thing, which is
/// taken back by itself.
pub fn leads_out(view: &View<'_>, network: &Network) -> bool {
    let outward = |policy: &RbacPolicy| policy.action == RbacAction::External;
    network.external && (Network::changes(view, network) || view.policies(network).any(outward))
}

/// The key of something of the caller's own.
fn own<T: NeutronResource>(plan: &mut Plan, request: &Request, body: &Attributes) -> Result<Key, NeutronError> {
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
fn target(request: &Request, body: &Attributes, verb: &str) -> Result<Option<String>, NeutronError> {
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
