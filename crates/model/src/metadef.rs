//! Glance's metadata definitions: which keys there are to be set on images, flavors, volumes, and with what values. They
//! are words for people and their tools; nothing in the cloud reads them. A namespace is one row with all that is in it: it is
//! written, shown and deleted as a whole, and is small. A row for each object and tag was refused: what holds between them
//! (a name once, so many at most) would need claims, and all that is ever asked for is the whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::resource::kind;
use crate::{Claim, Key, Kind, Realm, Resource, Time};

/// A JSON schema of a property's values, without the property's name.
pub type PropertyDefinition = Map<String, Value>;

/// A group of properties that are set together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadefObject {
    #[serde(default)]
    pub description: Option<String>,
    /// Names of the properties without which the object is not complete.
    #[serde(default)]
    pub required: Vec<String>,
    #[serde(default)]
    pub properties: BTreeMap<String, PropertyDefinition>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A word that may be set as a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadefTag {
    pub created_at: Time,
    pub updated_at: Time,
}

/// For what sort of thing a namespace is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadefAssociation {
    /// Stands before the names of properties when they are set on such a thing.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Which of several sorts of properties of such a thing is meant.
    #[serde(default)]
    pub properties_target: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A Glance metadata definition namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadefNamespace {
    /// The owner.
    pub project_id: String,
    /// Once in the cloud, and the row's name: with another name or owner it is another row.
    pub name: String,
    #[serde(default)]
    pub display_name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    /// Every project sees it.
    pub public: bool,
    /// Neither it nor anything in it can be deleted.
    pub protected: bool,
    /// By the name of the resource type.
    #[serde(default)]
    pub resource_types: BTreeMap<String, MetadefAssociation>,
    #[serde(default)]
    pub objects: BTreeMap<String, MetadefObject>,
    #[serde(default)]
    pub properties: BTreeMap<String, PropertyDefinition>,
    #[serde(default)]
    pub tags: BTreeMap<String, MetadefTag>,
    /// Which of the cloud's places it takes, below [`MetadefNamespace::MOST`].
    pub place: u32,
    pub created_at: Time,
    pub updated_at: Time,
}

impl MetadefNamespace {
    /// How many a cloud has at most.
    pub const MOST: u32 = 256;
    /// How many objects, properties, tags or resource types there are in one at most.
    pub const MOST_WITHIN: usize = 512;
    /// The most bytes of one, as JSON.
    pub const LARGEST: usize = 256 << 10;
}

impl Resource for MetadefNamespace {
    kind!(MetadefNamespace);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        self.name.clone()
    }
    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::Unique(format!("metadef-namespace/{}", self.name)),
            Claim::Unique(format!("metadef-place/{}", self.place)),
            Claim::Needs(Key::new(Kind::Project, Realm::Cloud, self.project_id.as_str())),
        ]
    }
    fn shared(&self) -> bool {
        self.public
    }
}
