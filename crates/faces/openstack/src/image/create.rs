//! New images without bytes yet, and one image by its id.

use model::{Change, Fault, Image};
use serde_json::{Map, Value};

use super::access;
use super::attributes::{self, mismatch};
use super::attrs;
use super::fault::missing;
use super::imports::METHODS;
use super::view::STORE;
use crate::call::{Call, Reply};

/// `POST /v2/images`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    no_empty_id(&call)?;
    let body = match call.json().await? {
        Value::Object(body) => body,
        Value::Null => return Err(Fault::invalid("Body expected in request.")),
        other => return Err(mismatch(format!("{other} is not of type 'object'"))),
    };
    let image = new_image(&call, &body)?;
    match call.cloud.store.transact(|_| Ok((Change::from(image.clone()), ()))).await {
        Err(Fault::Conflict(_)) => {
            return Err(Fault::Conflict(format!("Image ID {} already exists!", image.id)));
        }
        other => other?,
    }
    let location = call.url(&format!("/v2/images/{}", image.id));
    Ok(Reply::json(201, &attrs::shown(&image))
        .with("location", &location)
        .with("openstack-image-import-methods", &METHODS.join(","))
        .with("openstack-image-store-ids", STORE))
}

fn new_image(call: &Call, body: &Map<String, Value>) -> Result<Image, Fault> {
    let who = call.who()?;
    let id = match body.get("id") {
        None => uuid::Uuid::new_v4().to_string(),
        Some(Value::String(id)) if is_uuid(id) => id.clone(),
        Some(other) => return Err(mismatch(format!("{other} is not the id of an image, a UUID"))),
    };
    let mut image = Image::new(id, who.project_id().unwrap_or_default(), call.now);
    for (name, value) in body.iter().filter(|(name, _)| *name != "id") {
        attrs::check_name(name)?;
        if name == "locations" {
            return Err(Fault::Forbidden("Attribute 'locations' is reserved.".into()));
        }
        attrs::set(&mut image, name, value, who)?;
    }
    attributes::check_size(&image, None)?;
    if !who.is_admin() && (image.project_id.is_empty() || !access::owns(who, &image)) {
        let owner = &image.project_id;
        return Err(Fault::Forbidden(format!("You are not permitted to create images owned by '{owner}'")));
    }
    Ok(image)
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36 && uuid::Uuid::try_parse(id).is_ok()
}

/// `/v2/images/` is an image without an id, which is not there; only `/v2/images` is the list.
pub fn no_empty_id(call: &Call) -> Result<(), Fault> {
    let path = call.uri.split('?').next().unwrap_or_default();
    if path.ends_with('/') { Err(missing("The resource could not be found.")) } else { Ok(()) }
}

/// `DELETE /v2/images` and `/v2/images/`
pub async fn delete_nothing(call: Call) -> Result<Reply, Fault> {
    no_empty_id(&call)?;
    Err(Fault::MethodNotAllowed("The method DELETE is not allowed for this resource.".into()))
}

/// `GET /v2/images/{image_id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let image = access::find(&call.snapshot, call.who()?, call.param("image_id"))?;
    Ok(Reply::ok(attrs::shown(&image)))
}

/// `DELETE /v2/images/{image_id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    remove(&call, call.param("image_id")).await
}

/// Deletes an image. The bytes go with a later sweep, when nothing else needs them.
pub async fn remove(call: &Call, id: &str) -> Result<Reply, Fault> {
    let who = call.who()?;
    call.cloud
        .store
        .transact(|snapshot| {
            let image = access::own(snapshot, who, id, "delete_image").map_err(|fault| match fault {
                Fault::NotFound { .. } => missing(format!("Failed to find image {id} to delete")),
                other => other,
            })?;
            if image.protected {
                return Err(Fault::Forbidden(format!("Image {id} is protected and cannot be deleted.")));
            }
            let mut change = Change::new();
            change.delete(image);
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::empty(204))
}
