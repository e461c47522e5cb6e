//! A user's public key.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Index, Realm, Resource, Time};

/// A Nova key pair. Belongs to a user, not to a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keypair {
    pub user_id: String,
    pub name: String,
    /// `ssh` or `x509`.
    pub kind: String,
    pub public_key: String,
    pub fingerprint: String,
    pub created_at: Time,
}

impl Resource for Keypair {
    kind!(Keypair);
    fn realm(&self) -> Realm {
        Realm::Cloud
    }
    fn name(&self) -> String {
        format!("{}/{}", self.user_id, self.name)
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.user_id.clone())]
    }
}
