//! Voiding tokens before they expire.

use model::{Change, Index, Revocation, Snapshot, Time};

use crate::Principal;

/// How many revocations that have become pointless one change sweeps away.
const SWEEP: usize = 64;

/// So many tokens that were made of one are voided one by one. Making a token of a token costs next to nothing, and each that
/// is voided is a row for as long as tokens live.
pub const MOST_OF_ONE: usize = 1000;

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

/// Adds to a change that one token is void; with the last of [`MOST_OF_ONE`], that all are which were made of the same.
pub fn token(change: &mut Change, snapshot: &Snapshot, of: &Principal, now: Time, lifetime: jiff::SignedDuration) {
    // Another host's clock may be ahead of this one's.
    let issued_before = now.max(of.issued_at);
    let audit_id = of.audit_ids.first().cloned();
    let chain = of.audit_ids.last().filter(|chain| Some(*chain) != audit_id.as_ref());
    let of_chain = chain.into_iter().flat_map(|chain| snapshot.find::<Revocation>(Index::Owner, chain));
    let others: Vec<_> = of_chain.filter(|r| r.audit_id.is_some() && r.audit_chain_id.as_ref() == chain).collect();
    let audit_chain_id = chain.cloned();
    if others.len() < MOST_OF_ONE {
        sweep(change, snapshot, now);
        let expires_at = of.expires_at;
        change.create(Revocation { audit_id, audit_chain_id, issued_before, ..revocation(now, expires_at) });
        return;
    }
    for other in others {
        change.delete(other);
    }
    change.create(Revocation { audit_chain_id, issued_before, ..revocation(now, now + lifetime) });
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
