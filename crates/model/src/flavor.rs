//! A size of server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Resource};

/// A Nova flavor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flavor {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    pub vcpus: u64,
    /// MiB.
    pub ram: u64,
    /// Root disk, GiB; 0: as large as the image.
    pub disk: u64,
    /// GiB.
    #[serde(default)]
    pub ephemeral: u64,
    /// MiB.
    #[serde(default)]
    pub swap: u64,
    /// Nova's factor of bandwidth; nothing heeds it.
    #[serde(default = "one")]
    pub rxtx_factor: f64,
    pub is_public: bool,
    /// Projects that may use it although it is not public.
    #[serde(default)]
    pub access: Vec<String>,
    #[serde(default)]
    pub extra_specs: BTreeMap<String, String>,
}

fn one() -> f64 {
    1.0
}

impl Flavor {
    /// A flavor for everybody, with cores, MiB of memory and GiB of disk.
    pub fn new(id: impl Into<String>, name: impl Into<String>, vcpus: u64, ram: u64, disk: u64) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            description: None,
            vcpus,
            ram,
            disk,
            ephemeral: 0,
            swap: 0,
            rxtx_factor: one(),
            is_public: true,
            access: Vec::new(),
            extra_specs: BTreeMap::new(),
        }
    }
}

impl Resource for Flavor {
    kind!(Flavor: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Unique(format!("flavor-name/{}", self.name))]
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
    fn shared(&self) -> bool {
        self.is_public
    }
}
