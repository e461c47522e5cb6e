//! Placement's errors: a list of one, with the request's id.

use model::Fault;
use serde_json::json;

use crate::call::Reply;
use crate::fault;
use crate::service::ErrorContext;

/// 404 in words of its own.
pub fn missing(text: impl Into<String>) -> Fault {
    Fault::NotFound { what: text.into(), id: String::new() }
}

/// The sentence that webob puts before every detail.
fn preface(status: u16) -> &'static str {
    match status {
        400 => "The server could not comply with the request since it is either malformed or otherwise incorrect.",
        403 => "Access was denied to this resource.",
        404 => "The resource could not be found.",
        405 => "The method specified is not allowed for this resource.",
        406 => "The resource could not be generated that was acceptable to your browser.",
        _ => "",
    }
}

/// Placement's form.
pub fn render(fault: &Fault, context: &ErrorContext<'_>) -> Reply {
    let status = fault::status(fault);
    if status == 401 {
        return fault::keystone(fault, context);
    }
    let title = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
    let message = match fault {
        Fault::NotFound { what, id } if id.is_empty() => what.clone(),
        other => fault::message(other),
    };
    let mut error = json!({
        "status": status, "title": title, "request_id": context.request_id,
        "detail": format!("{}\n\n {message}  ", preface(status)),
    });
    if context.version >= (1, 23) {
        error["code"] = json!("placement.undefined_code");
    }
    if let Some(versions) = context.service.microversions.as_ref().filter(|_| status == 406) {
        error["min_version"] = json!(format!("{}.{}", versions.min.0, versions.min.1));
        error["max_version"] = json!(format!("{}.{}", versions.max.0, versions.max.1));
    }
    Reply::json(status, &json!({"errors": [error]}))
}
