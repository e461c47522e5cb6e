//! The words and forms in which Glance shows what images have, and members.

use model::{Image, ImageMember, ImageStatus, MemberStatus, Time, Visibility};
use serde_json::{Value, json};

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
