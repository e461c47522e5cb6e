//! `/v2/tasks`, for administrators, and an image's own: what became of imports. Tasks are made by imports alone.

use model::{Fault, Index, Task};
use serde_json::{Value, json};

use super::fault::missing;
use super::view::STORE;
use super::{access, view};
use crate::call::{Call, Reply, escape};

/// Glance's own limits of a page.
const DEFAULT_LIMIT: usize = 25;
const MAX_LIMIT: usize = 1000;

/// `GET /v2/images/{image_id}/tasks`: those of the caller's project. From where the bytes came, which may be a URI with a secret
/// in it, and who asked for them is nothing to whoever may only use the image.
pub async fn of_image(call: Call) -> Result<Reply, Fault> {
    let who = call.who()?;
    let image = access::find(&call.snapshot, who, call.param("image_id"))?;
    let own = |task: &Task| who.is_admin() || who.project_id() == Some(&task.project_id);
    let all = call.snapshot.find::<Task>(Index::Owner, &image.id).map(|task| task.value);
    let mut tasks: Vec<&Task> = all.filter(|task| own(task)).collect();
    tasks.sort_by_key(|task| (task.created_at, &task.id));
    let shown = tasks.into_iter().map(|task| {
        let mut shown = whole(task);
        shown["image_id"] = json!(task.image_id);
        shown["request_id"] = json!(task.request_id);
        shown["user_id"] = json!(task.user_id);
        shown
    });
    Ok(Reply::ok(json!({"tasks": shown.collect::<Vec<_>>()})))
}

/// `GET /v2/tasks/{task_id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(whole(find(&call, call.param("task_id"))?)))
}

fn find<'a>(call: &'a Call, id: &str) -> Result<&'a Task, Fault> {
    let task = call.snapshot.get::<Task>(id).map(|task| task.value);
    task.ok_or_else(|| missing(format!("No task found with ID {id}")))
}

/// `GET /v2/tasks`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let limit = match call.query("limit").map(str::parse::<usize>) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) => limit.min(MAX_LIMIT),
        Some(Err(_)) => return Err(Fault::invalid("limit param must be a number that is not negative")),
    };
    for (name, known) in [
        ("type", &["import", "api_image_import"][..]),
        ("status", &["pending", "processing", "success", "failure"]),
        ("sort_dir", &["asc", "desc"]),
        ("sort_key", &["created_at", "expires_at", "id", "status", "type", "updated_at"]),
    ] {
        if let Some(odd) = call.query(name).filter(|value| !known.contains(value)) {
            return Err(Fault::Invalid(format!("Invalid {name} value: {odd}")));
        }
    }
    let fits = |name: &str, value: &str| call.query(name).is_none_or(|wanted| wanted == value);
    let mut tasks: Vec<&Task> = call
        .snapshot
        .all::<Task>()
        .map(|task| task.value)
        .filter(|task| fits("status", task.status.as_str()) && fits("type", TYPE))
        .collect();
    let by = call.query("sort_key").unwrap_or("created_at");
    let key = |task: &Task| {
        let text = match by {
            "expires_at" => task.expires_at.map_or_else(String::new, view::time),
            "id" => task.id.clone(),
            "status" => task.status.as_str().to_owned(),
            "type" => TYPE.to_owned(),
            "updated_at" => task.updated_at.to_string(),
            _ => task.created_at.to_string(),
        };
        (text, task.id.clone())
    };
    tasks.sort_by_cached_key(|task| key(task));
    if call.query("sort_dir") != Some("asc") {
        tasks.reverse();
    }
    if let Some(marker) = call.query("marker") {
        let marker = find(&call, marker).map_err(|fault| Fault::Invalid(fault.to_string()))?;
        let at = tasks.iter().position(|task| task.id == marker.id).map_or(0, |at| at + 1);
        tasks.drain(..at);
    }
    tasks.truncate(limit);
    let mut query: Vec<String> = call
        .query
        .iter()
        .filter(|(name, _)| name != "marker")
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    let href = |query: &[String]| match query {
        [] => "/v2/tasks".to_owned(),
        query => format!("/v2/tasks?{}", query.join("&")),
    };
    let shown: Vec<Value> = tasks.iter().map(|task| brief(task)).collect();
    let mut body = json!({"tasks": shown, "first": href(&query), "schema": "/v2/schemas/tasks"});
    if let Some(last) = tasks.last().filter(|_| tasks.len() == limit) {
        query.push(format!("marker={}", last.id));
        body["next"] = json!(href(&query));
    }
    Ok(Reply::ok(body))
}

/// `POST /v2/tasks`, by which administrators imported before there was `/import`.
pub async fn create(_: Call) -> Result<Reply, Fault> {
    Err(Fault::NotImplemented(
        "Tasks are made by imports alone in this cloud: create an image and POST to /v2/images/{image_id}/import."
            .into(),
    ))
}

/// What Glance calls a task that an import made.
const TYPE: &str = "api_image_import";

fn brief(task: &Task) -> Value {
    json!({
        "id": task.id,
        "type": TYPE,
        "status": task.status.as_str(),
        "owner": task.project_id,
        "created_at": view::time(task.created_at),
        "updated_at": view::time(task.updated_at),
        "expires_at": task.expires_at.map(view::time),
        "self": format!("/v2/tasks/{}", task.id),
        "schema": "/v2/schemas/task",
    })
}

fn whole(task: &Task) -> Value {
    let mut shown = brief(task);
    let result = (task.status == model::TaskStatus::Success).then(|| json!({"image_id": task.image_id}));
    shown["input"] = json!({"import_req": {"method": task.method}, "image_id": task.image_id, "backend": [STORE]});
    shown["result"] = json!(result);
    shown["message"] = json!(task.message);
    shown
}
