//! The record of who changed what: one event for each request that may change something, and one for each log-in that
//! was refused. Never bodies, never secrets.

use crate::{Client, Principal, Scope};

/// The longest name that is recorded; strangers choose it.
const LONGEST: usize = 255;

/// Whom an audit event names; taken before the request is served.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    user_id: String,
    scope: String,
    /// In whose name, if in another's.
    name_of: String,
}

impl Actor {
    pub fn of(who: Option<&Principal>) -> Self {
        let Some(who) = who else { return Self::default() };
        let scope = match &who.scope {
            Scope::Unscoped => String::new(),
            Scope::Project { id, .. } => format!("project:{id}"),
            Scope::Domain { id } => format!("domain:{id}"),
            Scope::System => "system".into(),
        };
        let (user_id, name_of) = match &who.trust {
            Some(trust) => (trust.trustee_user_id.clone(), trust.trustor_user_id.clone()),
            None => (who.user_id.clone(), String::new()),
        };
        Self { user_id, scope, name_of }
    }

    /// The same, acting in a name that is not necessarily the own.
    pub fn in_the_name_of(self, name: &str) -> Self {
        Self { name_of: name.chars().take(LONGEST).collect(), ..self }
    }
}

/// Records a request that may have changed something.
pub fn record(actor: &Actor, method: &str, path: &str, status: u16, request_id: &str) {
    let Actor { user_id, scope, name_of } = actor;
    tracing::info!(target: "audit", user_id, scope, name_of, method, path, status, request_id);
}

/// Records a log-in that was refused: whom it was about, as the client put it, and where it came from.
pub fn refused(whom: &str, client: Client) {
    let whom: String = whom.chars().take(LONGEST).collect();
    tracing::info!(target: "audit", user = ?whom, client = %client, "log-in refused");
}
