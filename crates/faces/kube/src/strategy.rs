//! What each kind adds to the generic verbs: defaults, validation, what an update may change, its columns, what is special
//! about its creation and deletion.

use std::borrow::Cow;

use model::{Cluster, KubeObject, Snapshot, Time};
use serde_json::{Map, Value};

use crate::custom::path::Path;
use crate::denied::Denied;
use crate::derived::Derived;
use crate::validate::{Errors, NameRule};

/// What a strategy may look at when an object is created or updated.
pub struct Context<'a> {
    pub snapshot: &'a Snapshot,
    pub cluster: &'a Cluster,
}

/// What a strategy's own rules give.
pub type Result<T> = std::result::Result<T, Denied>;

/// A column of `kubectl get`: how it is called, and what stands in it.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub format: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// Shown by `-o wide` only, if it is not 0.
    pub priority: i32,
    pub cell: Cell,
}

/// What stands in a column.
#[derive(Clone, Debug)]
pub enum Cell {
    Of(fn(&Value, Time) -> Value),
    /// What stands at a path.
    At(Path),
    /// How long ago the moment was that stands at a path.
    Since(Path),
}

impl Cell {
    pub fn of(&self, object: &Value, now: Time) -> Value {
        match self {
            Self::Of(make) => make(object, now),
            Self::At(path) => path.first(object).cloned().unwrap_or_default(),
            Self::Since(path) => path.first(object).map_or(Value::Null, |moment| since(moment, now).into()),
        }
    }
}

/// A column that is always shown.
pub fn column(name: &'static str, cell: fn(&Value, Time) -> Value) -> Column {
    Column {
        name: name.into(),
        kind: "string".into(),
        format: "".into(),
        description: "".into(),
        priority: 0,
        cell: Cell::Of(cell),
    }
}

/// A column of whole numbers.
pub fn count(name: &'static str, cell: fn(&Value, Time) -> Value) -> Column {
    Column { kind: "integer".into(), ..column(name, cell) }
}

/// A column that `-o wide` shows.
pub fn wide(name: &'static str, cell: fn(&Value, Time) -> Value) -> Column {
    Column { priority: 1, ..column(name, cell) }
}

/// The column that every kind has first.
pub fn name_column() -> Column {
    Column {
        format: "name".into(),
        description: "Name must be unique within a namespace.".into(),
        ..column("Name", |object, _| name(object))
    }
}

pub fn age_column() -> Column {
    Column { description: "Time since the object was created.".into(), ..column("Age", age) }
}

/// What only the kind knows. Everything has a default: a kind with nothing of its own is [`Plain`].
pub trait Strategy: Sync + Send {
    /// Which names the kind's objects may have.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Fills in what the client left out; of objects that are created and of such that are updated.
    fn default(&self, _object: &mut Value) {}

    /// Prepares an object for its creation: what the server decides and the client may not.
    fn create(&self, _object: &mut Value, _context: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Prepares an update: puts back what an update cannot change.
    fn update(&self, _new: &mut Value, _old: &Value, _context: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// The rules that every object keeps.
    fn validate(&self, _object: &Value, _errors: &mut Errors) {}

    /// The rules that an update keeps beside.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// The rules that an object keeps whose status is written.
    fn validate_status(&self, _object: &Value, _errors: &mut Errors) {}

    /// Whether an update asks for something else: its generation counts up.
    fn is_another(&self, new: &Value, old: &Value) -> bool {
        new["spec"] != old["spec"]
    }

    /// A stored body as this kind shows it, if that is another one.
    fn shown(&self, _body: &Value) -> Option<Value> {
        None
    }

    /// Makes a body what is stored.
    fn store(&self, _body: &mut Value) {}

    /// What the author of an object should know although it is accepted.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The warning of a deletion that says nothing of the object's parts, where they stay then.
    fn preserves_parts(&self) -> Option<&'static str> {
        None
    }

    /// Field selectors beside `metadata.name` and `metadata.namespace`.
    fn selectable(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The columns of a table; asked for once, when the kind is made.
    fn columns(&self) -> Vec<Column> {
        vec![name_column(), age_column()]
    }

    /// Whether an object is a place for others: what happens to it happens in it, and a role in it may grant that.
    fn is_place(&self) -> bool {
        false
    }

    /// Whether all objects may be deleted at once.
    fn deletes_collections(&self) -> bool {
        true
    }

    /// Whether whoever deletes an object is shown it, though it is gone.
    fn shows_deleted(&self) -> bool {
        false
    }

    /// Why an object may not be deleted at all.
    fn keeps(&self, _snapshot: &Snapshot, _name: &str) -> Option<&'static str> {
        None
    }

    /// How objects are made of other rows, if they are.
    fn derived(&self) -> Option<&'static Derived> {
        None
    }

    /// How many seconds an object stays when it is deleted, of so many that were asked for.
    fn grace(&self, _object: &KubeObject, _asked: Option<i64>) -> i64 {
        0
    }

    /// Whether something beside its finalizers holds an object that is being deleted.
    fn held(&self, _body: &Value) -> bool {
        false
    }

    /// What an object says of itself while it is being deleted.
    fn marked(&self, _body: &mut Value) {}

    /// The group and plural of the objects that go with an object.
    fn contents(&self, _object: &KubeObject) -> Option<(String, String)> {
        None
    }

    /// What is made with an object, in the same commit.
    fn made_with(&self, _object: &KubeObject, _cluster: &Cluster, _now: Time) -> Vec<KubeObject> {
        Vec::new()
    }
}

/// A kind with nothing of its own.
pub struct Plain;

impl Strategy for Plain {}

/// Sets a field unless it is there.
pub fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object
        && !map.contains_key(field)
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// The field as an object, made if it is not there.
pub fn object<'a>(parent: &'a mut Value, field: &str) -> &'a mut Value {
    if !parent.is_object() {
        *parent = Value::Object(Map::new());
    }
    if !parent[field].is_object() {
        parent[field] = Value::Object(Map::new());
    }
    &mut parent[field]
}

/// The field of an object, which is made one if it is not.
pub fn entry<'a>(parent: &'a mut Value, field: &str) -> &'a mut Value {
    if !parent.is_object() {
        *parent = Value::Object(Map::new());
    }
    &mut parent[field]
}

/// The items of a list, none if it is absent.
pub fn items<'a>(object: &'a Value, field: &str) -> std::slice::Iter<'a, Value> {
    object[field].as_array().map_or(Default::default(), |items| items.iter())
}

/// The items of a list, to change them.
pub fn items_mut<'a>(object: &'a mut Value, field: &str) -> std::slice::IterMut<'a, Value> {
    match object.get_mut(field) {
        Some(Value::Array(items)) => items.iter_mut(),
        _ => Default::default(),
    }
}

/// The number of entries of a map or list.
pub fn size(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    }
}

/// The cell with the object's name.
pub fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// The cell with the object's age.
pub fn age(object: &Value, now: Time) -> Value {
    since(&object["metadata"]["creationTimestamp"], now).into()
}

/// How long ago a moment was, as kubectl tells it: `5m10s`.
pub fn since(moment: &Value, now: Time) -> String {
    match moment.as_str().and_then(|t| t.parse::<Time>().ok()) {
        Some(then) => duration(now.as_second().saturating_sub(then.as_second())),
        None => "<unknown>".to_owned(),
    }
}

/// A number of seconds in at most two units, by the rules of `duration.HumanDuration`.
pub fn duration(seconds: i64) -> String {
    let (minutes, hours, days, years) = (seconds / 60, seconds / 3600, seconds / 86400, seconds / 86400 / 365);
    let two = |a: i64, unit: char, b: i64, small: char| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit}{b}{small}") }
    };
    match seconds {
        s if s < -1 => "<invalid>".to_owned(),
        s if s < 0 => "0s".to_owned(),
        s if s < 120 => format!("{s}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, 'd', hours % 24, 'h'),
        _ if days < 730 => format!("{days}d"),
        _ if days < 365 * 8 => two(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    }
}

/// A map of labels as one text: `a=1,b=2`, or `<none>`.
pub fn pairs(map: &Value) -> String {
    match map.as_object() {
        Some(map) if !map.is_empty() => {
            let all: Vec<String> = map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
            all.join(",")
        }
        _ => "<none>".to_owned(),
    }
}

/// A label selector as one text, as kubectl prints it.
pub fn selector(selector: &Value) -> String {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    for rule in items(selector, "matchExpressions") {
        let key = rule["key"].as_str().unwrap_or("");
        let values: Vec<&str> = items(rule, "values").filter_map(Value::as_str).collect();
        parts.push(match rule["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}

/// That no pod of this template will be let in, if so: said when the template is written, as its author looks then.
pub fn template_warnings(template: &Value) -> Vec<String> {
    let violations = model::pod_security::violations(template);
    violations
        .map(|v| format!("would {}", model::pod_security::refusal(&v).replacen("violates", "violate", 1)))
        .into_iter()
        .collect()
}

/// The names of a template's containers as one text.
pub fn containers(pod_spec: &Value) -> String {
    joined(pod_spec, "name")
}

/// The images of a template's containers as one text.
pub fn images(pod_spec: &Value) -> String {
    joined(pod_spec, "image")
}

fn joined(pod_spec: &Value, field: &str) -> String {
    let all: Vec<&str> = items(pod_spec, "containers").filter_map(|c| c[field].as_str()).collect();
    all.join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_kubectls() {
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (600, "10m"),
            (7200, "120m"),
            (3 * 3600, "3h"),
            (86400 * 3, "3d"),
            (86400 * 800, "2y70d"),
        ] {
            assert_eq!(super::duration(seconds), text);
        }
    }
}
