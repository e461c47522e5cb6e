//! An image and a member as Glance shows them.

use model::{Image, ImageMember, ImageStatus, MemberStatus, Time, Visibility};
use serde_json::{Map, Value, json};

/// The name of the one place where bytes are kept.
pub const STORE: &str = "blobs";

/// `2026-11-21T19:34:15Z`
pub fn time(time: Time) -> String {
    format!("{time:.0}")
}

/// The word for a state.
pub fn status(status: ImageStatus) -> &'static str {
    match status {
        ImageStatus::Queued => "queued",
        ImageStatus::Saving => "saving",
        ImageStatus::Uploading => "uploading",
        ImageStatus::Importing => "importing",
        ImageStatus::Active => "active",
        ImageStatus::Deactivated => "deactivated",
    }
}

/// The word for who sees an image.
pub fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "public",
        Visibility::Private => "private",
        Visibility::Shared => "shared",
        Visibility::Community => "community",
    }
}

/// The word for what a member makes of an image.
pub fn member_status(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Pending => "pending",
        MemberStatus::Accepted => "accepted",
        MemberStatus::Rejected => "rejected",
    }
}

/// The owner; an image of nobody's has none.
pub fn owner(image: &Image) -> Option<&str> {
    Some(image.project_id.as_str()).filter(|id| !id.is_empty())
}

/// An image; the attributes that every image has win over properties of the same name.
pub fn image(image: &Image) -> Value {
    let mut out: Map<String, Value> = image.properties.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    let href = format!("/v2/images/{}", image.id);
    let attributes = [
        ("name", json!(image.name)),
        ("disk_format", json!(image.disk_format)),
        ("container_format", json!(image.container_format)),
        ("visibility", json!(visibility(image.visibility))),
        ("size", json!(image.size)),
        ("virtual_size", json!(image.virtual_size)),
        ("status", json!(status(image.status))),
        ("checksum", json!(image.checksum)),
        ("protected", json!(image.protected)),
        ("min_ram", json!(image.min_ram)),
        ("min_disk", json!(image.min_disk)),
        ("owner", json!(owner(image))),
        ("os_hidden", json!(image.os_hidden)),
        ("os_hash_algo", json!(image.os_hash_value.as_ref().map(|_| "sha512"))),
        ("os_hash_value", json!(image.os_hash_value)),
        ("id", json!(image.id)),
        ("created_at", json!(time(image.created_at))),
        ("updated_at", json!(time(image.updated_at))),
        ("tags", json!(image.tags)),
        ("self", json!(href)),
        ("file", json!(format!("{href}/file"))),
        ("schema", json!("/v2/schemas/image")),
    ];
    out.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    if image.blob.is_some() {
        out.insert("stores".into(), json!(STORE));
    }
    if let Some(download) = &image.download {
        out.insert("os_glance_import_task".into(), json!(download.task_id));
        out.insert("os_glance_importing_to_stores".into(), json!(STORE));
    }
    if image.import_failed {
        out.insert("os_glance_failed_import".into(), json!(STORE));
    }
    Value::Object(out)
}

/// A project with which an image is shared.
pub fn member(image: &Image, id: &str, member: &ImageMember) -> Value {
    json!({
        "member_id": id,
        "image_id": image.id,
        "status": member_status(member.status),
        "created_at": time(member.created_at),
        "updated_at": time(member.updated_at),
        "schema": "/v2/schemas/member",
    })
}
