//! A router: what joins networks to one domain and gives them a way out. Its interfaces are ports whose owner it is.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Limited, Realm, Resource, Time, quota};

/// A router's way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    /// The external network.
    pub network_id: String,
    /// The port on it, which holds the router's own address there.
    pub port_id: String,
    pub enable_snat: bool,
    /// The QoS policy of that address, which may be another project's.
    #[serde(default)]
    pub qos_policy: Option<Key>,
}

/// A Neutron router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Router {
    pub id: String,
    pub project_id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub admin_state_up: bool,
    pub gateway: Option<Gateway>,
    /// Destination (CIDR) and next hop.
    #[serde(default)]
    pub routes: Vec<(String, IpAddr)>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Router {
    /// A router that joins nothing yet.
    pub fn new(id: impl Into<String>, project_id: impl Into<String>, now: Time) -> Self {
        Self {
            id: id.into(),
            project_id: project_id.into(),
            name: String::new(),
            description: String::new(),
            admin_state_up: true,
            gateway: None,
            routes: Vec::new(),
            tags: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }
}

impl Resource for Router {
    kind!(Router: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("router", 10)];
    const HOLDS: bool = true;
    fn claims(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = quota::uses(&self.project_id, "router", 1).into_iter().collect();
        if let Some(gateway) = &self.gateway {
            // A gateway's port belongs to nobody's project.
            claims.push(Claim::Needs(Key::new(Kind::Port, Realm::Cloud, gateway.port_id.as_str())));
            claims.extend(gateway.qos_policy.clone().map(Claim::Needs));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        self.gateway.iter().map(|g| (Index::Network, g.network_id.clone())).collect()
    }
}
