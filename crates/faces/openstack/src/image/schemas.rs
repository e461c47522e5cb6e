//! `/v2/schemas`: what an image, a member and a task may say, as JSON schemas, for clients that look before they ask. Those of
//! metadata definitions are with them.

use model::Fault;
use serde_json::{Map, Value, json};

use super::attributes::{CONTAINER_FORMATS, DISK_FORMATS};
use super::fault::missing;
use crate::call::{Call, Reply};

const ID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

/// `GET /v2/schemas/{name}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(match call.param("name") {
        "image" => image(),
        "images" => collection("images", image()),
        "member" => member(),
        "members" => collection("members", member()),
        "task" => task(),
        "tasks" => collection("tasks", task()),
        _ => return Err(missing("The resource could not be found.")),
    }))
}

/// The schema of a list.
pub fn collection(name: &str, item: Value) -> Value {
    json!({
        "name": name,
        "properties": {
            name: {"type": "array", "items": item},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn formats(known: &[&str]) -> Value {
    let known = known.iter().map(|format| json!(format));
    std::iter::once(Value::Null).chain(known).collect()
}

fn image() -> Value {
    let mut properties = attributes();
    properties.append(&mut found());
    json!({
        "name": "image",
        "properties": properties,
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What a client may set.
fn attributes() -> Map<String, Value> {
    object(json!({
        "id": {"type": "string", "description": "An identifier for the image", "pattern": ID},
        "name": {"type": ["null", "string"], "description": "Descriptive name for the image", "maxLength": 255},
        "visibility": {
            "type": "string", "description": "Scope of image accessibility",
            "enum": ["community", "public", "private", "shared"],
        },
        "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
        "os_hidden": {
            "type": "boolean", "description": "If true, image will not appear in default image list response.",
        },
        "owner": {"type": ["null", "string"], "description": "Owner of the image", "maxLength": 255},
        "container_format": {
            "type": ["null", "string"], "description": "Format of the container", "enum": formats(CONTAINER_FORMATS),
        },
        "disk_format": {
            "type": ["null", "string"], "description": "Format of the disk", "enum": formats(DISK_FORMATS),
        },
        "tags": {
            "type": "array", "description": "List of strings related to the image",
            "items": {"type": "string", "maxLength": 255},
        },
        "min_ram": {"type": "integer", "description": "Amount of ram (in MB) required to boot image."},
        "min_disk": {"type": "integer", "description": "Amount of disk space (in GB) required to boot image."},
    }))
}

/// What only the service sets.
fn found() -> Map<String, Value> {
    object(json!({
        "status": {
            "type": "string", "readOnly": true, "description": "Status of the image",
            "enum": ["queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete",
                "deactivated"],
        },
        "checksum": {
            "type": ["null", "string"], "readOnly": true, "description": "md5 hash of image contents.", "maxLength": 32,
        },
        "os_hash_algo": {
            "type": ["null", "string"], "readOnly": true, "maxLength": 64,
            "description": "Algorithm to calculate the os_hash_value",
        },
        "os_hash_value": {
            "type": ["null", "string"], "readOnly": true, "maxLength": 128,
            "description": "Hexdigest of the image contents using the algorithm specified by the os_hash_algo",
        },
        "size": {"type": ["null", "integer"], "readOnly": true, "description": "Size of image file in bytes"},
        "virtual_size": {"type": ["null", "integer"], "readOnly": true, "description": "Virtual size of image in bytes"},
        "created_at": {"type": "string", "readOnly": true, "description": "Date and time of image registration"},
        "updated_at": {
            "type": "string", "readOnly": true, "description": "Date and time of the last image modification",
        },
        "self": {"type": "string", "readOnly": true, "description": "An image self url"},
        "file": {"type": "string", "readOnly": true, "description": "An image file url"},
        "schema": {"type": "string", "readOnly": true, "description": "An image schema url"},
    }))
}

fn member() -> Value {
    json!({
        "name": "member",
        "properties": {
            "member_id": {"type": "string", "description": "An identifier for the image member (tenantId)"},
            "image_id": {"type": "string", "description": "An identifier for the image", "pattern": ID},
            "created_at": {"type": "string", "description": "Date and time of image member creation"},
            "updated_at": {"type": "string", "description": "Date and time of last modification of image member"},
            "status": {
                "type": "string", "description": "The status of this image member",
                "enum": ["pending", "accepted", "rejected"],
            },
            "schema": {"readOnly": true, "type": "string"},
        },
        "additionalProperties": false,
    })
}

fn task() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    let maybe = |form: &str, about: &str| json!({"type": ["null", form], "description": about});
    json!({
        "name": "task",
        "properties": {
            "id": {"type": "string", "description": "An identifier for the task", "pattern": ID},
            "type": {"type": "string", "description": "The type of task", "enum": ["import", "api_image_import"]},
            "status": {
                "type": "string", "description": "The current status of this task",
                "enum": ["pending", "processing", "success", "failure"],
            },
            "input": maybe("object", "The parameters required by task, JSON blob"),
            "result": maybe("object", "The result of current task, JSON blob"),
            "owner": text("An identifier for the owner of this task"),
            "message": text("Human-readable informative message only included when appropriate (usually on failure)"),
            "expires_at": maybe("string", "Datetime when this resource would be subject to removal"),
            "created_at": text("Datetime when this resource was created"),
            "updated_at": text("Datetime when this resource was updated"),
            "self": {"readOnly": true, "type": "string"},
            "schema": {"readOnly": true, "type": "string"},
        },
    })
}
