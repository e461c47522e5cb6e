//! A layer-2 network.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Limited, Resource, Time, quota};

/// The largest MTU that a network can have: an Ethernet frame's 1500 bytes, or what a VXLAN leaves of them. External networks
/// are bridges without encapsulation.
pub fn most_mtu(external: bool) -> u32 {
    if external { 1500 } else { 1450 }
}

/// A Neutron network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub id: String,
    pub project_id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub admin_state_up: bool,
    /// Rows from before policies said so: every project may use it. [`RbacPolicy::upgrade`](crate::RbacPolicy::upgrade)
    /// makes a policy of it.
    #[serde(default, rename = "shared", skip_serializing)]
    pub was_shared: bool,
    /// The way out: routers have gateways and floating IPs on it. It is one bridge in the host's own namespace.
    pub external: bool,
    /// The way out that projects get who ask for none in particular; there is one.
    #[serde(default)]
    pub is_default: bool,
    /// It was made for a project that asked for any network; each has one.
    #[serde(default)]
    pub auto_allocated: bool,
    pub port_security_enabled: bool,
    pub mtu: u32,
    /// The VXLAN network identifier, unique in the cloud.
    pub vni: u32,
    #[serde(default)]
    pub dns_domain: String,
    /// The QoS policy, which may be another project's.
    #[serde(default)]
    pub qos_policy: Option<Key>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Network {
    /// A project's own network: no name yet, and no subnets.
    pub fn new(id: impl Into<String>, project_id: impl Into<String>, vni: u32, now: Time) -> Self {
        Self {
            id: id.into(),
            project_id: project_id.into(),
            name: String::new(),
            description: String::new(),
            admin_state_up: true,
            was_shared: false,
            external: false,
            is_default: false,
            auto_allocated: false,
            port_security_enabled: true,
            mtu: most_mtu(false),
            vni,
            dns_domain: String::new(),
            qos_policy: None,
            tags: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Makes it a way out, or a network inside, whose packets are as long as a VXLAN takes them.
    pub fn set_external(&mut self, external: bool) {
        self.external = external;
        self.is_default &= external;
        self.mtu = self.mtu.min(most_mtu(external));
    }
}

impl Resource for Network {
    kind!(Network: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("network", 100)];
    const HOLDS: bool = true;
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::Unique(format!("vni/{}", self.vni))];
        claims.extend(self.is_default.then(|| Claim::Unique("default-external-network".into())));
        let allocated = || Claim::Unique(format!("auto-allocated-network/{}", self.project_id));
        claims.extend(self.auto_allocated.then(allocated));
        claims.extend(self.qos_policy.clone().map(Claim::Needs));
        claims.extend(quota::uses(&self.project_id, "network", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}
