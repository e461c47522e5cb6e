//! An address of an external network that leads to a port inside.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Limited, Realm, Resource, Time, quota};

/// A Neutron floating IP. Its address is held by a port of the cloud on the external network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloatingIp {
    pub id: String,
    pub project_id: String,
    #[serde(default)]
    pub description: String,
    /// The external network.
    pub network_id: String,
    pub address: IpAddr,
    /// The port that holds the address on the external network; owner `network:floatingip`.
    pub address_port_id: String,
    /// The port inside to which it leads.
    pub port_id: Option<String>,
    pub fixed_ip: Option<IpAddr>,
    pub router_id: Option<String>,
    /// The QoS policy, which may be another project's.
    #[serde(default)]
    pub qos_policy: Option<Key>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Resource for FloatingIp {
    kind!(FloatingIp: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("floatingip", 50)];
    const HOLDS: bool = true;
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::Needs(Key::new(Kind::Port, Realm::Cloud, self.address_port_id.as_str()))];
        if let (Some(port), Some(ip)) = (&self.port_id, self.fixed_ip) {
            claims.push(Claim::Unique(format!("floating/{port}/{ip}")));
        }
        if let Some(router) = &self.router_id {
            claims.push(Claim::Needs(Key::new(Kind::Router, self.realm(), router.as_str())));
        }
        claims.extend(self.qos_policy.clone().map(Claim::Needs));
        claims.extend(quota::uses(&self.project_id, "floatingip", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let mut index = vec![(Index::Network, self.network_id.clone())];
        index.extend(self.port_id.iter().chain(&self.router_id).map(|id| (Index::Owner, id.clone())));
        index
    }
}
