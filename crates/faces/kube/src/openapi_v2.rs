//! OpenAPI v2: one document for all groups, as JSON and in the protobuf of gnostic's `openapi.v2` messages, which is the
//! form that kubectl and Helm ask for. They look here for a kind that v3 does not have, and without an answer say that
//! the server has no such resource, not which kind is missing.

use serde_json::{Map, Value, json};

/// The protobuf form.
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The document, made from v3's of all groups.
pub fn of(v3: &Value) -> Value {
    let mut definitions = Map::new();
    for (name, definition) in v3["components"]["schemas"].as_object().into_iter().flatten() {
        let definition = match name.rsplit('.').next() {
            Some("IntOrString") => json!({"type": "string", "format": "int-or-string"}),
            Some("Quantity") => json!({"type": "string"}),
            _ => schema(definition),
        };
        definitions.insert(name.clone(), definition);
    }
    let mut paths = Map::new();
    for (path, item) in v3["paths"].as_object().into_iter().flatten() {
        let operations = item.as_object().into_iter().flatten();
        let mut item: Map<String, Value> = operations.map(|(verb, o)| (verb.clone(), operation(o))).collect();
        let named: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({"name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true}))
            .collect();
        if !named.is_empty() {
            item.insert("parameters".to_owned(), named.into());
        }
        paths.insert(path.clone(), Value::Object(item));
    }
    json!({"swagger": "2.0", "info": v3["info"], "paths": paths, "definitions": definitions})
}

/// A schema in v2's way: references to `definitions`, which stand beside other words.
fn schema(v3: &Value) -> Value {
    match v3 {
        Value::Object(fields) => {
            let mut out = Map::new();
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("$ref", Value::String(to)) => {
                        let to = to.rsplit('/').next().unwrap_or(to);
                        out.insert(name.clone(), format!("#/definitions/{to}").into());
                    }
                    ("allOf", Value::Array(all)) if all.len() == 1 && all[0].get("$ref").is_some() => {
                        out.extend(schema(&all[0]).as_object().cloned().unwrap_or_default());
                    }
                    // Words that this version does not have.
                    ("anyOf" | "not" | "nullable" | "oneOf", _) => {}
                    _ => {
                        out.insert(name.clone(), schema(value));
                    }
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(schema).collect(),
        other => other.clone(),
    }
}

fn operation(v3: &Value) -> Value {
    let parameters = v3["parameters"].as_array().into_iter().flatten();
    let mut parameters: Vec<Value> = parameters
        .map(|p| json!({"name": p["name"], "in": p["in"], "type": p["schema"]["type"], "uniqueItems": true}))
        .collect();
    let mut out = json!({
        "operationId": v3["operationId"], "produces": ["application/json"], "schemes": ["https"],
        "x-kubernetes-action": v3["x-kubernetes-action"],
        "x-kubernetes-group-version-kind": v3["x-kubernetes-group-version-kind"],
    });
    if let Some(content) = v3["requestBody"]["content"].as_object() {
        out["consumes"] = content.keys().cloned().collect();
        let body = content.values().next().map(|content| schema(&content["schema"]));
        parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": body}));
    }
    let ok = &v3["responses"]["200"];
    let shown = schema(&ok["content"]["application/json"]["schema"]);
    out["responses"] = json!({"200": {"description": ok["description"], "schema": shown}});
    out["parameters"] = parameters.into();
    out
}

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A text, or each of a list; nothing if there is none.
    fn text(&mut self, number: u64, value: &Value) {
        match value {
            Value::String(text) => self.bytes(number, text.as_bytes()),
            Value::Array(items) => items.iter().for_each(|item| self.text(number, item)),
            _ => {}
        }
    }

    fn flag(&mut self, number: u64, value: &Value) {
        if value == true {
            self.varint(number << 3);
            self.0.push(1);
        }
    }

    fn message(&mut self, number: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    /// A map as pairs of name and value.
    fn named(&mut self, number: u64, name: &str, write: impl FnOnce(&mut Self)) {
        self.message(number, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, write);
        });
    }

    /// Whatever value, as the YAML that JSON is.
    fn any(&mut self, number: u64, value: &Value) {
        self.message(number, |any| any.bytes(2, value.to_string().as_bytes()));
    }

    fn extensions(&mut self, number: u64, of: &Value) {
        for (name, value) in fields(of).filter(|(name, _)| name.starts_with("x-")) {
            self.named(number, name, |any| any.bytes(2, value.to_string().as_bytes()));
        }
    }

    fn schemas(&mut self, number: u64, of: &Value) {
        for (name, schema) in fields(of) {
            self.named(number, name, |message| message.schema(schema));
        }
    }

    fn schema(&mut self, schema: &Value) {
        for (number, field) in
            [(1, "$ref"), (2, "format"), (3, "title"), (4, "description"), (13, "pattern"), (19, "required")]
        {
            self.text(number, &schema[field]);
        }
        if let Some(default) = schema.get("default") {
            self.any(5, default);
        }
        for value in schema["enum"].as_array().into_iter().flatten() {
            self.any(20, value);
        }
        match &schema["additionalProperties"] {
            inner @ Value::Object(_) => self.message(21, |item| item.message(1, |message| message.schema(inner))),
            Value::Bool(_) => self.message(21, |item| item.flag(2, &schema["additionalProperties"])),
            _ => {}
        }
        if schema["type"].is_string() {
            self.message(22, |item| item.text(1, &schema["type"]));
        }
        if schema["items"].is_object() {
            self.message(23, |item| item.message(1, |message| message.schema(&schema["items"])));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.message(24, |message| message.schema(part));
        }
        if schema["properties"].is_object() {
            self.message(25, |properties| properties.schemas(1, &schema["properties"]));
        }
        self.extensions(31, schema);
    }

    fn parameter(&mut self, number: u64, parameter: &Value) {
        self.message(number, |item| {
            item.message(1, |either| match parameter["in"].as_str() {
                Some("body") => either.message(1, |body| {
                    body.text(2, &parameter["name"]);
                    body.text(3, &parameter["in"]);
                    body.flag(4, &parameter["required"]);
                    body.message(5, |schema| schema.schema(&parameter["schema"]));
                }),
                place => either.message(2, |other| {
                    let (form, kind, unique) = if place == Some("path") { (4, 5, 19) } else { (3, 6, 20) };
                    other.message(form, |message| {
                        message.flag(1, &parameter["required"]);
                        message.text(2, &parameter["in"]);
                        message.text(4, &parameter["name"]);
                        message.text(kind, &parameter["type"]);
                        message.flag(unique, &parameter["uniqueItems"]);
                    });
                }),
            });
        });
    }

    fn operation(&mut self, operation: &Value) {
        self.text(5, &operation["operationId"]);
        self.text(6, &operation["produces"]);
        self.text(7, &operation["consumes"]);
        operation["parameters"].as_array().into_iter().flatten().for_each(|p| self.parameter(8, p));
        self.message(9, |responses| {
            for (code, response) in fields(&operation["responses"]) {
                responses.named(1, code, |value| {
                    value.message(1, |message| {
                        message.text(1, &response["description"]);
                        message.message(2, |item| item.message(1, |schema| schema.schema(&response["schema"])));
                    });
                });
            }
        });
        self.text(10, &operation["schemes"]);
        self.extensions(13, operation);
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The document in protobuf.
pub fn protobuf(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.message(8, |paths| {
        for (path, item) in fields(&document["paths"]) {
            paths.named(2, path, |message| {
                for (number, verb) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
                    if let Some(operation) = item.get(verb) {
                        message.message(number, |message| message.operation(operation));
                    }
                }
                item["parameters"].as_array().into_iter().flatten().for_each(|p| message.parameter(9, p));
            });
        }
    });
    out.message(9, |definitions| definitions.schemas(1, &document["definitions"]));
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words that `Message::schema` writes.
    const WRITTEN: &[&str] = &[
        "$ref",
        "format",
        "title",
        "description",
        "pattern",
        "required",
        "default",
        "enum",
        "additionalProperties",
        "type",
        "items",
        "allOf",
        "properties",
    ];

    fn walk(schema: &Value) {
        for (word, value) in fields(schema) {
            assert!(WRITTEN.contains(&word.as_str()) || word.starts_with("x-"), "{word} is not written: {schema}");
            match word.as_str() {
                "properties" => fields(value).for_each(|(_, schema)| walk(schema)),
                "items" | "additionalProperties" => walk(value),
                "allOf" => value.as_array().into_iter().flatten().for_each(walk),
                "$ref" => assert!(value.as_str().is_some_and(|to| to.starts_with("#/definitions/")), "{value}"),
                _ => {}
            }
        }
    }

    #[test]
    fn everything_that_is_said_is_written() {
        let document = of(&crate::openapi::everything(&crate::known::Kinds::built_in()));
        fields(&document["definitions"]).for_each(|(_, schema)| walk(schema));
        let pod = &document["definitions"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
        assert_eq!(pod["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert!(patch["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == "dryRun")));
    }

    #[test]
    fn messages_are_gnostics() {
        let document = json!({"swagger": "2.0", "info": {"title": "K", "version": "v1"},
            "definitions": {"A": {"type": "object", "x-y": 1}}});
        let definition = b"\x0a\x01A\x12\x18\xb2\x01\x08\x0a\x06object\xfa\x01\x0a\x0a\x03x-y\x12\x03\x12\x011";
        let expected = [&b"\x0a\x032.0\x12\x07\x0a\x01K\x12\x02v1\x42\x00\x4a\x1f\x0a\x1d"[..], &definition[..]];
        assert_eq!(protobuf(&document), expected.concat());
    }
}
