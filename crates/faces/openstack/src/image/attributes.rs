//! What the attributes of an image may hold, and its properties, tags and all of it together: checks for new images and for
//! changes alike. Which attributes there are is declared in [`super::attrs`].

use gate::Principal;
use model::{Fault, Image, ImageStatus, Visibility};
use serde_json::Value;

/// Formats of disks that Glance knows. Not all of them boot here, but bytes may be kept in any.
pub const DISK_FORMATS: &[&str] = &["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"];

/// Formats of containers of disks that Glance knows.
pub const CONTAINER_FORMATS: &[&str] = &["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"];

/// Glance's own limits.
const MAX_TEXT: usize = 255;
const MAX_PROPERTIES: usize = 128;
const MAX_TAGS: usize = 128;
/// What Glance's database holds: a text and a signed number.
const MAX_VALUE: usize = 65535;
const MAX_NUMBER: u64 = i32::MAX as u64;

/// The most bytes of all that an image says, and of whom it is shared with. Glance's limits are of each text alone, and let an
/// image say 8 MiB; here all rows are in the memory of every process.
const LARGEST: usize = 128 << 10;

fn size(image: &Image) -> usize {
    let properties = image.properties.iter().map(|(name, value)| name.len() + value.len());
    properties.chain(image.tags.iter().chain(image.members.keys()).map(String::len)).sum()
}

/// Refuses an image that says too much, unless it says less than `before`.
pub fn check_size(image: &Image, before: Option<&Image>) -> Result<(), Fault> {
    let size_now = size(image);
    match size_now > LARGEST && before.is_none_or(|before| size_now > size(before)) {
        true => Err(Fault::TooLarge(format!(
            "The properties, tags and members of image {} have {size_now} bytes together, of {LARGEST} that are allowed.",
            image.id
        ))),
        false => Ok(()),
    }
}

/// The content breaks the image's schema.
pub fn mismatch(reason: impl std::fmt::Display) -> Fault {
    Fault::Invalid(format!("Provided object does not match schema 'image': {reason}"))
}

/// A tag as it may be.
pub fn check_tag(tag: &str) -> Result<(), Fault> {
    if tag.chars().count() > MAX_TEXT { Err(mismatch(format!("'{tag}' is too long"))) } else { Ok(()) }
}

/// Adds a tag that the image does not have yet.
pub fn add_tag(image: &mut Image, tag: &str) -> Result<(), Fault> {
    check_tag(tag)?;
    if image.tags.iter().any(|t| t == tag) {
        return Ok(());
    }
    if image.tags.len() >= MAX_TAGS {
        return Err(over("tags", image.tags.len() + 1, MAX_TAGS));
    }
    image.tags.push(tag.to_owned());
    Ok(())
}

/// The refusal of a limit in Glance's words.
pub fn over(what: &str, attempted: usize, maximum: usize) -> Fault {
    Fault::TooLarge(format!(
        "The limit has been exceeded on the number of allowed image {what}. Attempted: {attempted}, Maximum: {maximum}"
    ))
}

/// Sets a property.
pub fn set_property(image: &mut Image, name: &str, value: &Value) -> Result<(), Fault> {
    let value = value.as_str().ok_or_else(|| mismatch(format!("{value} is not of type 'string'")))?;
    if name.chars().count() > MAX_TEXT {
        return Err(Fault::invalid("Custom property should not be greater than 255 characters."));
    }
    if value.len() > MAX_VALUE {
        return Err(Fault::Invalid(format!("The value of property {name} is longer than {MAX_VALUE} bytes.")));
    }
    let count = image.properties.len() + usize::from(!image.properties.contains_key(name));
    if count > MAX_PROPERTIES {
        return Err(over("properties", count, MAX_PROPERTIES));
    }
    image.properties.insert(name.to_owned(), value.to_owned());
    Ok(())
}

/// A text of bounded length, or nothing.
pub fn text_or_null<'a>(name: &str, value: &'a Value) -> Result<Option<&'a str>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() <= MAX_TEXT => Ok(Some(text)),
        Value::String(_) => Err(mismatch(format!("the value of '{name}' is too long"))),
        other => Err(mismatch(format!("{other} is not of type 'null', 'string'"))),
    }
}

/// One of the texts that are known, or nothing.
pub fn one_of(name: &str, value: &Value, known: &[&str]) -> Result<Option<String>, Fault> {
    match text_or_null(name, value)? {
        None => Ok(None),
        Some(text) if known.contains(&text) => Ok(Some(text.to_owned())),
        Some(text) => Err(mismatch(format!("'{text}' is not one of [None, '{}']", known.join("', '")))),
    }
}

/// Refuses what can be set only before there are bytes.
pub fn only_queued(image: &Image, name: &str) -> Result<(), Fault> {
    match image.status {
        ImageStatus::Queued => Ok(()),
        _ => Err(Fault::Forbidden(format!("Attribute {name} can be only replaced for a queued image."))),
    }
}

/// Who sees an image, if the caller may say so.
pub fn visibility(value: &Value, who: &Principal) -> Result<Visibility, Fault> {
    match value.as_str() {
        Some("public") if who.is_admin() => Ok(Visibility::Public),
        Some("public") => Err(Fault::Forbidden("You are not authorized to complete publicize_image action.".into())),
        Some("private") => Ok(Visibility::Private),
        Some("shared") => Ok(Visibility::Shared),
        Some("community") => Ok(Visibility::Community),
        _ => Err(mismatch(format!("{value} is not one of ['community', 'public', 'private', 'shared']"))),
    }
}

/// A number that Glance's database holds.
pub fn number(name: &str, value: &Value) -> Result<u64, Fault> {
    if let Some(number) = value.as_u64().filter(|n| *n <= MAX_NUMBER) {
        return Ok(number);
    }
    match value.as_i64() {
        Some(n) if n < 0 => {
            Err(Fault::Invalid(format!("Invalid value '{n}' for parameter '{name}': Cannot be a negative value")))
        }
        _ if value.is_u64() => Err(Fault::Invalid(format!(
            "Invalid value '{value}' for parameter '{name}': it is larger than {MAX_NUMBER}"
        ))),
        _ => Err(mismatch(format!("{value} is not of type 'integer'"))),
    }
}

/// `true` or `false`.
pub fn boolean(value: &Value) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| mismatch(format!("{value} is not of type 'boolean'")))
}

/// An owner's id becomes a part of the row's key, so it has the form of an id; that there is such a project is not
/// asked, as in Glance.
pub fn owner(value: &Value) -> Result<String, Fault> {
    let Some(id) = text_or_null("owner", value)? else { return Ok(String::new()) };
    if !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Ok(id.to_owned());
    }
    Err(Fault::Invalid(format!("'{id}' is not the id of a project.")))
}
