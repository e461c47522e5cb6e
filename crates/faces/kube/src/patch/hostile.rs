//! What the worst that a client may send costs, in steps: as many as there are items, or nearly so.

use model::Time;
use serde_json::{Value, json};

use super::apply::{self, Manager};
use super::places::work;
use super::strategic;
use crate::body::MAX_BODY;
use crate::registry::shape_of;
use crate::types::Shape;

/// Steps for each item that was sent or is there.
const STEPS_EACH: usize = 24;

fn pod() -> Shape {
    shape_of("io.k8s.api.core.v1.Pod")
}

fn bounded(what: &str, items: usize, act: impl FnOnce()) {
    let (steps, ()) = work::of(act);
    assert!(steps > 0, "{what}: nothing was counted");
    assert!(steps <= items * STEPS_EACH, "{what}: {steps} steps for {items} items");
}

fn items(count: usize, item: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(item).collect()
}

fn owner(i: usize) -> Value {
    json!({"uid": format!("{i:x}")})
}

/// As many small items as a body has room for.
fn most(item: &Value) -> usize {
    MAX_BODY / (item.to_string().len() + 1)
}

#[test]
fn strategic_merge() {
    let sent = most(&owner(100_000));
    let there = sent / 2;
    let object = || json!({"metadata": {"ownerReferences": items(there, owner)}});
    let patch = |change: Value| {
        let mut object = object();
        strategic::patch(&pod(), &mut object, change).unwrap();
    };
    let merged = json!({"metadata": {"ownerReferences": items(sent, owner)}});
    bounded("merge", sent + there, || patch(merged));
    let deleted = items(sent, |i| json!({"uid": format!("{i:x}"), "$patch": "delete"}));
    bounded("delete", sent + there, || patch(json!({"metadata": {"ownerReferences": deleted}})));
    let order = json!({"metadata": {"$setElementOrder/ownerReferences": items(sent, |i| owner(sent - i))}});
    bounded("order", sent + there, || patch(order));
}

#[test]
fn strategic_merge_of_plain_values() {
    let name = |i: usize| json!(format!("{i:x}"));
    let sent = most(&name(100_000));
    let there = sent / 2;
    let patch = |change: Value| {
        let mut object = json!({"metadata": {"finalizers": items(there, name)}});
        strategic::patch(&pod(), &mut object, change).unwrap();
    };
    let more = json!({"metadata": {"finalizers": items(sent, name)}});
    bounded("merge", sent + there, || patch(more));
    let fewer = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": items(sent, name)}});
    bounded("delete", sent + there, || patch(fewer));
}

fn manager(name: &str, apply: bool) -> Manager {
    Manager { name: name.into(), apply, api_version: "v1".into(), subresource: String::new() }
}

fn with(containers: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": containers}})
}

fn container(i: usize) -> Value {
    json!({"name": format!("{i:x}")})
}

fn applied(live: Option<&Value>, config: &Value, who: &str) -> Value {
    apply::apply(&pod(), live, config, &manager(who, true), &[], true, Time::UNIX_EPOCH).unwrap()
}

#[test]
fn server_side_apply() {
    let count = 40_000;
    let config = with(items(count, container));
    let mut live = Value::Null;
    bounded("create", count, || live = applied(None, &config, "ann"));
    let backwards = with(items(count, |i| container(count - i)));
    bounded("apply again", 2 * count, || drop(applied(Some(&live), &backwards, "ann")));
    bounded("apply by another", 2 * count, || drop(applied(Some(&live), &backwards, "bob")));
    bounded("apply nothing", 2 * count, || drop(applied(Some(&live), &with(Vec::new()), "ann")));
}

#[test]
fn many_owners_of_fields() {
    let (owners, count) = (10_000, 10_000);
    let owner = |i: usize| {
        let name = format!("{i:x}");
        json!({"manager": name, "operation": if i.is_multiple_of(2) { "Apply" } else { "Update" }, "apiVersion": name,
            "fieldsV1": {"f:spec": {"f:containers": {format!("k:{{\"name\":\"{name}\"}}"): {".": {}}}}}})
    };
    let mut live = with(items(1, container));
    live["metadata"]["managedFields"] = items(owners, owner).into();
    let config = with(items(count, container));
    bounded("apply", owners + count, || drop(applied(Some(&live), &config, "ann")));
    let mut edited = config.clone();
    edited["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
    bounded("update", owners + count, || {
        apply::track(&pod(), Some(&live), &mut edited, &manager("bob", false), Time::UNIX_EPOCH);
    });
}

#[test]
fn conflicts_are_told_in_few_words() {
    let long = "x".repeat(100_000);
    let container =
        |image: &str| json!({"name": long, "env": items(1000, |i| json!({"name": format!("{i}"), "value": image}))});
    let live = applied(None, &with(vec![container("a")]), "ann");
    let config = with(vec![container("b")]);
    let who = manager("bob", true);
    let refused = apply::apply(&pod(), Some(&live), &config, &who, &[], false, Time::UNIX_EPOCH).unwrap_err();
    let length = refused.message().len();
    assert!(length < 200_000, "{length} bytes");
}

#[test]
fn tolerations_of_a_pod() {
    let count = 50_000;
    let toleration = |i: usize| json!({"key": format!("{i:x}")});
    let with = |tolerations: Vec<Value>| json!({"spec": {"tolerations": tolerations}});
    let (old, new) = (with(items(count, toleration)), with(items(count, |i| toleration(count - 1 - i))));
    let mut errors = crate::validate::Errors::default();
    bounded("update", 2 * count, || crate::kinds::pod_validation::update(&new, &old, &mut errors));
    assert!(errors.is_empty());
}
