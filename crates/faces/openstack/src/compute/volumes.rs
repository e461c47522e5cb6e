//! What Nova has and this cloud has not, where clients look for it: no server has a volume, and none can be attached.

use model::Fault;
use serde_json::json;

use super::fault::{missing, not_built};
use super::servers::find;
use crate::call::{Call, Reply};

/// `GET /servers/{id}/os-volume_attachments`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    find(&call.view()?, call.param("id"))?;
    Ok(Reply::ok(json!({"volumeAttachments": []})))
}

/// `GET` and `DELETE /servers/{id}/os-volume_attachments/{volume}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let id = call.param("id");
    find(&call.view()?, id)?;
    let volume = call.param("volume");
    Err(missing(format!("Instance {id} is not attached to volume {volume}")))
}

/// `POST /servers/{id}/os-volume_attachments`
pub async fn attach(call: Call) -> Result<Reply, Fault> {
    find(&call.view()?, call.param("id"))?;
    Err(not_built("Attaching a volume"))
}
