//! `/v3/OS-TRUST/trusts`: a user lends roles on a project to another. What a trust is worth is the gate's to say, each time
//! it is used; here it is made, shown and taken back.
//!
//! Unlike Keystone, a trust that is lent on stays on its project, and an application credential lends no more than it has:
//! both would lend what the caller cannot use.

use gate::{Scoped, roles as gate_roles};
use model::{Entry, Fault, Index, Kind, Project, Role, Snapshot, Time, Trust, User, free_place};
use serde_json::Value;

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, Unknown, field, ruled, said, shown};
use super::wire::{Fields, base, forbidden, future, get, invalid, list, missing, time, unrestricted};
use super::{Deletion, reach};
use crate::access::reads_all;
use crate::call::{Call, Reply};
use crate::json::Json;

/// The most roles in one trust.
const MOST_ROLES: usize = 64;

/// How many trusts that have ended are swept away with a new one.
const SWEEP: usize = 64;

impl KeystoneResource for Trust {
    const ONE: &'static str = "trust";
    const MANY: &'static str = "trusts";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        ruled::<Self>("trustor_user_id", Is::Id(&[Kind::User]), |_, trust| (&trust.trustor_user_id).into())
            .once()
            .required()
            .by(By::Hand),
        ruled::<Self>("trustee_user_id", Is::Id(&[Kind::User]), |_, trust| (&trust.trustee_user_id).into())
            .once()
            .required()
            .by(By::Hand),
        ruled::<Self>("project_id", Is::Id(&[Kind::Project]), |_, trust| (&trust.project_id).into()).once(),
        field!(impersonation: Is::Flag).once().required(),
        ruled::<Self>("expires_at", Is::Text, |_, trust| trust.expires_at.map(time).into()).once(),
        ruled::<Self>("remaining_uses", Is::Any, |_, trust| trust.remaining_uses.into()).once(),
        said::<Self>("allow_redelegation", Is::Flag).once(),
        ruled::<Self>("redelegation_count", Is::Any, |_, trust| trust.redelegation_count.into()).once(),
        shown::<Self>("redelegated_trust_id", |_, trust| (&trust.redelegated_trust_id).into()),
        shown::<Self>("deleted_at", |_, _| Json::Null),
        ruled::<Self>("roles", Is::Any, |call, trust| {
            Json::List(roles_of(call, trust).map(|r| attrs::item(call, r)).collect())
        })
        .once()
        .alone(),
        shown::<Self>("roles_links", |call, trust| {
            let own = format!("{}/{}/roles", base(call), trust.path());
            Json::object([("self", own.into()), ("next", Json::Null), ("previous", Json::Null)])
        })
        .alone(),
    ];
    const UNKNOWN: Unknown<Self> = Unknown::Refused;

    fn path(&self) -> String {
        format!("OS-TRUST/trusts/{}", self.id)
    }
}

fn roles_of<'a>(call: &'a Call, trust: &'a Trust) -> impl Iterator<Item = &'a Role> {
    trust.role_ids.iter().filter_map(|id| call.snapshot.get::<Role>(id)).map(|role| role.value)
}

/// The trust of the path, if it is still good and the caller may know of it.
fn find<'a>(snapshot: &'a Snapshot, call: &Call) -> Result<Entry<'a, Trust>, Fault> {
    let (id, who) = (call.param("trust_id"), call.who()?);
    let sees = |trust: &Trust| [&trust.trustor_user_id, &trust.trustee_user_id].contains(&&who.user_id);
    let good = |trust: &Trust| trust.expires_at.is_none_or(|end| end > call.now);
    let found = snapshot.get::<Trust>(id).filter(|trust| good(trust.value) && (sees(trust.value) || reads_all(who)));
    found.ok_or_else(|| Fault::NotFound { what: "trust".into(), id: id.to_owned() })
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let who = call.who()?;
    let (trustor, trustee) = (call.query("trustor_user_id"), call.query("trustee_user_id"));
    let own = [trustor, trustee].into_iter().flatten().all(|id| id == who.user_id);
    if !reads_all(who) && (!own || (trustor.is_none() && trustee.is_none())) {
        return Err(forbidden("list_trusts"));
    }
    let wanted = |trust: &Trust| match (trustor, trustee) {
        (None, None) => true,
        _ => trustor == Some(&trust.trustor_user_id) || trustee == Some(&trust.trustee_user_id),
    };
    attrs::list(&call, call.snapshot.all::<Trust>().map(|trust| trust.value).filter(|trust| wanted(trust)))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    let trust = find(&call.snapshot, &call)?;
    Ok(attrs::reply(&call, 200, trust.value))
}

pub async fn list_roles(call: Call) -> Result<Reply, Fault> {
    let trust = find(&call.snapshot, &call)?;
    Ok(list(&call, "roles", roles_of(&call, trust.value).map(|role| attrs::item(&call, role))))
}

pub async fn show_role(call: Call) -> Result<Reply, Fault> {
    let trust = find(&call.snapshot, &call)?;
    let id = call.param("role_id");
    let role = roles_of(&call, trust.value).find(|role| role.id == id);
    Ok(attrs::reply(&call, 200, role.ok_or_else(|| Fault::NotFound { what: "role".into(), id: id.to_owned() })?))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Trust>::new(&mut call).await?;
    unrestricted(&call, "create_trust")?;
    let created = call.cloud.store.transact(|snapshot| {
        let trust = wanted(&call, snapshot, &given)?;
        let mut deletion = Deletion::default();
        for old in ended(snapshot, &trust.trustor_user_id, call.now) {
            gather(snapshot, &old, &mut deletion);
        }
        let mut change = deletion.change(snapshot);
        change.create(trust.clone());
        Ok((change, trust))
    });
    let trust = created.await?;
    Ok(attrs::reply(&call, 201, &trust))
}

fn given_by<'a>(snapshot: &'a Snapshot, user_id: &'a str) -> impl Iterator<Item = Entry<'a, Trust>> {
    snapshot.find::<Trust>(Index::Owner, user_id).filter(move |trust| trust.trustor_user_id == user_id)
}

/// Trusts of a user that have ended, as many as go with a new one.
fn ended<'a>(snapshot: &'a Snapshot, user_id: &'a str, now: Time) -> impl Iterator<Item = Entry<'a, Trust>> {
    given_by(snapshot, user_id).filter(move |trust| trust.expires_at.is_some_and(|end| end <= now)).take(SWEEP)
}

/// The trust that a body asks for, or why the caller cannot give it.
fn wanted(call: &Call, snapshot: &Snapshot, fields: &Fields) -> Result<Trust, Fault> {
    let who = call.who()?;
    let required = |name: &str| fields.reference::<User>(name)?.ok_or_else(|| missing(name));
    let (trustor, trustee) = (required("trustor_user_id")?, required("trustee_user_id")?);
    let impersonation = fields.flag("impersonation")?.ok_or_else(|| missing("impersonation"))?;
    if !trustor.is(&who.user_id) {
        return Err(Fault::Forbidden("The authenticated user should match the trustor".into()));
    }
    // Anybody may be trusted by whoever knows the id.
    let trustee_user_id = gate::View::new(snapshot, who).refer_if(&trustee, |_| true)?.id.clone();
    let trustor_user_id = who.user_id.clone();
    let project = fields.reference::<Project>("project_id")?;
    let (remaining_uses, redelegation_count) = uses(fields)?;
    let free: Vec<u32> = ended(snapshot, &trustor_user_id, call.now).map(|trust| trust.place).collect();
    let taken = given_by(snapshot, &trustor_user_id).map(|trust| trust.place).filter(|place| !free.contains(place));
    let place = free_place(taken, Trust::MOST).ok_or_else(|| {
        let most = Trust::MOST;
        Fault::Forbidden(format!("User {trustor_user_id} gives {most} trusts, the most there may be. Delete some."))
    })?;
    let project_id = project.map(|project| reach::own_project(call, snapshot, &who.user_id, &project)).transpose()?;
    let role_ids = lent(call, snapshot, fields, project_id.as_deref())?;
    let mut trust = Trust {
        id: gate::new_id(),
        role_ids,
        trustor_user_id,
        trustee_user_id,
        project_id,
        impersonation,
        expires_at: future(call, "expires_at", fields.text("expires_at")?)?,
        remaining_uses,
        redelegation_count: redelegation_count.unwrap_or(Trust::DEEPEST),
        redelegated_trust_id: None,
        place,
    };
    if let Some(delegation) = &who.trust {
        let above = get::<Trust>(snapshot, &delegation.trust_id)?;
        lend_on(&mut trust, above.value, redelegation_count)?;
    }
    Ok(trust)
}

/// How often a trust may be used, and how many times in a row lent on, where that is said.
fn uses(fields: &Fields) -> Result<(Option<u32>, Option<u32>), Fault> {
    let number = |name: &str, least: u64| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().filter(|n| *n >= least).and_then(|n| u32::try_from(n).ok());
            number.map(Some).ok_or_else(|| invalid(name, &format!("{value} is no whole number from {least} on")))
        }
    };
    let (uses, count) = (number("remaining_uses", 1)?, number("redelegation_count", 0)?);
    if !fields.flag("allow_redelegation")?.unwrap_or(false) || count == Some(0) {
        return Ok((uses, Some(0)));
    }
    if let Some(count) = count.filter(|count| *count > Trust::DEEPEST) {
        return Err(Fault::Forbidden(format!(
            "Requested redelegation depth of {count} is greater than allowed {}",
            Trust::DEEPEST
        )));
    }
    match uses {
        Some(_) => Err(Fault::invalid("remaining_uses must not be set if redelegation is allowed")),
        None => Ok((None, count)),
    }
}

/// The roles that are lent, all of which the trustor must have there.
fn lent(call: &Call, snapshot: &Snapshot, fields: &Fields, project_id: Option<&str>) -> Result<Vec<String>, Fault> {
    let none = Vec::new();
    let asked = match fields.get("roles") {
        None | Some(Value::Null) => &none,
        Some(Value::Array(asked)) if asked.len() <= MOST_ROLES => asked,
        Some(_) => return Err(invalid("roles", &format!("it is not a list of at most {MOST_ROLES} roles"))),
    };
    let who = call.who()?;
    let has = match project_id {
        // An application credential, and a trust, give no more than they have themselves.
        Some(id) if who.app_credential_id.is_some() || who.trust.is_some() => {
            who.roles.iter().filter(|_| who.project_id() == Some(id)).cloned().collect()
        }
        Some(id) => gate_roles::roles(snapshot, &who.user_id, &Scoped::Project(id.to_owned())),
        None => Vec::new(),
    };
    if project_id.is_some() && asked.is_empty() {
        return Err(forbidden("create_trust: At least one role should be specified"));
    }
    let mut ids: Vec<String> = Vec::new();
    for role in asked {
        let (id, name) = (role["id"].as_str(), role["name"].as_str());
        let key = id.or(name).ok_or_else(|| invalid("roles", "every role needs an id or a name"))?;
        let found = has.iter().find(|r| id.is_none_or(|id| r.id == id) && name.is_none_or(|name| r.name == name));
        let found = found.ok_or_else(|| Fault::NotFound { what: "role".into(), id: key.to_owned() })?;
        if !ids.contains(&found.id) {
            ids.push(found.id.clone());
        }
    }
    Ok(ids)
}

/// Makes a trust a part of the one by which its trustor acts.
fn lend_on(trust: &mut Trust, above: &Trust, asked: Option<u32>) -> Result<(), Fault> {
    let no = |text: String| Err(Fault::Forbidden(text));
    let depth = above.redelegation_count;
    if !(1..=Trust::DEEPEST).contains(&depth) || asked.is_some_and(|count| count >= depth) {
        return no(format!("Remaining redelegation depth of {depth} does not allow the trust that is asked for"));
    }
    if trust.remaining_uses.is_some() {
        return no("Cannot set remaining_uses of a trust that is lent on".into());
    }
    if trust.impersonation && !above.impersonation {
        return no("Impersonation is not allowed because redelegated trust does not specify impersonation.".into());
    }
    if trust.project_id != above.project_id {
        return no("A trust can be lent on for its own project only".into());
    }
    if trust.role_ids.iter().any(|id| !above.role_ids.contains(id)) {
        return no("Some of requested roles are not in redelegated trust".into());
    }
    let ends = |at: Option<Time>| at.unwrap_or(Time::MAX);
    if trust.expires_at.is_some() && ends(trust.expires_at) > ends(above.expires_at) {
        return no("Requested expiration time is more than redelegated trust can provide".into());
    }
    trust.expires_at = trust.expires_at.or(above.expires_at);
    trust.redelegation_count = asked.unwrap_or(depth - 1);
    trust.redelegated_trust_id = Some(above.id.clone());
    Ok(())
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    unrestricted(&call, "delete_trust")?;
    let who = call.who()?;
    let deleted = Deletion::delete_from(&call.cloud.store, |snapshot| {
        let trust = find(snapshot, &call)?;
        // Who acts by a trust can give that one back, and take no other from its trustor.
        let is_its = who.trust.as_ref().is_none_or(|by| by.trust_id == trust.id || who.user_id == by.trustee_user_id);
        if !who.is_admin() && (who.user_id != trust.trustor_user_id || !is_its) {
            return Err(forbidden("delete_trust"));
        }
        let mut deletion = Deletion::default();
        gather(snapshot, &trust, &mut deletion);
        Ok(deletion)
    });
    deleted.await?;
    Ok(Reply::empty(204))
}

/// A trust goes with all that it was lent on as.
pub fn gather(snapshot: &Snapshot, trust: &Entry<'_, Trust>, deletion: &mut Deletion) {
    for below in snapshot.find::<Trust>(Index::Owner, &trust.id) {
        gather(snapshot, &below, deletion);
    }
    deletion.delete(*trust);
}

/// The trusts in which a user is one of the two go with the user.
pub fn gather_of_user(snapshot: &Snapshot, user_id: &str, deletion: &mut Deletion) {
    for trust in snapshot.find::<Trust>(Index::Owner, user_id) {
        gather(snapshot, &trust, deletion);
    }
}

/// Those on a project go with the project.
pub fn gather_of_project(snapshot: &Snapshot, project_id: &str, deletion: &mut Deletion) {
    for trust in snapshot.all::<Trust>().filter(|trust| trust.project_id.as_deref() == Some(project_id)) {
        deletion.delete(trust);
    }
}
