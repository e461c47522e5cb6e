//! What is done to an image as a whole: taking it out of use and back, tags.

use model::{Change, Fault, Image, ImageStatus};

use super::fault::missing;
use super::{access, attributes, view};
use crate::call::{Call, Reply};

/// Changes the caller's image and answers 204. Without a difference there is no commit.
async fn edit(call: &Call, action: &str, change: impl Fn(&mut Image) -> Result<(), Fault>) -> Result<Reply, Fault> {
    let (who, id, now) = (call.who()?, call.param("image_id"), call.now);
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = access::own(snapshot, who, id, action)?;
            let mut image = entry.value.clone();
            change(&mut image)?;
            let mut commit = Change::new();
            if image != *entry.value {
                attributes::check_size(&image, Some(entry.value))?;
                image.updated_at = now;
                commit.update(entry, image);
            }
            Ok((commit, ()))
        })
        .await?;
    Ok(Reply::empty(204))
}

async fn switch(call: &Call, action: &str, from: ImageStatus, to: ImageStatus) -> Result<Reply, Fault> {
    edit(call, action, |image| {
        if image.status != from && image.status != to {
            let status = view::status(image.status);
            return Err(Fault::Forbidden(format!("Not allowed to {action} image in status '{status}'")));
        }
        image.status = to;
        Ok(())
    })
    .await
}

/// `POST /v2/images/{image_id}/actions/deactivate`
pub async fn deactivate(call: Call) -> Result<Reply, Fault> {
    switch(&call, "deactivate", ImageStatus::Active, ImageStatus::Deactivated).await
}

/// `POST /v2/images/{image_id}/actions/reactivate`
pub async fn reactivate(call: Call) -> Result<Reply, Fault> {
    switch(&call, "reactivate", ImageStatus::Deactivated, ImageStatus::Active).await
}

/// `PUT /v2/images/{image_id}/tags/{tag}`
pub async fn add_tag(call: Call) -> Result<Reply, Fault> {
    attributes::check_tag(call.param("tag"))?;
    edit(&call, "modify_image", |image| attributes::add_tag(image, call.param("tag"))).await
}

/// `DELETE /v2/images/{image_id}/tags/{tag}`
pub async fn remove_tag(call: Call) -> Result<Reply, Fault> {
    edit(&call, "modify_image", |image| {
        let at = image.tags.iter().position(|tag| tag == call.param("tag"));
        image.tags.remove(at.ok_or_else(|| missing("The resource could not be found."))?);
        Ok(())
    })
    .await
}
