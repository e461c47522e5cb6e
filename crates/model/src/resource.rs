//! What every kind of row declares about itself, and the closed set of kinds. A closed enum rather than boxed trait
//! objects: the compiler then names every place that a new kind must be thought of.

use std::fmt::Debug;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::*;

/// A kind of row: one declaration gives its key, its claims, who may see it and how it is found.
pub trait Resource: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    const KIND: Kind;
    /// What of a project's limits is counted by what its rows claim.
    const QUOTAS: &'static [Limited] = &[];
    /// Whether a project can be deleted only when it has none: such a row takes room on hosts, addresses or disks. The
    /// others go with it.
    const HOLDS: bool = false;
    /// Whose row it is.
    fn realm(&self) -> Realm;
    /// The last part of the key: the id, for most kinds.
    fn name(&self) -> String;
    /// What the row claims; a pure function of the row.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }
    /// Under which values the row can be found beside its key.
    fn index(&self) -> Vec<(Index, String)> {
        Vec::new()
    }
    /// Projects other than the realm's own never see the row, unless this says that all do.
    fn shared(&self) -> bool {
        false
    }
    /// Whether the row asks for the same as before, and only what hosts and controllers report of it is another.
    fn is_report_on(&self, _before: &Self) -> bool {
        false
    }
    fn key(&self) -> Key {
        Key::new(Self::KIND, self.realm(), self.name())
    }
    /// The row as it is kept, without memory that was taken in advance.
    fn packed(self) -> Self {
        self
    }
    fn of(object: &Object) -> Option<&Self>;
}

/// A secondary index of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Index {
    /// The host to which the row is bound.
    Host,
    /// The row's owner, by the owner's id or uid: a user's assignments; of a port its [`Holder`].
    Owner,
    /// The network to which the row belongs.
    Network,
    /// The row's unique name within its realm or domain, for look-ups by name.
    Name,
    /// Of Kubernetes' objects those that the garbage collector may have to remove: they have owners, are being deleted,
    /// or say something of a host. All under one value, the empty one.
    Collectable,
    /// Pods that say where other pods shall be, by their cluster.
    Caring,
    /// Of Kubernetes' objects those that no controller has, by [`crate::KubeObject::kin`]: one may adopt them.
    Uncontrolled,
    /// Bindings of roles, by [`crate::KubeObject::bound`]: one for each subject.
    Bound,
}

macro_rules! kinds {
    ($($name:ident => $text:literal, $doc:literal;)*) => {
        /// Every kind of row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Kind { $(#[doc = $doc] #[serde(rename = $text)] $name,)* }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The kind's name in keys and in messages.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }

            /// What of a project's limits is counted by its rows' claims.
            pub fn quotas(self) -> &'static [Limited] {
                match self { $(Kind::$name => <$name as Resource>::QUOTAS,)* }
            }

            /// Whether a project can be deleted only when it has none of them.
            pub fn holds(self) -> bool {
                match self { $(Kind::$name => <$name as Resource>::HOLDS,)* }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Kind::$name),)* _ => None }
            }
        }

        /// The content of a row, of any kind.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "row")]
        pub enum Object { $(#[serde(rename = $text)] $name(Arc<$name>),)* }

        impl Object {
            pub fn kind(&self) -> Kind {
                match self { $(Object::$name(_) => Kind::$name,)* }
            }
            pub fn key(&self) -> Key {
                match self { $(Object::$name(o) => o.key(),)* }
            }
            pub fn claims(&self) -> Vec<Claim> {
                match self { $(Object::$name(o) => o.claims(),)* }
            }
            pub fn index(&self) -> Vec<(Index, String)> {
                match self { $(Object::$name(o) => o.index(),)* }
            }
            pub fn shared(&self) -> bool {
                match self { $(Object::$name(o) => o.shared(),)* }
            }
            /// See [`Resource::is_report_on`].
            pub fn is_report_on(&self, before: &Self) -> bool {
                match (self, before) {
                    $((Object::$name(o), Object::$name(before)) => o.is_report_on(before),)*
                    _ => false,
                }
            }
            /// A row as it was read from a disk, in today's form.
            pub fn upgraded(mut self) -> Self {
                match &mut self {
                    Object::Port(port) => Arc::make_mut(port).upgrade(),
                    Object::KubeObject(object) => Arc::make_mut(object).body.shrink(),
                    _ => {}
                }
                self
            }
        }

        $(impl From<$name> for Object {
            fn from(value: $name) -> Self { Object::$name(Arc::new(value.packed())) }
        })*
    };
}

/// Writes the part of [`Resource`] that is the same for every kind, and for those whose rows are named by an id, whose they
/// are.
macro_rules! kind {
    ($name:ident) => {
        const KIND: crate::Kind = crate::Kind::$name;
        fn of(object: &crate::Object) -> Option<&Self> {
            match object {
                crate::Object::$name(value) => Some(value),
                _ => None,
            }
        }
    };
    ($name:ident: of the cloud) => {
        crate::resource::kind!($name);
        fn realm(&self) -> crate::Realm {
            crate::Realm::Cloud
        }
        fn name(&self) -> String {
            self.id.clone()
        }
    };
    ($name:ident: of a project) => {
        crate::resource::kind!($name);
        fn realm(&self) -> crate::Realm {
            crate::Realm::project(&self.project_id)
        }
        fn name(&self) -> String {
            self.id.clone()
        }
    };
}
pub(crate) use kind;

kinds! {
    Domain => "domain", "A Keystone domain.";
    Project => "project", "A Keystone project: the tenant.";
    User => "user", "A Keystone user.";
    Group => "group", "A Keystone group of users.";
    Role => "role", "A Keystone role.";
    Assignment => "assignment", "A role given to a user or group on a project, a domain or the system.";
    AppCredential => "application-credential", "A Keystone application credential.";
    AccessRule => "access-rule", "A Keystone access rule: a request that application credentials may make.";
    Credential => "credential", "A Keystone credential: a secret that is kept for a user.";
    Trust => "trust", "A Keystone trust: roles that a user lends to another.";
    Revocation => "revocation", "Tokens that are no longer valid.";
    TokenKey => "token-key", "A key that signs or once signed tokens.";
    CatalogRegion => "catalog-region", "A Keystone region that is not the cloud's own.";
    CatalogService => "catalog-service", "A Keystone service that is not the cloud's own.";
    CatalogEndpoint => "catalog-endpoint", "A Keystone endpoint that is not the cloud's own.";
    Quota => "quota", "The limits of one project.";
    QuotaClass => "quota-class", "The limits of projects that have none of their own.";
    Host => "host", "A machine that runs VMs and pods.";
    Aggregate => "aggregate", "A Nova host aggregate.";
    Flavor => "flavor", "A Nova flavor.";
    Keypair => "keypair", "A Nova key pair.";
    Server => "server", "A Nova server: what the user asked for.";
    Vm => "vm", "One incarnation of a server on a host.";
    ServerAction => "server-action", "An entry of a server's action log.";
    ServerUsage => "server-usage", "What a server took that ended, or changed its size.";
    ServerGroup => "server-group", "A Nova server group.";
    Image => "image", "A Glance image.";
    Task => "task", "A Glance task: one import of an image's bytes.";
    MetadefNamespace => "metadef-namespace", "A Glance namespace of metadata definitions.";
    OciTag => "oci-tag", "A tag of a repository in the cloud's registry.";
    OciBlob => "oci-blob", "Bytes that a project's repositories in the cloud's registry have.";
    OciManifest => "oci-manifest", "A manifest of a repository in the cloud's registry.";
    Network => "network", "A Neutron network.";
    Subnet => "subnet", "A Neutron subnet.";
    SubnetPool => "subnetpool", "A Neutron subnet pool.";
    AddressScope => "address-scope", "A Neutron address scope: pools that do not overlap.";
    Port => "port", "A Neutron port: a VM's, a pod's or a router's place on a network.";
    Router => "router", "A Neutron router.";
    FloatingIp => "floatingip", "A Neutron floating IP.";
    PortForwarding => "port-forwarding", "Ports of a floating IP that lead to ports inside.";
    SecurityGroup => "security-group", "A Neutron security group.";
    SecurityGroupRule => "security-group-rule", "A rule of a security group.";
    AddressGroup => "address-group", "A Neutron address group: addresses to which rules of security groups refer.";
    QosPolicy => "qos-policy", "A Neutron QoS policy: limits and marks of what passes.";
    Trunk => "trunk", "A Neutron trunk: a port that carries the networks of others by tags.";
    RbacPolicy => "rbac-policy", "A Neutron RBAC policy: who else may use something.";
    Cluster => "cluster", "A logical Kubernetes cluster of one project.";
    KubeObject => "kube", "An object of the Kubernetes API, of any kind.";
    Setting => "setting", "One value of the cloud's own, by name.";
}
