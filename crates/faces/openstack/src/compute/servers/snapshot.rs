//! `createImage`, `createBackup`: an image row that asks the server's host for its bytes. The host fills it in; the server
//! shows a task as long as that takes.

use std::collections::BTreeMap;

use model::machine::is_hardware;
use model::{Fault, Image, ImageSource, Index, Server, Snapshot, Source, Visibility, Vm};
use serde_json::{Value, json};

use super::{When, act, requests};
use crate::call::{Call, Reply};
use crate::compute::body::Fields;
use crate::image::check_size;

/// States in which a disk can be copied.
const WHEN: When = When {
    vm_states: &["active", "stopped", "paused", "suspended"],
    tasks: &[],
    any_task: false,
    though_locked: false,
};
/// Properties of an image that are about itself, not about what is on its disk.
const NOT_INHERITED: [&str; 11] = [
    "cache_in_nova",
    "instance_uuid",
    "user_id",
    "image_type",
    "backup_type",
    "base_image_ref",
    "img_signature",
    "img_signature_hash_method",
    "img_signature_key_type",
    "img_signature_certificate_uuid",
    "owner_specified",
];

/// What a request says of the image.
struct Asked {
    name: String,
    metadata: BTreeMap<String, String>,
    /// Type and number of the backups that are kept.
    backup: Option<(String, u32)>,
}

/// `createImage`
pub async fn create_image(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let fields = Fields::of(body, "createImage")?;
    fields.only(&["name", "metadata"])?;
    fields.required("name")?;
    let name = fields.name("name")?.unwrap_or_default();
    make(call, "createImage", Asked { name, metadata: requests::metadata(call, &fields)?, backup: None }).await
}

/// `createBackup`
pub async fn create_backup(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let fields = Fields::of(body, "createBackup")?;
    fields.only(&["name", "backup_type", "rotation", "metadata"])?;
    for field in ["name", "backup_type", "rotation"] {
        fields.required(field)?;
    }
    let name = fields.name("name")?.unwrap_or_default();
    let kind = fields.text("backup_type", 255)?.unwrap_or_default().to_owned();
    let rotation = fields.integer("rotation", 0, i64::from(i32::MAX))?.and_then(|n| u32::try_from(n).ok());
    let backup = Some((kind, rotation.unwrap_or(0)));
    make(call, "createBackup", Asked { name, metadata: requests::metadata(call, &fields)?, backup }).await
}

async fn make(call: &Call, verb: &str, asked: Asked) -> Result<Reply, Fault> {
    let id = uuid::Uuid::new_v4().to_string();
    act(call, verb, WHEN, |server, subject| {
        subject.change.create(row(call, &id, server, subject.snapshot, &asked)?);
        Ok(())
    })
    .await?;
    if call.version >= (2, 45) {
        return Ok(Reply::json(202, &json!({"image_id": id})));
    }
    // Of what will not be kept at all, no address is given.
    let kept = asked.backup.is_none_or(|(_, rotation)| rotation > 0);
    let reply = Reply::empty(202);
    Ok(if kept {
        reply.with("location", &format!("{}{}/images/{id}", call.base_url(), crate::image::SERVICE.prefix))
    } else {
        reply
    })
}

fn row(call: &Call, id: &str, server: &Server, snapshot: &Snapshot, asked: &Asked) -> Result<Image, Fault> {
    let (kind, rotation) = match &asked.backup {
        Some((kind, rotation)) => (Some(kind), Some(*rotation)),
        None => (None, None),
    };
    let mut image = of_server(call, id, server, snapshot, &asked.name)?;
    image.properties.extend(asked.metadata.clone());
    if let Some(kind) = kind {
        image.properties.insert("image_type".into(), "backup".into());
        image.properties.insert("backup_type".into(), kind.clone());
    }
    if let Some(source) = &mut image.source {
        source.rotation = rotation;
    }
    check_size(&image, None)?;
    Ok(image)
}

/// What the newest incarnation of a server was made from.
pub fn source<'a>(snapshot: &'a Snapshot, server: &Server) -> Option<&'a Source> {
    let vms = snapshot.find::<Vm>(Index::Owner, &server.id);
    vms.max_by_key(|vm| vm.incarnation).and_then(|vm| vm.value.source.as_ref())
}

/// An image without its bytes yet, of a server's disk, in the project of the caller.
pub fn of_server(call: &Call, id: &str, server: &Server, snapshot: &Snapshot, name: &str) -> Result<Image, Fault> {
    let base = server.image_id.as_deref().and_then(|id| snapshot.get::<Image>(id));
    let mut properties: BTreeMap<String, String> = base.map(|base| base.properties.clone()).unwrap_or_default();
    // Its machine, whatever became of the image.
    if let Some(source) = source(snapshot, server) {
        properties.retain(|name, _| !is_hardware(name));
        properties.extend(source.hardware.clone());
    }
    properties.retain(|name, _| !NOT_INHERITED.contains(&name.as_str()));
    for (name, value) in [
        ("instance_uuid", server.id.as_str()),
        ("user_id", &call.who()?.user_id),
        ("image_type", "snapshot"),
        ("base_image_ref", server.image_id.as_deref().unwrap_or_default()),
    ] {
        properties.insert(name.to_owned(), value.to_owned());
    }
    Ok(Image {
        name: Some(name.to_owned()),
        visibility: Visibility::Private,
        disk_format: Some("qcow2".into()),
        container_format: Some("bare".into()),
        min_disk: server.flavor.disk,
        min_ram: base.map_or(0, |base| base.min_ram),
        properties,
        source: Some(ImageSource {
            server_id: server.id.clone(),
            project_id: server.project_id.clone(),
            request_id: call.request_id.clone(),
            rotation: None,
        }),
        ..Image::new(id, call.who()?.project()?, call.now)
    })
}
