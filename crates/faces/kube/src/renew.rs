//! What clusters that exist already get from a newer braid: at each start the built-in cluster roles are completed, as
//! Kubernetes does at the start of its API server; once, bindings of before name Keystone's users as they are called now.

use gate::{KEYSTONE, Scoped, roles};
use model::{Change, Cluster, Fault, KubeObject, Realm, Setting, Snapshot, Time, User};
use serde_json::{Value, json};
use store::Store;

use crate::giving::{Held, covered};
use crate::rows::cluster_rows;
use crate::rule::RBAC;
use crate::strategy::items;

/// With "false" a cluster role is left as its owner made it.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// The setting that says that bindings name users as they are called now.
const NAMED: &str = "kube-bindings-name-domains";

/// Brings the rows of all clusters up to date.
pub async fn renew(store: &Store) -> Result<(), Fault> {
    let clusters: Vec<Cluster> = store.snapshot().all::<Cluster>().map(|c| c.value.clone()).collect();
    for cluster in &clusters {
        store.transact(|snapshot| Ok((completed(snapshot, cluster), ()))).await?;
    }
    store
        .transact(|snapshot| {
            let mut change = Change::new();
            if snapshot.get::<Setting>(NAMED).is_none() {
                for cluster in snapshot.all::<Cluster>() {
                    rename(&mut change, snapshot, cluster.value);
                }
                change.create(Setting { name: NAMED.into(), value: json!(true) });
            }
            Ok((change, ()))
        })
        .await
}

/// Adds what the built-in cluster roles lack. What was added to them stays.
fn completed(snapshot: &Snapshot, cluster: &Cluster) -> Change {
    let mut change = Change::new();
    for wanted in cluster_rows(cluster, Time::now()).into_iter().filter(|row| row.resource == "clusterroles") {
        let Some(row) = snapshot.at::<KubeObject>(&model::Resource::key(&wanted)) else {
            change.create(wanted);
            continue;
        };
        if row.body["metadata"]["annotations"][AUTOUPDATE] == "false" {
            continue;
        }
        let (held, mut left) = (Held::new(items(&row.value.body, "rules")), usize::MAX);
        let mut lacks = |rule: &&Value| covered(rule, &held, &mut left) != Some(true);
        let lacking: Vec<Value> = items(&wanted.body, "rules").filter(|rule| lacks(rule)).cloned().collect();
        if !lacking.is_empty() {
            let mut new = row.value.clone();
            let rules = items(&row.value.body, "rules").cloned().chain(lacking).collect();
            new.body["rules"] = Value::Array(rules);
            change.update(row, new);
        }
    }
    change
}

/// Whom a bare name in a binding meant, any user of that name who may do something in the cluster's project, is named
/// beside it.
fn rename(change: &mut Change, snapshot: &Snapshot, cluster: &Cluster) {
    let project = Scoped::Project(cluster.project_id.clone());
    let realm = Realm::cluster(&cluster.id);
    for kind in ["clusterrolebindings", "rolebindings"] {
        let prefix = &format!("{RBAC}/{kind}/");
        for row in snapshot.names::<KubeObject>(&realm, prefix, None) {
            let bare = items(&row.value.body, "subjects").filter(|s| s["kind"] == "User");
            let bare: Vec<&str> = bare.filter_map(|s| s["name"].as_str()).filter(|n| !n.contains(':')).collect();
            let meant = snapshot
                .all::<User>()
                .filter(|user| bare.contains(&user.name.as_str()))
                .filter(|user| !roles::roles(snapshot, &user.id, &project).is_empty());
            let more: Vec<Value> = meant
                .map(|user| format!("{KEYSTONE}{}/{}", user.domain_id, user.name))
                .map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}))
                .collect();
            if !more.is_empty() {
                let mut new = row.value.clone();
                let subjects = items(&row.value.body, "subjects").cloned().chain(more).collect();
                new.body["subjects"] = Value::Array(subjects);
                change.update(row, new);
            }
        }
    }
}
