//! Reading request bodies the way Nova's JSON schemas do, with their words for what does not fit.

use std::net::IpAddr;

use base64::Engine as _;
use gate::Ref;
use model::{Fault, Resource};
use serde_json::{Map, Value};

/// A part of a body: an object, and how its fields are called in messages.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    pub name: &'a str,
    pub map: &'a Map<String, Value>,
}

/// A value that does not fit its field.
pub fn bad(field: &str, value: &Value, why: &str) -> Fault {
    let shown: String = match value {
        Value::String(text) => text.chars().take(300).collect(),
        other => other.to_string().chars().take(300).collect(),
    };
    Fault::Invalid(format!("Invalid input for field/attribute {field}. Value: {shown}. {why}"))
}

impl<'a> Fields<'a> {
    /// The object under the single name that the body must have.
    pub fn of(body: &'a Value, name: &'a str) -> Result<Self, Fault> {
        let map = body.get(name).and_then(Value::as_object);
        let map = map.ok_or_else(|| {
            Fault::Invalid(format!("Invalid input for field/attribute body. '{name}' is a required property"))
        })?;
        Ok(Self { name, map })
    }

    pub fn new(name: &'a str, value: &'a Value) -> Result<Self, Fault> {
        let map = value.as_object().ok_or_else(|| bad(name, value, "It is not of type 'object'"))?;
        Ok(Self { name, map })
    }

    /// Refuses fields that the version does not know.
    pub fn only(&self, known: &[&str]) -> Result<(), Fault> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Fault::Invalid(format!(
                "Invalid input for field/attribute {}. Additional properties are not allowed ('{key}' was unexpected)",
                self.name
            ))),
            None => Ok(()),
        }
    }

    /// The field, unless it is absent or null.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub fn required(&self, field: &str) -> Result<&'a Value, Fault> {
        self.map.get(field).ok_or_else(|| {
            Fault::Invalid(format!("Invalid input for field/attribute {}. '{field}' is a required property", self.name))
        })
    }

    /// A text of at most `most` characters.
    pub fn text(&self, field: &str, most: usize) -> Result<Option<&'a str>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| bad(field, value, "It is not of type 'string'"))?;
        if text.chars().count() > most {
            return Err(bad(field, value, "It is too long"));
        }
        Ok(Some(text))
    }

    /// A name: 1 to 255 printable characters, without spaces around them.
    pub fn name(&self, field: &str) -> Result<Option<String>, Fault> {
        let Some(value) = self.map.get(field) else { return Ok(None) };
        name(field, value).map(Some)
    }

    pub fn boolean(&self, field: &str) -> Result<Option<bool>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = match value {
            Value::Bool(b) => return Ok(Some(*b)),
            Value::String(text) => text.to_lowercase(),
            _ => return Err(bad(field, value, "It is not of type 'boolean'")),
        };
        match text.as_str() {
            "true" | "1" | "on" | "yes" | "t" | "y" => Ok(Some(true)),
            "false" | "0" | "off" | "no" | "f" | "n" => Ok(Some(false)),
            _ => Err(bad(
                field,
                value,
                "It is not one of [True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no']",
            )),
        }
    }

    /// A whole number, as number or as text, within bounds.
    pub fn integer(&self, field: &str, least: i64, most: i64) -> Result<Option<i64>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = match value {
            Value::Number(n) => n.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| bad(field, value, "It is not of type 'integer'"))?;
        if number < least {
            return Err(bad(field, value, &format!("{number} is less than the minimum of {least}")));
        }
        if number > most {
            return Err(bad(field, value, &format!("{number} is greater than the maximum of {most}")));
        }
        Ok(Some(number))
    }

    /// One of these words.
    pub fn one_of(&self, field: &str, all: &[&str]) -> Result<Option<&'a str>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let words = || all.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        let word = value.as_str().filter(|word| all.contains(word));
        word.map(Some).ok_or_else(|| bad(field, value, &format!("It is not one of [{}]", words())))
    }

    /// The row that is named by an id, which must look like a UUID.
    pub fn reference<T: Resource>(&self, field: &str) -> Result<Option<Ref<T>>, Fault> {
        Ok(self.uuid(field)?.map(Ref::sent))
    }

    /// A text that looks like a UUID.
    pub fn uuid(&self, field: &str) -> Result<Option<&'a str>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_str().filter(|text| is_uuid(text)).map(Some).ok_or_else(|| bad(field, value, "It is not a 'uuid'"))
    }

    /// An address of one family in its canonical form; the empty text stays empty.
    pub fn address(&self, field: &str, v6: bool) -> Result<Option<String>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_str() {
            Some("") => Ok(Some(String::new())),
            Some(text) => match text.parse::<IpAddr>() {
                Ok(ip) if ip.is_ipv6() == v6 => Ok(Some(ip.to_string())),
                _ => Err(bad(field, value, if v6 { "It is not a 'ipv6'" } else { "It is not a 'ipv4'" })),
            },
            None => Err(bad(field, value, "It is not of type 'string'")),
        }
    }

    /// Base64 text of at most `most` characters; kept as it is.
    pub fn base64(&self, field: &str, most: usize) -> Result<Option<String>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| bad(field, value, "It is not of type 'string'"))?;
        if text.len() > most {
            return Err(bad(field, value, "It is too long"));
        }
        let packed: String = text.split_whitespace().collect();
        match base64::engine::general_purpose::STANDARD.decode(&packed) {
            Ok(_) => Ok(Some(packed)),
            Err(_) => Err(bad(field, value, "It is not a 'base64'")),
        }
    }

    /// Texts by name: metadata, extra specs.
    pub fn texts(&self, field: &str) -> Result<Option<Vec<(String, String)>>, Fault> {
        self.get(field).map(|value| texts(field, value)).transpose()
    }
}

/// An object of texts: names of 1 to 255 characters of the allowed set, values of at most 255.
pub fn texts(field: &str, value: &Value) -> Result<Vec<(String, String)>, Fault> {
    let map = value.as_object().ok_or_else(|| bad(field, value, "It is not of type 'object'"))?;
    map.iter()
        .map(|(name, value)| {
            let fine = |c: char| c.is_ascii_alphanumeric() || "-_:. /".contains(c);
            if name.is_empty() || name.len() > 255 || !name.chars().all(fine) {
                return Err(Fault::Invalid(format!(
                    "Invalid input for field/attribute {field}. '{name}' does not match any of the regexes: \
                     '^[a-zA-Z0-9-_:. /]{{1,255}}$'"
                )));
            }
            let text = value.as_str().ok_or_else(|| bad(name, value, "It is not of type 'string'"))?;
            if text.chars().count() > 255 {
                return Err(bad(name, value, "It is too long"));
            }
            Ok((name.clone(), text.to_owned()))
        })
        .collect()
}

/// A name: 1 to 255 printable characters. Nova refuses spaces around a name since 2.1.
pub fn name(field: &str, value: &Value) -> Result<String, Fault> {
    let text = value.as_str().ok_or_else(|| bad(field, value, "It is not of type 'string'"))?;
    let count = text.chars().count();
    if count == 0 {
        return Err(bad(field, value, "'' is too short"));
    }
    if count > 255 {
        return Err(bad(field, value, "It is too long"));
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(bad(field, value, "Leading or trailing spaces and non-printable characters are not allowed."));
    }
    Ok(text.to_owned())
}

pub fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && text.len() >= 32
}
