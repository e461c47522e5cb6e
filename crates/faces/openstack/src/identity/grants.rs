//! Roles given to users and groups on projects, domains and the system: one set of verbs over twelve paths. The path's
//! parameters say who and where; `/OS-INHERIT/` says that the role holds below the place instead of in it.

use model::{Actor, Assignment, Change, Domain, Fault, Group, Project, Role, Snapshot, Target, User};

use super::attrs;
use super::wire::{get, list};
use crate::call::{Call, Reply};

/// The assignment that a path names; without a role the role's id is empty.
fn named(call: &Call) -> Assignment {
    let param = |name: &str| call.params.get(name).cloned();
    let actor = match (param("user_id"), param("group_id")) {
        (Some(id), _) => Actor::User(id),
        (None, group) => Actor::Group(group.unwrap_or_default()),
    };
    let target = match (param("project_id"), param("domain_id")) {
        (Some(id), _) => Target::Project(id),
        (None, Some(id)) => Target::Domain(id),
        (None, None) => Target::System,
    };
    // Of the path alone: what a query says an application credential's rules do not look at.
    let inherited = call.uri.split('?').next().is_some_and(|path| path.contains("/OS-INHERIT/"));
    Assignment { actor, target, role_id: call.param("role_id").to_owned(), inherited }
}

/// Everything that the path names must exist.
fn check(snapshot: &Snapshot, wanted: &Assignment) -> Result<(), Fault> {
    if !wanted.role_id.is_empty() {
        get::<Role>(snapshot, &wanted.role_id)?;
    }
    match &wanted.actor {
        Actor::User(id) => drop(get::<User>(snapshot, id)?),
        Actor::Group(id) => drop(get::<Group>(snapshot, id)?),
    }
    match &wanted.target {
        Target::Project(id) => drop(get::<Project>(snapshot, id)?),
        Target::Domain(id) => drop(get::<Domain>(snapshot, id)?),
        Target::System => {}
    }
    Ok(())
}

fn absent(wanted: &Assignment) -> Fault {
    let (Actor::User(actor) | Actor::Group(actor)) = &wanted.actor;
    let target = match &wanted.target {
        Target::Project(id) | Target::Domain(id) => id,
        Target::System => "system",
    };
    Fault::NotFound {
        what: "role assignment with role".into(),
        id: format!("{}, user or group: {actor}, project, domain, or system: {target}", wanted.role_id),
    }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let wanted = named(&call);
    check(&call.snapshot, &wanted)?;
    let (Actor::User(actor) | Actor::Group(actor)) = &wanted.actor;
    let given = call.snapshot.find::<Assignment>(model::Index::Owner, actor);
    let given =
        given.filter(|a| a.actor == wanted.actor && a.target == wanted.target && a.inherited == wanted.inherited);
    let roles = given.filter_map(|a| call.snapshot.get::<Role>(&a.role_id));
    Ok(list(&call, "roles", roles.map(|role| attrs::item(&call, role.value))))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    let wanted = named(&call);
    check(&call.snapshot, &wanted)?;
    match call.snapshot.at::<Assignment>(&model::Resource::key(&wanted)) {
        Some(_) => Ok(Reply::empty(204)),
        None => Err(absent(&wanted)),
    }
}

pub async fn create(call: Call) -> Result<Reply, Fault> {
    let wanted = named(&call);
    let given = call.cloud.store.transact(|snapshot| {
        check(snapshot, &wanted)?;
        let given = snapshot.at::<Assignment>(&model::Resource::key(&wanted)).is_some();
        Ok((if given { Change::new() } else { Change::from(wanted.clone()) }, ()))
    });
    given.await?;
    Ok(Reply::empty(204))
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let wanted = named(&call);
    let taken = call.cloud.store.transact(|snapshot| {
        check(snapshot, &wanted)?;
        let entry = snapshot.at::<Assignment>(&model::Resource::key(&wanted)).ok_or_else(|| absent(&wanted))?;
        let mut change = Change::new();
        change.delete(entry);
        Ok((change, ()))
    });
    taken.await?;
    Ok(Reply::empty(204))
}
