//! Nova's own view of what images say, which ended with 2.38. The properties are Glance's.

use std::collections::BTreeMap;

use model::Fault;
use serde_json::{Value, json};

use super::body::{Fields, texts};
use super::fault::missing;
use super::images::find;
use crate::call::{Call, Reply};
use crate::image;

fn no_image() -> Fault {
    missing("Image not found.")
}

fn no_key(key: &str) -> Fault {
    missing(format!("Image property {key} not found."))
}

type Items = Vec<(String, String)>;

fn items(body: &Value) -> Result<Items, Fault> {
    let fields = Fields::new("body", body)?;
    fields.only(&["metadata"])?;
    texts("metadata", fields.required("metadata")?)
}

/// Changes an image's properties; what they are then.
async fn change(
    call: &Call,
    edit: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Fault> + Send + Sync,
) -> Result<BTreeMap<String, String>, Fault> {
    find(&call.view()?, call.param("id")).ok_or_else(no_image)?;
    image::change_properties(call, call.param("id"), edit).await
}

/// `GET /images/{id}/metadata`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let image = find(&call.view()?, call.param("id")).ok_or_else(no_image)?;
    Ok(Reply::ok(json!({"metadata": image.properties})))
}

/// `POST /images/{id}/metadata`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let items = items(&call.json().await?)?;
    let all = change(&call, |properties| {
        properties.extend(items.iter().cloned());
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"metadata": all})))
}

/// `PUT /images/{id}/metadata`: replaces all.
pub async fn replace(mut call: Call) -> Result<Reply, Fault> {
    let items = items(&call.json().await?)?;
    let all = change(&call, |properties| {
        *properties = items.iter().cloned().collect();
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"metadata": all})))
}

/// `GET /images/{id}/metadata/{key}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let image = find(&call.view()?, call.param("id")).ok_or_else(no_image)?;
    let key = call.param("key");
    let value = image.properties.get(key).ok_or_else(|| no_key(key))?;
    Ok(Reply::ok(json!({"meta": {key: value}})))
}

/// `PUT /images/{id}/metadata/{key}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::new("body", &body)?;
    fields.only(&["meta"])?;
    let items = texts("meta", fields.required("meta")?)?;
    let [(key, value)] = items.as_slice() else {
        return Err(Fault::Invalid("Request body contains too many items".into()));
    };
    if key != call.param("key") {
        return Err(Fault::Invalid("Request body and URI mismatch".into()));
    }
    change(&call, |properties| {
        properties.insert(key.clone(), value.clone());
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"meta": {key: value}})))
}

/// `DELETE /images/{id}/metadata/{key}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let key = call.param("key");
    change(&call, |properties| properties.remove(key).map(drop).ok_or_else(|| no_key(key))).await?;
    Ok(Reply::empty(204))
}
