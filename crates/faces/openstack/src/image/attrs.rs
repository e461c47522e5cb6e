//! The attributes that every image has, each written once: its schema, where it is in the row, who sets it and how, by what
//! lists are filtered and sorted. What is shown, `/v2/schemas/image`, what a creation or a patch may set, filters and sort keys
//! follow. Whatever else an image says is a property: a text of the client's own.

use std::cmp::Ordering;

use gate::Principal;
use model::{Fault, Image, Time};
use serde_json::{Map, Value, json};

use super::attributes::{
    self, CONTAINER_FORMATS, DISK_FORMATS, add_tag, boolean, mismatch, number, one_of, only_queued, text_or_null,
};
use super::view::{self, STORE};

/// The form of ids in schemas.
pub const ID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

/// How a client's value gets into the row.
type Put = fn(&mut Image, &Value, &Principal) -> Result<(), Fault>;
pub type Comparison = fn(&Image, &Image) -> Ordering;

/// Who sets an attribute.
enum Set {
    Client(Put),
    /// A client, in a creation alone.
    Creation,
    Service,
    /// Nobody: the word means something else inside of Glance.
    Nobody,
}

/// By what lists are filtered.
#[derive(Clone, Copy)]
pub enum Filter {
    /// `x` or `in:x,y`
    AnyOf(fn(&Image) -> Option<String>),
    Equal(fn(&Image) -> Option<&str>),
    /// `true` or `false`, in capitals too where Glance takes them.
    Flag {
        of: fn(&Image) -> bool,
        capitals: bool,
    },
    /// `gte:2026-11-21T19:34:15Z`
    Moment(fn(&Image) -> Time),
    /// A number, and its bounds with `_min` and `_max` behind the name.
    Amount(fn(&Image) -> Option<u64>),
}

/// One attribute.
pub struct Attr {
    pub name: &'static str,
    /// `None`: the schema is silent about it.
    schema: Option<fn() -> Value>,
    /// `None`: it is not shown.
    get: fn(&Image) -> Option<Value>,
    set: Set,
    pub filter: Option<Filter>,
    pub order: Option<Comparison>,
}

/// One that the service sets.
const fn found(name: &'static str, schema: fn() -> Value, get: fn(&Image) -> Option<Value>) -> Attr {
    Attr { name, schema: Some(schema), get, set: Set::Service, filter: None, order: None }
}

/// One that a client sets.
const fn plain(name: &'static str, schema: fn() -> Value, get: fn(&Image) -> Option<Value>, put: Put) -> Attr {
    Attr { set: Set::Client(put), ..found(name, schema, get) }
}

/// One of which schemas say nothing, and that images have at times.
const fn unsaid(name: &'static str, set: Set, get: fn(&Image) -> Option<Value>) -> Attr {
    Attr { name, schema: None, get, set, filter: None, order: None }
}

impl Attr {
    const fn filter(self, filter: Filter) -> Self {
        Self { filter: Some(filter), ..self }
    }

    const fn order(self, order: Comparison) -> Self {
        Self { order: Some(order), ..self }
    }
}

/// Sort keys in the order in which Glance names them.
pub const ATTRS: &[Attr] = &[
    plain(
        "name",
        || json!({"type": ["null", "string"], "description": "Descriptive name for the image", "maxLength": 255}),
        |image| Some(json!(image.name)),
        |image, value, _| {
            image.name = text_or_null("name", value)?.map(str::to_owned);
            Ok(())
        },
    )
    .filter(Filter::AnyOf(|image| image.name.clone()))
    .order(|a, b| a.name.cmp(&b.name)),
    found(
        "status",
        || {
            json!({
                "type": "string", "description": "Status of the image",
                "enum": ["queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete",
                    "deactivated"],
            })
        },
        |image| Some(json!(view::status(image.status))),
    )
    .filter(Filter::AnyOf(|image| Some(view::status(image.status).to_owned())))
    .order(|a, b| view::status(a.status).cmp(view::status(b.status))),
    plain(
        "container_format",
        || {
            let formats = formats(CONTAINER_FORMATS);
            json!({"type": ["null", "string"], "description": "Format of the container", "enum": formats})
        },
        |image| Some(json!(image.container_format)),
        |image, value, _| {
            let format = one_of("container_format", value, CONTAINER_FORMATS)?;
            only_queued(image, "container_format")?;
            image.container_format = format;
            Ok(())
        },
    )
    .filter(Filter::AnyOf(|image| image.container_format.clone()))
    .order(|a, b| a.container_format.cmp(&b.container_format)),
    plain(
        "disk_format",
        || {
            let formats = formats(DISK_FORMATS);
            json!({"type": ["null", "string"], "description": "Format of the disk", "enum": formats})
        },
        |image| Some(json!(image.disk_format)),
        |image, value, _| {
            let format = one_of("disk_format", value, DISK_FORMATS)?;
            only_queued(image, "disk_format")?;
            image.disk_format = format;
            Ok(())
        },
    )
    .filter(Filter::AnyOf(|image| image.disk_format.clone()))
    .order(|a, b| a.disk_format.cmp(&b.disk_format)),
    found(
        "size",
        || json!({"type": ["null", "integer"], "description": "Size of image file in bytes"}),
        |image| Some(json!(image.size)),
    )
    .filter(Filter::Amount(|image| image.size))
    .order(|a, b| a.size.cmp(&b.size)),
    Attr {
        set: Set::Creation,
        ..found(
            "id",
            || json!({"type": "string", "description": "An identifier for the image", "pattern": ID}),
            |image| Some(json!(image.id)),
        )
    }
    .filter(Filter::AnyOf(|image| Some(image.id.clone())))
    .order(|a, b| a.id.cmp(&b.id)),
    found(
        "created_at",
        || json!({"type": "string", "description": "Date and time of image registration"}),
        |image| Some(json!(view::time(image.created_at))),
    )
    .filter(Filter::Moment(|image| image.created_at))
    .order(|a, b| a.created_at.cmp(&b.created_at)),
    found(
        "updated_at",
        || json!({"type": "string", "description": "Date and time of the last image modification"}),
        |image| Some(json!(view::time(image.updated_at))),
    )
    .filter(Filter::Moment(|image| image.updated_at))
    .order(|a, b| a.updated_at.cmp(&b.updated_at)),
    plain(
        "visibility",
        || {
            json!({
                "type": "string", "description": "Scope of image accessibility",
                "enum": ["community", "public", "private", "shared"],
            })
        },
        |image| Some(json!(view::visibility(image.visibility))),
        |image, value, who| {
            image.visibility = attributes::visibility(value, who)?;
            Ok(())
        },
    ),
    plain(
        "protected",
        || json!({"type": "boolean", "description": "If true, image will not be deletable."}),
        |image| Some(json!(image.protected)),
        |image, value, _| {
            image.protected = boolean(value)?;
            Ok(())
        },
    )
    .filter(Filter::Flag { of: |image| image.protected, capitals: false }),
    plain(
        "os_hidden",
        || {
            json!({"type": "boolean", "description": "If true, image will not appear in default image list response."})
        },
        |image| Some(json!(image.os_hidden)),
        |image, value, _| {
            image.os_hidden = boolean(value)?;
            Ok(())
        },
    )
    .filter(Filter::Flag { of: |image| image.os_hidden, capitals: true }),
    plain(
        "owner",
        || json!({"type": ["null", "string"], "description": "Owner of the image", "maxLength": 255}),
        |image| Some(json!(view::owner(image))),
        |image, value, _| {
            image.project_id = attributes::owner(value)?;
            Ok(())
        },
    )
    .filter(Filter::Equal(|image| Some(&image.project_id))),
    plain(
        "tags",
        || {
            json!({
                "type": "array", "description": "List of strings related to the image",
                "items": {"type": "string", "maxLength": 255},
            })
        },
        |image| Some(json!(image.tags)),
        |image, value, _| {
            image.tags.clear();
            for tag in value.as_array().ok_or_else(|| mismatch(format!("{value} is not of type 'array'")))? {
                let tag = tag.as_str().ok_or_else(|| mismatch(format!("{tag} is not of type 'string'")))?;
                add_tag(image, tag)?;
            }
            Ok(())
        },
    ),
    plain(
        "min_ram",
        || json!({"type": "integer", "description": "Amount of ram (in MB) required to boot image."}),
        |image| Some(json!(image.min_ram)),
        |image, value, _| {
            image.min_ram = number("min_ram", value)?;
            Ok(())
        },
    )
    .filter(Filter::Amount(|image| Some(image.min_ram))),
    plain(
        "min_disk",
        || json!({"type": "integer", "description": "Amount of disk space (in GB) required to boot image."}),
        |image| Some(json!(image.min_disk)),
        |image, value, _| {
            image.min_disk = number("min_disk", value)?;
            Ok(())
        },
    )
    .filter(Filter::Amount(|image| Some(image.min_disk))),
    found(
        "checksum",
        || json!({"type": ["null", "string"], "description": "md5 hash of image contents.", "maxLength": 32}),
        |image| Some(json!(image.checksum)),
    )
    .filter(Filter::Equal(|image| image.checksum.as_deref())),
    found(
        "os_hash_algo",
        || {
            json!({"type": ["null", "string"], "maxLength": 64, "description": "Algorithm to calculate the os_hash_value"})
        },
        |image| Some(json!(image.os_hash_value.as_ref().map(|_| "sha512"))),
    )
    .filter(Filter::Equal(|image| image.os_hash_value.as_ref().map(|_| "sha512"))),
    found(
        "os_hash_value",
        || {
            json!({
                "type": ["null", "string"], "maxLength": 128,
                "description": "Hexdigest of the image contents using the algorithm specified by the os_hash_algo",
            })
        },
        |image| Some(json!(image.os_hash_value)),
    )
    .filter(Filter::Equal(|image| image.os_hash_value.as_deref())),
    found(
        "virtual_size",
        || json!({"type": ["null", "integer"], "description": "Virtual size of image in bytes"}),
        |image| Some(json!(image.virtual_size)),
    )
    .filter(Filter::Amount(|image| image.virtual_size)),
    found(
        "self",
        || json!({"type": "string", "description": "An image self url"}),
        |image| Some(json!(format!("/v2/images/{}", image.id))),
    ),
    found(
        "file",
        || json!({"type": "string", "description": "An image file url"}),
        |image| Some(json!(format!("/v2/images/{}/file", image.id))),
    ),
    found(
        "schema",
        || json!({"type": "string", "description": "An image schema url"}),
        |_| Some(json!("/v2/schemas/image")),
    ),
    unsaid("stores", Set::Service, |image| image.blob.as_ref().map(|_| json!(STORE))),
    unsaid("direct_url", Set::Service, |_| None),
    unsaid("os_glance_import_task", Set::Nobody, |image| image.download.as_ref().map(|from| json!(from.task_id))),
    unsaid("os_glance_importing_to_stores", Set::Nobody, |image| image.download.as_ref().map(|_| json!(STORE))),
    unsaid("os_glance_failed_import", Set::Nobody, |image| image.import_failed.then(|| json!(STORE))),
    unsaid("location", Set::Nobody, |_| None),
    unsaid("deleted", Set::Nobody, |_| None),
    unsaid("deleted_at", Set::Nobody, |_| None),
];

/// The attribute of this name.
pub fn named(name: &str) -> Option<&'static Attr> {
    ATTRS.iter().find(|attr| attr.name == name)
}

/// An image as it is shown; the attributes that every image has win over properties of the same name.
pub fn shown(image: &Image) -> Value {
    let mut out: Map<String, Value> = image.properties.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    out.extend(ATTRS.iter().filter_map(|attr| Some((attr.name.to_owned(), (attr.get)(image)?))));
    Value::Object(out)
}

/// The schemas of the attributes, by their names.
pub fn schemas() -> Map<String, Value> {
    let schema = |attr: &Attr| {
        let mut schema = attr.schema?();
        if matches!(attr.set, Set::Service) {
            schema["readOnly"] = json!(true);
        }
        Some((attr.name.to_owned(), schema))
    };
    ATTRS.iter().filter_map(schema).collect()
}

fn formats(known: &[&str]) -> Value {
    let known = known.iter().map(|format| json!(format));
    std::iter::once(Value::Null).chain(known).collect()
}

/// Every image has an attribute of this name; a property can have any other.
pub fn is_attribute(name: &str) -> bool {
    name == "locations" || named(name).is_some_and(|attr| matches!(attr.set, Set::Client(_) | Set::Creation))
}

/// Refuses names that clients cannot set.
pub fn check_name(name: &str) -> Result<(), Fault> {
    match named(name).map(|attr| &attr.set) {
        Some(Set::Service) => Err(Fault::Forbidden(format!("Attribute '{name}' is read-only."))),
        Some(Set::Nobody) => Err(Fault::Forbidden(format!("Attribute '{name}' is reserved."))),
        _ if name.starts_with("os_glance") => Err(Fault::Forbidden(format!("Attribute '{name}' is reserved."))),
        _ => Ok(()),
    }
}

/// Sets an attribute or property.
pub fn set(image: &mut Image, name: &str, value: &Value, who: &Principal) -> Result<(), Fault> {
    match named(name).map(|attr| &attr.set) {
        Some(Set::Client(put)) => put(image, value, who),
        _ => attributes::set_property(image, name, value),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a client may send or look for is in the schema, and no name is another's.
    #[test]
    fn attributes_are_declared_once() {
        let names: BTreeSet<&str> = ATTRS.iter().map(|attr| attr.name).collect();
        assert_eq!(names.len(), ATTRS.len());
        let schemas = schemas();
        for attr in ATTRS.iter().filter(|attr| attr.filter.is_some() || is_attribute(attr.name)) {
            assert!(schemas.contains_key(attr.name), "{}", attr.name);
            let read_only = schemas[attr.name].get("readOnly").is_some();
            assert_eq!(read_only, !is_attribute(attr.name), "{}", attr.name);
        }
        let image = Image::new("i", "p".to_owned(), Time::UNIX_EPOCH);
        let shown = shown(&image);
        let shown: BTreeSet<&String> = shown.as_object().into_iter().flat_map(Map::keys).collect();
        assert_eq!(shown, schemas.keys().collect());
    }
}
