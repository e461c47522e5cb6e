//! Request bodies and replies: media types, limits, and JSON that is written without copying the row.

use std::fmt;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use model::Revision;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::check::MAX_DEPTH;
use crate::fault::{Failure, Result};

/// The largest body that is read, as in Kubernetes.
pub const MAX_BODY: usize = 3 << 20;

/// All bytes of a body.
pub async fn read(mut body: Body) -> Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::bad_request(format!("the body could not be read: {e}")))?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > MAX_BODY {
                let message = format!("Request entity too large: limit is {MAX_BODY}");
                return Err(Failure::new(413, "RequestEntityTooLarge", message));
            }
            all.extend_from_slice(data);
        }
    }
    Ok(all.freeze())
}

/// The media type of the body, without parameters; JSON if it is not told.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    value.split(';').next().unwrap_or("").trim()
}

/// A JSON text and the fields that it has twice.
pub struct Parsed {
    pub value: Value,
    pub duplicates: Vec<String>,
}

/// Parses JSON, bounded in depth, telling duplicate fields (of which the last counts).
pub fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Node { duplicates: &mut duplicates, depth: 0 }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| Failure::bad_request(format!("the object provided is unrecognized: {e}")))?;
    Ok(Parsed { value, duplicates })
}

struct Node<'a> {
    duplicates: &'a mut Vec<String>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, v: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> std::result::Result<Value, E> {
        // Go reads 1.0 into an integer field; so does everybody who writes numbers from a language without integers.
        if v.fract() == 0.0 && v.abs() < 9e15 { Ok((v as i64).into()) } else { Ok(v.into()) }
    }
    fn visit_str<E>(self, v: &str) -> std::result::Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> std::result::Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        too_deep::<A::Error>(self.depth)?;
        let mut items = Vec::new();
        while let Some(item) =
            seq.next_element_seed(Node { duplicates: &mut *self.duplicates, depth: self.depth + 1 })?
        {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        too_deep::<A::Error>(self.depth)?;
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Node { duplicates: &mut *self.duplicates, depth: self.depth + 1 })?;
            if fields.contains_key(&name) && self.duplicates.len() < 100 {
                self.duplicates.push(name.clone());
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

fn too_deep<E: serde::de::Error>(depth: usize) -> std::result::Result<(), E> {
    if depth < MAX_DEPTH { Ok(()) } else { Err(E::custom(format_args!("more than {MAX_DEPTH} levels"))) }
}

/// An object as clients see it: the row's body with its revision.
pub struct Shown<'a> {
    pub body: &'a Value,
    pub revision: Revision,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.body else { return self.body.serialize(serializer) };
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            if name == "metadata" {
                map.serialize_entry(name, &Metadata { meta: value, revision: self.revision })?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// Metadata with the row's revision.
pub struct Metadata<'a> {
    pub meta: &'a Value,
    pub revision: Revision,
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.meta else { return self.meta.serialize(serializer) };
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in fields.iter().filter(|(name, _)| *name != "resourceVersion") {
            map.serialize_entry(name, value)?;
        }
        // What is not stored yet (a dry run) has no revision.
        if self.revision > 0 {
            map.serialize_entry("resourceVersion", &Text(self.revision))?;
        }
        map.end()
    }
}

struct Text(Revision);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A reply in JSON.
pub fn json(status: u16, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => bytes_reply(status, "application/json", bytes.into()),
        Err(e) => {
            tracing::error!("a reply could not be written: {e}");
            Failure::new(500, "InternalError", "Internal error occurred").response()
        }
    }
}

/// A reply of bytes.
pub fn bytes_reply(status: u16, media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Adds warnings for people, which kubectl prints.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings.iter().take(50) {
        let text: String = warning.chars().filter(|c| !c.is_control()).take(256).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_get_their_revision() {
        let body = json!({"kind": "Pod", "metadata": {"name": "a"}});
        let text = serde_json::to_string(&Shown { body: &body, revision: 7 }).unwrap();
        assert_eq!(text, r#"{"kind":"Pod","metadata":{"name":"a","resourceVersion":"7"}}"#);
    }

    #[test]
    fn json_is_bounded() {
        assert!(parse(&[b"[".repeat(200), b"]".repeat(200)].concat()).is_err());
        let parsed = parse(br#"{"a": 1, "b": 2.0, "a": 3}"#).unwrap();
        assert_eq!(parsed.value, json!({"a": 3, "b": 2}));
        assert_eq!(parsed.duplicates, ["a"]);
    }
}
