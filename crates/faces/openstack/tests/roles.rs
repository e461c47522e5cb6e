//! The third walk over the tables: every role against every row. What comes out is a table that a person can read,
//! `docs/roles.md`; this test holds it true. `BLESS=1` writes it anew, and its difference is what a reviewer looks at.

mod common;
#[path = "common/cloud.rs"]
mod rows;
#[path = "common/walking.rs"]
mod walking;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use common::Harness;
use face_openstack::access::Access;
use face_openstack::dispatch::Served;
use face_openstack::service::Endpoint;
use http::Method;
use model::{Actor, Assignment, Change, DEFAULT_DOMAIN, Group, Project, Realm, Role, Target, User};
use serde_json::{Value, json};
use walking::{fill_project, kind_of, version_for};

/// Who asks, in the order of the table's columns.
const WHO: [&str; 8] =
    ["nobody", "reader", "member", "manager", "domain manager", "admin", "system reader", "restricted"];

/// A token of a new user with a role somewhere.
async fn token(cloud: &Harness, name: &str, role: Option<&str>, target: &Target) -> String {
    let snapshot = cloud.cloud.store.snapshot();
    let hash = cloud.cloud.gate.passwords().hash("p", gate::Client::UNKNOWN).await.unwrap();
    let user = new_user(name, Some(hash));
    let id = user.id.clone();
    let mut change = Change::from(user);
    if let Some(role) = role {
        let role_id = role_id(cloud, role);
        let actor = Actor::User(id.clone());
        change.create(Assignment { actor, target: target.clone(), role_id, inherited: false });
    }
    cloud.cloud.store.commit(&change).await.unwrap();
    drop(snapshot);
    let user = gate::NamedRef { id: Some(id), ..Default::default() };
    let asked = match (role, target) {
        (None, _) => gate::ScopeRequest::Unscoped,
        (_, Target::Project(id)) => {
            gate::ScopeRequest::Project(gate::NamedRef { id: Some(id.clone()), ..Default::default() })
        }
        (_, Target::Domain(id)) => gate::ScopeRequest::Domain(gate::DomainRef { id: Some(id.clone()), name: None }),
        (_, Target::System) => gate::ScopeRequest::System,
    };
    let proof = gate::Proof::Password { user, password: "p".into() };
    cloud.cloud.gate.login(vec![proof], asked, gate::Client::UNKNOWN).await.unwrap().0
}

fn role_id(cloud: &Harness, name: &str) -> String {
    cloud.cloud.store.snapshot().all::<Role>().find(|r| r.value.name == name).unwrap().id.clone()
}

fn new_user(name: &str, hash: Option<String>) -> User {
    User {
        id: gate::new_id(),
        name: name.into(),
        domain_id: DEFAULT_DOMAIN.into(),
        enabled: true,
        password_hash: hash,
        password_history: Vec::new(),
        description: None,
        email: None,
        default_project_id: None,
        extra: BTreeMap::new(),
        options: Default::default(),
    }
}

/// A token of an application credential of the user `demo` that is good for one path only.
async fn restricted(cloud: &Harness) -> String {
    let rule = json!({"service": "identity", "method": "GET", "path": "/v3/regions"});
    let body = json!({"application_credential": {"name": "narrow", "access_rules": [rule]}});
    let who = cloud.cloud.gate.inspect(&cloud.demo).await.unwrap();
    let path = format!("/identity/v3/users/{}/application_credentials", who.user_id);
    let (_, _, made) = cloud.ok("POST", &path, &cloud.demo, body).await;
    let made = &made["application_credential"];
    let proof = gate::Proof::AppCredential {
        id: Some(common::text(&made["id"]).to_owned()),
        name: None,
        user: gate::NamedRef::default(),
        secret: common::text(&made["secret"]).to_owned(),
    };
    cloud.cloud.gate.login(vec![proof], gate::ScopeRequest::Default, gate::Client::UNKNOWN).await.unwrap().0
}

/// Fresh things of the domain Default, which a request may change or delete.
async fn spare(cloud: &Harness) -> BTreeMap<&'static str, String> {
    let name = gate::new_id();
    let user = new_user(&name, None);
    let project = Project::new(gate::new_id(), name.as_str(), DEFAULT_DOMAIN);
    let group = Group {
        id: gate::new_id(),
        name: name.clone(),
        domain_id: DEFAULT_DOMAIN.into(),
        description: String::new(),
        members: Vec::new(),
    };
    let ids = BTreeMap::from([
        ("{user_id}", user.id.clone()),
        ("{project_id}", project.id.clone()),
        ("{group_id}", group.id.clone()),
        ("{domain_id}", DEFAULT_DOMAIN.to_owned()),
        ("{role_id}", role_id(cloud, "reader")),
        ("{implied_id}", role_id(cloud, "service")),
    ]);
    let mut change = gate::project_rows(project, model::Time::now());
    change.create(user).create(group);
    cloud.cloud.store.commit(&change).await.unwrap();
    ids
}

/// The path with ids: what is only looked at is the project's own; what may be changed is nobody's, so that the walk
/// goes on; in the identity service it is made for the purpose.
async fn path_of(cloud: &Harness, service: &Served, endpoint: &Endpoint) -> String {
    let spare = if service.name == "identity" { spare(cloud).await } else { BTreeMap::new() };
    let snapshot = cloud.cloud.store.snapshot();
    let own = Realm::project(&cloud.demo_project);
    let mut parts: Vec<String> = Vec::new();
    for part in endpoint.path.split('/') {
        let kind = parts.last().and_then(|collection| kind_of(collection));
        let looked_at = kind.filter(|_| endpoint.method.is_safe() && service.name != "identity").and_then(|kind| {
            let mut rows = snapshot.rows().filter(|row| row.key.kind == kind && row.key.realm == own);
            rows.next().map(|row| row.key.name.to_string())
        });
        parts.push(match part.strip_prefix('{') {
            None => part.to_owned(),
            Some("project}") => cloud.demo_project.clone(),
            Some(_) if parts.last().is_some_and(|c| c == "os-quota-sets" || c == "os-simple-tenant-usage") => {
                cloud.demo_project.clone()
            }
            Some(_) => spare.get(part).cloned().or(looked_at).unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        });
    }
    format!("{}{}", service.prefix, parts.join("/"))
}

/// A body of nothing but the resource's name: enough to be let in, too little to be done.
fn body_of(endpoint: &Endpoint) -> Value {
    if matches!(endpoint.method, Method::GET | Method::HEAD | Method::DELETE) { Value::Null } else { json!({}) }
}

async fn answer(cloud: &Harness, service: &Served, endpoint: &Endpoint, token: &str) -> &'static str {
    let path = path_of(cloud, service, endpoint).await;
    let headers = version_for(service, endpoint);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (status, ..) = cloud.call_with(endpoint.method.as_str(), &path, token, &headers, body_of(endpoint)).await;
    assert!(status != 500, "{} {path}", endpoint.method);
    if matches!(status, 401 | 403) { "" } else { "yes" }
}

const HEAD: &str = "# Who may call what

Every row of the tables of the OpenStack services against every role; what is public is left out. `yes`: the request is let
in; what it may see and change then is its project's, its domain's or everything. Written and held true by
`cargo test -p face-openstack --test roles` (`BLESS=1` writes it anew).

A *reader*, *member* and *manager* have the role on a project, a *domain manager* is `manager` of a domain (and asks for
things in it), an *admin* has the role on any project, a *system reader* is `reader` of the system, *nobody* has no role, and
*restricted* is a member's application credential whose access rules name `GET /v3/regions` of the identity service only.
";

#[tokio::test]
async fn every_role_may_what_the_table_says() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let project = Target::Project(cloud.demo_project.clone());
    let tokens = [
        token(&cloud, "a", None, &project).await,
        token(&cloud, "b", Some("reader"), &project).await,
        token(&cloud, "c", Some("member"), &project).await,
        token(&cloud, "d", Some("manager"), &project).await,
        token(&cloud, "e", Some("manager"), &Target::Domain(DEFAULT_DOMAIN.into())).await,
        token(&cloud, "f", Some("admin"), &project).await,
        token(&cloud, "g", Some("reader"), &Target::System).await,
        restricted(&cloud).await,
    ];
    let mut text = HEAD.to_owned();
    let face = cloud.face.clone();
    let mut services: Vec<&Served> = face.services().collect();
    services.sort_by_key(|service| service.name);
    for service in services {
        let _ =
            write!(text, "\n## {}\n\n| | {} |\n|{}\n", service.name, WHO.join(" | "), " --- |".repeat(WHO.len() + 1));
        for endpoint in service.endpoints.iter().filter(|e| e.access != Access::Public) {
            let mut cells = Vec::new();
            for token in &tokens {
                // A token that is taken back is of no use to the rest of the walk.
                let revokes = endpoint.method == Method::DELETE && endpoint.path == "/v3/auth/tokens";
                let cell = if revokes { "" } else { answer(&cloud, service, endpoint, token).await };
                cells.push(cell);
            }
            let _ = writeln!(text, "| {} `{}` | {} |", endpoint.method, endpoint.path, cells.join(" | "));
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/roles.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap_or_default();
    for (line, (is, should)) in text.lines().zip(written.lines()).enumerate() {
        assert_eq!(is, should, "line {} of docs/roles.md: BLESS=1 writes it as it is now", line + 1);
    }
    assert_eq!(text, written, "docs/roles.md: BLESS=1 writes it as it is now");
}
