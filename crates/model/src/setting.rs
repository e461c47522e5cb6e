//! One value of the cloud's own that no API shows: the id of the demo project, the name of the first image.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Realm, Resource, Snapshot};

/// The setting with the cloud's identity, a UUID: made once, at the first start, and never changed.
pub const CLOUD_ID: &str = "cloud-id";

/// A named value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub name: String,
    pub value: serde_json::Value,
}

impl Setting {
    /// The cloud's identity; `None` until its first start has gone so far.
    pub fn cloud_id(snapshot: &Snapshot) -> Option<&str> {
        snapshot.get::<Self>(CLOUD_ID)?.value.value.as_str()
    }
}

impl Resource for Setting {
    kind!(Setting);
    fn realm(&self) -> Realm {
        Realm::Cloud
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}
