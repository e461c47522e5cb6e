//! Tags of a resource: the sub-resource that all of Neutron's resources with tags have.

use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{self, NeutronResource, answer, changeable};
use super::words::checked_tags;
use gate::View;
use model::{Fault, FloatingIp, Network, Port, QosPolicy, Router, SecurityGroup, Subnet, SubnetPool, Trunk};
use serde_json::{Value, json};

use crate::call::{Call, Reply};

/// A resource with tags.
pub trait Tagged: NeutronResource {
    fn tags(&self) -> &[String];
    fn tags_mut(&mut self) -> &mut Vec<String>;
}

macro_rules! tagged {
    ($($type:ty),* $(,)?) => {
        $(
            impl Tagged for $type {
                fn tags(&self) -> &[String] {
                    &self.tags
                }
                fn tags_mut(&mut self) -> &mut Vec<String> {
                    &mut self.tags
                }
            }
        )*
    };
}
tagged!(Network, Subnet, SubnetPool, Port, Router, FloatingIp, SecurityGroup, Trunk, QosPolicy);

async fn edit<T: Tagged>(
    request: &Request,
    change: impl Fn(&mut Vec<String>) -> Result<(), NeutronError> + Send + Sync,
) -> Result<Vec<String>, NeutronError> {
    let id = request.param("id").to_owned();
    request
        .commit(|plan: &mut Plan| {
            let mut value = changeable::<T>(plan, request, &id, "update")?;
            let tags = value.tags_mut();
            change(tags)?;
            *tags = checked_tags(std::mem::take(tags)).map_err(|reason| NeutronError::attribute("tags", reason))?;
            let tags = tags.clone();
            *value.updated_mut() = request.now;
            plan.put(value);
            Ok(tags)
        })
        .await
}

/// `GET /networks/{id}/tags`
pub async fn list<T: Tagged>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let view = View::new(&request.snapshot, &request.who);
        let entry = resource::get::<T>(&view, request.param("id"))?;
        Ok(Reply::ok(json!({"tags": entry.value.tags()})))
    })
    .await
}

/// `GET /networks/{id}/tags/{tag}`
pub async fn show<T: Tagged>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let view = View::new(&request.snapshot, &request.who);
        let entry = resource::get::<T>(&view, request.param("id"))?;
        let tag = request.param("tag");
        if entry.value.tags().iter().any(|t| t == tag) {
            return Ok(Reply::empty(204));
        }
        Err(missing(tag))
    })
    .await
}

fn missing(tag: &str) -> NeutronError {
    NeutronError::missing("TagNotFound", format!("Tag {tag} could not be found."))
}

/// `PUT /networks/{id}/tags`
pub async fn replace<T: Tagged>(call: Call) -> Result<Reply, Fault> {
    write::<T>(call, 200, |tags, new| *tags = new.to_vec()).await
}

/// `POST /networks/{id}/tags`: adds several.
pub async fn add_all<T: Tagged>(call: Call) -> Result<Reply, Fault> {
    write::<T>(call, 201, |tags, new| tags.extend_from_slice(new)).await
}

/// Changes the tags by those in the body.
async fn write<T: Tagged>(
    call: Call,
    status: u16,
    change: impl Fn(&mut Vec<String>, &[String]) + Send + Sync,
) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let new = given(&request)?;
        let tags = edit::<T>(&request, |tags| {
            change(tags, &new);
            Ok(())
        })
        .await?;
        Ok(Reply::json(status, &json!({"tags": tags})))
    })
    .await
}

/// The tags in the body.
fn given(request: &Request) -> Result<Vec<String>, NeutronError> {
    let given = request.body.get("tags").and_then(Value::as_array);
    let given = given.ok_or_else(|| NeutronError::http_bad("Invalid tags body"))?;
    let texts: Option<Vec<String>> = given.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
    let texts = texts.ok_or_else(|| NeutronError::attribute("tags", "tags are strings."))?;
    checked_tags(texts).map_err(|reason| NeutronError::attribute("tags", reason))
}

/// `PUT /networks/{id}/tags/{tag}`
pub async fn add<T: Tagged>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let tag = request.param("tag").to_owned();
        edit::<T>(&request, |tags| {
            tags.push(tag.clone());
            Ok(())
        })
        .await?;
        Ok(Reply::empty(201))
    })
    .await
}

/// `DELETE /networks/{id}/tags`
pub async fn clear<T: Tagged>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        edit::<T>(&request, |tags| {
            tags.clear();
            Ok(())
        })
        .await?;
        Ok(Reply::empty(204))
    })
    .await
}

/// `DELETE /networks/{id}/tags/{tag}`
pub async fn remove<T: Tagged>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let tag = request.param("tag").to_owned();
        edit::<T>(&request, |tags| {
            let before = tags.len();
            tags.retain(|t| *t != tag);
            if tags.len() == before { Err(missing(&tag)) } else { Ok(()) }
        })
        .await?;
        Ok(Reply::empty(204))
    })
    .await
}
