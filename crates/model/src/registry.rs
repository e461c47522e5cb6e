//! The records of the cloud's OCI registry. Layers and manifests are blobs in the same store as VM images.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Key, Kind, Realm, Resource, Time};

/// A manifest (or index) of a repository, which makes its blobs reachable there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OciManifest {
    /// The project that owns the repository; empty: the cloud's own, readable by all.
    pub project_id: String,
    pub repository: String,
    /// `sha256:…`
    pub digest: String,
    pub media_type: String,
    pub size: u64,
    /// Digests of config, layers and child manifests.
    pub refers: Vec<String>,
    pub created_at: Time,
}

impl Resource for OciManifest {
    kind!(OciManifest);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
    fn shared(&self) -> bool {
        self.project_id.is_empty()
    }
}

/// A tag of a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OciTag {
    /// The project that owns the repository; empty: the cloud's own, readable by all.
    pub project_id: String,
    pub repository: String,
    pub tag: String,
    /// The manifest's digest.
    pub digest: String,
    pub updated_at: Time,
}

impl Resource for OciTag {
    kind!(OciTag);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Needs(Key::new(Kind::OciManifest, self.realm(), format!("{}@{}", self.repository, self.digest)))]
    }
    fn shared(&self) -> bool {
        self.project_id.is_empty()
    }
}
