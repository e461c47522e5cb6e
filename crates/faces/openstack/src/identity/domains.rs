//! `/v3/domains`.

use model::{Assignment, Change, Domain, Fault, Group, Index, Project, Role, Snapshot, Target, User};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, field, ruled, said};
use super::options::{self, Wanted};
use super::wire::{duplicate, forbidden, get, invalid};
use super::{Deletion, groups, projects, users};
use crate::access::reads_all;
use crate::call::{Call, Reply};

impl KeystoneResource for Domain {
    const ONE: &'static str = "domain";
    const MANY: &'static str = "domains";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        said::<Self>("explicit_domain_id", Is::Text).once(),
        field!(name: Is::Name(64)).required().by(By::Text),
        field!(description: Is::Text),
        field!(enabled: Is::Flag).by(By::Flag),
        field!(tags: Is::Tags),
        ruled::<Self>("options", Is::Any, |_, domain| (&domain.options).into()),
    ];

    fn path(&self) -> String {
        format!("domains/{}", self.id)
    }
}

fn check_name(snapshot: &Snapshot, id: &str, name: &str) -> Result<(), Fault> {
    match snapshot.find::<Domain>(Index::Name, name).any(|d| d.id != id) {
        true => Err(duplicate("domain", name, None)),
        false => Ok(()),
    }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    attrs::list(&call, call.snapshot.all::<Domain>().map(|domain| domain.value))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    let id = call.param("domain_id");
    let who = call.who()?;
    let own =
        who.user_domain_id == id || matches!(&who.scope, gate::Scope::Project { domain_id, .. } if domain_id == id);
    let scope = matches!(&who.scope, gate::Scope::Domain { id: scope } if scope == id);
    if !reads_all(who) && !own && !scope {
        return Err(forbidden("get_domain"));
    }
    Ok(attrs::reply(&call, 200, get::<Domain>(&call.snapshot, id)?.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Domain>::new(&mut call).await?;
    let options = Wanted::of_resource(&given)?;
    let id = match given.text("explicit_domain_id")? {
        Some(id) if uuid::Uuid::try_parse(&id).is_ok_and(|u| u.simple().to_string() == id) => id,
        Some(_) => return Err(invalid("explicit_domain_id", "it is not 32 hexadecimal digits")),
        None => gate::new_id(),
    };
    let mut domain = given.fill(Domain { id, enabled: true, ..Domain::default() })?;
    options.apply(&mut domain.options);
    let created = call.cloud.store.transact(|snapshot| {
        check_name(snapshot, "", &domain.name)?;
        if snapshot.get::<Domain>(&domain.id).is_some() {
            return Err(duplicate("domain", &domain.id, None));
        }
        Ok((Change::from(domain.clone()), ()))
    });
    created.await?;
    Ok(attrs::reply(&call, 201, &domain))
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Domain>::change(&mut call).await?;
    let options = Wanted::of_resource(&given)?;
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = get::<Domain>(snapshot, call.param("domain_id"))?;
        options.check(&entry.options, "domain", &entry.id)?;
        let mut domain = given.fill(entry.value.clone())?;
        options.apply(&mut domain.options);
        check_name(snapshot, &domain.id, &domain.name)?;
        let mut change = Change::new();
        change.update(entry, domain.clone());
        Ok((change, domain))
    });
    Ok(attrs::reply(&call, 200, &updated.await?))
}

/// Deletes a disabled domain with everything in it.
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = Deletion::delete_from(&call.cloud.store, |snapshot| {
        let entry = get::<Domain>(snapshot, call.param("domain_id"))?;
        options::check_delete(&entry.options, "domain", &entry.id)?;
        if entry.enabled {
            return Err(Fault::Forbidden("Cannot delete a domain that is enabled, please disable it first.".into()));
        }
        let mut deletion = Deletion::default();
        for project in snapshot.all::<Project>().filter(|p| p.domain_id == entry.id) {
            projects::gather(snapshot, &project, &mut deletion)?;
        }
        for user in snapshot.all::<User>().filter(|u| u.domain_id == entry.id) {
            users::gather(snapshot, &user, &mut deletion);
        }
        for group in snapshot.all::<Group>().filter(|g| g.domain_id == entry.id) {
            groups::gather(snapshot, &group, &mut deletion);
        }
        for role in snapshot.all::<Role>().filter(|r| r.domain_id.as_ref() == Some(&entry.id)) {
            super::roles::gather(snapshot, &role, &mut deletion);
        }
        let target = Target::Domain(entry.id.clone());
        for assignment in snapshot.all::<Assignment>().filter(|a| a.target == target) {
            deletion.delete(assignment);
        }
        deletion.delete(entry);
        Ok(deletion)
    });
    deleted.await?;
    Ok(Reply::empty(204))
}
