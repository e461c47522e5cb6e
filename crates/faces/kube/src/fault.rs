//! What a client is told when a request fails: a `Status` object. Beside the model's faults, which know neither face,
//! this face needs the reasons and causes of Kubernetes' own API machinery.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use model::Fault;
use serde_json::{Value, json};

use crate::denied::{Cause, Denied};
use crate::names::Names;

/// A failed request, as `Status` tells it. Boxed: it is the rare case, and errors travel through many frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure(Box<Status>);

#[derive(Debug, Clone, PartialEq)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

/// What this face's own functions give.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Status { code, reason, message: message.into(), details: Value::Null }))
    }

    fn of(kind: &Names, name: &str, code: u16, reason: &'static str, message: String) -> Self {
        let mut details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            details["group"] = kind.group.as_str().into();
        }
        Self(Box::new(Status { code, reason, message, details }))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The URL leads nowhere.
    pub fn no_path() -> Self {
        let mut failure = Self::new(404, "NotFound", "the server could not find the requested resource");
        failure.0.details = json!({});
        failure
    }

    pub fn not_found(kind: &Names, name: &str) -> Self {
        Self::of(kind, name, 404, "NotFound", format!("{} \"{name}\" not found", kind.qualified()))
    }

    pub fn exists(kind: &Names, name: &str) -> Self {
        Self::of(kind, name, 409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.qualified()))
    }

    pub fn conflict(kind: &Names, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::of(kind, name, 409, "Conflict", message)
    }

    /// The object was written since the client read it.
    pub fn modified(kind: &Names, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// Other managers own fields that an apply would change: one cause for each.
    pub fn apply_conflict(causes: Vec<(String, String)>) -> Self {
        let mut message = match causes.len() {
            1 => "Apply failed with 1 conflict: ".to_owned(),
            n => format!("Apply failed with {n} conflicts: "),
        };
        let all: Vec<String> = causes.iter().map(|(m, f)| format!("{m}: {f}")).collect();
        message.push_str(&all.join("\n"));
        let causes: Vec<Value> = causes
            .into_iter()
            .map(|(message, field)| json!({"reason": "FieldManagerConflict", "message": message, "field": field}))
            .collect();
        let mut failure = Self::new(409, "Conflict", message);
        failure.0.details = json!({"causes": causes});
        failure
    }

    pub fn forbidden(kind: &Names, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", kind.qualified())
        } else {
            format!("{} \"{name}\" is forbidden: {why}", kind.qualified())
        };
        Self::of(kind, name, 403, "Forbidden", message)
    }

    /// The caller may not do this at all; `resource` is qualified, or a path.
    pub fn denied(message: String, group: &str, resource: &str, name: &str) -> Self {
        let mut failure = Self::new(403, "Forbidden", message);
        failure.0.details = json!({"kind": resource});
        if !name.is_empty() {
            failure.0.details["name"] = name.into();
        }
        if !group.is_empty() {
            failure.0.details["group"] = group.into();
        }
        failure
    }

    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// The revision asked for is not kept any more.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The client asks for a revision that does not exist yet.
    pub fn too_new(asked: u64, now: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {now}");
        let mut failure = Self::new(504, "Timeout", format!("Timeout: {message}"));
        failure.0.details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1
        });
        failure
    }

    pub fn too_many(message: impl Into<String>) -> Self {
        let mut failure = Self::new(429, "TooManyRequests", message);
        failure.0.details = json!({"retryAfterSeconds": 1});
        failure
    }

    /// The object breaks rules of its kind; each cause has reason, message and field.
    pub fn invalid(kind: &Names, name: &str, causes: Vec<Cause>) -> Self {
        let all: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let list = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        let qualified = if kind.group.is_empty() { kind.kind.clone() } else { format!("{}.{}", kind.kind, kind.group) };
        let message = format!("{qualified} \"{name}\" is invalid: {list}");
        let causes: Vec<Value> =
            causes.into_iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field})).collect();
        let mut details = json!({"name": name, "kind": kind.kind, "causes": causes});
        if !kind.group.is_empty() {
            details["group"] = kind.group.as_str().into();
        }
        Self(Box::new(Status { code: 422, reason: "Invalid", message, details }))
    }

    /// What a kind's own rules refuse.
    pub fn of_kind(kind: &Names, name: &str, denied: Denied) -> Self {
        match denied {
            Denied::Forbidden(why) => Self::forbidden(kind, name, &why),
            Denied::Invalid(causes) => Self::invalid(kind, name, causes),
            Denied::Exhausted(why) => Self::new(500, "InternalError", why),
        }
    }

    /// Replaces the details.
    pub fn set_details(&mut self, details: Value) {
        self.0.details = details;
    }

    pub fn code(&self) -> u16 {
        self.0.code
    }

    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The `Status` object.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "reason": self.0.reason, "code": self.0.code
        });
        if !self.0.details.is_null() {
            body["details"] = self.0.details.clone();
        }
        body
    }

    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.0.code {
            401 => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            429 | 504 => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let (code, reason) = match &fault {
            Fault::Invalid(_) => (400, "BadRequest"),
            Fault::Unprocessable(_) => (422, "Invalid"),
            Fault::Unauthorized(_) => return Self::unauthorized(),
            Fault::Forbidden(_) | Fault::Quota { .. } => (403, "Forbidden"),
            Fault::NotFound { .. } => (404, "NotFound"),
            Fault::Conflict(_) | Fault::Stale(_) | Fault::Exhausted(_) => (409, "Conflict"),
            Fault::MethodNotAllowed(_) => (405, "MethodNotAllowed"),
            Fault::NotAcceptable(_) => (406, "NotAcceptable"),
            Fault::Precondition(_) => (409, "Conflict"),
            Fault::Expired(_) => (410, "Expired"),
            Fault::TooLarge(_) => (413, "RequestEntityTooLarge"),
            Fault::MediaType(_) => (415, "UnsupportedMediaType"),
            Fault::NotImplemented(_) => (501, "NotImplemented"),
            Fault::Unavailable(_) => (503, "ServiceUnavailable"),
            Fault::Internal(text) => {
                tracing::error!("{text}");
                return Self::new(500, "InternalError", "Internal error occurred");
            }
        };
        if code == 503 {
            tracing::warn!("{fault}");
        }
        Self::new(code, reason, fault.to_string())
    }
}
