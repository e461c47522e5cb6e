//! `/v3/users`.

use std::collections::BTreeSet;

use gate::{Proof, ScopeRequest, revoke};
use model::{
    AccessRule, AppCredential, Assignment, Change, Credential, Domain, Entry, Fault, Group, Index, Keypair, Kind,
    Project, Snapshot, Time, User, option,
};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, Unknown, field, ruled, said, shown};
use super::options::Wanted;
use super::reach::domain_of;
use super::wire::{Fields, duplicate, get, invalid, missing, self_or_reader};
use super::{Deletion, reach, trusts};
use crate::call::{Call, Reply};
use crate::json::Json;

/// A text that is shown if there is one.
macro_rules! optional {
    ($field:ident) => {
        field!($field: Is::TextOrNull).get(|_, user| user.$field.as_ref().map_or(Json::Absent, Json::from))
    };
}

impl KeystoneResource for User {
    const ONE: &'static str = "user";
    const MANY: &'static str = "users";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        field!(name: Is::Name(255)).required().by(By::Text),
        ruled::<Self>("domain_id", Is::Id(&[Kind::Domain]), |_, user| (&user.domain_id).into()).by(By::Text),
        field!(enabled: Is::Flag).by(By::Flag),
        said::<Self>("password", Is::TextOrNull),
        // Of the endpoint that changes a password; here it says nothing.
        said::<Self>("original_password", Is::Any),
        shown::<Self>("password_expires_at", |_, _| Json::Null),
        optional!(description),
        optional!(email),
        optional!(default_project_id),
        ruled::<Self>("options", Is::Any, |_, user| (&user.options).into()),
    ];
    const UNKNOWN: Unknown<Self> = Unknown::Kept(|user| &user.extra, |user| &mut user.extra);

    fn path(&self) -> String {
        format!("users/{}", self.id)
    }
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

/// Whether a list may have users in it: none has a password that expires, so that none is meant by a moment of that.
fn listed(call: &Call) -> Result<bool, Fault> {
    const NAME: &str = "password_expires_at";
    let Some(asked) = call.query(NAME) else { return Ok(true) };
    let formed = |(how, moment): (&str, &str)| {
        ["lt", "lte", "gt", "gte", "eq", "neq"].contains(&how) && moment.parse::<Time>().is_ok()
    };
    match asked.split_once(':').is_some_and(formed) {
        true => Ok(false),
        false => Err(invalid(NAME, "it must be like gt:2030-01-31T00:00:00Z, with lt, lte, gt, gte, eq or neq")),
    }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let (listed, within) = (listed(&call)?, reach::within(&call)?);
    let users = call.snapshot.all::<User>().map(|user| user.value);
    attrs::list(&call, users.filter(|user| listed && within(&user.domain_id)))
}

/// `/v3/groups/{group_id}/users`.
pub async fn of_group(call: Call) -> Result<Reply, Fault> {
    let group = get::<Group>(&call.snapshot, call.param("group_id"))?;
    let listed = listed(&call)?;
    let members: BTreeSet<&String> = group.members.iter().filter(|_| listed).collect();
    attrs::list(&call, members.into_iter().filter_map(|id| call.snapshot.get::<User>(id)).map(|user| user.value))
}

/// `/v3/users/{user_id}/groups`.
pub async fn list_groups(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    self_or_reader(&call, user_id, "list_groups_for_user")?;
    get::<User>(&call.snapshot, user_id)?;
    attrs::list(&call, call.snapshot.find::<Group>(Index::Owner, user_id).map(|group| group.value))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    self_or_reader(&call, user_id, "get_user")?;
    Ok(attrs::reply(&call, 200, get::<User>(&call.snapshot, user_id)?.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<User>::new(&mut call).await?;
    let options = Wanted::of_user(&given)?;
    let domain_id = domain_of(&call, &given)?;
    let mut user = given.fill(User { id: gate::new_id(), domain_id, enabled: true, ..User::default() })?;
    options.apply(&mut user.options);
    check_name(&call.snapshot, &user)?;
    if let Some(password) = given.text("password")? {
        user.password_hash = Some(call.cloud.gate.passwords().hash(&password, call.client).await?);
    }
    let created = call.cloud.store.transact(|snapshot| {
        check_name(snapshot, &user)?;
        check_default_project(snapshot, &user)?;
        Ok((Change::from(user.clone()), ()))
    });
    created.await?;
    Ok(attrs::reply(&call, 201, &user))
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<User>::change(&mut call).await?;
    let options = Wanted::of_user(&given)?;
    let domain = given.reference::<Domain>("domain_id")?;
    get::<User>(&call.snapshot, call.param("user_id"))?;
    let hash = match given.nullable("password")? {
        Some(Some(password)) => Some(Some(call.cloud.gate.passwords().hash(&password, call.client).await?)),
        Some(None) => Some(None),
        None => None,
    };
    let lifetime = call.cloud.gate.lifetime();
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = get::<User>(snapshot, call.param("user_id"))?;
        let mut user = given.fill(entry.value.clone())?;
        if domain.as_ref().is_some_and(|domain| !domain.is(&user.domain_id)) {
            return Err(invalid("domain_id", "Cannot change Domain ID"));
        }
        if let Some(hash) = &hash {
            gate::password::replace(&mut user, hash.clone());
        }
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
    Ok(attrs::reply(&call, 200, &updated.await?))
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
