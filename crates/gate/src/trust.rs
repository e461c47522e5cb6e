//! Trusts: what a user lends to another is looked at in the rows each time it is used. A trust ends with its trustor, with
//! any of the roles it lends, with any of the trusts that it was lent on from; nothing has to be told so.

use model::{Change, Fault, Snapshot, Time, Trust};

use crate::payload::Scoped;
use crate::token::{self, unauthorized};
use crate::{Delegation, RoleRef, roles};

/// A trust in the hands of its trustee.
pub struct Lent {
    pub delegation: Delegation,
    /// The first end of the trust and of those that it was lent on from.
    pub expires_at: Option<Time>,
    project_id: Option<String>,
    role_ids: Vec<String>,
    /// Whose roles they are: the trustor of the first trust.
    owner_id: String,
}

/// A trust by which a user acts, if it is that user's to use, and good.
pub fn of_trustee(snapshot: &Snapshot, id: &str, user_id: &str, now: Time) -> Result<Lent, Fault> {
    let stranger = || Fault::Forbidden("User is not a trustee.".into());
    let trust = snapshot.get::<Trust>(id).filter(|trust| trust.trustee_user_id == user_id).ok_or_else(stranger)?;
    let pedigree = trust.pedigree(snapshot).ok_or_else(unauthorized)?;
    for one in &pedigree {
        token::user(snapshot, &one.trustor_user_id)?;
        token::user(snapshot, &one.trustee_user_id)?;
        if one.expires_at.is_some_and(|end| end <= now) {
            return Err(unauthorized());
        }
    }
    Ok(Lent {
        delegation: Delegation {
            trust_id: trust.id.clone(),
            trustor_user_id: trust.trustor_user_id.clone(),
            trustee_user_id: trust.trustee_user_id.clone(),
            impersonation: trust.impersonation,
        },
        expires_at: pedigree.iter().filter_map(|one| one.expires_at).min(),
        project_id: trust.project_id.clone(),
        role_ids: trust.role_ids.clone(),
        owner_id: pedigree.last().unwrap_or(trust.value).trustor_user_id.clone(),
    })
}

impl Lent {
    pub fn scope(&self) -> Scoped {
        self.project_id.clone().map_or(Scoped::Nothing, Scoped::Project)
    }

    /// The roles that are lent. Without any one of them that the owner had, nothing is, as in Keystone.
    pub fn roles(&self, snapshot: &Snapshot, scope: &Scoped) -> Result<Vec<RoleRef>, Fault> {
        if *scope != self.scope() {
            return Err(unauthorized());
        }
        let has = roles::roles(snapshot, &self.owner_id, scope);
        if self.role_ids.iter().any(|id| !has.iter().any(|role| role.id == *id)) {
            return Err(unauthorized());
        }
        Ok(roles::with_implied(snapshot, self.role_ids.iter().map(String::as_str)))
    }
}

/// Takes one of the tokens that a trust is still good for.
pub async fn spend(store: &store::Store, id: &str) -> Result<(), Fault> {
    let spent = store.transact(|snapshot| {
        let trust = snapshot.get::<Trust>(id).ok_or_else(unauthorized)?;
        let left = match trust.remaining_uses {
            None => return Ok((Change::new(), ())),
            Some(0) => return Err(Fault::Forbidden(format!("No remaining uses for trust {id}."))),
            Some(left) => left - 1,
        };
        let mut change = Change::new();
        change.edit(trust, |row| row.remaining_uses = Some(left));
        Ok((change, ()))
    });
    spent.await
}
