//! What a principal may do in a cluster: project roles are one source of grants, RBAC objects the other.

use std::collections::HashSet;
use std::sync::LazyLock;

use gate::{Identity, Principal};
use model::{Cluster, Entry, Index, KubeObject, Snapshot};
use serde_json::Value;

use crate::fault::{Failure, Result};
use crate::names::qualified;
use crate::rows;
use crate::rule::{RBAC, entries};
use crate::strategy::items;

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// For what is no resource: the path. All others are empty then but for the verb.
    pub path: &'a str,
}

/// Who, as Kubernetes names people.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    pub identity: Identity,
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What the roles in the cluster's project give.
    pub grant: Grant,
    /// The name is lent by a trust, which lends roles: what is bound to the name itself is not.
    pub is_lent: bool,
}

/// What project roles give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    Nothing,
    View,
    Everything,
}

impl Subject {
    /// The principal as a cluster sees it.
    pub fn of(who: &Principal, cluster: &Cluster) -> Self {
        // A credential that is good in one cluster alone has no roles in the project.
        let ours = who.is_admin() || who.project_id() == Some(cluster.project_id.as_str());
        let grant = match who.kube_cluster {
            None if ours && who.is_member() => Grant::Everything,
            None if ours && who.is_reader() => Grant::View,
            _ => Grant::Nothing,
        };
        let (identity, user, uid) = (who.identity.clone(), who.kube_user(), who.user_id.clone());
        Self { identity, user, uid, groups: who.kube_groups.clone(), grant, is_lent: who.trust.is_some() }
    }

    /// Somebody who is only asked about.
    pub fn named(user: &str, groups: Vec<String>) -> Self {
        let account = user.strip_prefix(gate::SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
        let identity = match account {
            Some((namespace, name)) => {
                Identity::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
            }
            None if user.starts_with(gate::KEYSTONE) => Identity::Keystone,
            None => Identity::Certificate,
        };
        let (user, uid, grant, is_lent) = (user.to_owned(), String::new(), Grant::Nothing, false);
        Self { identity, user, uid, groups, grant, is_lent }
    }

    pub fn is_master(&self) -> bool {
        self.grant == Grant::Everything || self.groups.iter().any(|g| g == "system:masters")
    }
}

/// What the role `view` lets one read; neither secrets nor who may what.
static VIEW: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let [view, ..] = rows::given();
    view
});

fn viewed(what: &Attributes<'_>) -> bool {
    VIEW.iter().any(|rule| permits(rule, what))
}

/// What everybody with a valid credential may: look around and ask about themselves.
fn basic(what: &Attributes<'_>) -> bool {
    if !what.path.is_empty() {
        let open = ["/api", "/apis", "/openapi", "/healthz", "/livez", "/readyz", "/version"];
        return what.verb == "get"
            && open.iter().any(|o| what.path == *o || what.path.strip_prefix(o).is_some_and(|r| r.starts_with('/')));
    }
    what.verb == "create"
        && matches!(
            (what.group, what.resource),
            ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
                | ("authentication.k8s.io", "selfsubjectreviews")
        )
}

/// Whether the subject may.
pub fn allowed(snapshot: &Snapshot, cluster: &Cluster, who: &Subject, what: &Attributes<'_>) -> bool {
    judged(snapshot, cluster, who, what).is_ok()
}

/// Whether the subject may; if not, whether there may be more rules than were looked at.
fn judged(
    snapshot: &Snapshot,
    cluster: &Cluster,
    who: &Subject,
    what: &Attributes<'_>,
) -> std::result::Result<(), bool> {
    if who.is_master() || basic(what) || (who.grant == Grant::View && viewed(what)) {
        return Ok(());
    }
    let mut rules = Rules::of(snapshot, cluster, who, what.namespace);
    if rules.any(|rule| permits(rule, what)) { Ok(()) } else { Err(rules.is_cut()) }
}

/// The refusal of what the subject may not.
pub fn check(snapshot: &Snapshot, cluster: &Cluster, who: &Subject, what: &Attributes<'_>) -> Result<()> {
    let Err(is_cut) = judged(snapshot, cluster, who, what) else { return Ok(()) };
    if !what.path.is_empty() {
        let message = format!("forbidden: User {:?} cannot {} path {:?}", who.user, what.verb, what.path);
        return Err(Failure::denied(message, "", "", ""));
    }
    let resource = match what.subresource {
        "" => what.resource.to_owned(),
        subresource => format!("{}/{subresource}", what.resource),
    };
    let place = match what.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let object = if what.name.is_empty() { String::new() } else { format!(" {:?}", what.name) };
    let cut = if is_cut {
        format!("; it has more rules than the {ENTRIES} entries that are looked at")
    } else {
        String::new()
    };
    let message = format!(
        "{}{object} is forbidden: User {:?} cannot {} resource {resource:?} in API group {:?} {place}{cut}",
        qualified(what.group, what.resource),
        who.user,
        what.verb,
        what.group
    );
    Err(Failure::denied(message, what.group, what.resource, what.name))
}

/// How many entries (verbs, resources, names …) of a subject's rules are looked at: a check is done by the thread that serves all
/// clients. Whoever has more has what is in the first.
const ENTRIES: usize = 100_000;
/// What it costs to find a binding and its role, in entries.
const BINDING: usize = 10;

/// The rules that are bound to a subject in a place.
pub struct Rules<'a> {
    roles: Box<dyn Iterator<Item = &'a Value> + 'a>,
    rules: Box<dyn Iterator<Item = &'a Value> + 'a>,
    /// Each role counts once, by whatever number of bindings.
    seen: HashSet<*const Value>,
    left: usize,
}

impl<'a> Rules<'a> {
    /// Those in a namespace and in the whole cluster, or (empty) in the whole cluster alone.
    pub fn of(snapshot: &'a Snapshot, cluster: &'a Cluster, who: &'a Subject, namespace: &'a str) -> Self {
        let places = [Some(""), Some(namespace).filter(|namespace| !namespace.is_empty())].into_iter().flatten();
        let bindings = places.flat_map(move |place| {
            let keys = names(who).map(move |(kind, name)| KubeObject::bound(&cluster.id, place, kind, &name));
            keys.flat_map(move |key| snapshot.find::<KubeObject>(Index::Bound, &key))
        });
        let role = move |binding: Entry<'a, KubeObject>| role(snapshot, cluster, binding.value);
        let roles = Box::new(bindings.filter_map(role));
        Self { roles, rules: Box::new(std::iter::empty()), seen: HashSet::new(), left: ENTRIES }
    }

    /// There may be more, which were not looked at.
    pub fn is_cut(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Rules<'a> {
    type Item = &'a Value;
    fn next(&mut self) -> Option<&'a Value> {
        while self.left > 0 {
            if let Some(rule) = self.rules.next() {
                self.left = self.left.saturating_sub(entries(rule));
                return Some(rule);
            }
            let role = self.roles.next()?;
            self.left = self.left.saturating_sub(BINDING);
            if self.seen.insert(std::ptr::from_ref(role)) {
                self.rules = Box::new(items(role, "rules"));
            }
        }
        None
    }
}

/// The kinds and names by which bindings name somebody.
fn names(who: &Subject) -> impl Iterator<Item = (&'static str, String)> + use<'_> {
    // What is bound to a name is not lent with it.
    let user = (!who.is_lent).then(|| ("User", who.user.clone()));
    let account = match &who.identity {
        Identity::ServiceAccount { namespace, name } => Some(("ServiceAccount", format!("{namespace}:{name}"))),
        _ => None,
    };
    user.into_iter().chain(account).chain(who.groups.iter().map(|group| ("Group", group.clone())))
}

/// The role that a binding names.
pub fn role<'a>(snapshot: &'a Snapshot, cluster: &Cluster, binding: &KubeObject) -> Option<&'a Value> {
    let reference = &binding.body["roleRef"];
    let (plural, place) = match reference["kind"].as_str()? {
        "ClusterRole" => ("clusterroles", ""),
        _ => ("roles", &*binding.namespace),
    };
    let key = KubeObject::key_of(&cluster.id, RBAC, plural, place, reference["name"].as_str()?);
    snapshot.at::<KubeObject>(&key).map(|row| &row.value.body)
}

fn has(rule: &Value, field: &str, wanted: &str) -> bool {
    items(rule, field).any(|v| v == "*" || v == wanted)
}

/// Whether one rule lets one do this.
pub fn permits(rule: &Value, what: &Attributes<'_>) -> bool {
    if !has(rule, "verbs", what.verb) {
        return false;
    }
    if !what.path.is_empty() {
        return items(rule, "nonResourceURLs").filter_map(Value::as_str).any(|url| match url.strip_suffix('*') {
            Some(prefix) => what.path.starts_with(prefix),
            None => url == what.path,
        });
    }
    let resource = items(rule, "resources").filter_map(Value::as_str).any(|entry| match entry.split_once('/') {
        None => entry == "*" || (what.subresource.is_empty() && entry == what.resource),
        Some((resource, subresource)) => {
            !what.subresource.is_empty()
                && subresource == what.subresource
                && (resource == "*" || resource == what.resource)
        }
    });
    resource
        && has(rule, "apiGroups", what.group)
        && (items(rule, "resourceNames").len() == 0
            || (!what.name.is_empty() && items(rule, "resourceNames").any(|n| n == what.name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trust_lends_roles_and_not_what_is_bound_to_the_name() {
        let ann = Subject::named("openstack:default/ann", vec!["openstack:reader".into()]);
        let lent = Subject { is_lent: true, ..ann.clone() };
        let own = |who: &Subject| names(who).map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(own(&ann), ["User", "Group"]);
        assert_eq!(own(&lent), ["Group"]);
    }

    #[test]
    fn rules_permit() {
        let rule =
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"], "resourceNames": ["a"]});
        let what =
            |resource, subresource, name| Attributes { verb: "get", resource, subresource, name, ..Default::default() };
        assert!(permits(&rule, &what("pods", "", "a")));
        assert!(permits(&rule, &what("pods", "log", "a")));
        assert!(!permits(&rule, &what("pods", "exec", "a")));
        assert!(!permits(&rule, &what("pods", "", "b")));
        assert!(!permits(&rule, &what("pods", "", "")));
    }
}
