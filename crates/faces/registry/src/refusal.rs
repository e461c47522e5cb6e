//! Errors in the specification's words.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use model::Fault;
use serde_json::json;

use crate::put;

#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// What the answer says beside.
    pub headers: Box<HeaderMap>,
    /// What a client that logs in should ask to be allowed.
    pub scope: Option<String>,
}

pub type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Box::default(), scope: None }
    }

    pub fn unknown(code: &'static str, what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, format!("{what} is not known to the registry"))
    }

    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn log_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "log in with a Keystone token or an application credential")
    }

    pub fn bad_credential() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "this credential is not valid")
    }

    /// The answer to a client that reached the registry by the name of a host.
    pub fn response(self, host: Option<&str>) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        put(response.headers_mut(), header::CONTENT_TYPE, "application/json");
        if self.status == StatusCode::UNAUTHORIZED {
            let scope = self.scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
            // One scheme only: docker applies all that it is offered, one over the other.
            let challenge = match host {
                Some(host) => format!("Bearer realm=\"https://{host}/v2/token\",service=\"braid\"{scope}"),
                None => "Basic realm=\"braid\"".to_owned(),
            };
            put(response.headers_mut(), header::WWW_AUTHENTICATE, &challenge);
        }
        response
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let (status, code) = match &fault {
            Fault::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Fault::Forbidden(_) | Fault::Quota { .. } => (StatusCode::FORBIDDEN, "DENIED"),
            Fault::Invalid(_) | Fault::Unprocessable(_) => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
            Fault::NotFound { .. } => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Fault::Conflict(_) | Fault::Stale(_) => (StatusCode::CONFLICT, "DENIED"),
            Fault::Internal(text) => {
                tracing::error!("registry: {text}");
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry failed");
            }
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
            blob::BlobFault::Short { .. } => {
                tracing::warn!("registry: {fault}");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE", "the disk of the registry is full")
            }
            blob::BlobFault::Io { .. } => {
                tracing::error!("registry: {fault}");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the disk of the registry does not work")
            }
        }
    }
}
