//! Nova's errors: one object named after the status, with code and message.

use model::{Entry, Fault, Kind, Pool, quota};
use serde_json::json;

use crate::call::Reply;
use crate::fault;
use crate::service::ErrorContext;

/// 404 in words of its own.
pub fn missing(text: impl Into<String>) -> Fault {
    Fault::NotFound { what: text.into(), id: String::new() }
}

/// The server is not there, or not for the caller.
pub fn no_server(id: &str) -> Fault {
    Fault::not_found(Kind::Server, id)
}

/// 501 for what Nova has and this cloud has not.
pub fn not_built(what: &str) -> Fault {
    Fault::NotImplemented(format!("{what} is not supported by this cloud."))
}

/// Turns a look-up that found nothing into 400, as Nova does for what a body refers to.
pub fn referred<'a, T>(found: Result<Entry<'a, T>, Fault>, text: impl Into<String>) -> Result<Entry<'a, T>, Fault> {
    found.map_err(|fault| match fault {
        Fault::NotFound { .. } => Fault::Invalid(text.into()),
        other => other,
    })
}

/// The refusal of a limit that is counted by hand, in the words of those counted by claims.
pub fn over(resource: &str, asked: u64, pool: Pool) -> Fault {
    let show = |n: u64| quota::limited(resource).map_or_else(|| n.to_string(), |l| l.show(n));
    Fault::Quota {
        resource: resource.to_owned(),
        asked: show(asked),
        used: show(pool.used),
        limit: pool.limit.map_or_else(|| "-1".to_owned(), show),
    }
}

fn message(fault: &Fault) -> String {
    match fault {
        Fault::NotFound { what, id } if id.is_empty() => what.clone(),
        Fault::NotFound { what, id } => match Kind::parse(what) {
            Some(Kind::Server) => format!("Instance {id} could not be found."),
            Some(Kind::ServerGroup) => format!("Instance group {id} could not be found."),
            Some(Kind::SecurityGroup) => format!("Security group {id} not found."),
            Some(Kind::Host) => format!("Compute host {id} could not be found."),
            Some(kind) => {
                let name = kind.as_str();
                let capital = name[..1].to_uppercase() + &name[1..];
                format!("{capital} {id} could not be found.")
            }
            None => "The resource could not be found.".to_owned(),
        },
        Fault::Quota { resource, asked, used, limit } => {
            format!("Quota exceeded for {resource}: Requested {asked}, but already used {used} of {limit} {resource}")
        }
        other => fault::message(other),
    }
}

/// Nova's form: `{"itemNotFound": {"code": 404, "message": …}}`. A missing token is refused by Keystone's middleware.
pub fn render(fault: &Fault, context: &ErrorContext<'_>) -> Reply {
    let status = fault::status(fault);
    let name = match status {
        400 => "badRequest",
        401 => return fault::keystone(fault, context),
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    };
    Reply::json(status, &json!({name: {"code": status, "message": message(fault)}}))
}
