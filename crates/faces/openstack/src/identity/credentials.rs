//! `/v3/credentials`: secrets that are kept for a user and can be read again.
//!
//! Their user reads and changes them, an administrator everybody's, a reader of the system sees them, as in Keystone's
//! defaults. Whoever acts for a user in a narrower way than the user does not: a trust reaches none of them, and an
//! application credential only those that were made by it. Else the secret would open more than what it was read with.

use std::collections::BTreeMap;

use gate::{Ref, View, ec2};
use model::{Change, Credential, Entry, Fault, Index, Kind, Project, Snapshot, User, free_place};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, Unknown, field, ruled};
use super::reach;
use super::wire::{forbidden, invalid, missing, undelegated};
use crate::access::reads_all;
use crate::call::{Call, Reply};

/// The most bytes of a credential's texts.
const LONGEST: usize = 16 << 10;
const LONGEST_TYPE: usize = 255;

impl KeystoneResource for Credential {
    const ONE: &'static str = "credential";
    const MANY: &'static str = "credentials";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        ruled::<Self>("user_id", Is::Id(&[Kind::User]), |_, own| (&own.user_id).into()).required().by(By::Text),
        ruled::<Self>("project_id", Is::IdOrNull(&[Kind::Project]), |_, own| (&own.project_id).into()),
        field!("type" kind: Is::Text).required().by(By::Text),
        field!(blob: Is::Text).required(),
    ];
    const UNKNOWN: Unknown<Self> = Unknown::Kept(|own| &own.extra, |own| &mut own.extra);

    fn path(&self) -> String {
        format!("credentials/{}", self.id)
    }
}

/// Whether the caller may know of a credential.
pub fn sees(call: &Call, credential: &Credential) -> Result<bool, Fault> {
    let who = call.who()?;
    let own = who.user_id == credential.user_id;
    let within = who.app_credential_id.is_none() || who.app_credential_id == credential.app_credential_id;
    Ok((own || reads_all(who)) && within)
}

fn find<'a>(snapshot: &'a Snapshot, call: &Call) -> Result<Entry<'a, Credential>, Fault> {
    let id = call.param("credential_id");
    let not_found = || Fault::NotFound { what: "credential".into(), id: id.to_owned() };
    let entry = snapshot.get::<Credential>(id).ok_or_else(not_found)?;
    if sees(call, entry.value)? { Ok(entry) } else { Err(not_found()) }
}

/// The credential of the path, if the caller may change it.
fn find_own<'a>(snapshot: &'a Snapshot, call: &Call, action: &str) -> Result<Entry<'a, Credential>, Fault> {
    let entry = find(snapshot, call)?;
    let who = call.who()?;
    if who.is_admin() || who.user_id == entry.user_id { Ok(entry) } else { Err(forbidden(action)) }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    undelegated(&call, "list_credentials")?;
    let who = call.who()?;
    let rows: Vec<Entry<'_, Credential>> = match reads_all(who) {
        true => call.snapshot.all::<Credential>().collect(),
        false => call.snapshot.find::<Credential>(Index::Owner, &who.user_id).collect(),
    };
    let mut seen = Vec::new();
    for row in rows {
        if sees(&call, row.value)? {
            seen.push(row.value);
        }
    }
    attrs::list(&call, seen.into_iter())
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    undelegated(&call, "get_credential")?;
    let credential = find(&call.snapshot, &call)?;
    Ok(attrs::reply(&call, 200, credential.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Credential>::new(&mut call).await?;
    undelegated(&call, "create_credential")?;
    let user = given.reference::<User>("user_id")?.ok_or_else(|| missing("user_id"))?;
    let text = |name: &str| Ok::<_, Fault>(given.text(name)?.unwrap_or_default());
    let project = given.reference::<Project>("project_id")?;
    let credential = given.fill(new(&call, &user, text("type")?, text("blob")?, project, "create_credential")?)?;
    store(&call, &credential).await?;
    Ok(attrs::reply(&call, 201, &credential))
}

/// A credential for a user, which is nowhere yet.
pub fn new(
    call: &Call,
    user: &Ref<User>,
    kind: String,
    blob: String,
    project: Option<Ref<Project>>,
    action: &str,
) -> Result<Credential, Fault> {
    let who = call.who()?;
    if !who.is_admin() && !user.is(&who.user_id) {
        return Err(forbidden(action));
    }
    let user_id = user_of(call, &call.snapshot, user)?;
    let project = project.map(|project| reach::own_project(call, &call.snapshot, &user_id, &project));
    let (project_id, app_credential_id) = (project.transpose()?, who.app_credential_id.clone());
    // What an application credential makes is its user's, and cannot reach further than it does.
    let app_credential_id = app_credential_id.filter(|_| who.user_id == user_id);
    let id = gate::new_id();
    let extra = BTreeMap::new();
    let mut credential = Credential { id, user_id, project_id, kind, blob, app_credential_id, place: 0, extra };
    if credential.kind == Credential::EC2 {
        let (access, _) = keys(&credential)?;
        credential.id = ec2::id_of(&access);
    }
    Ok(credential)
}

/// The keys of an EC2 credential, which has to have them.
fn keys(credential: &Credential) -> Result<(String, String), Fault> {
    if credential.project_id.is_none() {
        return Err(missing("project_id"));
    }
    let fits = |access: &str| (1..=Credential::LONGEST_ACCESS).contains(&access.len());
    credential.keys().filter(|(access, secret)| fits(access) && !secret.is_empty()).ok_or_else(|| {
        let most = Credential::LONGEST_ACCESS;
        Fault::invalid(format!(
            "Invalid blob in credential: it must be JSON with the texts 'access', of at most {most} bytes, and 'secret'."
        ))
    })
}

/// Refuses what is too long, and projects of which the user is not.
fn check(call: &Call, snapshot: &Snapshot, credential: &Credential) -> Result<(), Fault> {
    if credential.kind.is_empty() || credential.kind.len() > LONGEST_TYPE {
        return Err(invalid("type", &format!("it must have 1 to {LONGEST_TYPE} bytes")));
    }
    if credential.blob.len() + attrs::size(&credential.extra) > LONGEST {
        return Err(invalid("blob", &format!("the credential is longer than {LONGEST} bytes")));
    }
    // The user may have lost the project since, and the credential may have got another user.
    let Some(id) = &credential.project_id else { return Ok(()) };
    reach::own_project(call, snapshot, &credential.user_id, &Ref::sent(id)).map(drop)
}

/// The user whose a credential shall be.
fn user_of(call: &Call, snapshot: &Snapshot, user: &Ref<User>) -> Result<String, Fault> {
    let who = call.who()?;
    let may = |user: &User| who.is_admin() || who.user_id == user.id;
    View::new(snapshot, who).refer_if(user, may).map(|user| user.id.clone())
}

/// The place of one more credential of a user.
fn place(snapshot: &Snapshot, user_id: &str) -> Result<u32, Fault> {
    let taken = snapshot.find::<Credential>(Index::Owner, user_id).map(|row| row.place);
    free_place(taken, Credential::MOST).ok_or_else(|| {
        let most = Credential::MOST;
        Fault::Forbidden(format!("User {user_id} has {most} credentials, the most there may be. Delete some first."))
    })
}

fn taken(id: &str) -> Fault {
    Fault::conflict(format!("Conflict occurred attempting to store credential - Duplicate entry found with id {id}."))
}

pub async fn store(call: &Call, credential: &Credential) -> Result<(), Fault> {
    let created = call.cloud.store.transact(|snapshot| {
        check(call, snapshot, credential)?;
        let access = credential.keys().map(|(access, _)| access);
        let is_taken = access.as_ref().is_some_and(|access| ec2::by_access(snapshot, access).is_some());
        if is_taken || snapshot.get::<Credential>(&credential.id).is_some() {
            return Err(taken(access.as_deref().unwrap_or(&credential.id)));
        }
        let row = Credential { place: place(snapshot, &credential.user_id)?, ..credential.clone() };
        Ok((Change::from(row), ()))
    });
    created.await
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Credential>::change(&mut call).await?;
    undelegated(&call, "update_credential")?;
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = find_own(snapshot, &call, "update_credential")?;
        let mut row = edited(&call, snapshot, &given, entry.value)?;
        if row.user_id != entry.user_id {
            row.place = place(snapshot, &row.user_id)?;
        }
        check(&call, snapshot, &row)?;
        let mut change = Change::new();
        change.edit(entry, |old| old.clone_from(&row));
        Ok((change, row))
    });
    let row = changed.await?;
    Ok(attrs::reply(&call, 200, &row))
}

/// A credential as a body wants it to be.
fn edited(call: &Call, snapshot: &Snapshot, given: &Given<Credential>, old: &Credential) -> Result<Credential, Fault> {
    let mut row = given.fill(old.clone())?;
    if let Some(user) = given.reference::<User>("user_id")?.filter(|user| !user.is(&old.user_id)) {
        if !call.who()?.is_admin() {
            return Err(forbidden("update_credential"));
        }
        row.user_id = user_of(call, snapshot, &user)?;
    }
    if let Some(project) = given.reference_or_null::<Project>("project_id")? {
        let project = project.map(|project| reach::own_project(call, snapshot, &row.user_id, &project));
        row.project_id = project.transpose()?;
    }
    if row.kind == Credential::EC2 {
        let (access, _) = keys(&row)?;
        if ec2::by_access(snapshot, &access).is_some_and(|other| other.id != row.id) {
            return Err(taken(&access));
        }
    }
    Ok(row)
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    undelegated(&call, "delete_credential")?;
    let deleted = call.cloud.store.transact(|snapshot| {
        let mut change = Change::new();
        change.delete(find_own(snapshot, &call, "delete_credential")?);
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(204))
}
