//! What a host may know of its cloud: itself, its VMs, its pods, and what these name. An agent decides by this and by nothing
//! else, so that who has taken a host has taken what runs there and no more; so whoever adds a field asks first whether that
//! still holds. The whole store in each agent was refused: every host would hold every tenant's secrets.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Host, Image, KubeObject, Port, Revision, Server, Vm};

/// A host, as its cloud has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// The cloud's identity, [`crate::Setting::cloud_id`].
    pub cloud: Option<String>,
    /// `None`: the cloud has no such host.
    pub host: Option<Host>,
}

impl HostView {
    /// How often the host has reported, as the cloud has it.
    pub fn reports(&self) -> u64 {
        self.host.as_ref().map_or(0, |host| host.status.reports)
    }

    /// The host's address, as pods are told.
    pub fn address(&self) -> Option<String> {
        self.host.as_ref()?.address().map(|ip| ip.to_string())
    }
}

/// Something that a host shall have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// A VM's id, a pod's uid.
    pub id: String,
    /// The revisions of the rows that it is made of: others, if it may have changed.
    pub rows: Vec<Revision>,
    /// An image is to be made of the VM's disk.
    pub saving: bool,
}

/// A VM of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmView {
    pub vm: Vm,
    /// `None`: its server is gone, and so shall the VM.
    pub server: Option<Server>,
    /// The server's ports, in the order of its interfaces.
    pub ports: Vec<Port>,
    /// The availability zone of the host.
    pub zone: String,
    /// The image that is to be made of its disk.
    pub saving: Option<Image>,
}

/// A pod of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodView {
    pub pod: KubeObject,
    /// The host is for the pod's project.
    pub admitted: bool,
    pub port: Option<Port>,
    /// The last part of the names of its cluster.
    pub domain: Option<String>,
    /// The ConfigMaps and Secrets that the pod names and that exist.
    pub data: Vec<KubeObject>,
    /// The Services of which its containers are told by variables, and the API's.
    pub services: Vec<KubeObject>,
}

impl PodView {
    /// What a ConfigMap or Secret that the pod names says, by plural and name.
    pub fn data_of(&self, resource: &str, name: &str) -> Option<&Value> {
        let found = self.data.iter().find(|object| object.resource == resource && object.name == name);
        found.map(|object| &object.body)
    }
}
