//! What an administrator adds to Keystone's catalog: other clouds' regions, other programs' services. The cloud's own are
//! no rows: they follow from what is built, and a row could say something else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Realm, Resource};

/// A part of the catalog that a row refers to, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogRef {
    /// One of the cloud's own, which never goes.
    Own(String),
    Row(String),
}

impl CatalogRef {
    pub fn id(&self) -> &str {
        let (Self::Own(id) | Self::Row(id)) = self;
        id
    }

    fn needs(&self, kind: Kind) -> Option<Claim> {
        match self {
            Self::Own(_) => None,
            Self::Row(id) => Some(Claim::Needs(Key::new(kind, Realm::Cloud, id.as_str()))),
        }
    }
}

/// A Keystone region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogRegion {
    pub id: String,
    pub description: String,
    pub parent: Option<CatalogRef>,
    /// Attributes that Keystone does not know but keeps.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

impl Resource for CatalogRegion {
    kind!(CatalogRegion: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        self.parent.iter().filter_map(|parent| parent.needs(Kind::CatalogRegion)).collect()
    }
}

/// A Keystone service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogService {
    pub id: String,
    pub service_type: String,
    pub name: String,
    /// In the catalog of tokens.
    pub enabled: bool,
    /// Its description, and attributes that Keystone does not know but keeps.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

impl Resource for CatalogService {
    kind!(CatalogService: of the cloud);
}

/// A Keystone endpoint: where a service is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogEndpoint {
    pub id: String,
    pub service: CatalogRef,
    pub region: Option<CatalogRef>,
    /// `public`, `internal`, `admin`.
    pub interface: String,
    /// With `$(project_id)s` and `$(user_id)s` where a token's are meant.
    pub url: String,
    /// In the catalog of tokens.
    pub enabled: bool,
    /// Attributes that Keystone does not know but keeps.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

impl Resource for CatalogEndpoint {
    kind!(CatalogEndpoint: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        let region = self.region.as_ref().and_then(|region| region.needs(Kind::CatalogRegion));
        self.service.needs(Kind::CatalogService).into_iter().chain(region).collect()
    }
    /// Found by its service.
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.service.id().to_owned())]
    }
}
