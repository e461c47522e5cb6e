//! What the schemas of k8s-openapi leave out: the fields' numbers in protobuf, and how lists, maps and structs merge. It is
//! `upstream.txt`, which xtask makes of upstream's `generated.proto` files for every message of the stable versions: a
//! message a line, `!` for a struct that is owned and replaced as a whole, then each field by its number: `@` the message
//! whose fields stand in this one, or its JSON name and how it merges (`map/` keys, `set`, `atomic`, `merge/` key,
//! `retainKeys`). A list of which nothing is said is replaced as a whole.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A message of upstream's.
#[derive(Debug, Default)]
pub struct Message {
    /// One value to server-side apply.
    pub atomic: bool,
    pub slots: Vec<(u32, Slot)>,
}

/// What stands at a number.
#[derive(Debug)]
pub enum Slot {
    Field(&'static str, Rule),
    /// The message's fields are its parent's.
    Inline(&'static str),
}

/// How a field merges.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// `x-kubernetes-list-type`, for server-side apply.
    pub list: ListType,
    /// `x-kubernetes-list-map-keys`, of a list of type map.
    pub keys: Vec<&'static str>,
    /// The map is one value to server-side apply.
    pub atomic: bool,
    /// Strategic merge patch merges the list instead of replacing it, by this key (`x-kubernetes-patch-merge-key`) of its
    /// items; by the empty one lists of plain values.
    pub merge: Option<&'static str>,
    /// Strategic merge patch keeps only the keys that `$retainKeys` names.
    pub retain_keys: bool,
}

/// The topology of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
        let slots = fields.split(' ').filter_map(slot).collect();
        let atomic = name.ends_with('!');
        (name.trim_end_matches('!'), Message { atomic, slots })
    };
    include_str!("upstream.txt").lines().map(line).collect()
});

fn slot(word: &'static str) -> Option<(u32, Slot)> {
    let (number, field) = word.split_once('=')?;
    let slot = match field.strip_prefix('@') {
        Some(message) => Slot::Inline(message),
        None => {
            let mut parts = field.split(':');
            Slot::Field(parts.next()?, rule_of(parts))
        }
    };
    Some((number.parse().ok()?, slot))
}

fn rule_of(words: impl Iterator<Item = &'static str>) -> Rule {
    let mut rule = Rule::default();
    for word in words {
        let (what, keys) = word.split_once('/').unwrap_or((word, ""));
        match what {
            "map" => (rule.list, rule.keys) = (ListType::Map, keys.split('/').collect()),
            "set" => rule.list = ListType::Set,
            "atomic" => rule.atomic = true,
            "merge" => rule.merge = Some(keys),
            "retainKeys" => rule.retain_keys = true,
            _ => {}
        }
    }
    rule
}

/// A message by its definition: `io.k8s.api.core.v1.Pod`.
pub fn message(definition: &str) -> Option<&'static Message> {
    MESSAGES.get(definition)
}

/// How a field merges that stands in a message of this definition.
pub fn rule(definition: &str, field: &str) -> Rule {
    find(definition, field).cloned().unwrap_or_default()
}

fn find(definition: &str, field: &str) -> Option<&'static Rule> {
    message(definition)?.slots.iter().find_map(|(_, slot)| match slot {
        Slot::Field(name, rule) => (*name == field).then_some(rule),
        Slot::Inline(within) => find(within, field),
    })
}

/// Whether a struct is one value to server-side apply.
pub fn atomic(definition: &str) -> bool {
    message(definition).is_some_and(|message| message.atomic)
}

/// Defaults of list map keys that a client may leave out.
pub fn key_default(key: &str) -> Option<&'static str> {
    (key == "protocol").then_some("TCP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_merges_as_upstream_says() {
        let ports = rule("io.k8s.api.core.v1.EphemeralContainer", "ports");
        assert_eq!((ports.list, ports.merge), (ListType::Map, Some("containerPort")));
        assert_eq!(ports.keys, ["containerPort", "protocol"]);
        assert_eq!(rule("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers").merge, Some(""));
        assert!(rule("io.k8s.api.apps.v1.DeploymentSpec", "strategy").retain_keys);
        assert!(rule("io.k8s.api.core.v1.ServiceSpec", "selector").atomic);
        assert!(atomic("io.k8s.api.core.v1.SecretKeySelector") && !atomic("io.k8s.api.core.v1.Pod"));
    }
}
