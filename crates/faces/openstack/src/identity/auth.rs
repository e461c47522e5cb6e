//! Tokens: `/v3/auth`.

use gate::{DomainRef, NamedRef, Principal, Proof, Scope, ScopeRequest, revoke, roles};
use model::{AppCredential, Domain, Fault, Project, Snapshot};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::attrs;
use super::catalog::{CatalogEntry, catalog};
use super::wire::{base, forbidden, list, missing, time};
use crate::call::{Call, Reply};

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let auth = object(&body, "auth")?;
    let proofs = proofs(object_in(auth, "identity")?)?;
    let asked = scope_request(auth.get("scope"))?;
    let (token, principal) = call.cloud.gate.login(proofs, asked, call.client).await?;
    Ok(answer(&call, 201, &token, &principal))
}

/// A token that was made.
pub fn answer(call: &Call, status: u16, token: &str, principal: &Principal) -> Reply {
    let reply = Reply::json(status, &view(call, &call.cloud.store.snapshot(), principal));
    reply.with("x-subject-token", token).with("vary", "X-Auth-Token")
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    let (token, principal) = subject(&call).await?;
    let who = call.who()?;
    let service = who.has("service") || (who.scope == Scope::System && who.is_reader());
    if !who.is_admin() && !service && who.user_id != principal.user_id {
        return Err(forbidden("validate_token"));
    }
    let reply = Reply::ok(view(&call, &call.snapshot, &principal));
    Ok(reply.with("x-subject-token", &token).with("vary", "X-Auth-Token"))
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let (_, principal) = subject(&call).await?;
    let who = call.who()?;
    if !who.is_admin() && who.user_id != principal.user_id {
        return Err(forbidden("revoke_token"));
    }
    let revoked = call.cloud.store.transact(|snapshot| {
        let mut change = model::Change::new();
        revoke::token(&mut change, snapshot, &principal, call.now, call.cloud.gate.lifetime());
        Ok((change, ()))
    });
    revoked.await?;
    Ok(Reply::empty(204))
}

/// The token that the request is about, and whose it is.
async fn subject(call: &Call) -> Result<(String, Principal), Fault> {
    let token = call.headers.get("x-subject-token").and_then(|h| h.to_str().ok()).unwrap_or_default();
    match call.cloud.gate.inspect(token).await {
        Ok(principal) => Ok((token.to_owned(), principal)),
        Err(Fault::Unauthorized(_)) => Err(Fault::NotFound { what: "token".into(), id: String::new() }),
        Err(other) => Err(other),
    }
}

pub async fn list_projects(call: Call) -> Result<Reply, Fault> {
    let ids = roles::projects_of(&call.snapshot, &call.who()?.user_id);
    let enabled = ids.iter().filter_map(|id| call.snapshot.get::<Project>(id)).filter(|p| p.enabled);
    Ok(list(&call, "projects", enabled.map(|project| attrs::item(&call, project.value))))
}

pub async fn list_domains(call: Call) -> Result<Reply, Fault> {
    let ids = roles::domains_of(&call.snapshot, &call.who()?.user_id);
    let enabled = ids.iter().filter_map(|id| call.snapshot.get::<Domain>(id)).filter(|d| d.enabled);
    Ok(list(&call, "domains", enabled.map(|domain| attrs::item(&call, domain.value))))
}

pub async fn list_system(call: Call) -> Result<Reply, Fault> {
    let any = !roles::roles(&call.snapshot, &call.who()?.user_id, &gate::Scoped::System).is_empty();
    let items = if any { vec![json!({"all": true})] } else { Vec::new() };
    Ok(list(&call, "system", items))
}

pub async fn show_catalog(call: Call) -> Result<Reply, Fault> {
    if call.who()?.scope == Scope::Unscoped {
        return Err(forbidden("get_auth_catalog"));
    }
    Ok(Reply::ok(
        json!({"catalog": catalog(&call, call.who()?), "links": {"self": format!("{}/auth/catalog", base(&call))}}),
    ))
}

/// A token's meaning, as its holder and services see it.
#[derive(Serialize)]
struct TokenView<'a> {
    token: TokenBody<'a>,
}

#[derive(Serialize)]
struct TokenBody<'a> {
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    catalog: Option<Vec<CatalogEntry<'a>>>,
}

fn view<'a>(call: &'a Call, snapshot: &Snapshot, who: &Principal) -> TokenView<'a> {
    let mut token = Map::new();
    let mut put = |name: &str, value: Value| token.insert(name.to_owned(), value);
    put("methods", json!(who.methods));
    put(
        "user",
        json!({
            "domain": domain(snapshot, &who.user_domain_id),
            "id": who.user_id,
            "name": who.user_name,
            "password_expires_at": null,
        }),
    );
    put("audit_ids", json!(who.audit_ids));
    put("expires_at", json!(time(who.expires_at)));
    put("issued_at", json!(time(who.issued_at)));
    match &who.scope {
        Scope::Unscoped => {}
        Scope::Project { id, name, domain_id } => {
            put("project", json!({"domain": domain(snapshot, domain_id), "id": id, "name": name}));
            put("is_domain", json!(false));
        }
        Scope::Domain { id } => {
            put("domain", domain(snapshot, id));
        }
        Scope::System => {
            put("system", json!({"all": true}));
        }
    }
    if who.scope != Scope::Unscoped {
        let roles: Value = who.roles.iter().map(|role| json!({"id": role.id, "name": role.name})).collect();
        put("roles", roles);
    }
    if let Some(credential) = who.app_credential_id.as_ref().and_then(|id| snapshot.get::<AppCredential>(id)) {
        let mut shown = json!({"id": credential.id, "name": credential.name, "restricted": !credential.unrestricted});
        if !credential.access_rules.is_empty() {
            shown["access_rules"] = json!(credential.access_rules);
        }
        put("application_credential", shown);
    }
    if let Some(trust) = &who.trust {
        put(
            "OS-TRUST:trust",
            json!({
                "id": trust.trust_id,
                "trustor_user": {"id": trust.trustor_user_id},
                "trustee_user": {"id": trust.trustee_user_id},
                "impersonation": trust.impersonation,
            }),
        );
    }
    let catalogued = who.scope != Scope::Unscoped && !call.query.iter().any(|(name, _)| name == "nocatalog");
    TokenView { token: TokenBody { fields: token, catalog: catalogued.then(|| catalog(call, who)) } }
}

fn domain(snapshot: &Snapshot, id: &str) -> Value {
    json!({"id": id, "name": snapshot.get::<Domain>(id).map(|d| d.name.clone())})
}

type Object = Map<String, Value>;

fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Object, Fault> {
    value.get(name).and_then(Value::as_object).ok_or_else(|| missing(name))
}

fn object_in<'a>(value: &'a Object, name: &str) -> Result<&'a Object, Fault> {
    value.get(name).and_then(Value::as_object).ok_or_else(|| missing(name))
}

/// An optional text of an object; anything but a text is malformed.
fn text(value: &Object, name: &str) -> Result<Option<String>, Fault> {
    match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(super::wire::invalid(name, "it is not of type 'string'")),
    }
}

fn required(value: &Object, name: &str) -> Result<String, Fault> {
    text(value, name)?.ok_or_else(|| missing(name))
}

fn domain_ref(value: Option<&Value>) -> Result<DomainRef, Fault> {
    match value.and_then(Value::as_object) {
        Some(domain) => Ok(DomainRef { id: text(domain, "id")?, name: text(domain, "name")? }),
        None => Ok(DomainRef::default()),
    }
}

fn named_ref(value: &Object) -> Result<NamedRef, Fault> {
    let named =
        NamedRef { id: text(value, "id")?, name: text(value, "name")?, domain: domain_ref(value.get("domain"))? };
    if named.id.is_none() && named.name.is_none() {
        return Err(missing("id"));
    }
    if named.id.is_none() && named.domain == DomainRef::default() {
        return Err(missing("domain"));
    }
    Ok(named)
}

fn proofs(identity: &Object) -> Result<Vec<Proof>, Fault> {
    let methods = identity.get("methods").and_then(Value::as_array).ok_or_else(|| missing("methods"))?;
    if methods.is_empty() || methods.len() > 3 {
        return Err(super::wire::invalid("methods", "it must name one to three methods"));
    }
    let mut proofs = Vec::new();
    for (at, method) in methods.iter().enumerate() {
        if methods[..at].contains(method) {
            continue;
        }
        proofs.push(match method.as_str() {
            Some("password") => {
                let user = object_in(object_in(identity, "password")?, "user")?;
                Proof::Password { user: named_ref(user)?, password: required(user, "password")? }
            }
            Some("token") => Proof::Token(required(object_in(identity, "token")?, "id")?),
            Some("application_credential") => {
                let credential = object_in(identity, "application_credential")?;
                let (id, name) = (text(credential, "id")?, text(credential, "name")?);
                let user = match (&id, credential.get("user").and_then(Value::as_object)) {
                    (None, Some(user)) => named_ref(user)?,
                    (None, None) => return Err(missing("user")),
                    (Some(_), _) => NamedRef::default(),
                };
                Proof::AppCredential { id, name, user, secret: required(credential, "secret")? }
            }
            _ => return Err(Fault::Unauthorized("Attempted to authenticate with an unsupported method.".into())),
        });
    }
    Ok(proofs)
}

fn scope_request(scope: Option<&Value>) -> Result<ScopeRequest, Fault> {
    let scope = match scope {
        None | Some(Value::Null) => return Ok(ScopeRequest::Default),
        Some(Value::String(text)) if text == "unscoped" => return Ok(ScopeRequest::Unscoped),
        Some(Value::Object(scope)) => scope,
        Some(_) => return Err(super::wire::invalid("scope", "it is not of type 'object'")),
    };
    let mut requests = Vec::new();
    for (name, value) in scope {
        let within = || value.as_object().ok_or_else(|| super::wire::invalid(name, "it is not of type 'object'"));
        requests.push(match name.as_str() {
            "unscoped" => ScopeRequest::Unscoped,
            "system" if within()?.get("all") == Some(&json!(true)) => ScopeRequest::System,
            "system" => return Err(super::wire::invalid("system", "{\"all\": true} is all there is")),
            "domain" => ScopeRequest::Domain(domain_ref(Some(value))?),
            "project" => ScopeRequest::Project(named_ref(within()?)?),
            "OS-TRUST:trust" => ScopeRequest::Trust(required(within()?, "id")?),
            _ => return Err(super::wire::invalid("scope", &format!("'{name}' is unknown"))),
        });
    }
    match requests.len() {
        0 => Ok(ScopeRequest::Default),
        1 => Ok(requests.remove(0)),
        _ => Err(Fault::invalid("Scoping to more than one of project, domain, system and trust is not allowed.")),
    }
}
