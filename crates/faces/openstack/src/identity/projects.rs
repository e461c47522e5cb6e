//! `/v3/projects`, with tags. A project is the tenant of the whole cloud: its limits and its default security group are
//! born with it in one commit, and it can only go when nothing of it stands on hosts, disks or networks any more.

use gate::{View, roles};
use model::{
    AppCredential, Assignment, Change, Credential, Domain, Entry, Fault, Index, Kind, Project, Snapshot, Target,
};
use serde_json::{Map, Value, json};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, Unknown, field, ruled};
use super::options::{self, Wanted};
use super::reach::domain_of;
use super::wire::{Fields, duplicate, forbidden, get, invalid, is_tag, self_or_reader, tags};
use super::{Deletion, app_credentials, reach, trusts};
use crate::access::reads_all;
use crate::call::{Call, Reply};
use crate::json::Json;

/// How deep projects may be nested, as in Keystone.
const DEEPEST: usize = 5;

impl KeystoneResource for Project {
    const ONE: &'static str = "project";
    const MANY: &'static str = "projects";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        field!(name: Is::Name(64)).required().by(By::Text),
        ruled::<Self>("domain_id", Is::Id(&[Kind::Domain]), |_, project| (&project.domain_id).into()).by(By::Text),
        ruled::<Self>("parent_id", Is::Id(&[Kind::Project, Kind::Domain]), |_, project| (&project.parent_id).into())
            .by(By::Text),
        ruled::<Self>("is_domain", Is::Flag, |_, _| false.into()).by(By::Flag),
        field!(description: Is::Text),
        field!(enabled: Is::Flag).by(By::Flag),
        field!(tags: Is::Tags).by(By::Tags),
        ruled::<Self>("options", Is::Any, |_, project| (&project.options).into()),
    ];
    const UNKNOWN: Unknown<Self> = Unknown::Kept(|project| &project.extra, |project| &mut project.extra);

    fn path(&self) -> String {
        format!("projects/{}", self.id)
    }
}

fn check_name(snapshot: &Snapshot, project: &Project) -> Result<(), Fault> {
    let same = format!("{}/{}", project.domain_id, project.name);
    match snapshot.find::<Project>(Index::Name, &same).any(|p| p.id != project.id) {
        true => Err(duplicate("project", &project.name, Some(&project.domain_id))),
        false => Ok(()),
    }
}

/// Lets pass whoever may look at a project: administrators and those who have a role on it.
fn visible<'a>(call: &'a Call, action: &str) -> Result<Entry<'a, Project>, Fault> {
    let (who, id) = (call.who()?, call.param("project_id"));
    let own = who.project_id() == Some(id) || roles::projects_of(&call.snapshot, &who.user_id).iter().any(|p| p == id);
    let domain = || match (reach::domain(call), call.snapshot.get::<Project>(id)) {
        (Ok(Some(own)), Some(project)) => who.is_reader() && project.domain_id == own,
        _ => false,
    };
    if !reads_all(who) && !own && !domain() {
        return Err(forbidden(action));
    }
    get::<Project>(&call.snapshot, id)
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let within = reach::within(&call)?;
    let projects = call.snapshot.all::<Project>().map(|project| project.value);
    attrs::list(&call, projects.filter(|project| within(&project.domain_id)))
}

/// `/v3/users/{user_id}/projects`: those on which a user has a role.
pub async fn of_user(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    self_or_reader(&call, user_id, "list_user_projects")?;
    get::<model::User>(&call.snapshot, user_id)?;
    let ids = roles::projects_of(&call.snapshot, user_id);
    attrs::list(&call, ids.iter().filter_map(|id| call.snapshot.get::<Project>(id)).map(|project| project.value))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    let project = visible(&call, "get_project")?;
    let asked = |name: &str| call.query.iter().any(|(n, _)| n == name);
    // Of those above and below, whoever has no role on one learns its id and no more, as in Keystone.
    let own = roles::projects_of(&call.snapshot, &call.who()?.user_id);
    let domain = reach::domain(&call)?;
    let all = reads_all(call.who()?);
    let known = |p: &&Project| all || domain == Some(p.domain_id.as_str()) || own.contains(&p.id);
    let part = |p: &'_ Project| json!({"project": attrs::item(&call, p)});
    let (mut above, mut below) = (Json::Absent, Json::Absent);
    if asked("parents_as_list") || asked("parents_as_ids") {
        let parents = parents(&call.snapshot, &project.parent_id);
        above = Json::from(match asked("parents_as_ids") {
            true => parents.iter().rev().fold(Value::Null, |above, p| json!({p.id.clone(): above})),
            false => parents.into_iter().filter(known).map(part).collect(),
        });
    }
    if asked("subtree_as_list") || asked("subtree_as_ids") {
        below = Json::from(match asked("subtree_as_ids") {
            true => subtree_ids(&call.snapshot, &project.id),
            false => subtree(&call.snapshot, &project.id).into_iter().filter(known).map(part).collect(),
        });
    }
    Ok(attrs::reply_with(&call, 200, project.value, [("parents", above), ("subtree", below)]))
}

fn parents<'a>(snapshot: &'a Snapshot, id: &str) -> Vec<&'a Project> {
    let first = snapshot.get::<Project>(id).map(|p| p.value);
    let next = |project: &&'a Project| snapshot.get::<Project>(&project.parent_id).map(|p| p.value);
    std::iter::successors(first, next).take(DEEPEST).collect()
}

fn children<'a>(snapshot: &'a Snapshot, id: &str) -> impl Iterator<Item = &'a Project> {
    snapshot.all::<Project>().filter(move |p| p.parent_id == id).map(|p| p.value)
}

fn subtree<'a>(snapshot: &'a Snapshot, id: &str) -> Vec<&'a Project> {
    children(snapshot, id).flat_map(|p| std::iter::once(p).chain(subtree(snapshot, &p.id))).collect()
}

fn subtree_ids(snapshot: &Snapshot, id: &str) -> Value {
    let ids: Map<String, Value> =
        children(snapshot, id).map(|p| (p.id.clone(), subtree_ids(snapshot, &p.id))).collect();
    if ids.is_empty() { Value::Null } else { Value::Object(ids) }
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Project>::new(&mut call).await?;
    let options = Wanted::of_resource(&given)?;
    if given.flag("is_domain")? == Some(true) {
        return Err(Fault::NotImplemented("Projects that act as domains are not implemented; create a domain.".into()));
    }
    let (domain_id, parent_id) = place(&call, &given)?;
    let mut project = given.fill(Project { parent_id, ..Project::new(gate::new_id(), "", &domain_id) })?;
    options.apply(&mut project.options);
    let created = call.cloud.store.transact(|snapshot| {
        check_parent(snapshot, &project)?;
        check_name(snapshot, &project)?;
        Ok((gate::project_rows_in(snapshot, project.clone(), call.now), ()))
    });
    created.await?;
    Ok(attrs::reply(&call, 201, &project))
}

/// The domain and the parent of a new project: a project, or the domain itself.
fn place(call: &Call, fields: &Fields) -> Result<(String, String), Fault> {
    let Some(named) = fields.reference::<Project>("parent_id")? else {
        let domain_id = domain_of(call, fields)?;
        return Ok((domain_id.clone(), domain_id));
    };
    let view = View::new(&call.snapshot, call.who()?);
    let within = reach::within(call)?;
    if let Ok(parent) = view.refer_if(&named, |parent| within(&parent.domain_id)) {
        return match fields.reference::<Domain>("domain_id")? {
            Some(_) => Ok((domain_of(call, fields)?, parent.id.clone())),
            None => Ok((parent.domain_id.clone(), parent.id.clone())),
        };
    }
    let Some(domain) = fields.reference::<Domain>("parent_id")? else { return Err(named.not_found()) };
    match view.refer_if(&domain, |domain| within(&domain.id)) {
        Ok(domain) => match fields.reference::<Domain>("domain_id")? {
            Some(other) if !other.is(&domain.id) => Err(named.not_found()),
            _ => Ok((domain.id.clone(), domain.id.clone())),
        },
        // Whoever reaches everything is told that there is none.
        Err(_) if reach::domain(call)?.is_none() => Err(named.not_found()),
        Err(_) => Err(forbidden("create_project")),
    }
}

fn check_parent(snapshot: &Snapshot, project: &Project) -> Result<(), Fault> {
    if project.parent_id == project.domain_id {
        return get::<Domain>(snapshot, &project.domain_id).map(|_| ());
    }
    let parent = get::<Project>(snapshot, &project.parent_id)?;
    if parent.domain_id != project.domain_id {
        return Err(Fault::invalid("The parent project and the domain of the new project do not match."));
    }
    if !parent.enabled {
        return Err(Fault::Forbidden(format!(
            "cannot create a project in a branch containing a disabled project: {}",
            parent.id
        )));
    }
    if parents(snapshot, &parent.id).len() >= DEEPEST {
        return Err(Fault::Forbidden(format!("Max hierarchy depth reached for {} branch.", parent.id)));
    }
    Ok(())
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Project>::change(&mut call).await?;
    let options = Wanted::of_resource(&given)?;
    let (domain, parent) = (given.reference::<Domain>("domain_id")?, given.reference::<Project>("parent_id")?);
    if given.flag("is_domain")? == Some(true) {
        return Err(Fault::invalid("Update of `is_domain` is not allowed."));
    }
    let lifetime = call.cloud.gate.lifetime();
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = get::<Project>(snapshot, call.param("project_id"))?;
        options.check(&entry.options, "project", &entry.id)?;
        let mut project = given.fill(entry.value.clone())?;
        options.apply(&mut project.options);
        if parent.as_ref().is_some_and(|parent| !parent.is(&project.parent_id)) {
            return Err(Fault::Forbidden("Update of `parent_id` is not allowed.".into()));
        }
        if domain.as_ref().is_some_and(|domain| !domain.is(&project.domain_id)) {
            return Err(invalid("domain_id", "Cannot change Domain ID"));
        }
        check_name(snapshot, &project)?;
        let mut change = Change::new();
        if entry.enabled && !project.enabled {
            if subtree(snapshot, &project.id).iter().any(|p| p.enabled) {
                let text = format!("cannot disable project {} since its subtree contains enabled projects", project.id);
                return Err(Fault::Forbidden(text));
            }
            gate::revoke::project_tokens(&mut change, snapshot, &project.id, model::Time::now(), lifetime);
        }
        change.update(entry, project.clone());
        Ok((change, project))
    });
    Ok(attrs::reply(&call, 200, &updated.await?))
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = Deletion::delete_from(&call.cloud.store, |snapshot| {
        let entry = get::<Project>(snapshot, call.param("project_id"))?;
        options::check_delete(&entry.options, "project", &entry.id)?;
        if children(snapshot, &entry.id).next().is_some() {
            return Err(Fault::Forbidden(format!(
                "Cannot delete the project {} since it is not a leaf in the hierarchy. Use the cascade option if you \
                 want to delete a whole subtree.",
                entry.id
            )));
        }
        let mut deletion = Deletion::default();
        gather(snapshot, &entry, &mut deletion)?;
        Ok(deletion)
    });
    deleted.await?;
    Ok(Reply::empty(204))
}

/// What goes with a project, or why it cannot go.
pub fn gather(snapshot: &Snapshot, project: &Entry<'_, Project>, deletion: &mut Deletion) -> Result<(), Fault> {
    let rows = gate::remains(snapshot, &project.id).map_err(|what| {
        Fault::conflict(format!("Project {} cannot be deleted: it still has {what}. Delete that first.", project.id))
    })?;
    deletion.delete_all(rows.writes);
    let target = Target::Project(project.id.clone());
    for assignment in snapshot.all::<Assignment>().filter(|a| a.target == target) {
        deletion.delete(assignment);
    }
    for credential in snapshot.all::<AppCredential>().filter(|c| c.project_id == project.id) {
        deletion.delete(credential);
        app_credentials::gather_made(snapshot, &credential, deletion);
    }
    for credential in snapshot.all::<Credential>().filter(|c| c.project_id.as_ref() == Some(&project.id)) {
        deletion.delete(credential);
    }
    trusts::gather_of_project(snapshot, &project.id, deletion);
    if let Some(quota) = snapshot.get::<model::Quota>(&project.id) {
        deletion.delete(quota);
    }
    deletion.delete(*project);
    Ok(())
}

pub async fn list_tags(call: Call) -> Result<Reply, Fault> {
    let project = visible(&call, "list_project_tags")?;
    let links = json!({"next": null, "self": format!("{}{}", call.base_url(), call.uri), "previous": null});
    Ok(Reply::ok(json!({"tags": project.tags, "links": links})))
}

pub async fn check_tag(call: Call) -> Result<Reply, Fault> {
    let project = visible(&call, "get_project_tag")?;
    match project.tags.iter().any(|tag| tag == call.param("tag")) {
        true => Ok(Reply::empty(204)),
        false => Err(no_tag(&call)),
    }
}

fn no_tag(call: &Call) -> Fault {
    Fault::NotFound { what: "project tag".into(), id: call.param("tag").to_owned() }
}

/// Edits the tags of the project and returns them.
async fn edit_tags(call: &Call, edit: impl Fn(&mut Vec<String>) -> Result<(), Fault>) -> Result<Vec<String>, Fault> {
    let edited = call.cloud.store.transact(|snapshot| {
        let entry = get::<Project>(snapshot, call.param("project_id"))?;
        Wanted::default().check(&entry.options, "project", &entry.id)?;
        let mut tags = entry.tags.clone();
        edit(&mut tags)?;
        super::wire::tags(&json!(tags))?;
        let mut change = Change::new();
        change.edit(entry, |project| project.tags.clone_from(&tags));
        Ok((change, tags))
    });
    edited.await
}

pub async fn put_tags(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let new = tags(&body["tags"])?;
    let tags = edit_tags(&call, |tags| {
        tags.clone_from(&new);
        Ok(())
    });
    let tags = tags.await?;
    let links = json!({"next": null, "self": format!("{}{}", call.base_url(), call.uri), "previous": null});
    Ok(Reply::ok(json!({"tags": tags, "links": links})))
}

pub async fn delete_tags(call: Call) -> Result<Reply, Fault> {
    edit_tags(&call, |tags| {
        tags.clear();
        Ok(())
    })
    .await?;
    Ok(Reply::empty(204))
}

pub async fn put_tag(call: Call) -> Result<Reply, Fault> {
    let tag = call.param("tag");
    if !is_tag(tag) {
        return Err(invalid("tags", &format!("'{tag}' is no tag")));
    }
    edit_tags(&call, |tags| {
        if !tags.iter().any(|t| t == tag) {
            tags.push(tag.to_owned());
        }
        Ok(())
    })
    .await?;
    let link = format!("{}{}", call.base_url(), call.uri);
    Ok(Reply::empty(201).with("location", &link))
}

pub async fn delete_tag(call: Call) -> Result<Reply, Fault> {
    edit_tags(&call, |tags| {
        let place = tags.iter().position(|t| t == call.param("tag")).ok_or_else(|| no_tag(&call))?;
        tags.remove(place);
        Ok(())
    })
    .await?;
    Ok(Reply::empty(204))
}
