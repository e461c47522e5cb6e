//! A Glance image: the record. The bytes live in the blob store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Limited, Realm, Resource, Time};

/// Who sees an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    Public,
    Private,
    Shared,
    Community,
}

/// Glance's image states that Braid has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageStatus {
    Queued,
    Saving,
    /// Its bytes are here, and wait for the import that makes them the image's.
    Uploading,
    /// Its bytes are being fetched.
    Importing,
    Active,
    Deactivated,
}

/// What a project with which an image is shared makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberStatus {
    Pending,
    Accepted,
    Rejected,
}

/// A project with which an image is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageMember {
    pub status: MemberStatus,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The server of whose disk an image shall become a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    pub server_id: String,
    /// The server's project; an administrator's image has another.
    pub project_id: String,
    /// The request in the server's action log.
    pub request_id: String,
    /// For backups: how many of the same type are kept.
    pub rotation: Option<u32>,
}

/// Bytes that were staged for an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// SHA-256 in hex: the name of the blob.
    pub blob: String,
    pub size: u64,
    /// The size that a guest sees, where the bytes tell it.
    pub virtual_size: Option<u64>,
    /// MD5 in hex.
    pub checksum: String,
    /// SHA-512 in hex.
    pub os_hash_value: String,
}

/// Bytes that shall be fetched from elsewhere. While an image has it, somebody fetches them: whoever leads does, and after a
/// restart from the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebDownload {
    pub uri: String,
    /// The task that tells how it goes.
    pub task_id: String,
}

/// A Glance image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub id: String,
    /// The owner.
    pub project_id: String,
    pub name: Option<String>,
    pub visibility: Visibility,
    pub status: ImageStatus,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    /// GiB.
    pub min_disk: u64,
    /// MiB.
    pub min_ram: u64,
    pub protected: bool,
    pub os_hidden: bool,
    pub tags: Vec<String>,
    /// Everything else that was set, `kernel_id` and `ramdisk_id` among them.
    pub properties: BTreeMap<String, String>,
    /// Projects with which a shared image is shared, by id.
    pub members: BTreeMap<String, ImageMember>,
    /// SHA-256 of the bytes, in hex: the name of the blob.
    pub blob: Option<String>,
    pub size: Option<u64>,
    /// The size that a guest sees, where the bytes tell it.
    pub virtual_size: Option<u64>,
    /// MD5 in hex, which Glance still gives.
    pub checksum: Option<String>,
    /// SHA-512 in hex.
    pub os_hash_value: Option<String>,
    /// Its bytes are still to be copied from a server, by the server's host, which takes this away when they are.
    #[serde(default)]
    pub source: Option<ImageSource>,
    #[serde(default)]
    pub staged: Option<Staged>,
    #[serde(default)]
    pub download: Option<WebDownload>,
    /// The last import failed; its task says why.
    #[serde(default)]
    pub import_failed: bool,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Image {
    /// An image of which nothing is known yet; as Glance makes it, queued and to be shared with named projects.
    pub fn new(id: impl Into<String>, project_id: impl Into<String>, now: Time) -> Self {
        Self {
            id: id.into(),
            project_id: project_id.into(),
            name: None,
            visibility: Visibility::Shared,
            status: ImageStatus::Queued,
            disk_format: None,
            container_format: None,
            min_disk: 0,
            min_ram: 0,
            protected: false,
            os_hidden: false,
            tags: Vec::new(),
            properties: BTreeMap::new(),
            members: BTreeMap::new(),
            blob: None,
            size: None,
            virtual_size: None,
            checksum: None,
            os_hash_value: None,
            source: None,
            staged: None,
            download: None,
            import_failed: false,
            created_at: now,
            updated_at: now,
        }
    }
}

impl Resource for Image {
    kind!(Image: of a project);
    const QUOTAS: &[Limited] = &[
        // MiB, by the name that Glance has for it.
        Limited::new("image_size_total", 102_400).scaled(1 << 20),
        Limited::new("image_count_total", 1000),
        // Those that are staged or imported at the moment.
        Limited::new("image_count_uploading", 10),
    ];
    const HOLDS: bool = true;
    fn claims(&self) -> Vec<Claim> {
        // Clients may choose the id, and the keys of two projects' rows differ.
        let mut claims = vec![Claim::Unique(format!("image/{}", self.id))];
        claims.extend(crate::quota::uses(&self.project_id, "image_count_total", 1));
        let size = self.size.or(self.staged.as_ref().map(|staged| staged.size));
        claims.extend(size.and_then(|size| crate::quota::uses(&self.project_id, "image_size_total", size)));
        if matches!(self.status, ImageStatus::Uploading | ImageStatus::Importing) {
            claims.extend(crate::quota::uses(&self.project_id, "image_count_uploading", 1));
        }
        if let Some(source) = &self.source {
            let realm = Realm::project(&source.project_id);
            claims.push(Claim::Needs(Key::new(Kind::Server, realm, source.server_id.as_str())));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        // A server's images in the making are found by the server.
        self.source.iter().map(|source| (Index::Owner, source.server_id.clone())).collect()
    }
    fn shared(&self) -> bool {
        matches!(self.visibility, Visibility::Public | Visibility::Community)
    }
}
