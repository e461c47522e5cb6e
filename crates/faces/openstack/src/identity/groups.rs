//! `/v3/groups` and who is in them.

use model::{Assignment, Change, Domain, Entry, Fault, Group, Index, Kind, Snapshot, User};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, field, ruled};
use super::reach::domain_of;
use super::wire::{duplicate, get, invalid, self_or_reader};
use super::{Deletion, reach};
use crate::call::{Call, Reply};

impl KeystoneResource for Group {
    const ONE: &'static str = "group";
    const MANY: &'static str = "groups";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        field!(name: Is::Name(64)).required().by(By::Text),
        ruled::<Self>("domain_id", Is::Id(&[Kind::Domain]), |_, group| (&group.domain_id).into()).by(By::Text),
        field!(description: Is::Text),
    ];

    fn path(&self) -> String {
        format!("groups/{}", self.id)
    }
}

fn check_name(snapshot: &Snapshot, group: &Group) -> Result<(), Fault> {
    let same = format!("{}/{}", group.domain_id, group.name);
    match snapshot.find::<Group>(Index::Name, &same).any(|g| g.id != group.id) {
        true => Err(duplicate("group", &group.name, Some(&group.domain_id))),
        false => Ok(()),
    }
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let within = reach::within(&call)?;
    attrs::list(&call, call.snapshot.all::<Group>().map(|group| group.value).filter(|group| within(&group.domain_id)))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    Ok(attrs::reply(&call, 200, get::<Group>(&call.snapshot, call.param("group_id"))?.value))
}

pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Group>::new(&mut call).await?;
    let domain_id = domain_of(&call, &given)?;
    let group = given.fill(Group { id: gate::new_id(), domain_id, ..Group::default() })?;
    let created = call.cloud.store.transact(|snapshot| {
        check_name(snapshot, &group)?;
        Ok((Change::from(group.clone()), ()))
    });
    created.await?;
    Ok(attrs::reply(&call, 201, &group))
}

pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<Group>::change(&mut call).await?;
    let domain = given.reference::<Domain>("domain_id")?;
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = get::<Group>(snapshot, call.param("group_id"))?;
        let group = given.fill(entry.value.clone())?;
        if domain.as_ref().is_some_and(|domain| !domain.is(&group.domain_id)) {
            return Err(invalid("domain_id", "Cannot change Domain ID"));
        }
        check_name(snapshot, &group)?;
        let mut change = Change::new();
        change.update(entry, group.clone());
        Ok((change, group))
    });
    Ok(attrs::reply(&call, 200, &updated.await?))
}

pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = Deletion::delete_from(&call.cloud.store, |snapshot| {
        let entry = get::<Group>(snapshot, call.param("group_id"))?;
        let mut deletion = Deletion::default();
        gather(snapshot, &entry, &mut deletion);
        Ok(deletion)
    });
    deleted.await?;
    Ok(Reply::empty(204))
}

/// What goes with a group.
pub fn gather(snapshot: &Snapshot, group: &Entry<'_, Group>, deletion: &mut Deletion) {
    for assignment in snapshot.find::<Assignment>(Index::Owner, &group.id) {
        deletion.delete(assignment);
    }
    deletion.delete(*group);
}

pub async fn check_member(call: Call) -> Result<Reply, Fault> {
    let user_id = call.param("user_id");
    self_or_reader(&call, user_id, "check_user_in_group")?;
    let group = get::<Group>(&call.snapshot, call.param("group_id"))?;
    get::<User>(&call.snapshot, user_id)?;
    match group.members.iter().any(|id| id == user_id) {
        true => Ok(Reply::empty(204)),
        false => Err(not_in(&call)),
    }
}

fn not_in(call: &Call) -> Fault {
    let (user, group) = (call.param("user_id"), call.param("group_id"));
    Fault::NotFound { what: format!("user '{user}' in group"), id: group.to_owned() }
}

pub async fn add_member(call: Call) -> Result<Reply, Fault> {
    let added = call.cloud.store.transact(|snapshot| {
        let group = get::<Group>(snapshot, call.param("group_id"))?;
        let user = get::<User>(snapshot, call.param("user_id"))?;
        let mut change = Change::new();
        if !group.members.contains(&user.id) {
            change.edit(group, |g| g.members.push(user.id.clone()));
            // The user must still be there when the group is written.
            change.expect(user);
        }
        Ok((change, ()))
    });
    added.await?;
    Ok(Reply::empty(204))
}

pub async fn remove_member(call: Call) -> Result<Reply, Fault> {
    let removed = call.cloud.store.transact(|snapshot| {
        let group = get::<Group>(snapshot, call.param("group_id"))?;
        let user = get::<User>(snapshot, call.param("user_id"))?;
        if !group.members.contains(&user.id) {
            return Err(not_in(&call));
        }
        let mut change = Change::new();
        change.edit(group, |g| g.members.retain(|id| *id != user.id));
        Ok((change, ()))
    });
    removed.await?;
    Ok(Reply::empty(204))
}
