//! `PUT` and `DELETE` of a server.

use model::{Aggregate, Fault, Server, Snapshot};
use serde_json::{Value, json};

use super::requests;
use super::status;
use super::view;
use super::{When, act};
use crate::attrs::Answers;
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
    known.extend((call.version >= (2, 104)).then_some("pinned_availability_zone"));
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
    // Null frees it from its zone.
    let zone = match fields.map.get("pinned_availability_zone") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(_) => Some(fields.name("pinned_availability_zone")?),
    };
    let when = When { any_task: true, though_locked: true, ..When::default() };
    let server = act(&call, "", when, |server, subject| {
        if let Some(zone) = &zone {
            pin(server, subject.snapshot, zone.as_deref())?;
        }
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
    Ok(Reply::ok(json!({"server": view::server(&call, &server, Answers::CHANGED)})))
}

/// Pins a server to the zone that it is in, or frees it.
fn pin(server: &mut Server, snapshot: &Snapshot, zone: Option<&str>) -> Result<(), Fault> {
    let here = status::host(snapshot, server).map_or("", |host| Aggregate::zone_of(snapshot, host));
    match (zone, server.availability_zone.as_deref()) {
        (Some(zone), Some(pinned)) if zone != pinned => Err(Fault::Conflict(
            "Cannot change pinned availability zone directly. Unpin first by setting pinned_availability_zone to null."
                .into(),
        )),
        (Some(zone), None) if zone != here => Err(Fault::Conflict(format!(
            "Server can only be pinned to its current availability zone '{here}', but '{zone}' was requested."
        ))),
        _ => {
            server.availability_zone = zone.map(str::to_owned);
            Ok(())
        }
    }
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
