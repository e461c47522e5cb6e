//! How the services word their errors. Each has its own body; the statuses are shared.

use model::Fault;
use serde_json::json;

use crate::call::Reply;
use crate::service::ErrorContext;

/// The HTTP status of a fault in OpenStack's services.
pub fn status(fault: &Fault) -> u16 {
    match fault {
        Fault::Invalid(_) | Fault::Unprocessable(_) => 400,
        Fault::Unauthorized(_) => 401,
        Fault::Forbidden(_) | Fault::Quota { .. } => 403,
        Fault::NotFound { .. } => 404,
        Fault::MethodNotAllowed(_) => 405,
        Fault::NotAcceptable(_) => 406,
        Fault::Conflict(_) | Fault::Stale(_) | Fault::Exhausted(_) => 409,
        Fault::Expired(_) => 410,
        Fault::Precondition(_) => 412,
        Fault::TooLarge(_) => 413,
        Fault::MediaType(_) => 415,
        Fault::Internal(_) => 500,
        Fault::NotImplemented(_) => 501,
        Fault::Unavailable(_) => 503,
    }
}

/// The words for the caller: a bug's details stay in the log.
pub fn message(fault: &Fault) -> String {
    match fault {
        Fault::Internal(_) => "An unexpected error prevented the server from fulfilling your request.".to_owned(),
        other => other.to_string(),
    }
}

/// Writes what the operator should know to the log, where the fault is handled.
pub fn log(fault: &Fault, service: &str, path: &str, request_id: &str) {
    match fault {
        Fault::Internal(_) | Fault::Unavailable(_) => tracing::error!(service, path, request_id, "{fault}"),
        _ => tracing::debug!(service, path, request_id, "{fault}"),
    }
}

/// Keystone's sentence for a fault.
fn keystone_message(fault: &Fault) -> String {
    match fault {
        Fault::NotFound { what, .. } if what == "token" => "Failed to validate token".to_owned(),
        Fault::NotFound { what, .. } if what == "resource" => {
            "The requested URL was not found on the server. If you entered the URL manually please check your spelling \
             and try again."
                .to_owned()
        }
        Fault::NotFound { what, id } => format!("Could not find {what}: {id}."),
        other => message(other),
    }
}

/// Keystone's form: `{"error": {"code", "message", "title"}}`.
pub fn keystone(fault: &Fault, context: &ErrorContext<'_>) -> Reply {
    let status = status(fault);
    let title = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
    let reply =
        Reply::json(status, &json!({"error": {"code": status, "message": keystone_message(fault), "title": title}}));
    if status == 401 {
        return reply.with("www-authenticate", &format!("Keystone uri=\"{}/identity\"", context.base_url));
    }
    reply
}
