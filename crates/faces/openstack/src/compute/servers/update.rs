//! `PUT` and `DELETE` of a server.

use model::Fault;
use serde_json::json;

use super::requests;
use super::view::{self, Extent};
use super::{When, act};
use crate::call::{Call, Reply};
use crate::compute::body::Fields;

/// `PUT /servers/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    super::find(&call.view()?, call.param("id"))?;
    let fields = Fields::of(&body, "server")?;
    let mut known = vec!["name", "OS-DCF:diskConfig", "accessIPv4", "accessIPv6"];
    known.extend((call.version >= (2, 19)).then_some("description"));
    known.extend((call.version >= (2, 90)).then_some("hostname"));
    fields.only(&known)?;
    let name = fields.name("name")?;
    let v4 = fields.address("accessIPv4", false)?;
    let v6 = fields.address("accessIPv6", true)?;
    let auto_disk = requests::disk_config(&fields)?;
    // Null takes the description away.
    let description = match fields.map.contains_key("description") {
        true => Some(fields.text("description", 255)?.map(str::to_owned)),
        false => None,
    };
    let hostname = fields.text("hostname", 255)?.map(|text| requests::hostname(&call, text)).transpose()?;
    let when = When { any_task: true, though_locked: true, ..When::default() };
    let server = act(&call, "", when, |server, _| {
        if let Some(name) = &name {
            server.name.clone_from(name);
        }
        if let Some(v4) = &v4 {
            server.access_ipv4.clone_from(v4);
        }
        if let Some(v6) = &v6 {
            server.access_ipv6.clone_from(v6);
        }
        if let Some(auto) = auto_disk {
            server.auto_disk = auto;
        }
        if let Some(description) = &description {
            server.description.clone_from(description);
        }
        if let Some(hostname) = &hostname {
            server.hostname.clone_from(hostname);
        }
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"server": view::server(&call, &call.snapshot, &server, Extent::Update)})))
}

/// `DELETE /servers/{id}`, also `forceDelete`. The row goes when nothing of the server is left on any host.
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    remove(&call).await?;
    Ok(Reply::empty(204))
}

/// Marks the server of the path for removal.
pub async fn remove(call: &Call) -> Result<(), Fault> {
    let view = call.view()?;
    // Asking twice is not an error, and not two actions.
    if super::find(&view, call.param("id"))?.deleting {
        return Ok(());
    }
    act(call, "delete", When { any_task: true, ..When::default() }, |server, _| {
        server.deleting = true;
        Ok(())
    })
    .await
    .map(drop)
}
