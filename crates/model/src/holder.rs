//! Whose a port is. Neutron keeps that as two texts that the port's owner may write (`device_id`, `device_owner`), and in
//! real clouds everybody trusts them. A text that readers trust was refused here: with it a stranger's port became a NIC
//! of somebody else's server. A holder is a row's key, with its realm, that only the cloud writes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Key, Kind, KubeObject, Port, Realm, Resource, Router, Server};

/// What `device_owner` says of a server's port.
pub const SERVER_PORT: &str = "compute:nova";
/// What `device_owner` says of a pod's port.
pub const POD_PORT: &str = "kubernetes:pod";
/// What `device_owner` says of a router's place on a network.
pub const INTERFACE: &str = "network:router_interface";
/// What `device_owner` says of a router's place on an external network.
pub const GATEWAY: &str = "network:router_gateway";
/// What `device_owner` says of a floating IP's address.
pub const FLOATING: &str = "network:floatingip";
/// What `device_owner` says of the address from which DHCP answers.
pub const DHCP: &str = "network:dhcp";
/// What `device_owner` says of a trunk's subport.
pub const SUBPORT: &str = "trunk:subport";

/// The row that a port belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// A server of the port's own project.
    Server(Key),
    /// A pod: by its uid, for the next pod of the name is another.
    Pod {
        key: Key,
        uid: String,
    },
    /// A router, on a network that it joins.
    Interface(Key),
    /// A router, on its way out.
    Gateway(Key),
    FloatingIp(Key),
    /// The subnet for which an address is set aside.
    Dhcp(Key),
    /// A trunk, whose parent is plugged in where the port is reached by a tag.
    Trunk(Key),
}

impl Holder {
    pub fn server(server: &Server) -> Self {
        Self::Server(server.key())
    }

    pub fn pod(pod: &KubeObject) -> Self {
        Self::Pod { key: pod.key(), uid: pod.uid().to_owned() }
    }

    pub fn interface(router: &Router) -> Self {
        Self::Interface(router.key())
    }

    pub fn gateway(router: &Router) -> Self {
        Self::Gateway(router.key())
    }

    /// A floating IP of a project, by its id.
    pub fn floating(project: &str, id: &str) -> Self {
        Self::FloatingIp(Key::new(Kind::FloatingIp, Realm::project(project), id))
    }

    /// The holder's row.
    pub fn key(&self) -> &Key {
        match self {
            Self::Server(key)
            | Self::Pod { key, .. }
            | Self::Interface(key)
            | Self::Gateway(key)
            | Self::FloatingIp(key)
            | Self::Dhcp(key)
            | Self::Trunk(key) => key,
        }
    }

    /// The server that holds the port, by id.
    pub fn server_id(&self) -> Option<&str> {
        match self {
            Self::Server(key) => Some(&key.name),
            _ => None,
        }
    }

    /// The router that holds the port in either way, by id.
    pub fn router_id(&self) -> Option<&str> {
        match self {
            Self::Interface(key) | Self::Gateway(key) => Some(&key.name),
            _ => None,
        }
    }

    /// Neutron's `device_id`.
    pub fn device_id(&self) -> String {
        match self {
            Self::Pod { uid, .. } => uid.clone(),
            Self::Dhcp(key) => format!("dhcp-{}", key.name),
            _ => self.key().name.to_string(),
        }
    }

    /// Neutron's `device_owner`.
    pub fn device_owner(&self) -> &'static str {
        match self {
            Self::Server(_) => SERVER_PORT,
            Self::Pod { .. } => POD_PORT,
            Self::Interface(_) => INTERFACE,
            Self::Gateway(_) => GATEWAY,
            Self::FloatingIp(_) => FLOATING,
            Self::Dhcp(_) => DHCP,
            Self::Trunk(_) => SUBPORT,
        }
    }

    pub(crate) fn index_of_pod(uid: &str) -> String {
        format!("pod/{uid}")
    }

    /// Made and deleted with something of Neutron's own; nothing that could be plugged in.
    pub fn is_services(&self) -> bool {
        !matches!(self, Self::Server(_) | Self::Pod { .. } | Self::Trunk(_))
    }

    /// The holder of a port whose row is older than holders, from the texts of those days. Only what lies in the port's own
    /// project is believed: a text may have been a stranger's.
    pub(crate) fn from_texts(port: &Port) -> Option<Self> {
        let key = |kind: Kind, id: &str| Key::new(kind, Realm::project(&port.project_id), id);
        let of_network = |kind: Kind, id: &str| Key::new(kind, Realm::project(&port.network_project_id), id);
        let id = port.free_device_id.as_str();
        match port.free_device_owner.as_str() {
            _ if id.is_empty() => None,
            owner if owner.starts_with("compute:") => Some(Self::Server(key(Kind::Server, id))),
            POD_PORT => {
                let (namespace, cluster) = port.pod.as_ref().filter(|_| port.owned)?;
                let key = KubeObject::key_of(cluster, "", "pods", namespace, &port.dns_name);
                Some(Self::Pod { key, uid: id.to_owned() })
            }
            INTERFACE => Some(Self::Interface(key(Kind::Router, id))),
            GATEWAY => Some(Self::Gateway(key(Kind::Router, id))),
            FLOATING => Some(Self::FloatingIp(key(Kind::FloatingIp, id))),
            DHCP => Some(Self::Dhcp(of_network(Kind::Subnet, id.strip_prefix("dhcp-")?))),
            _ => None,
        }
    }
}

/// As the index of ports has it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { uid, .. } => f.write_str(&Self::index_of_pod(uid)),
            _ => self.key().fmt(f),
        }
    }
}
