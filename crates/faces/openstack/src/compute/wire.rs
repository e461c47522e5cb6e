//! What all of Nova's resources share on the wire: links, pages, times.

use model::{Fault, Time};
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::json::Json;
use crate::pages;

/// The most items that one page has (`[api]max_limit`).
pub const MAX_LIMIT: usize = 1000;

/// The address of a resource: `/flavors/1`.
pub fn href(call: &Call, path: &str) -> String {
    call.url(&format!("/v2.1{path}"))
}

/// The links that every resource has; `base` is the address of the service.
pub fn links(base: &str, path: &str) -> Json<'static> {
    let own = Json::object([("rel", "self".into()), ("href", format!("{base}/v2.1{path}").into())]);
    Json::List(vec![own, bookmark(base, path)])
}

/// The link without a version.
pub fn bookmark(base: &str, path: &str) -> Json<'static> {
    Json::object([("rel", "bookmark".into()), ("href", format!("{base}{path}").into())])
}

/// The number that older versions show where newer ones show a UUID.
pub fn number_of(id: &str) -> u32 {
    uuid::Uuid::try_parse(id).map_or(0, |id| (id.as_u128() >> 96) as u32 & 0x7fff_ffff)
}

/// `2026-11-21T19:34:15Z`
pub fn time(time: Time) -> String {
    format!("{time:.0}")
}

/// `2026-11-21T19:34:15.000000`
pub fn time_micro(time: Time) -> String {
    format!("{time:.6}").trim_end_matches('Z').to_owned()
}

/// A part of a list.
pub struct Paged<T> {
    pub items: Vec<T>,
    /// There are more, behind the last.
    pub more: bool,
}

/// Cuts a sorted list as `limit` and `marker` say. `id` names an item; a marker that is not in the list is refused.
pub fn page<T>(call: &Call, items: Vec<T>, id: impl Fn(&T) -> String) -> Result<Paged<T>, Fault> {
    let limit = match call.query("limit") {
        None => MAX_LIMIT,
        Some(text) => match text.parse::<i64>() {
            Ok(n) if n < 0 => {
                return Err(Fault::Invalid(
                    "Invalid input for query parameters limit. Value: limit must be >= 0".into(),
                ));
            }
            Ok(n) => usize::try_from(n).unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
            Err(_) => {
                return Err(Fault::Invalid(format!(
                    "Invalid input for query parameters limit. Value: {text}. '{text}' does not match '^[0-9]*$'"
                )));
            }
        },
    };
    let mut items = items;
    if let Some(marker) = call.query("marker").filter(|m| !m.is_empty()) {
        let at = items.iter().position(|item| id(item) == marker);
        let at = at.ok_or_else(|| Fault::Invalid(format!("marker [{marker}] not found")))?;
        items.drain(..=at);
    }
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Paged { items, more })
}

/// The list's body: the items, and the link to the next page if there is one.
pub fn list(call: &Call, name: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut body = Map::from_iter([(name.to_owned(), Value::from(items))]);
    body.extend(pages(&call.page(name, next.as_deref())));
    Value::Object(body)
}

/// The links of a list: to the next page, in the version that is in force.
pub fn pages(page: &pages::Page<'_>) -> Vec<(String, Value)> {
    let link = |next: &str| {
        let path = page.path().trim_end_matches('/').replacen("/v2/", "/v2.1/", 1);
        let href = format!("{}{path}?{}", page.base, page.query_at(next, &[]));
        (format!("{}_links", page.list), json!([{"rel": "next", "href": href}]))
    };
    page.next.map(link).into_iter().collect()
}
