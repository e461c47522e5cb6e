//! One value of the cloud's own that no API shows: the id of the demo project, the name of the first image.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Realm, Resource};

/// A named value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub name: String,
    pub value: serde_json::Value,
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
