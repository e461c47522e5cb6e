//! `os-server-external-events`: what other services tell Nova. Servers follow their ports' rows here, so what Neutron would
//! tell is known already; what would be asked of servers (volumes that grew, power that changed) is refused, one by one.

use model::{Fault, Server};
use serde_json::{Value, json};

use super::body::{Fields, bad};
use crate::call::{Call, Reply};

/// The most events of one request.
const MOST: usize = 1000;

/// What is so already when somebody says it.
const KNOWN: [&str; 4] = ["network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted"];
/// What Nova would do something about.
const REFUSED: [&str; 4] = ["volume-extended", "volume-reimaged", "power-update", "accelerator-request-bound"];

/// `POST /os-server-external-events`: 200 if all were taken, 207 if some.
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::new("body", &body)?;
    fields.only(&["events"])?;
    let given = fields.required("events")?;
    let list = given.as_array().filter(|list| (1..=MOST).contains(&list.len()));
    let list = list.ok_or_else(|| bad("events", given, "It is not a list of 1 to 1000 events"))?;
    let mut events = Vec::with_capacity(list.len());
    for item in list {
        events.push(one(&call, item)?);
    }
    let taken = events.iter().filter(|event| event["code"] == 200).count();
    let status = match taken {
        0 if events.iter().all(|event| event["code"] == 404) => {
            return Err(super::fault::missing("No instances found for any event"));
        }
        taken if taken == events.len() => 200,
        _ => 207,
    };
    Ok(Reply::json(status, &json!({"events": events})))
}

fn one(call: &Call, item: &Value) -> Result<Value, Fault> {
    let event = Fields::new("events", item)?;
    event.only(&["name", "server_uuid", "status", "tag"])?;
    event.required("name")?;
    event.required("server_uuid")?;
    let name = event.text("name", 255)?.unwrap_or_default();
    if !KNOWN.contains(&name) && !REFUSED.contains(&name) {
        return Err(bad("name", &item["name"], &format!("It is not one of {KNOWN:?} or {REFUSED:?}")));
    }
    let status = event.text("status", 20)?.unwrap_or("completed");
    if !matches!(status, "failed" | "completed" | "in-progress") {
        return Err(bad("status", &item["status"], "It is not one of ['failed', 'completed', 'in-progress']"));
    }
    let named =
        event.reference::<Server>("server_uuid")?.ok_or_else(|| bad("server_uuid", &Value::Null, "It is null"))?;
    let (code, status) = match call.view()?.refer(&named) {
        Err(_) => (404, "failed"),
        Ok(_) if KNOWN.contains(&name) => (200, status),
        Ok(_) => (422, "failed"),
    };
    let mut shown = json!({"name": name, "server_uuid": item["server_uuid"], "status": status, "code": code});
    if let Some(tag) = event.text("tag", 255)? {
        shown["tag"] = json!(tag);
    }
    Ok(shown)
}
