//! The first rows of a cluster: what every client takes for granted.

use std::net::IpAddr;

use model::{Cluster, KubeObject, Time};
use serde_json::{Value, json};

use crate::kinds::service;
use crate::known::Kinds;
use crate::meta;
use crate::registry::Kind;

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

fn row(cluster: &Cluster, kind: &Kind, namespace: &str, name: &str, mut body: Value, now: Time) -> KubeObject {
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

/// The cluster roles that Kubernetes documents for people, over the kinds that are served.
fn roles() -> Vec<(&'static str, Value)> {
    let view = ["get", "list", "watch"];
    let edit = ["create", "delete", "deletecollection", "patch", "update"];
    let both = [view.as_slice(), edit.as_slice()].concat();
    let core = [
        "configmaps",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
        "services",
        "services/status",
        "events",
        "namespaces",
    ];
    let apps = [
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status",
    ];
    let viewing = vec![
        json!({"apiGroups": [""], "resources": core, "verbs": view}),
        json!({"apiGroups": ["apps"], "resources": apps, "verbs": view}),
        json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": view}),
        json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": view}),
    ];
    let mut editing = viewing.clone();
    editing.extend([
        json!({"apiGroups": [""], "resources": ["secrets"], "verbs": view}),
        json!({"apiGroups": [""], "resources": ["configmaps", "pods", "secrets", "serviceaccounts", "services", "events"], "verbs": edit}),
        json!({"apiGroups": [""], "resources": ["pods/attach", "pods/exec", "pods/portforward"], "verbs": ["get", "create"]}),
        json!({"apiGroups": [""], "resources": ["pods/eviction", "serviceaccounts/token"], "verbs": ["create"]}),
        json!({"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale", "replicasets", "replicasets/scale"], "verbs": edit}),
        json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": both}),
    ]);
    let mut administering = editing.clone();
    administering.extend([
        json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": both}),
        json!({"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]}),
    ]);
    let all = vec![
        json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
        json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
    ];
    vec![
        ("admin", json!(administering)),
        ("cluster-admin", json!(all)),
        ("edit", json!(editing)),
        ("view", json!(viewing)),
    ]
}
