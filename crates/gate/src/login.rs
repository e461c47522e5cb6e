//! From what a user shows (a password, a token, an application credential) to a token.

use jiff::SignedDuration;
use model::{AppCredential, Domain, Fault, Index, Project, Snapshot, Time, User, option};

use crate::payload::{Payload, Scoped};
use crate::token::{self, unauthorized};
use crate::{Client, Gate, Principal, audit, ec2, fernet, roles, trust};

/// A domain by id or name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainRef {
    pub id: Option<String>,
    pub name: Option<String>,
}

/// A user or project: by id, or by name and domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedRef {
    pub id: Option<String>,
    pub name: Option<String>,
    pub domain: DomainRef,
}

/// What a user shows.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    Password {
        user: NamedRef,
        password: String,
    },
    Token(String),
    /// By id, or by name and user.
    AppCredential {
        id: Option<String>,
        name: Option<String>,
        user: NamedRef,
        secret: String,
    },
    /// A request that was signed by an EC2 credential.
    Signed(Box<ec2::Signed>),
}

impl Proof {
    /// Of whom this says to be a proof, in words; nothing for a token, which says nothing readable.
    fn whom(&self) -> Option<String> {
        let user = |user: &NamedRef| match (&user.id, &user.name) {
            (Some(id), _) => id.clone(),
            (None, name) => {
                let domain = user.domain.id.as_ref().or(user.domain.name.as_ref());
                [domain, name.as_ref()].into_iter().flatten().cloned().collect::<Vec<_>>().join("/")
            }
        };
        match self {
            Self::Password { user: of, .. } => Some(user(of)),
            Self::Token(_) => None,
            Self::Signed(signed) => Some(format!("EC2 credential {}", signed.access)),
            Self::AppCredential { id: Some(id), .. } => Some(format!("application credential {id}")),
            Self::AppCredential { name, user: of, .. } => {
                Some(format!("application credential {}/{}", user(of), name.as_deref().unwrap_or_default()))
            }
        }
    }
}

/// The ways to log in, as Keystone names them.
const METHODS: [&str; 3] = ["password", "token", "application_credential"];

/// For what the token shall be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeRequest {
    /// Not said: the user's default project if there is one.
    Default,
    Unscoped,
    Project(NamedRef),
    Domain(DomainRef),
    System,
    /// What the trust with this id lends.
    Trust(String),
}

/// What one proof showed.
struct Shown {
    user_id: String,
    method: &'static str,
    /// The token that was shown.
    parent: Option<Principal>,
    app_credential: Option<AppCredential>,
    /// The only project for which it is good.
    project_id: Option<String>,
}

impl Shown {
    fn new(user_id: &str, method: &'static str) -> Self {
        Self { user_id: user_id.to_owned(), method, parent: None, app_credential: None, project_id: None }
    }
}

impl Gate {
    /// Checks what is shown and makes a token. All proofs must be of the same user. Refusals are recorded, with whom they
    /// were about and where they came from.
    pub async fn login(
        &self,
        proofs: Vec<Proof>,
        asked: ScopeRequest,
        client: Client,
    ) -> Result<(String, Principal), Fault> {
        let whom = proofs.iter().find_map(Proof::whom).unwrap_or_default();
        let result = self.prove(proofs, asked, client).await;
        if matches!(result, Err(Fault::Unauthorized(_) | Fault::NotFound { .. })) {
            audit::refused(&whom, client);
        }
        result
    }

    async fn prove(
        &self,
        proofs: Vec<Proof>,
        asked: ScopeRequest,
        client: Client,
    ) -> Result<(String, Principal), Fault> {
        // Each costs the hashing of a secret: one request must not cost several.
        if proofs.iter().filter(|proof| !matches!(proof, Proof::Token(_) | Proof::Signed(_))).count() > 1 {
            return Err(unauthorized());
        }
        let now = Time::now();
        // Tokens carry microseconds; what they say must not differ from what their maker was told.
        let now = Time::from_microsecond(now.as_microsecond()).unwrap_or(now);
        let mut shown = Vec::new();
        for proof in proofs {
            shown.push(self.show(proof, now, client).await?);
        }
        let first = shown.first().ok_or_else(unauthorized)?;
        let user_id = first.user_id.clone();
        if shown.iter().any(|s| s.user_id != user_id) {
            return Err(unauthorized());
        }
        // A password check takes long: what counts are the rows after it.
        let snapshot = self.store.snapshot();
        check_factors(&snapshot, &user_id, &shown)?;
        let payload = self.payload(&snapshot, &shown, user_id, asked, now)?;
        let principal = token::principal(&snapshot, &payload, self.lifetime, now)?;
        if let Some(id) = &payload.trust_id {
            trust::spend(&self.store, id).await?;
        }
        Ok((token::seal(&snapshot, &payload)?, principal))
    }

    async fn show(&self, proof: Proof, now: Time, client: Client) -> Result<Shown, Fault> {
        let snapshot = self.store.snapshot();
        match proof {
            Proof::Password { user, password } => {
                let user = find_user(&snapshot, &user).filter(|user| token::user(&snapshot, &user.id).is_ok());
                let counted = user.filter(|user| !user.has(option::NO_DELAY));
                let early = |now| counted.is_some_and(|user| self.lockout.waits(&user.id, client, now));
                let was_early = early(now);
                let hash = user.filter(|_| !was_early).and_then(|user| user.password_hash.as_deref());
                let right = self.passwords.check(&password, hash, client).await?;
                // Others may have failed while this one waited for its turn.
                let early = was_early || early(Time::now());
                if let Some(user) = counted.filter(|_| !early) {
                    self.lockout.tried(&user.id, client, right, Time::now());
                }
                let user = user.filter(|_| right && !early).ok_or_else(unauthorized)?;
                Ok(Shown::new(&user.id, "password"))
            }
            Proof::Token(token) => {
                // Keystone looks the token up as a thing of its own: what is void is not found.
                let parent = self.inspect(&token).await.map_err(|fault| match fault {
                    Fault::Unauthorized(_) => Fault::NotFound { what: "token".into(), id: String::new() },
                    other => other,
                })?;
                if parent.trust.is_some() {
                    return Err(Fault::Forbidden(
                        "Using trust-scoped token to create another token. Create a new trust-scoped token instead."
                            .into(),
                    ));
                }
                let app_credential = match &parent.app_credential_id {
                    Some(id) => Some(token::app_credential(&snapshot, id, now)?.clone()),
                    None => None,
                };
                let shown = Shown::new(&parent.user_id, "token");
                Ok(Shown { parent: Some(parent), app_credential, ..shown })
            }
            Proof::AppCredential { id, name, user, secret } => {
                let credential = match (id, name) {
                    (Some(id), _) => snapshot.get::<AppCredential>(&id).map(|c| c.value.clone()),
                    (None, Some(name)) => find_user(&snapshot, &user).and_then(|user| {
                        let mut own = snapshot.find::<AppCredential>(Index::Owner, &user.id);
                        own.find(|c| c.name == name).map(|c| c.value.clone())
                    }),
                    (None, None) => None,
                };
                let credential = credential.filter(|c| token::app_credential(&snapshot, &c.id, now).is_ok());
                let right =
                    self.passwords.check(&secret, credential.as_ref().map(|c| c.secret_hash.as_str()), client).await?;
                let credential = credential.filter(|_| right).ok_or_else(unauthorized)?;
                let shown = Shown::new(&credential.user_id, "application_credential");
                Ok(Shown { app_credential: Some(credential), ..shown })
            }
            Proof::Signed(signed) => {
                let credential = ec2::credential(&snapshot, &signed, now).ok_or_else(unauthorized)?;
                let app_credential = match &credential.app_credential_id {
                    Some(id) => Some(token::app_credential(&snapshot, id, now)?.clone()),
                    None => None,
                };
                let shown = Shown::new(&credential.user_id, "ec2credential");
                Ok(Shown { app_credential, project_id: credential.project_id.clone(), ..shown })
            }
        }
    }

    fn payload(
        &self,
        snapshot: &Snapshot,
        shown: &[Shown],
        user_id: String,
        asked: ScopeRequest,
        now: Time,
    ) -> Result<Payload, Fault> {
        let parent = shown.iter().find_map(|s| s.parent.as_ref());
        let credential = shown.iter().find_map(|s| s.app_credential.as_ref());
        let trust = match (&asked, credential) {
            (ScopeRequest::Trust(id), None) => Some(trust::of_trustee(snapshot, id, &user_id, now)?),
            _ => None,
        };
        let only = shown.iter().find_map(|s| s.project_id.clone());
        let scope = match credential {
            _ if only.is_some() => only.map_or(Scoped::Nothing, Scoped::Project),
            Some(credential) => credential_scope(snapshot, credential, &asked, parent.is_some())?,
            None if trust.is_some() => trust.as_ref().map_or(Scoped::Nothing, trust::Lent::scope),
            None => scope(snapshot, &user_id, asked)?,
        };
        let mut expires_at = now + self.lifetime;
        // Keystone counts expiry in whole seconds, and clients compare the text.
        expires_at -= SignedDuration::from_nanos(i64::from(expires_at.subsec_nanosecond()));
        let mut audit_ids = vec![fernet::random_text::<16>()];
        let mut methods: Vec<String> = shown.iter().map(|s| s.method.to_owned()).collect();
        if let Some(parent) = parent {
            // A token made from a token lives no longer than the first one did.
            expires_at = expires_at.min(parent.expires_at);
            audit_ids.extend(parent.audit_ids.last().cloned());
            methods.extend(parent.methods.iter().filter(|m| *m != "token").cloned());
        }
        methods.dedup();
        // Nor longer than the credential, which cannot be changed: so validation need not look at its expiry again.
        expires_at = credential.and_then(|c| c.expires_at).map_or(expires_at, |end| expires_at.min(end));
        expires_at = trust.as_ref().and_then(|t| t.expires_at).map_or(expires_at, |end| expires_at.min(end));
        let app_credential_id = credential.map(|c| c.id.clone());
        let trust_id = trust.map(|trust| trust.delegation.trust_id);
        Ok(Payload { user_id, methods, scope, app_credential_id, trust_id, issued_at: now, expires_at, audit_ids })
    }
}

/// Refuses a password alone where the user's rules ask for more.
fn check_factors(snapshot: &Snapshot, user_id: &str, shown: &[Shown]) -> Result<(), Fault> {
    let methods = shown.iter().flat_map(|s| {
        let former = s.parent.iter().flat_map(|parent| parent.methods.iter().map(String::as_str));
        std::iter::once(s.method).chain(former)
    });
    let methods: Vec<&str> = methods.collect();
    let user = snapshot.get::<User>(user_id).filter(|_| methods.contains(&"password"));
    match user.is_none_or(|user| user.is_proved_by(&methods, &METHODS)) {
        true => Ok(()),
        false => Err(Fault::Unauthorized("Additional authentications steps required.".into())),
    }
}

/// An application credential is good for its own project and cannot ask for anything else.
fn credential_scope(
    snapshot: &Snapshot,
    credential: &AppCredential,
    asked: &ScopeRequest,
    by_token: bool,
) -> Result<Scoped, Fault> {
    let own = Scoped::Project(credential.project_id.clone());
    match asked {
        ScopeRequest::Default => Ok(own),
        ScopeRequest::Project(project) if by_token && project_id(snapshot, project)? == credential.project_id => {
            Ok(own)
        }
        _ => Err(Fault::Unauthorized("Application credentials cannot request a scope.".into())),
    }
}

fn scope(snapshot: &Snapshot, user_id: &str, asked: ScopeRequest) -> Result<Scoped, Fault> {
    match asked {
        ScopeRequest::Unscoped => Ok(Scoped::Nothing),
        ScopeRequest::System => Ok(Scoped::System),
        ScopeRequest::Trust(_) => Err(unauthorized()),
        ScopeRequest::Project(project) => Ok(Scoped::Project(project_id(snapshot, &project)?)),
        ScopeRequest::Domain(domain) => Ok(Scoped::Domain(domain_id(snapshot, &domain).ok_or_else(unauthorized)?)),
        ScopeRequest::Default => {
            let default = snapshot.get::<User>(user_id).and_then(|user| user.value.default_project_id.clone());
            let usable = default.filter(|id| {
                snapshot.get::<Project>(id).is_some_and(|p| {
                    p.enabled && snapshot.get::<Domain>(&p.domain_id).is_some_and(|domain| domain.enabled)
                }) && !roles::roles(snapshot, user_id, &Scoped::Project(id.clone())).is_empty()
            });
            Ok(usable.map_or(Scoped::Nothing, Scoped::Project))
        }
    }
}

fn domain_id(snapshot: &Snapshot, domain: &DomainRef) -> Option<String> {
    match (&domain.id, &domain.name) {
        (Some(id), _) => snapshot.get::<Domain>(id).map(|d| d.id.clone()),
        (None, Some(name)) => snapshot.find::<Domain>(Index::Name, name).next().map(|d| d.id.clone()),
        (None, None) => None,
    }
}

fn find_user<'a>(snapshot: &'a Snapshot, user: &NamedRef) -> Option<&'a User> {
    let found = match (&user.id, &user.name) {
        (Some(id), _) => snapshot.get::<User>(id),
        (None, Some(name)) => {
            let domain = domain_id(snapshot, &user.domain)?;
            snapshot.find::<User>(Index::Name, &format!("{domain}/{name}")).next()
        }
        (None, None) => None,
    };
    found.map(|user| user.value)
}

fn project_id(snapshot: &Snapshot, project: &NamedRef) -> Result<String, Fault> {
    let found = match (&project.id, &project.name) {
        (Some(id), _) => snapshot.get::<Project>(id),
        (None, Some(name)) => {
            let domain = domain_id(snapshot, &project.domain).ok_or_else(unauthorized)?;
            snapshot.find::<Project>(Index::Name, &format!("{domain}/{name}")).next()
        }
        (None, None) => None,
    };
    found.map(|project| project.id.clone()).ok_or_else(unauthorized)
}
