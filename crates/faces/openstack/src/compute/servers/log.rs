//! The log of what was done to a server (`os-instance-actions`).

use model::{Entry, Fault, Index, ServerAction, Time};
use serde_json::{Value, json};

use crate::call::{Call, Reply};
use crate::compute::fault::missing;
use crate::compute::wire::{list, page, time_micro};
use crate::lists::parse_time;

fn show_action(call: &Call, action: &ServerAction) -> Value {
    let mut out = json!({
        "action": action.action, "request_id": action.request_id, "user_id": action.user_id,
        "project_id": action.project_id, "start_time": time_micro(action.start_time), "message": action.message,
        "instance_uuid": action.server_id,
    });
    if call.version >= (2, 58) {
        out["updated_at"] = json!(time_micro(action.start_time));
    }
    out
}

/// `GET /servers/{id}/os-instance-actions`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let id = call.param("id");
    super::find(&view, id)?;
    let mut actions: Vec<Entry<'_, ServerAction>> = call.snapshot.find::<ServerAction>(Index::Owner, id).collect();
    actions.sort_by_key(|action| std::cmp::Reverse((action.start_time, action.row.created)));
    if call.version < (2, 58) {
        let items: Vec<Value> = actions.iter().map(|action| show_action(&call, action)).collect();
        return Ok(Reply::ok(json!({"instanceActions": items})));
    }
    let bound = |name: &str| -> Result<Option<Time>, Fault> {
        let Some(text) = call.query(name) else { return Ok(None) };
        parse_time(text).map(Some).ok_or_else(|| Fault::Invalid(format!("Invalid {name} [{text}]")))
    };
    let (since, before) = (bound("changes-since")?, bound("changes-before")?);
    actions.retain(|action| {
        since.is_none_or(|since| action.start_time >= since) && before.is_none_or(|before| action.start_time <= before)
    });
    let page = page(&call, actions, |action| action.request_id.clone())?;
    let next = page.more.then(|| page.items.last().map(|action| action.request_id.clone())).flatten();
    let items = page.items.iter().map(|action| show_action(&call, action)).collect();
    let mut out = list(&call, "instanceActions", items, next);
    // Nova calls the links of this list after the resource, not after the list.
    if let Some(links) = out.as_object_mut().and_then(|map| map.remove("instanceActions_links")) {
        out["links"] = links;
    }
    Ok(Reply::ok(out))
}

/// `GET /servers/{id}/os-instance-actions/{request}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let (id, request) = (call.param("id"), call.param("request"));
    super::find(&view, id)?;
    let action = call.snapshot.find::<ServerAction>(Index::Owner, id).find(|action| action.request_id == request);
    let action =
        action.ok_or_else(|| missing(format!("Action for request_id {request} on instance {id} not found")))?;
    let mut out = show_action(&call, &action);
    if call.version >= (2, 51) || call.who()?.is_admin() {
        out["events"] = json!([]);
    }
    Ok(Reply::ok(json!({"instanceAction": out})))
}
