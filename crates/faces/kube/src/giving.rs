//! Who gives what to whom: nobody may give what they do not have. A role's author, or whoever binds it, must hold all its rules already,
//! or be allowed to `escalate` or `bind`.
//!
//! A rule is a product of its lists, and so are those that are held: what is compared has a bound, past which the answer is no.

use std::collections::BTreeSet;

use model::{Cluster, KubeObject, Snapshot};
use serde_json::{Value, json};

use crate::authz::{Attributes, Rules, Subject, allowed, permits, role};
use crate::fault::{Failure, Result};
use crate::names::qualified;
use crate::rule::{RBAC, entries};
use crate::strategy::items;

/// The most entries of held rules that are compared for one request.
const COMPARED: usize = 2_000_000;

/// Whether somebody may write a role or a binding.
pub fn may_give(snapshot: &Snapshot, cluster: &Cluster, who: &Subject, object: &KubeObject) -> Result<()> {
    if object.group != RBAC || who.is_master() {
        return Ok(());
    }
    let namespace = &object.namespace;
    let asking =
        |verb, resource, name| Attributes { verb, group: RBAC, resource, namespace, name, ..Default::default() };
    let given = if object.resource.ends_with("bindings") {
        let name = object.body["roleRef"]["name"].as_str().unwrap_or("");
        let plural = if object.body["roleRef"]["kind"] == "ClusterRole" { "clusterroles" } else { "roles" };
        if allowed(snapshot, cluster, who, &asking("bind", plural, name)) {
            return Ok(());
        }
        // Whoever makes it later would give it to the subjects, without having been asked.
        let message = || format!("{} {name:?} not found", qualified(RBAC, plural));
        role(snapshot, cluster, object).ok_or_else(|| Failure::new(404, "NotFound", message()))?
    } else {
        if allowed(snapshot, cluster, who, &asking("escalate", &object.resource, &object.name)) {
            return Ok(());
        }
        &object.body
    };
    let held = Held::new(Rules::of(snapshot, cluster, who, namespace));
    let mut left = COMPARED;
    let mut missing: Vec<&Value> = Vec::new();
    for rule in items(given, "rules") {
        match covered(rule, &held, &mut left) {
            Some(true) => {}
            Some(false) => missing.push(rule),
            None => return Err(refused(object, "the rules are too large to be compared with those of their author")),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        who.user,
        who.groups,
        json!(missing)
    );
    Err(refused(object, &why))
}

fn refused(object: &KubeObject, why: &str) -> Failure {
    let message = format!("{} {:?} is forbidden: {why}", qualified(RBAC, &object.resource), object.name);
    Failure::denied(message, RBAC, &object.resource, &object.name)
}

/// Rules that somebody has, each with its entries.
pub struct Held<'a>(Vec<(&'a Value, usize)>);

impl<'a> Held<'a> {
    pub fn new(rules: impl Iterator<Item = &'a Value>) -> Self {
        Self(rules.map(|rule| (rule, entries(rule))).collect())
    }

    /// Whether one of them gives this. What is compared is taken from what is `left`; `None` if that is not enough.
    fn gives(&self, what: &Attributes<'_>, left: &mut usize) -> Option<bool> {
        for (rule, size) in &self.0 {
            *left = left.checked_sub(*size)?;
            if permits(rule, what) {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Whether rules that are held give at least what a rule gives, piece by piece; `*` is only given by `*`. `None`: what is `left` to be
/// compared is not enough.
pub fn covered(rule: &Value, held: &Held<'_>, left: &mut usize) -> Option<bool> {
    let texts = |field: &str| -> BTreeSet<&str> { items(rule, field).filter_map(Value::as_str).collect() };
    let (verbs, groups, resources, mut names) =
        (texts("verbs"), texts("apiGroups"), texts("resources"), texts("resourceNames"));
    if names.is_empty() {
        names.insert("");
    }
    let paths = texts("nonResourceURLs");
    for verb in &verbs {
        for path in &paths {
            if !held.gives(&Attributes { verb, path, ..Default::default() }, left)? {
                return Some(false);
            }
        }
        for group in &groups {
            for entry in &resources {
                let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
                for name in &names {
                    let what = Attributes { verb, group, resource, subresource, name, ..Default::default() };
                    if !held.gives(&what, left)? {
                        return Some(false);
                    }
                }
            }
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gives(rule: &Value, held: &[&Value]) -> Option<bool> {
        let mut left = COMPARED;
        covered(rule, &Held::new(held.iter().copied()), &mut left)
    }

    #[test]
    fn only_all_gives_all() {
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        let pods = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]});
        assert_eq!(gives(&pods, &[&all]), Some(true));
        assert_eq!(gives(&all, &[&all]), Some(true));
        assert_eq!(gives(&all, &[&pods]), Some(false));
        assert_eq!(gives(&json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}), &[&pods]), Some(false));
    }

    #[test]
    fn what_is_compared_has_a_bound() {
        let many = |text: &str, n: usize| -> Vec<String> { (0..n).map(|i| format!("{text}{i}")).collect() };
        let rule = |n| {
            json!({"verbs": many("v", n), "apiGroups": many("g", n), "resources": many("r", n),
            "resourceNames": many("n", n)})
        };
        let mut left = COMPARED;
        assert_eq!(
            covered(&rule(300), &Held::new([&rule(300)].into_iter()), &mut left),
            None,
            "a product of four lists of 300"
        );
        assert_eq!(gives(&rule(8), &[&rule(8)]), Some(true));
        // What is said again is compared once.
        let again = json!({"verbs": vec!["get"; 300], "apiGroups": vec![""; 300], "resources": vec!["pods"; 300]});
        let mut left = COMPARED;
        assert_eq!(covered(&again, &Held::new([&again].into_iter()), &mut left), Some(true));
        assert_eq!(COMPARED - left, entries(&again), "one comparison");
    }
}
