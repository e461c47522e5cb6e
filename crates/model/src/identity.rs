//! Keystone's nouns: who there is and who may do what where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Realm, Resource, Time};

/// The id of the domain in which everything lives unless said otherwise, as in every OpenStack cloud.
pub const DEFAULT_DOMAIN: &str = "default";

/// Options of a domain, project, role or user, by name.
pub type Options = BTreeMap<String, Value>;

/// The names of users' options.
pub mod option {
    pub const LOCK_PASSWORD: &str = "lock_password";
    pub const SEVERAL_FACTORS: &str = "multi_factor_auth_enabled";
    pub const RULES: &str = "multi_factor_auth_rules";
    pub const NO_DELAY: &str = "ignore_lockout_failure_attempts";
    /// Those that are yes or no.
    pub const OF_USERS: [&str; 5] =
        [LOCK_PASSWORD, SEVERAL_FACTORS, NO_DELAY, "ignore_password_expiry", "ignore_change_password_upon_first_use"];
}

/// A Keystone domain: a name space of projects, users and groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub enabled: bool,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

impl Resource for Domain {
    kind!(Domain: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Unique(format!("domain-name/{}", self.name))]
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}

/// A Keystone project: the tenant of both faces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Project {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    /// The parent project's id, or the domain's for a project at the top.
    pub parent_id: String,
    #[serde(default)]
    pub description: String,
    pub enabled: bool,
    #[serde(default)]
    pub tags: Vec<String>,
    /// Attributes that Keystone does not know but keeps.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

impl Project {
    /// An enabled project at the top of a domain.
    pub fn new(id: impl Into<String>, name: impl Into<String>, domain_id: &str) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            domain_id: domain_id.to_owned(),
            parent_id: domain_id.to_owned(),
            description: String::new(),
            enabled: true,
            tags: Vec::new(),
            extra: BTreeMap::new(),
            options: Options::new(),
        }
    }
}

impl Resource for Project {
    kind!(Project: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::Unique(format!("project-name/{}/{}", self.domain_id, self.name)),
            Claim::Needs(Key::new(Kind::Domain, Realm::Cloud, self.domain_id.as_str())),
        ]
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, format!("{}/{}", self.domain_id, self.name))]
    }
}

/// A Keystone user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub enabled: bool,
    /// bcrypt; absent for users that cannot log in by password.
    pub password_hash: Option<String>,
    /// Hashes of former passwords, the newest first: as many as may not be used again.
    #[serde(default)]
    pub password_history: Vec<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub default_project_id: Option<String>,
    /// Attributes that Keystone does not know but keeps.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

impl User {
    /// Whether an option that is yes or no is yes.
    pub fn has(&self, option: &str) -> bool {
        self.options.get(option).is_some_and(|value| *value == true)
    }

    /// Whether these methods are enough to log in, of those that there are: all of one rule, where rules are in force.
    pub fn is_proved_by(&self, methods: &[&str], known: &[&str]) -> bool {
        let rules = self.options.get(option::RULES).and_then(Value::as_array).filter(|rules| !rules.is_empty());
        let Some(rules) = rules.filter(|_| self.has(option::SEVERAL_FACTORS)) else { return true };
        let holds = |method: &Value| method.as_str().is_some_and(|m| !known.contains(&m) || methods.contains(&m));
        rules.iter().any(|rule| rule.as_array().is_some_and(|all| all.iter().all(holds)))
    }
}

impl Resource for User {
    kind!(User: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::Unique(format!("user-name/{}/{}", self.domain_id, self.name)),
            Claim::Needs(Key::new(Kind::Domain, Realm::Cloud, self.domain_id.as_str())),
        ]
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, format!("{}/{}", self.domain_id, self.name))]
    }
}

/// A Keystone group of users.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    #[serde(default)]
    pub description: String,
    /// Ids of the users in it.
    #[serde(default)]
    pub members: Vec<String>,
}

impl Resource for Group {
    kind!(Group: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::Unique(format!("group-name/{}/{}", self.domain_id, self.name)),
            Claim::Needs(Key::new(Kind::Domain, Realm::Cloud, self.domain_id.as_str())),
        ]
    }
    fn index(&self) -> Vec<(Index, String)> {
        // Found by member: which groups a user is in is asked at every login.
        let members = self.members.iter().map(|user| (Index::Owner, user.clone()));
        members.chain([(Index::Name, format!("{}/{}", self.domain_id, self.name))]).collect()
    }
}

/// A Keystone role. `admin`, `manager`, `member`, `reader` imply each other downwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub domain_id: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

impl Resource for Role {
    kind!(Role: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Unique(format!("role-name/{}/{}", self.domain_id.as_deref().unwrap_or(""), self.name))]
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}

/// Who has a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    User(String),
    Group(String),
}

/// Where a role holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Project(String),
    Domain(String),
    System,
}

/// A role given to a user or group somewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub actor: Actor,
    pub target: Target,
    pub role_id: String,
    /// Holds in the projects below the target, not in the target itself.
    #[serde(default)]
    pub inherited: bool,
}

impl Resource for Assignment {
    kind!(Assignment);
    fn realm(&self) -> Realm {
        Realm::Cloud
    }
    fn name(&self) -> String {
        let actor = match &self.actor {
            Actor::User(id) => format!("user:{id}"),
            Actor::Group(id) => format!("group:{id}"),
        };
        let target = match &self.target {
            Target::Project(id) => format!("project:{id}"),
            Target::Domain(id) => format!("domain:{id}"),
            Target::System => "system".to_owned(),
        };
        format!("{actor}/{target}/{}{}", self.role_id, if self.inherited { "/inherited" } else { "" })
    }
    fn claims(&self) -> Vec<Claim> {
        let (kind, id) = match &self.actor {
            Actor::User(id) => (Kind::User, id),
            Actor::Group(id) => (Kind::Group, id),
        };
        let mut claims = vec![
            Claim::Needs(Key::new(kind, Realm::Cloud, id.as_str())),
            Claim::Needs(Key::new(Kind::Role, Realm::Cloud, self.role_id.as_str())),
        ];
        match &self.target {
            Target::Project(id) => claims.push(Claim::Needs(Key::new(Kind::Project, Realm::Cloud, id.as_str()))),
            Target::Domain(id) => claims.push(Claim::Needs(Key::new(Kind::Domain, Realm::Cloud, id.as_str()))),
            Target::System => {}
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let (Actor::User(id) | Actor::Group(id)) = &self.actor;
        vec![(Index::Owner, id.clone())]
    }
}

/// A Keystone application credential: part of a user's rights on one project, under a secret of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AppCredential {
    pub id: String,
    pub name: String,
    pub user_id: String,
    pub project_id: String,
    /// bcrypt of the secret, which is shown once.
    pub secret_hash: String,
    #[serde(default)]
    pub description: Option<String>,
    pub expires_at: Option<Time>,
    pub role_ids: Vec<String>,
    pub unrestricted: bool,
    #[serde(default)]
    pub access_rules: Vec<Value>,
    /// Which of its user's places it takes, below [`AppCredential::MOST`]; `None` only in a row of an older cloud.
    #[serde(default)]
    pub place: Option<u32>,
}

impl AppCredential {
    /// How many a user may have.
    pub const MOST: u32 = 200;
}

impl Resource for AppCredential {
    kind!(AppCredential: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![
            Claim::Unique(format!("application-credential-name/{}/{}", self.user_id, self.name)),
            Claim::Needs(Key::new(Kind::User, Realm::Cloud, self.user_id.as_str())),
            Claim::Needs(Key::new(Kind::Project, Realm::Cloud, self.project_id.as_str())),
        ];
        claims.extend(self.place.map(|n| Claim::Unique(format!("application-credential/{}/{n}", self.user_id))));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.user_id.clone())]
    }
}

/// A Keystone access rule of a user, which outlives the application credentials that it is in. They have copies of it, by
/// which the gate judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessRule {
    pub id: String,
    pub user_id: String,
    /// The name of the service in the catalog's types: `compute`.
    pub service: String,
    pub method: String,
    /// Below the service's prefix, with `{name}`, `*` and `**` as Keystone has them.
    pub path: String,
    /// Which of its user's places it takes, below [`AccessRule::MOST`].
    pub place: u32,
}

impl AccessRule {
    /// How many a user may have.
    pub const MOST: u32 = 1000;
}

impl Resource for AccessRule {
    kind!(AccessRule: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::Unique(format!("access-rule/{}/{}", self.user_id, self.place)),
            Claim::Needs(Key::new(Kind::User, Realm::Cloud, self.user_id.as_str())),
        ]
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.user_id.clone())]
    }
}

/// Tokens that are void although unexpired. Every condition that is given must match. Takes effect at the commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    pub id: String,
    /// One token, by its audit id.
    pub audit_id: Option<String>,
    /// A token and all that were made from it, by the first one's audit id.
    pub audit_chain_id: Option<String>,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    /// Tokens issued at or before this moment.
    pub issued_before: Time,
    /// From then on the row says nothing that the tokens' expiry does not; it can be deleted.
    pub expires_at: Time,
}

impl Resource for Revocation {
    kind!(Revocation: of the cloud);
    fn index(&self) -> Vec<(Index, String)> {
        [&self.audit_id, &self.audit_chain_id, &self.user_id, &self.project_id]
            .into_iter()
            .flatten()
            .map(|value| (Index::Owner, value.clone()))
            .collect()
    }
}

/// A key that makes (the newest) or once made (the others) tokens: Fernet, 32 bytes in URL-safe base64.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenKey {
    pub id: String,
    pub secret: String,
    pub created_at: Time,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Resource for TokenKey {
    kind!(TokenKey: of the cloud);
}
