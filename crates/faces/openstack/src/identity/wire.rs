//! What Keystone's resources have in common on the wire: bodies named after the resource, lists with links, filters,
//! and the sentences of refusals.

use std::collections::BTreeMap;

use gate::{Ref, Scope};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::{AppCredential, Entry, Fault, Resource, Snapshot, Time, User};
use serde_json::{Map, Value, json};

use crate::access::reads_all;
use crate::call::{Call, Reply};
use crate::pages::Page;

/// The longest names that Keystone stores: of users and roles, and of domains, projects and groups.
const LONGEST_NAME: usize = 255;
const LONGEST_SHORT_NAME: usize = 64;

/// The most tags of a project.
const MOST_TAGS: usize = 80;

/// The object in a body that stands under the resource's name.
pub struct Fields {
    fields: Map<String, Value>,
    longest_name: usize,
}

impl Fields {
    pub async fn read(call: &mut Call, resource: &str) -> Result<Self, Fault> {
        Self::of(call.json().await?, resource)
    }

    /// Those of a body that was read.
    pub fn of(mut body: Value, resource: &str) -> Result<Self, Fault> {
        match body.get_mut(resource).map(Value::take) {
            Some(Value::Object(fields)) => {
                let short = matches!(resource, "domain" | "project" | "group");
                Ok(Self { fields, longest_name: if short { LONGEST_SHORT_NAME } else { LONGEST_NAME } })
            }
            Some(other) => Err(invalid(resource, &format!("{} is not of type 'object'", short(&other)))),
            None => Err(Fault::invalid(format!(
                "Expecting to find {resource} in request body. The server could not comply with the request since it \
                 is either malformed or otherwise incorrect. The client is assumed to be in error."
            ))),
        }
    }

    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// A text; `None` if absent, `Some(None)` if null.
    pub fn nullable(&self, field: &str) -> Result<Option<Option<String>>, Fault> {
        match self.fields.get(field) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text.clone()))),
            Some(other) => Err(invalid(field, &format!("{} is not of type 'string', 'null'", short(other)))),
        }
    }

    /// A text; null is the same as absent.
    pub fn text(&self, field: &str) -> Result<Option<String>, Fault> {
        Ok(self.nullable(field)?.flatten())
    }

    /// The row that is named; null is the same as absent.
    pub fn reference<T: Resource>(&self, field: &str) -> Result<Option<Ref<T>>, Fault> {
        Ok(self.text(field)?.as_deref().map(Ref::sent))
    }

    /// The row that is named; `Some(None)` if null.
    pub fn reference_or_null<T: Resource>(&self, field: &str) -> Result<Option<Option<Ref<T>>>, Fault> {
        Ok(self.nullable(field)?.map(|id| id.as_deref().map(Ref::sent)))
    }

    /// The name, which must not be empty.
    pub fn name(&self) -> Result<Option<String>, Fault> {
        let Some(value) = self.fields.get("name") else { return Ok(None) };
        let name =
            value.as_str().ok_or_else(|| invalid("name", &format!("{} is not of type 'string'", short(value))))?;
        if name.trim().is_empty() {
            return Err(invalid("name", &format!("{} does not match '[\\\\S]+'", short(value))));
        }
        if name.chars().count() > self.longest_name {
            return Err(invalid("name", &format!("{} is too long", short(value))));
        }
        Ok(Some(name.to_owned()))
    }

    /// The name of something new.
    pub fn new_name(&self) -> Result<String, Fault> {
        self.name()?.ok_or_else(|| missing("name"))
    }

    pub fn flag(&self, field: &str) -> Result<Option<bool>, Fault> {
        match self.fields.get(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(invalid(field, &format!("{} is not of type 'boolean'", short(other)))),
        }
    }

    pub fn tags(&self) -> Result<Option<Vec<String>>, Fault> {
        self.fields.get("tags").map(tags).transpose()
    }

    /// The attributes that are none of these: Keystone keeps what it does not know.
    pub fn extra(&self, known: &[&str]) -> BTreeMap<String, Value> {
        let unknown = self.fields.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        unknown.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// A list of tags, as in Keystone: each once, without commas and slashes.
pub fn tags(value: &Value) -> Result<Vec<String>, Fault> {
    let all = value.as_array().ok_or_else(|| invalid("tags", &format!("{} is not of type 'array'", short(value))))?;
    if all.len() > MOST_TAGS {
        return Err(invalid("tags", "there are too many of them"));
    }
    let mut tags = Vec::new();
    for tag in all {
        let text =
            tag.as_str().filter(|t| is_tag(t)).ok_or_else(|| invalid("tags", &format!("{} is no tag", short(tag))))?;
        if tags.iter().any(|t| t == text) {
            return Err(invalid("tags", &format!("{} has non-unique elements", short(value))));
        }
        tags.push(text.to_owned());
    }
    Ok(tags)
}

pub fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= 255 && !text.contains([',', '/'])
}

/// The front of every link.
pub fn base(call: &Call) -> String {
    call.url("/v3")
}

/// A list of resources under their plural.
pub fn list(call: &Call, plural: &str, items: Vec<Value>) -> Reply {
    paged(call, plural, items, None)
}

fn paged(call: &Call, plural: &str, items: Vec<Value>, next: Option<&str>) -> Reply {
    let mut body = Map::from_iter([(plural.to_owned(), Value::from(items))]);
    body.extend(pages(&call.page(plural, next)));
    Reply::ok(body)
}

/// The links of a list: to itself and to the next page.
pub fn pages(page: &Page<'_>) -> Vec<(String, Value)> {
    let next = page.next.map(|next| format!("{}{}?{}", page.base, page.path(), page.query_at(next, &[])));
    let own = format!("{}{}", page.base, page.uri);
    vec![("links".to_owned(), json!({"next": next, "self": own, "previous": null}))]
}

/// A page of a list in the order of its items' ids, if one is asked for: so many, after the one whose id is the marker,
/// which need not be there any more.
pub fn page(call: &Call, plural: &str, mut items: Vec<Value>) -> Result<Reply, Fault> {
    let (limit, marker) = (call.query("limit"), call.query("marker"));
    if limit.is_none() && marker.is_none() {
        return Ok(list(call, plural, items));
    }
    let limit = match limit {
        Some(text) => Some(text.parse::<usize>().map_err(|_| invalid("limit", &format!("'{text}' is not a number")))?),
        None => None,
    };
    let id = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
    items.sort_by_key(id);
    items.retain(|item| marker.is_none_or(|marker| id(item).as_str() > marker));
    let more = limit.is_some_and(|limit| limit > 0 && items.len() > limit);
    items.truncate(limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX));
    let last = items.last().filter(|_| more).map(id);
    Ok(paged(call, plural, items, last.as_deref()))
}

/// Whether a value passes the filters on a field: `name=x`, `name__contains=x` and the like.
pub fn passes(call: &Call, field: &str, value: &str) -> bool {
    call.query.iter().all(|(name, wanted)| match name.strip_prefix(field) {
        Some("") => value == wanted,
        Some("__contains") => value.contains(wanted.as_str()),
        Some("__icontains") => value.to_lowercase().contains(&wanted.to_lowercase()),
        Some("__startswith") => value.starts_with(wanted.as_str()),
        Some("__istartswith") => value.to_lowercase().starts_with(&wanted.to_lowercase()),
        Some("__endswith") => value.ends_with(wanted.as_str()),
        Some("__iendswith") => value.to_lowercase().ends_with(&wanted.to_lowercase()),
        _ => true,
    })
}

/// Whether a flag passes the filter `field=true`. As in Keystone, everything but `0` and `false` means yes.
pub fn passes_flag(call: &Call, field: &str, value: bool) -> bool {
    call.query(field).is_none_or(|wanted| asked(wanted) == value)
}

/// Whether a query parameter that is a switch is on.
pub fn asked(value: &str) -> bool {
    !matches!(value, "0" | "false" | "False" | "FALSE")
}

/// The row with this id.
pub fn get<'a, T: Resource>(snapshot: &'a Snapshot, id: &str) -> Result<Entry<'a, T>, Fault> {
    snapshot.get::<T>(id).ok_or_else(|| Fault::not_found(T::KIND, id))
}

/// The caller may not do this.
pub fn forbidden(action: &str) -> Fault {
    Fault::Forbidden(format!("You are not authorized to perform the requested action: identity:{action}."))
}

/// Whether the caller is the user, or may look at users there.
pub fn self_or_reader(call: &Call, user_id: &str, action: &str) -> Result<(), Fault> {
    let who = call.who()?;
    let reads = || match &who.scope {
        Scope::Domain { id } if who.is_reader() => {
            call.snapshot.get::<User>(user_id).is_some_and(|user| user.domain_id == *id)
        }
        _ => false,
    };
    if who.user_id == user_id || reads_all(who) || reads() { Ok(()) } else { Err(forbidden(action)) }
}

/// Whether the caller is the user.
pub fn only_self(call: &Call, user_id: &str, action: &str) -> Result<(), Fault> {
    if call.who()?.user_id == user_id { Ok(()) } else { Err(forbidden(action)) }
}

/// Whether the caller is the user, or an administrator.
pub fn self_or_admin(call: &Call, user_id: &str, action: &str) -> Result<(), Fault> {
    let who = call.who()?;
    if who.is_admin() || who.user_id == user_id { Ok(()) } else { Err(forbidden(action)) }
}

/// Refuses an application credential that was made without `unrestricted`: what it made could outlive or exceed it.
pub fn unrestricted(call: &Call, action: &str) -> Result<(), Fault> {
    let credential = call.who()?.app_credential_id.as_ref().and_then(|id| call.snapshot.get::<AppCredential>(id));
    match credential {
        Some(credential) if !credential.unrestricted => Err(forbidden(action)),
        _ => Ok(()),
    }
}

/// The same, and whoever acts by a trust.
pub fn undelegated(call: &Call, action: &str) -> Result<(), Fault> {
    match call.who()?.trust {
        Some(_) => Err(forbidden(action)),
        None => unrestricted(call, action),
    }
}

/// A moment to come, with or without a zone; without one it is UTC.
pub fn future(call: &Call, field: &str, text: Option<String>) -> Result<Option<Time>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let zoned = text.parse::<Time>().ok();
    let plain = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp());
    let time = zoned.or_else(plain).ok_or_else(|| invalid(field, "it is not a moment in ISO 8601"))?;
    if time <= call.now { Err(invalid(field, "it must not be in the past")) } else { Ok(Some(time)) }
}

pub fn invalid(field: &str, why: &str) -> Fault {
    Fault::invalid(format!("Invalid input for field '{field}': {why}"))
}

pub fn missing(field: &str) -> Fault {
    Fault::invalid(format!("Invalid input for field '': '{field}' is a required property"))
}

/// Two things of the same name, in one domain or (without one) at all.
pub fn duplicate(what: &str, name: &str, domain: Option<&str>) -> Fault {
    let place = domain.map(|id| format!(" at domain ID {id}")).unwrap_or_default();
    Fault::conflict(format!(
        "Conflict occurred attempting to store {what} - Duplicate entry found with name {name}{place}."
    ))
}

/// A moment as tokens show it.
pub fn time(time: model::Time) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A value in a message: enough of it to be recognised.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    text.chars().take(100).collect()
}
