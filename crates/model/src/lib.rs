//! Every kind of row that Braid knows: what it says, what it claims, when it is valid. Floor 0: no I/O, no async, no
//! clock, no random numbers, so that planners and the simulator can be pure, and a claim means the same everywhere.
//!
//! * [`Key`], [`Resource`], [`Object`], [`Row`], [`Snapshot`]: how rows are named, declared and read
//! * [`Claim`], [`Delta`], [`Ledger`], [`Refused`]: what rows claim and how a commit checks it
//! * [`Change`], [`Write`]: what is committed; [`Fault`]: what a request is told
//! * one file a kind for the rest; [`hostnet`] is what a host's network shall look like, [`wanted`] what shall run there,
//!   [`host_view`] what a host may know, [`host_report`] what it says, [`node`] what clusters see of it

mod address_group;
mod address_scope;
mod aggregate;
pub mod batch;
mod catalog;
mod change;
mod claim;
pub mod dhcp_option;
mod fault;
pub mod host_report;
pub mod host_view;
pub mod hostnet;
mod key;
pub mod kube_event;
pub mod machine;
pub mod node;
pub mod pod;
pub mod pod_security;
mod qos_policy;
pub mod quantity;
pub mod quota;
pub mod reach;
mod resource;
mod snapshot;
pub mod wanted;

mod cluster;
mod credential;
mod flavor;
mod floatingip;
mod holder;
mod host;
mod identity;
mod image;
mod keypair;
mod kube_object;
mod metadef;
mod network;
mod port;
mod port_forwarding;
mod rbac_policy;
mod registry;
mod router;
mod security_group;
mod server;
mod server_usage;
mod setting;
mod subnet;
mod task;
mod trunk;
mod trust;
mod vm;
mod vm_usage;

pub use address_group::{AddressGroup, MAX_ADDRESSES};
pub use address_scope::AddressScope;
pub use aggregate::{Aggregate, Aggregates};
pub use catalog::{CatalogEndpoint, CatalogRef, CatalogRegion, CatalogService};
pub use change::{Change, Expect, Write};
pub use claim::{Claim, Delta, Ledger, Pool, Refused};
pub use cluster::{Authority, Cluster};
pub use credential::{Credential, free_place};
pub use fault::Fault;
pub use flavor::Flavor;
pub use floatingip::FloatingIp;
pub use holder::Holder;
pub use host::{Host, HostStatus, Shortage, ZONE};
pub use identity::option;
pub use identity::{
    AccessRule, Actor, AppCredential, Assignment, DEFAULT_DOMAIN, Domain, Group, Options, Project, Revocation, Role,
    Target, TokenKey, User,
};
pub use image::{Image, ImageMember, ImageSource, ImageStatus, MemberStatus, Staged, Visibility, WebDownload};
pub use key::{BadKey, Key, Realm};
pub use keypair::Keypair;
pub use kube_object::{
    CLEANUP, KubeObject, PodDemand, container_demand, is_kubernetes_group, json_size, object_in, pod_demand,
    quantity_bytes, quantity_milli,
};
pub use metadef::{MetadefAssociation, MetadefNamespace, MetadefObject, MetadefTag, PropertyDefinition};
pub use network::{Network, most_mtu};
pub use port::{FixedIp, Port, PortStatus};
pub use port_forwarding::{MAX_MOVED_PORTS, PortForwarding};
pub use qos_policy::{DSCP_MARKS, QosEffect, QosPolicy, QosRule};
pub use quota::{Limited, Quota, QuotaClass};
pub use rbac_policy::{EVERY_PROJECT, RbacAction, RbacPolicy};
pub use registry::{OciBlob, OciManifest, OciTag};
pub use resource::{Index, Kind, Object, Resource};
pub use router::{Gateway, Router};
pub use security_group::{
    BOTH_SORTS, Direction, PROTOCOLS, SecurityGroup, SecurityGroupRule, default_security_group, of_both_sorts,
};
pub use server::{InjectedFile, NicRequest, Server, ServerAction, ServerGroup};
pub use server_usage::ServerUsage;
pub use setting::{CLOUD_ID, Setting};
pub use snapshot::{Committed, Entry, Event, Revision, Row, Snapshot};
pub use subnet::{Subnet, SubnetPool, allocate, free_address};
pub use task::{Task, TaskStatus};
pub use trunk::{SubPort, Trunk, TrunkStatus, VLANS};
pub use trust::Trust;
pub use vm::{Source, Vm, VmPhase, VmStatus};
pub use vm_usage::{DiskUsage, VmUsage};

/// A moment. Rows carry moments; only processes that have a clock make them.
pub type Time = jiff::Timestamp;

/// A moment in whole seconds, as Kubernetes writes it: `2030-01-31T12:00:00Z`.
pub fn seconds(time: Time) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An id made from names: the same names give the same id, so that a planner that runs twice makes one row, not two.
pub fn derived_id(parts: &[&str]) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, parts.join("\u{1f}").as_bytes()).to_string()
}
