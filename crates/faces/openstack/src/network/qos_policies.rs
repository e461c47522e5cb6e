//! `/qos/policies`, the attribute by which networks, ports and floating IPs have one, and which sorts of rules there are.
//! Rules are in [`super::qos_rules`]. Policies are made by administrators, and used by whoever sees them.

use gate::{Ref, View};
use model::{DSCP_MARKS, Fault, Key, Kind, Network, QosPolicy, RbacAction, Realm, Resource};
use serde_json::{Value, json};

use super::attrs::{Attr, Is, Item, NAME, field, ruled, shown, standard};
use super::body::Attributes;
use super::error::NeutronError;
use super::list::Listed;
use super::qos_rules;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, answer, referred};
use super::sharing;
use super::uses::{PolicyUser, policy_users};
use crate::call::{Call, Reply};
use crate::json::Json;

/// The form of the attribute by which something has a policy.
pub const QOS_POLICY: Is = Is::UuidOrNull(&[Kind::QosPolicy]);

impl NeutronResource for QosPolicy {
    const ONE: &'static str = "policy";
    const MANY: &'static str = "policies";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME),
        field!(tags: Is::Tags).once(),
        ruled::<Self>("shared", Is::Bool, |view, policy| view.is_given(policy).into()),
        field!(is_default: Is::Bool),
        shown::<Self>("rules", |_, policy| qos_rules::shown_with(policy)),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let policy = body.fill(Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: String::new(),
            description: String::new(),
            is_default: false,
            rules: Vec::new(),
            tags: Vec::new(),
            created_at: request.now,
            updated_at: request.now,
        });
        check_default(plan, &policy)?;
        sharing::give_all(plan, &policy, RbacAction::Shared, body.bool("shared"), request.now);
        Ok(policy)
    }

    fn withdrawn(plan: &Plan, value: &Self, body: &Attributes) -> Vec<Key> {
        let unshared = body.bool("shared") == Some(false);
        if unshared { sharing::for_all(plan, &value.key(), RbacAction::Shared) } else { Vec::new() }
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        check_default(plan, value)?;
        if body.bool("shared") == Some(false) && !sharing::unshare(plan, value) {
            return Err(NeutronError::conflict(
                "RbacPolicyInUse",
                format!(
                    "RBAC policy on object {} cannot be removed because other objects depend on it.\nDetails: other projects use it",
                    value.id
                ),
            ));
        }
        sharing::give_all(plan, value, RbacAction::Shared, body.bool("shared"), request.now);
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Request, value: Self) -> Result<(), NeutronError> {
        // The claims of whoever has it say so too, for one that is given it meanwhile.
        match policy_users(&plan.rows, &value.key()).next() {
            None => Ok(()),
            Some(PolicyUser { kind, id, .. }) => {
                let message = format!("QoS Policy {} is used by {} {id}.", value.id, kind.as_str());
                Err(NeutronError::conflict("QosPolicyInUse", message))
            }
        }
    }
}

/// A project has one default at most; the claims say so too.
fn check_default(plan: &Plan, policy: &QosPolicy) -> Result<(), NeutronError> {
    let other = default_of(plan, &policy.project_id).filter(|other| policy.is_default && *other != policy.key());
    match other {
        None => Ok(()),
        Some(_) => Err(NeutronError::conflict(
            "QoSPolicyDefaultAlreadyExists",
            format!("A default QoS policy exists for project {}.", policy.project_id),
        )),
    }
}

/// The policy that a project's new networks have.
pub fn default_of(plan: &Plan, project: &str) -> Option<Key> {
    let mut own = plan.rows.within::<QosPolicy>(&Realm::project(project));
    own.find(|policy| policy.value.is_default).map(|policy| policy.value.key())
}

/// Gives what the request is about the policy that it names, or takes it away.
pub fn set(plan: &mut Plan, request: &Request, body: &Attributes, field: &mut Option<Key>) -> Result<(), NeutronError> {
    give(plan, request, body.reference_or_null("qos_policy_id"), field)
}

/// The same where the policy is named elsewhere in the request; `Some(None)`: it is taken away.
pub fn give(
    plan: &mut Plan,
    request: &Request,
    given: Option<Option<Ref<QosPolicy>>>,
    field: &mut Option<Key>,
) -> Result<(), NeutronError> {
    let Some(given) = given else { return Ok(()) };
    let new = match given {
        None => None,
        Some(id) => Some(referred(plan, request, &id)?.key()),
    };
    if new == *field {
        return Ok(());
    }
    // What somebody who may more has limited stays so.
    let view = View::new(&plan.rows, &request.who);
    let before = field.as_ref().and_then(|key| plan.rows.at::<QosPolicy>(key));
    if let Some(before) = before.filter(|before| !QosPolicy::sees(&view, before.value)) {
        let id = &before.value.id;
        let message = format!("Failed to remove provided policy {id} because you are not authorized.");
        return Err(NeutronError::denied("PolicyRemoveAuthorizationError", message));
    }
    if let Some(key) = &new {
        // Shared by its attribute, it stays so until it is had.
        plan.hold::<QosPolicy>(&key.name);
    }
    *field = new;
    Ok(())
}

/// What shows the policy that holds unless there is one of its own.
pub fn of_network<'a>(view: &View<'a>, network: &str) -> Json<'a> {
    let network = view.snapshot.get::<Network>(network);
    network.and_then(|network| network.value.qos_policy.as_ref()).into()
}

const RULE_TYPE: &[Attr<&str>] = &[shown("type", |_, name| (*name).into())];

/// `GET /qos/rule-types`: those that hosts obey, whether all are asked for or those that all drivers have: there is one.
pub async fn rule_types(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let mut request = Request::read(call, false).await?;
        request.query.retain(|(name, _)| name != "all_supported" && name != "all_rules");
        let listed = Listed { kind: Kind::QosPolicy, many: "rule_types", attrs: RULE_TYPE };
        let types = RULE_TYPES.iter().map(|value| Item { id: "", revision: 0, value });
        let view = View::new(&request.snapshot, &request.who);
        listed.reply(&request, &view, &listed.filters(&request)?, types)
    })
    .await
}

const RULE_TYPES: [&str; 2] = ["bandwidth_limit", "dscp_marking"];

/// `GET /qos/rule-types/{type}`
pub async fn rule_type(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let asked = request.param("type");
        let range = json!({"start": 0, "end": qos_rules::MOST});
        let parameter = |name: &str, kind: &str, values: Value| {
            json!({"parameter_name": name, "parameter_type": kind, "parameter_values": values})
        };
        let parameters = match asked {
            "bandwidth_limit" => json!([
                parameter("max_kbps", "range", range.clone()),
                parameter("max_burst_kbps", "range", range),
                parameter("direction", "choices", json!(["ingress", "egress"])),
            ]),
            "dscp_marking" => json!([parameter("dscp_mark", "choices", json!(DSCP_MARKS))]),
            _ => {
                let message = format!("QoS rule type {asked} could not be found.");
                return Err(NeutronError::missing("QosRuleTypeNotFound", message));
            }
        };
        let drivers = json!([{"name": "braid", "supported_parameters": parameters}]);
        Ok(Reply::ok(json!({"rule_type": {"type": asked, "drivers": drivers}})))
    })
    .await
}
