//! A place on a network: a VM's, a pod's, a router's. The same row for all of them, so that addresses, security groups
//! and names are one thing for VMs and containers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::kind;
use crate::subnet::address_claim;
use crate::{Claim, Index, Key, Kind, Network, Realm, Resource, Time, quota};

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FixedIp {
    pub subnet_id: String,
    pub ip: IpAddr,
}

/// What the host last said about a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PortStatus {
    #[default]
    Down,
    Active,
}

/// A Neutron port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub id: String,
    pub project_id: String,
    pub network_id: String,
    /// The realm of the network, which may be another project's.
    pub network_project_id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// `fa:16:3e:…`, lower case.
    pub mac: String,
    pub fixed_ips: Vec<FixedIp>,
    /// The server's id, the pod's uid, the router's id; empty: nobody's yet.
    #[serde(default)]
    pub device_id: String,
    /// `compute:nova`, `kubernetes:pod`, `network:router_interface`, `network:router_gateway`, `network:floatingip`.
    #[serde(default)]
    pub device_owner: String,
    pub admin_state_up: bool,
    /// Ids of security groups, of the port's own project.
    #[serde(default)]
    pub security_groups: Vec<String>,
    pub port_security_enabled: bool,
    /// MAC (or none for the port's own) and CIDR.
    #[serde(default)]
    pub allowed_address_pairs: Vec<(Option<String>, String)>,
    #[serde(default)]
    pub extra_dhcp_opts: Vec<Value>,
    /// The name under which the zone of the network knows it: the server's or the pod's.
    #[serde(default)]
    pub dns_name: String,
    /// A pod's namespace and cluster id, for its name in the zone: `<dns_name>.<namespace>.pod.…`.
    #[serde(default)]
    pub pod: Option<(String, String)>,
    #[serde(default)]
    pub vnic_type: Option<String>,
    #[serde(default)]
    pub binding_profile: Option<Value>,
    /// Made by Nova or a planner together with its owner, and so deleted with it.
    #[serde(default)]
    pub owned: bool,
    /// The host where it is plugged; set with the owner's.
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub status: PortStatus,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Port {
    /// A port of the network's own project with a MAC made from its id: nobody's yet, without addresses and groups.
    pub fn new(id: impl Into<String>, network: &Network, now: Time) -> Self {
        let id = id.into();
        Self {
            project_id: network.project_id.clone(),
            network_id: network.id.clone(),
            network_project_id: network.project_id.clone(),
            name: String::new(),
            description: String::new(),
            mac: Self::mac_from(&id, 0),
            fixed_ips: Vec::new(),
            device_id: String::new(),
            device_owner: String::new(),
            admin_state_up: true,
            security_groups: Vec::new(),
            port_security_enabled: network.port_security_enabled,
            allowed_address_pairs: Vec::new(),
            extra_dhcp_opts: Vec::new(),
            dns_name: String::new(),
            pod: None,
            vnic_type: None,
            binding_profile: None,
            owned: false,
            host: None,
            status: PortStatus::Down,
            tags: Vec::new(),
            created_at: now,
            updated_at: now,
            id,
        }
    }

    /// The first 11 characters of the id: what device names are made from, as in Neutron.
    pub fn short(&self) -> &str {
        self.id.get(..11).unwrap_or(&self.id)
    }

    /// A MAC made from an id and a count of attempts; Neutron's prefix.
    pub fn mac_from(id: &str, attempt: u32) -> String {
        let bytes = crate::derived_id(&["mac", id, &attempt.to_string()]);
        let hex: Vec<u8> = bytes.bytes().filter(u8::is_ascii_hexdigit).take(6).collect();
        let at = |i: usize| char::from(hex[i]);
        format!("fa:16:3e:{}{}:{}{}:{}{}", at(0), at(1), at(2), at(3), at(4), at(5))
    }
}

impl Resource for Port {
    kind!(Port: of a project);
    fn claims(&self) -> Vec<Claim> {
        let network = Key::new(Kind::Network, Realm::project(&self.network_project_id), self.network_id.as_str());
        let mut claims = vec![Claim::Needs(network), Claim::Unique(format!("mac/{}/{}", self.network_id, self.mac))];
        for fixed in &self.fixed_ips {
            claims.push(Claim::Unique(address_claim(&self.network_id, fixed.ip)));
            let subnet = Key::new(Kind::Subnet, Realm::project(&self.network_project_id), fixed.subnet_id.as_str());
            claims.push(Claim::Needs(subnet));
        }
        for group in &self.security_groups {
            claims.push(Claim::Needs(Key::new(Kind::SecurityGroup, self.realm(), group.as_str())));
        }
        claims.extend(quota::uses(&self.project_id, "port", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let mut index = vec![(Index::Network, self.network_id.clone())];
        if !self.device_id.is_empty() {
            index.push((Index::Owner, self.device_id.clone()));
        }
        index.extend(self.host.iter().map(|host| (Index::Host, host.clone())));
        index
    }
}
