//! Namespaces: each has its default service account and the API's certificate, and one that is being deleted takes all that is in it along.

use std::collections::BTreeMap;

use model::{Change, Entry, Event, Key, Kind, KubeObject, Setting, Snapshot, Time};
use serde_json::{Value, json};

use super::{delete, keys, seconds, set_status, since};
use crate::planner::{ALL_ASKED, Plan, Planner, Rows, Seen, Touched, objects};

/// The setting that holds the certificate of the cloud's authority.
const CA: &str = "certificate-authority";

/// The most objects that one commit removes.
const BATCH: usize = 200;

/// What every namespace has.
const ACCOUNT: &str = "default";
pub(crate) const ROOT_CERTIFICATE: &str = "kube-root-ca.crt";

/// Fills new namespaces and empties dying ones.
pub const PLANNER: Planner = Planner {
    name: "namespace",
    reads: &[ALL_ASKED, Rows::Of(Kind::Setting)],
    writes: &[Rows::AllObjects],
    at_once: 64,
    items: |rows| keys(rows, "", "namespaces"),
    touched,
    failed: None,
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    if event.key.kind == Kind::Setting && *event.key.name == *CA {
        touched.all();
    }
    for object in objects(event) {
        if object.is("", "namespaces") {
            touched.item(event.key.clone());
        } else if !object.namespace.is_empty() {
            let space = KubeObject::key_of(&object.cluster_id, "", "namespaces", "", &object.namespace);
            let filling = (object.is("", "serviceaccounts") && object.name == ACCOUNT)
                || (object.is("", "configmaps") && object.name == ROOT_CERTIFICATE);
            if filling || rows.at::<KubeObject>(&space).is_some_and(|space| space.deleting()) {
                touched.item(space);
            }
        }
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    for space in items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key)) {
        let change = if space.deleting() { empty(seen.rows, space, now) } else { fill(seen.rows, space, now) };
        plan.step(&space.row.key, change);
    }
    plan
}

fn fill(snapshot: &Snapshot, space: Entry<'_, KubeObject>, now: Time) -> Change {
    let mut change = Change::new();
    let key = KubeObject::key_of(&space.cluster_id, "", "serviceaccounts", &space.name, ACCOUNT);
    if snapshot.row(&key).is_none() {
        let uid = model::derived_id(&["service-account", space.uid(), &snapshot.revision().to_string()]);
        change.create(KubeObject {
            cluster_id: space.cluster_id.clone(),
            project_id: space.project_id.clone(),
            group: String::new(),
            resource: "serviceaccounts".into(),
            namespace: space.name.clone(),
            name: ACCOUNT.into(),
            body: json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {
                    "name": ACCOUNT, "namespace": space.name, "uid": uid, "creationTimestamp": seconds(now),
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
    let name = ROOT_CERTIFICATE;
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
    let inside = inside(snapshot, space);
    for object in inside.iter().filter(|o| !o.deleting()).take(BATCH) {
        delete(&mut change, *object, now);
    }
    let left: Vec<_> = inside.iter().filter(|o| o.deleting()).map(|o| o.value).collect();
    if !left.is_empty() {
        say_what_is_left(&mut change, space, &left, now);
    }
    if inside.is_empty() && !space.held() {
        change.delete(space);
    }
    change
}

/// What is in a namespace, without a look at what is in others.
fn inside<'s>(snapshot: &'s Snapshot, space: Entry<'_, KubeObject>) -> Vec<Entry<'s, KubeObject>> {
    let realm = &space.row.key.realm;
    let (mut found, mut after) = (Vec::new(), String::new());
    while let Some(next) = snapshot.names::<KubeObject>(realm, "", Some(&after)).next() {
        let prefix = KubeObject::prefix(&next.group, &next.resource, &space.name);
        found.extend(snapshot.names::<KubeObject>(realm, &prefix, None));
        // Behind all objects of this resource.
        after = format!("{}{}", KubeObject::prefix(&next.group, &next.resource, ""), char::MAX);
    }
    found
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
