//! Namespaces: each has its default service account and the API's certificate, and one that is being deleted takes all that is in it along.

use std::collections::BTreeMap;

use model::{Change, Entry, KubeObject, Setting, Snapshot, Time};
use serde_json::{Value, json};

use super::{all, delete, seconds, set_status, since};

/// The setting that holds the certificate of the cloud's authority.
const CA: &str = "certificate-authority";

/// The most objects that one commit removes.
const BATCH: usize = 200;

/// Fills new namespaces and empties dying ones.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    let spaces = all(snapshot, "", "namespaces");
    spaces
        .map(|space| if space.deleting() { empty(snapshot, space, now) } else { fill(snapshot, space, now) })
        .filter(|change| !change.is_empty())
        .collect()
}

fn fill(snapshot: &Snapshot, space: Entry<'_, KubeObject>, now: Time) -> Change {
    let mut change = Change::new();
    let key = KubeObject::key_of(&space.cluster_id, "", "serviceaccounts", &space.name, "default");
    if snapshot.row(&key).is_none() {
        let uid = model::derived_id(&["service-account", space.uid(), &snapshot.revision().to_string()]);
        change.create(KubeObject {
            cluster_id: space.cluster_id.clone(),
            project_id: space.project_id.clone(),
            group: String::new(),
            resource: "serviceaccounts".into(),
            namespace: space.name.clone(),
            name: "default".into(),
            body: json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {
                    "name": "default", "namespace": space.name, "uid": uid, "creationTimestamp": seconds(now),
                },
            }),
        });
    }
    if let Some(ca) = snapshot.get::<Setting>(CA) {
        root_certificate(&mut change, snapshot, space, &ca.value.value, now);
    }
    change
}

/// Every namespace has the authority's certificate, for pods that talk to the API.
fn root_certificate(change: &mut Change, snapshot: &Snapshot, space: Entry<'_, KubeObject>, ca: &Value, now: Time) {
    let name = "kube-root-ca.crt";
    let key = KubeObject::key_of(&space.cluster_id, "", "configmaps", &space.name, name);
    let data = json!({"ca.crt": ca});
    match snapshot.at::<KubeObject>(&key) {
        Some(map) if map.body["data"] == data || map.deleting() => {}
        Some(map) => {
            change.edit(map, |map| map.body["data"] = data);
        }
        None => {
            let uid = model::derived_id(&["root-ca", space.uid(), &snapshot.revision().to_string()]);
            change.create(KubeObject {
                cluster_id: space.cluster_id.clone(),
                project_id: space.project_id.clone(),
                group: String::new(),
                resource: "configmaps".into(),
                namespace: space.name.clone(),
                name: name.into(),
                body: json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "data": data,
                    "metadata": {
                        "name": name, "namespace": space.name, "uid": uid, "creationTimestamp": seconds(now),
                        "annotations": {"kubernetes.io/description": "the certificate that the cluster's API shows"},
                    },
                }),
            });
        }
    }
}

fn empty(snapshot: &Snapshot, space: Entry<'_, KubeObject>, now: Time) -> Change {
    let mut change = Change::new();
    let inside: Vec<_> =
        snapshot.within::<KubeObject>(&space.row.key.realm).filter(|object| object.namespace == space.name).collect();
    for object in inside.iter().filter(|o| !o.deleting()).take(BATCH) {
        delete(&mut change, *object, now);
    }
    let left: Vec<_> = inside.iter().filter(|o| o.deleting()).map(|o| o.value).collect();
    if !left.is_empty() {
        say_what_is_left(&mut change, space, &left, now);
    }
    let held = space.body["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    if inside.is_empty() && !held {
        change.delete(space);
    }
    change
}

/// Says on a dying namespace what it waits for.
fn say_what_is_left(change: &mut Change, space: Entry<'_, KubeObject>, left: &[&KubeObject], now: Time) {
    let (mut resources, mut finalizers) = (BTreeMap::new(), BTreeMap::new());
    for object in left {
        *resources.entry(format!("{}.{}", object.resource, object.group)).or_insert(0) += 1;
        for finalizer in object.body["metadata"]["finalizers"].as_array().into_iter().flatten() {
            *finalizers.entry(finalizer.as_str().unwrap_or("").to_owned()).or_insert(0) += 1;
        }
    }
    let told = |counts: &BTreeMap<String, usize>, verb: &str| -> Vec<String> {
        counts.iter().map(|(what, count)| format!("{what} {verb} {count} resource instances")).collect()
    };
    let remaining = format!("Some resources are remaining: {}", told(&resources, "has").join(", "));
    let holding = told(&finalizers, "in").join(", ");
    let holding = format!("Some content in the namespace has finalizers remaining: {holding}");
    let content = "All content successfully deleted, may be waiting on finalization";
    let mut news = vec![
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered"),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted", content),
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain", &remaining),
    ];
    news.push(match finalizers.is_empty() {
        true => (
            "NamespaceFinalizersRemaining",
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
        false => ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", &holding),
    });
    let conditions = news.into_iter().map(|(kind, status, reason, message)| {
        let since = since(&space.body["status"], kind, status, now);
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
    });
    let mut status = space.body["status"].clone();
    status["conditions"] = conditions.collect();
    set_status(change, space, status);
}
