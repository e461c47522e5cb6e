//! The whole face in one process: a store in memory, bootstrapped, called without a socket.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::sync::Arc;

use axum::body::Body;
use face_openstack::dispatch::Face;
use face_openstack::{Cloud, HostAnswer, HostStreams, SERVICES};
use gate::Gate;
use http::{HeaderMap, Request};
use model::Fault;
use serde_json::{Value, json};
use store::Store;

pub const ADMIN_PASSWORD: &str = "admin-secret";
pub const DEMO_PASSWORD: &str = "demo-secret";

/// A cloud without hosts: what needs one answers 503.
struct NoHosts;

impl HostStreams for NoHosts {
    fn get<'a>(&'a self, endpoint: &'a str, _path: &'a str, _limit: usize) -> HostAnswer<'a> {
        Box::pin(async move { Err(Fault::Unavailable(format!("no host answers at {endpoint}"))) })
    }
}

pub struct Harness {
    pub cloud: Cloud,
    pub face: Arc<Face>,
    /// Of the user `admin`, admin of the project `admin`.
    pub admin: String,
    /// Of the user `demo`, member of the project `demo`.
    pub demo: String,
    pub demo_project: String,
    pub admin_project: String,
    /// Holds the blobs; goes with the harness.
    _dir: tempfile::TempDir,
}

pub type Answer = (u16, HeaderMap, Value);

impl Harness {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::memory();
        let gate = Arc::new(Gate::with_cost(store.clone(), 4));
        assert!(gate.bootstrap(ADMIN_PASSWORD, DEMO_PASSWORD).await.expect("bootstrap"));
        let cloud = Cloud {
            store,
            blobs: blob::Blobs::new(dir.path().join("blobs")),
            gate,
            base_url: "https://127.0.0.1:8443".into(),
            region: "RegionOne".into(),
            streams: Arc::new(NoHosts),
            uploads: Default::default(),
            reach: Default::default(),
        };
        let face = Arc::new(Face::new(cloud.clone(), SERVICES));
        let mut harness = Self {
            cloud,
            face,
            admin: String::new(),
            demo: String::new(),
            demo_project: String::new(),
            admin_project: String::new(),
            _dir: dir,
        };
        harness.admin = harness.login("admin", ADMIN_PASSWORD, "admin").await;
        harness.demo = harness.login("demo", DEMO_PASSWORD, "demo").await;
        harness.demo_project = harness.project_of(&harness.demo).await;
        harness.admin_project = harness.project_of(&harness.admin).await;
        harness
    }

    /// A token for a project of the default domain, by password.
    pub async fn login(&self, user: &str, password: &str, project: &str) -> String {
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": user, "password": password, "domain": domain}}},
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let (status, headers, body) = self.call("POST", "/identity/v3/auth/tokens", "", body).await;
        assert_eq!(status, 201, "{user} cannot log in to {project}: {body}");
        headers["x-subject-token"].to_str().expect("text").to_owned()
    }

    /// A new project of the default domain with a new user of the same name who has a role on it: a token of theirs.
    pub async fn tenant(&self, name: &str, role: &str) -> String {
        let admin = &self.admin;
        let body = json!({"project": {"name": name}});
        let (_, _, project) = self.ok("POST", "/identity/v3/projects", admin, body).await;
        let body = json!({"user": {"name": name, "password": name}});
        let (_, _, user) = self.ok("POST", "/identity/v3/users", admin, body).await;
        let (_, _, roles) = self.ok("GET", &format!("/identity/v3/roles?name={role}"), admin, Value::Null).await;
        let path = format!(
            "/identity/v3/projects/{}/users/{}/roles/{}",
            text(&project["project"]["id"]),
            text(&user["user"]["id"]),
            text(&roles["roles"][0]["id"])
        );
        self.ok("PUT", &path, admin, Value::Null).await;
        self.login(name, name, name).await
    }

    pub async fn project_of(&self, token: &str) -> String {
        let who = self.cloud.gate.inspect(token).await.expect("a valid token");
        who.project_id().expect("a project").to_owned()
    }

    /// Calls the face. An empty token is none, a `Null` body is none; a body that is not JSON comes as a string.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        self.call_with(method, path, token, &[], body).await
    }

    /// As [`Harness::call`], with further headers.
    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut with = vec![("content-type", "application/json")];
        with.extend(headers);
        let (status, headers, bytes) = self.raw(method, path, token, &with, bytes).await;
        let value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(_) if bytes.is_empty() => Value::Null,
            Err(_) => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        };
        (status, headers, value)
    }

    /// As [`Harness::call_with`], with bytes both ways.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("x-auth-token", token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).expect("a request");
        let response = self.face.clone().dispatch(request).await;
        let (parts, body) = response.into_parts();
        let bytes = face_openstack::call::read(body, 64 << 20).await.expect("a body");
        (parts.status.as_u16(), parts.headers, bytes.to_vec())
    }

    /// As [`Harness::call`]; anything but a 2xx fails the test.
    pub async fn ok(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let sent = body.to_string();
        let answer = self.call(method, path, token, body).await;
        assert!((200..300).contains(&answer.0), "{method} {path} {sent}: {} {}", answer.0, answer.2);
        answer
    }
}

/// The text of a JSON string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}
