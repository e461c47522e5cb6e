//! Definitions of properties: a JSON schema of what one may be set to, for forms. Kept as they were sent; nothing is ever
//! checked against them here, as in Glance.

use model::{Fault, PropertyDefinition};
use serde_json::Value;

use super::body::{Attributes, check_name};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What a definition may say, besides a name.
const KNOWN: [&str; 18] = [
    "title",
    "type",
    "description",
    "operators",
    "default",
    "readonly",
    "minimum",
    "maximum",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "items",
    "uniqueItems",
    "minItems",
    "maxItems",
    "additionalItems",
    "name",
];

const SCHEMA: &str = "property";

/// The most characters of one text in a definition.
const LONGEST: usize = 4096;

/// A definition on its own, with its name.
pub fn named(value: &Value) -> Result<(String, PropertyDefinition), Fault> {
    Ok((Attributes::of(SCHEMA, value, &KNOWN)?.name("name")?, definition(value)?))
}

/// Definitions by name, as they stand in a namespace or an object.
pub fn all(body: &Attributes<'_>) -> Result<impl Iterator<Item = Result<(String, PropertyDefinition), Fault>>, Fault> {
    Ok(body.entries("properties")?.map(|(name, value)| {
        check_name(SCHEMA, name)?;
        Ok((name.clone(), definition(value)?))
    }))
}

fn definition(value: &Value) -> Result<PropertyDefinition, Fault> {
    let body = Attributes::of(SCHEMA, value, &KNOWN)?;
    for required in ["title", "type"] {
        if body.get(required).is_none() {
            return Err(super::body::mismatch(SCHEMA, format!("'{required}' is a required property")));
        }
    }
    for text in ["title", "description", "pattern", "name"] {
        body.text(text, LONGEST)?;
    }
    for flag in ["readonly", "uniqueItems", "additionalItems"] {
        body.flag(flag)?;
    }
    for count in ["minLength", "maxLength", "minItems", "maxItems"] {
        if body.get(count).is_some_and(|count| !count.is_u64()) {
            return Err(body.wrong(count, "a whole number that is not negative"));
        }
    }
    for bound in ["minimum", "maximum"] {
        if body.get(bound).is_some_and(|bound| !bound.is_number()) {
            return Err(body.wrong(bound, "of type 'number'"));
        }
    }
    body.list("enum")?;
    body.texts("operators")?;
    check_type(&body)?;
    if let Some(items) = body.get("items") {
        let items = Attributes::of(SCHEMA, items, &["type", "enum"])?;
        check_type(&items)?;
        items.list("enum")?;
    }
    let kept = value.as_object().into_iter().flatten().filter(|(name, _)| *name != "name");
    Ok(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn check_type(body: &Attributes<'_>) -> Result<(), Fault> {
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match body.get("type") {
        Some(value) if !known(value) => Err(body.wrong("type", &format!("one of ['{}']", TYPES.join("', '")))),
        _ => Ok(()),
    }
}
