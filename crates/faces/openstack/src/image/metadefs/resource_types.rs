//! `/v2/metadefs/resource_types`, and for which of them a namespace is meant. A resource type is a name, by convention that of
//! Heat: those of this cloud's things are known from the start, any other as long as a namespace is meant for it. Glance
//! keeps every name for good that was ever used, and has no way to be rid of it.

use std::collections::BTreeMap;

use gate::View;
use model::{Fault, MetadefAssociation, MetadefNamespace, Time};
use serde_json::{Value, json};

use super::body::{self, Attributes, LONGEST_NAME};
use super::parts::{check_unprotected, edit, of_path};
use crate::call::{Call, Reply};
use crate::image::fault::missing;
use crate::image::view::time;

const SCHEMA: &str = "resource_type_association";

/// Things of this cloud on which properties can be set.
const OF_THE_CLOUD: [&str; 4] = ["OS::Glance::Image", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Nova::Server"];

fn view(name: &str, association: &MetadefAssociation) -> Value {
    let mut shown = json!({
        "name": name,
        "created_at": time(association.created_at),
        "updated_at": time(association.updated_at),
    });
    for (name, text) in [("prefix", &association.prefix), ("properties_target", &association.properties_target)] {
        if let Some(text) = text {
            shown[name] = json!(text);
        }
    }
    shown
}

/// The resource types for which a namespace is meant.
pub fn views(namespace: &MetadefNamespace) -> Vec<Value> {
    namespace.resource_types.iter().map(|(name, association)| view(name, association)).collect()
}

/// Adds a resource type as it was sent, and tells its name.
pub fn add(namespace: &mut MetadefNamespace, value: &Value, now: Time) -> Result<String, Fault> {
    let body = Attributes::of(SCHEMA, value, &["name", "prefix", "properties_target"])?;
    let name = body.name("name")?;
    if namespace.resource_types.contains_key(&name) {
        return Err(Fault::Conflict(format!(
            "The metadata definition resource-type association of resource-type={name} to namespace={}, already exists.",
            namespace.name
        )));
    }
    let association = MetadefAssociation {
        prefix: body.text("prefix", LONGEST_NAME)?,
        properties_target: body.text("properties_target", LONGEST_NAME)?,
        created_at: now,
        updated_at: now,
    };
    namespace.resource_types.insert(name.clone(), association);
    Ok(name)
}

/// `GET /v2/metadefs/resource_types`: the cloud's own, which nobody made, and those of namespaces that the caller sees.
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = View::new(&call.snapshot, call.who()?);
    let mut first: BTreeMap<&str, Option<Time>> = OF_THE_CLOUD.into_iter().map(|name| (name, None)).collect();
    for namespace in view.all::<MetadefNamespace>() {
        for (name, association) in &namespace.value.resource_types {
            let since = first.entry(name).or_insert(Some(association.created_at));
            *since = since.map(|since| since.min(association.created_at));
        }
    }
    let shown = first.into_iter().map(|(name, since)| match since.map(time) {
        Some(since) => json!({"name": name, "created_at": since, "updated_at": since}),
        None => json!({"name": name}),
    });
    Ok(Reply::ok(json!({"resource_types": shown.collect::<Vec<_>>()})))
}

/// `GET .../resource_types`
pub async fn of_namespace(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"resource_type_associations": views(&*of_path(&call)?)})))
}

/// `POST .../resource_types`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let sent = body::read(&mut call).await?;
    let created = edit(&call, |namespace| {
        let name = add(namespace, &sent, call.now)?;
        Ok(view(&name, &namespace.resource_types[&name]))
    });
    Ok(Reply::json(201, &created.await?))
}

/// `DELETE .../resource_types/{name}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let name = call.param("name");
    edit(&call, |namespace| {
        let found = namespace.resource_types.remove(name);
        found.ok_or_else(|| missing(format!("Failed to find resource type {name} to delete")))?;
        check_unprotected(namespace, "resource-type-association", name)
    })
    .await?;
    Ok(Reply::empty(204))
}
