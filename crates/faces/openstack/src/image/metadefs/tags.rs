//! `/v2/metadefs/namespaces/{namespace}/tags`: words that may be set as tags.

use model::{Fault, MetadefNamespace, MetadefTag, Time};
use serde_json::{Value, json};

use super::body::{self, Attributes, check_name};
use super::pages::Paging;
use super::parts::{Part, edit, of_path};
use crate::call::{Call, Reply};
use crate::image::view::time;

const TAGS: Part<MetadefTag> = Part { one: "tag", taken: "metadata tag", all: |namespace| &mut namespace.tags };

const SCHEMA: &str = "tag";

fn view(name: &str, tag: &MetadefTag) -> Value {
    json!({"name": name, "created_at": time(tag.created_at), "updated_at": time(tag.updated_at)})
}

/// The name in a tag as it was sent.
pub fn name_of(value: &Value) -> Result<String, Fault> {
    Attributes::of(SCHEMA, value, &["name"])?.name("name")
}

/// Adds a tag.
pub fn add(namespace: &mut MetadefNamespace, name: &str, now: Time) -> Result<(), Fault> {
    TAGS.add(namespace, name, MetadefTag { created_at: now, updated_at: now })
}

/// `GET .../tags`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let page = Paging::of(&call, &["created_at", "updated_at", "name"], &[], 0)?;
    let namespace = of_path(&call)?;
    let all: Vec<(&String, &MetadefTag)> = namespace.value.tags.iter().collect();
    let key = |(name, tag): &(&String, &MetadefTag)| {
        let key = match page.key {
            "created_at" => tag.created_at.into(),
            "updated_at" => tag.updated_at.into(),
            _ => name.as_str().into(),
        };
        (key, tag.created_at, (*name).clone())
    };
    let found = page.cut(all, key, |name| TAGS.absent(&namespace.name, name))?;
    Ok(Reply::ok(json!({"tags": found.into_iter().map(|(name, _)| json!({"name": name})).collect::<Vec<_>>()})))
}

/// `GET .../tags/{name}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let (namespace, name) = (of_path(&call)?, call.param("name"));
    let tag = namespace.tags.get(name).ok_or_else(|| TAGS.absent(&namespace.name, name))?;
    Ok(Reply::ok(view(name, tag)))
}

/// `POST .../tags/{name}`, without a body.
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    if !call.json().await?.is_null() {
        return Err(Fault::invalid("A body is not expected with this request."));
    }
    let name = call.param("name");
    check_name(SCHEMA, name)?;
    edit(&call, |namespace| add(namespace, name, call.now)).await?;
    Ok(Reply::json(201, &json!({"name": name})))
}

/// `POST .../tags`: in place of all that there are, or with `X-OpenStack-Append` besides them. No tags at all change nothing, as
/// in Glance.
pub async fn create_all(mut call: Call) -> Result<Reply, Fault> {
    let sent = body::read(&mut call).await?;
    let names: Vec<String> =
        Attributes::of("tags", &sent, &["tags"])?.list("tags")?.iter().map(name_of).collect::<Result<_, _>>()?;
    let appends = call.headers.get("x-openstack-append").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let appends = matches!(appends.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes");
    edit(&call, |namespace| {
        if !appends && !names.is_empty() {
            namespace.tags.clear();
        }
        names.iter().try_for_each(|name| add(namespace, name, call.now))
    })
    .await?;
    let shown: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    Ok(Reply::json(201, &json!({"tags": shown})))
}

/// `PUT .../tags/{name}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let new_name = name_of(&body::read(&mut call).await?)?;
    let old_name = call.param("name");
    let updated = edit(&call, |namespace| {
        let old = TAGS.take(namespace, old_name)?;
        TAGS.add(namespace, &new_name, MetadefTag { updated_at: call.now, ..old })?;
        Ok(view(&new_name, &namespace.tags[&new_name]))
    });
    Ok(Reply::ok(updated.await?))
}

/// `DELETE .../tags/{name}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    TAGS.delete(call).await
}

/// `DELETE .../tags`
pub async fn delete_all(call: Call) -> Result<Reply, Fault> {
    TAGS.delete_all(call).await
}
