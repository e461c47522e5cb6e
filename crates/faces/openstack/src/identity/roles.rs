//! `/v3/roles`. The five that every cloud has cannot be changed: what they imply and allow is part of the code. Role
//! inferences can therefore be looked at only.

use gate::Ref;
use gate::roles::{IMPLIED, implied_by};
use model::{Assignment, Change, Domain, Entry, Fault, Index, Kind, Options, Role, Snapshot};
use serde_json::{Value, json};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, field, ruled};
use super::options::{self, Wanted};
use super::wire::{base, duplicate, forbidden, get, invalid, list};
use super::{Deletion, reach};
use crate::call::{Call, Reply};
use crate::json::Json;

impl KeystoneResource for Role {
    const ONE: &'static str = "role";
    const MANY: &'static str = "roles";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        field!(name: Is::Name(255)).required().by(By::Text),
        ruled::<Self>("domain_id", Is::IdOrNull(&[Kind::Domain]), |_, role| (&role.domain_id).into()).by(By::Hand),
        field!(description: Is::TextOrNull),
        ruled::<Self>("options", Is::Any, |_, role| match is_built_in(role) {
            true => Json::object([("immutable", true.into())]),
            false => (&role.options).into(),
        }),
    ];

    fn path(&self) -> String {
        format!("roles/{}", self.id)
    }
}

fn is_built_in(role: &Role) -> bool {
    role.domain_id.is_none() && (IMPLIED.contains(&role.name.as_str()) || role.name == "service")
}

/// A role's options; those of the five are as they are for good.
fn options_of(role: &Role) -> Options {
    match is_built_in(role) {
        true => Options::from([("immutable".to_owned(), json!(true))]),
        false => role.options.clone(),
    }
}

fn check_name(snapshot: &Snapshot, role: &Role) -> Result<(), Fault> {
    let mut same = snapshot.find::<Role>(Index::Name, &role.name);
    match same.any(|r| r.id != role.id && r.domain_id == role.domain_id) {
        true => Err(duplicate("role", &role.name, None)),
        false => Ok(()),
    }
}

/// Lists the global roles, or those of the domain that is named.
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let domain = call.query("domain_id");
    if domain.is_some_and(|id| !matches!(reach::reaches(&call, id), Ok(true))) {
        return Err(forbidden("list_roles"));
    }
    let roles = call.snapshot.all::<Role>().map(|role| role.value);
    attrs::list(&call, roles.filter(|role| role.domain_id.as_deref() == domain))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    Ok(attrs::reply(&call, 200, get::<Role>(&call.snapshot, call.param("role_id"))?.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Role>::new(&mut call).await?;
    let options = Wanted::of_resource(&given)?;
    let domain_id = given.reference("domain_id")?.map(|id| reach::refer(&call, &call.snapshot, &id)).transpose()?;
    let mut role = given.fill(Role { id: gate::new_id(), domain_id, ..Role::default() })?;
    options.apply(&mut role.options);
    let created = call.cloud.store.transact(|snapshot| {
        check_name(snapshot, &role)?;
        let mut change = Change::from(role.clone());
        if let Some(id) = &role.domain_id {
            change.expect(get::<Domain>(snapshot, id)?);
        }
        Ok((change, ()))
    });
    created.await?;
    Ok(attrs::reply(&call, 201, &role))
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Role>::change(&mut call).await?;
    let options = Wanted::of_resource(&given)?;
    let domain = given.reference_or_null::<Domain>("domain_id")?;
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = get::<Role>(snapshot, call.param("role_id"))?;
        match is_built_in(&entry) {
            true => Wanted::default().check(&options_of(&entry), "role", &entry.id)?,
            false => options.check(&entry.options, "role", &entry.id)?,
        }
        let mut role = given.fill(entry.value.clone())?;
        options.apply(&mut role.options);
        if domain.as_ref().is_some_and(|domain| !is_of(domain.as_ref(), &role)) {
            return Err(invalid("domain_id", "Update of `domain_id` is not allowed"));
        }
        check_name(snapshot, &role)?;
        let mut change = Change::new();
        change.update(entry, role.clone());
        Ok((change, role))
    });
    Ok(attrs::reply(&call, 200, &updated.await?))
}

fn is_of(domain: Option<&Ref<Domain>>, role: &Role) -> bool {
    match (domain, &role.domain_id) {
        (Some(domain), Some(id)) => domain.is(id),
        (None, None) => true,
        _ => false,
    }
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = Deletion::delete_from(&call.cloud.store, |snapshot| {
        let entry = get::<Role>(snapshot, call.param("role_id"))?;
        options::check_delete(&options_of(&entry), "role", &entry.id)?;
        let mut deletion = Deletion::default();
        gather(snapshot, &entry, &mut deletion);
        Ok(deletion)
    });
    deleted.await?;
    Ok(Reply::empty(204))
}

/// What goes with a role.
pub fn gather(snapshot: &Snapshot, role: &Entry<'_, Role>, deletion: &mut Deletion) {
    for assignment in snapshot.all::<Assignment>().filter(|a| a.role_id == role.id) {
        deletion.delete(assignment);
    }
    deletion.delete(*role);
}

fn brief(base: &str, id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "links": {"self": format!("{base}/roles/{id}")}})
}

/// What a role implies directly: the next one down.
fn inference(call: &Call, role: &Role) -> Option<Value> {
    let next = IMPLIED.iter().position(|name| *name == role.name).and_then(|rank| IMPLIED.get(rank + 1))?;
    let implied = implied_by(&call.snapshot, role).into_iter().find(|r| r.name == *next)?;
    let base = base(call);
    Some(json!({
        "prior_role": brief(&base, &role.id, &role.name),
        "implies": [brief(&base, &implied.id, &implied.name)],
    }))
}

pub async fn list_inferences(call: Call) -> Result<Reply, Fault> {
    let all = call.snapshot.all::<Role>().filter_map(|role| inference(&call, role.value));
    Ok(list(&call, "role_inferences", all))
}

pub async fn list_implied(call: Call) -> Result<Reply, Fault> {
    let role = get::<Role>(&call.snapshot, call.param("role_id"))?;
    let nothing = || json!({"prior_role": brief(&base(&call), &role.id, &role.name), "implies": []});
    let inference = inference(&call, role.value).unwrap_or_else(nothing);
    let own = format!("{}{}", call.base_url(), call.uri);
    Ok(Reply::ok(json!({"role_inference": inference, "links": {"self": own}})))
}

/// What the path's prior role implies of the path's other one, in the form of a list; both roles must be there.
fn implication(call: &Call) -> Result<Option<Value>, Fault> {
    let (prior, implied) = (call.param("role_id"), call.param("implied_id"));
    let role = get::<Role>(&call.snapshot, prior)?;
    get::<Role>(&call.snapshot, implied)?;
    Ok(inference(call, role.value).filter(|inference| inference["implies"][0]["id"] == implied))
}

fn no_implication(call: &Call) -> Fault {
    Fault::NotFound {
        what: "implied_role".into(),
        id: format!("{}, {}", call.param("role_id"), call.param("implied_id")),
    }
}

pub async fn show_implied(call: Call) -> Result<Reply, Fault> {
    let mut inference = implication(&call)?.ok_or_else(|| no_implication(&call))?;
    inference["implies"] = inference["implies"][0].take();
    let own = format!("{}{}", call.base_url(), call.uri);
    Ok(Reply::ok(json!({"role_inference": inference, "links": {"self": own}})))
}

pub async fn check_implied(call: Call) -> Result<Reply, Fault> {
    implication(&call)?.ok_or_else(|| no_implication(&call))?;
    Ok(Reply::empty(204))
}

/// Tokens, trusts and clusters' grants are all read by the same fixed ladder of roles: another rule could raise somebody
/// in places that nobody thinks of, so there is none.
fn fixed_implications() -> Fault {
    let ladder = IMPLIED.join(", ");
    Fault::Forbidden(format!("What roles imply is part of this cloud and cannot be changed: {ladder}, each the next."))
}

pub async fn create_implied(call: Call) -> Result<Reply, Fault> {
    match implication(&call)? {
        Some(_) => Err(Fault::conflict(
            "Conflict occurred attempting to store implied_role - it is implied already.".to_owned(),
        )),
        None => Err(fixed_implications()),
    }
}

pub async fn delete_implied(call: Call) -> Result<Reply, Fault> {
    implication(&call)?.ok_or_else(|| no_implication(&call))?;
    Err(fixed_implications())
}
