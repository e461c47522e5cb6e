//! Shares of servers (2.97). There is no share service here, so that no server has any, and none that a request names can
//! be found: what Nova says of a share that Manila does not know.

use model::Fault;
use serde_json::json;

use super::body::{Fields, bad, is_uuid};
use super::fault::missing;
use super::servers::{When, find, status};
use crate::call::{Call, Reply};

fn unknown(share: &str) -> Fault {
    missing(format!("Share {share} could not be found."))
}

/// Shares come and go with servers that are stopped alone.
fn check_state(call: &Call, verb: &str, vm_states: &'static [&'static str]) -> Result<(), Fault> {
    let view = call.view()?;
    let server = find(&view, call.param("id"))?;
    let state = status::state(&call.snapshot, &server);
    When { vm_states, any_task: true, though_locked: true, ..When::default() }.check(verb, &server, &state, true)
}

/// `GET /servers/{id}/shares`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    find(&call.view()?, call.param("id"))?;
    Ok(Reply::ok(json!({"shares": []})))
}

/// `GET /servers/{id}/shares/{share}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    find(&call.view()?, call.param("id"))?;
    Err(unknown(call.param("share")))
}

/// `POST /servers/{id}/shares`
pub async fn attach(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    find(&call.view()?, call.param("id"))?;
    Fields::new("body", &body)?.only(&["share"])?;
    let fields = Fields::of(&body, "share")?;
    fields.only(&["share_id", "tag"])?;
    let value = fields.required("share_id")?;
    let share = value.as_str().filter(|id| is_uuid(id)).ok_or_else(|| bad("share_id", value, "It is not a 'uuid'"))?;
    if let Some(tag) = fields.text("tag", 255)? {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if tag.is_empty() || !tag.chars().all(fine) {
            return Err(bad("tag", &json!(tag), "It does not match '^[a-zA-Z0-9-]*$', or is empty"));
        }
    }
    check_state(&call, "create share", &["stopped"])?;
    Err(unknown(share))
}

/// `DELETE /servers/{id}/shares/{share}`
pub async fn detach(call: Call) -> Result<Reply, Fault> {
    check_state(&call, "delete share", &["stopped", "error"])?;
    Err(unknown(call.param("share")))
}
