//! Strategic merge patch: a merge patch that knows which lists merge, and by which key.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::places::{Name, Places};
use crate::fault::{Failure, Result};
use crate::types::{Shape, Type, TypeId, Types};
use crate::upstream;

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of a type.
pub fn patch(shape: &Shape, object: &mut Value, patch: Value) -> Result<()> {
    let Value::Object(patch) = patch else {
        return Err(Failure::bad_request("the patch is not an object"));
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Value::Object(target) = object {
        struct_(&shape.types, shape.root, target, patch)?;
    }
    Ok(())
}

fn bad(what: &str) -> Failure {
    Failure::bad_request(format!("invalid strategic merge patch: {what}"))
}

fn struct_(types: &Types, id: TypeId, target: &mut Map<String, Value>, mut patch: Map<String, Value>) -> Result<()> {
    match patch.remove(DIRECTIVE).as_ref().map(|d| d.as_str().unwrap_or("")) {
        None | Some("merge") => {}
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some(other) => return Err(bad(&format!("unknown $patch: {other}"))),
    }
    if let Some(kept) = patch.remove(RETAIN) {
        let kept = kept.as_array().ok_or_else(|| bad("$retainKeys is not a list"))?;
        let kept: HashSet<&str> = kept.iter().filter_map(Value::as_str).collect();
        target.retain(|name, _| kept.contains(name.as_str()));
    }
    let mut orders = Vec::new();
    let mut fields = Map::new();
    for (name, value) in patch {
        if let Some(field) = name.strip_prefix(ORDER) {
            let Value::Array(order) = value else { return Err(bad("$setElementOrder is not a list")) };
            orders.push((field.to_owned(), order));
        } else if let Some(field) = name.strip_prefix(DELETE) {
            let Value::Array(gone) = value else { return Err(bad("$deleteFromPrimitiveList is not a list")) };
            if let Some(Value::Array(list)) = target.get_mut(field) {
                let gone: HashSet<Name> = gone.iter().map(Name::of).collect();
                list.retain(|item| !gone.contains(&Name::of(item)));
            }
        } else {
            fields.insert(name, value);
        }
    }
    let node = types.get(id);
    let definition = match node {
        Type::Struct(s) => &*s.definition,
        _ => "",
    };
    for (name, value) in fields {
        let child = match node {
            Type::Struct(s) => s.fields.get(name.as_str()).copied(),
            Type::Map { value, .. } => Some(*value),
            _ => None,
        };
        if value.is_null() {
            target.remove(&name);
            continue;
        }
        field(types, child, target.entry(name).or_insert(Value::Null), value)?;
    }
    for (name, order) in orders {
        if let Some(Value::Array(list)) = target.get_mut(&name) {
            sort(list, &order, upstream::rule(definition, &name).merge.unwrap_or_default());
        }
    }
    Ok(())
}

fn field(types: &Types, id: Option<TypeId>, target: &mut Value, patch: Value) -> Result<()> {
    let node = id.map_or(&Type::Any, |id| types.get(id));
    match patch {
        Value::Object(patch) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            if let Value::Object(target) = target {
                match id {
                    Some(id) => struct_(types, id, target, patch)?,
                    None => untyped(target, patch),
                }
            }
            Ok(())
        }
        Value::Array(patch) => match node {
            Type::List { item, merge: Some(key), .. } => {
                if !target.is_array() {
                    *target = Value::Array(Vec::new());
                }
                let Value::Array(target) = target else { return Ok(()) };
                match *key {
                    "" => primitives(target, patch),
                    key => objects(types, *item, key, target, patch)?,
                }
                Ok(())
            }
            _ => {
                *target = Value::Array(patch);
                Ok(())
            }
        },
        other => {
            *target = other;
            Ok(())
        }
    }
}

/// What has no type merges as in RFC 7386.
fn untyped(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            super::merge::patch(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn primitives(target: &mut Vec<Value>, patch: Vec<Value>) {
    let mut there: HashSet<Name> = target.iter().map(Name::of).collect();
    target.extend(patch.into_iter().filter(|value| there.insert(Name::of(value))));
}

fn objects(types: &Types, item: TypeId, key: &str, target: &mut Vec<Value>, patch: Vec<Value>) -> Result<()> {
    if let Some(replace) = patch.iter().position(|p| p[DIRECTIVE] == "replace" && p.get(key).is_none()) {
        let mut rest = patch;
        rest.remove(replace);
        *target = rest.into_iter().filter(|p| p[DIRECTIVE] != "delete").collect();
        return Ok(());
    }
    let mut places = Places::of(target.iter().map(|t| Name::of(&t[key])));
    // What is deleted leaves a gap until the end, so that places stay true.
    let mut slots: Vec<Option<Value>> = std::mem::take(target).into_iter().map(Some).collect();
    for entry in patch {
        let Value::Object(mut entry) = entry else { return Err(bad("an item of a merged list is not an object")) };
        let Some(name) = entry.get(key).map(Name::of) else {
            return Err(bad(&format!("an item of a merged list does not contain declared merge key: {key}")));
        };
        let place = places.first(&name);
        match entry.get(DIRECTIVE).and_then(Value::as_str) {
            Some("delete") => {
                places.remove(&name).into_iter().for_each(|i| slots[i] = None);
                continue;
            }
            Some("replace") => {
                entry.remove(DIRECTIVE);
                let entry = Value::Object(without_directives(entry));
                match place {
                    Some(i) => slots[i] = Some(entry),
                    None => {
                        places.add(name, slots.len());
                        slots.push(Some(entry));
                    }
                }
                continue;
            }
            _ => {}
        }
        let i = place.unwrap_or_else(|| {
            places.add(name, slots.len());
            slots.push(Some(Value::Object(Map::new())));
            slots.len() - 1
        });
        if let Some(Value::Object(slot)) = &mut slots[i] {
            struct_(types, item, slot, entry)?;
        }
    }
    *target = slots.into_iter().flatten().collect();
    Ok(())
}

/// Puts a list in the order that the patch asks for; what the order does not name keeps its place behind its neighbour.
fn sort(list: &mut [Value], order: &[Value], key: &str) {
    let id = |v: &Value| Name::of(if key.is_empty() { v } else { &v[key] });
    let wanted = Places::of(order.iter().map(id));
    let mut rank = 0usize;
    let mut ranked: Vec<(usize, usize, Value)> = Vec::with_capacity(list.len());
    for (i, value) in list.iter_mut().enumerate() {
        let value = std::mem::take(value);
        if let Some(found) = wanted.first(&id(&value)) {
            rank = found + 1;
        }
        ranked.push((rank, i, value));
    }
    ranked.sort_by_key(|(rank, i, _)| (*rank, *i));
    for (slot, (_, _, value)) in list.iter_mut().zip(ranked) {
        *slot = value;
    }
}

fn without_directives(map: Map<String, Value>) -> Map<String, Value> {
    map.into_iter().filter(|(name, _)| !name.starts_with('$')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(kind: &str, mut object: Value, change: Value) -> Value {
        patch(&crate::registry::shape_of(kind), &mut object, change).unwrap();
        object
    }

    const POD: &str = "io.k8s.api.core.v1.Pod";

    #[test]
    fn containers_merge_by_name() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}});
        let change = json!({"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "c"}],
            "containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "c"}]
        }});
        let expected = json!([{"name": "b"}, {"name": "a", "image": "2", "args": ["y"]}, {"name": "c"}]);
        assert_eq!(patched(POD, pod, change)["spec"]["containers"], expected);
    }

    #[test]
    fn directives() {
        let pod = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "a"}, {"name": "b"}]}});
        let change = json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": {"x": null, "y": "2"}},
            "spec": {
                "volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "m"}}],
                "containers": [{"name": "b", "$patch": "delete"}]
            }
        });
        let after = patched(POD, pod, change);
        assert_eq!(after["metadata"], json!({"finalizers": ["b", "c"], "labels": {"y": "2"}}));
        assert_eq!(after["spec"]["volumes"], json!([{"name": "v", "configMap": {"name": "m"}}]));
        assert_eq!(after["spec"]["containers"], json!([{"name": "a"}]));
    }
}
