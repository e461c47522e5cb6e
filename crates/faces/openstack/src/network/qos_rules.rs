//! `/qos/policies/{id}/bandwidth_limit_rules` and `/dscp_marking_rules`, and the same by the rule's id alone, which Neutron
//! calls aliases. A rule is part of its policy's row; what has no endpoint here, such as minimum bandwidths, no host obeys.

use model::{DSCP_MARKS, Direction, Fault, Kind, QosEffect, QosPolicy, QosRule};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan};
use super::attrs::{Attr, Body, Is, free, shown, shown_value};
use super::list;
use super::noun::{Look, answer};
use super::trouble::{Trouble, not_found};
use crate::call::{Call, Reply};

/// The most of a number in a rule: what Neutron's database holds.
pub const MOST: i64 = i32::MAX as i64;

/// A sort of rules.
pub trait Sort: 'static {
    /// `bandwidth_limit_rule`
    const ONE: &'static str;
    /// What it is called by its id alone.
    const ALIAS: &'static str;
    const MANY: &'static str;
    const ATTRS: &'static [Attr];

    fn is(effect: &QosEffect) -> bool;
    /// The effect that a request asks for; what it does not name is as before.
    fn effect(body: &Body, before: Option<&QosEffect>) -> Result<QosEffect, Trouble>;
}

/// `/bandwidth_limit_rules`
pub struct BandwidthLimit;

impl Sort for BandwidthLimit {
    const ONE: &'static str = "bandwidth_limit_rule";
    const ALIAS: &'static str = "alias_bandwidth_limit_rule";
    const MANY: &'static str = "bandwidth_limit_rules";
    const ATTRS: &'static [Attr] = &[
        shown("id"),
        free("max_kbps", Is::Int(0, MOST)).required(),
        free("max_burst_kbps", Is::Int(0, MOST)),
        free("direction", Is::OneOf(&["egress", "ingress"])),
    ];

    fn is(effect: &QosEffect) -> bool {
        matches!(effect, QosEffect::BandwidthLimit { .. })
    }

    fn effect(body: &Body, before: Option<&QosEffect>) -> Result<QosEffect, Trouble> {
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
    const ATTRS: &'static [Attr] = &[shown("id"), free("dscp_mark", Is::Any).required()];

    fn is(effect: &QosEffect) -> bool {
        matches!(effect, QosEffect::DscpMarking { .. })
    }

    fn effect(body: &Body, before: Option<&QosEffect>) -> Result<QosEffect, Trouble> {
        let Some(given) = body.value("dscp_mark") else {
            return Ok(before.cloned().unwrap_or(QosEffect::DscpMarking { dscp_mark: 0 }));
        };
        let number = given.as_u64().or_else(|| given.as_str().and_then(|text| text.trim().parse().ok()));
        let mark = number.and_then(|number| u8::try_from(number).ok()).filter(|mark| DSCP_MARKS.contains(mark));
        let bad = || Trouble::attribute("dscp_mark", format!("'{}' is not in {DSCP_MARKS:?}", shown_value(given)));
        Ok(QosEffect::DscpMarking { dscp_mark: mark.ok_or_else(bad)? })
    }
}

fn show(policy: &QosPolicy, rule: &QosRule) -> Map<String, Value> {
    let effect = match &rule.effect {
        QosEffect::BandwidthLimit { max_kbps, max_burst_kbps, direction } => {
            json!({"max_kbps": max_kbps, "max_burst_kbps": max_burst_kbps, "direction": direction})
        }
        QosEffect::DscpMarking { dscp_mark } => json!({"dscp_mark": dscp_mark}),
    };
    let mut map = effect.as_object().cloned().unwrap_or_default();
    map.insert("id".into(), json!(rule.id));
    map.insert("qos_policy_id".into(), json!(policy.id));
    map
}

/// The rules of a policy, as the policy shows them.
pub fn shown_with(policy: &QosPolicy) -> Vec<Value> {
    let one = |rule: &QosRule| {
        let mut map = show(policy, rule);
        let kind = if BandwidthLimit::is(&rule.effect) { "bandwidth_limit" } else { "dscp_marking" };
        map.insert("type".into(), json!(kind));
        Value::Object(map)
    };
    policy.rules.iter().map(one).collect()
}

/// Rules by themselves are for the policy's owners; others who use the policy see them in it.
fn reads(look: &Look<'_>, policy: &QosPolicy) -> bool {
    look.who.is_admin() || look.view().owns(policy)
}

fn no_rule(rule: &str, policy: &str) -> Trouble {
    let message = format!("QoS rule {rule} for policy {policy} could not be found.");
    Trouble::missing("QosRuleNotFound", message)
}

/// Where in its policy the rule of the request's path is. Without a policy in the path it is looked for in all.
fn find<S: Sort>(rows: &model::Snapshot, ask: &Ask) -> Result<(QosPolicy, usize), Trouble> {
    let look = Look { rows, who: &ask.who };
    let (policy, id) = (ask.params.get("policy").map(|_| ask.param("policy")), ask.param("id"));
    let place = |policy: &QosPolicy| policy.rules.iter().position(|rule| rule.id == id && S::is(&rule.effect));
    let found = match policy {
        Some(policy) => {
            let policy = look.get::<QosPolicy>(policy).map_err(|_| not_found(Kind::QosPolicy, policy))?.value;
            place(policy).map(|at| (policy, at))
        }
        None => rows.all::<QosPolicy>().find_map(|entry| place(entry.value).map(|at| (entry.value, at))),
    };
    let found = found.filter(|(policy, _)| reads(&look, policy)).map(|(policy, at)| (policy.clone(), at));
    found.ok_or_else(|| no_rule(id, policy.unwrap_or("None")))
}

/// Under what name a rule is sent and shown.
fn word<S: Sort>(ask: &Ask) -> &'static str {
    if ask.params.contains_key("policy") { S::ONE } else { S::ALIAS }
}

/// `GET /qos/policies/{policy}/…_rules`
pub async fn list<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, false).await?;
        let look = Look { rows: &ask.snapshot, who: &ask.who };
        let id = ask.param("policy");
        let policy = look.get::<QosPolicy>(id).map_err(|_| not_found(Kind::QosPolicy, id))?.value;
        let rules = policy.rules.iter().filter(|rule| S::is(&rule.effect) && reads(&look, policy));
        let items = rules.map(|rule| show(policy, rule)).collect();
        list::reply(&ask, Kind::QosPolicy, S::MANY, S::ATTRS, items)
    })
    .await
}

/// `GET /qos/policies/{policy}/…_rules/{id}`
pub async fn show_one<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, false).await?;
        let (policy, at) = find::<S>(&ask.snapshot, &ask)?;
        let mut item = show(&policy, &policy.rules[at]);
        list::keep_fields(&ask, &mut item);
        Ok(Reply::ok(json!({ word::<S>(&ask): item })))
    })
    .await
}

/// `POST /qos/policies/{policy}/…_rules`
pub async fn create<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, true).await?;
        let body = Body::post(S::ATTRS, S::ONE, ask.body.get(S::ONE).unwrap_or(&Value::Null), true)?;
        let rule = QosRule { id: uuid::Uuid::new_v4().to_string(), effect: S::effect(&body, None)? };
        let item = ask
            .commit(|plan| {
                let id = ask.param("policy");
                let look = Look { rows: &plan.rows, who: &ask.who };
                let policy = look.get::<QosPolicy>(id).map_err(|_| not_found(Kind::QosPolicy, id))?;
                let mut policy = policy.value.clone();
                policy.rules.push(rule.clone());
                put::<S>(plan, &ask, policy, &rule)
            })
            .await?;
        Ok(Reply::json(201, &json!({ S::ONE: item })))
    })
    .await
}

/// `PUT /qos/policies/{policy}/…_rules/{id}`
pub async fn update<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, true).await?;
        let word = word::<S>(&ask);
        let body = Body::put(S::ATTRS, word, ask.body.get(word).unwrap_or(&Value::Null), true)?;
        let item = ask
            .commit(|plan| {
                let (mut policy, at) = find::<S>(&plan.rows, &ask)?;
                policy.rules[at].effect = S::effect(&body, Some(&policy.rules[at].effect))?;
                let rule = policy.rules[at].clone();
                put::<S>(plan, &ask, policy, &rule)
            })
            .await?;
        Ok(Reply::ok(json!({ word: item })))
    })
    .await
}

/// `DELETE /qos/policies/{policy}/…_rules/{id}`
pub async fn delete<S: Sort>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, false).await?;
        ask.commit(|plan| {
            let (mut policy, at) = find::<S>(&plan.rows, &ask)?;
            policy.rules.remove(at);
            policy.updated_at = ask.now;
            plan.put(policy);
            Ok(())
        })
        .await?;
        Ok(Reply::empty(204))
    })
    .await
}

/// Writes the policy with a rule that is new in it, if it goes with the others; the rule as it is shown.
fn put<S: Sort>(
    plan: &mut Plan,
    ask: &Ask,
    mut policy: QosPolicy,
    rule: &QosRule,
) -> Result<Map<String, Value>, Trouble> {
    let mut others = policy.rules.iter().filter(|other| other.id != rule.id);
    if let Some(other) = others.find(|other| other.effect.excludes(&rule.effect)) {
        let kind = S::ONE.trim_end_matches("_rule");
        let message =
            format!("Rule {kind} conflicts with rule {} which already exists in QoS Policy {}.", other.id, policy.id);
        return Err(Trouble::conflict("QoSRulesConflict", message));
    }
    drop(others);
    policy.updated_at = ask.now;
    let item = show(&policy, rule);
    plan.put(policy);
    Ok(item)
}
