//! Whether a body has the shape of its kind: wrong types are refused, unknown fields dropped and told, nulls and
//! numbers-for-quantities put right.

use model::quantity::Quantity;
use serde_json::Value;

use crate::custom::{METADATA, shape::prune};
use crate::types::{Shape, Type, TypeId, Types};

/// How many levels a body may have.
pub const MAX_DEPTH: usize = 100;

/// The largest object that is stored, as in etcd.
pub const MAX_OBJECT: usize = 3 << 19;

/// The most unknown fields that are named.
const MAX_UNKNOWN: usize = 100;

/// Fields of metadata that Go leaves out when they are empty; clients compare objects.
const LEFT_OUT: &[&str] = &["annotations", "finalizers", "labels", "ownerReferences"];

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Paths of fields that the kind does not have; they were dropped.
    pub unknown: Vec<String>,
    /// The first field of a wrong type, in the words of Go's decoder.
    pub wrong: Option<String>,
}

/// Checks a value against its type and puts it right. Of a custom kind what its schema does not have is dropped, and the
/// rest said by its rules later: they have words of their own.
pub fn check(shape: &Shape, value: &mut Value) -> Findings {
    let Some(schema) = &shape.schema else { return walk(shape, value) };
    let mut unknown = prune(schema, value);
    let meta = Shape::new(shape.types.clone(), shape.types.named(METADATA));
    let mut findings = match value.get_mut("metadata") {
        Some(value) => walk(&meta, value),
        None => Findings::default(),
    };
    unknown.extend(findings.unknown.iter().map(|path| format!("metadata.{path}")));
    findings.unknown = unknown;
    findings
}

fn walk(shape: &Shape, value: &mut Value) -> Findings {
    let mut walk = Walk { types: &shape.types, owner: "", path: Vec::new(), findings: Findings::default() };
    walk.value(shape.root, value, 0);
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
            Type::Any | Type::Open => {}
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
                let quantity = value.as_str().and_then(Quantity::parse);
                self.expect(quantity.is_some(), value, "resource.Quantity");
                if let Some(quantity) = quantity {
                    *value = Value::String(quantity.canonical());
                }
            }
            Type::Time => self.time(value, "%Y-%m-%dT%H:%M:%SZ"),
            Type::MicroTime => self.time(value, "%Y-%m-%dT%H:%M:%S%.6fZ"),
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

    /// A moment, put into the one form in which Kubernetes writes it.
    fn time(&mut self, value: &mut Value, format: &str) {
        let text = value.as_str().unwrap_or("");
        let moment = text.parse::<jiff::Timestamp>().ok();
        self.expect(moment.is_some() || (value.is_string() && text.is_empty()), value, "v1.Time");
        if let Some(moment) = moment {
            *value = Value::String(moment.strftime(format).to_string());
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
        if structure.name() == "ObjectMeta" {
            entries.retain(|name, value| !(LEFT_OUT.contains(&name.as_str()) && is_empty(value)));
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_one_form() {
        let put_right = |definition: &str, mut value: Value| {
            let findings = check(&crate::registry::shape_of(definition), &mut value);
            assert_eq!(findings.wrong, None);
            value
        };
        let spec = json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": "131072Ki"}}}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "0.5Gi"}}], "overhead": {"cpu": 0.5}});
        let pod = put_right("io.k8s.api.core.v1.Pod", json!({"spec": spec}));
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "1", "memory": "128Mi"}));
        assert_eq!(pod["spec"]["volumes"][0]["emptyDir"]["sizeLimit"], "512Mi");
        assert_eq!(pod["spec"]["overhead"]["cpu"], "500m");
        let times = json!({"acquireTime": "2026-01-02T03:04:05+01:00", "renewTime": "2026-01-02T03:04:05.1Z"});
        let lease = put_right("io.k8s.api.coordination.v1.Lease", json!({"spec": times}));
        let expected =
            json!({"acquireTime": "2026-01-02T02:04:05.000000Z", "renewTime": "2026-01-02T03:04:05.100000Z"});
        assert_eq!(lease["spec"], expected);
        let meta = json!({"creationTimestamp": "2026-01-02T03:04:05.678Z", "labels": {}, "annotations": null,
            "ownerReferences": [], "finalizers": [], "managedFields": []});
        let pod = put_right("io.k8s.api.core.v1.Pod", json!({"metadata": meta}));
        // Owners of fields are reset by an empty list.
        assert_eq!(pod["metadata"], json!({"creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": []}));
    }
}
