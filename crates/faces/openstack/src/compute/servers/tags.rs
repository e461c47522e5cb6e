//! Tags of servers, since 2.26.

use model::{Fault, Server};
use serde_json::{Value, json};

use super::{When, act};
use crate::call::{Call, Reply};
use crate::compute::body::{Fields, bad};
use crate::compute::fault::missing;
use crate::compute::wire::href;

const MOST: usize = 50;

const WHEN: When = When {
    vm_states: &["active", "paused", "suspended", "stopped", "building", "resized"],
    tasks: &[],
    any_task: true,
    though_locked: true,
};

fn check(tag: &str) -> Result<(), Fault> {
    if tag.is_empty() || tag.chars().count() > 60 || tag.contains(['/', ',']) {
        return Err(bad("tags", &json!(tag), "It is not a tag: 1 to 60 characters without '/' and ','"));
    }
    Ok(())
}

/// A list of tags from a body.
pub fn read_all(value: &Value) -> Result<Vec<String>, Fault> {
    let list = value.as_array().ok_or_else(|| bad("tags", value, "It is not of type 'array'"))?;
    let mut tags: Vec<String> = Vec::new();
    for item in list {
        let tag = item.as_str().ok_or_else(|| bad("tags", item, "It is not of type 'string'"))?;
        check(tag)?;
        if !tags.iter().any(|other| other == tag) {
            tags.push(tag.to_owned());
        }
    }
    if tags.len() > MOST {
        return Err(bad("tags", value, "It is too long"));
    }
    tags.sort();
    Ok(tags)
}

/// `GET /servers/{id}/tags`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    Ok(Reply::ok(json!({"tags": server.tags})))
}

fn absent(call: &Call) -> Fault {
    missing(format!("Server {} has no tag '{}'", call.param("id"), call.param("tag")))
}

/// `GET /servers/{id}/tags/{tag}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    let has = server.tags.iter().any(|tag| tag == call.param("tag"));
    if has { Ok(Reply::empty(204)) } else { Err(absent(&call)) }
}

/// `PUT /servers/{id}/tags`
pub async fn replace(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::new("body", &body)?;
    fields.only(&["tags"])?;
    let tags = read_all(fields.required("tags")?)?;
    let server = change(&call, |server| {
        server.tags.clone_from(&tags);
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"tags": server.tags})))
}

/// `PUT /servers/{id}/tags/{tag}`: 201 for a new one, 204 for one that was there.
pub async fn create(call: Call) -> Result<Reply, Fault> {
    let tag = call.param("tag");
    check(tag)?;
    let view = call.view()?;
    let had = super::find(&view, call.param("id"))?.tags.iter().any(|t| t == tag);
    change(&call, |server| {
        if server.tags.len() >= MOST && !server.tags.iter().any(|t| t == tag) {
            return Err(Fault::Invalid(format!("The number of tags exceeded the per-server limit {MOST}")));
        }
        server.tags.push(tag.to_owned());
        server.tags.sort();
        server.tags.dedup();
        Ok(())
    })
    .await?;
    if had {
        return Ok(Reply::empty(204));
    }
    let path = href(&call, &format!("/servers/{}/tags/{tag}", call.param("id")));
    Ok(Reply::empty(201).with("location", &path))
}

/// `DELETE /servers/{id}/tags/{tag}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let tag = call.param("tag");
    change(&call, |server| {
        let at = server.tags.iter().position(|t| t == tag).ok_or_else(|| absent(&call))?;
        server.tags.remove(at);
        Ok(())
    })
    .await?;
    Ok(Reply::empty(204))
}

/// `DELETE /servers/{id}/tags`
pub async fn delete_all(call: Call) -> Result<Reply, Fault> {
    change(&call, |server| {
        server.tags.clear();
        Ok(())
    })
    .await?;
    Ok(Reply::empty(204))
}

async fn change(call: &Call, edit: impl Fn(&mut Server) -> Result<(), Fault>) -> Result<Server, Fault> {
    act(call, "", WHEN, |server, _| edit(server)).await
}
