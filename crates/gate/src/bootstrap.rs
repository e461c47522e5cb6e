//! The first rows of a cloud, as `keystone-manage bootstrap` makes them, plus a project to begin with.

use std::collections::BTreeMap;

use model::{
    Actor, Assignment, Change, DEFAULT_DOMAIN, Domain, Fault, Options, Project, Role, Setting, Snapshot, Target, Time,
    TokenKey, User,
};
use serde_json::json;

use crate::kube::SERVICE_ACCOUNT_KEY;
use crate::{Client, Gate, fernet, project_rows};

const ROLES: [&str; 5] = ["admin", "manager", "member", "reader", "service"];

impl Gate {
    /// Makes the first rows if there are none: domain Default, projects `admin` and `demo`, the roles, a user `admin`
    /// who is admin of both projects, the domain and the system, a user `demo` who is member of `demo`, and keys.
    /// Returns whether it did.
    pub async fn bootstrap(&self, admin_password: &str, demo_password: &str) -> Result<bool, Fault> {
        if is_done(&self.store.fresh().await?) {
            return Ok(false);
        }
        let admin = self.passwords.hash(admin_password, Client::UNKNOWN).await?;
        let demo = self.passwords.hash(demo_password, Client::UNKNOWN).await?;
        self.store
            .transact(|snapshot| match is_done(snapshot) {
                true => Ok((Change::new(), false)),
                false => Ok((first_rows(&admin, &demo, Time::now()), true)),
            })
            .await
    }
}

fn is_done(snapshot: &Snapshot) -> bool {
    snapshot.get::<Domain>(DEFAULT_DOMAIN).is_some()
}

/// The first rows, with these hashes as the passwords of `admin` and `demo`.
pub fn first_rows(admin_hash: &str, demo_hash: &str, now: Time) -> Change {
    let mut change = Change::from(Domain {
        id: DEFAULT_DOMAIN.into(),
        name: "Default".into(),
        description: "The default domain".into(),
        enabled: true,
        tags: Vec::new(),
        options: Options::new(),
    });
    let roles: BTreeMap<&str, String> = ROLES.into_iter().map(|name| (name, new_id())).collect();
    for (name, id) in &roles {
        change.create(Role {
            id: id.clone(),
            name: (*name).into(),
            domain_id: None,
            description: None,
            options: Options::new(),
        });
    }
    let mut project = |name: &str, description: &str| {
        let project = new_project(name, description);
        let id = project.id.clone();
        change.writes.extend(project_rows(project, now).writes);
        id
    };
    let admin_project = project("admin", "Bootstrap project for initializing the cloud.");
    let demo_project = project("demo", "A project to begin with.");
    let admin = new_user("admin", admin_hash, &admin_project);
    let demo = new_user("demo", demo_hash, &demo_project);
    let mut assign = |user: &User, role: &str, target: Target| {
        change.create(Assignment {
            actor: Actor::User(user.id.clone()),
            target,
            role_id: roles[role].clone(),
            inherited: false,
        });
    };
    assign(&admin, "admin", Target::Project(admin_project));
    assign(&admin, "admin", Target::Project(demo_project.clone()));
    assign(&admin, "admin", Target::Domain(DEFAULT_DOMAIN.into()));
    assign(&admin, "admin", Target::System);
    assign(&demo, "member", Target::Project(demo_project));
    change.create(admin);
    change.create(demo);
    change.create(new_key(now));
    change.create(Setting { name: SERVICE_ACCOUNT_KEY.into(), value: json!(fernet::random_text::<32>()) });
    change
}

/// A new key for tokens.
pub fn new_key(now: Time) -> TokenKey {
    TokenKey { id: new_id(), secret: fernet::Key::generate(), created_at: now }
}

/// A new id in Keystone's form: 32 hexadecimal digits.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A new secret that nobody can guess, for an application credential or a user without a person.
pub fn new_secret() -> String {
    fernet::random_text::<48>()
}

fn new_project(name: &str, description: &str) -> Project {
    Project { description: description.into(), ..Project::new(new_id(), name, DEFAULT_DOMAIN) }
}

fn new_user(name: &str, hash: &str, default_project: &str) -> User {
    User {
        id: new_id(),
        name: name.into(),
        domain_id: DEFAULT_DOMAIN.into(),
        enabled: true,
        password_hash: Some(hash.into()),
        password_history: Vec::new(),
        description: None,
        email: None,
        default_project_id: Some(default_project.into()),
        extra: BTreeMap::new(),
        options: Options::new(),
    }
}
