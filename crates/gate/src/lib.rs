//! The gate: from a credential to a principal, and whether the principal may. The same gate for both faces, so that a
//! token, a role or a revocation means one thing in the whole cloud.

mod principal;
mod view;

pub use principal::{Principal, RoleRef, Scope};
pub use view::View;

/// The gate of one cloud.
pub struct Gate {
    _store: store::Store,
}

impl Gate {
    pub fn new(store: store::Store) -> Self {
        Self { _store: store }
    }

    /// The principal of an OpenStack token, or why it is void.
    pub async fn token(&self, _token: &str) -> Result<Principal, model::Fault> {
        Err(model::Fault::Unauthorized("tokens are not built yet".into()))
    }
}
