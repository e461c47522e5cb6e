//! The gate: from a credential to a principal, and whether the principal may. The same gate for both faces, so that a
//! token, a role or a revocation means one thing in the whole cloud.
//!
//! * [`Principal`], [`View`]: who is asking, and what they can see of a snapshot
//! * [`Gate`]: tokens to principals (`token`), passwords and the like to tokens (`login`), clusters' credentials (`kube`)
//! * `fernet`, `payload`: what a token is; [`roles`]: who may do what where, computed from rows
//! * [`ec2`]: requests that were signed by a credential, for those who check that
//! * `trust`: what a user lends to another
//! * `authority`: who signs the certificates of a cluster's clients
//! * `bootstrap`: the first rows of a cloud; [`project_rows`]: the first rows of a project; [`audit`]: who did what

mod access_rules;
pub mod audit;
mod authority;
mod basic;
mod bootstrap;
mod client;
pub mod ec2;
mod fernet;
mod kube;
mod lockout;
mod login;
pub mod password;
mod payload;
mod principal;
mod project;
pub mod revoke;
pub mod roles;
mod token;
mod trust;
mod turns;
mod view;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;
use model::{Change, Fault, Revision, Time};
use sha2::{Digest, Sha256};

pub use access_rules::Asked;
pub use authority::new_authority;
pub use bootstrap::{first_rows, new_id, new_secret};
pub use client::Client;
pub use kube::{ISSUER, SERVICE_ACCOUNT_KEY};
pub use login::{DomainRef, NamedRef, Proof, ScopeRequest};
pub use payload::Scoped;
pub use principal::{Delegation, Identity, KEYSTONE, Principal, RoleRef, SERVICE_ACCOUNT, Scope};
pub use project::{project_rows, project_rows_in, remains};
pub use view::{Ref, View};

/// How many validated tokens are remembered.
const REMEMBERED: usize = 16_384;

/// How long one key makes tokens.
const SERVICE: SignedDuration = SignedDuration::from_hours(24);

/// How long a token is valid unless somebody says otherwise, as in Keystone.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// The cost of bcrypt, as in Keystone.
const COST: u32 = 12;

/// The gate of one cloud.
pub struct Gate {
    store: store::Store,
    passwords: password::Passwords,
    lockout: lockout::Lockout,
    lifetime: SignedDuration,
    /// Principals of tokens, by the token's hash, as of a revision: at another revision everything is looked up again.
    seen: Mutex<HashMap<[u8; 32], (Revision, Principal)>>,
}

impl Gate {
    pub fn new(store: store::Store) -> Self {
        Self::with_cost(store, COST)
    }

    /// A gate whose password hashes cost `2^cost` rounds; tests use 4, the least there is.
    pub fn with_cost(store: store::Store, cost: u32) -> Self {
        Self {
            store,
            passwords: password::Passwords::new(cost),
            lockout: lockout::Lockout::default(),
            lifetime: LIFETIME,
            seen: Mutex::default(),
        }
    }

    /// The same with another life of tokens.
    pub fn with_lifetime(self, lifetime: SignedDuration) -> Self {
        Self { lifetime, ..self }
    }

    /// How long a token is valid.
    pub fn lifetime(&self) -> SignedDuration {
        self.lifetime
    }

    /// Where passwords and secrets are hashed and checked.
    pub fn passwords(&self) -> &password::Passwords {
        &self.passwords
    }

    /// The principal of an OpenStack token that is spent on a request, or why it is void.
    pub async fn token(&self, token: &str, asked: &Asked<'_>) -> Result<Principal, Fault> {
        let who = self.inspect(token).await?;
        self.spend(&who, asked)?;
        Ok(who)
    }

    /// Whose an OpenStack token is. For requests about a token, never for those made with one: access rules are not
    /// looked at.
    pub async fn inspect(&self, token: &str) -> Result<Principal, Fault> {
        let snapshot = self.store.snapshot();
        let now = Time::now();
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some((revision, principal)) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&hash)
            && *revision == snapshot.revision()
            && principal.expires_at > now
        {
            return Ok(principal.clone());
        }
        let payload = token::open(&snapshot, token).ok_or_else(token::unauthorized)?;
        let principal = token::principal(&snapshot, &payload, self.lifetime, now)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(hash, (snapshot.revision(), principal.clone()));
        Ok(principal)
    }

    /// Makes a new key for tokens when the newest has served its time, and forgets those by which no token can be valid
    /// any more. To be called now and then, by every process: one of them does it.
    pub async fn rotate_keys(&self, now: Time) -> Result<(), Fault> {
        self.store
            .transact(|snapshot| {
                let mut change = Change::new();
                let keys = token::key_rows(snapshot);
                if keys.first().is_none_or(|newest| now.duration_since(newest.created_at) >= SERVICE) {
                    change.create(bootstrap::new_key(now));
                }
                // Each was replaced by the next newer one.
                for (newer, key) in keys.iter().zip(keys.iter().skip(1)) {
                    if now.duration_since(newer.created_at) > self.lifetime {
                        change.delete(*key);
                    }
                }
                Ok((change, ()))
            })
            .await
    }
}
