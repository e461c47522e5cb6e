//! Bodies in Kubernetes' protobuf, which typed Go clients send for built-in kinds. They are read into the same JSON as
//! everything else, by the graph of types and upstream's field numbers (`upstream`). Generated Rust messages were refused:
//! they are twenty thousand lines that would know the same as the table. Replies are JSON: clients accept it everywhere.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::check::MAX_DEPTH;
use crate::fault::{Failure, Result};
use crate::registry::types;
use crate::types::{Type, TypeId, Types};
use crate::upstream::{self, Slot};

/// What typed Go clients send for built-in kinds.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

/// Numbers and truth values that Go writes even when they were not set, because the field has no pointer. Zero means
/// absent there.
const ZERO_IS_ABSENT: &[&str] = &[
    "chapAuthDiscovery",
    "chapAuthSession",
    "collisionCount",
    "count",
    "failureThreshold",
    "generation",
    "globalDefault",
    "healthCheckNodePort",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "leaseTransitions",
    "minReadySeconds",
    "nodePort",
    "observedGeneration",
    "partition",
    "periodSeconds",
    "publishNotReadyAddresses",
    "readOnly",
    "sslEnabled",
    "start",
    "stdin",
    "stdinOnce",
    "successThreshold",
    "timeoutSeconds",
    "tty",
    "unschedulable",
];

/// Kinds that are not read from protobuf: a field of theirs is one of several types, of which the graph has none.
const JSON_ALONE: &[&str] = &["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"];

fn broken() -> Failure {
    Failure::bad_request("the object provided is unrecognized: it is not Kubernetes' protobuf")
}

/// Whether messages of this type can be read.
pub fn knows(definition: &str) -> bool {
    upstream::message(definition).is_some() && !JSON_ALONE.contains(&definition)
}

/// Reads a body of a type that is known by its definition.
pub fn decode(bytes: &Bytes, definition: &str) -> Result<Value> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut raw, mut head) = (&[][..], Map::new());
    for field in Records(rest) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Records(meta) {
                    let (number, wire) = field?;
                    let name = match number {
                        1 => "apiVersion",
                        2 => "kind",
                        _ => continue,
                    };
                    head.insert(name.to_owned(), Value::String(text(wire)?));
                }
            }
            (2, Wire::Bytes(object)) => raw = object,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => return Err(broken()),
            _ => {}
        }
    }
    let types = types();
    let id = types.named(definition).ok_or_else(broken)?;
    let mut object = message(types, id, raw, 0)?;
    if let Value::Object(fields) = &mut object {
        fields.extend(head);
    }
    Ok(object)
}

/// A value on the wire.
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// What stands in a message, in order.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u32, Wire<'a>)>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(&mut self.0);
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(broken))
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u32, Wire<'a>)> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let wire = match tag & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((number, wire))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn text(wire: Wire<'_>) -> Result<String> {
    match wire {
        Wire::Bytes(bytes) => String::from_utf8(bytes.to_vec()).map_err(|_| broken()),
        _ => Err(broken()),
    }
}

fn inner<'a>(wire: &Wire<'a>) -> Result<&'a [u8]> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(broken()),
    }
}

fn message(types: &Types, id: TypeId, bytes: &[u8], depth: usize) -> Result<Value> {
    let Type::Struct(structure) = types.get(id) else { return Err(broken()) };
    let mut object = Map::new();
    into(types, id, &structure.definition, bytes, &mut object, depth)?;
    Ok(Value::Object(object))
}

/// Reads the fields of a message into the object of a struct: its own, or its parent's.
fn into(
    types: &Types,
    id: TypeId,
    definition: &str,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(broken());
    }
    let Type::Struct(structure) = types.get(id) else { return Err(broken()) };
    let Some(message) = upstream::message(definition) else { return Err(broken()) };
    for field in Records(bytes) {
        let (number, wire) = field?;
        match message.slots.iter().find(|(n, _)| *n == number) {
            Some((_, Slot::Inline(definition))) => into(types, id, definition, inner(&wire)?, object, depth + 1)?,
            Some((_, Slot::Field(name, _))) => {
                if let Some(child) = structure.fields.get(*name) {
                    add(types, *child, name, wire, object, depth)?;
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// Reads one occurrence of a field: repeated ones add up.
fn add(
    types: &Types,
    id: TypeId,
    name: &str,
    wire: Wire<'_>,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    match types.get(id) {
        Type::List { item, .. } => {
            let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let (Value::Array(list), Some(value)) = (list, one(types, *item, "", wire, depth)?) {
                list.push(value);
            }
        }
        Type::Map { value, .. } => {
            let (mut key, mut entry) = (String::new(), None);
            for field in Records(inner(&wire)?) {
                match field? {
                    (1, wire) => key = text(wire)?,
                    (2, wire) => entry = one(types, *value, "", wire, depth)?,
                    _ => {}
                }
            }
            let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, entry.unwrap_or_else(|| Value::String(String::new())));
            }
        }
        Type::String => {
            // Go writes empty texts too.
            let text = text(wire)?;
            if !text.is_empty() {
                object.insert(name.to_owned(), Value::String(text));
            }
        }
        _ => {
            if let Some(value) = one(types, id, name, wire, depth)? {
                object.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn one(types: &Types, id: TypeId, name: &str, wire: Wire<'_>, depth: usize) -> Result<Option<Value>> {
    let zero = |value: u64| value == 0 && ZERO_IS_ABSENT.contains(&name);
    Ok(Some(match (types.get(id), wire) {
        (Type::String, wire) => Value::String(text(wire)?),
        (Type::Bytes, Wire::Bytes(bytes)) => Value::String(BASE64_STANDARD.encode(bytes)),
        (Type::Bool | Type::Int32 | Type::Int64, Wire::Varint(value)) if zero(value) => return Ok(None),
        (Type::Bool, Wire::Varint(value)) => Value::Bool(value != 0),
        (Type::Int32 | Type::Int64, Wire::Varint(value)) => (value as i64).into(),
        (Type::Number, Wire::Fixed64(value)) => f64::from_bits(value).into(),
        (Type::Number, Wire::Fixed32(value)) => f64::from(f32::from_bits(value)).into(),
        (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => match moment(bytes)? {
            Some(text) => Value::String(text),
            None => return Ok(None),
        },
        (Type::Quantity, Wire::Bytes(bytes)) => match Records(bytes).next() {
            Some(field) => Value::String(text(field?.1)?),
            None => "0".into(),
        },
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Type::Any, Wire::Bytes(bytes)) => match Records(bytes).next() {
            Some(field) => serde_json::from_slice(inner(&field?.1)?).map_err(|_| broken())?,
            None => return Ok(None),
        },
        // A list within a map is a message with the list as its first field.
        (Type::List { item, .. }, Wire::Bytes(bytes)) => {
            let mut list = Vec::new();
            for field in Records(bytes) {
                list.extend(one(types, *item, "", field?.1, depth + 1)?);
            }
            Value::Array(list)
        }
        (Type::Struct(_), Wire::Bytes(bytes)) => message(types, id, bytes, depth + 1)?,
        _ => return Err(broken()),
    }))
}

/// A moment; an empty message is none.
fn moment(bytes: &[u8]) -> Result<Option<String>> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for field in Records(bytes) {
        match field? {
            (1, Wire::Varint(value)) => seconds = value as i64,
            (2, Wire::Varint(value)) => nanos = value as i32,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    jiff::Timestamp::new(seconds, nanos).map(|t| Some(t.to_string())).map_err(|_| broken())
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for field in Records(bytes) {
        match field? {
            (1, Wire::Varint(value)) => is_text = value == 1,
            (2, Wire::Varint(value)) => number = value as i64,
            (3, wire) => string = text(wire)?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(string) } else { number.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let meta = [bytes(1, b"a"), bytes(3, b""), bytes(8, b"")].concat();
        let entry = bytes(2, &[bytes(1, b"k"), bytes(2, b"v")].concat());
        let object = [bytes(1, &meta), entry].concat();
        let unknown = [bytes(1, &[bytes(1, b"v1"), bytes(2, b"ConfigMap")].concat()), bytes(2, &object)].concat();
        let body = Bytes::from([MAGIC, &unknown].concat());
        let value = decode(&body, "io.k8s.api.core.v1.ConfigMap").unwrap();
        assert_eq!(
            value,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}})
        );
        for cut in 0..body.len() {
            let _ = decode(&body.slice(..cut), "io.k8s.api.core.v1.ConfigMap");
        }
    }

    fn reach(id: TypeId, seen: &mut std::collections::BTreeSet<String>) {
        match types().get(id) {
            Type::Struct(structure) if seen.insert(structure.definition.to_string()) => {
                structure.fields.values().for_each(|field| reach(*field, seen));
            }
            Type::List { item, .. } => reach(*item, seen),
            Type::Map { value, .. } => reach(*value, seen),
            _ => {}
        }
    }

    /// The table is of another source than the schemas are: what it lacks, or names differently, is seen here.
    #[test]
    fn every_message_that_a_kind_reaches_has_numbers() {
        let mut reached = std::collections::BTreeSet::new();
        for kind in crate::registry::built_in().iter().filter(|kind| knows(&kind.definition)) {
            // Those of its subresources among them.
            for name in crate::types::definitions(kind.schemas()).keys() {
                types().named(name).into_iter().for_each(|id| reach(id, &mut reached));
            }
        }
        for name in reached {
            let Some(Type::Struct(structure)) = types().named(&name).map(|id| types().get(id)) else { continue };
            let numbered = fields_of(&name);
            for field in structure.fields.keys() {
                let head = matches!(&**field, "apiVersion" | "kind");
                assert!(head || numbered.contains(&&**field), "{name}.{field} has no number in upstream.txt");
            }
        }
    }

    fn fields_of(definition: &str) -> Vec<&'static str> {
        let message = upstream::message(definition).unwrap_or_else(|| panic!("{definition} is not in upstream.txt"));
        let inner = |(_, slot): &(u32, Slot)| match slot {
            Slot::Field(name, _) => vec![*name],
            Slot::Inline(of) => fields_of(of),
        };
        message.slots.iter().flat_map(inner).collect()
    }
}
