//! Changes of an image by a JSON patch: the one of Glance's 2.1, which is RFC 6902's add, replace and remove, and that
//! of 2.0, an older draft, which Tempest still speaks.

use std::collections::BTreeMap;

use gate::Principal;
use model::{Change, Fault, Image};
use serde_json::{Map, Value};

use super::access;
use super::attributes;
use super::attrs::{self, check_name, is_attribute};
use crate::call::{Call, Reply};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Draft {
    /// `{"replace": "/name", "value": "x"}`
    Four,
    /// `{"op": "replace", "path": "/name", "value": "x"}`
    Ten,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Add,
    Remove,
    Replace,
}

const OPS: [(&str, Op); 3] = [("add", Op::Add), ("remove", Op::Remove), ("replace", Op::Replace)];

/// One operation on one attribute or property.
#[derive(Debug, PartialEq)]
struct Operation {
    op: Op,
    name: String,
    value: Value,
    draft: Draft,
}

/// `PATCH /v2/images/{image_id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let content_type = call.headers.get(http::header::CONTENT_TYPE).and_then(|c| c.to_str().ok()).unwrap_or("");
    let draft = match content_type.split(';').next().unwrap_or_default().trim() {
        "application/openstack-images-v2.1-json-patch" => Draft::Ten,
        "application/openstack-images-v2.0-json-patch" => Draft::Four,
        _ => {
            return Err(Fault::MediaType(
                "Image PATCH expects Content-Type one of: application/openstack-images-v2.0-json-patch, \
                 application/openstack-images-v2.1-json-patch"
                    .into(),
            ));
        }
    };
    let body = call.json().await?;
    let operations = body
        .as_array()
        .ok_or_else(|| Fault::invalid("Request body must be a JSON array of operation objects."))?
        .iter()
        .map(|raw| operation(raw.as_object().ok_or_else(|| Fault::invalid("Operations must be JSON objects."))?, draft))
        .collect::<Result<Vec<_>, _>>()?;

    let (who, id, now) = (call.who()?, call.param("image_id"), call.now);
    let image = call
        .cloud
        .store
        .transact(|snapshot| {
            if operations.is_empty() {
                return Ok((Change::new(), access::find(snapshot, who, id)?.value.clone()));
            }
            let entry = access::own(snapshot, who, id, "modify_image")?;
            let mut image = entry.value.clone();
            for operation in &operations {
                apply(&mut image, operation, who)?;
            }
            attributes::check_size(&image, Some(entry.value))?;
            image.updated_at = now;
            let mut change = Change::new();
            if image.project_id == entry.project_id {
                change.update(entry, image.clone());
            } else {
                change.delete(entry).create(image.clone());
            }
            Ok((change, image))
        })
        .await?;
    Ok(Reply::ok(attrs::shown(&image)))
}

fn operation(raw: &Map<String, Value>, draft: Draft) -> Result<Operation, Fault> {
    let (op, path) = match draft {
        Draft::Ten => {
            let available = "It must be one of the following: add, remove, replace.";
            let op = raw
                .get("op")
                .ok_or_else(|| Fault::Invalid(format!("Unable to find `op` in JSON Schema change. {available}")))?;
            let known = OPS.iter().find(|(name, _)| op.as_str() == Some(name));
            let known = known.ok_or_else(|| Fault::Invalid(format!("Invalid operation: `{op}`. {available}")))?;
            let path = raw.get("path").ok_or_else(|| Fault::invalid("Unable to find 'path' in JSON Schema change"))?;
            (known.1, path)
        }
        Draft::Four => {
            let mut found = OPS.iter().filter_map(|(name, op)| Some((*op, raw.get(*name)?)));
            match (found.next(), found.next()) {
                (Some(one), None) => one,
                _ => {
                    return Err(Fault::invalid(
                        "Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\".",
                    ));
                }
            }
        }
    };
    let path = path.as_str().ok_or_else(|| Fault::Invalid(format!("Pointer `{path}` is not a string.")))?;
    let name = name_of(path, op)?;
    let value = match op {
        Op::Remove => Value::Null,
        Op::Add | Op::Replace => raw
            .get("value")
            .cloned()
            .ok_or_else(|| Fault::invalid("Operation \"add\" or \"replace\" requires a member named \"value\"."))?,
    };
    check_name(&name)?;
    if name == "id" {
        return Err(Fault::Forbidden("Attribute 'id' is read-only.".into()));
    }
    Ok(Operation { op, name, value, draft })
}

/// The attribute that a JSON pointer names. Only locations have parts, and they cannot be changed.
fn name_of(pointer: &str, op: Op) -> Result<String, Fault> {
    let bad = |why: &str| Fault::Invalid(format!("Pointer `{pointer}` {why}"));
    let rest = pointer.strip_prefix('/').ok_or_else(|| bad("does not start with \"/\"."))?;
    if rest.is_empty() || rest.ends_with('/') {
        return Err(bad("does not contain valid token."));
    }
    let escaped = rest.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if !escaped {
        return Err(bad("contains \"~\" not part of a recognized escape sequence."));
    }
    let parts: Vec<String> =
        rest.split('/').map(|p| p.replace("~1", "/").replace("~0", "~").trim().to_owned()).collect();
    let depth = if parts[0] == "locations" && op != Op::Replace { 2 } else { 1 };
    if parts.len() != depth || parts[0].is_empty() {
        return Err(Fault::Invalid(format!("Invalid JSON pointer for this resource: '{pointer}'")));
    }
    Ok(parts.into_iter().next().unwrap_or_default())
}

fn apply(image: &mut Image, operation: &Operation, who: &Principal) -> Result<(), Fault> {
    let Operation { op, name, value, draft } = operation;
    let there = is_attribute(name) || image.properties.contains_key(name);
    if name == "locations" {
        return Err(Fault::Forbidden("It's not allowed to update locations if locations are invisible.".into()));
    }
    match op {
        Op::Remove if is_attribute(name) => Err(Fault::Forbidden(format!("Property {name} may not be removed."))),
        Op::Remove if image.properties.remove(name).is_some() => Ok(()),
        Op::Remove | Op::Replace if !there => Err(Fault::Conflict(format!("Property {name} does not exist."))),
        Op::Add if there && *draft == Draft::Four => Err(Fault::Conflict(format!("Property {name} already present."))),
        _ if name == "owner" && !who.is_admin() => Err(Fault::Forbidden("Owner can't be updated by non admin.".into())),
        _ => attrs::set(image, name, value, who),
    }
}

/// For Nova's view of images: changes their properties, by Glance's rules; what they are then.
pub async fn change_properties(
    call: &Call,
    id: &str,
    edit: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Fault> + Send + Sync,
) -> Result<BTreeMap<String, String>, Fault> {
    let (who, now) = (call.who()?, call.now);
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = access::own(snapshot, who, id, "modify_image")?;
            let mut wanted = entry.value.properties.clone();
            edit(&mut wanted)?;
            let mut image = entry.value.clone();
            image.properties.retain(|name, _| wanted.contains_key(name));
            for (name, value) in &wanted {
                if image.properties.get(name) == Some(value) {
                    continue;
                }
                check_name(name)?;
                if is_attribute(name) {
                    return Err(Fault::Invalid(format!("{name} is an attribute of images and no property.")));
                }
                attrs::set(&mut image, name, &Value::from(value.as_str()), who)?;
            }
            attributes::check_size(&image, Some(entry.value))?;
            image.updated_at = now;
            let properties = image.properties.clone();
            let mut change = Change::new();
            change.update(entry, image);
            Ok((change, properties))
        })
        .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(raw: Value, draft: Draft) -> Result<Operation, Fault> {
        operation(raw.as_object().unwrap(), draft)
    }

    #[test]
    fn both_drafts_say_the_same() {
        let ten = read(json!({"op": "replace", "path": "/a~1b", "value": "x"}), Draft::Ten).unwrap();
        let four = read(json!({"replace": "/a~1b", "value": "x"}), Draft::Four).unwrap();
        assert_eq!((&ten.op, &ten.name, &ten.value), (&four.op, &four.name, &four.value));
        assert_eq!(ten.name, "a/b");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for raw in [
            json!({"path": "/name", "value": "x"}),
            json!({"op": "move", "path": "/name", "value": "x"}),
            json!({"op": "add", "value": "x"}),
            json!({"op": "add", "path": "/name"}),
            json!({"op": "add", "path": "name", "value": "x"}),
            json!({"op": "add", "path": "/", "value": "x"}),
            json!({"op": "add", "path": "/a/b", "value": "x"}),
            json!({"op": "add", "path": "/a~2", "value": "x"}),
            json!({"op": "add", "path": "/a~", "value": "x"}),
            json!({"op": "add", "path": 5, "value": "x"}),
        ] {
            assert!(matches!(read(raw.clone(), Draft::Ten), Err(Fault::Invalid(_))), "{raw}");
        }
        for path in ["/status", "/id", "/size", "/os_glance_x", "/deleted"] {
            let raw = json!({"op": "add", "path": path, "value": "x"});
            assert!(matches!(read(raw, Draft::Ten), Err(Fault::Forbidden(_))), "{path}");
        }
        let both = json!({"add": "/a", "remove": "/b", "value": "x"});
        assert!(matches!(read(both, Draft::Four), Err(Fault::Invalid(_))));
    }
}
