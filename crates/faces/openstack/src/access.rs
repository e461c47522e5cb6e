//! Who may call an endpoint at all: what role, and in what scope, in one rule.

use gate::{Principal, Scope};
use model::Fault;

/// Who may call an endpoint. What they see and change there is the [`gate::View`]'s decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a token.
    Public,
    /// Anybody with a valid token, whatever its scope and roles.
    Token,
    /// `reader` in a project, or more; or `admin` wherever.
    Reader,
    /// `member` in a project, or more; or `admin` wherever.
    Member,
    /// `admin`, or `reader` of the system.
    SystemReader,
    /// The same, or `reader` of a domain, for what is in it.
    DomainReader,
    /// `admin`, or `manager` of a domain, for what is in it.
    DomainManager,
    /// `admin`.
    Admin,
}

impl Access {
    /// Refuses who may not call such an endpoint.
    pub fn check(self, who: &Principal) -> Result<(), Fault> {
        let enough = match self {
            Self::Public | Self::Token => true,
            Self::Reader => who.is_admin() || (who.project_id().is_some() && who.is_reader()),
            Self::Member => who.is_admin() || (who.project_id().is_some() && who.is_member()),
            Self::SystemReader => reads_all(who),
            Self::DomainReader => reads_all(who) || (matches!(who.scope, Scope::Domain { .. }) && who.is_reader()),
            Self::DomainManager => who.is_admin() || (matches!(who.scope, Scope::Domain { .. }) && who.has("manager")),
            Self::Admin => who.is_admin(),
        };
        if enough {
            Ok(())
        } else {
            Err(Fault::Forbidden("You are not authorized to perform the requested action.".into()))
        }
    }
}

/// Whether somebody looks at everything in the cloud.
pub fn reads_all(who: &Principal) -> bool {
    who.is_admin() || (who.scope == Scope::System && who.is_reader())
}
