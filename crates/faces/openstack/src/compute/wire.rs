//! What all of Nova's resources share on the wire: links, pages, times.

use model::{Fault, Time};
use serde_json::{Value, json};

use crate::call::{Call, escape};
use crate::json::Json;

/// The most items that one page has (`[api]max_limit`).
pub const MAX_LIMIT: usize = 1000;

/// The address of a resource: `/flavors/1`.
pub fn href(call: &Call, path: &str) -> String {
    format!("{}/compute/v2.1{path}", call.base_url())
}

/// The links that every resource has.
pub fn links(base: &str, path: &str) -> Json<'static> {
    let own = Json::object([("rel", "self".into()), ("href", format!("{base}/compute/v2.1{path}").into())]);
    Json::List(vec![own, bookmark(base, path)])
}

/// The link without a version.
pub fn bookmark(base: &str, path: &str) -> Json<'static> {
    Json::object([("rel", "bookmark".into()), ("href", format!("{base}/compute{path}").into())])
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
pub struct Page<T> {
    pub items: Vec<T>,
    /// There are more, behind the last.
    pub more: bool,
}

/// Cuts a sorted list as `limit` and `marker` say. `id` names an item; a marker that is not in the list is refused.
pub fn page<T>(call: &Call, items: Vec<T>, id: impl Fn(&T) -> String) -> Result<Page<T>, Fault> {
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
    Ok(Page { items, more })
}

/// The list's body: the items, and the link to the next page if there is one.
pub fn list(call: &Call, name: &str, path: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut body = json!({name: items});
    if let Some(links) = next_link(call, path, next) {
        body[format!("{name}_links")] = json!(links);
    }
    body
}

/// The links of a list: to the page behind the item with an id.
pub fn next_link(call: &Call, path: &str, next: Option<String>) -> Option<Json<'static>> {
    next.map(|marker| {
        let mut query: Vec<String> = call
            .query
            .iter()
            .filter(|(n, _)| n != "marker")
            .map(|(n, v)| format!("{}={}", escape(n), escape(v)))
            .collect();
        query.push(format!("marker={}", escape(&marker)));
        let href = format!("{}?{}", href(call, path), query.join("&"));
        Json::List(vec![Json::object([("rel", "next".into()), ("href", href.into())])])
    })
}

/// A moment given by a user: ISO 8601 with or without a zone (then UTC), or a date.
pub fn parse_time(text: &str) -> Option<Time> {
    let spaced = text.trim().replacen(' ', "T", 1);
    let zoned = || spaced.parse::<Time>().ok();
    let plain = || format!("{spaced}Z").parse::<Time>().ok();
    let date = || format!("{spaced}T00:00:00Z").parse::<Time>().ok();
    zoned().or_else(plain).or_else(date)
}
