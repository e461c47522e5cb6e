//! Who is asked about a write: the rules, selectors and policies of webhooks.

use model::{Entry, KubeObject, Realm, Snapshot};
use serde_json::Value;

use super::{Author, Review};
use crate::kind::ApiResource;
use crate::selectors::LabelSelector;
use crate::strategy::items;

/// The group of those who ask.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// A webhook that is asked.
pub struct Asked<'a> {
    pub hook: &'a Value,
    pub place: Place<'a>,
}

/// As what a rule sees the resource: itself, or another version of it.
pub struct Place<'a> {
    pub kind: &'a ApiResource,
}

impl Asked<'_> {
    pub fn name(&self) -> &str {
        self.hook["name"].as_str().unwrap_or("")
    }
}

/// The configurations of a cluster, by name.
pub fn configurations<'s>(
    cluster: &str,
    snapshot: &'s Snapshot,
) -> impl Iterator<Item = Entry<'s, KubeObject>> + use<'s> {
    let prefix = KubeObject::prefix(GROUP, "validatingwebhookconfigurations", "");
    let realm = Realm::cluster(cluster);
    snapshot.names::<KubeObject>(&realm, &prefix, None).filter(|entry| !entry.value.deleting())
}

/// The webhooks that are asked about a write.
pub fn asked<'s>(author: &'s Author<'_>, snapshot: &'s Snapshot, review: &Review) -> Vec<Asked<'s>> {
    let hooks = configurations(&author.cluster.id, snapshot).flat_map(|entry| items(&entry.value.body, "webhooks"));
    hooks
        .filter_map(|hook| Some(Asked { hook, place: place(author, hook, review)? }))
        .filter(|asked| selects(author, snapshot, asked.hook, review))
        .collect()
}

/// As what the rules of a webhook see the resource, if they do.
fn place<'s>(author: &'s Author<'_>, hook: &Value, review: &Review) -> Option<Place<'s>> {
    let own = author.kind;
    let fits = |kind: &ApiResource| items(hook, "rules").any(|rule| matches(rule, kind, review));
    if fits(own) {
        return Some(Place { kind: own });
    }
    // The same objects may be there in other versions and groups.
    let equivalent = hook["matchPolicy"] != "Exact";
    let mut others = author.kinds.iter().filter(|kind| equivalent && kind.stored == own.stored);
    others.find(|kind| fits(kind)).map(|kind| Place { kind })
}

fn matches(rule: &Value, kind: &ApiResource, review: &Review) -> bool {
    let has = |field: &str, wanted: &str| items(rule, field).any(|value| value == "*" || value == wanted);
    let scope = match rule["scope"].as_str() {
        Some("Cluster") => review.namespace.is_empty(),
        Some("Namespaced") => !review.namespace.is_empty(),
        _ => true,
    };
    let resource = items(rule, "resources").filter_map(Value::as_str).any(|entry| {
        let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
        (resource == "*" || resource == kind.plural) && (subresource == "*" || subresource == review.subresource)
    });
    scope
        && resource
        && has("operations", review.operation)
        && has("apiGroups", &kind.group)
        && has("apiVersions", &kind.version)
}

/// Whether the webhook's selectors are for the namespace and for the object, as it was or as it will be.
fn selects(author: &Author<'_>, snapshot: &Snapshot, hook: &Value, review: &Review) -> bool {
    let objects = LabelSelector::of(&hook["objectSelector"]);
    let labels = |body: &Value| objects.matches(&body["metadata"]["labels"]);
    let there = [&review.object, &review.old].into_iter().any(|body| body.is_object() && labels(body));
    if !objects.is_empty() && !there {
        return false;
    }
    let spaces = LabelSelector::of(&hook["namespaceSelector"]);
    if spaces.is_empty() {
        return true;
    }
    // A namespace is selected by its own labels; what is in none, always.
    if author.kind.strategy.is_place() {
        return [&review.object, &review.old].into_iter().any(|body| spaces.matches(&body["metadata"]["labels"]));
    }
    if review.namespace.is_empty() {
        return true;
    }
    let key = KubeObject::key_of(&author.cluster.id, "", "namespaces", "", &review.namespace);
    snapshot.at::<KubeObject>(&key).is_none_or(|space| spaces.matches(&space.value.body["metadata"]["labels"]))
}
