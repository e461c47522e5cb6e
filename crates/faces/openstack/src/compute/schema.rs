//! Schemas of what Nova's requests say, each property written once: its name and form, the versions that have it, and where it
//! goes in the row if that is all that becomes of it. What is unknown or does not fit is refused by them in Nova's words, and
//! who tries every body (tests with others' ids, the fuzzer) finds in them what a body carries.
//!
//! Refused: to declare the actions whose bodies are a word or nothing; that is longer than reading them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gate::Ref;
use model::{Fault, Kind, Resource};
use serde_json::{Value, json};

use super::body::{Fields, bad};
use crate::service::{Property as Declared, Takes};

/// An object of a body; `T` is the row that it is put into.
pub struct Schema<T: 'static = ()> {
    /// The name under which it stands; none: it is the body itself.
    pub name: &'static str,
    pub properties: &'static [Property<T>],
}

/// The form of a value.
#[derive(Clone, Copy)]
pub enum Is {
    /// 1 to 255 printable characters, without spaces around them; never null.
    Name,
    /// At most so many characters.
    Text(usize),
    /// A boolean, or what Nova takes for one.
    Flag,
    /// A whole number within bounds, as number or as text.
    Int(i64, i64),
    Ipv4,
    Ipv6,
    /// Base64 of at most so many characters.
    Base64(usize),
    /// Texts by name.
    Texts,
    OneOf(&'static [&'static str]),
    Uuid,
    /// As this says.
    Own(Fit),
    /// The request looks at it itself.
    Any,
}

/// A value in its form, given a version and the property's name.
pub type Fit = fn((u16, u16), &str, &Value) -> Result<Value, Fault>;

/// One property of an object.
pub struct Property<T: 'static = ()> {
    pub name: &'static str,
    pub is: Is,
    /// First and last microversion that has it.
    pub since: (u16, u16),
    pub until: (u16, u16),
    pub required: bool,
    /// Null takes it away; of other properties it says nothing.
    pub nullable: bool,
    /// The kinds of rows that it names, each with a value of it in which `$` is the id.
    pub refers_to: &'static [(Kind, &'static str)],
    /// It is plain: what is given is put into the row, and that is all.
    pub put: Option<fn(&mut T, &Value)>,
}

/// A property that all versions have.
pub const fn property<T>(name: &'static str, is: Is) -> Property<T> {
    let (since, until) = ((0, 0), (u16::MAX, u16::MAX));
    Property { name, is, since, until, required: false, nullable: false, refers_to: &[], put: None }
}

impl<T> Property<T> {
    /// The first microversion that has it.
    pub const fn since(self, major: u16, minor: u16) -> Self {
        Self { since: (major, minor), ..self }
    }
    /// The last microversion that has it.
    pub const fn until(self, major: u16, minor: u16) -> Self {
        Self { until: (major, minor), ..self }
    }
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }
    /// Null takes it away.
    pub const fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }
    /// It names rows.
    pub const fn refers_to(self, refers_to: &'static [(Kind, &'static str)]) -> Self {
        Self { refers_to, ..self }
    }
    /// What is given is put into the row, and that is all.
    pub const fn put(self, put: fn(&mut T, &Value)) -> Self {
        Self { put: Some(put), ..self }
    }

    /// The value in its form, unless it is absent or null.
    fn fit<'b>(&self, version: (u16, u16), fields: &Fields<'b>) -> Result<Option<Cow<'b, Value>>, Fault> {
        let name = self.name;
        let value = match self.is {
            Is::Name => fields.name(name)?.map(Value::from),
            Is::Text(most) => fields.text(name, most)?.map(Value::from),
            Is::Flag => fields.boolean(name)?.map(Value::from),
            Is::Int(least, most) => fields.integer(name, least, most)?.map(Value::from),
            Is::Ipv4 => fields.address(name, false)?.map(Value::from),
            Is::Ipv6 => fields.address(name, true)?.map(Value::from),
            Is::Base64(most) => fields.base64(name, most)?.map(Value::from),
            Is::Texts => fields.texts(name)?.map(|texts| texts.into_iter().map(|(k, v)| (k, Value::from(v))).collect()),
            Is::OneOf(all) => fields.one_of(name, all)?.map(Value::from),
            Is::Own(fit) => fields.get(name).map(|value| fit(version, name, value)).transpose()?,
            Is::Uuid => {
                fields.uuid(name)?;
                return Ok(fields.get(name).map(Cow::Borrowed));
            }
            Is::Any => return Ok(fields.get(name).map(Cow::Borrowed)),
        };
        Ok(value.map(Cow::Owned))
    }

    /// Why null is no value of it.
    const fn no_null(&self) -> &'static str {
        match self.is {
            Is::Name | Is::Text(_) | Is::Ipv4 | Is::Ipv6 | Is::Base64(_) | Is::OneOf(_) | Is::Uuid => {
                "It is not of type 'string'"
            }
            Is::Flag => "It is not of type 'boolean'",
            Is::Int(..) => "It is not of type 'integer'",
            Is::Texts => "It is not of type 'object'",
            Is::Own(_) | Is::Any => "It must not be null",
        }
    }

    /// A value of it, if it names nothing.
    fn sample(&self) -> Value {
        match self.is {
            Is::Name | Is::Text(_) => json!("a"),
            Is::Flag => json!(true),
            Is::Int(least, _) => json!(least),
            Is::Ipv4 => json!("10.0.0.4"),
            Is::Ipv6 => json!("fd00::4"),
            Is::Base64(_) => json!("IyEvYmluL3No"),
            Is::Texts => json!({"k": "v"}),
            Is::OneOf(all) => json!(all.first()),
            Is::Uuid | Is::Own(_) | Is::Any => Value::Null,
        }
    }
}

/// What a request gives of a schema's properties, each in its form.
pub struct Given<'b, T: 'static = ()> {
    schema: &'static Schema<T>,
    values: BTreeMap<&'static str, Cow<'b, Value>>,
}

impl<T> Schema<T> {
    /// Reads the object out of a body.
    pub fn read<'b>(&'static self, version: (u16, u16), body: &'b Value) -> Result<Given<'b, T>, Fault> {
        let fields = if self.name.is_empty() { Fields::new("body", body)? } else { Fields::of(body, self.name)? };
        self.take(version, &fields)
    }

    /// Reads the object itself.
    pub fn take<'b>(&'static self, version: (u16, u16), fields: &Fields<'b>) -> Result<Given<'b, T>, Fault> {
        let here = |property: &&Property<T>| (property.since..=property.until).contains(&version);
        let here: Vec<&Property<T>> = self.properties.iter().filter(here).collect();
        fields.only(&here.iter().map(|property| property.name).collect::<Vec<_>>())?;
        let mut values = BTreeMap::new();
        for property in here {
            let Property { name, required, nullable, .. } = *property;
            if required {
                fields.required(name)?;
            }
            let null = fields.map.get(name).is_some_and(Value::is_null);
            if null && nullable {
                values.insert(name, Cow::Owned(Value::Null));
            } else if let Some(value) = property.fit(version, fields)? {
                values.insert(name, value);
            } else if required {
                return Err(bad(name, &Value::Null, property.no_null()));
            }
        }
        Ok(Given { schema: self, values })
    }

    /// As whoever tries all bodies sees it.
    pub fn declared(&self) -> Takes {
        let properties = self.properties.iter().map(|property| {
            let Property { name, since, until, required, .. } = *property;
            let named = property.refers_to.iter().map(|(kind, value)| (*kind, (*value).to_owned())).collect::<Vec<_>>();
            let plain = named.is_empty();
            Declared { name, since, until, required, admin: false, refers_to: named, plain, sample: property.sample() }
        });
        Takes { name: self.name, properties: properties.collect() }
    }
}

impl<T> Given<'_, T> {
    /// Something is given, be it null.
    pub fn has(&self, name: &str) -> bool {
        debug_assert!(self.schema.properties.iter().any(|property| property.name == name), "{name} is not declared");
        self.values.contains_key(name)
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.has(name).then(|| self.values.get(name)).flatten().map(AsRef::as_ref).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_i64()
    }

    /// The row that is named by an id.
    pub fn reference<R: Resource>(&self, name: &str) -> Option<Ref<R>> {
        self.text(name).map(Ref::sent)
    }

    /// Puts what is plain into a row.
    pub fn put(&self, row: &mut T) {
        for property in self.schema.properties {
            if let Some((put, value)) = property.put.zip(self.values.get(property.name)) {
                put(row, value);
            }
        }
    }
}

/// A text as rows have it.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A text as rows have it that may be without.
pub fn text_or_none(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A count as rows have it.
pub fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Texts by name as rows have them.
pub fn texts(value: &Value) -> BTreeMap<String, String> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}
