//! A logical Kubernetes cluster: a complete API of its own, which belongs to one project.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Realm, Resource, Time};

/// A logical Kubernetes cluster of one project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: String,
    pub project_id: String,
    pub name: String,
    /// The network on which its pods have their ports.
    pub network_id: String,
    /// The realm of the network, which may be another project's.
    pub network_project_id: String,
    /// The range of its service addresses; base and prefix length.
    pub service_base: IpAddr,
    pub service_prefix: u8,
    /// The last part of its names: `cluster.local`.
    pub domain: String,
    pub created_at: Time,
}

impl Resource for Cluster {
    kind!(Cluster);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        self.id.clone()
    }
    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::Unique(format!("cluster-name/{}/{}", self.project_id, self.name)),
            Claim::Needs(Key::new(Kind::Network, Realm::project(&self.network_project_id), self.network_id.as_str())),
        ]
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Network, self.network_id.clone()), (Index::Name, self.name.clone())]
    }
}
