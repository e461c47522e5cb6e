//! JSON as it is kept: serde_json's readers and writers with a tree of our own between them. The crate goes by the name
//! `serde_json` in this workspace and has that crate's interface, as far as it is used.
//!
//! serde_json's tree was refused for rows: each object, however small, is a node of 640 bytes, and a copy copies everything. A
//! pod with its port took 36 KiB, ten times its text, and to give it a host meant to copy it all. Here an object takes what
//! its fields take, and copies share what is not changed: the pods of a Deployment have one template among them, a row and the
//! one before it differ by what the commit wrote. Texts that are parsed when they are looked at were refused as well: they
//! would be parsed again for each look. (docs/decisions/0052)

mod de;
mod macros;
mod map;
mod value;

pub use map::Map;
pub use serde_json::{
    Deserializer, Error, Number, Result, Serializer, error, from_reader, from_slice, from_str, ser, to_string,
    to_string_pretty, to_vec, to_vec_pretty, to_writer, to_writer_pretty,
};
pub use value::{Index, Value};

/// serde_json's own tree, for libraries that want it.
pub use serde_json::Value as Foreign;

#[doc(hidden)]
pub mod from {
    pub use crate::macros::{Given, Plain, Shared};
}

/// What a value is as JSON.
pub fn to_value<T: serde::Serialize>(value: T) -> Result<Value> {
    serde_json::to_value(value).map(Value::from)
}

/// Reads a value from JSON.
pub fn from_value<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    T::deserialize(value)
}
