//! `/v2/schemas/metadefs`: what metadata definitions may say, as JSON schemas.

use model::Fault;
use serde_json::{Map, Value, json};

use super::body::{LONGEST_DESCRIPTION, LONGEST_NAME};
use crate::call::{Call, Reply};
use crate::image::fault::missing;
use crate::image::schemas::collection;

/// `GET /v2/schemas/metadefs/{name}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(match call.param("name") {
        "namespace" => namespace(),
        "namespaces" => collection("namespaces", namespace()),
        "object" => object(),
        "objects" => collection("objects", object()),
        "property" => property(),
        "properties" => properties(),
        "tag" => tag(),
        "tags" => collection("tags", tag()),
        "resource_type" => resource_type(),
        "resource_types" => collection("resource_type_associations", resource_type()),
        _ => return Err(missing("The resource could not be found.")),
    }))
}

fn text(longest: usize, about: &str) -> Value {
    json!({"type": "string", "description": about, "maxLength": longest})
}

fn moment(about: &str) -> Value {
    json!({"type": "string", "readOnly": true, "description": about, "format": "date-time"})
}

fn link() -> Value {
    json!({"type": "string", "readOnly": true})
}

fn schema(name: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "name": name,
        "required": required,
        "properties": properties,
        "additionalProperties": false,
        "definitions": definitions(),
    })
}

/// What schemas refer to by name.
fn definitions() -> Value {
    json!({
        "positiveInteger": {"type": "integer", "minimum": 0},
        "positiveIntegerDefault0": {"allOf": [{"$ref": "#/definitions/positiveInteger"}, {"default": 0}]},
        "stringArray": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
        "property": {
            "type": "object",
            "additionalProperties": {"type": "object", "required": ["title", "type"], "properties": definition()},
        },
    })
}

/// What a property's definition may say.
fn definition() -> Map<String, Value> {
    let of_type = json!({"type": "string", "enum": ["array", "boolean", "integer", "number", "object", "string"]});
    let count = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
    let all = json!({
        "name": {"type": "string", "maxLength": LONGEST_NAME},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "type": of_type,
        "operators": {"type": "array", "items": {"type": "string"}},
        "default": {},
        "readonly": {"type": "boolean"},
        "minimum": {"type": "number"},
        "maximum": {"type": "number"},
        "enum": {"type": "array"},
        "pattern": {"type": "string", "format": "regex"},
        "minLength": count("positiveIntegerDefault0"),
        "maxLength": count("positiveInteger"),
        "items": {"type": "object", "properties": {"type": of_type, "enum": {"type": "array"}}},
        "uniqueItems": {"type": "boolean", "default": false},
        "minItems": count("positiveIntegerDefault0"),
        "maxItems": count("positiveInteger"),
        "additionalItems": {"type": "boolean"},
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

fn namespace() -> Value {
    let name = json!({"type": "string", "maxLength": LONGEST_NAME});
    let named = json!({"type": "object", "required": ["name"], "properties": {"name": name}});
    schema(
        "namespace",
        &["namespace"],
        json!({
            "namespace": text(LONGEST_NAME, "The name, once in the cloud"),
            "display_name": text(LONGEST_NAME, "The name for people"),
            "description": text(LONGEST_DESCRIPTION, "What the namespace is about"),
            "visibility": {
                "type": "string", "description": "Who sees the namespace", "enum": ["public", "private"],
            },
            "protected": {"type": "boolean", "description": "Whether it is kept from being deleted"},
            "owner": text(255, "The project that owns the namespace"),
            "created_at": moment("When the namespace was made"),
            "updated_at": moment("When the namespace was changed last"),
            "schema": link(),
            "self": link(),
            "resource_type_associations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": name, "prefix": name, "properties_target": name},
                },
            },
            "properties": {"$ref": "#/definitions/property"},
            "objects": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": name,
                        "description": {"type": "string"},
                        "required": {"$ref": "#/definitions/stringArray"},
                        "properties": {"$ref": "#/definitions/property"},
                    },
                },
            },
            "tags": {"type": "array", "items": named},
        }),
    )
}

fn object() -> Value {
    schema(
        "object",
        &["name"],
        json!({
            "name": {"type": "string", "maxLength": LONGEST_NAME},
            "description": {"type": "string"},
            "required": {"$ref": "#/definitions/stringArray"},
            "properties": {"$ref": "#/definitions/property"},
            "created_at": moment("When the object was made"),
            "updated_at": moment("When the object was changed last"),
            "schema": link(),
            "self": link(),
        }),
    )
}

fn property() -> Value {
    schema("property", &["name", "title", "type"], Value::Object(definition()))
}

/// Properties are not listed but named.
fn properties() -> Value {
    let one = schema("property", &["title", "type"], Value::Object(definition()));
    let mut all = collection("properties", Value::Null);
    all["properties"]["properties"] = json!({"type": "object", "additionalProperties": one});
    all
}

fn tag() -> Value {
    schema(
        "tag",
        &["name"],
        json!({
            "name": {"type": "string", "maxLength": LONGEST_NAME},
            "created_at": moment("When the tag was made"),
            "updated_at": moment("When the tag was changed last"),
        }),
    )
}

fn resource_type() -> Value {
    schema(
        "resource_type_association",
        &["name"],
        json!({
            "name": text(LONGEST_NAME, "The sort of thing, by the name that Heat has for it"),
            "prefix": text(LONGEST_NAME, "What stands before the names of properties on such a thing, its colon included"),
            "properties_target": text(LONGEST_NAME, "Which of several sorts of properties of such a thing is meant"),
            "created_at": moment("When the namespace was meant for it first"),
            "updated_at": moment("When that was changed last"),
        }),
    )
}
