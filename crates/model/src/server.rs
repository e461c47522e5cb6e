//! A Nova server: what its user asked for. What runs of it is a [`crate::Vm`], one for each incarnation; `BUILD`,
//! `ACTIVE` and the rest are computed from both and stored nowhere.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Flavor, Index, Key, Kind, Limited, Realm, Resource, Source, Time, quota};

/// A network interface asked for at creation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NicRequest {
    /// A port that exists, instead of a network.
    pub port_id: Option<String>,
    pub network_id: Option<String>,
    pub fixed_ip: Option<IpAddr>,
    pub tag: Option<String>,
    /// An administrator asked for it, who may use networks of others that are shared with nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_admin: bool,
}

/// A file that a guest is to have, as a client gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InjectedFile {
    /// Where the guest is to put it.
    pub path: String,
    /// In base64.
    pub contents: String,
}

/// A Nova server. Verbs change its desired state: power is a state, reboot a counter, rebuild and resize a new incarnation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    pub id: String,
    pub project_id: String,
    pub user_id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    pub hostname: String,
    /// The flavor as it was when the server was made or resized.
    pub flavor: Flavor,
    /// The flavor before a resize that is not confirmed; it can be reverted to.
    #[serde(default)]
    pub old_flavor: Option<Flavor>,
    pub image_id: Option<String>,
    /// What the image said of the guest, by Nova's names, when the server was made or rebuilt from it.
    #[serde(default)]
    pub image_properties: BTreeMap<String, String>,
    #[serde(default)]
    pub key_name: Option<String>,
    /// Copied from the key pair, which may be deleted.
    #[serde(default)]
    pub public_key: Option<String>,
    /// As given: base64.
    #[serde(default)]
    pub user_data: Option<String>,
    #[serde(default)]
    pub files: Vec<InjectedFile>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub config_drive: bool,
    #[serde(default)]
    pub access_ipv4: String,
    #[serde(default)]
    pub access_ipv6: String,
    #[serde(default)]
    pub availability_zone: Option<String>,
    #[serde(default)]
    pub server_group_id: Option<String>,
    /// The scheduler hints as they were given, for people: nothing is decided by them. See the next two.
    #[serde(default)]
    pub scheduler_hints: BTreeMap<String, Vec<String>>,
    /// Servers of its project, on the host of one of which it is to be. Those that are gone are taken off; if all are, no
    /// host will do.
    #[serde(default)]
    pub same_host: Option<Vec<String>>,
    /// Servers of its project, on whose hosts it must not be. Those that are gone are taken off.
    #[serde(default)]
    pub different_host: Vec<String>,
    /// Interfaces, in order. `None`: whatever networks the project has (Nova's `auto`).
    pub nics: Vec<NicRequest>,
    /// Ids of security groups for ports that are made for the server.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Only this host will do.
    #[serde(default)]
    pub requested_host: Option<String>,
    pub reservation_id: String,
    #[serde(default)]
    pub launch_index: u32,
    /// The administrator's password that the guest is given, as it is given user data.
    #[serde(default)]
    pub admin_pass: Option<String>,
    /// What the guest says that its password is, in its own encryption: written once through its metadata service.
    #[serde(default)]
    pub guest_password: Option<String>,
    /// `OS-DCF:diskConfig` is AUTO: the image's one partition may be resized to the disk.
    #[serde(default)]
    pub auto_disk: bool,

    /// Shall run. Off after `os-stop`.
    pub power: bool,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub suspended: bool,
    /// Boots from this, with its own disk as the second one, until it is unrescued.
    #[serde(default)]
    pub rescue: Option<Source>,
    /// The image that a shelved server is kept in. There is a VM until the image is complete.
    #[serde(default)]
    pub shelved: Option<String>,
    /// The image that it comes back from; it goes when the server runs.
    #[serde(default)]
    pub unshelving: Option<String>,
    #[serde(default)]
    pub locked: bool,
    #[serde(default)]
    pub locked_reason: Option<String>,
    /// Grows with each soft reboot asked for.
    #[serde(default)]
    pub soft_reboots: u32,
    /// Grows with each hard reboot asked for.
    #[serde(default)]
    pub hard_reboots: u32,
    /// Grows with each rebuild and resize: a new disk or a new size.
    pub incarnation: u32,
    /// The incarnation whose disk this one keeps (a resize); `None`: a fresh disk from the image.
    #[serde(default)]
    pub keep_disk: bool,
    /// Shall go away. The row stays until nothing of it is left on any host.
    #[serde(default)]
    pub deleting: bool,
    /// Set by an administrator (`os-resetState`); shown until the next action.
    #[serde(default)]
    pub forced_state: Option<String>,
    /// Why nothing of it can run, in words; the planner's.
    #[serde(default)]
    pub problem: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
    #[serde(default)]
    pub launched_at: Option<Time>,
    /// Since when usage reports count its present size, once it ran; see [`Server::counted_since`].
    #[serde(default)]
    pub sized_at: Option<Time>,
}

impl Server {
    /// A server that is to run, called the same by its user and by itself; with no image, network or user yet.
    pub fn new(id: &str, project_id: &str, name: &str, flavor: Flavor, now: Time) -> Self {
        Self {
            id: id.to_owned(),
            project_id: project_id.to_owned(),
            user_id: String::new(),
            name: name.to_owned(),
            description: None,
            hostname: name.to_owned(),
            flavor,
            old_flavor: None,
            image_id: None,
            image_properties: BTreeMap::new(),
            key_name: None,
            public_key: None,
            user_data: None,
            files: Vec::new(),
            metadata: BTreeMap::new(),
            tags: Vec::new(),
            config_drive: false,
            access_ipv4: String::new(),
            access_ipv6: String::new(),
            availability_zone: None,
            server_group_id: None,
            scheduler_hints: BTreeMap::new(),
            same_host: None,
            different_host: Vec::new(),
            nics: Vec::new(),
            security_groups: Vec::new(),
            requested_host: None,
            reservation_id: String::new(),
            launch_index: 0,
            admin_pass: None,
            guest_password: None,
            auto_disk: false,
            power: true,
            paused: false,
            suspended: false,
            rescue: None,
            shelved: None,
            unshelving: None,
            locked: false,
            locked_reason: None,
            soft_reboots: 0,
            hard_reboots: 0,
            incarnation: 1,
            keep_disk: false,
            deleting: false,
            forced_state: None,
            problem: None,
            created_at: now,
            updated_at: now,
            launched_at: None,
            sized_at: None,
        }
    }

    /// The most bytes of [`Server::guest_password`].
    pub const MOST_PASSWORD: usize = 1020;

    /// Since when usage reports count it in its present size; `None` if it never ran. Rows of before say only when they
    /// were launched.
    pub fn counted_since(&self) -> Option<Time> {
        self.sized_at.or(self.launched_at)
    }

    /// The servers that hints name: their place decides about its own.
    pub fn neighbours(&self) -> impl Iterator<Item = &String> {
        self.same_host.iter().flatten().chain(&self.different_host)
    }

    /// No hint names this server any more.
    pub fn forget_neighbour(&mut self, id: &str) {
        self.same_host.iter_mut().for_each(|ids| ids.retain(|other| other != id));
        self.different_host.retain(|other| other != id);
    }
}

impl Resource for Server {
    kind!(Server: of a project);
    // Pods use cores and memory, too, and may ask for parts of a core.
    const QUOTAS: &[Limited] =
        &[Limited::new("instances", 10), Limited::new("cores", 20).scaled(1000), Limited::new("ram", 51200)];
    const HOLDS: bool = true;
    fn claims(&self) -> Vec<Claim> {
        // An unconfirmed resize keeps the room of the larger size, so that it can always be reverted.
        let old = self.old_flavor.as_ref();
        let vcpus = self.flavor.vcpus.max(old.map_or(0, |f| f.vcpus));
        let ram = self.flavor.ram.max(old.map_or(0, |f| f.ram));
        let mut claims: Vec<Claim> = [("instances", 1), ("cores", vcpus * 1000), ("ram", ram)]
            .into_iter()
            .filter_map(|(resource, amount)| quota::uses(&self.project_id, resource, amount))
            .collect();
        if let Some(group) = &self.server_group_id {
            claims.push(Claim::Needs(Key::new(Kind::ServerGroup, self.realm(), group.as_str())));
        }
        claims.extend(self.neighbours().map(|id| Claim::Needs(Key::new(Kind::Server, self.realm(), id.as_str()))));
        // Its ports will be in them; once they are made, they are asked for nowhere else.
        if !self.deleting && self.nics.iter().any(|nic| nic.port_id.is_none()) {
            let groups = self.security_groups.iter();
            claims.extend(groups.map(|id| Claim::Needs(Key::new(Kind::SecurityGroup, self.realm(), id.as_str()))));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let neighbours = self.neighbours().map(|id| (Index::Owner, id.clone()));
        neighbours.chain([(Index::Name, self.name.clone())]).collect()
    }
}

/// An entry of a server's action log (`os-instance-actions`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerAction {
    pub server_id: String,
    pub project_id: String,
    pub request_id: String,
    pub user_id: String,
    /// `create`, `stop`, `reboot`, …
    pub action: String,
    pub start_time: Time,
    pub message: Option<String>,
}

impl ServerAction {
    /// How many a server's log has; the oldest make room.
    pub const MOST: usize = 1000;
}

impl Resource for ServerAction {
    kind!(ServerAction);
    fn realm(&self) -> Realm {
        Realm::project(&self.project_id)
    }
    fn name(&self) -> String {
        format!("{}/{}", self.server_id, self.request_id)
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.server_id.clone())]
    }
}

/// A Nova server group: servers that shall be together or apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerGroup {
    pub id: String,
    pub project_id: String,
    pub user_id: String,
    pub name: String,
    /// `affinity`, `anti-affinity`, `soft-affinity`, `soft-anti-affinity`.
    pub policy: String,
    pub max_server_per_host: Option<u64>,
}

impl Resource for ServerGroup {
    kind!(ServerGroup: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("server_groups", 10)];
    fn claims(&self) -> Vec<Claim> {
        quota::uses(&self.project_id, "server_groups", 1).into_iter().collect()
    }
}
