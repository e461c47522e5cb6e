//! `/v3/users/{user_id}/application_credentials`.

use model::{AppCredential, Change, Credential, Fault, Index, Role, Snapshot, User, free_place};
use serde_json::Value;

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, field, ruled, said, shown};
use super::wire::{duplicate, forbidden, future, get, invalid, only_self, self_or_admin, undelegated};
use super::{Deletion, access_rules};
use crate::call::{Call, Reply};
use crate::json::Json;

/// The most bytes of a description.
const LONGEST_DESCRIPTION: usize = 4096;

impl KeystoneResource for AppCredential {
    const ONE: &'static str = "application_credential";
    const MANY: &'static str = "application_credentials";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        field!(name: Is::Name(255)).required().by(By::Text).once(),
        field!(description: Is::TextOrNull).once(),
        field!(user_id),
        field!(project_id),
        shown::<Self>("system", |_, _| Json::Null),
        ruled::<Self>("roles", Is::Any, roles_shown).once(),
        // Keystone shows this moment without a zone; it is UTC.
        ruled::<Self>("expires_at", Is::Text, |_, own| {
            own.expires_at.map(|end| end.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()).into()
        })
        .once(),
        field!(unrestricted: Is::Flag).once(),
        ruled::<Self>("access_rules", Is::Any, |_, own| match own.access_rules.is_empty() {
            true => Json::Absent,
            false => (&own.access_rules).into(),
        })
        .once(),
        said::<Self>("secret", Is::Text).once(),
    ];

    fn path(&self) -> String {
        format!("users/{}/application_credentials/{}", self.user_id, self.id)
    }
}

fn roles_shown<'a>(call: &'a Call, credential: &'a AppCredential) -> Json<'a> {
    let role = |id: &String| {
        let role = call.snapshot.get::<Role>(id)?.value;
        Some(Json::object([
            ("id", (&role.id).into()),
            ("name", (&role.name).into()),
            ("domain_id", (&role.domain_id).into()),
        ]))
    };
    Json::List(credential.role_ids.iter().filter_map(role).collect())
}

/// The credential of the path, if it is the user's of the path.
fn find<'a>(snapshot: &'a Snapshot, call: &Call) -> Result<model::Entry<'a, AppCredential>, Fault> {
    let id = call.param("application_credential_id");
    let found = snapshot.get::<AppCredential>(id).filter(|c| c.user_id == call.param("user_id"));
    found.ok_or_else(|| Fault::NotFound { what: "Application Credential".into(), id: id.to_owned() })
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    only_self(&call, user_id, "list_application_credentials")?;
    get::<User>(&call.snapshot, user_id)?;
    attrs::list(&call, call.snapshot.find::<AppCredential>(Index::Owner, user_id).map(|own| own.value))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    only_self(&call, call.param("user_id"), "get_application_credential")?;
    let credential = find(&call.snapshot, &call)?;
    Ok(attrs::reply(&call, 200, credential.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<AppCredential>::new(&mut call).await?;
    let who = call.who()?;
    if who.user_id != call.param("user_id") {
        return Err(forbidden("create_application_credential"));
    }
    undelegated(&call, "create_application_credential")?;
    let project_id = who.project_id().ok_or_else(|| forbidden("create_application_credential"))?.to_owned();
    let asked = access_rules::asked(&call, given.get("access_rules"))?;
    let mut credential = given.fill(AppCredential {
        id: gate::new_id(),
        user_id: who.user_id.clone(),
        project_id,
        expires_at: future(&call, "expires_at", given.text("expires_at")?)?,
        role_ids: roles(&call, given.get("roles"))?,
        access_rules: asked.iter().map(access_rules::kept).collect(),
        ..AppCredential::default()
    })?;
    check_description(&credential)?;
    check_name(&call.snapshot, &credential)?;
    place(&call.snapshot, &credential.user_id)?;
    let secret = given.text("secret")?.unwrap_or_else(gate::new_secret);
    credential.secret_hash = call.cloud.gate.passwords().hash(&secret, call.client).await?;
    let created = call.cloud.store.transact(|snapshot| {
        check_name(snapshot, &credential)?;
        let place = Some(place(snapshot, &credential.user_id)?);
        let mut change = Change::from(AppCredential { place, ..credential.clone() });
        access_rules::keep(snapshot, &asked, &mut change)?;
        Ok((change, ()))
    });
    created.await?;
    Ok(attrs::reply_with(&call, 201, &credential, [("secret", Json::from(&secret))]))
}

fn check_name(snapshot: &Snapshot, new: &AppCredential) -> Result<(), Fault> {
    match snapshot.find::<AppCredential>(Index::Owner, &new.user_id).any(|c| c.name == new.name) {
        true => Err(duplicate("application_credential", &new.name, None)),
        false => Ok(()),
    }
}

/// The place of one more credential of a user; those of an older cloud, which have none, count too.
fn place(snapshot: &Snapshot, user_id: &str) -> Result<u32, Fault> {
    let own: Vec<Option<u32>> = snapshot.find::<AppCredential>(Index::Owner, user_id).map(|c| c.place).collect();
    let most = AppCredential::MOST;
    let room = most.saturating_sub(own.iter().filter(|place| place.is_none()).count() as u32);
    free_place(own.into_iter().flatten(), room).ok_or_else(|| {
        Fault::Forbidden(format!(
            "User {user_id} has {most} application credentials, the most there may be. Delete some first."
        ))
    })
}

fn check_description(credential: &AppCredential) -> Result<(), Fault> {
    match credential.description.as_ref().is_some_and(|text| text.len() > LONGEST_DESCRIPTION) {
        true => Err(invalid("description", &format!("it is longer than {LONGEST_DESCRIPTION} bytes"))),
        false => Ok(()),
    }
}

/// The roles that are asked for, all of which the caller must have here and now; none asked for: all.
fn roles(call: &Call, asked: Option<&Value>) -> Result<Vec<String>, Fault> {
    let who = call.who()?;
    let has = || who.roles.iter();
    let asked = match asked {
        None | Some(Value::Null) => return Ok(has().map(|role| role.id.clone()).collect()),
        Some(Value::Array(asked)) if asked.is_empty() => return Ok(has().map(|role| role.id.clone()).collect()),
        Some(Value::Array(asked)) => asked,
        Some(_) => return Err(invalid("roles", "it is not of type 'array'")),
    };
    let mut ids: Vec<String> = Vec::new();
    for role in asked {
        let (id, name) = (role["id"].as_str(), role["name"].as_str());
        if id.is_none() && name.is_none() {
            return Err(invalid("roles", "every role needs an id or a name"));
        }
        let found = has().find(|r| id.is_none_or(|id| r.id == id) && name.is_none_or(|name| r.name == name));
        let found = found.ok_or_else(|| {
            Fault::invalid(format!(
                "Invalid application credential: Could not find role assignment with role: {}, user or group: {}, \
                 project, domain, or system: {}.",
                id.or(name).unwrap_or_default(),
                who.user_id,
                who.project_id().unwrap_or_default()
            ))
        })?;
        if !ids.contains(&found.id) {
            ids.push(found.id.clone());
        }
    }
    Ok(ids)
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    self_or_admin(&call, call.param("user_id"), "delete_application_credential")?;
    undelegated(&call, "delete_application_credential")?;
    let deleted = Deletion::delete_from(&call.cloud.store, |snapshot| {
        let entry = find(snapshot, &call)?;
        let mut deletion = Deletion::default();
        gather_made(snapshot, &entry, &mut deletion);
        deletion.delete(entry);
        Ok(deletion)
    });
    deleted.await?;
    Ok(Reply::empty(204))
}

/// The credentials that were made by an application credential go with it.
pub fn gather_made(snapshot: &Snapshot, credential: &AppCredential, deletion: &mut Deletion) {
    for made in snapshot.find::<Credential>(Index::Owner, &credential.user_id) {
        if made.app_credential_id.as_ref() == Some(&credential.id) {
            deletion.delete(made);
        }
    }
}
