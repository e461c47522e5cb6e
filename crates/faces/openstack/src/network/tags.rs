//! Tags of a resource: the sub-resource that all of Neutron's resources with tags have.

use model::{Fault, Object};
use serde_json::{Value, json};

use super::ask::{Ask, Plan};
use super::noun::{Look, Noun, answer, changeable};
use super::trouble::Trouble;
use crate::call::{Call, Reply};

/// Neutron has no limit on their number; this one has.
const MAX_TAGS: usize = 100;

/// Checks a list of tags.
pub fn checked(tags: Vec<String>) -> Result<Vec<String>, Trouble> {
    if tags.len() > MAX_TAGS {
        return Err(Trouble::attribute("tags", format!("a resource has at most {MAX_TAGS} tags.")));
    }
    for tag in &tags {
        if tag.is_empty() || tag.chars().count() > 255 || tag.contains(',') || tag.contains('/') {
            return Err(Trouble::attribute("tags", format!("'{tag}' is not a valid tag.")));
        }
    }
    let mut tags = tags;
    tags.sort();
    tags.dedup();
    Ok(tags)
}

async fn edit<T: Noun>(
    ask: &Ask,
    change: impl Fn(&mut Vec<String>) -> Result<(), Trouble> + Send + Sync,
) -> Result<Vec<String>, Trouble>
where
    Object: From<T>,
{
    let id = ask.param("id").to_owned();
    ask.commit(|plan: &mut Plan| {
        let mut value = changeable::<T>(plan, ask, &id, "update")?;
        let Some(tags) = value.tags_mut() else {
            return Err(Trouble::missing("HTTPNotFound", "The resource could not be found."));
        };
        change(tags)?;
        *tags = checked(std::mem::take(tags))?;
        let tags = tags.clone();
        *value.updated_mut() = ask.now;
        plan.put(value);
        Ok(tags)
    })
    .await
}

/// `GET /networks/{id}/tags`
pub async fn list<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        let look = Look { rows: &ask.snapshot, who: &ask.who };
        let entry = look.get::<T>(ask.param("id"))?;
        Ok(Reply::ok(json!({"tags": entry.value.standard().tags.unwrap_or_default()})))
    })
    .await
}

/// `GET /networks/{id}/tags/{tag}`
pub async fn show<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        let look = Look { rows: &ask.snapshot, who: &ask.who };
        let entry = look.get::<T>(ask.param("id"))?;
        let tag = ask.param("tag");
        if entry.value.standard().tags.unwrap_or_default().iter().any(|t| t == tag) {
            return Ok(Reply::empty(204));
        }
        Err(missing(tag))
    })
    .await
}

fn missing(tag: &str) -> Trouble {
    Trouble::missing("TagNotFound", format!("Tag {tag} could not be found."))
}

/// `PUT /networks/{id}/tags`
pub async fn replace<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    write::<T>(call, 200, |tags, new| *tags = new.to_vec()).await
}

/// `POST /networks/{id}/tags`: adds several.
pub async fn add_all<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    write::<T>(call, 201, |tags, new| tags.extend_from_slice(new)).await
}

/// Changes the tags by those in the body.
async fn write<T: Noun>(
    call: Call,
    status: u16,
    change: impl Fn(&mut Vec<String>, &[String]) + Send + Sync,
) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, true).await?;
        let new = given(&ask)?;
        let tags = edit::<T>(&ask, |tags| {
            change(tags, &new);
            Ok(())
        })
        .await?;
        Ok(Reply::json(status, &json!({"tags": tags})))
    })
    .await
}

/// The tags in the body.
fn given(ask: &Ask) -> Result<Vec<String>, Trouble> {
    let given = ask.body.get("tags").and_then(Value::as_array);
    let given = given.ok_or_else(|| Trouble::http_bad("Invalid tags body"))?;
    let texts: Option<Vec<String>> = given.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
    checked(texts.ok_or_else(|| Trouble::attribute("tags", "tags are strings."))?)
}

/// `PUT /networks/{id}/tags/{tag}`
pub async fn add<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        let tag = ask.param("tag").to_owned();
        edit::<T>(&ask, |tags| {
            tags.push(tag.clone());
            Ok(())
        })
        .await?;
        Ok(Reply::empty(201))
    })
    .await
}

/// `DELETE /networks/{id}/tags`
pub async fn clear<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        edit::<T>(&ask, |tags| {
            tags.clear();
            Ok(())
        })
        .await?;
        Ok(Reply::empty(204))
    })
    .await
}

/// `DELETE /networks/{id}/tags/{tag}`
pub async fn remove<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        let tag = ask.param("tag").to_owned();
        edit::<T>(&ask, |tags| {
            let before = tags.len();
            tags.retain(|t| *t != tag);
            if tags.len() == before { Err(missing(&tag)) } else { Ok(()) }
        })
        .await?;
        Ok(Reply::empty(204))
    })
    .await
}
