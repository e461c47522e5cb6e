//! What can go wrong with a request, in terms of neither face. Each face turns a fault into the status and body that its
//! real service gives, as the last step.

use crate::{Key, Kind, Refused};

/// A request that cannot be served, with a sentence for whoever asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The request is malformed or asks for something invalid. 400.
    #[error("{0}")]
    Invalid(String),
    /// The content is well-formed but breaks a rule of the kind; Kubernetes' 422, OpenStack's 400.
    #[error("{0}")]
    Unprocessable(String),
    /// No valid credential. 401.
    #[error("{0}")]
    Unauthorized(String),
    /// The caller may not do this. 403.
    #[error("{0}")]
    Forbidden(String),
    /// The project's limit would be exceeded. 403 in both faces. Amounts are in the resource's own unit, see [`crate::quota`].
    #[error("quota exceeded for {resource}: asked {asked}, used {used}, limit {limit}")]
    Quota { resource: String, asked: String, used: String, limit: String },
    /// Nothing there, or nothing that the caller may know of. 404. Without an id `what` is a sentence of its own.
    #[error("{what}{}", if id.is_empty() { String::new() } else { format!(" '{id}' was not found") })]
    NotFound { what: String, id: String },
    /// The state of things forbids it. 409.
    #[error("{0}")]
    Conflict(String),
    /// The row was changed meanwhile and the caller had asked for a certain revision. 409.
    #[error("{0}")]
    Stale(String),
    /// No address, no room: claims of the cloud itself, not of the caller's quota. 409.
    #[error("{0}")]
    Exhausted(String),
    /// The method exists, but not for this thing. 405.
    #[error("{0}")]
    MethodNotAllowed(String),
    /// The version asked for is not supported. 406.
    #[error("{0}")]
    NotAcceptable(String),
    /// A condition of the request does not hold. 412.
    #[error("{0}")]
    Precondition(String),
    /// The revision asked for was compacted. 410.
    #[error("{0}")]
    Expired(String),
    /// The body is too large. 413.
    #[error("{0}")]
    TooLarge(String),
    /// The body's media type is not one that is understood. 415.
    #[error("{0}")]
    MediaType(String),
    /// The real service has it, this one does not. 501.
    #[error("{0}")]
    NotImplemented(String),
    /// A part that is needed does not answer; it may later. 503.
    #[error("{0}")]
    Unavailable(String),
    /// A bug or a broken disk. The sentence goes to the log, not to the caller. 500.
    #[error("{0}")]
    Internal(String),
}

impl Fault {
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    pub fn conflict(text: impl Into<String>) -> Self {
        Self::Conflict(text.into())
    }

    pub fn not_found(kind: Kind, id: impl Into<String>) -> Self {
        Self::NotFound { what: kind.as_str().to_owned(), id: id.into() }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stale(key) => {
                Self::Stale(format!("{} was changed by somebody else meanwhile; try again", short(&key)))
            }
            Refused::Taken { name, holder } => {
                Self::Conflict(format!("{name} is already in use by {}", short(&holder)))
            }
            Refused::Exceeded { pool, asked, used, limit } => match crate::quota::resource_of(&pool) {
                Some(resource) => Self::Quota {
                    resource: resource.name.to_owned(),
                    asked: resource.show(asked),
                    used: resource.show(used),
                    limit: resource.show(limit),
                },
                None => Self::Exhausted(format!(
                    "no room: {pool} has {used} of {limit} in use and {asked} more were asked for"
                )),
            },
            Refused::Missing(key) => Self::NotFound { what: key.kind.as_str().to_owned(), id: key.name.to_string() },
            Refused::InUse { key, users } => Self::Conflict(format!("{} is in use by {users} others", short(&key))),
        }
    }
}

fn short(key: &Key) -> String {
    format!("{} {}", key.kind.as_str(), key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_or_has_a_sentence_of_its_own() {
        assert_eq!(Fault::not_found(Kind::Image, "a").to_string(), "image 'a' was not found");
        let sentence = Fault::NotFound { what: "No image found with ID a".into(), id: String::new() };
        assert_eq!(sentence.to_string(), "No image found with ID a");
    }
}
