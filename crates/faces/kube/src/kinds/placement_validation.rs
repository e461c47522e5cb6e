//! The rules of what a pod says of its place: affinity between pods, spreading over topologies.

use std::collections::HashSet;

use serde_json::Value;

use crate::strategy::items;
use crate::validate::{self, Errors, key_problem};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The `affinity` between pods and the `topologySpreadConstraints` of a pod's specification at `at`.
pub fn check(spec: &Value, at: &str, errors: &mut Errors) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (affinity, at) = (&spec["affinity"][kind], format!("{at}.affinity.{kind}"));
        for (i, term) in items(affinity, REQUIRED).enumerate() {
            self::term(term, &format!("{at}.{REQUIRED}[{i}]"), errors);
        }
        for (i, preferred) in items(affinity, PREFERRED).enumerate() {
            let at = format!("{at}.{PREFERRED}[{i}]");
            if preferred["weight"].as_i64().is_none_or(|weight| !(1..=100).contains(&weight)) {
                errors.invalid(format!("{at}.weight"), &preferred["weight"], "must be in the range 1-100");
            }
            self::term(&preferred["podAffinityTerm"], &format!("{at}.podAffinityTerm"), errors);
        }
    }
    spread(spec, &format!("{at}.topologySpreadConstraints"), errors);
}

fn term(term: &Value, at: &str, errors: &mut Errors) {
    topology_key(term, at, errors);
    selector(term, at, errors);
    validate::label_selector(&term["namespaceSelector"], &format!("{at}.namespaceSelector"), errors);
    for (i, name) in items(term, "namespaces").enumerate() {
        if let Some(problem) = name.as_str().and_then(|name| validate::name_problem(validate::NameRule::Label, name)) {
            errors.invalid(format!("{at}.namespaces[{i}]"), name, problem);
        }
    }
}

fn topology_key(value: &Value, at: &str, errors: &mut Errors) {
    let key = &value["topologyKey"];
    match key.as_str() {
        None | Some("") => errors.required(format!("{at}.topologyKey"), "can not be empty"),
        Some(text) => {
            if let Some(problem) = key_problem(text) {
                errors.invalid(format!("{at}.topologyKey"), key, problem);
            }
        }
    }
}

fn selector(value: &Value, at: &str, errors: &mut Errors) {
    validate::label_selector(&value["labelSelector"], &format!("{at}.labelSelector"), errors);
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        for (i, key) in items(value, field).enumerate() {
            let at = format!("{at}.{field}[{i}]");
            if !value["labelSelector"].is_object() {
                errors.forbidden(at.clone(), "must not be specified when labelSelector is not set");
            }
            if let Some(problem) = key.as_str().and_then(key_problem) {
                errors.invalid(at, key, problem);
            }
        }
    }
}

fn spread(spec: &Value, at: &str, errors: &mut Errors) {
    let mut pairs = HashSet::new();
    for (i, constraint) in items(spec, "topologySpreadConstraints").enumerate() {
        let at = format!("{at}[{i}]");
        if constraint["maxSkew"].as_i64().is_none_or(|n| n < 1) {
            errors.invalid(format!("{at}.maxSkew"), &constraint["maxSkew"], "must be greater than zero");
        }
        topology_key(constraint, &at, errors);
        let action = &constraint["whenUnsatisfiable"];
        if action.as_str().is_none_or(str::is_empty) {
            errors.required(format!("{at}.whenUnsatisfiable"), "");
        } else {
            errors.one_of(format!("{at}.whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        if !pairs.insert((constraint["topologyKey"].as_str(), action.as_str())) {
            errors.duplicate(format!("{at}.{{topologyKey, whenUnsatisfiable}}"), constraint);
        }
        if let Some(domains) = constraint["minDomains"].as_i64() {
            if domains < 1 {
                errors.invalid(format!("{at}.minDomains"), &constraint["minDomains"], "must be greater than zero");
            }
            if action == "ScheduleAnyway" {
                let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                errors.invalid(format!("{at}.minDomains"), &constraint["minDomains"], detail);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.one_of(format!("{at}.{policy}"), &constraint[policy], &["Honor", "Ignore"]);
        }
        selector(constraint, &at, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(spec: Value) -> Vec<String> {
        let mut errors = Errors::default();
        check(&spec, "spec", &mut errors);
        errors.into_causes().iter().map(|cause| format!("{cause:?}")).collect()
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let term = json!({"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"});
        let affinity = |kind: &str, term: &Value| json!({"affinity": {kind: {REQUIRED: [term]}}});
        assert!(said(affinity("podAntiAffinity", &term)).is_empty());
        let refused = said(affinity("podAffinity", &json!({"matchLabelKeys": ["x"]})));
        assert!(refused.len() == 2 && refused.iter().any(|e| e.contains("topologyKey")), "{refused:?}");
        let preferred = json!([{"weight": 101, "podAffinityTerm": term}]);
        assert_eq!(said(json!({"affinity": {"podAffinity": {PREFERRED: preferred}}})).len(), 1);
        let constraint = |more: Value| {
            let mut one = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            said(json!({"topologySpreadConstraints": [one]}))
        };
        assert!(constraint(json!({"nodeTaintsPolicy": "Honor"})).is_empty());
        for wrong in [
            json!({"maxSkew": 0}),
            json!({"topologyKey": ""}),
            json!({"whenUnsatisfiable": "Perhaps"}),
            json!({"minDomains": 2}),
            json!({"nodeTaintsPolicy": "Maybe"}),
        ] {
            assert_eq!(constraint(wrong.clone()).len(), 1, "{wrong}");
        }
        let same = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        assert_eq!(said(json!({"topologySpreadConstraints": [same, same]})).len(), 1);
    }
}
