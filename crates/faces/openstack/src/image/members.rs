//! Projects with which an image is shared. The owner adds and removes them; each decides for itself whether the image
//! appears in its list.

use gate::Principal;
use model::{Change, Fault, Image, ImageMember, MemberStatus, Visibility};
use serde_json::{Value, json};

use super::fault::missing;
use super::{access, attributes, view};
use crate::call::{Call, Reply};

/// Glance's own limit.
const MAX_MEMBERS: usize = 128;
const MAX_ID: usize = 255;

fn forbidden(what: &str, id: &str) -> Fault {
    Fault::Forbidden(format!("Not allowed to {what} members for image {id}."))
}

fn no_member(member: &str, id: &str) -> Fault {
    missing(format!("{member} not found in the member list of the image {id}."))
}

fn find<'a>(snapshot: &'a model::Snapshot, who: &Principal, id: &str) -> Result<model::Entry<'a, Image>, Fault> {
    access::find(snapshot, who, id).map_err(|_| missing(format!("Image {id} not found.")))
}

/// The owner sees every member, a member itself.
fn sees(who: &Principal, image: &Image, member: &str) -> bool {
    who.is_admin() || access::owns(who, image) || who.project_id() == Some(member)
}

/// `GET /v2/images/{image_id}/members`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let (who, id) = (call.who()?, call.param("image_id"));
    let image = find(&call.snapshot, who, id)?;
    if image.visibility != Visibility::Shared {
        let text = format!("Not allowed to list members for image {id}: Only shared images have members.");
        return Err(Fault::Forbidden(text));
    }
    let members = image.members.iter().filter(|(member, _)| sees(who, &image, member));
    let members: Vec<Value> = members.map(|(member, state)| view::member(&image, member, state)).collect();
    Ok(Reply::ok(json!({"members": members, "schema": "/v2/schemas/members"})))
}

/// `GET /v2/images/{image_id}/members/{member_id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let (who, id, member) = (call.who()?, call.param("image_id"), call.param("member_id"));
    let image = find(&call.snapshot, who, id)?;
    if image.visibility != Visibility::Shared {
        return Err(missing("Only shared images have members."));
    }
    let state = image.members.get(member).filter(|_| sees(who, &image, member));
    Ok(Reply::ok(view::member(&image, member, state.ok_or_else(|| no_member(member, id))?)))
}

/// Changes the members of a shared image that the caller sees; what `change` answers is shown.
async fn edit(call: &Call, what: &str, change: impl Fn(&mut Image) -> Result<Value, Fault>) -> Result<Value, Fault> {
    let (who, id) = (call.who()?, call.param("image_id"));
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = find(snapshot, who, id)?;
            if entry.visibility != Visibility::Shared {
                return Err(forbidden(what, id));
            }
            let mut image = entry.value.clone();
            let answer = change(&mut image)?;
            attributes::check_size(&image, Some(entry.value))?;
            let mut commit = Change::new();
            commit.update(entry, image);
            Ok((commit, answer))
        })
        .await
}

/// `POST /v2/images/{image_id}/members`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let member = match body.get("member") {
        Some(Value::String(member)) if member.is_empty() => return Err(Fault::invalid("Member can't be empty")),
        Some(Value::String(member)) if member.len() <= MAX_ID => member.clone(),
        Some(other) => return Err(Fault::Invalid(format!("{other} is not the id of a project"))),
        None if body.is_object() => return Err(Fault::invalid("Member to be added not specified")),
        None => return Err(Fault::invalid("Expected a member in the form: {\"member\": \"image_id\"}")),
    };
    let (who, id) = (call.who()?, call.param("image_id"));
    let answer = edit(&call, "create", |image| {
        if !who.is_admin() && !access::owns(who, image) {
            return Err(forbidden("create", id));
        }
        if image.members.contains_key(&member) {
            return Err(Fault::Conflict(format!("Member {member} is duplicated for image {id}")));
        }
        if image.members.len() >= MAX_MEMBERS {
            return Err(attributes::over("members", image.members.len() + 1, MAX_MEMBERS));
        }
        let state = ImageMember { status: MemberStatus::Pending, created_at: call.now, updated_at: call.now };
        let answer = view::member(image, &member, &state);
        image.members.insert(member.clone(), state);
        Ok(answer)
    });
    Ok(Reply::ok(answer.await?))
}

/// `PUT /v2/images/{image_id}/members/{member_id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let status = match body.get("status").map(Value::as_str) {
        Some(Some("pending")) => MemberStatus::Pending,
        Some(Some("accepted")) => MemberStatus::Accepted,
        Some(Some("rejected")) => MemberStatus::Rejected,
        Some(_) => {
            return Err(Fault::invalid("Incorrect request: Status must be \"pending\", \"accepted\" or \"rejected\"."));
        }
        None if body.is_object() => return Err(Fault::invalid("Status not specified")),
        None => return Err(Fault::invalid("Expected a status in the form: {\"status\": \"status\"}")),
    };
    let (who, id, member) = (call.who()?, call.param("image_id"), call.param("member_id"));
    let answer = edit(&call, "update", |image| {
        if !who.is_admin() && access::owns(who, image) {
            return Err(forbidden("update", id));
        }
        if !image.members.contains_key(member) || !sees(who, image, member) {
            return Err(no_member(member, id));
        }
        let state = ImageMember { status, updated_at: call.now, ..image.members[member].clone() };
        let answer = view::member(image, member, &state);
        image.members.insert(member.to_owned(), state);
        Ok(answer)
    });
    Ok(Reply::ok(answer.await?))
}

/// `DELETE /v2/images/{image_id}/members/{member_id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let (who, id, member) = (call.who()?, call.param("image_id"), call.param("member_id"));
    edit(&call, "delete", |image| {
        if !who.is_admin() && !access::owns(who, image) {
            return Err(forbidden("delete", id));
        }
        image.members.remove(member).map(|_| Value::Null).ok_or_else(|| no_member(member, id))
    })
    .await?;
    Ok(Reply::empty(204))
}
