//! Who may talk to a port. The same groups hold for VMs and pods.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Realm, Resource, Time, quota};

/// A Neutron security group: rules that allow; what no rule allows is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub id: String,
    pub project_id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub stateful: bool,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Resource for SecurityGroup {
    kind!(SecurityGroup);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        self.id.clone()
    }
    fn claims(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = quota::uses(&self.project_id, "security_group", 1).into_iter().collect();
        if self.name == "default" {
            claims.push(Claim::Unique(format!("default-security-group/{}", self.project_id)));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}

/// Which way packets go, seen from the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Ingress,
    Egress,
}

/// A rule of a security group: what it allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    pub id: String,
    pub project_id: String,
    pub group_id: String,
    pub direction: Direction,
    /// `false`: IPv4.
    pub ipv6: bool,
    /// As the user wrote it: `tcp`, `icmp`, `6`; `None` is any.
    pub protocol: Option<String>,
    /// Ports, or ICMP type and code.
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    /// Packets to or from these addresses: CIDR.
    pub remote_ip_prefix: Option<String>,
    /// Packets to or from ports of this group.
    pub remote_group_id: Option<String>,
    #[serde(default)]
    pub description: String,
    pub created_at: Time,
    pub updated_at: Time,
}

impl SecurityGroupRule {
    /// Says the same as every other rule with an equal value, whatever its id.
    fn meaning(&self) -> String {
        format!(
            "{}/{:?}/{}/{:?}/{:?}/{:?}/{:?}/{:?}",
            self.group_id,
            self.direction,
            self.ipv6,
            self.protocol,
            self.port_min,
            self.port_max,
            self.remote_ip_prefix,
            self.remote_group_id
        )
    }
}

impl Resource for SecurityGroupRule {
    kind!(SecurityGroupRule);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        self.id.clone()
    }
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![
            Claim::Needs(Key::new(Kind::SecurityGroup, self.realm(), self.group_id.as_str())),
            Claim::Unique(format!("rule/{}", self.meaning())),
        ];
        claims.extend(quota::uses(&self.project_id, "security_group_rule", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.group_id.clone())]
    }
}
