//! `/v3/users/{user_id}/access_rules`: the requests that a user's application credentials may make. Each rule is the user's
//! once, whatever number of credentials it is in, and stays when they go.
//!
//! Credentials of before have rules that are no rows; those are the user's as long as a credential has them.

use model::{AccessRule, AppCredential, Change, Fault, Index, Snapshot, free_place};
use serde_json::{Value, json};

use super::attrs::{self, Attr, By, KeystoneResource, field};
use super::wire::{get, invalid, only_self, self_or_admin, undelegated};
use crate::call::{Call, Reply};

/// The most access rules of one credential, and the most bytes of each text in one, as Keystone has it.
const MOST: usize = 100;
const LONGEST_TEXT: usize = 255;

/// A rule as a credential has it.
pub fn kept(rule: &AccessRule) -> Value {
    json!({"id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path})
}

/// The rules that a new credential of the caller's is to have. A rule can also be named by the id of one that the user has.
pub fn asked(call: &Call, asked: Option<&Value>) -> Result<Vec<AccessRule>, Fault> {
    let asked = match asked {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(asked)) => asked,
        Some(_) => return Err(invalid("access_rules", "it is not of type 'array'")),
    };
    // No rules are no restriction: clients that were told of none send an empty list.
    if asked.len() > MOST {
        return Err(invalid("access_rules", &format!("there are more than {MOST} of them")));
    }
    let mut known = rules_of(&call.snapshot, &call.who()?.user_id);
    asked.iter().map(|rule| one(call, rule, &mut known)).collect()
}

/// One of the rules that a body names; `known` are those that the user has or will have by then.
fn one(call: &Call, rule: &Value, known: &mut Vec<AccessRule>) -> Result<AccessRule, Fault> {
    let text = |field: &str| rule[field].as_str().map(str::to_owned);
    if let (Some(id), None) = (text("id"), text("path")) {
        let known = known.iter().find(|rule| rule.id == id).cloned();
        return known.ok_or_else(|| Fault::NotFound { what: "Access Rule".into(), id });
    }
    let (Some(service), Some(method), Some(path)) = (text("service"), text("method"), text("path")) else {
        return Err(invalid("access_rules", "every rule needs service, method and path"));
    };
    if service.len() > LONGEST_TEXT || path.len() > LONGEST_TEXT {
        return Err(invalid("access_rules", &format!("a rule has a text of more than {LONGEST_TEXT} bytes")));
    }
    if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) || !path.starts_with('/') {
        let (method, path) = (method.escape_debug(), path.escape_debug());
        return Err(invalid("access_rules", &format!("{method:.20} {path} is no rule")));
    }
    if let Some(same) = known.iter().find(|r| r.service == service && r.method == method && r.path == path) {
        return Ok(same.clone());
    }
    let user_id = call.who()?.user_id.clone();
    let rule = AccessRule { id: gate::new_id(), user_id, service, method, path, place: 0 };
    known.push(rule.clone());
    Ok(rule)
}

/// Writes those of the rules that are no rows yet.
pub fn keep(snapshot: &Snapshot, rules: &[AccessRule], change: &mut Change) -> Result<(), Fault> {
    let Some(first) = rules.first() else { return Ok(()) };
    let own = snapshot.find::<AccessRule>(Index::Owner, &first.user_id);
    let mut taken: Vec<u32> = own.map(|rule| rule.place).collect();
    let mut written: Vec<&str> = Vec::new();
    for rule in rules {
        if snapshot.get::<AccessRule>(&rule.id).is_some() || written.contains(&rule.id.as_str()) {
            continue;
        }
        let most = AccessRule::MOST;
        let place = free_place(taken.iter().copied(), most).ok_or_else(|| {
            Fault::Forbidden(format!("User {} has {most} access rules, the most there may be.", rule.user_id))
        })?;
        taken.push(place);
        written.push(&rule.id);
        change.create(AccessRule { place, ..rule.clone() });
    }
    Ok(())
}

/// The rules of a user, each once.
fn rules_of(snapshot: &Snapshot, user_id: &str) -> Vec<AccessRule> {
    let mut rules: Vec<AccessRule> =
        snapshot.find::<AccessRule>(Index::Owner, user_id).map(|rule| rule.value.clone()).collect();
    for credential in snapshot.find::<AppCredential>(Index::Owner, user_id) {
        for rule in &credential.access_rules {
            let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
            let id = text("id");
            if !rules.iter().any(|known| known.id == id) {
                let (service, method, path) = (text("service"), text("method"), text("path"));
                rules.push(AccessRule { id, user_id: user_id.to_owned(), service, method, path, place: 0 });
            }
        }
    }
    rules
}

impl KeystoneResource for AccessRule {
    const ONE: &'static str = "access_rule";
    const MANY: &'static str = "access_rules";
    const ATTRS: &'static [Attr<Self>] =
        &[field!(id), field!(service).by(By::Text), field!(method).by(By::Text), field!(path).by(By::Text)];

    fn path(&self) -> String {
        format!("users/{}/access_rules/{}", self.user_id, self.id)
    }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    only_self(&call, user_id, "list_access_rules")?;
    attrs::list(&call, rules_of(&call.snapshot, user_id).iter())
}

fn find(snapshot: &Snapshot, call: &Call) -> Result<AccessRule, Fault> {
    let id = call.param("access_rule_id");
    let rule = rules_of(snapshot, call.param("user_id")).into_iter().find(|rule| rule.id == id);
    rule.ok_or_else(|| Fault::NotFound { what: "Access Rule".into(), id: id.to_owned() })
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    only_self(&call, call.param("user_id"), "get_access_rule")?;
    let rule = find(&call.snapshot, &call)?;
    Ok(attrs::reply(&call, 200, &rule))
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    self_or_admin(&call, call.param("user_id"), "delete_access_rule")?;
    undelegated(&call, "delete_access_rule")?;
    let deleted = call.cloud.store.transact(|snapshot| {
        let rule = find(snapshot, &call)?;
        let mut own = snapshot.find::<AppCredential>(Index::Owner, &rule.user_id);
        if own.any(|credential| credential.access_rules.iter().any(|kept| kept["id"] == *rule.id)) {
            return Err(Fault::Forbidden(
                "Access rule is still in use by one or more application credentials. Delete those first.".into(),
            ));
        }
        let mut change = Change::new();
        change.delete(get::<AccessRule>(snapshot, &rule.id)?);
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(204))
}
