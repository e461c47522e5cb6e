//! Key pairs. They belong to users, not to projects.

use model::{Change, Entry, Fault, Index, Keypair, Kind, Pool, Snapshot, derived_id};
use serde_json::{Value, json};

use super::body;
use super::fault::{missing, over};
use super::schema::{Is, Schema, property};
use super::wire::{list, number_of, page, time_micro};
use super::{keys, quotas};
use crate::attrs::{Answers, Attr, Shown, attr};
use crate::call::{Call, Reply};
use crate::json::Json;

/// Whose key pairs the request is about: the caller's, or (2.10, administrators) another user's.
fn user(call: &Call, asked: Option<&str>) -> Result<String, Fault> {
    let who = call.who()?;
    match asked.filter(|id| *id != who.user_id) {
        None => Ok(who.user_id.clone()),
        Some(_) if call.version < (2, 10) => {
            Err(Fault::Invalid("Additional properties are not allowed ('user_id' was unexpected)".into()))
        }
        Some(id) if who.is_admin() => Ok(id.to_owned()),
        Some(_) => Err(Fault::Forbidden("Policy doesn't allow os_compute_api:os-keypairs to be performed.".into())),
    }
}

fn find<'a>(snapshot: &'a Snapshot, user: &str, name: &str) -> Result<Entry<'a, Keypair>, Fault> {
    let found = snapshot.get::<Keypair>(&format!("{user}/{name}"));
    found.ok_or_else(|| missing(format!("Keypair {name} not found for user {user}")))
}

impl Shown for Keypair {
    type Of<'a> = &'a Keypair;
    const ONE: &'static str = "keypair";
    const ATTRS: &'static [Attr<Self>] = &[
        attr::<Self>("name", |_, pair| (&pair.name).into()),
        attr::<Self>("public_key", |_, pair| (&pair.public_key).into()),
        attr::<Self>("fingerprint", |_, pair| (&pair.fingerprint).into()),
        attr::<Self>("type", |_, pair| (&pair.kind).into()).since(2, 2),
        attr::<Self>("user_id", |_, pair| (&pair.user_id).into()).only(Answers::ONE.and(Answers::MADE)),
        // Nova's number of the row; ours have none, so one is made from the name.
        attr::<Self>("id", |_, pair| number_of(&derived_id(&["keypair", &pair.user_id, &pair.name])).into())
            .only(Answers::ONE),
        attr::<Self>("created_at", |_, pair| time_micro(pair.created_at).into()).only(Answers::ONE),
        attr::<Self>("deleted", |_, _| false.into()).only(Answers::ONE),
        attr::<Self>("deleted_at", |_, _| Json::Null).only(Answers::ONE),
        attr::<Self>("updated_at", |_, _| Json::Null).only(Answers::ONE),
    ];
}

/// `GET /os-keypairs`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let user = user(&call, call.query("user_id"))?;
    let mut pairs: Vec<&Keypair> =
        call.snapshot.find::<Keypair>(Index::Owner, &user).map(|entry| entry.value).collect();
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    let (pairs, next) = if call.version >= (2, 35) {
        let page = page(&call, pairs, |pair| pair.name.clone())?;
        let next = page.more.then(|| page.items.last().map(|pair| pair.name.clone())).flatten();
        (page.items, next)
    } else {
        (pairs, None)
    };
    let items = pairs.into_iter().map(|pair| json!({"keypair": Keypair::shown(&call, &pair, Answers::LIST)})).collect();
    Ok(Reply::ok(list(&call, "keypairs", items, next)))
}

/// `GET /os-keypairs/{name}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let user = user(&call, call.query("user_id"))?;
    let pair = find(&call.snapshot, &user, call.param("name"))?;
    Ok(Reply::ok(json!({"keypair": Keypair::shown(&call, &&*pair, Answers::ONE)})))
}

fn checked_name(version: (u16, u16), name: &str, value: &Value) -> Result<Value, Fault> {
    let text = body::name(name, value)?;
    let more = if version >= (2, 92) { " -_@." } else { " -_" };
    if text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c)) {
        return Ok(text.into());
    }
    Err(match version >= (2, 92) {
        true => body::bad(name, value, "Only expected characters: [a-zA-Z0-9-_@. ]"),
        false => Fault::Invalid("Keypair data is invalid: Keypair name contains unsafe characters".into()),
    })
}

/// What `POST /os-keypairs` says.
pub const KEYPAIR: Schema<Keypair> = Schema {
    name: "keypair",
    properties: &[
        property("name", Is::Own(checked_name)).required(),
        property("public_key", Is::Text(16 * 1024)).until(2, 91),
        property("public_key", Is::Text(16 * 1024)).since(2, 92).required(),
        property("type", Is::OneOf(&["ssh", "x509"])).since(2, 2),
        property("user_id", Is::Text(255)).since(2, 10).refers_to(&[(Kind::User, r#""$""#)]),
    ],
};

/// `POST /os-keypairs`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let given = KEYPAIR.read(call.version, &body)?;
    let name = given.text("name").unwrap_or_default().to_owned();
    let kind = given.text("type").unwrap_or("ssh").to_owned();
    let user = user(&call, given.text("user_id"))?;
    let (public_key, private_key) = match given.text("public_key") {
        // As it was given: whoever compares it with a file would see a change for ever.
        Some(text) => (text.to_owned(), None),
        None if kind == "x509" => {
            let pair = keys::generate_certificate(&user)?;
            (pair.public_key, Some(pair.private_key))
        }
        None => {
            let pair = keys::generate()?;
            (format!("{} Generated-by-Nova", pair.public_key), Some(pair.private_key))
        }
    };
    let print = if kind == "x509" { keys::certificate_fingerprint } else { keys::fingerprint };
    let fingerprint = print(&public_key)
        .ok_or_else(|| Fault::Invalid("Keypair data is invalid: failed to generate fingerprint".into()))?;
    let pair = Keypair { user_id: user, name, kind, public_key, fingerprint, created_at: call.now };
    let limit = quotas::limit(&call.snapshot, call.who()?.project_id().unwrap_or(""), "key_pairs");
    call.cloud
        .store
        .transact(|snapshot| {
            if find(snapshot, &pair.user_id, &pair.name).is_ok() {
                return Err(Fault::Conflict(format!("Key pair '{}' already exists.", pair.name)));
            }
            let used = snapshot.find::<Keypair>(Index::Owner, &pair.user_id).count() as u64;
            if limit.is_some_and(|limit| used >= limit) {
                return Err(over("key_pairs", 1, Pool { used, limit }));
            }
            Ok((Change::from(pair.clone()), ()))
        })
        .await?;
    let mut out = json!(Keypair::shown(&call, &&pair, Answers::MADE));
    if let Some(key) = private_key {
        out["private_key"] = json!(key);
    }
    Ok(Reply::json(if call.version >= (2, 2) { 201 } else { 200 }, &json!({"keypair": out})))
}

/// `DELETE /os-keypairs/{name}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let user = user(&call, call.query("user_id"))?;
    let name = call.param("name");
    let gone = |snapshot: &Snapshot| {
        let mut change = Change::new();
        change.delete(find(snapshot, &user, name)?);
        Ok((change, ()))
    };
    call.cloud.store.transact(gone).await?;
    Ok(Reply::empty(if call.version >= (2, 2) { 204 } else { 202 }))
}
