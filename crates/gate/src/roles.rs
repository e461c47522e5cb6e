//! Which roles a user has where: assignments to the user and to the user's groups, inherited ones, and the roles that
//! each implies. Computed from rows each time, never stored.

use std::collections::BTreeSet;

use model::{Actor, Assignment, Group, Index, Project, Role, Snapshot, Target};

use crate::RoleRef;
use crate::payload::Scoped;

/// Roles that imply each other downwards, as in every Keystone since 2024.
pub const IMPLIED: [&str; 4] = ["admin", "manager", "member", "reader"];

/// The groups that a user is in.
pub fn groups_of(snapshot: &Snapshot, user_id: &str) -> Vec<String> {
    snapshot.find::<Group>(Index::Owner, user_id).map(|group| group.id.clone()).collect()
}

/// Every assignment that concerns a user, own and through groups.
pub fn assignments_of(snapshot: &Snapshot, user_id: &str) -> Vec<Assignment> {
    let mut all: Vec<Assignment> = snapshot
        .find::<Assignment>(Index::Owner, user_id)
        .filter(|a| matches!(&a.actor, Actor::User(_)))
        .map(|a| a.value.clone())
        .collect();
    for group in groups_of(snapshot, user_id) {
        let of_group = snapshot.find::<Assignment>(Index::Owner, &group);
        all.extend(of_group.filter(|a| matches!(&a.actor, Actor::Group(_))).map(|a| a.value.clone()));
    }
    all
}

/// A project's parents, the nearest first, then its domain. Ends at a cycle or a missing row.
pub fn ancestors(snapshot: &Snapshot, project_id: &str) -> Vec<Target> {
    let mut above = Vec::new();
    let mut next = snapshot.get::<Project>(project_id);
    while let Some(project) = next {
        next = snapshot.get::<Project>(&project.parent_id).filter(|_| above.len() < 64);
        match next {
            Some(parent) => above.push(Target::Project(parent.id.clone())),
            None => above.push(Target::Domain(project.domain_id.clone())),
        }
    }
    above
}

/// Whether an assignment holds in a scope.
pub fn holds(snapshot: &Snapshot, assignment: &Assignment, scope: &Scoped) -> bool {
    match (scope, assignment.inherited) {
        (Scoped::Project(id), false) => matches!(&assignment.target, Target::Project(p) if p == id),
        (Scoped::Project(id), true) => ancestors(snapshot, id).contains(&assignment.target),
        (Scoped::Domain(id), false) => matches!(&assignment.target, Target::Domain(d) if d == id),
        (Scoped::System, false) => assignment.target == Target::System,
        _ => false,
    }
}

/// The roles of a user in a scope, implied ones included, by name.
pub fn roles(snapshot: &Snapshot, user_id: &str, scope: &Scoped) -> Vec<RoleRef> {
    if *scope == Scoped::Nothing {
        return Vec::new();
    }
    let given = assignments_of(snapshot, user_id);
    let ids: BTreeSet<String> = given.into_iter().filter(|a| holds(snapshot, a, scope)).map(|a| a.role_id).collect();
    with_implied(snapshot, ids.iter().map(String::as_str))
}

/// These roles and those that they imply, by name. A domain's own roles give nothing but what they imply, as in Keystone.
pub fn with_implied<'a>(snapshot: &Snapshot, ids: impl Iterator<Item = &'a str>) -> Vec<RoleRef> {
    let mut all: BTreeSet<(String, String)> = BTreeSet::new();
    for id in ids {
        let Some(role) = snapshot.get::<Role>(id).filter(|role| role.domain_id.is_none()) else { continue };
        all.insert((role.name.clone(), role.id.clone()));
        all.extend(implied_by(snapshot, &role).into_iter().map(|r| (r.name, r.id)));
    }
    all.into_iter().map(|(name, id)| RoleRef { id, name }).collect()
}

/// The roles that a role implies, directly and through others.
pub fn implied_by(snapshot: &Snapshot, role: &Role) -> Vec<RoleRef> {
    let rank = IMPLIED.iter().position(|name| *name == role.name).filter(|_| role.domain_id.is_none());
    let Some(rank) = rank else { return Vec::new() };
    IMPLIED[rank + 1..].iter().filter_map(|name| global(snapshot, name)).collect()
}

/// The role of no domain with this name.
pub fn global(snapshot: &Snapshot, name: &str) -> Option<RoleRef> {
    snapshot
        .find::<Role>(Index::Name, name)
        .find(|role| role.domain_id.is_none())
        .map(|role| RoleRef { id: role.id.clone(), name: role.name.clone() })
}

/// The projects on which a user has any role, enabled or not, by id.
pub fn projects_of(snapshot: &Snapshot, user_id: &str) -> Vec<String> {
    let given = assignments_of(snapshot, user_id);
    let mut ids: BTreeSet<String> = BTreeSet::new();
    for assignment in &given {
        match (&assignment.target, assignment.inherited) {
            (Target::Project(id), false) => {
                ids.insert(id.clone());
            }
            (Target::Project(_) | Target::Domain(_), true) => ids.extend(
                snapshot
                    .all::<Project>()
                    .filter(|p| ancestors(snapshot, &p.id).contains(&assignment.target))
                    .map(|p| p.id.clone()),
            ),
            _ => {}
        }
    }
    ids.into_iter().collect()
}

/// The domains on which a user has any role, by id.
pub fn domains_of(snapshot: &Snapshot, user_id: &str) -> Vec<String> {
    let given = assignments_of(snapshot, user_id).into_iter();
    let ids: BTreeSet<String> = given
        .filter_map(|a| match a.target {
            Target::Domain(id) if !a.inherited => Some(id),
            _ => None,
        })
        .collect();
    ids.into_iter().collect()
}
