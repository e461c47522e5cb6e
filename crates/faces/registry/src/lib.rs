//! The cloud's OCI registry at `/v2/`, as in the OCI distribution specification 1.1: docker, podman, skopeo, helm and
//! containerd speak to it. Its bytes are blobs beside the VM images'; its records are [`model::OciBlob`],
//! [`model::OciManifest`] and [`model::OciTag`].
//!
//! * `names`: what a path asks for, and whose repository it is; `digest`: what bytes are called
//! * `auth`: who asks, and the token endpoint
//! * `blobs`, `uploads`, `manifests`, `lists`: the verbs; `content`: what a manifest says
//! * `import`: from a file, at the first start
//! * `keep`: which blobs stay, and what older stores say of them
//!
//! That bytes are in the store opens them to nobody: every blob is looked up as a row of the repository's project.

mod auth;
mod blobs;
mod content;
mod digest;
mod import;
mod keep;
mod lists;
mod manifests;
mod names;
mod refusal;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use gate::audit::Actor;
use gate::{Gate, Principal};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use model::Realm;
use store::Store;

use crate::names::{Repository, Route};
use crate::refusal::{Refusal, Result};

pub use import::{import, is_known};
pub use keep::{adopt, release};
pub use names::is_readable;

/// What the registry works with.
#[derive(Clone)]
pub struct Registry {
    store: Store,
    blobs: blob::Blobs,
    gate: Arc<Gate>,
    uploads: Arc<uploads::Uploads>,
}

impl Registry {
    pub fn new(store: Store, blobs: blob::Blobs, gate: Arc<Gate>) -> Self {
        Self { store, blobs, gate, uploads: Arc::default() }
    }
}

/// The face as a router, to be mounted at the root.
pub fn router(registry: Registry) -> Router {
    Router::new().fallback(move |request: Request| {
        let registry = registry.clone();
        async move { registry.answer(request).await }
    })
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        headers.insert(name, value);
    }
}

const DIGEST: header::HeaderName = header::HeaderName::from_static("docker-content-digest");

/// A reply without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn json(value: &serde_json::Value, media_type: &str) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    put(response.headers_mut(), header::CONTENT_TYPE, media_type);
    response
}

/// A value of a query.
fn query(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or("");
    form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

/// All values of a query, in their order.
fn queries(uri: &Uri, name: &str) -> Vec<String> {
    let query = uri.query().unwrap_or("");
    form_urlencoded::parse(query.as_bytes()).filter(|(n, _)| n == name).map(|(_, value)| value.into_owned()).collect()
}

/// A number of digits alone: Rust would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A request to one repository, by somebody who may make it; without its body.
struct Call {
    repository: Repository,
    who: Option<Principal>,
    /// By which it is known who asks.
    token: Option<String>,
    request: Parts,
}

impl Call {
    fn realm(&self) -> Realm {
        Realm::project(&self.repository.project)
    }

    fn query(&self, name: &str) -> Option<String> {
        query(&self.request.uri, name)
    }

    fn queries(&self, name: &str) -> Vec<String> {
        queries(&self.request.uri, name)
    }

    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.request.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn unsupported(&self) -> Refusal {
        let message = format!("{} is not served here", self.request.method);
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }
}

impl Registry {
    async fn answer(&self, request: Request) -> Response {
        let (request, body) = request.into_parts();
        let (method, path) = (request.method.clone(), request.uri.path().to_owned());
        let host = auth::host_of(&request);
        let mut actor = Actor::default();
        let served = self.serve(request, body, &mut actor).await;
        let mut response = served.unwrap_or_else(|refusal| refusal.response(host.as_deref()));
        let version = header::HeaderName::from_static("docker-distribution-api-version");
        put(response.headers_mut(), version, "registry/2.0");
        // What people push is no page, whatever a browser makes of it.
        put(response.headers_mut(), header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if !method.is_safe() {
            let id = format!("req-{}", uuid::Uuid::new_v4());
            gate::audit::record(&actor, method.as_str(), &path, response.status().as_u16(), &id);
        }
        response
    }

    async fn serve(&self, request: Parts, body: Body, actor: &mut Actor) -> Result<Response> {
        let path = request.uri.path();
        let route = path.strip_prefix("/v2").and_then(Route::of);
        if matches!(route, Some(Route::Token)) {
            return self.token(&request, body).await;
        }
        let (token, who) = self.who(&request).await?.unzip();
        *actor = Actor::of(who.as_ref());
        let Some(route) = route else {
            return Err(match who {
                None => Refusal::log_in(),
                Some(_) => Refusal::unknown("UNSUPPORTED", "this path"),
            });
        };
        let (name, verb) = match route {
            Route::Base | Route::Catalog if who.is_none() => return Err(Refusal::log_in()),
            Route::Base => return Ok(json(&serde_json::json!({}), "application/json")),
            Route::Catalog => return self.catalog(&request.uri, who.as_ref()),
            Route::Repository(name, verb) => (name, verb),
            Route::Token => return Err(Refusal::log_in()),
        };
        let write = !matches!(request.method, Method::GET | Method::HEAD);
        let repository = self.repository(&name, who.as_ref())?;
        self.permit(&repository, who.as_ref(), write)?;
        let call = Call { repository, who, token, request };
        match verb {
            names::Verb::Manifest(reference) => self.manifest(&call, body, &reference).await,
            names::Verb::Upload(id) => self.upload(&call, body, &id).await,
            names::Verb::Blob(digest) => self.blob(&call, &digest).await,
            names::Verb::Tags => self.tags(&call),
            names::Verb::Referrers(digest) => self.referrers(&call, &digest),
        }
    }
}
