//! Whether a body has the shape of its kind: wrong types are refused, unknown fields dropped and told, nulls and
//! numbers-for-quantities put right.

use serde_json::Value;

use crate::types::{Type, TypeId, Types};

/// How many levels a body may have.
pub const MAX_DEPTH: usize = 100;

/// The largest object that is stored, as in etcd.
pub const MAX_OBJECT: usize = 3 << 19;

/// The most unknown fields that are named.
const MAX_UNKNOWN: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Paths of fields that the kind does not have; they were dropped.
    pub unknown: Vec<String>,
    /// The first field of a wrong type, in the words of Go's decoder.
    pub wrong: Option<String>,
}

/// Checks a value against its type and puts it right.
pub fn check(types: &Types, id: TypeId, value: &mut Value) -> Findings {
    let mut walk = Walk { types, owner: "", path: Vec::new(), findings: Findings::default() };
    walk.value(id, value, 0);
    walk.findings
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

struct Walk<'a> {
    types: &'a Types,
    owner: &'a str,
    path: Vec<Step<'a>>,
    findings: Findings,
}

impl<'a> Walk<'a> {
    fn value(&mut self, id: TypeId, value: &mut Value, depth: usize) {
        if depth > MAX_DEPTH {
            self.findings.wrong.get_or_insert_with(|| format!("the body has more than {MAX_DEPTH} levels"));
            return;
        }
        match self.types.get(id) {
            Type::Any => {}
            Type::String => self.expect(value.is_string(), value, "string"),
            Type::Bool => self.expect(value.is_boolean(), value, "bool"),
            Type::Number => self.expect(value.is_number(), value, "float64"),
            Type::Int32 => {
                let fits = value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
                self.expect(fits, value, "int32");
            }
            Type::Int64 => self.expect(value.as_i64().is_some(), value, "int64"),
            Type::IntOrString => {
                let fits = value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
                self.expect(fits, value, "intstr.IntOrString");
            }
            Type::Quantity => {
                if value.is_number() {
                    *value = Value::String(value.to_string());
                }
                let fits = value.as_str().is_some_and(is_quantity);
                self.expect(fits, value, "resource.Quantity");
            }
            Type::Time | Type::MicroTime => {
                let fits = value.as_str().is_some_and(|t| t.is_empty() || t.parse::<jiff::Timestamp>().is_ok());
                self.expect(fits, value, "v1.Time");
            }
            Type::Bytes => {
                let fits = value
                    .as_str()
                    .is_some_and(|t| base64::Engine::decode(&base64::prelude::BASE64_STANDARD, t).is_ok());
                self.expect(fits, value, "[]uint8 (base64)");
            }
            Type::List { item, .. } => self.list(*item, value, depth),
            Type::Map { value: item, .. } => self.map(*item, value, depth),
            Type::Struct(_) => self.structure(id, value, depth),
        }
    }

    fn expect(&mut self, fits: bool, value: &Value, wanted: &str) {
        if fits || self.findings.wrong.is_some() {
            return;
        }
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) => format!("number {number}"),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let text = format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
            self.owner,
            self.show(None)
        );
        self.findings.wrong = Some(text);
    }

    fn show(&self, last: Option<&str>) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Index(i) => text.push_str(&format!("[{i}]")),
            }
        }
        if let Some(name) = last {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(name);
        }
        text
    }

    fn list(&mut self, item: TypeId, value: &mut Value, depth: usize) {
        let Value::Array(items) = value else { return self.expect(false, value, "[]interface {}") };
        for (i, value) in items.iter_mut().enumerate() {
            self.path.push(Step::Index(i));
            self.value(item, value, depth + 1);
            self.path.pop();
        }
    }

    fn map(&mut self, item: TypeId, value: &mut Value, depth: usize) {
        let Value::Object(entries) = value else { return self.expect(false, value, "map[string]interface {}") };
        // Go reads a null as the zero value of the map's type, which for texts is the empty one.
        for (name, value) in entries.iter_mut() {
            if value.is_null() {
                *value = match self.types.get(item) {
                    Type::String | Type::Bytes => Value::String(String::new()),
                    _ => continue,
                };
            }
            // Only texts and structs are values of maps; their place is told by the map's.
            if self.findings.wrong.is_none() {
                let before = self.findings.unknown.len();
                self.value(item, value, depth + 1);
                if self.findings.unknown.len() > before {
                    tracing::trace!(name, "unknown fields in a map's value");
                }
            }
        }
    }

    fn structure(&mut self, id: TypeId, value: &mut Value, depth: usize) {
        let Type::Struct(structure) = self.types.get(id) else { return };
        let Value::Object(entries) = value else {
            return self.expect(false, value, &format!("v1.{}", structure.name()));
        };
        let outer = self.owner;
        self.owner = structure.name();
        let mut unknown = Vec::new();
        entries.retain(|name, value| match structure.fields.get_key_value(name.as_str()) {
            None => {
                unknown.push(name.clone());
                false
            }
            Some(_) if value.is_null() => false,
            Some((name, field)) => {
                self.path.push(Step::Field(name));
                self.value(*field, value, depth + 1);
                self.path.pop();
                true
            }
        });
        for name in unknown {
            if self.findings.unknown.len() < MAX_UNKNOWN {
                let path = self.show(Some(&name));
                self.findings.unknown.push(path);
            }
        }
        self.owner = outer;
    }
}

/// Whether a value has more bytes than so many; looks no further than it must.
pub fn larger(value: &Value, bytes: usize) -> bool {
    fn rest(value: &Value, bytes: usize) -> Option<usize> {
        match value {
            Value::String(text) => bytes.checked_sub(text.len() + 2),
            Value::Array(items) => items.iter().try_fold(bytes.checked_sub(2)?, |left, item| rest(item, left)),
            Value::Object(fields) => fields
                .iter()
                .try_fold(bytes.checked_sub(2)?, |left, (name, value)| rest(value, left.checked_sub(name.len() + 4)?)),
            _ => bytes.checked_sub(6),
        }
    }
    rest(value, bytes).is_none()
}

/// Whether a text is a quantity, negative ones included.
fn is_quantity(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    model::quantity_milli(text).is_some() || model::quantity_bytes(text).is_some()
}
