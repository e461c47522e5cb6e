//! What a principal may do in a cluster: project roles are one source of grants, RBAC objects the other.

use std::sync::LazyLock;

use gate::{Identity, Principal};
use model::{Cluster, KubeObject, Realm, Snapshot};
use serde_json::{Value, json};

use crate::fault::{Failure, Result};
use crate::names::qualified;
use crate::rows;
use crate::strategy::items;

const RBAC: &str = "rbac.authorization.k8s.io";

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

    fn is_master(&self) -> bool {
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
    if who.is_master() || basic(what) || (who.grant == Grant::View && viewed(what)) {
        return true;
    }
    rules(snapshot, cluster, who, what.namespace).any(|rule| permits(rule, what))
}

/// The refusal of what the subject may not.
pub fn check(snapshot: &Snapshot, cluster: &Cluster, who: &Subject, what: &Attributes<'_>) -> Result<()> {
    if allowed(snapshot, cluster, who, what) {
        return Ok(());
    }
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
    let message = format!(
        "{}{object} is forbidden: User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        qualified(what.group, what.resource),
        who.user,
        what.verb,
        what.group
    );
    Err(Failure::denied(message, what.group, what.resource, what.name))
}

/// Every rule that is bound to the subject, in a namespace (or, empty, in the whole cluster).
pub fn rules<'a>(
    snapshot: &'a Snapshot,
    cluster: &'a Cluster,
    who: &'a Subject,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Value> {
    let everywhere = bindings(snapshot, cluster, "").map(|b| (b, ""));
    let here = (!namespace.is_empty()).then(|| bindings(snapshot, cluster, namespace).map(move |b| (b, namespace)));
    everywhere
        .chain(here.into_iter().flatten())
        .filter(move |(binding, place)| items(binding, "subjects").any(|s| is(s, who, place)))
        .filter_map(move |(binding, place)| role(snapshot, cluster, binding, place))
        .flat_map(|role| items(role, "rules"))
}

pub const CLUSTER_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings/";
pub const BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings/";

/// The bindings of a namespace, or (empty) of the whole cluster.
fn bindings<'a>(
    snapshot: &'a Snapshot,
    cluster: &Cluster,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Value> + use<'a> {
    let realm = Realm::cluster(&cluster.id);
    let (prefix, start) = match namespace {
        "" => (CLUSTER_BINDINGS, CLUSTER_BINDINGS.to_owned()),
        namespace => (BINDINGS, format!("{BINDINGS}{namespace}/")),
    };
    snapshot
        .names::<KubeObject>(&realm, prefix, Some(&start))
        .take_while(move |row| row.value.namespace == namespace)
        .map(|row| &row.value.body)
}

fn role<'a>(snapshot: &'a Snapshot, cluster: &Cluster, binding: &Value, namespace: &str) -> Option<&'a Value> {
    let reference = &binding["roleRef"];
    let (plural, place) = match reference["kind"].as_str()? {
        "ClusterRole" => ("clusterroles", ""),
        _ => ("roles", namespace),
    };
    let key = KubeObject::key_of(&cluster.id, RBAC, plural, place, reference["name"].as_str()?);
    snapshot.at::<KubeObject>(&key).map(|row| &row.value.body)
}

fn is(subject: &Value, who: &Subject, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or("");
    match subject["kind"].as_str() {
        Some("User") => !who.is_lent && name == who.user,
        Some("Group") => who.groups.iter().any(|g| g == name),
        Some("ServiceAccount") => {
            let place = subject["namespace"].as_str().unwrap_or(namespace);
            matches!(&who.identity, Identity::ServiceAccount { namespace, name: own } if namespace == place && own == name)
        }
        _ => false,
    }
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

/// Nobody may give what they do not have: a role's author, or whoever binds it, must hold all its rules already, or
/// be allowed to `escalate` or `bind`.
pub fn may_give(snapshot: &Snapshot, cluster: &Cluster, who: &Subject, object: &KubeObject) -> Result<()> {
    if object.group != RBAC || who.is_master() {
        return Ok(());
    }
    let asking = |verb, resource, name| Attributes {
        verb,
        group: RBAC,
        resource,
        namespace: &object.namespace,
        name,
        ..Default::default()
    };
    let given = if object.body["rules"].is_array() {
        if allowed(snapshot, cluster, who, &asking("escalate", &object.resource, &object.name)) {
            return Ok(());
        }
        &object.body
    } else {
        let name = object.body["roleRef"]["name"].as_str().unwrap_or("");
        let plural = if object.body["roleRef"]["kind"] == "ClusterRole" { "clusterroles" } else { "roles" };
        if allowed(snapshot, cluster, who, &asking("bind", plural, name)) {
            return Ok(());
        }
        match role(snapshot, cluster, &object.body, &object.namespace) {
            Some(role) => role,
            // Whoever makes it later would give it to the subjects, without having been asked.
            None => {
                let message = format!("{} {name:?} not found", qualified(RBAC, plural));
                return Err(Failure::new(404, "NotFound", message));
            }
        }
    };
    let missing: Vec<&Value> = items(given, "rules")
        .filter(|rule| !covered(rule, &rules(snapshot, cluster, who, &object.namespace).collect::<Vec<_>>()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} {:?} is forbidden: user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        qualified(RBAC, &object.resource),
        object.name,
        who.user,
        who.groups,
        json!(missing)
    );
    Err(Failure::denied(message, RBAC, &object.resource, &object.name))
}

/// Whether rules that are held give at least what a rule gives, piece by piece. `*` is only given by `*`.
pub fn covered(rule: &Value, held: &[&Value]) -> bool {
    let texts = |field: &str| -> Vec<&str> { items(rule, field).filter_map(Value::as_str).collect() };
    let names = match texts("resourceNames") {
        names if names.is_empty() => vec![""],
        names => names,
    };
    texts("verbs").into_iter().all(|verb| {
        let resources = texts("apiGroups").into_iter().all(|group| {
            texts("resources").into_iter().all(|entry| {
                let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
                names.iter().all(|name| {
                    let what = Attributes { verb, group, resource, subresource, name, ..Default::default() };
                    held.iter().any(|h| permits(h, &what))
                })
            })
        });
        let paths = texts("nonResourceURLs").into_iter().all(|path| {
            let what = Attributes { verb, path, ..Default::default() };
            held.iter().any(|h| permits(h, &what))
        });
        resources && paths
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_lends_roles_and_not_what_is_bound_to_the_name() {
        let ann = Subject::named("openstack:default/ann", vec!["openstack:reader".into()]);
        let lent = Subject { is_lent: true, ..ann.clone() };
        let (name, group) =
            (json!({"kind": "User", "name": ann.user}), json!({"kind": "Group", "name": "openstack:reader"}));
        assert!(is(&name, &ann, "n") && !is(&name, &lent, "n"));
        assert!(is(&group, &ann, "n") && is(&group, &lent, "n"));
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

    #[test]
    fn only_all_gives_all() {
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        let pods = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]});
        assert!(covered(&pods, &[&all]));
        assert!(covered(&all, &[&all]));
        assert!(!covered(&all, &[&pods]));
        assert!(!covered(&json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}), &[&pods]));
    }
}
