//! `/v2/metadefs/namespaces/{namespace}/objects`: properties that are set together.

use model::{Fault, MetadefNamespace, MetadefObject, Time};
use serde_json::{Value, json};

use super::body::{self, Attributes};
use super::pages::Paging;
use super::parts::{Part, edit, of_path};
use super::{definitions, properties};
use crate::call::{Call, Reply};
use crate::image::view::time;

const OBJECTS: Part<MetadefObject> =
    Part { one: "object", taken: "metadata definition object", all: |namespace| &mut namespace.objects };

const SCHEMA: &str = "object";
const KNOWN: [&str; 4] = ["name", "description", "required", "properties"];

/// The most characters of a description.
const LONGEST_DESCRIPTION: usize = 4096;

/// An object, with `prefix` before the names of its properties.
pub fn view(namespace: &str, name: &str, object: &MetadefObject, prefix: &str) -> Value {
    let required = object.required.iter().map(|name| format!("{prefix}{name}"));
    let mut shown = json!({
        "name": name,
        "required": required.collect::<Vec<_>>(),
        "properties": properties::by_name(&object.properties, prefix),
        "created_at": time(object.created_at),
        "updated_at": time(object.updated_at),
        "self": format!("/v2/metadefs/namespaces/{namespace}/objects/{name}"),
        "schema": "/v2/schemas/metadefs/object",
    });
    if let Some(description) = &object.description {
        shown["description"] = json!(description);
    }
    shown
}

/// An object as it was sent, with its name.
fn read(value: &Value, now: Time) -> Result<(String, MetadefObject), Fault> {
    let body = Attributes::of(SCHEMA, value, &KNOWN)?;
    let object = MetadefObject {
        description: body.text("description", LONGEST_DESCRIPTION)?,
        required: body.texts("required")?,
        properties: definitions::all(&body)?.collect::<Result<_, _>>()?,
        created_at: now,
        updated_at: now,
    };
    Ok((body.name("name")?, object))
}

/// Adds an object as it was sent, and tells its name.
pub fn add(namespace: &mut MetadefNamespace, value: &Value, now: Time) -> Result<String, Fault> {
    let (name, object) = read(value, now)?;
    OBJECTS.add(namespace, &name, object)?;
    Ok(name)
}

/// `GET .../objects`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let page = Paging::of(&call, &["created_at", "updated_at", "name", "description"], &[], 1)?;
    let namespace = of_path(&call)?;
    let all: Vec<(&String, &MetadefObject)> = namespace.value.objects.iter().collect();
    let key = |(name, object): &(&String, &MetadefObject)| {
        let key = match page.key {
            "created_at" => object.created_at.into(),
            "updated_at" => object.updated_at.into(),
            "description" => object.description.as_deref().unwrap_or_default().into(),
            _ => name.as_str().into(),
        };
        (key, object.created_at, (*name).clone())
    };
    let found = page.cut(all, key, |name| OBJECTS.absent(&namespace.name, name))?;
    let shown: Vec<Value> = found.into_iter().map(|(name, object)| view(&namespace.name, name, object, "")).collect();
    Ok(Reply::ok(json!({"objects": shown, "schema": "v2/schemas/metadefs/objects"})))
}

/// `GET .../objects/{name}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let (namespace, name) = (of_path(&call)?, call.param("name"));
    let object = namespace.objects.get(name).ok_or_else(|| OBJECTS.absent(&namespace.name, name))?;
    Ok(Reply::ok(view(&namespace.name, name, object, "")))
}

/// `POST .../objects`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let sent = body::read(&mut call).await?;
    let created = edit(&call, |namespace| {
        let name = add(namespace, &sent, call.now)?;
        Ok(view(&namespace.name, &name, &namespace.objects[&name], ""))
    });
    Ok(Reply::json(201, &created.await?))
}

/// `PUT .../objects/{name}`: what is not said is as in a new object.
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let sent = body::read(&mut call).await?;
    let (new_name, object) = read(&sent, call.now)?;
    let old_name = call.param("name");
    let updated = edit(&call, |namespace| {
        let old = OBJECTS.take(namespace, old_name)?;
        OBJECTS.add(namespace, &new_name, MetadefObject { created_at: old.created_at, ..object.clone() })?;
        Ok(view(&namespace.name, &new_name, &namespace.objects[&new_name], ""))
    });
    Ok(Reply::ok(updated.await?))
}

/// `DELETE .../objects/{name}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    OBJECTS.delete(call).await
}

/// `DELETE .../objects`
pub async fn delete_all(call: Call) -> Result<Reply, Fault> {
    OBJECTS.delete_all(call).await
}
