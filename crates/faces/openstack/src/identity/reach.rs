//! How far a domain's readers and managers reach: to what is in their domain. Looked at once for all rows of the table
//! that they may use, from the ids in the path, so that a new row cannot forget it.
//!
//! As in Keystone's defaults, a domain's manager gives the roles `manager`, `member` and `reader` and no others. Beyond
//! them, and unlike them: who has any other role, or one on the system, or is lent one by a trust, is not a domain manager's
//! to change, nor is a group that has. Whoever sets the password of an administrator is one.

use gate::{Ref, Scope, Scoped, View, roles};
use model::{
    Actor, Assignment, DEFAULT_DOMAIN, Domain, Fault, Group, Index, Project, Role, Snapshot, Target, Trust, User,
};

use super::wire::{Fields, forbidden};
use crate::access::Access;
use crate::call::Call;

/// The roles that a domain's manager gives and takes.
const MANAGED: [&str; 3] = ["manager", "member", "reader"];

/// The domain to which the caller is held; none for whoever reaches everything.
pub fn domain(call: &Call) -> Result<Option<&str>, Fault> {
    let who = call.who()?;
    Ok(match &who.scope {
        Scope::Domain { id } if !who.is_admin() => Some(id),
        _ => None,
    })
}

/// Whether something of a domain is within the caller's reach.
pub fn reaches(call: &Call, domain_id: &str) -> Result<bool, Fault> {
    Ok(within(call)?(domain_id))
}

/// Tells of a domain's id whether what is in the domain is within the caller's reach.
pub fn within(call: &Call) -> Result<impl Fn(&str) -> bool + '_, Fault> {
    let own = domain(call)?;
    Ok(move |domain_id: &str| own.is_none_or(|own| own == domain_id))
}

/// The domain that a body names, if it is within the caller's reach.
pub fn refer(call: &Call, snapshot: &Snapshot, domain: &Ref<Domain>) -> Result<String, Fault> {
    let own = self::domain(call)?;
    if own.is_some_and(|own| !domain.is(own)) {
        return Err(forbidden("domain_manager"));
    }
    let who = call.who()?;
    View::new(snapshot, who).refer_if(domain, |_| true).map(|domain| domain.id.clone())
}

/// The domain that a request for something new means: the one it names, or the caller's own.
pub fn domain_of(call: &Call, fields: &Fields) -> Result<String, Fault> {
    if let Some(domain) = fields.reference::<Domain>("domain_id")? {
        return refer(call, &call.snapshot, &domain);
    }
    Ok(match &call.who()?.scope {
        gate::Scope::Domain { id } => id.clone(),
        gate::Scope::Project { domain_id, .. } => domain_id.clone(),
        _ => DEFAULT_DOMAIN.to_owned(),
    })
}

/// The project that a body names: one on which the user has a role, and the caller's own if the caller acts for the user
/// in a narrower way than the user does.
pub fn own_project(call: &Call, snapshot: &Snapshot, user_id: &str, project: &Ref<Project>) -> Result<String, Fault> {
    let who = call.who()?;
    let is_narrow = who.app_credential_id.is_some() || who.trust.is_some();
    let may = |project: &Project| {
        let is_here = who.project_id() == Some(&project.id);
        let there = Scoped::Project(project.id.clone());
        let has = || !roles::roles(snapshot, user_id, &there).is_empty();
        (is_here || !is_narrow) && (who.is_admin() || is_here && who.user_id == user_id || has())
    };
    View::new(snapshot, who).refer_if(project, may).map(|project| project.id.clone())
}

/// Refuses what names something beyond the caller's reach. What is not there is beyond it too, so that nothing tells
/// whether it exists elsewhere.
pub fn check(call: &Call) -> Result<(), Fault> {
    let writes = match call.entry.access {
        Access::DomainReader => false,
        Access::DomainManager => true,
        _ => return Ok(()),
    };
    let Some(own) = domain(call)? else { return Ok(()) };
    let snapshot = &call.snapshot;
    let param = |name: &str| call.params.get(name).map(String::as_str);
    let within = [
        param("domain_id").map(|id| snapshot.get::<Domain>(id).is_some_and(|d| d.id == own)),
        param("project_id").map(|id| snapshot.get::<Project>(id).is_some_and(|p| p.domain_id == own)),
        param("user_id").map(|id| snapshot.get::<User>(id).is_some_and(|u| u.domain_id == own)),
        param("group_id").map(|id| snapshot.get::<Group>(id).is_some_and(|g| g.domain_id == own)),
    ];
    let mut allowed = within.into_iter().flatten().all(|is| is);
    if writes {
        let role = param("role_id").map(|id| snapshot.get::<Role>(id).is_some_and(|role| managed(role.value)));
        let user = param("user_id").map(|id| {
            !roles::assignments_of(snapshot, id).iter().any(|a| more(snapshot, a)) && !is_lent_more(snapshot, id)
        });
        let group = param("group_id").map(|id| {
            let mut given = snapshot.find::<Assignment>(Index::Owner, id);
            !given.any(|a| matches!(a.actor, Actor::Group(_)) && more(snapshot, a.value))
        });
        allowed &= [role, user, group].into_iter().flatten().all(|is| is);
    }
    if allowed { Ok(()) } else { Err(forbidden("domain_manager")) }
}

fn managed(role: &Role) -> bool {
    role.domain_id.is_none() && MANAGED.contains(&role.name.as_str())
}

/// Whether an assignment gives more than a domain's manager could.
fn more(snapshot: &Snapshot, assignment: &Assignment) -> bool {
    let role = snapshot.get::<Role>(&assignment.role_id);
    assignment.target == Target::System || role.is_some_and(|role| role.domain_id.is_none() && !managed(role.value))
}

/// Whether a trust lends a user more than a domain's manager could give: such a role, or the name of who has one.
fn is_lent_more(snapshot: &Snapshot, user_id: &str) -> bool {
    let mut lent = snapshot.find::<Trust>(Index::Owner, user_id).filter(|trust| trust.trustee_user_id == user_id);
    let beyond = |id: &String| snapshot.get::<Role>(id).is_some_and(|role| !managed(role.value));
    let named = |trust: &Trust| {
        let given = || roles::assignments_of(snapshot, &trust.trustor_user_id);
        trust.impersonation && given().iter().any(|assignment| more(snapshot, assignment))
    };
    lent.any(|trust| trust.role_ids.iter().any(beyond) || named(trust.value))
}

/// Whether an assignment is in a domain: on it, or on one of its projects.
pub fn is_in(snapshot: &Snapshot, target: &Target, domain_id: &str) -> bool {
    match target {
        Target::Domain(id) => id == domain_id,
        Target::Project(id) => snapshot.get::<Project>(id).is_some_and(|p| p.domain_id == domain_id),
        Target::System => false,
    }
}
