//! `/v3/users`.

use std::collections::BTreeSet;

use gate::{Proof, ScopeRequest, revoke};
use model::{
    AccessRule, AppCredential, Assignment, Change, Credential, Domain, Entry, Fault, Group, Index, Keypair, Options,
    Project, Snapshot, User, option,
};
use serde_json::{Value, json};

use super::options::Wanted;
use super::reach::domain_of;
use super::wire::{Fields, base, duplicate, get, invalid, list, missing, page, passes, passes_flag, self_or_reader};
use super::{Deletion, groups, reach, trusts};
use crate::call::{Call, Reply};

const KNOWN: [&str; 10] = [
    "id",
    "name",
    "domain_id",
    "enabled",
    "password",
    "original_password",
    "description",
    "email",
    "default_project_id",
    "options",
];

pub fn view(base: &str, user: &User) -> Value {
    let mut value = json!({
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "password_expires_at": null,
        "options": user.options,
        "links": {"self": format!("{base}/users/{}", user.id)},
    });
    let optional =
        [("default_project_id", &user.default_project_id), ("description", &user.description), ("email", &user.email)];
    for (name, text) in optional {
        if let Some(text) = text {
            value[name] = json!(text);
        }
    }
    for (name, extra) in &user.extra {
        value[name] = extra.clone();
    }
    value
}

fn reply(call: &Call, status: u16, user: &User) -> Reply {
    Reply::json(status, &json!({"user": view(&base(call), user)}))
}

fn check_name(snapshot: &Snapshot, user: &User) -> Result<(), Fault> {
    let same = format!("{}/{}", user.domain_id, user.name);
    match snapshot.find::<User>(Index::Name, &same).any(|u| u.id != user.id) {
        true => Err(duplicate("user", &user.name, Some(&user.domain_id))),
        false => Ok(()),
    }
}

/// A default project that is a domain's id would never be usable.
fn check_default_project(snapshot: &Snapshot, user: &User) -> Result<(), Fault> {
    let Some(id) = &user.default_project_id else { return Ok(()) };
    if snapshot.get::<Project>(id).is_none() && snapshot.get::<Domain>(id).is_some() {
        return Err(invalid("default_project_id", "User's default project ID cannot be a domain ID"));
    }
    Ok(())
}

fn passes_all(call: &Call, user: &User) -> bool {
    passes(call, "name", &user.name)
        && passes(call, "domain_id", &user.domain_id)
        && passes_flag(call, "enabled", user.enabled)
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let within = reach::within(&call)?;
    let items = call
        .snapshot
        .all::<User>()
        .filter(|u| within(&u.domain_id) && passes_all(&call, u))
        .map(|u| view(&base(&call), u.value));
    let items = items.collect();
    page(&call, "users", items)
}

/// `/v3/groups/{group_id}/users`.
pub async fn of_group(call: Call) -> Result<Reply, Fault> {
    let group = get::<Group>(&call.snapshot, call.param("group_id"))?;
    let members: BTreeSet<&String> = group.members.iter().collect();
    let users = members.into_iter().filter_map(|id| call.snapshot.get::<User>(id)).filter(|u| passes_all(&call, u));
    let items = users.map(|u| view(&base(&call), u.value)).collect();
    page(&call, "users", items)
}

/// `/v3/users/{user_id}/groups`.
pub async fn list_groups(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    self_or_reader(&call, user_id, "list_groups_for_user")?;
    get::<User>(&call.snapshot, user_id)?;
    let groups = call.snapshot.find::<Group>(Index::Owner, user_id).filter(|g| passes(&call, "name", &g.name));
    let items = groups.map(|g| groups::view(&base(&call), g.value)).collect();
    Ok(list(&call, "groups", items))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    self_or_reader(&call, user_id, "get_user")?;
    Ok(reply(&call, 200, get::<User>(&call.snapshot, user_id)?.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "user").await?;
    let options = Wanted::of_user(&fields)?;
    let mut user = User {
        id: gate::new_id(),
        name: fields.new_name()?,
        domain_id: domain_of(&call, &fields)?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
        password_hash: None,
        password_history: Vec::new(),
        description: fields.text("description")?,
        email: fields.text("email")?,
        default_project_id: fields.text("default_project_id")?,
        extra: fields.extra(&KNOWN),
        options: Options::new(),
    };
    options.apply(&mut user.options);
    check_name(&call.snapshot, &user)?;
    if let Some(password) = fields.text("password")? {
        user.password_hash = Some(call.cloud.gate.passwords().hash(&password, call.client).await?);
    }
    let created = call.cloud.store.transact(|snapshot| {
        check_name(snapshot, &user)?;
        check_default_project(snapshot, &user)?;
        Ok((Change::from(user.clone()), ()))
    });
    created.await?;
    Ok(reply(&call, 201, &user))
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "user").await?;
    let options = Wanted::of_user(&fields)?;
    let (name, enabled, extra) = (fields.name()?, fields.flag("enabled")?, fields.extra(&KNOWN));
    let (description, email) = (fields.nullable("description")?, fields.nullable("email")?);
    let (default_project_id, domain) =
        (fields.nullable("default_project_id")?, fields.reference::<Domain>("domain_id")?);
    get::<User>(&call.snapshot, call.param("user_id"))?;
    let hash = match fields.nullable("password")? {
        Some(Some(password)) => Some(Some(call.cloud.gate.passwords().hash(&password, call.client).await?)),
        Some(None) => Some(None),
        None => None,
    };
    let lifetime = call.cloud.gate.lifetime();
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = get::<User>(snapshot, call.param("user_id"))?;
        let mut user = entry.value.clone();
        if domain.as_ref().is_some_and(|domain| !domain.is(&user.domain_id)) {
            return Err(invalid("domain_id", "Cannot change Domain ID"));
        }
        user.name = name.clone().unwrap_or(user.name);
        user.enabled = enabled.unwrap_or(user.enabled);
        user.description = description.clone().unwrap_or(user.description);
        user.email = email.clone().unwrap_or(user.email);
        user.default_project_id = default_project_id.clone().unwrap_or(user.default_project_id);
        if let Some(hash) = &hash {
            gate::password::replace(&mut user, hash.clone());
        }
        user.extra.extend(extra.clone());
        options.apply(&mut user.options);
        check_name(snapshot, &user)?;
        check_default_project(snapshot, &user)?;
        let mut change = Change::new();
        if hash.is_some() || (entry.enabled && !user.enabled) {
            revoke::user_tokens(&mut change, snapshot, &user.id, model::Time::now(), lifetime);
        }
        change.update(entry, user.clone());
        Ok((change, user))
    });
    Ok(reply(&call, 200, &updated.await?))
}

/// `/v3/users/{user_id}/password`: the old password is the credential, so no token is needed.
pub async fn change_password(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "user").await?;
    let old = fields.text("original_password")?.ok_or_else(|| missing("original_password"))?;
    let new = fields.text("password")?.ok_or_else(|| missing("password"))?;
    let user = gate::NamedRef { id: Some(call.param("user_id").to_owned()), ..Default::default() };
    call.cloud.gate.login(vec![Proof::Password { user, password: old }], ScopeRequest::Unscoped, call.client).await?;
    let snapshot = call.cloud.store.snapshot();
    if get::<User>(&snapshot, call.param("user_id"))?.has(option::LOCK_PASSWORD) {
        return Err(Fault::invalid(
            "You cannot change your password at this time due to password policy disallowing password changes. Please \
             contact your administrator to reset your password.",
        ));
    }
    call.cloud
        .gate
        .passwords()
        .refuse_reuse(get::<User>(&snapshot, call.param("user_id"))?.value, &new, call.client)
        .await?;
    let hash = call.cloud.gate.passwords().hash(&new, call.client).await?;
    let lifetime = call.cloud.gate.lifetime();
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = get::<User>(snapshot, call.param("user_id"))?;
        let mut change = Change::new();
        change.edit(entry, |user| gate::password::replace(user, Some(hash.clone())));
        revoke::user_tokens(&mut change, snapshot, &entry.id, model::Time::now(), lifetime);
        Ok((change, ()))
    });
    changed.await?;
    Ok(Reply::empty(204))
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = Deletion::delete_from(&call.cloud.store, |snapshot| {
        let entry = get::<User>(snapshot, call.param("user_id"))?;
        let mut deletion = Deletion::default();
        gather(snapshot, &entry, &mut deletion);
        Ok(deletion)
    });
    deleted.await?;
    Ok(Reply::empty(204))
}

/// What goes with a user.
pub fn gather(snapshot: &Snapshot, user: &Entry<'_, User>, deletion: &mut Deletion) {
    for assignment in snapshot.find::<Assignment>(Index::Owner, &user.id) {
        deletion.delete(assignment);
    }
    for credential in snapshot.find::<AppCredential>(Index::Owner, &user.id) {
        deletion.delete(credential);
    }
    for credential in snapshot.find::<Credential>(Index::Owner, &user.id) {
        deletion.delete(credential);
    }
    for rule in snapshot.find::<AccessRule>(Index::Owner, &user.id) {
        deletion.delete(rule);
    }
    for pair in snapshot.find::<Keypair>(Index::Owner, &user.id) {
        deletion.delete(pair);
    }
    trusts::gather_of_user(snapshot, &user.id, deletion);
    deletion.leave_groups(&user.id);
    deletion.delete(*user);
}
