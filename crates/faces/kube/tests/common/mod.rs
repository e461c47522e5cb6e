//! A cloud in memory with one cluster, and ways to ask it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use axum::body::Body;
use face_kube::{Kube, cluster_rows, router};
use gate::{Gate, NamedRef, Proof, ScopeRequest};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use model::{Change, Cluster, Network, Project, Time};
use serde_json::{Value, json};
use store::Store;
use tower::ServiceExt;

pub struct World {
    pub store: Store,
    pub gate: Arc<Gate>,
    pub router: axum::Router,
    pub cluster: Cluster,
    /// Of a member of the project that owns the cluster.
    pub token: String,
    /// Of an administrator of the cloud, in another project.
    pub stranger: String,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|kube| kube).await
    }

    /// A world whose face is finished by `finish`.
    pub async fn with(finish: impl FnOnce(Kube) -> Kube) -> Self {
        let store = Store::memory();
        let gate = Arc::new(Gate::with_cost(store.clone(), 4));
        gate.bootstrap("a", "d").await.unwrap();
        let snapshot = store.snapshot();
        let project = snapshot.all::<Project>().find(|p| p.name == "demo").unwrap().id.clone();
        let cluster = cluster(&project, "one");
        let mut change = Change::new();
        change.create(network(&project));
        change.create(cluster.clone());
        for row in cluster_rows(&cluster, Time::now()) {
            change.create(row);
        }
        store.commit(&change).await.unwrap();
        let token = login(&gate, "demo", "d", "demo").await;
        let stranger = login(&gate, "admin", "a", "admin").await;
        let router = router(finish(Kube::new(store.clone(), gate.clone())));
        Self { store, gate, router, cluster, token, stranger }
    }

    pub fn path(&self, path: &str) -> String {
        format!("/clusters/{}{path}", self.cluster.id)
    }

    pub async fn raw(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, bytes::Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }

    pub fn request(&self, method: Method, path: &str, media_type: &str, body: &Value) -> Request<Body> {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        Request::builder()
            .method(method)
            .uri(self.path(path))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", media_type)
            .header("user-agent", "test/1")
            .body(body)
            .unwrap()
    }

    pub async fn ask(&self, method: Method, path: &str, media_type: &str, body: Value) -> (u16, Value) {
        let (status, _, bytes) = self.raw(self.request(method, path, media_type, &body)).await;
        (status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, "application/json", Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(Method::POST, path, "application/json", body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PUT, path, "application/json", body).await
    }

    pub async fn patch(&self, path: &str, media_type: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PATCH, path, media_type, body).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(Method::DELETE, path, "application/json", body).await
    }
}

pub async fn login(gate: &Gate, user: &str, password: &str, project: &str) -> String {
    let named = |name: &str| NamedRef {
        name: Some(name.into()),
        domain: gate::DomainRef { id: Some("default".into()), name: None },
        ..NamedRef::default()
    };
    let proof = Proof::Password { user: named(user), password: password.into() };
    gate.login(vec![proof], ScopeRequest::Project(named(project)), gate::Client::UNKNOWN).await.unwrap().0
}

pub fn cluster(project: &str, name: &str) -> Cluster {
    Cluster {
        name: name.into(),
        service_prefix: 24,
        ..Cluster::new(format!("c-{name}"), &Network::new("n", project, 1, Time::now()), Time::now())
    }
}

fn network(project: &str) -> Network {
    serde_json::from_value(json!({
        "id": "n", "project_id": project, "name": "n", "admin_state_up": true, "shared": false, "external": false,
        "port_security_enabled": true, "mtu": 1450, "vni": 5, "created_at": Time::now(), "updated_at": Time::now()
    }))
    .unwrap()
}

pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "busybox:1"}]}})
}
