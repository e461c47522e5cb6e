//! What Keystone's resources have in common on the wire: bodies named after the resource, lists with links, filters,
//! and the sentences of refusals.

use gate::{Ref, Scope};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::{AppCredential, Entry, Fault, Resource, Snapshot, Time, User};
use serde_json::{Map, Value, json};

use crate::access::reads_all;
use crate::call::{Call, Reply};
use crate::json::Json;
use crate::pages::Page;

/// The most tags of a project.
const MOST_TAGS: usize = 80;

/// The object in a body that stands under the resource's name.
pub struct Fields(Map<String, Value>);

impl Fields {
    pub async fn read(call: &mut Call, resource: &str) -> Result<Self, Fault> {
        Self::of(call.json().await?, resource)
    }

    /// Those of a body that was read.
    pub fn of(mut body: Value, resource: &str) -> Result<Self, Fault> {
        match body.get_mut(resource).map(Value::take) {
            Some(Value::Object(fields)) => Ok(Self(fields)),
            Some(other) => Err(invalid(resource, &format!("{} is not of type 'object'", short(&other)))),
            None => Err(Fault::invalid(format!(
                "Expecting to find {resource} in request body. The server could not comply with the request since it \
                 is either malformed or otherwise incorrect. The client is assumed to be in error."
            ))),
        }
    }

    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    /// A text; `None` if absent, `Some(None)` if null.
    pub fn nullable(&self, field: &str) -> Result<Option<Option<String>>, Fault> {
        match self.0.get(field) {
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

    /// The names of all that is there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn flag(&self, field: &str) -> Result<Option<bool>, Fault> {
        match self.0.get(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(invalid(field, &format!("{} is not of type 'boolean'", short(other)))),
        }
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

/// A list under its name.
pub fn list<'a>(call: &Call, plural: &str, items: impl IntoIterator<Item = impl Into<Json<'a>>>) -> Reply {
    page(call, plural, items, None)
}

/// A page of a list, and the last of it where there is another after it.
pub fn page<'a>(
    call: &Call,
    plural: &str,
    items: impl IntoIterator<Item = impl Into<Json<'a>>>,
    next: Option<&str>,
) -> Reply {
    let links = pages(&call.page(plural, next));
    let links = links.iter().map(|(name, value)| (name.as_str(), value.into()));
    Reply::ok(Json::Object(links.chain([(plural, Json::list(items))]).collect()).sorted())
}

/// The links of a list: to itself and to the next page.
pub fn pages(page: &Page<'_>) -> Vec<(String, Value)> {
    let next = page.next.map(|next| format!("{}{}?{}", page.base, page.path(), page.query_at(next, &[])));
    let own = format!("{}{}", page.base, page.uri);
    vec![("links".to_owned(), json!({"next": next, "self": own, "previous": null}))]
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
pub fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    text.chars().take(100).collect()
}
