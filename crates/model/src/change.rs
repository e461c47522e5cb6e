//! A change: the rows to write in one commit, and what must still hold for it.

use serde::{Deserialize, Serialize};

use crate::{Entry, Key, Object, Resource, Revision};

/// One row to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Write {
    /// The row must not exist yet.
    Create(Object),
    /// The row must exist and be at the revision.
    Update { object: Object, expected: Revision },
    /// The row must exist and be at the revision.
    Delete { key: Key, expected: Revision },
}

impl Write {
    pub fn key(&self) -> Key {
        match self {
            Self::Create(object) | Self::Update { object, .. } => object.key(),
            Self::Delete { key, .. } => key.clone(),
        }
    }
}

/// A row that must still be at a revision, or absent (`None`), though the change does not write it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    pub key: Key,
    pub revision: Option<Revision>,
}

/// Rows written together or not at all. A change writes each key at most once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub writes: Vec<Write>,
    pub expects: Vec<Expect>,
}

impl Change {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds a new row.
    pub fn create(&mut self, object: impl Into<Object>) -> &mut Self {
        self.writes.push(Write::Create(object.into()));
        self
    }

    /// Replaces the row that was read as `entry`. The key must stay the same.
    pub fn update<T: Resource>(&mut self, entry: Entry<'_, T>, value: T) -> &mut Self
    where
        Object: From<T>,
    {
        self.writes.push(Write::Update { object: value.into(), expected: entry.row.modified });
        self
    }

    /// Changes a copy of the row that was read as `entry`.
    pub fn edit<T: Resource>(&mut self, entry: Entry<'_, T>, edit: impl FnOnce(&mut T)) -> &mut Self
    where
        Object: From<T>,
    {
        let mut value = entry.value.clone();
        edit(&mut value);
        self.update(entry, value)
    }

    /// Deletes the row that was read as `entry`.
    pub fn delete<T: Resource>(&mut self, entry: Entry<'_, T>) -> &mut Self {
        self.writes.push(Write::Delete { key: entry.row.key.clone(), expected: entry.row.modified });
        self
    }

    /// Demands that the row read as `entry` is unchanged at the commit.
    pub fn expect<T: Resource>(&mut self, entry: Entry<'_, T>) -> &mut Self {
        self.expects.push(Expect { key: entry.row.key.clone(), revision: Some(entry.row.modified) });
        self
    }
}

/// A change of one row that was created.
impl<T: Into<Object>> From<T> for Change {
    fn from(value: T) -> Self {
        let mut change = Self::new();
        change.create(value);
        change
    }
}
