//! The records of the cloud's OCI registry. Layers and manifests are blobs in the same store as VM images; that bytes are
//! there opens them to nobody: a project has the blobs that somebody uploaded to it, or mounted from where they could
//! read them.
//!
//! Repositories are named by the id of their project and the rest of what clients call them, so that they survive a
//! project's renaming; the cloud's own by what they are called.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Key, Kind, Limited, Realm, Resource, Time, quota};

/// Bytes that a project's repositories have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OciBlob {
    /// Empty: the cloud's own, readable by all.
    pub project_id: String,
    /// What its project calls the bytes: `sha256:…` or `sha512:…`
    pub digest: String,
    /// The SHA-256 of the bytes in hex, which names their file; nothing, where the digest says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The repository through which it came, which is known as long as this is here; it opens in all of the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    pub size: u64,
    pub created_at: Time,
}

impl OciBlob {
    /// The name of the file that holds the bytes; empty, if the row names none.
    pub fn file(&self) -> &str {
        self.sha256.as_deref().or_else(|| self.digest.strip_prefix("sha256:")).unwrap_or_default()
    }

    pub fn key_of(project_id: &str, digest: &str) -> Key {
        Key::new(Kind::OciBlob, Realm::project(project_id), digest)
    }
}

impl Resource for OciBlob {
    kind!(OciBlob);
    // MiB, as Glance's image_size_total, and blobs.
    const QUOTAS: &[Limited] =
        &[Limited::new("registry_size_total", 51200).scaled(1 << 20), Limited::new("registry_blobs", 20_000)];
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        self.digest.clone()
    }
    fn claims(&self) -> Vec<Claim> {
        let size = quota::uses(&self.project_id, "registry_size_total", self.size);
        size.into_iter().chain(quota::uses(&self.project_id, "registry_blobs", 1)).collect()
    }
    fn shared(&self) -> bool {
        self.project_id.is_empty()
    }
}

/// A manifest (or index) of a repository, which makes its blobs reachable there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OciManifest {
    /// The project that owns the repository; empty: the cloud's own, readable by all.
    pub project_id: String,
    pub repository: String,
    /// `sha256:…` or `sha512:…`
    pub digest: String,
    pub media_type: String,
    pub size: u64,
    /// Digests of config, layers and child manifests.
    pub refers: Vec<String>,
    /// Those that are blobs, and the manifest's own bytes: rows of the project that stay as long as this one. Without any
    /// in rows of old, until the cloud's next start.
    #[serde(default)]
    pub blobs: Vec<String>,
    /// The digest of what the manifest is about: a signature's image.
    #[serde(default)]
    pub subject: Option<String>,
    /// What lists of referrers show and filter by.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// As such lists show them; kept for manifests that are about another.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    pub created_at: Time,
}

impl OciManifest {
    /// Bytes of annotations that count as much as the digest of a part.
    const ANNOTATION: usize = 128;

    /// How much the row names: itself, each part, and its annotations by their length.
    fn references(&self) -> u64 {
        let annotations = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        (1 + self.refers.len() + annotations.div_ceil(Self::ANNOTATION)) as u64
    }
}

impl Resource for OciManifest {
    kind!(OciManifest);
    // What they name, since all rows are in the memory of every process.
    const QUOTAS: &[Limited] = &[Limited::new("registry_references", 200_000)];
    const HOLDS: bool = true;
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
    fn claims(&self) -> Vec<Claim> {
        let needs = self.blobs.iter().map(|digest| Claim::Needs(OciBlob::key_of(&self.project_id, digest)));
        needs.chain(quota::uses(&self.project_id, "registry_references", self.references())).collect()
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
