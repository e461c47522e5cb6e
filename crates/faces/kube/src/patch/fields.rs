//! Sets of fields: who owns what, as `metadata.managedFields` tells it, and what differs between two objects.
//! The rules are those of sigs.k8s.io/structured-merge-diff.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::places::work;
use crate::types::{ListKey, Type, TypeId, Types};
use crate::upstream::ListType;

/// A set of paths, as a tree; a child is never empty. The names of children are those of `FieldsV1`: `f:name`, `k:{"name":"a"}`, `v:"x"`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet {
    /// The path itself is in the set.
    pub member: bool,
    pub children: BTreeMap<String, FieldSet>,
}

/// How deep the sets that are read from a client may be.
const MAX_DEPTH: usize = 100;

impl FieldSet {
    fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Reads `fieldsV1`.
    pub fn read(value: &Value) -> Self {
        Self::read_at(value, 0)
    }

    fn read_at(value: &Value, depth: usize) -> Self {
        let mut fields = Self::default();
        let Some(map) = value.as_object().filter(|_| depth < MAX_DEPTH) else { return fields };
        fields.member = depth > 0 && (map.is_empty() || map.contains_key("."));
        for (name, value) in map.iter().filter(|(name, _)| *name != ".") {
            let child = Self::read_at(value, depth + 1);
            if !child.is_empty() {
                fields.children.insert(name.clone(), child);
            }
        }
        fields
    }

    /// Writes `fieldsV1`.
    pub fn write(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (name, child) in &self.children {
            map.insert(name.clone(), child.write());
        }
        Value::Object(map)
    }

    pub fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (name, theirs) in &other.children {
            work::step();
            match self.children.get_mut(name) {
                Some(ours) => ours.union(theirs),
                None => {
                    self.children.insert(name.clone(), theirs.clone());
                }
            }
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { member: self.member && other.member, children: BTreeMap::new() };
        if other.children.len() < self.children.len() {
            return other.intersection(self);
        }
        for (name, ours) in &self.children {
            work::step();
            if let Some(theirs) = other.children.get(name) {
                let child = ours.intersection(theirs);
                if !child.is_empty() {
                    both.children.insert(name.clone(), child);
                }
            }
        }
        both
    }

    /// Removes what is in the other. Costs no more than the smaller of the two: there may be many small sets, from all of
    /// which a large one is removed.
    pub fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        if self.children.len() < other.children.len() {
            self.children.retain(|name, ours| {
                work::step();
                other.children.get(name).into_iter().for_each(|theirs| ours.subtract(theirs));
                !ours.is_empty()
            });
            return;
        }
        for (name, theirs) in &other.children {
            work::step();
            if let Some(ours) = self.children.get_mut(name) {
                ours.subtract(theirs);
                if ours.is_empty() {
                    self.children.remove(name);
                }
            }
        }
    }

    /// Removes a path and all that is below it.
    pub fn remove(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let name = format!("f:{first}");
        if rest.is_empty() {
            self.children.remove(&name);
        } else if let Some(child) = self.children.get_mut(&name) {
            child.remove(rest);
            if child.is_empty() {
                self.children.remove(&name);
            }
        }
    }

    /// Paths of the set as text, so many at most: `.spec.containers[name="a"].image`.
    pub fn paths(&self, most: usize) -> Vec<String> {
        let mut all = Vec::new();
        self.collect("", &mut all, most);
        all
    }

    fn collect(&self, at: &str, all: &mut Vec<String>, most: usize) {
        if self.member && all.len() < most {
            all.push(at.to_owned());
        }
        for (name, child) in &self.children {
            if all.len() >= most {
                return;
            }
            child.collect(&format!("{at}{}", show(name)), all, most);
        }
    }
}

/// The longest part of a path that is told whole.
const LONGEST_SHOWN: usize = 512;

fn show(name: &str) -> String {
    let (kind, rest) = name.split_at_checked(2).unwrap_or(("", name));
    if rest.chars().nth(LONGEST_SHOWN).is_some() {
        let begin: String = rest.chars().take(LONGEST_SHOWN).collect();
        return format!("[{begin}...]");
    }
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={rest}]"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{name}]"),
    }
}

/// How the parts of a value are owned.
pub enum Topology<'a> {
    /// As one.
    Atomic,
    /// Field by field; `struct_` says that the fields' names are fixed.
    Fields { struct_: bool },
    /// Item by item.
    Items { item: TypeId, list: ListType, keys: &'a [ListKey] },
}

/// How the parts of a value of a type are owned.
pub fn topology(types: &Types, id: TypeId) -> Topology<'_> {
    match types.get(id) {
        Type::Struct(s) if !s.atomic => Topology::Fields { struct_: true },
        Type::Map { atomic: false, .. } | Type::Open => Topology::Fields { struct_: false },
        Type::List { item, list, keys, .. } if *list != ListType::Atomic => {
            Topology::Items { item: *item, list: *list, keys }
        }
        _ => Topology::Atomic,
    }
}

/// The type of a field of a struct or the values of a map.
pub fn child(types: &Types, id: TypeId, name: &str) -> TypeId {
    match types.get(id) {
        Type::Struct(s) => s.fields.get(name).copied().unwrap_or(TypeId::MAX),
        Type::Map { value, .. } => *value,
        Type::Open => id,
        _ => TypeId::MAX,
    }
}

/// The name of a list's item in a set, if the item has its keys.
pub fn item_name(item: &Value, list: ListType, keys: &[ListKey]) -> Option<String> {
    if list == ListType::Set {
        return Some(format!("v:{item}"));
    }
    let mut key = Map::new();
    for ListKey { name, default } in keys {
        let value = item.get(&**name).or(default.as_ref())?;
        key.insert(name.to_string(), value.clone());
    }
    Some(format!("k:{}", Value::Object(key)))
}

fn is_void(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// All fields that a value sets: what an apply configuration asks to own.
pub fn of(types: &Types, id: TypeId, value: &Value) -> FieldSet {
    let mut fields = FieldSet::default();
    match (topology(types, id), value) {
        (Topology::Fields { struct_ }, Value::Object(map)) => {
            for (name, value) in map {
                let mut below = of(types, child(types, id, name), value);
                below.member |= is_void(value) || !struct_;
                if !below.is_empty() {
                    fields.children.insert(format!("f:{name}"), below);
                }
            }
        }
        (Topology::Items { item, list, keys }, Value::Array(items)) => {
            for value in items {
                if let Some(name) = item_name(value, list, keys) {
                    let mut below = if list == ListType::Set { FieldSet::default() } else { of(types, item, value) };
                    below.member = true;
                    fields.children.insert(name, below);
                }
            }
        }
        (Topology::Fields { .. } | Topology::Items { .. }, Value::Null) => {}
        _ => fields = FieldSet::leaf(),
    }
    fields
}

/// What differs between two objects.
#[derive(Debug, Default)]
pub struct Difference {
    pub changed: FieldSet,
    pub removed: FieldSet,
}

/// What is different in `new`. Fields that were added or modified are `changed`.
pub fn compare(types: &Types, id: TypeId, old: Option<&Value>, new: Option<&Value>) -> Difference {
    let mut difference = Difference::default();
    compare_into(types, id, old, new, &mut difference.changed, &mut difference.removed);
    difference
}

fn compare_into(
    types: &Types,
    id: TypeId,
    old: Option<&Value>,
    new: Option<&Value>,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    if old == new {
        return;
    }
    match topology(types, id) {
        Topology::Fields { struct_ } if is_map(old) && is_map(new) => {
            let empty = Map::new();
            let (before, after) = (map(old).unwrap_or(&empty), map(new).unwrap_or(&empty));
            // A map, or an empty struct, that appears is a field of its own.
            if old.is_none() && (!struct_ || after.is_empty()) {
                changed.member = true;
            }
            if new.is_none() {
                removed.member = true;
            }
            for (name, value) in after {
                descend(
                    types,
                    child(types, id, name),
                    &format!("f:{name}"),
                    before.get(name),
                    Some(value),
                    changed,
                    removed,
                );
            }
            for (name, value) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
                descend(types, child(types, id, name), &format!("f:{name}"), Some(value), None, changed, removed);
            }
        }
        Topology::Items { item, list, keys } if is_list(old) && is_list(new) => {
            let before = by_name(old, list, keys);
            let after = by_name(new, list, keys);
            for (name, value) in &after {
                descend(types, item, name, before.get(name).copied(), Some(value), changed, removed);
                if !before.contains_key(name) {
                    changed.children.entry(name.clone()).or_default().member = true;
                }
            }
            for (name, value) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
                descend(types, item, name, Some(value), None, changed, removed);
                removed.children.entry(name.clone()).or_default().member = true;
            }
        }
        _ => match new {
            Some(_) => changed.member = true,
            None => removed.member = true,
        },
    }
}

fn descend(
    types: &Types,
    id: TypeId,
    name: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    if old == new {
        return;
    }
    let (mut more, mut less) = (FieldSet::default(), FieldSet::default());
    compare_into(types, id, old, new, &mut more, &mut less);
    work::step();
    for (set, below) in [(changed, more), (removed, less)] {
        if !below.is_empty() {
            set.children.insert(name.to_owned(), below);
        }
    }
}

fn is_map(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_object)
}

fn is_list(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_array)
}

fn map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn by_name<'a>(list: Option<&'a Value>, kind: ListType, keys: &[ListKey]) -> BTreeMap<String, &'a Value> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some((item_name(item, kind, keys)?, item))).collect()
}
