//! Objects as rows of a table, and objects without anything but metadata.

use bytes::Bytes;
use model::{KubeObject, Revision, Time};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::body::{Metadata, Shown};
use crate::call::Call;
use crate::strategy::Column;

/// An object's metadata alone.
pub fn partial(body: &Value, revision: Revision) -> Partial<'_> {
    Partial { body, revision }
}

/// An object's metadata alone.
pub struct Partial<'a> {
    body: &'a Value,
    revision: Revision,
}

impl Serialize for Partial<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("kind", "PartialObjectMetadata")?;
        map.serialize_entry("apiVersion", "meta.k8s.io/v1")?;
        map.serialize_entry("metadata", &Metadata { meta: &self.body["metadata"], revision: self.revision })?;
        map.end()
    }
}

/// What of each object stands beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    pub fn of(call: &Call<'_>) -> Self {
        match call.query.get("includeObject") {
            Some("None") => Self::Nothing,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// The definitions of a kind's columns.
pub fn columns(columns: &[Column]) -> Value {
    let all: Vec<Value> = columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name, "type": c.kind, "format": c.format,
                "description": c.description, "priority": c.priority
            })
        })
        .collect();
    Value::Array(all)
}

/// One row.
pub struct TableRow<'a> {
    pub object: &'a KubeObject,
    pub revision: Revision,
    pub columns: &'a [Column],
    pub include: Include,
    pub now: Time,
}

impl TableRow<'_> {
    /// Writes the row as JSON, with the object's metadata as it was written already.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        metadata: impl FnOnce() -> serde_json::Result<Bytes>,
    ) -> serde_json::Result<()> {
        if self.include != Include::Metadata {
            return serde_json::to_writer(out, self);
        }
        out.extend_from_slice(b"{\"cells\":");
        serde_json::to_writer(&mut *out, &Cells { columns: self.columns, object: &self.object.body, now: self.now })?;
        out.extend_from_slice(b",\"object\":");
        out.extend_from_slice(&metadata()?);
        out.push(b'}');
        Ok(())
    }
}

/// The cells of one object, one for each column.
struct Cells<'a> {
    columns: &'a [Column],
    object: &'a Value,
    now: Time,
}

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.columns.iter().map(|column| column.cell.of(self.object, self.now)))
    }
}

impl Serialize for TableRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cells", &Cells { columns: self.columns, object: &self.object.body, now: self.now })?;
        match self.include {
            Include::Nothing => {}
            Include::Metadata => map.serialize_entry("object", &partial(&self.object.body, self.revision))?,
            Include::Object => {
                map.serialize_entry("object", &Shown { body: &self.object.body, revision: self.revision })?;
            }
        }
        map.end()
    }
}

/// A table of one object; watches name the columns only once.
pub struct OneRow<'a> {
    row: TableRow<'a>,
    columns: bool,
}

/// A table of one object.
pub fn of_one<'a>(call: &'a Call<'_>, object: &'a KubeObject, revision: Revision, columns: bool) -> OneRow<'a> {
    let row = TableRow { object, revision, columns: &call.kind().columns, include: Include::of(call), now: call.now };
    OneRow { row, columns }
}

impl<'a> OneRow<'a> {
    pub fn new(row: TableRow<'a>, columns: bool) -> Self {
        Self { row, columns }
    }
}

struct Rows<'a, 'b>(&'b [TableRow<'a>]);

impl Serialize for Rows<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for row in self.0 {
            seq.serialize_element(row)?;
        }
        seq.end()
    }
}

impl Serialize for OneRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "Table")?;
        map.serialize_entry("apiVersion", "meta.k8s.io/v1")?;
        map.serialize_entry("metadata", &json!({"resourceVersion": self.row.revision.to_string()}))?;
        let names = if self.columns { columns(self.row.columns) } else { json!([]) };
        map.serialize_entry("columnDefinitions", &names)?;
        map.serialize_entry("rows", &Rows(std::slice::from_ref(&self.row)))?;
        map.end()
    }
}
