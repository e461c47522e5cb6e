//! EC2 credentials as a user's own resource, `/v3/users/{user_id}/credentials/OS-EC2`, and `/v3/ec2tokens`, where a service
//! that received a signed request learns whose it is. They are rows of `/v3/credentials` under their access key.

use std::collections::BTreeMap;

use gate::Ref;
use gate::ec2::{Signed, by_access};
use model::{Change, Credential, Entry, Fault, Index, Snapshot, User};
use serde_json::{Map, Value, json};

use super::wire::{Fields, base, forbidden, get, list, missing, self_or_admin, self_or_reader, undelegated};
use super::{auth, credentials};
use crate::call::{Call, Reply};

fn view(call: &Call, credential: &Credential) -> Option<Value> {
    let (access, secret) = credential.keys()?;
    let link = format!("{}/users/{}/credentials/OS-EC2/{access}", base(call), credential.user_id);
    Some(json!({
        "access": access,
        "secret": secret,
        "user_id": credential.user_id,
        "tenant_id": credential.project_id,
        "trust_id": null,
        "links": {"self": link},
    }))
}

fn find<'a>(snapshot: &'a Snapshot, call: &Call) -> Result<Entry<'a, Credential>, Fault> {
    let access = call.param("credential_id");
    let not_found = || Fault::NotFound { what: "credential".into(), id: access.to_owned() };
    let entry = by_access(snapshot, access).ok_or_else(not_found)?;
    let fits = entry.user_id == call.param("user_id");
    if fits && credentials::sees(call, entry.value)? { Ok(entry) } else { Err(not_found()) }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    undelegated(&call, "ec2_list_credentials")?;
    self_or_reader_of_all(&call, user_id, "ec2_list_credentials")?;
    get::<User>(&call.snapshot, user_id)?;
    let mut items = Vec::new();
    for row in call.snapshot.find::<Credential>(Index::Owner, user_id) {
        if credentials::sees(&call, row.value)? {
            items.extend(view(&call, row.value));
        }
    }
    Ok(list(&call, "credentials", items))
}

/// A domain's readers see its users, but not their secrets.
fn self_or_reader_of_all(call: &Call, user_id: &str, action: &str) -> Result<(), Fault> {
    match &call.who()?.scope {
        gate::Scope::Domain { .. } => self_or_admin(call, user_id, action),
        _ => self_or_reader(call, user_id, action),
    }
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    undelegated(&call, "ec2_get_credential")?;
    self_or_reader_of_all(&call, call.param("user_id"), "ec2_get_credential")?;
    let credential = find(&call.snapshot, &call)?;
    Ok(Reply::ok(json!({"credential": view(&call, credential.value)})))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    undelegated(&call, "ec2_create_credential")?;
    let user_id = call.param("user_id");
    self_or_admin(&call, user_id, "ec2_create_credential")?;
    let project = body["tenant_id"].as_str().map(Ref::sent).ok_or_else(|| missing("tenant_id"))?;
    let blob = json!({"access": gate::new_id(), "secret": gate::new_id(), "trust_id": null}).to_string();
    let (kind, action) = (Credential::EC2.to_owned(), "ec2_create_credential");
    let credential = credentials::new(&call, &Ref::sent(user_id), kind, blob, Some(project), action)?;
    credentials::store(&call, &credential).await?;
    Ok(Reply::json(201, &json!({"credential": view(&call, &credential)})))
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    undelegated(&call, "ec2_delete_credential")?;
    self_or_admin(&call, call.param("user_id"), "ec2_delete_credential")?;
    let deleted = call.cloud.store.transact(|snapshot| {
        let mut change = Change::new();
        change.delete(find(snapshot, &call)?);
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(204))
}

/// Whose a signed request is. As in Keystone since 2025, only services and administrators may ask: a signature that
/// somebody saw would else be worth a token.
pub async fn token(mut call: Call) -> Result<Reply, Fault> {
    let who = call.who()?;
    if !who.is_admin() && !who.has("service") {
        return Err(forbidden("ec2tokens_validate"));
    }
    let body = call.json().await?;
    let name = if body.get("ec2Credentials").is_some() { "ec2Credentials" } else { "credentials" };
    let fields = Fields::of(body, name)?;
    let text = |name: &str| fields.text(name).map(Option::unwrap_or_default);
    let required = |name: &str| fields.text(name)?.ok_or_else(|| missing(name));
    let signed = Signed {
        access: required("access")?,
        signature: required("signature")?,
        host: text("host")?,
        verb: text("verb")?,
        path: text("path")?,
        params: texts(fields.get("params"), str::to_owned),
        headers: texts(fields.get("headers"), str::to_lowercase),
        body_hash: text("body_hash")?,
    };
    let proof = gate::Proof::Signed(Box::new(signed));
    let (token, principal) = call.cloud.gate.login(vec![proof], gate::ScopeRequest::Default, call.client).await?;
    Ok(auth::answer(&call, 200, &token, &principal))
}

/// The texts of an object; what is no text was not signed as one.
fn texts(value: Option<&Value>, named: impl Fn(&str) -> String) -> BTreeMap<String, String> {
    let none = Map::new();
    let pairs = value.and_then(Value::as_object).unwrap_or(&none).iter();
    pairs.filter_map(|(name, value)| Some((named(name), value.as_str()?.to_owned()))).collect()
}
