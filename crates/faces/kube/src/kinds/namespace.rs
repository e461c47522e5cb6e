//! Namespaces. A deleted one stays, terminating, until `spec.finalizers` is empty; what is in it is removed by a planner.

use k8s_openapi::api::core;
use model::{Cluster, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use crate::kind::{
    ApiResource,
    Given::{Nobody, Read},
    Subresource, sub,
};
use crate::strategy::{Column, Context, Result, Strategy, age_column, column, items, name_column, object};
use crate::validate::NameRule;

const FINALIZE: &[Subresource] =
    &[sub("finalize", "", "v1", "Namespace", &["update"], Nobody("for who empties namespaces"))];

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::Namespace>(Namespace)
        .short("ns")
        .status()
        .with(FINALIZE, &[])
        .given(Read)
        .no_table("its specification is the server's")
}

pub struct Namespace;

impl Strategy for Namespace {
    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn default(&self, namespace: &mut Value) {
        let name = namespace["metadata"]["name"].clone();
        if name.is_string() {
            object(object(namespace, "metadata"), "labels")["kubernetes.io/metadata.name"] = name;
        }
    }

    fn create(&self, namespace: &mut Value, _: &Context<'_>) -> Result<()> {
        namespace["spec"] = json!({"finalizers": ["kubernetes"]});
        namespace["status"] = json!({"phase": "Active"});
        Ok(())
    }

    fn update(&self, new: &mut Value, old: &Value, _: &Context<'_>) -> Result<()> {
        new["spec"] = old["spec"].clone();
        Ok(())
    }

    fn selectable(&self) -> Vec<&str> {
        vec!["status.phase"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![name_column(), column("Status", |namespace, _| namespace["status"]["phase"].clone()), age_column()]
    }

    fn is_place(&self) -> bool {
        true
    }

    fn deletes_collections(&self) -> bool {
        false
    }

    fn keeps(&self, _snapshot: &Snapshot, name: &str) -> Option<&'static str> {
        IMMORTAL.contains(&name).then_some("this namespace may not be deleted")
    }

    fn held(&self, body: &Value) -> bool {
        items(&body["spec"], "finalizers").len() > 0
    }

    fn marked(&self, body: &mut Value) {
        body["status"]["phase"] = "Terminating".into();
    }

    /// Pods run as the account from the first moment on.
    fn made_with(&self, namespace: &KubeObject, cluster: &Cluster, now: Time) -> Vec<KubeObject> {
        vec![default_account(cluster, &namespace.name, now)]
    }
}

/// Namespaces that a cluster cannot do without.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// The service account as which a namespace's pods run that name none. Each has an id of its own: a namespace that is made
/// again is another one, and so is its account.
pub fn default_account(cluster: &Cluster, namespace: &str, now: Time) -> KubeObject {
    let meta = json!({
        "name": "default", "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": crate::meta::stamp(now)
    });
    KubeObject {
        cluster_id: cluster.id.clone(),
        project_id: cluster.project_id.clone(),
        group: String::new(),
        resource: "serviceaccounts".to_owned(),
        namespace: namespace.to_owned(),
        name: "default".to_owned(),
        body: json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": meta}),
    }
}
