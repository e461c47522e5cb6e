//! Voiding tokens before they expire.

use model::{Change, Revocation, Snapshot, Time};

use crate::Principal;

/// How many revocations that have become pointless one change sweeps away.
const SWEEP: usize = 64;

/// Adds to a change that all tokens of a user issued until now are void: the password or the right to log in changed.
pub fn user_tokens(change: &mut Change, snapshot: &Snapshot, user_id: &str, now: Time, lifetime: jiff::SignedDuration) {
    sweep(change, snapshot, now);
    change.create(Revocation { user_id: Some(user_id.to_owned()), ..revocation(now, now + lifetime) });
}

/// Adds to a change that all tokens for a project issued until now are void.
pub fn project_tokens(
    change: &mut Change,
    snapshot: &Snapshot,
    project_id: &str,
    now: Time,
    lifetime: jiff::SignedDuration,
) {
    sweep(change, snapshot, now);
    change.create(Revocation { project_id: Some(project_id.to_owned()), ..revocation(now, now + lifetime) });
}

/// Adds to a change that one token is void.
pub fn token(change: &mut Change, snapshot: &Snapshot, of: &Principal, now: Time) {
    sweep(change, snapshot, now);
    change.create(Revocation { audit_id: of.audit_ids.first().cloned(), ..revocation(now, of.expires_at) });
}

fn revocation(now: Time, expires_at: Time) -> Revocation {
    Revocation {
        id: uuid::Uuid::new_v4().simple().to_string(),
        audit_id: None,
        audit_chain_id: None,
        user_id: None,
        project_id: None,
        issued_before: now,
        expires_at,
    }
}

fn sweep(change: &mut Change, snapshot: &Snapshot, now: Time) {
    for row in snapshot.all::<Revocation>().filter(|r| r.expires_at < now).take(SWEEP) {
        change.delete(row);
    }
}
