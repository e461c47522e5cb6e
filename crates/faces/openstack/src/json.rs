//! JSON that borrows from rows: what an attribute shows, filters compare, lists are sorted by, and replies are written from.
//! Refused: `serde_json::Value` for it, which copies every text and every name of a row to show it once (a page of 50 ports
//! took ten times as long).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Time;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

#[derive(Clone, Debug)]
pub enum Json<'a> {
    /// There is no such attribute; objects leave it out.
    Absent,
    Null,
    Bool(bool),
    Number(u64),
    Text(Cow<'a, str>),
    Ip(IpAddr),
    Time(Time),
    List(Vec<Json<'a>>),
    /// By name.
    Object(Vec<(&'a str, Json<'a>)>),
    Texts(&'a BTreeMap<String, String>),
    Value(Cow<'a, Value>),
}

impl<'a> Json<'a> {
    pub fn object<const N: usize>(fields: [(&'a str, Json<'a>); N]) -> Self {
        Self::Object(fields.into()).sorted()
    }

    /// Objects are written in the order of their names.
    pub fn sorted(mut self) -> Self {
        if let Self::Object(fields) = &mut self {
            fields.sort_unstable_by_key(|(name, _)| *name);
        }
        self
    }

    pub fn list<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// The field of an object.
    pub fn field(&self, name: &str) -> &Self {
        let Self::Object(fields) = self else { return &Self::Absent };
        fields.iter().find(|(known, _)| *known == name).map_or(&Self::Absent, |(_, value)| value)
    }

    /// The items of a list; of anything else there are none.
    pub fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// The text, or what is written as one.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Ip(ip) => Some(Cow::Owned(ip.to_string())),
            Self::Time(time) => Some(Cow::Owned(model::seconds(*time))),
            Self::Value(value) => value.as_str().map(Cow::Borrowed),
            _ => None,
        }
    }

    /// With texts in the form in which they are compared.
    pub fn into_key(self) -> Self {
        match self {
            Self::Ip(_) | Self::Time(_) => Self::Text(Cow::Owned(self.text().unwrap_or_default().into_owned())),
            Self::Value(value) => match &*value {
                Value::String(text) => Self::Text(Cow::Owned(text.clone())),
                Value::Null => Self::Null,
                Value::Number(number) => number.as_u64().map_or(Self::Value(value.clone()), Self::Number),
                _ => Self::Value(value),
            },
            other => other,
        }
    }

    /// The order of lists: numbers and texts as such, anything else by how it is written.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => one.cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (one, other) => one.written().cmp(&other.written()),
        }
    }

    fn written(&self) -> Option<String> {
        match self {
            Self::Absent => None,
            other => serde_json::to_string(other).ok(),
        }
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => to.serialize_unit(),
            Self::Bool(flag) => to.serialize_bool(*flag),
            Self::Number(number) => to.serialize_u64(*number),
            Self::Text(text) => to.serialize_str(text),
            Self::Ip(ip) => ip.serialize(to),
            // Without its fraction a moment is written as `model::seconds` has it, and without a text of its own.
            Self::Time(time) => match Time::from_second(time.as_second()) {
                Ok(whole) => to.collect_str(&whole),
                Err(_) => to.serialize_str(&model::seconds(*time)),
            },
            Self::List(items) => items.serialize(to),
            Self::Object(fields) => {
                let mut map = to.serialize_map(None)?;
                for (name, value) in fields.iter().filter(|(_, value)| !matches!(value, Self::Absent)) {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::Texts(texts) => texts.serialize(to),
            Self::Value(value) => value.serialize(to),
        }
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(
            impl From<$number> for Json<'_> {
                fn from(number: $number) -> Self {
                    Self::Number(number.into())
                }
            }
            impl From<&$number> for Json<'_> {
                fn from(number: &$number) -> Self {
                    Self::Number((*number).into())
                }
            }
        )*
    };
}
numbers!(u8, u16, u32, u64);

macro_rules! copied {
    ($($type:ty => $variant:ident),*) => {
        $(
            impl From<$type> for Json<'_> {
                fn from(value: $type) -> Self {
                    Self::$variant(value)
                }
            }
            impl From<&$type> for Json<'_> {
                fn from(value: &$type) -> Self {
                    Self::$variant(*value)
                }
            }
        )*
    };
}
copied!(bool => Bool, IpAddr => Ip, Time => Time);

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Json<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a> From<&'a BTreeMap<String, String>> for Json<'a> {
    fn from(texts: &'a BTreeMap<String, String>) -> Self {
        Self::Texts(texts)
    }
}

impl<'a> From<&'a BTreeMap<String, Value>> for Json<'a> {
    fn from(values: &'a BTreeMap<String, Value>) -> Self {
        Self::Object(values.iter().map(|(name, value)| (name.as_str(), value.into())).collect())
    }
}

impl<'a> From<&'a Value> for Json<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Value(Cow::Borrowed(value))
    }
}

impl From<Value> for Json<'_> {
    fn from(value: Value) -> Self {
        Self::Value(Cow::Owned(value))
    }
}

impl<'a, T: Into<Json<'a>>> From<Option<T>> for Json<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Optional fields of rows, and lists.
macro_rules! borrowed {
    ($($type:ty),*) => {
        $(
            impl<'a> From<&'a Option<$type>> for Json<'a> {
                fn from(value: &'a Option<$type>) -> Self {
                    value.as_ref().map_or(Self::Null, Self::from)
                }
            }
            impl<'a> From<&'a Vec<$type>> for Json<'a> {
                fn from(items: &'a Vec<$type>) -> Self {
                    Self::list(items)
                }
            }
        )*
    };
}
borrowed!(String, IpAddr, Value, model::Key);

/// The id of another row that a row names.
impl<'a> From<&'a model::Key> for Json<'a> {
    fn from(key: &'a model::Key) -> Self {
        Self::from(&*key.name)
    }
}

/// `{"network": …}`
pub struct Named<T>(pub &'static str, pub T);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

/// A field of a row into which a value that fits is put. A value of another form changes nothing.
pub trait Put {
    fn put(&mut self, given: &Value);
}

impl Put for String {
    fn put(&mut self, given: &Value) {
        if let Some(text) = given.as_str() {
            text.clone_into(self);
        }
    }
}

impl Put for bool {
    fn put(&mut self, given: &Value) {
        *self = given.as_bool().unwrap_or(*self);
    }
}

impl Put for u8 {
    fn put(&mut self, given: &Value) {
        *self = given.as_u64().and_then(|number| Self::try_from(number).ok()).unwrap_or(*self);
    }
}

impl Put for Option<String> {
    fn put(&mut self, given: &Value) {
        *self = given.as_str().map(str::to_owned);
    }
}

impl Put for Option<Value> {
    fn put(&mut self, given: &Value) {
        *self = (!given.is_null()).then(|| given.clone());
    }
}

impl Put for Vec<String> {
    fn put(&mut self, given: &Value) {
        *self = given.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    }
}
