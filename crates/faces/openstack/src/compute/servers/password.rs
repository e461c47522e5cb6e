//! `os-server-password`: the password that a guest made for itself and told its metadata service, encrypted with its key
//! pair by the guest, which alone knows it in clear. Removing it here changes nothing in the guest.

use gate::View;
use model::{Change, Fault};
use serde_json::json;

use super::find;
use crate::call::{Call, Reply};

/// `GET /servers/{id}/os-server-password`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = find(&view, call.param("id"))?;
    Ok(Reply::ok(json!({"password": server.guest_password.as_deref().unwrap_or("")})))
}

/// `DELETE /servers/{id}/os-server-password`
pub async fn clear(call: Call) -> Result<Reply, Fault> {
    let (who, id) = (call.who()?, call.param("id"));
    let forget = |snapshot: &model::Snapshot| {
        let server = find(&View::new(snapshot, who), id)?;
        let mut change = Change::new();
        if server.guest_password.is_some() {
            change.edit(server, |server| server.guest_password = None);
        }
        Ok((change, ()))
    };
    call.cloud.store.transact(forget).await?;
    Ok(Reply::empty(204))
}
