//! From a payload to a principal and back, over a snapshot. What a token may do is read from the rows at every
//! validation: a disabled user, a removed role and a revocation take effect at the commit that writes them.

use std::cmp::Reverse;

use jiff::SignedDuration;
use model::{AppCredential, Domain, Entry, Fault, Index, Project, Revocation, Snapshot, Time, TokenKey, Trust, User};

use crate::payload::{Payload, Scoped};
use crate::{Identity, Principal, RoleRef, Scope, fernet, roles, trust};

/// The sentence of every refusal: it tells nobody which part of a credential was wrong.
pub fn unauthorized() -> Fault {
    Fault::Unauthorized("The request you have made requires authentication.".into())
}

/// The rows of the keys, the newest first.
pub fn key_rows(snapshot: &Snapshot) -> Vec<Entry<'_, TokenKey>> {
    let mut rows: Vec<_> = snapshot.all::<TokenKey>().collect();
    rows.sort_by_key(|key| Reverse((key.created_at, key.row.created)));
    rows
}

fn keys(snapshot: &Snapshot) -> Vec<fernet::Key> {
    key_rows(snapshot).iter().filter_map(|row| fernet::Key::parse(&row.secret)).collect()
}

/// What a token says, if a key of this cloud made it.
pub fn open(snapshot: &Snapshot, token: &str) -> Option<Payload> {
    // Every token that this cloud makes is shorter; nothing longer is worth a look.
    if token.len() > 2048 {
        return None;
    }
    Payload::decode(&fernet::open(&keys(snapshot), token)?)
}

/// The token of a payload.
pub fn seal(snapshot: &Snapshot, payload: &Payload) -> Result<String, Fault> {
    sealed(snapshot, payload.issued_at, &payload.encode())
}

fn sealed(snapshot: &Snapshot, issued_at: Time, message: &[u8]) -> Result<String, Fault> {
    let keys = keys(snapshot);
    let newest = keys.first().ok_or_else(|| Fault::Unavailable("There is no key to make tokens with.".into()))?;
    Ok(newest.seal(u64::try_from(issued_at.as_second()).unwrap_or(0), message))
}

/// A token for one audience, within which another lies that opens everywhere. It is no payload, so it opens nowhere else.
pub fn wrap(snapshot: &Snapshot, audience: &str, token: &str, now: Time) -> Result<String, Fault> {
    Ok(format!("{audience}.{}", sealed(snapshot, now, format!("{audience} {token}").as_bytes())?))
}

/// The token within one for an audience.
pub fn unwrap(snapshot: &Snapshot, audience: &str, text: &str) -> Option<String> {
    let message = fernet::open(&keys(snapshot), text.strip_prefix(audience)?.strip_prefix('.')?)?;
    let message = String::from_utf8(message).ok()?;
    message.strip_prefix(audience)?.strip_prefix(' ').map(str::to_owned)
}

/// Who a payload stands for now, or why for nobody any more.
pub fn principal(
    snapshot: &Snapshot,
    payload: &Payload,
    lifetime: SignedDuration,
    now: Time,
) -> Result<Principal, Fault> {
    // Revocations are kept for a token's life: one that was made when that was longer must not outlive them.
    let too_old = now.duration_since(payload.issued_at) > lifetime;
    if payload.expires_at <= now || too_old || revoked(snapshot, payload) {
        return Err(unauthorized());
    }
    let mut user = user(snapshot, &payload.user_id)?;
    let (scope, project) = scope(snapshot, &payload.scope)?;
    let trust = match &payload.trust_id {
        // The tokens of a trust that is gone are void.
        Some(id) => Some(trust::of_trustee(snapshot, id, &user.id, now).map_err(|_| unauthorized())?),
        None => None,
    };
    let mut roles = match &trust {
        Some(trust) => trust.roles(snapshot, &payload.scope)?,
        None => roles::roles(snapshot, &user.id, &payload.scope),
    };
    if let Some(trust) = &trust
        && trust.delegation.impersonation
    {
        user = self::user(snapshot, &trust.delegation.trustor_user_id)?;
    }
    if let Some(id) = &payload.app_credential_id {
        let credential = app_credential(snapshot, id, now)?;
        if project.is_none_or(|p| p.id != credential.project_id) || credential.user_id != user.id {
            return Err(unauthorized());
        }
        roles = restricted(snapshot, credential, &roles);
    }
    if roles.is_empty() && scope != Scope::Unscoped {
        return Err(unauthorized());
    }
    Ok(Principal {
        identity: Identity::Keystone,
        user_id: user.id.clone(),
        user_name: user.name.clone(),
        user_domain_id: user.domain_id.clone(),
        scope,
        roles,
        methods: payload.methods.clone(),
        audit_ids: payload.audit_ids.clone(),
        issued_at: payload.issued_at,
        expires_at: payload.expires_at,
        app_credential_id: payload.app_credential_id.clone(),
        trust: trust.map(|trust| trust.delegation),
        kube_groups: Vec::new(),
        kube_cluster: None,
    })
}

/// A user who may log in.
pub fn user<'a>(snapshot: &'a Snapshot, id: &str) -> Result<&'a User, Fault> {
    let user = snapshot.get::<User>(id).filter(|user| user.enabled && domain_enabled(snapshot, &user.domain_id));
    user.map(|user| user.value).ok_or_else(unauthorized)
}

/// An application credential that is still good.
pub fn app_credential<'a>(snapshot: &'a Snapshot, id: &str, now: Time) -> Result<&'a AppCredential, Fault> {
    let credential = snapshot.get::<AppCredential>(id).filter(|c| c.expires_at.is_none_or(|end| end > now));
    credential.map(|c| c.value).ok_or_else(unauthorized)
}

/// The roles of an application credential: never more than its user has now.
fn restricted(snapshot: &Snapshot, credential: &AppCredential, has: &[RoleRef]) -> Vec<RoleRef> {
    let asked = credential.role_ids.iter().map(String::as_str).filter(|id| has.iter().any(|role| role.id == *id));
    roles::with_implied(snapshot, asked)
}

fn scope<'a>(snapshot: &'a Snapshot, scoped: &Scoped) -> Result<(Scope, Option<&'a Project>), Fault> {
    match scoped {
        Scoped::Nothing => Ok((Scope::Unscoped, None)),
        Scoped::System => Ok((Scope::System, None)),
        Scoped::Domain(id) if domain_enabled(snapshot, id) => Ok((Scope::Domain { id: id.clone() }, None)),
        Scoped::Domain(_) => Err(unauthorized()),
        Scoped::Project(id) => {
            let project = project(snapshot, id)?;
            let (id, name, domain_id) = (project.id.clone(), project.name.clone(), project.domain_id.clone());
            Ok((Scope::Project { id, name, domain_id }, Some(project)))
        }
    }
}

/// A project in which something may be done: it and its domain are enabled.
pub fn project<'a>(snapshot: &'a Snapshot, id: &str) -> Result<&'a Project, Fault> {
    let project = snapshot.get::<Project>(id).filter(|p| p.enabled && domain_enabled(snapshot, &p.domain_id));
    project.map(|project| project.value).ok_or_else(unauthorized)
}

fn domain_enabled(snapshot: &Snapshot, id: &str) -> bool {
    snapshot.get::<Domain>(id).is_some_and(|domain| domain.enabled)
}

fn revoked(snapshot: &Snapshot, payload: &Payload) -> bool {
    let project = match &payload.scope {
        Scoped::Project(id) => Some(id),
        _ => None,
    };
    let trust = payload.trust_id.as_ref().and_then(|id| snapshot.get::<Trust>(id));
    let trustor = trust.map(|trust| &trust.value.trustor_user_id);
    let is = |condition: &Option<String>, value: Option<&String>| condition.as_ref().is_none_or(|c| Some(c) == value);
    let matches = |r: &Revocation| {
        payload.issued_at <= r.issued_before
            && is(&r.audit_id, payload.audit_ids.first())
            && is(&r.audit_chain_id, payload.audit_ids.last())
            && (is(&r.user_id, Some(&payload.user_id)) || r.user_id.as_ref() == trustor)
            && is(&r.project_id, project)
    };
    let values = payload.audit_ids.iter().chain([&payload.user_id]).chain(trustor).chain(project);
    values.into_iter().any(|value| snapshot.find::<Revocation>(Index::Owner, value).any(|row| matches(row.value)))
}
