//! `/v2/metadefs/namespaces/{namespace}/properties`: single properties.

use std::collections::BTreeMap;

use model::{Fault, MetadefNamespace, PropertyDefinition};
use serde_json::{Value, json};

use super::{body, check_unprotected, definitions, edit, of_path};
use crate::call::{Call, Reply};
use crate::image::fault::missing;

fn no_property(namespace: &str, name: &str) -> Fault {
    missing(format!("The metadata definition property with name={name} was not found in namespace={namespace}."))
}

/// Properties by their names, with `prefix` before each.
pub fn by_name(properties: &BTreeMap<String, PropertyDefinition>, prefix: &str) -> Value {
    properties.iter().map(|(name, property)| (format!("{prefix}{name}"), json!(property))).collect()
}

fn view(name: &str, property: &PropertyDefinition) -> Value {
    let mut shown = json!(property);
    shown["name"] = json!(name);
    shown
}

fn check_free(namespace: &MetadefNamespace, name: &str) -> Result<(), Fault> {
    match namespace.properties.contains_key(name) {
        true => Err(Fault::Conflict(format!(
            "A metadata definition property with name={name} already exists in namespace={}.",
            namespace.name
        ))),
        false => Ok(()),
    }
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
    let property = namespace.properties.get(name).ok_or_else(|| no_property(&namespace.name, name))?;
    Ok(Reply::ok(view(name, property)))
}

/// `POST .../properties`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let (name, property) = definitions::named(&body::read(&mut call).await?)?;
    edit(&call, |namespace| {
        check_free(namespace, &name)?;
        namespace.properties.insert(name.clone(), property.clone());
        Ok(())
    })
    .await?;
    Ok(Reply::json(201, &view(&name, &property)))
}

/// `PUT .../properties/{name}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let (new_name, property) = definitions::named(&body::read(&mut call).await?)?;
    let old_name = call.param("name");
    edit(&call, |namespace| {
        namespace.properties.remove(old_name).ok_or_else(|| no_property(&namespace.name, old_name))?;
        check_free(namespace, &new_name)?;
        namespace.properties.insert(new_name.clone(), property.clone());
        Ok(())
    })
    .await?;
    Ok(Reply::ok(view(&new_name, &property)))
}

/// `DELETE .../properties/{name}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let name = call.param("name");
    edit(&call, |namespace| {
        namespace.properties.remove(name).ok_or_else(|| no_property(&namespace.name, name))?;
        check_unprotected(namespace, "property", name)
    })
    .await?;
    Ok(Reply::empty(204))
}

/// `DELETE .../properties`
pub async fn delete_all(call: Call) -> Result<Reply, Fault> {
    edit(&call, |namespace| {
        namespace.properties.clear();
        check_unprotected(namespace, "namespace", &namespace.name)
    })
    .await?;
    Ok(Reply::empty(204))
}
