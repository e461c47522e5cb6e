//! `/qos/policies`, the attribute by which networks, ports and floating IPs have one, and which sorts of rules there are.
//! Rules are in [`super::qos_rules`]. Policies are made by administrators, and used by whoever sees them.

use gate::Ref;
use model::{
    DSCP_MARKS, Fault, FloatingIp, Key, Kind, Network, Port, QosPolicy, RbacAction, Realm, Resource, Router, Snapshot,
};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan};
use super::attrs::{Attr, Body, DESCRIPTION, Is, NAME, free, shown};
use super::list;
use super::noun::{Look, Noun, answer, referred, standard};
use super::qos_rules;
use super::rbac_policies;
use super::tags;
use super::trouble::Trouble;
use crate::call::{Call, Reply};

const ATTRS: &[Attr] = &[
    shown("id"),
    free("name", NAME),
    free("description", DESCRIPTION),
    free("shared", Is::Bool),
    free("is_default", Is::Bool),
    free("tags", Is::TextList).once(),
    shown("rules"),
];

/// The attribute of what a policy is for.
pub const ATTR: Attr = free("qos_policy_id", Is::UuidOrNull);
/// The policy that holds unless there is one of its own.
pub const NETWORKS_ATTR: Attr = shown("qos_network_policy_id");

impl Noun for QosPolicy {
    const ONE: &'static str = "policy";
    const MANY: &'static str = "policies";

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        into.insert("shared".into(), json!(look.view().is_given(value)));
        into.insert("is_default".into(), json!(value.is_default));
        into.insert("rules".into(), json!(qos_rules::shown_with(value)));
    }

    standard!();

    fn create(plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble> {
        let policy = Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: body.text("name").unwrap_or_default(),
            description: body.text("description").unwrap_or_default(),
            is_default: body.bool("is_default").unwrap_or(false),
            rules: Vec::new(),
            tags: tags::checked(body.texts("tags").unwrap_or_default())?,
            created_at: ask.now,
            updated_at: ask.now,
        };
        check_default(plan, &policy)?;
        rbac_policies::give_all(plan, &policy, RbacAction::Shared, body.bool("shared"), ask.now);
        Ok(policy)
    }

    fn withdrawn(plan: &Plan, value: &Self, body: &Body) -> Vec<Key> {
        let unshared = body.bool("shared") == Some(false);
        if unshared { rbac_policies::for_all(plan, &value.key(), RbacAction::Shared) } else { Vec::new() }
    }

    fn update(plan: &mut Plan, ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        body.set_text("name", &mut value.name);
        body.set_text("description", &mut value.description);
        body.set_bool("is_default", &mut value.is_default);
        check_default(plan, value)?;
        if body.bool("shared") == Some(false) && !rbac_policies::unshare(plan, value) {
            return Err(Trouble::conflict(
                "RbacPolicyInUse",
                format!(
                    "RBAC policy on object {} cannot be removed because other objects depend on it.\nDetails: other projects use it",
                    value.id
                ),
            ));
        }
        rbac_policies::give_all(plan, value, RbacAction::Shared, body.bool("shared"), ask.now);
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Ask, value: Self) -> Result<(), Trouble> {
        // The claims of whoever has it say so too, for one that is given it meanwhile.
        match users(&plan.rows, &value.key()).next() {
            None => Ok(()),
            Some(User { kind, id, .. }) => {
                let message = format!("QoS Policy {} is used by {} {id}.", value.id, kind.as_str());
                Err(Trouble::conflict("QosPolicyInUse", message))
            }
        }
    }
}

/// Something that has a policy.
pub struct User {
    pub kind: Kind,
    pub id: String,
    pub project_id: String,
}

/// What has the policy. Looks through all there is: policies are changed seldom, and by administrators.
pub fn users<'a>(rows: &'a Snapshot, policy: &'a Key) -> impl Iterator<Item = User> + use<'a> {
    let has = move |of: &Option<Key>| of.as_ref() == Some(policy);
    let user = |kind, id: &str, project: &str| User { kind, id: id.to_owned(), project_id: project.to_owned() };
    let networks = rows.all::<Network>().map(|entry| entry.value).filter(move |network| has(&network.qos_policy));
    let ports = rows.all::<Port>().map(|entry| entry.value).filter(move |port| has(&port.qos_policy));
    let floating = rows.all::<FloatingIp>().map(|entry| entry.value).filter(move |floating| has(&floating.qos_policy));
    let networks = networks.map(move |network| user(Kind::Network, &network.id, &network.project_id));
    let routers = rows.all::<Router>().map(|entry| entry.value);
    let routers = routers.filter(move |router| router.gateway.as_ref().is_some_and(|gateway| has(&gateway.qos_policy)));
    let routers = routers.map(move |router| user(Kind::Router, &router.id, &router.project_id));
    let ports = ports.map(move |port| user(Kind::Port, &port.id, &port.project_id));
    networks
        .chain(ports)
        .chain(routers)
        .chain(floating.map(move |fip| user(Kind::FloatingIp, &fip.id, &fip.project_id)))
}

/// A project has one default at most; the claims say so too.
fn check_default(plan: &Plan, policy: &QosPolicy) -> Result<(), Trouble> {
    let other = default_of(plan, &policy.project_id).filter(|other| policy.is_default && *other != policy.key());
    match other {
        None => Ok(()),
        Some(_) => Err(Trouble::conflict(
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
pub fn set(plan: &mut Plan, ask: &Ask, body: &Body, field: &mut Option<Key>) -> Result<(), Trouble> {
    give(plan, ask, body.reference_or_null(ATTR.name), field)
}

/// The same where the policy is named elsewhere in the request; `Some(None)`: it is taken away.
pub fn give(
    plan: &mut Plan,
    ask: &Ask,
    given: Option<Option<Ref<QosPolicy>>>,
    field: &mut Option<Key>,
) -> Result<(), Trouble> {
    let Some(given) = given else { return Ok(()) };
    let new = match given {
        None => None,
        Some(id) => Some(referred(plan, ask, &id)?.key()),
    };
    if new == *field {
        return Ok(());
    }
    // What somebody who may more has limited stays so.
    let look = Look { rows: &plan.rows, who: &ask.who };
    let before = field.as_ref().and_then(|key| plan.rows.at::<QosPolicy>(key));
    if let Some(before) = before.filter(|before| !QosPolicy::sees(&look, before.value)) {
        let id = &before.value.id;
        let message = format!("Failed to remove provided policy {id} because you are not authorized.");
        return Err(Trouble::denied("PolicyRemoveAuthorizationError", message));
    }
    if let Some(key) = &new {
        // Shared by its attribute, it stays so until it is had.
        plan.hold::<QosPolicy>(&key.name);
    }
    *field = new;
    Ok(())
}

pub fn show(policy: Option<&Key>, name: &str, into: &mut Map<String, Value>) {
    into.insert(name.into(), json!(policy.map(|key| &*key.name)));
}

const TYPE_ATTRS: &[Attr] = &[shown("type")];

/// `GET /qos/rule-types`: those that hosts obey, whether all are asked for or those that all drivers have: there is one.
pub async fn rule_types(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let mut ask = Ask::read(call, false).await?;
        ask.query.retain(|(name, _)| name != "all_supported" && name != "all_rules");
        let types = RULE_TYPES.iter().map(|kind| Map::from_iter([("type".to_owned(), json!(kind))]));
        list::reply(&ask, Kind::QosPolicy, "rule_types", TYPE_ATTRS, types.collect())
    })
    .await
}

const RULE_TYPES: [&str; 2] = ["bandwidth_limit", "dscp_marking"];

/// `GET /qos/rule-types/{type}`
pub async fn rule_type(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, false).await?;
        let asked = ask.param("type");
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
                return Err(Trouble::missing("QosRuleTypeNotFound", message));
            }
        };
        let drivers = json!([{"name": "braid", "supported_parameters": parameters}]);
        Ok(Reply::ok(json!({"rule_type": {"type": asked, "drivers": drivers}})))
    })
    .await
}
