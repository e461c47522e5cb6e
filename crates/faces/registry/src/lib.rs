//! The cloud's OCI registry at `/v2/`, as in the OCI distribution specification: containerd and `docker push` speak to
//! it. Its bytes are blobs beside the VM images'; its records are [`model::OciManifest`] and [`model::OciTag`].
//!
//! A repository whose first part is the id or (in the domain Default) the name of a project belongs to that project and
//! to nobody else; all others are the cloud's own, which everybody may pull and administrators push. The credential is
//! a Keystone token, as a bearer token or as the password of any user name: `docker login -u token -p "$(openstack
//! token issue -f value -c id)"`.

mod blobs;
mod import;
mod manifests;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use gate::{Gate, Principal};
use http::{HeaderMap, Method, StatusCode, header};
use model::{Fault, Index, Project, Realm};
use serde_json::json;
use store::Store;

pub use import::{import, is_known};

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
        async move { registry.serve(request).await.unwrap_or_else(Refusal::response) }
    })
}

/// An error in the specification's words.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn unknown(code: &'static str, what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, format!("{what} is not known to the registry"))
    }

    fn response(self) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        put(response.headers_mut(), header::CONTENT_TYPE, "application/json");
        if self.status == StatusCode::UNAUTHORIZED {
            put(response.headers_mut(), header::WWW_AUTHENTICATE, "Basic realm=\"braid\"");
        }
        response
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let (status, code) = match &fault {
            Fault::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Fault::Forbidden(_) | Fault::Quota { .. } => (StatusCode::FORBIDDEN, "DENIED"),
            Fault::NotFound { .. } => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Fault::Conflict(_) | Fault::Stale(_) => (StatusCode::CONFLICT, "DENIED"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        };
        Self::new(status, code, fault.to_string())
    }
}

impl From<blob::BlobFault> for Refusal {
    fn from(fault: blob::BlobFault) -> Self {
        match &fault {
            blob::BlobFault::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", fault.to_string()),
            blob::BlobFault::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE", "the disk of the registry is full")
            }
            blob::BlobFault::Io { .. } => {
                tracing::error!("registry: {fault}");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the disk of the registry does not work")
            }
        }
    }
}

type Result<T> = std::result::Result<T, Refusal>;

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        headers.insert(name, value);
    }
}

/// A reply without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A request to one repository.
struct Call {
    repository: String,
    /// The project that owns it; empty: the cloud.
    project: String,
    request: Request,
}

impl Call {
    fn realm(&self) -> Realm {
        Realm::project(&self.project)
    }

    fn query(&self, name: &str) -> Option<String> {
        let query = self.request.uri().query().unwrap_or("");
        form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

impl Registry {
    async fn serve(&self, request: Request) -> Result<Response> {
        let path = request.uri().path().trim_start_matches("/v2").trim_matches('/').to_owned();
        let who = self.who(request.headers()).await?;
        if path.is_empty() {
            return self.ping(who.as_ref(), request.headers());
        }
        let (repository, noun, rest) = split(&path).ok_or_else(|| Refusal::unknown("NAME_UNKNOWN", "this path"))?;
        let project = self.owner(&repository);
        let write = !matches!(*request.method(), Method::GET | Method::HEAD);
        allowed(who.as_ref(), &project, write)?;
        let call = Call { repository, project, request };
        match noun {
            "manifests" => self.manifest(call, &rest).await,
            "blobs" if rest.starts_with("uploads") => {
                self.upload(call, rest.trim_start_matches("uploads").trim_matches('/')).await
            }
            "blobs" => self.blob(call, &rest).await,
            _ => self.tags(&call),
        }
    }

    /// `GET /v2/`: tells clients that there is a registry, and whether their credential is good.
    fn ping(&self, who: Option<&Principal>, headers: &HeaderMap) -> Result<Response> {
        // docker asks here whether it must log in; containerd never asks.
        if who.is_none()
            && headers.get(header::USER_AGENT).is_some_and(|a| a.to_str().is_ok_and(|a| a.starts_with("docker/")))
        {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "log in with a Keystone token"));
        }
        let mut response = Response::new(Body::from("{}"));
        put(response.headers_mut(), header::CONTENT_TYPE, "application/json");
        Ok(response)
    }

    /// Who asks; nobody, without a credential. A bad credential is refused even where none is needed.
    async fn who(&self, headers: &HeaderMap) -> Result<Option<Principal>> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let bad = || Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "this credential is not valid");
        let value = value.to_str().map_err(|_| bad())?;
        let (scheme, rest) = value.split_once(' ').ok_or_else(bad)?;
        let token = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => rest.trim().to_owned(),
            "basic" => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).map_err(|_| bad())?;
                let text = String::from_utf8(bytes).map_err(|_| bad())?;
                text.split_once(':').ok_or_else(bad)?.1.to_owned()
            }
            _ => return Err(bad()),
        };
        Ok(Some(self.gate.token(&token).await?))
    }

    /// The project that owns a repository, by the first part of its name.
    fn owner(&self, repository: &str) -> String {
        let Some((first, _)) = repository.split_once('/') else { return String::new() };
        let snapshot = self.store.snapshot();
        if let Some(project) = snapshot.get::<Project>(first) {
            return project.id.clone();
        }
        let name = format!("{}/{first}", model::DEFAULT_DOMAIN);
        let named = snapshot.find::<Project>(Index::Name, &name).next();
        named.map(|p| p.id.clone()).unwrap_or_default()
    }
}

/// Whether the repository of a project may be read or written. What may not be read is not there.
fn allowed(who: Option<&Principal>, project: &str, write: bool) -> Result<()> {
    let hidden = || match who {
        None => Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "log in with a Keystone token"),
        Some(_) => Refusal::unknown("NAME_UNKNOWN", "this repository"),
    };
    let admin = who.is_some_and(Principal::is_admin);
    let own = who.is_some_and(|w| w.project_id() == Some(project) && w.is_reader());
    let may_read = project.is_empty() || admin || own;
    let may_write = admin || (own && who.is_some_and(Principal::is_member));
    if !may_read || (write && who.is_none()) {
        return Err(hidden());
    }
    if write && !may_write {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", "you may not push to this repository"));
    }
    Ok(())
}

/// Repository, noun and the rest of a path below `/v2/`.
fn split(path: &str) -> Option<(String, &'static str, String)> {
    for noun in ["manifests", "blobs", "tags"] {
        let middle = format!("/{noun}/");
        if let Some(at) = path.rfind(&middle).or_else(|| path.find(&middle)) {
            let (name, rest) = (&path[..at], &path[at + middle.len()..]);
            let valid = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            };
            let fits = name.len() <= 255 && name.split('/').all(valid);
            return fits.then(|| (name.to_owned(), noun, rest.to_owned()));
        }
    }
    None
}

/// The hex part of a digest that the registry can have.
fn sha256_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(split("tiny/manifests/latest"), Some(("tiny".into(), "manifests", "latest".into())));
        assert_eq!(split("demo/web/blobs/uploads/1"), Some(("demo/web".into(), "blobs", "uploads/1".into())));
        assert_eq!(split("../manifests/latest"), Some(("..".into(), "manifests", "latest".into())));
        assert_eq!(split("UP/manifests/latest"), None);
        assert_eq!(split("tiny"), None);
    }
}
