//! Bodies of metadata definitions, attribute by attribute, refused in the words of the schema that they break.

use std::collections::HashSet;

use model::Fault;
use serde_json::{Map, Value};

use crate::call::Call;

/// The most characters of a name, of Glance's database too.
pub const LONGEST_NAME: usize = 80;
/// Those of a namespace's description.
pub const LONGEST_DESCRIPTION: usize = 500;

/// Set by the service alone.
const READ_ONLY: [&str; 4] = ["self", "schema", "created_at", "updated_at"];

/// The content breaks a schema.
pub fn mismatch(schema: &str, reason: impl std::fmt::Display) -> Fault {
    Fault::Invalid(format!("Provided object does not match schema '{schema}': {reason}"))
}

/// The JSON body of a request that has to have one.
pub async fn read(call: &mut Call) -> Result<Value, Fault> {
    match call.json().await? {
        Value::Null => Err(Fault::invalid("Body expected in request.")),
        body => Ok(body),
    }
}

/// An object of a body.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    pub schema: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Attributes<'a> {
    /// An object that has no other attributes than these.
    pub fn of(schema: &'static str, value: &'a Value, known: &[&str]) -> Result<Self, Fault> {
        let map =
            value.as_object().ok_or_else(|| mismatch(schema, format!("{} is not of type 'object'", short(value))))?;
        if let Some(name) = READ_ONLY.iter().find(|name| map.contains_key(**name)) {
            return Err(Fault::Forbidden(format!("Attribute '{name}' is read-only.")));
        }
        match map.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                Err(mismatch(schema, format!("Additional properties are not allowed ('{name}' was unexpected)")))
            }
            None => Ok(Self { schema, map }),
        }
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    pub fn wrong(&self, name: &str, form: &str) -> Fault {
        let value = self.map.get(name).map(short).unwrap_or_default();
        mismatch(self.schema, format!("{value} is not {form} ('{name}')"))
    }

    /// A text of so many characters at most.
    pub fn text(&self, name: &str, longest: usize) -> Result<Option<String>, Fault> {
        match self.map.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= longest => Ok(Some(text.clone())),
            Some(Value::String(_)) => {
                Err(mismatch(self.schema, format!("the value of '{name}' is longer than {longest} characters")))
            }
            Some(_) => Err(self.wrong(name, "of type 'string'")),
        }
    }

    /// The attribute by which something is known.
    pub fn name(&self, name: &str) -> Result<String, Fault> {
        let text = self.text(name, LONGEST_NAME)?;
        let text = text.ok_or_else(|| mismatch(self.schema, format!("'{name}' is a required property")))?;
        check_name(self.schema, &text)?;
        Ok(text)
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.map.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "of type 'boolean'")),
        }
    }

    /// A list; none given is an empty one.
    pub fn list(&self, name: &str) -> Result<&'a [Value], Fault> {
        match self.map.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(name, "of type 'array'")),
        }
    }

    /// A list of texts, each once.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Fault> {
        let (mut texts, mut seen) = (Vec::new(), HashSet::new());
        for value in self.list(name)? {
            match value.as_str() {
                Some(text) if seen.insert(text) => texts.push(text.to_owned()),
                _ => return Err(self.wrong(name, "a list of texts, each once")),
            }
        }
        Ok(texts)
    }

    /// An object of any attributes; none given is an empty one.
    pub fn entries(&self, name: &str) -> Result<impl Iterator<Item = (&'a String, &'a Value)> + use<'a>, Fault> {
        match self.map.get(name) {
            None => Ok(None.into_iter().flatten()),
            Some(Value::Object(map)) => Ok(Some(map).into_iter().flatten()),
            Some(_) => Err(self.wrong(name, "of type 'object'")),
        }
    }
}

/// What something can be known by: it is a part of a path, and of a row's key.
pub fn check_name(schema: &str, name: &str) -> Result<(), Fault> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(mismatch(schema, format!("'{}' is no name", name.escape_debug())));
    }
    match name.chars().count() > LONGEST_NAME {
        true => Err(mismatch(schema, format!("'{name}' is longer than {LONGEST_NAME} characters"))),
        false => Ok(()),
    }
}

/// A value in a message: enough of it to be recognised.
fn short(value: &Value) -> String {
    value.to_string().chars().take(100).collect()
}
