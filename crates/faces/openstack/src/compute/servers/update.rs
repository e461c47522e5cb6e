//! `PUT` and `DELETE` of a server.

use model::{Aggregate, Fault, Server, Snapshot};
use serde_json::json;

use super::requests::{ACCESS_IPV4, ACCESS_IPV6, DESCRIPTION, DISK_CONFIG, HOSTNAME, NAME};
use super::status;
use super::view;
use super::{When, act};
use crate::attrs::Answers;
use crate::call::{Call, Reply};
use crate::compute::schema::{Is, Schema, property};

const ZONE: &str = "pinned_availability_zone";

/// What `PUT /servers/{id}` changes.
pub const SERVER: Schema<Server> = Schema {
    name: "server",
    properties: &[
        NAME,
        DISK_CONFIG,
        ACCESS_IPV4,
        ACCESS_IPV6,
        DESCRIPTION,
        HOSTNAME,
        property(ZONE, Is::Name).since(2, 104).nullable(),
    ],
};

/// `PUT /servers/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    super::find(&call.view()?, call.param("id"))?;
    let given = SERVER.read(call.version, &body)?;
    let when = When { any_task: true, though_locked: true, ..When::default() };
    let server = act(&call, "", when, |server, subject| {
        // Null frees it from its zone.
        if given.has(ZONE) {
            pin(server, subject.snapshot, given.text(ZONE))?;
        }
        given.put(server);
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
