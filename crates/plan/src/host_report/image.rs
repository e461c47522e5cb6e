//! What a host says of images that it makes from the disks of its servers.

use std::collections::BTreeMap;

use model::host_report::ImageBytes;
use model::{Change, Entry, Image, ImageStatus, Index, ServerAction, Snapshot, Time, Vm};

/// An image that the host is asked for.
fn asked<'a>(rows: &'a Snapshot, host: &str, id: &str) -> Option<Entry<'a, Image>> {
    let image = rows.get::<Image>(id)?;
    let server = &image.value.source.as_ref()?.server_id;
    let mut vms = rows.find::<Vm>(Index::Owner, server);
    vms.any(|vm| vm.host.as_deref() == Some(host)).then_some(image)
}

pub fn begun(rows: &Snapshot, host: &str, id: &str, now: Time) -> Change {
    let mut change = Change::new();
    if let Some(image) = asked(rows, host, id).filter(|image| image.status != ImageStatus::Saving) {
        change.edit(image, |image| {
            image.updated_at = now;
            image.status = ImageStatus::Saving;
        });
    }
    change
}

/// The bytes become the image's. Of backups, the oldest beyond what shall be kept go.
pub fn made(rows: &Snapshot, host: &str, id: &str, bytes: &ImageBytes, now: Time) -> Change {
    let mut change = Change::new();
    let Some(image) = asked(rows, host, id) else { return change };
    let rotation = image.source.as_ref().and_then(|source| source.rotation);
    let old = rotation.map_or_else(Vec::new, |keep| backups_beyond(rows, &image, keep));
    if old.iter().any(|old| old.row.key == image.row.key) {
        change.delete(image);
    } else {
        change.edit(image, |image| {
            image.status = ImageStatus::Active;
            image.blob = Some(bytes.sha256.clone());
            image.size = Some(bytes.size);
            image.checksum = Some(bytes.md5.clone());
            image.os_hash_value = Some(bytes.sha512.clone());
            image.virtual_size = Some(bytes.virtual_size);
            image.source = None;
            image.updated_at = now;
        });
    }
    for old in old.into_iter().filter(|old| old.row.key != image.row.key) {
        change.delete(old);
    }
    change
}

/// Backups of the same server and type as this one, which is the newest, without the `keep` newest.
fn backups_beyond<'a>(rows: &'a Snapshot, image: &Entry<'a, Image>, keep: u32) -> Vec<Entry<'a, Image>> {
    const SAME: [&str; 3] = ["image_type", "backup_type", "instance_uuid"];
    let same =
        |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| SAME.iter().all(|key| a.get(*key) == b.get(*key));
    let mut all: Vec<Entry<'_, Image>> = rows
        .within::<Image>(&image.row.key.realm)
        .filter(|other| same(&other.properties, &image.properties) && !other.protected)
        .filter(|other| other.source.is_none() || other.id == image.id)
        .collect();
    all.sort_by_key(|image| std::cmp::Reverse(image.row.created));
    all.split_off(all.len().min(keep as usize))
}

/// It cannot be made: the row goes, and the server's action log says why.
pub fn given_up(rows: &Snapshot, host: &str, id: &str, why: &str) -> Change {
    let mut change = Change::new();
    let Some(image) = asked(rows, host, id) else { return change };
    if let Some(source) = &image.source {
        let mut actions = rows.find::<ServerAction>(Index::Owner, &source.server_id);
        if let Some(action) = actions.find(|action| action.request_id == source.request_id) {
            change.edit(action, |action| action.message = Some(format!("Error: {why}")));
        }
    }
    change.delete(image);
    change
}
