//! Neutron's errors: a status, a type by which clients tell them apart, and a sentence. Faults of the store and the gate
//! are turned into the same form as the last step.

use gate::Ref;
use model::{Entry, Fault, Kind, Resource};
use serde_json::json;

use crate::call::Reply;
use crate::fault;
use crate::service::ErrorContext;

/// Why a request to Neutron fails.
#[derive(Debug)]
pub enum NeutronError {
    /// An error with a type of Neutron's own.
    Own { status: u16, kind: &'static str, message: String },
    /// Anything that is not particular to Neutron.
    Fault(Fault),
}

impl From<Fault> for NeutronError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl NeutronError {
    fn own(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self::Own { status, kind, message: message.into() }
    }

    /// 400 with a type.
    pub fn bad(kind: &'static str, message: impl Into<String>) -> Self {
        Self::own(400, kind, message)
    }

    /// 400 as the API layer words it, before any resource is looked at.
    pub fn http_bad(message: impl Into<String>) -> Self {
        Self::own(400, "HTTPBadRequest", message)
    }

    /// `Invalid input for operation: …`
    pub fn invalid(message: impl std::fmt::Display) -> Self {
        Self::own(400, "InvalidInput", format!("Invalid input for operation: {message}."))
    }

    /// `Invalid input for <attribute>. Reason: …`
    pub fn attribute(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::http_bad(format!("Invalid input for {name}. Reason: {reason}"))
    }

    /// `Bad <resource> request: …`
    pub fn bad_request(resource: &str, message: impl std::fmt::Display) -> Self {
        Self::own(400, "BadRequest", format!("Bad {resource} request: {message}."))
    }

    /// 409 with a type.
    pub fn conflict(kind: &'static str, message: impl Into<String>) -> Self {
        Self::own(409, kind, message)
    }

    /// 404 with a type.
    pub fn missing(kind: &'static str, message: impl Into<String>) -> Self {
        Self::own(404, kind, message)
    }

    /// 412 with a type.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::own(412, "RevisionNumberConstraintFailed", message)
    }

    /// 403 with a type.
    pub fn denied(kind: &'static str, message: impl Into<String>) -> Self {
        Self::own(403, kind, message)
    }

    /// 403 as the API layer words it.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::own(403, "HTTPForbidden", message)
    }

    /// 403 in the words of the policy engine.
    pub fn policy(rule: &str) -> Self {
        Self::own(403, "PolicyNotAuthorized", format!("{rule} is disallowed by policy"))
    }

    /// What a store or a plan is told when it must be handed a fault.
    pub(super) fn as_fault(&self) -> Fault {
        match self {
            Self::Own { message, .. } => Fault::Conflict(message.clone()),
            Self::Fault(fault) => fault.clone(),
        }
    }

    /// For services that word their errors in their own way.
    pub fn into_fault(self) -> Fault {
        match self {
            Self::Own { status: 404, message, .. } => Fault::NotFound { what: message, id: String::new() },
            Self::Own { status: 409, message, .. } => Fault::Conflict(message),
            Self::Own { status: 403, message, .. } => Fault::Forbidden(message),
            Self::Own { message, .. } => Fault::Invalid(message),
            Self::Fault(fault) => fault,
        }
    }

    /// The reply to the client; faults are rendered (and logged) where all services' are.
    pub fn reply(self) -> Result<Reply, Fault> {
        match self {
            Self::Own { status, kind, message } => Ok(body(status, kind, &message)),
            Self::Fault(fault) => Err(fault),
        }
    }
}

fn body(status: u16, kind: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"NeutronError": {"type": kind, "message": message, "detail": ""}}))
}

/// The error that says that there is no row to which a request refers.
pub fn refers_to_nothing<T: Resource>(id: &Ref<T>) -> NeutronError {
    not_found(T::KIND, &id.named().to_string())
}

/// The error that says that there is no row of a kind with an id.
pub fn not_found(kind: Kind, id: &str) -> NeutronError {
    let (name, message) = match kind {
        Kind::Network => ("NetworkNotFound", format!("Network {id} could not be found.")),
        Kind::Subnet => ("SubnetNotFound", format!("Subnet {id} could not be found.")),
        Kind::SubnetPool => ("SubnetPoolNotFound", format!("Subnet pool {id} could not be found.")),
        Kind::Port => ("PortNotFound", format!("Port {id} could not be found.")),
        Kind::Router => ("RouterNotFound", format!("Router {id} could not be found")),
        Kind::FloatingIp => ("FloatingIPNotFound", format!("Floating IP {id} could not be found")),
        Kind::SecurityGroup => ("SecurityGroupNotFound", format!("Security group {id} does not exist")),
        Kind::SecurityGroupRule => ("SecurityGroupRuleNotFound", format!("Security group rule {id} does not exist")),
        Kind::AddressGroup => ("AddressGroupNotFound", format!("Address group {id} could not be found.")),
        Kind::PortForwarding => ("PortForwardingNotFound", format!("Port Forwarding {id} could not be found.")),
        Kind::AddressScope => ("AddressScopeNotFound", format!("Address scope {id} could not be found")),
        Kind::QosPolicy => ("QosPolicyNotFound", format!("QoS policy {id} could not be found.")),
        Kind::RbacPolicy => ("RbacPolicyNotFound", format!("RBAC policy of type unknown with ID {id} not found")),
        Kind::Trunk => ("TrunkNotFound", format!("Trunk {id} could not be found.")),
        Kind::Host => ("AgentNotFound", format!("Agent {id} could not be found.")),
        _ => ("HTTPNotFound", "The resource could not be found.".to_owned()),
    };
    NeutronError::missing(name, message)
}

/// The row, or the error that says that there is none.
pub fn found<'a, T: Resource>(entry: Option<Entry<'a, T>>, id: &str) -> Result<Entry<'a, T>, NeutronError> {
    entry.ok_or_else(|| not_found(T::KIND, id))
}

/// What belongs to an extension that is not loaded is not there: by that Neutron's clients know it.
pub fn not_loaded(alias: &str) -> Fault {
    let what = format!("The resource could not be found. The extension '{alias}' is not built in this cloud.");
    Fault::NotFound { what, id: String::new() }
}

/// Words a fault as Neutron does.
pub fn render(fault: &Fault, context: &ErrorContext<'_>) -> Reply {
    let status = fault::status(fault);
    let message = fault::message(fault);
    match fault {
        // The token middleware in front of Neutron answers this, in Keystone's form.
        Fault::Unauthorized(_) => fault::keystone(fault, context),
        Fault::NotFound { what, id } if id.is_empty() => body(status, "HTTPNotFound", what),
        Fault::NotFound { what, id } => {
            let kind = Kind::parse(what).map(|kind| not_found(kind, id));
            match kind.unwrap_or_else(|| NeutronError::missing("HTTPNotFound", "The resource could not be found.")) {
                NeutronError::Own { status, kind, message } => body(status, kind, &message),
                NeutronError::Fault(_) => body(status, "HTTPNotFound", &message),
            }
        }
        Fault::Quota { resource, asked, used, limit } => body(
            409,
            "OverQuota",
            &format!("Quota exceeded for resources: ['{resource}']. Asked {asked}, used {used}, limit {limit}."),
        ),
        Fault::Forbidden(_) => body(status, "PolicyNotAuthorized", &message),
        Fault::Exhausted(_) => body(status, "ResourceExhausted", &message),
        Fault::Conflict(_) | Fault::Stale(_) => body(status, "Conflict", &message),
        Fault::MethodNotAllowed(_) => body(status, "HTTPMethodNotAllowed", &message),
        Fault::NotImplemented(_) => body(status, "HTTPNotImplemented", &message),
        Fault::Unavailable(_) => body(status, "ServiceUnavailable", &message),
        Fault::Internal(_) => body(status, "HTTPInternalServerError", &message),
        _ => body(status, "HTTPBadRequest", &message),
    }
}
