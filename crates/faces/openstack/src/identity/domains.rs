//! `/v3/domains`.

use model::{Assignment, Change, Domain, Fault, Group, Index, Options, Project, Role, Snapshot, Target, User};
use serde_json::{Value, json};

use super::options::{self, Wanted};
use super::wire::{Fields, base, duplicate, forbidden, get, invalid, page, passes, passes_flag};
use super::{Deletion, groups, projects, users};
use crate::access::reads_all;
use crate::call::{Call, Reply};

pub fn view(base: &str, domain: &Domain) -> Value {
    json!({
        "id": domain.id,
        "name": domain.name,
        "description": domain.description,
        "enabled": domain.enabled,
        "tags": domain.tags,
        "options": domain.options,
        "links": {"self": format!("{base}/domains/{}", domain.id)},
    })
}

fn reply(call: &Call, status: u16, domain: &Domain) -> Reply {
    Reply::json(status, &json!({"domain": view(&base(call), domain)}))
}

fn check_name(snapshot: &Snapshot, id: &str, name: &str) -> Result<(), Fault> {
    match snapshot.find::<Domain>(Index::Name, name).any(|d| d.id != id) {
        true => Err(duplicate("domain", name, None)),
        false => Ok(()),
    }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let kept = call
        .snapshot
        .all::<Domain>()
        .filter(|d| passes(&call, "name", &d.name) && passes_flag(&call, "enabled", d.enabled));
    let items = kept.map(|d| view(&base(&call), d.value)).collect();
    page(&call, "domains", items)
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
    Ok(reply(&call, 200, get::<Domain>(&call.snapshot, id)?.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "domain").await?;
    let options = Wanted::of_resource(&fields)?;
    let id = match fields.text("explicit_domain_id")? {
        Some(id) if uuid::Uuid::try_parse(&id).is_ok_and(|u| u.simple().to_string() == id) => id,
        Some(_) => return Err(invalid("explicit_domain_id", "it is not 32 hexadecimal digits")),
        None => gate::new_id(),
    };
    let mut domain = Domain {
        id,
        name: fields.new_name()?,
        description: fields.text("description")?.unwrap_or_default(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
        tags: fields.tags()?.unwrap_or_default(),
        options: Options::new(),
    };
    options.apply(&mut domain.options);
    let created = call.cloud.store.transact(|snapshot| {
        check_name(snapshot, "", &domain.name)?;
        if snapshot.get::<Domain>(&domain.id).is_some() {
            return Err(duplicate("domain", &domain.id, None));
        }
        Ok((Change::from(domain.clone()), ()))
    });
    created.await?;
    Ok(reply(&call, 201, &domain))
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "domain").await?;
    let options = Wanted::of_resource(&fields)?;
    let (name, description) = (fields.name()?, fields.text("description")?);
    let (enabled, tags) = (fields.flag("enabled")?, fields.tags()?);
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = get::<Domain>(snapshot, call.param("domain_id"))?;
        let mut domain = entry.value.clone();
        options.check(&domain.options, "domain", &domain.id)?;
        options.apply(&mut domain.options);
        if let Some(name) = &name {
            check_name(snapshot, &domain.id, name)?;
            domain.name.clone_from(name);
        }
        domain.description = description.clone().unwrap_or(domain.description);
        domain.enabled = enabled.unwrap_or(domain.enabled);
        domain.tags = tags.clone().unwrap_or(domain.tags);
        let mut change = Change::new();
        change.update(entry, domain.clone());
        Ok((change, domain))
    });
    Ok(reply(&call, 200, &updated.await?))
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
