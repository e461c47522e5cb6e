//! The first rows of a cluster: what every client takes for granted.

use std::net::IpAddr;

use model::{Cluster, KubeObject, Time};
use serde_json::{Value, json};

use crate::kind::{ApiResource, Given};
use crate::kinds::service;
use crate::known::Kinds;
use crate::meta;
use crate::registry;

const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// The rows that a new cluster begins with: namespaces with their default service accounts, the service `kubernetes`,
/// and the cluster roles that people bind. To be created with the Cluster row, in one commit.
pub fn cluster_rows(cluster: &Cluster, now: Time) -> Vec<KubeObject> {
    let (kinds, mut rows) = (Kinds::built_in(), Vec::new());
    let mut add = |group, version, plural, namespace: &str, name: &str, rest: Value| {
        if let Some(kind) = kinds.find(group, version, plural) {
            rows.push(row(cluster, kind, namespace, name, rest, now));
        }
    };
    for name in NAMESPACES {
        let rest = json!({
            "metadata": {"labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}
        });
        add("", "v1", "namespaces", "", name, rest);
        add("", "v1", "serviceaccounts", name, "default", json!({}));
    }
    let address = service::first_address(cluster);
    let family = if matches!(cluster.service_base, IpAddr::V4(_)) { "IPv4" } else { "IPv6" };
    let spec = json!({
        "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": [family],
        "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
    });
    let labels = json!({"labels": {"component": "apiserver", "provider": "kubernetes"}});
    add(
        "",
        "v1",
        "services",
        "default",
        "kubernetes",
        json!({"metadata": labels, "spec": spec, "status": {"loadBalancer": {}}}),
    );
    for (name, rules) in roles() {
        let labels = json!({"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}});
        add("rbac.authorization.k8s.io", "v1", "clusterroles", "", name, json!({"metadata": labels, "rules": rules}));
    }
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:masters"}]
    });
    add("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "", "cluster-admin", binding);
    rows
}

fn row(cluster: &Cluster, kind: &ApiResource, namespace: &str, name: &str, mut body: Value, now: Time) -> KubeObject {
    body["kind"] = kind.kind.as_str().into();
    body["apiVersion"] = kind.api_version().into();
    let meta = meta::of(&mut body);
    meta.insert("name".to_owned(), name.into());
    if !namespace.is_empty() {
        meta.insert("namespace".to_owned(), namespace.into());
    }
    let uid = model::derived_id(&[&cluster.id, &kind.group, &kind.plural, namespace, name]);
    meta.insert("uid".to_owned(), uid.into());
    meta.insert("creationTimestamp".to_owned(), meta::stamp(now).into());
    KubeObject {
        cluster_id: cluster.id.clone(),
        project_id: cluster.project_id.clone(),
        group: kind.group.clone(),
        resource: kind.plural.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        body,
    }
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// The rules of the roles `view`, `edit` and `admin` (each without what the one before gives), as the kinds say.
pub fn given() -> [Vec<Value>; 3] {
    let [mut view, mut edit, mut admin] = [const { Vec::new() }; 3];
    let rule = |kind: &ApiResource, resource: &str, verbs: &[&str]| json!({"apiGroups": [kind.group], "resources": [resource], "verbs": verbs});
    for kind in registry::built_in() {
        let status = format!("{}/status", kind.plural);
        let all = if kind.review { vec!["create"] } else { [READ, WRITE].concat() };
        match kind.given {
            Given::View | Given::Read => {
                view.push(rule(kind, &kind.plural, READ));
                view.extend(kind.status.then(|| rule(kind, &status, READ)));
                edit.extend((kind.given == Given::View).then(|| rule(kind, &kind.plural, WRITE)));
            }
            Given::Edit => edit.push(rule(kind, &kind.plural, &all)),
            Given::Admin => admin.push(rule(kind, &kind.plural, &all)),
            Given::Nobody(_) => {}
        }
        for sub in kind.subresources {
            let name = format!("{}/{}", kind.plural, sub.name);
            let writes = sub.verbs.iter().any(|verb| WRITE.contains(verb));
            match sub.given {
                // As Kubernetes' own roles: all that reads, all that writes.
                Given::View | Given::Read => {
                    view.push(rule(kind, &name, READ));
                    edit.extend((writes && sub.given == Given::View).then(|| rule(kind, &name, WRITE)));
                }
                Given::Edit => edit.push(rule(kind, &name, sub.verbs)),
                Given::Admin => admin.push(rule(kind, &name, sub.verbs)),
                Given::Nobody(_) => {}
            }
        }
    }
    [view, edit, admin]
}

/// The cluster roles that Kubernetes documents for people, over the kinds that are served.
fn roles() -> Vec<(&'static str, Value)> {
    let [view, edit, admin] = given();
    let all = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]}
    ]);
    vec![
        ("admin", json!([view.as_slice(), &edit, &admin].concat())),
        ("cluster-admin", all),
        ("edit", json!([view.as_slice(), &edit].concat())),
        ("view", json!(view)),
    ]
}
