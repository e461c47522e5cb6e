//! `/qos/policies/{id}/bandwidth_limit_rules` and `/dscp_marking_rules`, and the same by the rule's id alone, which Neutron
//! calls aliases. A rule is part of its policy's row; what has no endpoint here, such as minimum bandwidths, no host obeys.

use super::attrs::{Attr, Is, Item, ruled, shown};
use super::body::{Attributes, shown_value};
use super::error::{NeutronError, not_found};
use super::list::{self, Listed, Rendered};
use super::request::{Plan, Request};
use super::resource::{self, answer};
use super::rules::way;
use crate::json::{Json, Named};
use gate::View;
use model::{DSCP_MARKS, Direction, Fault, Kind, QosEffect, QosPolicy, QosRule};
use serde_json::Value;

use crate::call::{Call, Reply};

/// The most of a number in a rule: what Neutron's database holds.
pub const MOST: i64 = i32::MAX as i64;

/// A rule with its policy.
pub struct PolicyRule {
    policy_id: String,
    rule: QosRule,
}

impl PolicyRule {
    fn new(policy: &QosPolicy, rule: &QosRule) -> Self {
        Self { policy_id: policy.id.clone(), rule: rule.clone() }
    }

    fn id<'a>(_view: &View<'a>, value: &'a Self) -> Json<'a> {
        (&value.rule.id).into()
    }

    fn policy_id<'a>(_view: &View<'a>, value: &'a Self) -> Json<'a> {
        (&value.policy_id).into()
    }

    /// Rate, burst and direction of a limit.
    fn limit(&self) -> Option<(u32, u32, &'static str)> {
        match &self.rule.effect {
            QosEffect::BandwidthLimit { max_kbps, max_burst_kbps, direction } => {
                Some((*max_kbps, *max_burst_kbps, way(*direction)))
            }
            QosEffect::DscpMarking { .. } => None,
        }
    }

    fn mark(&self) -> Option<u8> {
        match &self.rule.effect {
            QosEffect::DscpMarking { dscp_mark } => Some(*dscp_mark),
            QosEffect::BandwidthLimit { .. } => None,
        }
    }

    fn item(&self) -> Item<'_, Self> {
        Item { id: &self.rule.id, revision: 0, value: self }
    }
}

/// A sort of rules.
pub trait Sort: 'static {
    /// `bandwidth_limit_rule`
    const ONE: &'static str;
    /// What it is called by its id alone.
    const ALIAS: &'static str;
    const MANY: &'static str;
    const ATTRS: &'static [Attr<PolicyRule>];

    fn is(effect: &QosEffect) -> bool;
    /// The effect that a request asks for; what it does not name is as before.
    fn effect(body: &Attributes, before: Option<&QosEffect>) -> Result<QosEffect, NeutronError>;
}

/// `/bandwidth_limit_rules`
pub struct BandwidthLimit;

impl Sort for BandwidthLimit {
    const ONE: &'static str = "bandwidth_limit_rule";
    const ALIAS: &'static str = "alias_bandwidth_limit_rule";
    const MANY: &'static str = "bandwidth_limit_rules";
    const ATTRS: &'static [Attr<PolicyRule>] = &[
        shown("id", PolicyRule::id),
        shown("qos_policy_id", PolicyRule::policy_id),
        ruled::<PolicyRule>("max_kbps", Is::Int(0, MOST), |_, rule| rule.limit().map(|(kbps, ..)| kbps).into())
            .required(),
        ruled("max_burst_kbps", Is::Int(0, MOST), |_, rule| rule.limit().map(|(_, burst, _)| burst).into()),
        ruled("direction", Is::OneOf(&["egress", "ingress"]), |_, rule| rule.limit().map(|(.., way)| way).into()),
    ];

    fn is(effect: &QosEffect) -> bool {
        matches!(effect, QosEffect::BandwidthLimit { .. })
    }

    fn effect(body: &Attributes, before: Option<&QosEffect>) -> Result<QosEffect, NeutronError> {
        let (mut kbps, mut burst, mut way) = (0, 0, Direction::Egress);
        if let Some(QosEffect::BandwidthLimit { max_kbps, max_burst_kbps, direction }) = before {
            (kbps, burst, way) = (*max_kbps, *max_burst_kbps, *direction);
        }
        let number = |name: &str, before: u32| body.int(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(before);
        let direction = match body.text("direction").as_deref() {
            Some("ingress") => Direction::Ingress,
            Some(_) => Direction::Egress,
            None => way,
        };
        let (max_kbps, max_burst_kbps) = (number("max_kbps", kbps), number("max_burst_kbps", burst));
        Ok(QosEffect::BandwidthLimit { max_kbps, max_burst_kbps, direction })
    }
}

/// `/dscp_marking_rules`
pub struct DscpMarking;

impl Sort for DscpMarking {
    const ONE: &'static str = "dscp_marking_rule";
    const ALIAS: &'static str = "alias_dscp_marking_rule";
    const MANY: &'static str = "dscp_marking_rules";
    const ATTRS: &'static [Attr<PolicyRule>] = &[
        shown("id", PolicyRule::id),
        shown("qos_policy_id", PolicyRule::policy_id),
        ruled::<PolicyRule>("dscp_mark", Is::Any, |_, rule| rule.mark().into()).required(),
    ];

    fn is(effect: &QosEffect) -> bool {
        matches!(effect, QosEffect::DscpMarking { .. })
    }

    fn effect(body: &Attributes, before: Option<&QosEffect>) -> Result<QosEffect, NeutronError> {
        let Some(given) = body.value("dscp_mark") else {
            return Ok(before.cloned().unwrap_or(QosEffect::DscpMarking { dscp_mark: 0 }));
        };
        let number = given.as_u64().or_else(|| given.as_str().and_then(|text| text.trim().parse().ok()));
        let mark = number.and_then(|number| u8::try_from(number).ok()).filter(|mark| DSCP_MARKS.contains(mark));
        let bad = || NeutronError::attribute("dscp_mark", format!("'{}' is not in {DSCP_MARKS:?}", shown_value(given)));
        Ok(QosEffect::DscpMarking { dscp_mark: mark.ok_or_else(bad)? })
    }
}

/// The rules of a policy, as the policy shows them.
pub fn shown_with(policy: &QosPolicy) -> Json<'_> {
    Json::list(policy.rules.iter().map(|rule| {
        let (id, policy) = (("id", (&rule.id).into()), ("qos_policy_id", (&policy.id).into()));
        match &rule.effect {
            QosEffect::BandwidthLimit { max_kbps, max_burst_kbps, direction } => Json::object([
                id,
                policy,
                ("type", "bandwidth_limit".into()),
                ("max_kbps", max_kbps.into()),
                ("max_burst_kbps", max_burst_kbps.into()),
                ("direction", way(*direction).into()),
            ]),
            QosEffect::DscpMarking { dscp_mark } => {
                Json::object([id, policy, ("type", "dscp_marking".into()), ("dscp_mark", dscp_mark.into())])
            }
        }
    }))
}

/// The reply that shows one rule.
fn shown_alone<S: Sort>(request: &Request, status: u16, word: &'static str, rule: &PolicyRule) -> Reply {
    let view = View::new(&request.snapshot, &request.who);
    let attrs = list::chosen(request, S::ATTRS);
    Reply::json(status, &Named(word, Rendered { view: &view, attrs: &attrs, item: rule.item() }))
}

/// Rules by themselves are for the policy's owners; others who use the policy see them in it.
fn reads(view: &View<'_>, policy: &QosPolicy) -> bool {
    view.who.is_admin() || view.owns(policy)
}

fn no_rule(rule: &str, policy: &str) -> NeutronError {
    let message = format!("QoS rule {rule} for policy {policy} could not be found.");
    NeutronError::missing("QosRuleNotFound", message)
}

/// Where in its policy the rule of the request's path is. Without a policy in the path it is looked for in all.
fn find<S: Sort>(rows: &model::Snapshot, request: &Request) -> Result<(QosPolicy, usize), NeutronError> {
    let view = View::new(rows, &request.who);
    let (policy, id) = (request.params.get("policy").map(|_| request.param("policy")), request.param("id"));
    let place = |policy: &QosPolicy| policy.rules.iter().position(|rule| rule.id == id && S::is(&rule.effect));
    let found = match policy {
        Some(policy) => {
            let policy =
                resource::get::<QosPolicy>(&view, policy).map_err(|_| not_found(Kind::QosPolicy, policy))?.value;
            place(policy).map(|at| (policy, at))
        }
        None => rows.all::<QosPolicy>().find_map(|entry| place(entry.value).map(|at| (entry.value, at))),
    };
    let found = found.filter(|(policy, _)| reads(&view, policy)).map(|(policy, at)| (policy.clone(), at));
    found.ok_or_else(|| no_rule(id, policy.unwrap_or("None")))
}

/// Under what name a rule is sent and shown.
fn word<S: Sort>(request: &Request) -> &'static str {
    if request.params.contains_key("policy") { S::ONE } else { S::ALIAS }
}

/// `GET /qos/policies/{policy}/…_rules`
pub async fn list<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let view = View::new(&request.snapshot, &request.who);
        let id = request.param("policy");
        let policy = resource::get::<QosPolicy>(&view, id).map_err(|_| not_found(Kind::QosPolicy, id))?.value;
        let rules = policy.rules.iter().filter(|rule| S::is(&rule.effect) && reads(&view, policy));
        let rules: Vec<PolicyRule> = rules.map(|rule| PolicyRule::new(policy, rule)).collect();
        let listed = Listed { kind: Kind::QosPolicy, many: S::MANY, attrs: S::ATTRS };
        let filters = listed.filters(&request)?;
        listed.reply(&request, &view, &filters, rules.iter().map(PolicyRule::item))
    })
    .await
}

/// `GET /qos/policies/{policy}/…_rules/{id}`
pub async fn show_one<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let (policy, at) = find::<S>(&request.snapshot, &request)?;
        let rule = PolicyRule::new(&policy, &policy.rules[at]);
        Ok(shown_alone::<S>(&request, 200, word::<S>(&request), &rule))
    })
    .await
}

/// `POST /qos/policies/{policy}/…_rules`
pub async fn create<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let body = Attributes::post(S::ATTRS, S::ONE, request.body.get(S::ONE).unwrap_or(&Value::Null), true)?;
        let rule = QosRule { id: uuid::Uuid::new_v4().to_string(), effect: S::effect(&body, None)? };
        let rule = request
            .commit(|plan| {
                let id = request.param("policy");
                let view = View::new(&plan.rows, &request.who);
                let policy = resource::get::<QosPolicy>(&view, id).map_err(|_| not_found(Kind::QosPolicy, id))?;
                let mut policy = policy.value.clone();
                policy.rules.push(rule.clone());
                put::<S>(plan, &request, policy, &rule)
            })
            .await?;
        Ok(shown_alone::<S>(&request, 201, S::ONE, &rule))
    })
    .await
}

/// `PUT /qos/policies/{policy}/…_rules/{id}`
pub async fn update<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let word = word::<S>(&request);
        let body = Attributes::put(S::ATTRS, word, request.body.get(word).unwrap_or(&Value::Null), true)?;
        let rule = request
            .commit(|plan| {
                let (mut policy, at) = find::<S>(&plan.rows, &request)?;
                policy.rules[at].effect = S::effect(&body, Some(&policy.rules[at].effect))?;
                let rule = policy.rules[at].clone();
                put::<S>(plan, &request, policy, &rule)
            })
            .await?;
        Ok(shown_alone::<S>(&request, 200, word, &rule))
    })
    .await
}

/// `DELETE /qos/policies/{policy}/…_rules/{id}`
pub async fn delete<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        request
            .commit(|plan| {
                let (mut policy, at) = find::<S>(&plan.rows, &request)?;
                policy.rules.remove(at);
                policy.updated_at = request.now;
                plan.put(policy);
                Ok(())
            })
            .await?;
        Ok(Reply::empty(204))
    })
    .await
}

/// Writes the policy with a rule that is new in it, if it goes with the others; the rule with it.
fn put<S: Sort>(
    plan: &mut Plan,
    request: &Request,
    mut policy: QosPolicy,
    rule: &QosRule,
) -> Result<PolicyRule, NeutronError> {
    let mut others = policy.rules.iter().filter(|other| other.id != rule.id);
    if let Some(other) = others.find(|other| other.effect.excludes(&rule.effect)) {
        let kind = S::ONE.trim_end_matches("_rule");
        let message =
            format!("Rule {kind} conflicts with rule {} which already exists in QoS Policy {}.", other.id, policy.id);
        return Err(NeutronError::conflict("QoSRulesConflict", message));
    }
    drop(others);
    policy.updated_at = request.now;
    let shown = PolicyRule::new(&policy, rule);
    plan.put(policy);
    Ok(shown)
}
