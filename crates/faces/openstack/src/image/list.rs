//! `GET /v2/images`: what the caller sees, filtered, sorted, in pages.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use gate::Principal;
use model::{Fault, Image, MemberStatus, Visibility};
use serde_json::{Map, Value, json};

use super::attrs::{self, Comparison, Filter as By};
use super::create::no_empty_id;
use super::{access, view};
use crate::call::{Call, Reply};
use crate::pages::Page;

/// Glance's own limits of a page.
const DEFAULT_LIMIT: usize = 25;
const MAX_LIMIT: usize = 1000;

/// `GET /v2/images`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    no_empty_id(&call)?;
    let who = call.who()?;
    let limit = match call.query("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => match text.trim().parse::<i64>() {
            Err(_) => return Err(Fault::invalid("limit param must be an integer")),
            Ok(n) => usize::try_from(n).map_err(|_| Fault::invalid("limit param must be positive"))?.min(MAX_LIMIT),
        },
    };
    let order = order(&call)?;
    let listed = Listed::of(&call)?;
    let filters = filters(&call)?;
    let mut images: Vec<&Image> = call
        .snapshot
        .all::<Image>()
        .map(|entry| entry.value)
        .filter(|image| listed.holds(who, image) && filters.iter().all(|filter| filter(image)))
        .collect();
    let by_order = |a: &Image, b: &Image| compare(&order, a, b);
    images.sort_by(|a, b| by_order(a, b));
    if let Some(marker) = call.query("marker") {
        let marker = access::find(&call.snapshot, who, marker).map_err(|fault| match fault {
            Fault::NotFound { what, .. } => Fault::Invalid(what),
            other => other,
        })?;
        // The marker need not be of the list itself.
        images.retain(|image| by_order(image, &marker) == Ordering::Greater);
    }
    images.truncate(limit);
    Ok(Reply::ok(page(&call, &images, limit)))
}

fn page(call: &Call, images: &[&Image], limit: usize) -> Value {
    let shown: Vec<Value> = images.iter().map(|image| attrs::shown(image)).collect();
    let mut body =
        Map::from_iter([("images".to_owned(), json!(shown)), ("schema".to_owned(), json!("/v2/schemas/images"))]);
    // Like Glance's, a full page promises a next one, which may be empty.
    let last = images.last().filter(|_| images.len() == limit);
    body.extend(pages(&call.page("images", last.map(|image| image.id.as_str()))));
    Value::Object(body)
}

/// Where a list begins and goes on, below the service's prefix.
pub fn pages(page: &Page<'_>) -> Vec<(String, Value)> {
    let pairs = page.query.iter().filter(|(name, _)| name != "marker");
    let mut query: Vec<String> = pairs.map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
    let href = |query: &[String]| {
        if query.is_empty() { "/v2/images".to_owned() } else { format!("/v2/images?{}", query.join("&")) }
    };
    let mut links = vec![("first".to_owned(), json!(href(&query)))];
    if let Some(last) = page.next {
        query.push(format!("marker={}", encode(last)));
        links.push(("next".to_owned(), json!(href(&query))));
    }
    links
}

/// A part of a query string.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Which of the images that the caller may know of are listed at all.
struct Listed {
    /// `None` without the filter: then communities' images of others are left out.
    visibility: Option<&'static str>,
    /// `None`: whatever the member says.
    member_status: Option<MemberStatus>,
}

impl Listed {
    fn of(call: &Call) -> Result<Self, Fault> {
        let visibility = match call.query("visibility").filter(|v| !v.is_empty()) {
            None => None,
            Some(text) => {
                let known = ["community", "public", "private", "shared", "all"].into_iter().find(|v| *v == text);
                Some(known.ok_or_else(|| Fault::Invalid(format!("Invalid visibility value: {text}")))?)
            }
        };
        let member_status = match call.query("member_status").unwrap_or("accepted") {
            "pending" => Some(MemberStatus::Pending),
            "accepted" => Some(MemberStatus::Accepted),
            "rejected" => Some(MemberStatus::Rejected),
            "all" => None,
            other => return Err(Fault::Invalid(format!("Invalid status: {other}"))),
        };
        Ok(Self { visibility, member_status })
    }

    fn holds(&self, who: &Principal, image: &Image) -> bool {
        let own = access::owns(who, image);
        let shared = || {
            let member = who.project_id().and_then(|id| image.members.get(id));
            access::is_member(who, image)
                && member.is_some_and(|m| self.member_status.is_none_or(|status| m.status == status))
        };
        let open = matches!(image.visibility, Visibility::Public | Visibility::Community);
        let asked = match self.visibility {
            None => own || image.visibility != Visibility::Community,
            Some("all") => true,
            Some(visibility) => view::visibility(image.visibility) == visibility,
        };
        asked && (own || open || who.is_admin() || shared())
    }
}

type Filter = Box<dyn Fn(&Image) -> bool + Send>;

fn filters(call: &Call) -> Result<Vec<Filter>, Fault> {
    let mut filters = Vec::new();
    let apart = ["limit", "marker", "member_status", "visibility", "sort", "sort_key", "sort_dir"];
    // The same said twice is not looked at twice.
    let asked: BTreeSet<&(String, String)> = call.query.iter().collect();
    for (name, value) in asked.into_iter().filter(|(name, _)| !apart.contains(&name.as_str())) {
        filters.push(filter(name, value.clone())?);
    }
    if call.query("os_hidden").is_none() {
        filters.push(Box::new(|image| !image.os_hidden));
    }
    Ok(filters)
}

fn filter(name: &str, value: String) -> Result<Filter, Fault> {
    Ok(match name {
        "tag" => Box::new(move |image| image.tags.iter().any(|tag| tag == value.trim())),
        "changes-since" => {
            return Err(Fault::invalid("The \"changes-since\" filter is no longer available on v2."));
        }
        _ => {
            let bare = name.trim_end_matches("_min").trim_end_matches("_max");
            match (attrs::named(bare).and_then(|attr| attr.filter), bare == name) {
                (Some(By::Amount(of)), _) => bound(name, &value, of)?,
                (Some(By::AnyOf(of)), true) => any_of(&value, of)?,
                (Some(By::Equal(of)), true) => Box::new(move |image| of(image) == Some(&value)),
                (Some(By::Moment(of)), true) => moment(name, &value, of)?,
                (Some(By::Flag { of, capitals }), true) => {
                    let wanted = flag(name, &if capitals { value.to_lowercase() } else { value })?;
                    Box::new(move |image| of(image) == wanted)
                }
                _ => {
                    let name = name.to_owned();
                    Box::new(move |image| image.properties.get(&name) == Some(&value))
                }
            }
        }
    })
}

fn flag(name: &str, value: &str) -> Result<bool, Fault> {
    value.parse().map_err(|_| {
        Fault::Invalid(format!("Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'."))
    })
}

fn bound(name: &str, value: &str, amount: fn(&Image) -> Option<u64>) -> Result<Filter, Fault> {
    let number: i128 =
        value.trim().parse().map_err(|_| Fault::invalid("Unable to filter on a range with a non-numeric value."))?;
    let holds: fn(i128, i128) -> bool = match name {
        n if n.ends_with("_min") => |found, asked| found >= asked,
        n if n.ends_with("_max") => |found, asked| found <= asked,
        _ => |found, asked| found == asked,
    };
    Ok(Box::new(move |image| amount(image).is_some_and(|found| holds(found.into(), number))))
}

/// `x` or `in:x,y,"z,z"`.
fn any_of(value: &str, field: fn(&Image) -> Option<String>) -> Result<Filter, Fault> {
    let wanted: Vec<String> = match value.split_once(':') {
        None => vec![value.to_owned()],
        Some(("in", list)) => split_quoted(list)?,
        Some(("eq", one)) => vec![one.to_owned()],
        Some((operator, _)) => {
            return Err(Fault::Invalid(format!("Unable to filter by unknown operator '{operator}'.")));
        }
    };
    let wanted: HashSet<String> = wanted.into_iter().collect();
    Ok(Box::new(move |image| field(image).is_some_and(|found| wanted.contains(&found))))
}

/// Values between commas; in double quotes they may hold commas, and quotes after a backslash.
fn split_quoted(list: &str) -> Result<Vec<String>, Fault> {
    let bad = |why: &str| Fault::Invalid(format!("Invalid filter value {list}. {why}"));
    let (mut values, mut value) = (Vec::new(), String::new());
    let (mut open, mut closed) = (false, false);
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if open => value.extend(chars.next()),
            '"' if open => (open, closed) = (false, true),
            '"' if value.is_empty() && !closed => open = true,
            '"' => return Err(bad("There is no comma before opening quotation mark.")),
            ',' if !open => {
                values.push(std::mem::take(&mut value));
                closed = false;
            }
            _ if closed => return Err(bad("There is no comma after closing quotation mark.")),
            c => value.push(c),
        }
    }
    if open {
        return Err(bad("The quote is not closed."));
    }
    values.push(value);
    Ok(values)
}

/// `gte:2026-11-21T19:34:15Z`, to the second, as moments are shown.
fn moment(name: &str, value: &str, field: fn(&Image) -> model::Time) -> Result<Filter, Fault> {
    let (operator, text) = match value.split_once(':') {
        Some((word, rest)) if word.bytes().all(|b| b.is_ascii_alphabetic()) => (word, rest),
        _ => ("eq", value),
    };
    let holds: fn(Ordering) -> bool = match operator {
        "gt" => Ordering::is_gt,
        "gte" => Ordering::is_ge,
        "lt" => Ordering::is_lt,
        "lte" => Ordering::is_le,
        "eq" => Ordering::is_eq,
        "neq" => Ordering::is_ne,
        _ => return Err(Fault::Invalid(format!("Unable to filter by unknown operator '{operator}'."))),
    };
    let parsed = text.parse::<model::Time>().or_else(|_| format!("{text}Z").parse());
    let asked = parsed
        .map_err(|_| Fault::Invalid(format!("Bad \"{name}\" query filter format. Use ISO 8601 DateTime notation.")))?
        .as_second();
    Ok(Box::new(move |image| holds(field(image).as_second().cmp(&asked))))
}

/// The sort keys, each with whether it descends.
fn order(call: &Call) -> Result<Vec<(Comparison, bool)>, Fault> {
    let mut keys: Vec<String> = Vec::new();
    let mut dirs: Vec<String> = Vec::new();
    if let Some(sort) = call.query("sort") {
        if call.query("sort_key").is_some() || call.query("sort_dir").is_some() {
            return Err(Fault::invalid("Old and new sorting syntax cannot be combined"));
        }
        for part in sort.trim().split(',') {
            let (key, dir) = part.split_once(':').unwrap_or((part, "desc"));
            keys.push(key.trim().to_owned());
            dirs.push(dir.trim().to_owned());
        }
    } else {
        keys.extend(call.queries("sort_key").map(|k| k.trim().to_owned()));
        dirs.extend(call.queries("sort_dir").map(|d| d.trim().to_owned()));
        if !keys.is_empty() && dirs.len() > 1 && dirs.len() != keys.len() {
            return Err(Fault::invalid("Number of sort dirs does not match the number of sort keys"));
        }
    }
    if let Some(bad) = dirs.iter().find(|dir| !matches!(dir.as_str(), "asc" | "desc")) {
        return Err(Fault::Invalid(format!("Invalid sort direction: {bad}")));
    }
    // One direction is that of every key, those that make the order total included.
    let descends = |i: usize| if dirs.len() > 1 { dirs.get(i) } else { dirs.first() }.is_none_or(|dir| dir == "desc");
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for (i, key) in keys.iter().enumerate() {
        let comparison = comparison(key)?;
        // What is equal by a key is equal by it the second time, too.
        if seen.insert(key) {
            order.push((comparison, descends(i)));
        }
    }
    for last in ["created_at", "id"] {
        if !keys.iter().any(|key| key == last) {
            order.push((comparison(last)?, dirs.len() > 1 || descends(0)));
        }
    }
    Ok(order)
}

fn comparison(key: &str) -> Result<Comparison, Fault> {
    let sorted = || attrs::ATTRS.iter().filter_map(|attr| Some((attr.name, attr.order?)));
    let found = sorted().find(|(name, _)| *name == key);
    found.map(|(_, order)| order).ok_or_else(|| {
        let keys: Vec<&str> = sorted().map(|(name, _)| name).collect();
        Fault::Invalid(format!("Invalid sort key: {key}. It must be one of the following: {}", keys.join(", ")))
    })
}

fn compare(order: &[(Comparison, bool)], a: &Image, b: &Image) -> Ordering {
    let orderings = order.iter().map(|(comparison, descends)| {
        let one = comparison(a, b);
        if *descends { one.reverse() } else { one }
    });
    orderings.into_iter().find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(split_quoted("a,b").unwrap(), ["a", "b"]);
        assert_eq!(split_quoted(r#""a,b",c"#).unwrap(), ["a,b", "c"]);
        assert_eq!(split_quoted(r#""a\"b""#).unwrap(), [r#"a"b"#]);
        for bad in [r#""a"#, r#"a"b""#, r#""a"b"#] {
            assert!(split_quoted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_are_encoded() {
        assert_eq!(encode("in:a b,\"c\""), "in%3Aa+b%2C%22c%22");
    }
}
