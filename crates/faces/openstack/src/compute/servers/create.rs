//! `POST /servers`: one transaction for all servers of the request. Quota is claimed by their rows; a refusal leaves
//! nothing behind.

use std::collections::BTreeMap;

use model::{Change, Fault, Server};
use serde_json::{Value, json};

use super::networks;
use super::requests::{self, Asked};
use crate::call::{Call, Reply};
use crate::compute::body::Fields;
use crate::compute::wire::{href, links};

/// `POST /servers`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    Fields::new("body", &body)?.only(&["server", "os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"])?;
    call.who()?.project()?;
    networks::allocate(&mut call, &body).await?;
    let asked = requests::read(&call, &body)?;
    let reservation = reservation_id();
    let servers = fit(&call, &asked, &reservation).await?;
    if asked.return_reservation {
        return Ok(Reply::json(202, &json!({"reservation_id": reservation})));
    }
    let Some(first) = servers.first() else { return Err(Fault::Internal("no server was made".into())) };
    let path = format!("/servers/{}", first.id);
    let groups: Vec<Value> = asked.security_group_names.iter().map(|name| json!({"name": name})).collect();
    let out = json!({"server": {
        "id": first.id, "links": links(&call, &path), "adminPass": asked.admin_pass, "security_groups": groups,
        "OS-DCF:diskConfig": if asked.auto_disk { "AUTO" } else { "MANUAL" },
    }});
    Ok(Reply::json(202, &out).with("location", &href(&call, &path)))
}

/// As many servers as fit into the quota, at least the least.
async fn fit(call: &Call, asked: &Asked, reservation: &str) -> Result<Vec<Server>, Fault> {
    let mut count = asked.most;
    loop {
        let servers: Vec<Server> =
            (0..count).map(|index| row(call, asked, reservation, index, count)).collect::<Result<_, _>>()?;
        let made = call
            .cloud
            .store
            .transact(|_| {
                let mut change = Change::new();
                for server in &servers {
                    change.create(server.clone()).create(super::logged(call, server, "create")?);
                }
                Ok((change, ()))
            })
            .await;
        match made {
            Ok(()) => return Ok(servers),
            Err(Fault::Quota { .. }) if count > asked.least => count -= 1,
            Err(fault) => return Err(fault),
        }
    }
}

fn reservation_id() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("r-{}", &id[..8])
}

fn row(call: &Call, asked: &Asked, reservation: &str, index: u32, count: u32) -> Result<Server, Fault> {
    let who = call.who()?;
    let id = uuid::Uuid::new_v4().to_string();
    let name = if count > 1 { format!("{}-{}", asked.name, index + 1) } else { asked.name.clone() };
    let hostname = match &asked.hostname {
        Some(given) if count > 1 => format!("{given}-{}", index + 1),
        Some(given) => given.clone(),
        None => requests::hostname_of(&name, &id),
    };
    Ok(Server {
        user_id: who.user_id.clone(),
        description: asked.description.clone(),
        hostname,
        image_id: asked.image_id.clone(),
        image_properties: asked.image_properties.clone(),
        key_name: asked.key_name.clone(),
        public_key: asked.public_key.clone(),
        user_data: asked.user_data.clone(),
        files: asked.files.clone(),
        metadata: BTreeMap::clone(&asked.metadata),
        tags: asked.tags.clone(),
        config_drive: asked.config_drive,
        access_ipv4: asked.access_ipv4.clone(),
        access_ipv6: asked.access_ipv6.clone(),
        availability_zone: asked.availability_zone.clone(),
        server_group_id: asked.hints.group.clone(),
        scheduler_hints: asked.hints.given.clone(),
        same_host: asked.hints.same_host.clone(),
        different_host: asked.hints.different_host.clone(),
        nics: asked.nics.clone(),
        security_groups: asked.security_groups.clone(),
        requested_host: asked.requested_host.clone(),
        reservation_id: reservation.to_owned(),
        launch_index: index,
        admin_pass: Some(asked.admin_pass.clone()),
        auto_disk: asked.auto_disk,
        ..Server::new(&id, who.project()?, &name, asked.flavor.clone(), call.now)
    })
}
