//! A place on a network: a VM's, a pod's, a router's. The same row for all of them, so that addresses, security groups
//! and names are one thing for VMs and containers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::kind;
use crate::{
    Claim, Entry, Holder, Index, Key, Kind, Limited, Network, Realm, Resource, Router, Server, Snapshot, Time, quota,
};

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
    /// The host cannot plug it in, and says why in its log.
    Error,
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
    /// Whose it is. Only the cloud writes it: faces when something is attached, planners when they make the port.
    #[serde(default)]
    pub holder: Option<Holder>,
    /// What a user says of a port that nobody holds. It is shown, and nothing else reads it.
    #[serde(default, rename = "device_id", skip_serializing_if = "String::is_empty")]
    pub free_device_id: String,
    #[serde(default, rename = "device_owner", skip_serializing_if = "String::is_empty")]
    pub free_device_owner: String,
    /// 0: the row was made before there were holders, see [`Port::upgrade`].
    #[serde(default)]
    pub format: u8,
    pub admin_state_up: bool,
    /// Ids of security groups.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Whose those of them are that are not of the port's own project but shared with it: project by id.
    #[serde(default)]
    pub shared_groups: BTreeMap<String, String>,
    pub port_security_enabled: bool,
    /// MAC (or none for the port's own) and CIDR.
    #[serde(default)]
    pub allowed_address_pairs: Vec<(Option<String>, String)>,
    #[serde(default)]
    pub extra_dhcp_opts: Vec<Value>,
    /// The port's own QoS policy, which may be another project's.
    #[serde(default)]
    pub qos_policy: Option<Key>,
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
    /// The name of the claim on a MAC on a network.
    pub fn mac_claim(network: &str, mac: &str) -> String {
        format!("mac/{network}/{mac}")
    }

    /// The same of an address.
    pub fn address_claim(network: &str, ip: IpAddr) -> String {
        format!("address/{network}/{ip}")
    }

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
            holder: None,
            free_device_id: String::new(),
            free_device_owner: String::new(),
            format: 1,
            admin_state_up: true,
            security_groups: Vec::new(),
            shared_groups: BTreeMap::new(),
            port_security_enabled: network.port_security_enabled,
            allowed_address_pairs: Vec::new(),
            extra_dhcp_opts: Vec::new(),
            qos_policy: None,
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

    /// The ports that the row of this key holds.
    pub fn held_by<'a>(snapshot: &'a Snapshot, holder: &Holder) -> impl Iterator<Item = Entry<'a, Self>> + use<'a> {
        snapshot.find(Index::Owner, &holder.to_string())
    }

    /// A server's ports.
    pub fn of_server<'a>(snapshot: &'a Snapshot, server: &Server) -> impl Iterator<Item = Entry<'a, Self>> + use<'a> {
        Self::held_by(snapshot, &Holder::server(server))
    }

    /// A router's places on the networks that it joins.
    pub fn interfaces<'a>(snapshot: &'a Snapshot, router: &Router) -> impl Iterator<Item = Entry<'a, Self>> + use<'a> {
        Self::held_by(snapshot, &Holder::interface(router)).filter(|port| port.is_interface())
    }

    /// The port of the pod with this uid.
    pub fn of_pod<'a>(snapshot: &'a Snapshot, uid: &str) -> Option<Entry<'a, Self>> {
        snapshot.find(Index::Owner, &Holder::index_of_pod(uid)).next()
    }

    /// The name by which its network knows one of its addresses.
    pub fn name_of(&self, ip: IpAddr) -> String {
        if self.dns_name.is_empty() {
            format!("host-{}", ip.to_string().replace(['.', ':'], "-"))
        } else {
            self.dns_name.clone()
        }
    }

    /// The server with this id holds the port.
    pub fn is_of_server(&self, id: &str) -> bool {
        self.holder.as_ref().and_then(Holder::server_id) == Some(id)
    }

    /// A server or a pod may take it.
    pub fn is_free(&self) -> bool {
        self.holder.is_none()
    }

    /// A router's place on a network that it joins.
    pub fn is_interface(&self) -> bool {
        matches!(self.holder, Some(Holder::Interface(_)))
    }

    /// A server's, a pod's or a trunk's, or nobody's yet: not one of Neutron's own, which are plugged in nowhere.
    pub fn is_plug(&self) -> bool {
        self.holder.as_ref().is_none_or(|holder| !holder.is_services())
    }

    /// Neutron's `device_id`: the holder's id, or what the user says.
    pub fn device_id(&self) -> String {
        self.holder.as_ref().map_or_else(|| self.free_device_id.clone(), Holder::device_id)
    }

    /// Neutron's `device_owner`.
    pub fn device_owner(&self) -> &str {
        match &self.holder {
            Some(holder) => holder.device_owner(),
            None => &self.free_device_owner,
        }
    }

    /// Gives the port to a holder. What the user said of its device no longer holds.
    pub fn hold(&mut self, holder: Holder) {
        self.free_device_id.clear();
        self.free_device_owner.clear();
        self.holder = Some(holder);
    }

    /// Reads the holder of a row that was made before there were holders from its texts. What the texts say then was
    /// written by the cloud or is believed only in the port's own project; such rows claim nothing by their holder.
    pub fn upgrade(&mut self) {
        if self.format == 0
            && self.holder.is_none()
            && let Some(holder) = Holder::from_texts(self)
        {
            self.hold(holder);
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
    const QUOTAS: &[Limited] = &[Limited::new("port", 500)];
    const HOLDS: bool = true;
    fn is_report_on(&self, before: &Self) -> bool {
        *self == Self { status: self.status, ..before.clone() }
    }
    fn claims(&self) -> Vec<Claim> {
        let network = Key::new(Kind::Network, Realm::project(&self.network_project_id), self.network_id.as_str());
        let mut claims = vec![Claim::Needs(network), Claim::Unique(Self::mac_claim(&self.network_id, &self.mac))];
        for fixed in &self.fixed_ips {
            claims.push(Claim::Unique(Self::address_claim(&self.network_id, fixed.ip)));
            let subnet = Key::new(Kind::Subnet, Realm::project(&self.network_project_id), fixed.subnet_id.as_str());
            claims.push(Claim::Needs(subnet));
        }
        for group in &self.security_groups {
            let realm = self.shared_groups.get(group).map_or_else(|| self.realm(), |owner| Realm::project(owner));
            claims.push(Claim::Needs(Key::new(Kind::SecurityGroup, realm, group.as_str())));
        }
        claims.extend(self.qos_policy.clone().map(Claim::Needs));
        // Pods are let go of at once, and their ports follow.
        if let Some(holder) =
            self.holder.as_ref().filter(|holder| self.format > 0 && !matches!(holder, Holder::Pod { .. }))
        {
            claims.push(Claim::Needs(holder.key().clone()));
        }
        claims.extend(quota::uses(&self.project_id, "port", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let mut index = vec![(Index::Network, self.network_id.clone())];
        index.extend(self.holder.iter().map(|holder| (Index::Owner, holder.to_string())));
        index.extend(self.host.iter().map(|host| (Index::Host, host.clone())));
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> Port {
        let mut port: Port = serde_json::from_str(text).unwrap();
        port.upgrade();
        port
    }

    fn texts(owner: &str, more: &str) -> Port {
        port(&format!(
            r#"{{"id": "i", "project_id": "p", "network_id": "n", "network_project_id": "p", "mac": "m", "fixed_ips": [],
                "admin_state_up": true, "port_security_enabled": true, "device_id": "d", "device_owner": "{owner}",
                "created_at": "2030-01-01T00:00:00Z", "updated_at": "2030-01-01T00:00:00Z"{more}}}"#
        ))
    }

    #[test]
    fn ports_from_before_there_were_holders_keep_theirs() {
        let held = |owner: &str, more: &str| texts(owner, more).holder.map(|holder| holder.to_string());
        assert_eq!(held("compute:nova", "").as_deref(), Some("project:p/server/d"));
        assert_eq!(held("network:router_interface", "").as_deref(), Some("project:p/router/d"));
        let pod = r#", "pod": ["default", "c"], "dns_name": "web", "owned": true"#;
        assert_eq!(held("kubernetes:pod", pod).as_deref(), Some("pod/d"));
        assert_eq!(held("kubernetes:pod", ""), None, "a text that a user wrote");
        assert_eq!(held("my:thing", ""), None);
        let old = texts("compute:nova", "");
        assert_eq!((old.device_id(), old.device_owner()), ("d".into(), "compute:nova"));
        assert!(!old.claims().iter().any(|claim| matches!(claim, Claim::Needs(key) if key.kind == Kind::Server)));
    }

    #[test]
    fn what_a_user_says_of_a_device_is_read_by_nobody() {
        let said = texts("compute:nova", r#", "format": 1"#);
        assert_eq!(said.holder, None);
        assert!(!said.index().iter().any(|(index, _)| *index == Index::Owner));
        assert_eq!((said.device_id(), said.device_owner()), ("d".into(), "compute:nova"));
        let again = port(&serde_json::to_string(&said).unwrap());
        assert_eq!(again, said);
    }
}
