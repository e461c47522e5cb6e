//! Keystone credentials: secrets that are kept for a user and can be read again, unlike passwords, because whoever checks a
//! signature or a one-time code needs them. They are in the store as they are, like tokens' keys and Kubernetes' secrets:
//! a key that lay beside them in the same store would keep them from nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Realm, Resource};

/// A Keystone credential: a secret of a user, for EC2's signatures or for anything.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// Of EC2 credentials SHA-256 of the first access key, in hexadecimal.
    pub id: String,
    pub user_id: String,
    pub project_id: Option<String>,
    /// Keystone's `type`: `ec2`, `totp`, `cert` or any other word.
    pub kind: String,
    /// The secret, in whatever form its type has; of EC2 credentials JSON with `access` and `secret`.
    pub blob: String,
    /// The application credential by which it was made, beyond which it gives nothing.
    #[serde(default)]
    pub app_credential_id: Option<String>,
    /// Which of its user's places it takes, below [`Credential::MOST`].
    pub place: u32,
    /// Attributes that Keystone does not know but keeps.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Credential {
    /// The type of EC2 credentials.
    pub const EC2: &'static str = "ec2";
    /// The most bytes of an access key.
    pub const LONGEST_ACCESS: usize = 255;
    /// How many a user may have.
    pub const MOST: u32 = 200;

    /// Access key and secret of an EC2 credential.
    pub fn keys(&self) -> Option<(String, String)> {
        let blob: Value = serde_json::from_str(&self.blob).ok().filter(|_| self.kind == Self::EC2)?;
        Some((blob["access"].as_str()?.to_owned(), blob["secret"].as_str()?.to_owned()))
    }
}

impl Resource for Credential {
    kind!(Credential: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![
            Claim::Unique(format!("credential/{}/{}", self.user_id, self.place)),
            Claim::Needs(Key::new(Kind::User, Realm::Cloud, self.user_id.as_str())),
        ];
        let needs = |kind, id: &String| Claim::Needs(Key::new(kind, Realm::Cloud, id.as_str()));
        claims.extend(self.project_id.as_ref().map(|id| needs(Kind::Project, id)));
        claims.extend(self.keys().map(|(access, _)| Claim::Unique(format!("ec2-access/{access}"))));
        claims.extend(self.app_credential_id.as_ref().map(|id| needs(Kind::AppCredential, id)));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let access = self.keys().map(|(access, _)| (Index::Name, access));
        access.into_iter().chain([(Index::Owner, self.user_id.clone())]).collect()
    }
}

/// The first of `most` places that none of `taken` is; `None` if all are taken. A row that claims its place by name is
/// one of so many at most, however many are made at once.
pub fn free_place(taken: impl Iterator<Item = u32>, most: u32) -> Option<u32> {
    let taken: BTreeSet<u32> = taken.collect();
    (0..most).find(|place| !taken.contains(place))
}
