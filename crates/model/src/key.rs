//! Names of rows. A key begins with its realm, so that rows of two tenants can never be mixed up by a shared id: a
//! look-up in the wrong realm finds nothing, without any check that somebody could forget.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Kind;

/// Whose a row is: the cloud's, one project's, or one Kubernetes cluster's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Realm {
    /// Rows of the whole cloud: users, hosts, flavors, images that everybody may see.
    Cloud,
    /// Rows of one OpenStack project, by its id.
    Project(Arc<str>),
    /// Rows of one logical Kubernetes cluster, by its id.
    Cluster(Arc<str>),
}

impl Realm {
    /// The realm of a project; the empty id, which Neutron uses for ports of its own, is the cloud.
    pub fn project(id: &str) -> Self {
        if id.is_empty() { Self::Cloud } else { Self::Project(id.into()) }
    }

    /// That of a Kubernetes cluster's objects.
    pub fn cluster(id: &str) -> Self {
        Self::Cluster(id.into())
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cloud => f.write_str("cloud"),
            Self::Project(id) => write!(f, "project:{id}"),
            Self::Cluster(id) => write!(f, "cluster:{id}"),
        }
    }
}

/// The name of a row: kind, realm and a name that is unique within both.
///
/// Ordered by kind first, so that all rows of a kind, and those of one kind and realm, are neighbours.
/// As text it is `realm/kind/name`; only the name may contain further slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub realm: Realm,
    pub name: Arc<str>,
}

impl Key {
    pub fn new(kind: Kind, realm: Realm, name: impl Into<Arc<str>>) -> Self {
        Self { kind, realm, name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.realm, self.kind.as_str(), self.name)
    }
}

/// The text is not the key of any row that this release could have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadKey {
    #[error("'{0}' is not a row's key (realm/kind/name)")]
    Text(String),
    /// A newer release has such rows.
    #[error("'{0}' is a row of a kind that this release does not know")]
    UnknownKind(String),
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let short = || text.chars().take(200).collect();
        let bad = || BadKey::Text(short());
        let mut parts = text.splitn(3, '/');
        let (realm, kind, name) = match (parts.next(), parts.next(), parts.next()) {
            (Some(r), Some(k), Some(n)) if !n.is_empty() => (r, k, n),
            _ => return Err(bad()),
        };
        let realm = match realm.split_once(':') {
            None if realm == "cloud" => Realm::Cloud,
            Some(("project", id)) if !id.is_empty() => Realm::Project(id.into()),
            Some(("cluster", id)) if !id.is_empty() => Realm::Cluster(id.into()),
            _ => return Err(bad()),
        };
        let kind = Kind::parse(kind).ok_or_else(|| BadKey::UnknownKind(short()))?;
        Ok(Self::new(kind, realm, name))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for key in [
            Key::new(Kind::Host, Realm::Cloud, "node1"),
            Key::new(Kind::Server, Realm::Project("p".into()), "s"),
            Key::new(Kind::KubeObject, Realm::Cluster("c".into()), "apps/deployments/default/web"),
        ] {
            assert_eq!(key.to_string().parse::<Key>().as_ref(), Ok(&key));
        }
    }

    #[test]
    fn strangers_are_refused() {
        for text in ["", "cloud", "cloud/host", "cloud/host/", "moon/host/a", "project:/server/a", "moon/nonsense/a"] {
            assert_eq!(text.parse::<Key>(), Err(BadKey::Text(text.into())));
        }
        let newer = "cloud/nonsense/a";
        assert_eq!(newer.parse::<Key>(), Err(BadKey::UnknownKind(newer.into())));
    }
}
