//! `/v2/schemas`: what an image, a member and a task may say, as JSON schemas, for clients that look before they ask. Those of
//! metadata definitions are with them.

use model::Fault;
use serde_json::{Value, json};

use super::attrs::{self, ID};
use super::fault::missing;
use crate::call::{Call, Reply};

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

fn image() -> Value {
    json!({
        "name": "image",
        "properties": attrs::schemas(),
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
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
