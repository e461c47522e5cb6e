//! Server-side apply, and the tracking of who owns which field through every other write.

use std::collections::BTreeMap;

use model::Time;
use serde_json::{Map, Value, json};

use super::fields::{self, Difference, FieldSet, Topology};
use super::places::{Name, Places};
use crate::fault::{Failure, Result};
use crate::meta;
use crate::types::{ListKey, Shape, TypeId, Types};
use crate::upstream::ListType;

/// How many managers that update (rather than apply) are told apart; older ones become one.
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// The most conflicts that one refusal tells.
const MAX_CONFLICTS: usize = 100;

/// Who writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    pub name: String,
    pub apply: bool,
    pub api_version: String,
    /// Empty, or the subresource through which is written.
    pub subresource: String,
}

/// What one manager owns.
#[derive(Clone, Debug)]
struct Owned {
    manager: Manager,
    time: Value,
    fields: FieldSet,
}

/// Metadata that nobody owns.
const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
    &["metadata", "deletionTimestamp"],
    &["metadata", "deletionGracePeriodSeconds"],
];

fn strip(fields: &mut FieldSet) {
    for path in UNOWNED {
        fields.remove(path);
    }
    if let Some(meta) = fields.children.get_mut("f:metadata") {
        meta.member = false;
        if meta.is_empty() {
            fields.children.remove("f:metadata");
        }
    }
}

fn read(object: &Value) -> Vec<Owned> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| Owned {
            manager: Manager {
                name: entry["manager"].as_str().unwrap_or("").to_owned(),
                apply: entry["operation"] == "Apply",
                api_version: entry["apiVersion"].as_str().unwrap_or("").to_owned(),
                subresource: entry["subresource"].as_str().unwrap_or("").to_owned(),
            },
            time: entry["time"].clone(),
            fields: FieldSet::read(&entry["fieldsV1"]),
        })
        .collect()
}

fn write(object: &mut Value, owners: Vec<Owned>) {
    let mut entries = Vec::new();
    for owned in owners.into_iter().filter(|o| !o.fields.is_empty()) {
        let mut entry = json!({
            "manager": owned.manager.name,
            "operation": if owned.manager.apply { "Apply" } else { "Update" },
            "apiVersion": owned.manager.api_version,
            "fieldsType": "FieldsV1",
        });
        if let Value::Object(entry) = &mut entry {
            entry.insert("fieldsV1".to_owned(), owned.fields.write());
            if !owned.time.is_null() {
                entry.insert("time".to_owned(), owned.time);
            }
            if !owned.manager.subresource.is_empty() {
                entry.insert("subresource".to_owned(), owned.manager.subresource.into());
            }
        }
        entries.push(entry);
    }
    let meta = meta::of(object);
    if entries.is_empty() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Notes in `new` what the manager changed against `old` by an ordinary write. Other managers lose what was changed.
pub fn track(shape: &Shape, old: Option<&Value>, new: &mut Value, manager: &Manager, now: Time) {
    let (types, id) = (&*shape.types, shape.root);
    let mut owners = old.map(read).unwrap_or_default();
    if old.is_some() && new["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty) {
        owners.clear();
    }
    let Difference { mut changed, mut removed } = fields::compare(types, id, old, Some(new));
    strip(&mut changed);
    strip(&mut removed);
    if changed.is_empty() && removed.is_empty() {
        write(new, owners);
        return;
    }
    let mut mine = None;
    for (i, owned) in owners.iter_mut().enumerate() {
        owned.fields.subtract(&removed);
        if owned.manager == *manager {
            mine = Some(i);
        } else {
            owned.fields.subtract(&changed);
        }
    }
    let time = Value::from(meta::stamp(now));
    match mine {
        Some(i) => {
            owners[i].fields.union(&changed);
            owners[i].time = time;
        }
        None => owners.push(Owned { manager: manager.clone(), time, fields: changed }),
    }
    forget_the_oldest(&mut owners);
    write(new, owners);
}

/// The oldest managers beyond the most become one for each version that they wrote.
fn forget_the_oldest(owners: &mut Vec<Owned>) {
    let updates = |o: &Owned| !o.manager.apply && o.manager.name != ANCIENT;
    let mut surplus = owners.iter().filter(|o| updates(o)).count().saturating_sub(MAX_UPDATERS);
    if surplus == 0 {
        return;
    }
    let mut ancient: BTreeMap<String, Owned> = BTreeMap::new();
    let mut kept = Vec::new();
    for owned in std::mem::take(owners) {
        let old = updates(&owned) && surplus > 0;
        surplus -= usize::from(old);
        if !old && owned.manager.name != ANCIENT {
            kept.push(owned);
            continue;
        }
        match ancient.get_mut(&owned.manager.api_version) {
            Some(one) => one.fields.union(&owned.fields),
            None => {
                let manager = Manager { name: ANCIENT.to_owned(), ..owned.manager };
                ancient.insert(manager.api_version.clone(), Owned { manager, ..owned });
            }
        }
    }
    owners.extend(ancient.into_values().chain(kept));
}

/// What of a configuration does not count: parts that the endpoint does not write.
pub type Ignored = &'static [&'static [&'static str]];

/// Applies a configuration to an object (`None`: there is none yet). The result carries its new owners.
#[allow(clippy::too_many_arguments)]
pub fn apply(
    shape: &Shape,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager,
    ignored: Ignored,
    force: bool,
    now: Time,
) -> Result<Value> {
    let (types, id) = (&*shape.types, shape.root);
    unambiguous(types, id, config, "")?;
    let mut owners = live.map(read).unwrap_or_default();
    let mut wanted = fields::of(types, id, config);
    strip(&mut wanted);
    for path in ignored {
        wanted.remove(path);
    }
    let mut object = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    merge(types, id, &mut object, config);
    let mine = owners.iter().position(|o| o.manager == *manager);
    let last = match mine {
        Some(i) => std::mem::replace(&mut owners[i].fields, wanted.clone()),
        None => {
            owners.push(Owned { manager: manager.clone(), time: Value::Null, fields: wanted.clone() });
            FieldSet::default()
        }
    };
    let mine = mine.unwrap_or(owners.len() - 1);
    let mut all = FieldSet::default();
    owners.iter().for_each(|o| all.union(&o.fields));
    // Nobody owns the name in it.
    all.children.entry("f:metadata".to_owned()).or_default();
    prune(types, id, &mut object, &last, Some(&all));

    let Difference { mut changed, mut removed } = fields::compare(types, id, live, Some(&object));
    strip(&mut changed);
    strip(&mut removed);
    let mut conflicts = Vec::new();
    for (i, owned) in owners.iter_mut().enumerate() {
        if i != mine {
            let taken = owned.fields.intersection(&changed);
            if !taken.is_empty() {
                let room = MAX_CONFLICTS.saturating_sub(conflicts.len());
                conflicts.extend(taken.paths(room).into_iter().map(|path| (conflict(&owned.manager), path)));
                owned.fields.subtract(&taken);
            }
        }
        owned.fields.subtract(&removed);
    }
    if !conflicts.is_empty() && !force {
        return Err(Failure::apply_conflict(conflicts));
    }
    let fresh = live.is_none() || last != wanted || !changed.is_empty() || !removed.is_empty();
    if fresh {
        owners[mine].time = meta::stamp(now).into();
    }
    write(&mut object, owners);
    Ok(object)
}

fn conflict(manager: &Manager) -> String {
    let through = match manager.subresource.as_str() {
        "" => String::new(),
        subresource => format!(" with subresource {subresource:?}"),
    };
    format!("conflict with {:?}{through} using {}", manager.name, manager.api_version)
}

/// Items of merged lists must have their keys, once each.
fn unambiguous(types: &Types, id: TypeId, value: &Value, at: &str) -> Result<()> {
    match (fields::topology(types, id), value) {
        (Topology::Fields { .. }, Value::Object(map)) => {
            for (name, value) in map {
                unambiguous(types, fields::child(types, id, name), value, &format!("{at}.{name}"))?;
            }
        }
        (Topology::Items { item, list, keys }, Value::Array(items)) => {
            let mut seen = std::collections::HashSet::new();
            for value in items {
                let Some(name) = fields::item_name(value, list, keys) else {
                    let message = format!(
                        "failed to create typed patch object: {at}: element 0: associative list with keys has an element that omits key field {:?} (and doesn't have default value)",
                        keys.iter().find(|k| value.get(&*k.name).is_none()).map_or("", |k| &*k.name)
                    );
                    return Err(Failure::new(500, "InternalError", message));
                };
                if !seen.insert(name.clone()) {
                    let message = format!(
                        "failed to create typed patch object: {at}: duplicate entries for key [{}]",
                        &name[2..]
                    );
                    return Err(Failure::new(500, "InternalError", message));
                }
                if list == ListType::Map {
                    unambiguous(types, item, value, at)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Lays a configuration over an object.
fn merge(types: &Types, id: TypeId, object: &mut Value, config: &Value) {
    match (fields::topology(types, id), config) {
        (Topology::Fields { .. }, Value::Object(map)) => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            let Value::Object(target) = object else { return };
            for (name, value) in map {
                merge(types, fields::child(types, id, name), target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Topology::Items { item, list, keys }, Value::Array(items)) => {
            if !object.is_array() {
                *object = Value::Array(Vec::new());
            }
            let Value::Array(target) = object else { return };
            merge_items(types, item, list, keys, target, items);
        }
        _ => *object = config.clone(),
    }
}

/// Items that both have are merged, in the configuration's order but in the places that the object gives them; new ones
/// come last.
fn merge_items(
    types: &Types,
    item: TypeId,
    list: ListType,
    keys: &[ListKey],
    target: &mut Vec<Value>,
    items: &[Value],
) {
    let name = |value: &Value| fields::item_name(value, list, keys).map(Name::from);
    let mut places = Places::default();
    for (i, value) in target.iter().enumerate() {
        name(value).into_iter().for_each(|name| places.add(name, i));
    }
    let mut slots: Vec<Option<Value>> = std::mem::take(target).into_iter().map(Some).collect();
    let (mut both, mut fresh) = (Vec::new(), Vec::new());
    for value in items {
        let place = name(value).and_then(|name| places.first(&name));
        match place.and_then(|i| slots[i].take()) {
            Some(mut old) => {
                merge(types, item, &mut old, value);
                both.push(old);
            }
            None => fresh.push(value.clone()),
        }
    }
    let mut both = both.into_iter();
    *target = slots.into_iter().filter_map(|slot| slot.or_else(|| both.next())).chain(fresh).collect();
}

/// Removes what the manager owned and nobody owns any more.
fn prune(types: &Types, id: TypeId, object: &mut Value, last: &FieldSet, owned: Option<&FieldSet>) {
    match (fields::topology(types, id), object) {
        (Topology::Fields { .. }, Value::Object(map)) => map.retain(|name, value| {
            let key = format!("f:{name}");
            keep(types, fields::child(types, id, name), value, &key, last, owned)
        }),
        (Topology::Items { item, list, keys }, Value::Array(items)) => {
            items.retain_mut(|value| match fields::item_name(value, list, keys) {
                Some(key) => keep(types, item, value, &key, last, owned),
                None => true,
            });
        }
        _ => {}
    }
}

fn keep(types: &Types, id: TypeId, value: &mut Value, key: &str, last: &FieldSet, owned: Option<&FieldSet>) -> bool {
    let Some(last) = last.children.get(key) else { return true };
    match owned.and_then(|o| o.children.get(key)) {
        // What nobody owns stays in a map beside what is given up; of a struct it is what the cloud filled in.
        None if matches!(fields::topology(types, id), Topology::Fields { struct_: false }) => {
            prune(types, id, value, last, None);
            value.as_object().is_some_and(|map| !map.is_empty())
        }
        None => false,
        Some(owned) => {
            prune(types, id, value, last, Some(owned));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str, apply: bool) -> Manager {
        Manager { name: name.into(), apply, api_version: "v1".into(), subresource: String::new() }
    }

    fn shape() -> Shape {
        crate::registry::shape_of("io.k8s.api.core.v1.Pod")
    }

    fn applied(live: Option<&Value>, config: Value, who: &str, force: bool) -> Result<Value> {
        apply(&shape(), live, &config, &manager(who, true), &[], force, Time::UNIX_EPOCH)
    }

    fn pod(labels: Value, containers: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": labels}, "spec": {"containers": containers}})
    }

    #[test]
    fn what_is_not_applied_again_goes() {
        let first = applied(
            None,
            pod(json!({"a": "1", "b": "2"}), json!([{"name": "x", "image": "i"}, {"name": "y"}])),
            "ann",
            false,
        )
        .unwrap();
        let second = applied(Some(&first), pod(json!({"a": "1"}), json!([{"name": "x"}])), "ann", false).unwrap();
        assert_eq!(second["metadata"]["labels"], json!({"a": "1"}));
        assert_eq!(second["spec"]["containers"], json!([{"name": "x"}]));
        let mut told = second.clone();
        told["metadata"]["annotations"] = json!({"of": "nobody"});
        let mut config = pod(Value::Null, json!([{"name": "x"}]));
        config["metadata"] = json!({"name": "a", "annotations": {"of": "ann's"}});
        let third = applied(Some(&told), config.clone(), "ann", true).unwrap();
        let metadata = |object: &Value| {
            let mut metadata = object["metadata"].clone();
            metadata.as_object_mut().unwrap().remove("managedFields");
            metadata
        };
        assert_eq!(metadata(&third), json!({"name": "a", "annotations": {"of": "ann's"}}));
        let mut beside = third.clone();
        beside["metadata"]["annotations"]["beside"] = "nobody's".into();
        config["metadata"] = json!({"name": "a"});
        let bare = applied(Some(&beside), config.clone(), "ann", false).unwrap();
        assert_eq!(metadata(&bare), json!({"name": "a", "annotations": {"beside": "nobody's"}}));
        let bare = applied(Some(&third), config, "ann", false).unwrap();
        assert_eq!(metadata(&bare), json!({"name": "a"}));
        let again = applied(Some(&second), pod(json!({"a": "1"}), json!([{"name": "x"}])), "ann", false).unwrap();
        assert_eq!(again, second);
    }

    #[test]
    fn others_are_respected_until_forced() {
        let first = applied(None, pod(json!({"a": "1"}), json!([{"name": "x", "image": "i"}])), "ann", false).unwrap();
        let change = pod(json!({"a": "2", "c": "3"}), json!([{"name": "x"}]));
        let conflict = applied(Some(&first), change.clone(), "bob", false).unwrap_err();
        assert_eq!(conflict.code(), 409);
        assert!(
            conflict.message().contains("conflict with \"ann\" using v1: .metadata.labels.a"),
            "{}",
            conflict.message()
        );
        let forced = applied(Some(&first), change, "bob", true).unwrap();
        assert_eq!(forced["metadata"]["labels"], json!({"a": "2", "c": "3"}));
        // Ann does not own `a` any more: leaving it out removes nothing.
        let ann = applied(Some(&forced), pod(json!({}), json!([{"name": "x", "image": "i"}])), "ann", false).unwrap();
        assert_eq!(ann["metadata"]["labels"]["a"], "2");
        // Both own the item x; bob leaving it out keeps it.
        let bob = applied(Some(&ann), pod(json!({"c": "3"}), json!([])), "bob", false).unwrap();
        assert_eq!(bob["spec"]["containers"][0]["image"], "i");
        assert!(bob["metadata"]["labels"].get("a").is_none());
    }

    #[test]
    fn updates_are_tracked_too() {
        let first = applied(None, pod(json!({"a": "1"}), json!([{"name": "x", "image": "i"}])), "ann", false).unwrap();
        let mut edited = first.clone();
        edited["spec"]["containers"][0]["image"] = "j".into();
        track(&shape(), Some(&first), &mut edited, &manager("edit", false), Time::UNIX_EPOCH);
        let entries = edited["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[1]["fieldsV1"],
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {"f:image": {}}}}})
        );
        let again = applied(Some(&edited), pod(json!({"a": "1"}), json!([{"name": "x", "image": "i"}])), "ann", false);
        assert_eq!(again.unwrap_err().code(), 409);
    }
}
