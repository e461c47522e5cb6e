//! The record of who changed what: one event for each request that may change something. Never bodies, never secrets.

use crate::{Principal, Scope};

/// Whom an audit event names; taken before the request is served.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    user_id: String,
    scope: String,
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
        Self { user_id: who.user_id.clone(), scope }
    }
}

/// Records a request that may have changed something.
pub fn record(actor: &Actor, method: &str, path: &str, status: u16, request_id: &str) {
    let Actor { user_id, scope } = actor;
    tracing::info!(target: "audit", user_id, scope, method, path, status, request_id);
}
