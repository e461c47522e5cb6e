//! A registry in memory with two projects, and ways to ask it.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use face_registry::Registry;
use gate::{Client, DomainRef, Gate, NamedRef, Proof, ScopeRequest, project_rows};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use model::{Actor, AppCredential, Assignment, Change, Project, Quota, Role, Target, Time, User};
use serde_json::{Value, json};
use store::Store;
use tower::ServiceExt;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const DEMO_PASSWORD: &str = "d";

pub struct World {
    pub store: Store,
    pub gate: Arc<Gate>,
    pub blobs: blob::Blobs,
    pub registry: Registry,
    router: axum::Router,
    pub admin: String,
    /// Of a member of the project `demo`.
    pub demo: String,
    /// Of a member of the project `other`.
    pub other: String,
    _dir: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.status, self.text()))
    }

    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

pub fn hex(bytes: &[u8]) -> String {
    blob::sha256(bytes)
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::memory();
        let gate = Arc::new(Gate::with_cost(store.clone(), 4));
        gate.bootstrap("a", DEMO_PASSWORD).await.unwrap();
        let blobs = blob::Blobs::new(dir.path());
        let registry = Registry::new(store.clone(), blobs.clone(), gate.clone());
        let router = face_registry::router(registry.clone());
        let mut world = Self {
            store,
            gate,
            blobs,
            registry,
            router,
            admin: String::new(),
            demo: String::new(),
            other: String::new(),
            _dir: dir,
        };
        let other = Project::new(gate::new_id(), "other", model::DEFAULT_DOMAIN);
        world.store.commit(&project_rows(other, Time::now())).await.unwrap();
        world.admin = world.login("admin", "a", "admin").await;
        world.demo = world.login("demo", DEMO_PASSWORD, "demo").await;
        world.other = world.user("stranger", "other", "member").await;
        world
    }

    async fn login(&self, user: &str, password: &str, project: &str) -> String {
        let named = |name: &str| NamedRef {
            name: Some(name.into()),
            domain: DomainRef { id: Some("default".into()), name: None },
            ..NamedRef::default()
        };
        let proof = Proof::Password { user: named(user), password: password.into() };
        self.gate.login(vec![proof], ScopeRequest::Project(named(project)), Client::UNKNOWN).await.unwrap().0
    }

    pub fn project(&self, name: &str) -> String {
        self.store.snapshot().all::<Project>().find(|p| p.name == name).unwrap().id.clone()
    }

    /// A token of a new user with a role on a project.
    pub async fn user(&self, name: &str, project: &str, role: &str) -> String {
        let snapshot = self.store.snapshot();
        let role_id = snapshot.all::<Role>().find(|r| r.name == role).unwrap().id.clone();
        let user = User {
            id: gate::new_id(),
            name: name.into(),
            domain_id: model::DEFAULT_DOMAIN.into(),
            enabled: true,
            password_hash: Some(self.gate.passwords().hash(name, Client::UNKNOWN).await.unwrap()),
            password_history: Vec::new(),
            description: None,
            email: None,
            default_project_id: None,
            extra: BTreeMap::new(),
            options: Default::default(),
        };
        let mut change = Change::new();
        change.create(Assignment {
            actor: Actor::User(user.id.clone()),
            target: Target::Project(self.project(project)),
            role_id,
            inherited: false,
        });
        change.create(user);
        self.store.commit(&change).await.unwrap();
        self.login(name, name, project).await
    }

    /// Id and secret of an application credential of the user `demo` on the project `demo`.
    pub async fn credential(&self, name: &str, rules: Value) -> (String, String) {
        let snapshot = self.store.snapshot();
        let user = snapshot.all::<User>().find(|u| u.name == "demo").unwrap();
        let role = snapshot.all::<Role>().find(|r| r.name == "member").unwrap();
        let secret = gate::new_secret();
        let row: AppCredential = serde_json::from_value(json!({
            "id": gate::new_id(), "name": name, "user_id": user.id, "project_id": self.project("demo"), "description": null,
            "secret_hash": self.gate.passwords().hash(&secret, Client::UNKNOWN).await.unwrap(), "role_ids": [role.id],
            "expires_at": null, "unrestricted": false, "access_rules": rules,
        }))
        .unwrap();
        let id = row.id.clone();
        self.store.commit(&Change::from(row)).await.unwrap();
        (id, secret)
    }

    pub async fn rename(&self, project: &str, name: &str) {
        let snapshot = self.store.snapshot();
        let row = snapshot.get::<Project>(&self.project(project)).unwrap();
        let mut change = Change::new();
        change.update(row, Project { name: name.into(), ..row.value.clone() });
        self.store.commit(&change).await.unwrap();
    }

    pub async fn limit(&self, project: &str, resource: &str, limit: u64) {
        let snapshot = self.store.snapshot();
        let row = snapshot.get::<Quota>(&self.project(project)).unwrap();
        let mut new = row.value.clone();
        new.limits.insert(resource.into(), Some(limit));
        let mut change = Change::new();
        change.update(row, new);
        self.store.commit(&change).await.unwrap();
    }

    pub fn bearer(&self, token: &str) -> String {
        if token.is_empty() { String::new() } else { format!("Bearer {token}") }
    }

    pub async fn ask_with(&self, method: &str, path: &str, auth: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(method, path, auth, headers, Body::from(body.to_owned())).await
    }

    /// A request whose body comes as it comes.
    pub async fn send(&self, method: &str, path: &str, auth: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request =
            Request::builder().method(method).uri(format!("/v2/{path}")).header("host", "cloud.example:8443");
        for (name, value) in headers.iter().chain(&[("authorization", auth)]).filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn ask(&self, method: &str, path: &str, auth: &str, media_type: &str, body: &str) -> Answer {
        self.ask_with(method, path, auth, &[("content-type", media_type)], body).await
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.ask("GET", path, &self.bearer(token), "", "").await
    }

    pub async fn delete(&self, token: &str, path: &str) -> Answer {
        self.ask("DELETE", path, &self.bearer(token), "", "").await
    }

    pub async fn post(&self, token: &str, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &self.bearer(token), "application/octet-stream", body).await
    }

    pub async fn put(&self, token: &str, path: &str, media_type: &str, body: String) -> Answer {
        self.ask("PUT", path, &self.bearer(token), media_type, &body).await
    }

    pub async fn push_blob(&self, token: &str, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let path = format!("{repository}/blobs/uploads/?digest={digest}");
        let answer = self.post(token, &path, std::str::from_utf8(bytes).unwrap()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    /// An image of one layer; the manifest's digest.
    pub async fn push(&self, token: &str, repository: &str, tag: &str, layer: &[u8]) -> String {
        let layer = self.push_blob(token, repository, layer).await;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [{"digest": layer}]});
        let path = format!("{repository}/manifests/{tag}");
        let answer = self.put(token, &path, MANIFEST, manifest.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.header("docker-content-digest")
    }
}
