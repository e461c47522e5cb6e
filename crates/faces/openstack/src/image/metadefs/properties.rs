//! `/v2/metadefs/namespaces/{namespace}/properties`: single properties.

use std::collections::BTreeMap;

use model::{Fault, PropertyDefinition};
use serde_json::{Value, json};

use super::parts::{Part, edit, of_path};
use super::{body, definitions};
use crate::call::{Call, Reply};
use crate::image::fault::missing;

const PROPERTIES: Part<PropertyDefinition> =
    Part { one: "property", taken: "metadata definition property", all: |namespace| &mut namespace.properties };

/// Properties by their names, with `prefix` before each.
pub fn by_name(properties: &BTreeMap<String, PropertyDefinition>, prefix: &str) -> Value {
    properties.iter().map(|(name, property)| (format!("{prefix}{name}"), json!(property))).collect()
}

fn view(name: &str, property: &PropertyDefinition) -> Value {
    let mut shown = json!(property);
    shown["name"] = json!(name);
    shown
}

/// `GET .../properties`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"properties": by_name(&of_path(&call)?.properties, "")})))
}

/// `GET .../properties/{name}`: with `?resource_type=` by the name that it has on such a thing.
pub async fn show(call: Call) -> Result<Reply, Fault> {
    if let Some((name, _)) = call.query.iter().find(|(name, _)| name != "resource_type") {
        return Err(Fault::Invalid(format!("There is no parameter '{name}' for a property.")));
    }
    let (namespace, mut name) = (of_path(&call)?, call.param("name"));
    if let Some(kind) = call.query("resource_type").filter(|kind| !kind.is_empty()) {
        let association = namespace.resource_types.get(kind).ok_or_else(|| {
            missing(format!(
                "The metadata definition resource-type association of resource-type={kind} to namespace={}, was not \
                 found.",
                namespace.name
            ))
        })?;
        let prefix = association.prefix.as_deref().unwrap_or_default();
        name = name.strip_prefix(prefix).filter(|_| !prefix.is_empty()).ok_or_else(|| {
            missing(format!(
                "Property {name} does not start with the expected resource type association prefix of '{prefix}'."
            ))
        })?;
    }
    let property = namespace.properties.get(name).ok_or_else(|| PROPERTIES.absent(&namespace.name, name))?;
    Ok(Reply::ok(view(name, property)))
}

/// `POST .../properties`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let (name, property) = definitions::named(&body::read(&mut call).await?)?;
    edit(&call, |namespace| PROPERTIES.add(namespace, &name, property.clone())).await?;
    Ok(Reply::json(201, &view(&name, &property)))
}

/// `PUT .../properties/{name}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let (new_name, property) = definitions::named(&body::read(&mut call).await?)?;
    let old_name = call.param("name");
    edit(&call, |namespace| {
        PROPERTIES.take(namespace, old_name)?;
        PROPERTIES.add(namespace, &new_name, property.clone())
    })
    .await?;
    Ok(Reply::ok(view(&new_name, &property)))
}

/// `DELETE .../properties/{name}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    PROPERTIES.delete(call).await
}

/// `DELETE .../properties`
pub async fn delete_all(call: Call) -> Result<Reply, Fault> {
    PROPERTIES.delete_all(call).await
}
