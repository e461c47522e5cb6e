//! Who is asking, and with what rights: what every credential is turned into before a face looks at a request.

use model::{Fault, Time};

/// A role by id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRef {
    pub id: String,
    pub name: String,
}

/// For what a credential is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Unscoped,
    Project { id: String, name: String, domain_id: String },
    Domain { id: String },
    System,
}

/// Of what a name is one. Names of one sort never stand for somebody of another, however they are spelt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Keystone,
    /// Of one logical cluster.
    ServiceAccount {
        namespace: String,
        name: String,
    },
    /// Of one logical cluster, by a client certificate.
    Certificate,
}

/// What the names of Keystone's users begin with in a cluster, and the groups that project roles give.
pub const KEYSTONE: &str = "openstack:";
/// What the names of service accounts begin with in a cluster.
pub const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// By what trust somebody acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    pub trust_id: String,
    pub trustor_user_id: String,
    /// Who really asks, whoever the principal's name is.
    pub trustee_user_id: String,
    pub impersonation: bool,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    pub identity: Identity,
    pub user_id: String,
    pub user_name: String,
    pub user_domain_id: String,
    pub scope: Scope,
    /// Roles in the scope, implied ones included.
    pub roles: Vec<RoleRef>,
    /// How the user proved who they are: `password`, `token`, `application_credential`, `certificate`.
    pub methods: Vec<String>,
    /// The token's own audit id, then that of the first of its chain.
    pub audit_ids: Vec<String>,
    pub issued_at: Time,
    pub expires_at: Time,
    pub app_credential_id: Option<String>,
    pub trust: Option<Delegation>,
    /// Kubernetes groups (of a client certificate or service account), beside those that project roles give.
    pub kube_groups: Vec<String>,
    /// For service accounts: the only logical cluster in which the credential is valid.
    pub kube_cluster: Option<String>,
}

impl Principal {
    /// The name by which a cluster knows the user. A domain's id has no slash, so that two users never share one.
    pub fn kube_user(&self) -> String {
        match self.identity {
            Identity::Keystone => format!("{KEYSTONE}{}/{}", self.user_domain_id, self.user_name),
            Identity::ServiceAccount { .. } | Identity::Certificate => self.user_name.clone(),
        }
    }

    pub fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r.name == role)
    }

    /// Administers the cloud: sees and changes everything, in whatever scope.
    pub fn is_admin(&self) -> bool {
        self.has("admin")
    }

    /// The project for which the credential is valid.
    pub fn project_id(&self) -> Option<&str> {
        match &self.scope {
            Scope::Project { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The project, or the refusal that fits a request which needs one.
    pub fn project(&self) -> Result<&str, Fault> {
        self.project_id()
            .ok_or_else(|| Fault::Forbidden("This request needs a token that is scoped to a project.".into()))
    }

    /// May change things of its project.
    pub fn is_member(&self) -> bool {
        self.is_admin() || self.has("member") || self.has("manager")
    }

    /// May look at things of its project.
    pub fn is_reader(&self) -> bool {
        self.is_member() || self.has("reader")
    }
}
