//! Ports of a floating IP that lead to ports of addresses inside, each to another if need be.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Limited, Resource, Time, quota};

/// The most ports that are led one by one to ports of other numbers: a host has a rule's element for each.
pub const MAX_MOVED_PORTS: u16 = 1000;

/// A port forwarding of a Neutron floating IP. Its floating IP leads to no port as a whole, and names the router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortForwarding {
    pub id: String,
    /// The floating IP's.
    pub project_id: String,
    pub floatingip_id: String,
    #[serde(default)]
    pub description: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// First and last port of the floating IP.
    pub external: (u16, u16),
    /// First and last port inside: as many as outside, or one.
    pub internal: (u16, u16),
    pub port_id: String,
    /// The port's address to which it leads.
    pub address: IpAddr,
    pub created_at: Time,
    pub updated_at: Time,
}

impl PortForwarding {
    /// The IP protocol's number.
    pub fn protocol_number(&self) -> u8 {
        if self.protocol == "udp" { 17 } else { 6 }
    }
}

impl Resource for PortForwarding {
    kind!(PortForwarding: of a project);
    // Neutron limits none of them.
    const QUOTAS: &[Limited] = &[Limited::new("port_forwarding", 100)];
    fn claims(&self) -> Vec<Claim> {
        let Self { floatingip_id, protocol, external, internal, port_id, address, .. } = self;
        let mut claims = vec![
            Claim::Needs(Key::new(Kind::FloatingIp, self.realm(), floatingip_id.as_str())),
            // Ranges that overlap in another way: who makes one writes the floating IP, too.
            Claim::Unique(format!("forwarded/{floatingip_id}/{protocol}/{}", external.0)),
            Claim::Unique(format!("forwarded-to/{port_id}/{address}/{protocol}/{}", internal.0)),
        ];
        claims.extend(quota::uses(&self.project_id, "port_forwarding", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.floatingip_id.clone()), (Index::Owner, self.port_id.clone())]
    }
}
