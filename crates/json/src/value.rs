//! A JSON value, and what of it can be asked.

use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::{Error, Map, Number};

/// A JSON value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Map<String, Value>),
}

static NULL: Value = Value::Null;

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub fn is_boolean(&self) -> bool {
        matches!(self, Self::Bool(_))
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Number(_))
    }

    pub fn is_i64(&self) -> bool {
        self.as_i64().is_some()
    }

    pub fn is_u64(&self) -> bool {
        self.as_u64().is_some()
    }

    pub fn is_f64(&self) -> bool {
        matches!(self, Self::Number(number) if number.is_f64())
    }

    pub fn is_string(&self) -> bool {
        matches!(self, Self::String(_))
    }

    pub fn is_array(&self) -> bool {
        matches!(self, Self::Array(_))
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    pub fn as_null(&self) -> Option<()> {
        self.is_null().then_some(())
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    pub fn as_f64(&self) -> Option<f64> {
        self.as_number()?.as_f64()
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Map<String, Value>> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub fn get<I: Index>(&self, index: I) -> Option<&Value> {
        index.of(self)
    }

    pub fn get_mut<I: Index>(&mut self, index: I) -> Option<&mut Value> {
        index.of_mut(self)
    }

    /// Leaves null in its place.
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }

    /// The value at a path, by RFC 6901.
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        steps(pointer)?.try_fold(self, |value, step| match value {
            Self::Object(fields) => fields.get(step.as_str()),
            Self::Array(items) => items.get(place(&step)?),
            _ => None,
        })
    }

    /// The same to be changed.
    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        steps(pointer)?.try_fold(self, |value, step| match value {
            Self::Object(fields) => fields.get_mut(step.as_str()),
            Self::Array(items) => items.get_mut(place(&step)?),
            _ => None,
        })
    }

    /// Gives back the memory that was taken for what might still have been added.
    pub fn shrink(&mut self) {
        match self {
            Self::String(text) => text.shrink_to_fit(),
            Self::Array(items) => {
                items.shrink_to_fit();
                items.iter_mut().for_each(Self::shrink);
            }
            Self::Object(fields) => fields.shrink(Self::shrink),
            _ => {}
        }
    }
}

fn steps(pointer: &str) -> Option<impl Iterator<Item = String>> {
    let rest = match pointer {
        "" => None,
        _ => Some(pointer.strip_prefix('/')?),
    };
    Some(rest.into_iter().flat_map(|rest| rest.split('/')).map(|step| step.replace("~1", "/").replace("~0", "~")))
}

fn place(text: &str) -> Option<usize> {
    let plain = !text.starts_with('+') && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// What selects a part of a value: the name of a field, the place of an item.
pub trait Index {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value>;
    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value>;
    /// The part, made if it is not there.
    fn or_made<'v>(&self, value: &'v mut Value) -> &'v mut Value;
}

impl Index for str {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_object()?.get(self)
    }
    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_object_mut()?.get_mut(self)
    }
    fn or_made<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        match value {
            Value::Object(fields) => fields.entry(self).or_insert(Value::Null),
            other => panic!("{other} has no field {self:?}"),
        }
    }
}

impl Index for String {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.as_str().of(value)
    }
    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.as_str().of_mut(value)
    }
    fn or_made<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        self.as_str().or_made(value)
    }
}

impl Index for usize {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_array()?.get(*self)
    }
    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_array_mut()?.get_mut(*self)
    }
    fn or_made<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        match value {
            Value::Array(items) => &mut items[*self],
            other => panic!("{other} has no item {self}"),
        }
    }
}

impl<T: Index + ?Sized> Index for &T {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        (**self).of(value)
    }
    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        (**self).of_mut(value)
    }
    fn or_made<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        (**self).or_made(value)
    }
}

impl<I: Index> std::ops::Index<I> for Value {
    type Output = Value;
    /// Null, if it is not there.
    fn index(&self, index: I) -> &Value {
        index.of(self).unwrap_or(&NULL)
    }
}

impl<I: Index> std::ops::IndexMut<I> for Value {
    fn index_mut(&mut self, index: I) -> &mut Value {
        index.or_made(self)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => items.serialize(serializer),
            Self::Object(fields) => fields.serialize(serializer),
        }
    }
}

impl Serialize for Map<String, Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if f.alternate() { serde_json::to_string_pretty(self) } else { serde_json::to_string(self) };
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Value {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Number(number),
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => {
                Self::Object(fields.into_iter().map(|(name, value)| (name, value.into())).collect())
            }
        }
    }
}

/// For libraries that want serde_json's own.
impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::String(text),
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Object(fields) => {
                Self::Object(fields.into_iter().map(|(name, value)| (name, value.into())).collect())
            }
        }
    }
}

macro_rules! numbers {
    ($($of:ty => $as:ident as $wide:ty;)*) => { $(
        impl From<$of> for Value {
            fn from(number: $of) -> Self {
                Self::Number(number.into())
            }
        }
        equal!($of, |value, other| value.$as() == <$wide>::try_from(*other).ok());
    )* };
}

macro_rules! equal {
    ($of:ty, |$value:ident, $other:ident| $equal:expr) => {
        impl PartialEq<$of> for Value {
            fn eq(&self, $other: &$of) -> bool {
                let $value = self;
                $equal
            }
        }
        impl PartialEq<$of> for &Value {
            fn eq(&self, other: &$of) -> bool {
                **self == *other
            }
        }
        impl PartialEq<$of> for &mut Value {
            fn eq(&self, other: &$of) -> bool {
                **self == *other
            }
        }
        impl PartialEq<Value> for $of {
            fn eq(&self, other: &Value) -> bool {
                *other == *self
            }
        }
    };
}

numbers! {
    i8 => as_i64 as i64;
    i16 => as_i64 as i64;
    i32 => as_i64 as i64;
    i64 => as_i64 as i64;
    isize => as_i64 as i64;
    u8 => as_u64 as u64;
    u16 => as_u64 as u64;
    u32 => as_u64 as u64;
    u64 => as_u64 as u64;
    usize => as_u64 as u64;
}
equal!(bool, |value, other| value.as_bool() == Some(*other));
equal!(f64, |value, other| value.as_f64() == Some(*other));
equal!(str, |value, other| value.as_str() == Some(other));
equal!(String, |value, other| value.as_str() == Some(other.as_str()));

impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq<Value> for &str {
    fn eq(&self, other: &Value) -> bool {
        *other == **self
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Number::from_f64(number).map_or(Self::Null, Self::Number)
    }
}

impl From<f32> for Value {
    fn from(number: f32) -> Self {
        f64::from(number).into()
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<std::borrow::Cow<'_, str>> for Value {
    fn from(text: std::borrow::Cow<'_, str>) -> Self {
        Self::String(text.into_owned())
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl From<Map<String, Value>> for Value {
    fn from(fields: Map<String, Value>) -> Self {
        Self::Object(fields)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Clone + Into<Value>> From<&[T]> for Value {
    fn from(items: &[T]) -> Self {
        items.iter().cloned().collect()
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        Self::Object(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn a_copy_shares_what_is_not_changed() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}});
        let mut bound = pod.clone();
        bound["metadata"]["name"] = json!("b");
        let shared = |one: &Value, other: &Value| match (one, other) {
            (Value::Object(one), Value::Object(other)) => one.shares(other),
            _ => false,
        };
        assert!(shared(&pod["spec"], &bound["spec"]) && !shared(&pod["metadata"], &bound["metadata"]));
        assert_eq!((&pod["metadata"]["name"], &bound["metadata"]["name"]), (&json!("a"), &json!("b")));
        let within = json!({"template": pod});
        assert!(shared(&within["template"], &pod), "what is put into another is not copied");
    }

    #[test]
    fn reading_and_writing_agree_with_serde_json() {
        let text = r#"{"b":[1,-2,3.5,true,null,"x\n"],"a":{"z":{},"y":[]},"a":{"k":18446744073709551615}}"#;
        let (ours, theirs): (Value, serde_json::Value) = (text.parse().unwrap(), text.parse().unwrap());
        assert_eq!(ours.to_string(), theirs.to_string());
        assert_eq!(Value::from(theirs.clone()), ours);
        assert_eq!(serde_json::Value::from(ours.clone()), theirs);
        assert_eq!(format!("{ours:#}"), format!("{theirs:#}"));
        assert!("{\"a\":".parse::<Value>().is_err());
    }

    #[test]
    fn many_fields_are_found_and_kept_in_order() {
        let mut map: Map<String, Value> = Map::new();
        for n in (0..200).map(|n| n * 37 % 200) {
            assert!(map.insert(format!("{n:03}"), n.into()).is_none());
        }
        let kept = map.clone();
        assert!(map.keys().is_sorted() && map.len() == 200 && map["117"] == 117);
        (0..195).for_each(|n| assert_eq!(map.remove(format!("{n:03}").as_str()), Some(n.into())));
        let few: Map<String, Value> = (195..200).map(|n| (n.to_string(), n.into())).collect();
        assert_eq!((&map, kept.len()), (&few, 200), "equal however many there were");
        assert_eq!(few.iter().next_back(), Some((&"199".to_owned(), &json!(199))));
    }

    #[test]
    fn parts_are_asked_for_by_name_place_and_path() {
        let mut value = json!({"a": [{"b/c": 1}], "n": null});
        assert_eq!(value.pointer("/a/0/b~1c"), Some(&json!(1)));
        assert!(value.pointer("/a/00").is_none() && value.pointer("a").is_none() && value["x"]["y"][3].is_null());
        value["new"]["deep"] = json!(true);
        assert_eq!(value["new"], json!({"deep": true}));
        *value.pointer_mut("/n").unwrap() = json!([1]);
        assert_eq!(value["n"].take(), json!([1]));
    }

    #[test]
    fn objects_take_what_their_fields_take() {
        assert_eq!(size_of::<Value>(), 32);
        let mut list = Value::Array(Vec::with_capacity(100));
        list.shrink();
        assert!(list.as_array().is_some_and(|items| items.capacity() == 0));
    }
}
