//! Roles and role bindings, of namespaces and of the cluster. Whether their author may grant so much is for `authz`.

use k8s_openapi::api::rbac;
use serde_json::Value;

use crate::kind::{
    ApiResource,
    Given::{Admin, Nobody},
    WHOLE,
};
use crate::rule::{RBAC, entries};
use crate::strategy::{Column, Strategy, age_column, column, default, items, items_mut, name_column, wide};
use crate::validate::{Errors, NameRule, name_problem};

/// Why roles and bindings have no table.
const READ: &str = "who may what: every field is read by each check";

pub fn cluster_role() -> ApiResource {
    ApiResource::of::<rbac::v1::ClusterRole>(Role).given(Nobody(WHOLE)).no_table(READ)
}

pub fn cluster_role_binding() -> ApiResource {
    ApiResource::of::<rbac::v1::ClusterRoleBinding>(Binding).given(Nobody(WHOLE)).no_table(READ)
}

pub fn role() -> ApiResource {
    ApiResource::of::<rbac::v1::Role>(Role).given(Admin).no_table(READ)
}

pub fn role_binding() -> ApiResource {
    ApiResource::of::<rbac::v1::RoleBinding>(Binding).given(Admin).no_table(READ)
}

pub struct Role;
pub struct Binding;

/// The most entries of a role's rules (verbs, resources, names …): every check of whoever has the role goes through them.
const MOST_ENTRIES: usize = 10_000;
/// The most subjects of a binding, each of which it is found by.
const MOST_SUBJECTS: usize = 1_000;

impl Strategy for Role {
    fn name_rule(&self) -> NameRule {
        NameRule::Path
    }

    fn validate(&self, role: &Value, errors: &mut Errors) {
        if !role["aggregationRule"].is_null() {
            errors.forbidden("aggregationRule", "rules of other roles are not gathered here: name them in `rules`");
        }
        let entries: usize = items(role, "rules").map(entries).sum();
        if entries > MOST_ENTRIES {
            errors.too_many("rules", entries, MOST_ENTRIES);
        }
        for (i, rule) in items(role, "rules").enumerate() {
            let at = format!("rules[{i}]");
            if items(rule, "verbs").len() == 0 {
                errors.required(format!("{at}.verbs"), "verbs must contain at least one value");
            }
            if items(rule, "nonResourceURLs").len() > 0 {
                if role["kind"] == "Role" {
                    let detail = "namespaced rules cannot apply to non-resource URLs";
                    errors.invalid(format!("{at}.nonResourceURLs"), &rule["nonResourceURLs"], detail);
                }
                continue;
            }
            if items(rule, "apiGroups").len() == 0 {
                errors.required(format!("{at}.apiGroups"), "resource rules must supply at least one api group");
            }
            if items(rule, "resources").len() == 0 {
                errors.required(format!("{at}.resources"), "resource rules must supply at least one resource");
            }
        }
    }

    fn columns(&self) -> Vec<Column> {
        let created = column("Created At", |role, _| role["metadata"]["creationTimestamp"].clone());
        vec![name_column(), Column { kind: "date".into(), ..created }]
    }
}

/// To whom a binding gives its role.
fn subject(subject: &Value, at: &str, namespaced: bool, errors: &mut Errors) {
    let is_named = subject["name"].as_str().is_some_and(|name| !name.is_empty());
    if !is_named {
        errors.required(format!("{at}.name"), "");
    }
    let group = &subject["apiGroup"];
    match subject["kind"].as_str() {
        Some("ServiceAccount") => {
            let name = subject["name"].as_str().filter(|_| is_named);
            if let Some(detail) = name.and_then(|name| name_problem(NameRule::Subdomain, name)) {
                errors.invalid(format!("{at}.name"), &subject["name"], detail);
            }
            errors.one_of(format!("{at}.apiGroup"), group, &[""]);
            if !namespaced && subject["namespace"].is_null() {
                errors.required(format!("{at}.namespace"), "");
            }
        }
        Some("User" | "Group") => errors.one_of(format!("{at}.apiGroup"), group, &[RBAC]),
        _ => errors.unsupported(format!("{at}.kind"), &subject["kind"], &["ServiceAccount", "User", "Group"]),
    }
}

impl Strategy for Binding {
    fn name_rule(&self) -> NameRule {
        NameRule::Path
    }

    fn default(&self, binding: &mut Value) {
        if let Some(role) = binding.get_mut("roleRef") {
            default(role, "apiGroup", RBAC);
        }
        for subject in items_mut(binding, "subjects") {
            if let Some(subject) = subject.as_object_mut() {
                subject.retain(|field, value| !["apiGroup", "namespace"].contains(&field.as_str()) || value != "");
            }
            if subject["kind"] != "ServiceAccount" {
                default(subject, "apiGroup", RBAC);
            }
        }
    }

    fn validate(&self, binding: &Value, errors: &mut Errors) {
        errors.at_most(MOST_SUBJECTS, "subjects", &binding["subjects"]);
        let role = &binding["roleRef"];
        let kinds: &[&str] = if binding["kind"] == "RoleBinding" { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        errors.one_of("roleRef.apiGroup", &role["apiGroup"], &[RBAC]);
        if !role["kind"].as_str().is_some_and(|k| kinds.contains(&k)) {
            errors.unsupported("roleRef.kind", &role["kind"], kinds);
        }
        if role["name"].as_str().is_none_or(str::is_empty) {
            errors.required("roleRef.name", "");
        }
        for (i, given) in items(binding, "subjects").enumerate() {
            subject(given, &format!("subjects[{i}]"), binding["kind"] == "RoleBinding", errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if new["roleRef"] != old["roleRef"] {
            errors.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Role", |binding, _| {
                let role = &binding["roleRef"];
                format!("{}/{}", role["kind"].as_str().unwrap_or(""), role["name"].as_str().unwrap_or("")).into()
            }),
            age_column(),
            wide("Users", |binding, _| subjects(binding, "User")),
            wide("Groups", |binding, _| subjects(binding, "Group")),
            wide("ServiceAccounts", |binding, _| subjects(binding, "ServiceAccount")),
        ]
    }
}

/// The subjects of one kind, as one text.
fn subjects(binding: &Value, kind: &str) -> Value {
    let all: Vec<String> = items(binding, "subjects")
        .filter(|s| s["kind"] == kind)
        .map(|s| match s["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{}", s["name"].as_str().unwrap_or("")),
            None => s["name"].as_str().unwrap_or("").to_owned(),
        })
        .collect();
    all.join(", ").into()
}
