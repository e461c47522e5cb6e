//! Who sees an image and who may change it. Glance's rule is wider than the gate's: members see what is shared with
//! them.

use gate::Principal;
use model::{Entry, Fault, Image, Snapshot, Visibility};

use super::fault::missing;

/// The caller's project owns the image.
pub fn owns(who: &Principal, image: &Image) -> bool {
    who.project_id() == Some(image.project_id.as_str())
}

/// The image is shared with the caller's project, whatever that makes of it.
pub fn is_member(who: &Principal, image: &Image) -> bool {
    image.visibility == Visibility::Shared && who.project_id().is_some_and(|id| image.members.contains_key(id))
}

/// The caller may know of the image.
pub fn sees(who: &Principal, image: &Image) -> bool {
    who.is_admin()
        || owns(who, image)
        || matches!(image.visibility, Visibility::Public | Visibility::Community)
        || is_member(who, image)
}

/// The image with this id if the caller may know of it; else it does not exist.
pub fn find<'a>(snapshot: &'a Snapshot, who: &Principal, id: &str) -> Result<Entry<'a, Image>, Fault> {
    let found = snapshot.get::<Image>(id).filter(|image| sees(who, image));
    found.ok_or_else(|| missing(format!("No image found with ID {id}")))
}

/// The image with this id if the caller may change it. `action` is the policy's name for that.
pub fn own<'a>(snapshot: &'a Snapshot, who: &Principal, id: &str, action: &str) -> Result<Entry<'a, Image>, Fault> {
    let image = find(snapshot, who, id)?;
    if who.is_admin() || owns(who, &image) {
        return Ok(image);
    }
    Err(Fault::Forbidden(format!("You are not authorized to complete {action} action.")))
}
