//! How much a rule of a role says. It stands by itself, since kinds bound it and checks of rights count it, which know the kinds.

use serde_json::Value;

use crate::strategy::items;

/// The group of roles and bindings.
pub const RBAC: &str = "rbac.authorization.k8s.io";

/// How many entries a rule has; a long one counts for several.
pub fn entries(rule: &Value) -> usize {
    let lists = ["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"];
    let texts = lists.iter().flat_map(|field| items(rule, field)).filter_map(Value::as_str);
    1 + texts.map(|text| 1 + text.len() / 64).sum::<usize>()
}
