//! Nodes: the hosts of the cloud, as a cluster sees them ([`model::node`]).

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core;
use model::{Cluster, Entry, Event, Host, Key, Kind, KubeObject, Realm, Resource, Row, Snapshot, node};
use serde_json::Value;
use store::{Concern, Store};

use crate::derived::{Derived, Rows, Then, Turn};

use crate::kind::{ApiResource, Given::Nobody};
use crate::strategy::{Column, Strategy, age_column, column, items, name_column, wide};
use crate::validate::{Errors, key_problem, label_value_problem};

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::Node>(Node)
        .short("no")
        .status()
        .given(Nobody("hosts are shared by projects"))
        .no_table("hosts write it, of users' fields taints and `unschedulable` are acted on")
}

pub struct Node;

impl Strategy for Node {
    fn validate(&self, node: &Value, errors: &mut Errors) {
        let mut seen = HashSet::new();
        for (i, taint) in items(&node["spec"], "taints").enumerate() {
            let at = format!("spec.taints[{i}]");
            let text = |field: &str| taint[field].as_str().unwrap_or("");
            if let Some(problem) = key_problem(text("key")) {
                errors.invalid(format!("{at}.key"), &taint["key"], problem);
            }
            if let Some(problem) = label_value_problem(text("value")) {
                errors.invalid(format!("{at}.value"), &taint["value"], problem);
            }
            if !seen.insert((text("key"), text("effect"))) {
                errors.duplicate(at.clone(), taint);
            }
            if text("effect").is_empty() {
                errors.required(format!("{at}.effect"), "");
                continue;
            }
            errors.one_of(format!("{at}.effect"), &taint["effect"], &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for field in ["podCIDR", "podCIDRs", "providerID"] {
            let (new, old) = (&new["spec"][field], &old["spec"][field]);
            if !old.is_null() && new != old {
                errors.forbidden(format!("spec.{field}"), "node updates may not change it once it is set");
            }
        }
    }

    fn keeps(&self, snapshot: &Snapshot, name: &str) -> Option<&'static str> {
        let why =
            "it is a host of the cloud and goes with it; `kubectl cordon` keeps new pods away, `kubectl drain` all";
        snapshot.get::<Host>(name).map(|_| why)
    }

    fn derived(&self) -> Option<&'static Derived> {
        Some(&DERIVED)
    }

    fn selectable(&self) -> Vec<&str> {
        vec!["spec.unschedulable"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Status", |node, _| status(node).into()),
            column("Roles", |node, _| roles(node).into()),
            age_column(),
            column("Version", |node, _| info(node, "kubeletVersion", "")),
            wide("Internal-IP", |node, _| address(node, "InternalIP")),
            wide("External-IP", |node, _| address(node, "ExternalIP")),
            wide("OS-Image", |node, _| info(node, "osImage", "<unknown>")),
            wide("Kernel-Version", |node, _| info(node, "kernelVersion", "<unknown>")),
            wide("Container-Runtime", |node, _| info(node, "containerRuntimeVersion", "<unknown>")),
        ]
    }
}

const DERIVED: Derived = Derived { rows, free, said, news: Concern { name: "nodes", rule: concerns_nodes }, told };

fn rows(store: &Store, snapshot: &Snapshot, cluster: &Cluster, name: Option<&str>) -> Rows {
    let make = |host: &Row| (node::key(&cluster.id, &host.key.name), shown(store, snapshot, host, cluster));
    // What is left of hosts that are gone is not seen.
    let gone = |node: &Entry<'_, KubeObject>| node::is_left(snapshot, node.value);
    let hide = |node: Entry<'_, KubeObject>| (node.row.key.clone(), None);
    if let Some(name) = name {
        let left = snapshot.at(&node::key(&cluster.id, name)).filter(gone);
        return snapshot.get::<Host>(name).map(|host| make(host.row)).or(left.map(hide)).into_iter().collect();
    }
    let stored = snapshot.names(&Realm::cluster(&cluster.id), &KubeObject::prefix("", "nodes", ""), None);
    snapshot.of_kind(Kind::Host).map(|host| make(host)).chain(stored.filter(gone).map(hide)).collect()
}

fn shown(store: &Store, snapshot: &Snapshot, host: &Row, cluster: &Cluster) -> Option<Row> {
    let said = snapshot.row(&node::key(&cluster.id, &host.key.name));
    node::row(host, cluster, said.map(|row| &**row), store.last_beat(&host.key.name))
}

/// A Node of a host, of what a cluster says, or both; what it said of a host that is gone is none.
fn made(store: &Store, cluster: &Cluster, host: Option<&Row>, said: Option<&Row>) -> Option<Row> {
    match host {
        Some(host) => node::row(host, cluster, said, store.last_beat(&host.key.name)),
        None => said.filter(|said| !KubeObject::of(&said.object).is_some_and(KubeObject::is_of_host)).cloned(),
    }
}

/// Not if the name is a host's, seen or not: what the cluster said of it, before the host was reserved for others, stays.
fn free(snapshot: &Snapshot, cluster: &Cluster, name: &str) -> bool {
    let own = snapshot.at::<KubeObject>(&node::key(&cluster.id, name));
    snapshot.get::<Host>(name).is_none() && own.is_none_or(|own| node::is_left(snapshot, own.value))
}

fn said(snapshot: &Snapshot, name: &str, body: &Value) -> Value {
    snapshot.get::<Host>(name).map_or_else(|| body.clone(), |host| node::said(body, host.value))
}

/// Whether an event changes a node of some cluster.
fn concerns_nodes(event: &Event) -> bool {
    let host = |row| Option::<&Arc<Row>>::and_then(row, |row| Host::of(&row.object));
    match (event.key.kind, host(event.before.as_ref()), host(event.after.as_ref())) {
        (Kind::Host, Some(before), Some(after)) => node::is_another(before, after),
        (Kind::Host, ..) => true,
        (Kind::KubeObject, ..) => event.key.name.starts_with("/nodes/"),
        _ => false,
    }
}

fn told(store: &Store, cluster: &Cluster, event: &Event, row: Then<'_>) -> Option<Turn> {
    if !concerns_nodes(event) {
        return None;
    }
    let both = [&event.before, &event.after];
    if event.key.kind == Kind::Host {
        let said = row(&node::key(&cluster.id, &event.key.name));
        return Some(both.map(|host| made(store, cluster, host.as_deref(), said.as_deref())));
    }
    if event.key.realm != Realm::cluster(&cluster.id) {
        return None;
    }
    let name = event.key.name.rsplit('/').next().unwrap_or("");
    let host = row(&Key::new(Kind::Host, Realm::Cloud, name));
    Some(both.map(|said| made(store, cluster, host.as_deref(), said.as_deref())))
}

fn info(node: &Value, field: &str, none: &str) -> Value {
    node["status"]["nodeInfo"][field].as_str().filter(|t| !t.is_empty()).unwrap_or(none).into()
}

fn address(node: &Value, kind: &str) -> Value {
    let address = items(&node["status"], "addresses").find(|a| a["type"] == kind);
    address.and_then(|a| a["address"].as_str()).unwrap_or("<none>").into()
}

fn status(node: &Value) -> String {
    let ready = items(&node["status"], "conditions").find(|c| c["type"] == "Ready");
    let mut text = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object();
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flat_map(|l| l.keys())
        .filter_map(|k| k.strip_prefix("node-role.kubernetes.io/"))
        .filter(|r| !r.is_empty())
        .collect();
    if let Some(role) = node["metadata"]["labels"]["kubernetes.io/role"].as_str() {
        roles.push(role);
    }
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}
