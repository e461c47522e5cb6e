//! `/v3/role_assignments`: every assignment, or what follows from them (`effective`): groups become their members,
//! inherited roles become roles on the projects below, and implied roles are spelled out.

use std::collections::BTreeSet;

use gate::roles::{ancestors, implied_by};
use model::{Actor, Assignment, Domain, Fault, Group, Project, Role, Snapshot, Target, User};
use serde_json::{Value, json};

use super::reach;
use super::wire::{asked, base, list};
use crate::call::{Call, Reply};

/// One line of the list; the assignment that it follows from is linked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    actor: Actor,
    target: Target,
    role_id: String,
    inherited: bool,
    link: String,
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let on = |name: &str| call.query(name).is_some_and(|value| value.is_empty() || asked(value));
    let (effective, names) = (on("effective"), on("include_names"));
    if effective && call.query("group.id").is_some() {
        return Err(Fault::invalid("Combining effective and group filter will always result in an empty list."));
    }
    if call.query("user.id").is_some() && call.query("group.id").is_some() {
        return Err(Fault::invalid("Specify a user or group, not both"));
    }
    let own = reach::domain(&call)?;
    let within = |a: &Assignment| own.is_none_or(|own| reach::is_in(&call.snapshot, &a.target, own));
    let given = call.snapshot.all::<Assignment>().filter(|a| within(a.value)).map(|entry| line(entry.value));
    let lines: BTreeSet<Line> = match effective {
        true => given.flat_map(|line| follow(&call.snapshot, &line)).collect(),
        false => given.collect(),
    };
    let items = lines.iter().filter(|line| passes(&call, line)).map(|line| view(&call, line, names));
    Ok(list(&call, "role_assignments", items))
}

fn line(a: &Assignment) -> Line {
    let actor = match &a.actor {
        Actor::User(id) => format!("users/{id}"),
        Actor::Group(id) => format!("groups/{id}"),
    };
    let place = match &a.target {
        Target::Project(id) => format!("projects/{id}"),
        Target::Domain(id) => format!("domains/{id}"),
        Target::System => "system".into(),
    };
    let link = match a.inherited {
        true => format!("/OS-INHERIT/{place}/{actor}/roles/{}/inherited_to_projects", a.role_id),
        false => format!("/{place}/{actor}/roles/{}", a.role_id),
    };
    let (actor, target, role_id, inherited) = (a.actor.clone(), a.target.clone(), a.role_id.clone(), a.inherited);
    Line { actor, target, role_id, inherited, link }
}

/// What follows from an assignment. A domain's own role gives nothing but what it implies, which is nothing.
fn follow(snapshot: &Snapshot, line: &Line) -> Vec<Line> {
    if snapshot.get::<Role>(&line.role_id).is_some_and(|role| role.domain_id.is_some()) {
        return Vec::new();
    }
    let actors: Vec<Actor> = match &line.actor {
        Actor::User(_) => vec![line.actor.clone()],
        Actor::Group(id) => {
            let members = snapshot.get::<Group>(id).map(|g| g.members.clone()).unwrap_or_default();
            members.into_iter().map(Actor::User).collect()
        }
    };
    let targets: Vec<Target> = match line.inherited {
        false => vec![line.target.clone()],
        true => snapshot
            .all::<Project>()
            .filter(|p| ancestors(snapshot, &p.id).contains(&line.target))
            .map(|p| Target::Project(p.id.clone()))
            .collect(),
    };
    let implied = snapshot.get::<Role>(&line.role_id).map(|role| implied_by(snapshot, role.value)).unwrap_or_default();
    let roles: Vec<String> = std::iter::once(line.role_id.clone()).chain(implied.into_iter().map(|r| r.id)).collect();
    let mut lines = Vec::new();
    for actor in &actors {
        for target in &targets {
            for role in &roles {
                let (actor, target, role_id) = (actor.clone(), target.clone(), role.clone());
                lines.push(Line { actor, target, role_id, inherited: false, link: line.link.clone() });
            }
        }
    }
    lines
}

fn passes(call: &Call, line: &Line) -> bool {
    let is = |name: &str, value: Option<&str>| call.query(name).is_none_or(|wanted| value == Some(wanted));
    let (user, group) = match &line.actor {
        Actor::User(id) => (Some(id.as_str()), None),
        Actor::Group(id) => (None, Some(id.as_str())),
    };
    let (project, domain) = match &line.target {
        Target::Project(id) => (Some(id.as_str()), None),
        Target::Domain(id) => (None, Some(id.as_str())),
        Target::System => (None, None),
    };
    let below = || call.query("include_subtree").is_some_and(|v| v.is_empty() || asked(v));
    let in_project = is("scope.project.id", project)
        || (below()
            && project.is_some_and(|id| {
                let root = call.query("scope.project.id").unwrap_or_default();
                ancestors(&call.snapshot, id).contains(&Target::Project(root.to_owned()))
            }));
    is("user.id", user)
        && is("group.id", group)
        && is("role.id", Some(&line.role_id))
        && in_project
        && is("scope.domain.id", domain)
        && (call.query("scope.system").is_none() || line.target == Target::System)
        && (call.query("scope.OS-INHERIT:inherited_to").is_none() || line.inherited)
}

fn view(call: &Call, line: &Line, names: bool) -> Value {
    let snapshot = &call.snapshot;
    let domain = |id: &str| json!({"id": id, "name": snapshot.get::<Domain>(id).map(|d| d.name.clone())});
    // With names: the thing's own name and its domain's beside the id.
    let named = |id: &str, found: Option<(String, Option<String>)>| match found.filter(|_| names) {
        Some((name, Some(domain_id))) => json!({"id": id, "name": name, "domain": domain(&domain_id)}),
        Some((name, None)) => json!({"id": id, "name": name}),
        None => json!({"id": id}),
    };
    let mut scope = match &line.target {
        Target::Project(id) => {
            let found = snapshot.get::<Project>(id).map(|p| (p.value.name.clone(), Some(p.domain_id.clone())));
            json!({"project": named(id, found)})
        }
        Target::Domain(id) => {
            let found = snapshot.get::<Domain>(id).map(|d| (d.value.name.clone(), None));
            json!({"domain": named(id, found)})
        }
        Target::System => json!({"system": {"all": true}}),
    };
    if line.inherited {
        scope["OS-INHERIT:inherited_to"] = json!("projects");
    }
    let role = snapshot.get::<Role>(&line.role_id).map(|r| (r.value.name.clone(), r.domain_id.clone()));
    let link = format!("{}{}", base(call), line.link);
    let mut value = json!({"role": named(&line.role_id, role), "scope": scope, "links": {"assignment": link}});
    match &line.actor {
        Actor::User(id) => {
            let found = snapshot.get::<User>(id).map(|u| (u.value.name.clone(), Some(u.domain_id.clone())));
            value["user"] = named(id, found);
        }
        Actor::Group(id) => {
            let found = snapshot.get::<Group>(id).map(|g| (g.value.name.clone(), Some(g.domain_id.clone())));
            value["group"] = named(id, found);
        }
    }
    value
}
