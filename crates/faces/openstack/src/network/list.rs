//! Lists as Neutron gives them: filters on any attribute (repeated ones are alternatives), tags, chosen fields, sorting,
//! and pages with links.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::ask::Ask;
use super::attrs::{Attr, boolean, python_list};
use super::trouble::{Trouble, not_found};
use crate::call::Reply;
use model::Kind;

type Item = Map<String, Value>;

/// Parameters that are not filters.
const RESERVED: &[&str] = &["fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"];
const TAG_FILTERS: &[&str] = &["tags", "tags-any", "not-tags", "not-tags-any"];

/// The list of what the caller sees, filtered, sorted and cut as the query asks.
pub fn reply(ask: &Ask, kind: Kind, many: &str, attrs: &[Attr], items: Vec<Item>) -> Result<Reply, Trouble> {
    let known = |name: &str| attrs.iter().any(|a| a.name == name) || is_standard(name);
    check_filters(ask, &known)?;
    let mut items: Vec<Item> = items.into_iter().filter(|item| passes(ask, item)).collect();
    sort(ask, &known, &mut items)?;
    let page = Page::of(ask)?;
    let mut items = page.cut(items, kind)?;
    let links = page.links(ask, many, &items);
    for item in &mut items {
        keep_fields(ask, item);
    }
    let mut body = Map::new();
    body.insert(many.to_owned(), json!(items));
    if !links.is_empty() {
        body.insert(format!("{many}_links"), json!(links));
    }
    Ok(Reply::ok(Value::Object(body)))
}

/// Drops all attributes but those that the query names, if it names any.
pub fn keep_fields(ask: &Ask, item: &mut Item) {
    let fields: Vec<&str> = ask.queries("fields").flat_map(|f| f.split(',')).filter(|f| !f.is_empty()).collect();
    if !fields.is_empty() {
        item.retain(|name, _| fields.contains(&name.as_str()));
    }
}

fn is_standard(name: &str) -> bool {
    matches!(
        name,
        "id" | "name"
            | "project_id"
            | "tenant_id"
            | "description"
            | "created_at"
            | "updated_at"
            | "revision_number"
            | "changed_since"
    )
}

fn check_filters(ask: &Ask, known: &dyn Fn(&str) -> bool) -> Result<(), Trouble> {
    let strangers: Vec<&str> = ask
        .query
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !RESERVED.contains(name) && !TAG_FILTERS.contains(name) && !known(name))
        .collect();
    if strangers.is_empty() {
        return Ok(());
    }
    Err(Trouble::http_bad(format!("{} is invalid attribute for filtering", python_list(strangers.into_iter()))))
}

/// Every filter that is named lets the item pass.
fn passes(ask: &Ask, item: &Item) -> bool {
    ask.query.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())).all(|(name, _)| {
        let values: Vec<&str> = ask.queries(name).collect();
        match name.as_str() {
            tag if TAG_FILTERS.contains(&tag) => values.iter().all(|value| tags_pass(item, tag, value)),
            "fixed_ips" => fixed_ips_pass(item, &values),
            "changed_since" => values.iter().any(|v| text(item, "updated_at") >= v.trim_matches('"')),
            name => values.iter().any(|value| equals(item.get(name), value)),
        }
    })
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(Value::as_str).unwrap_or("")
}

fn equals(value: Option<&Value>, wanted: &str) -> bool {
    match value {
        None | Some(Value::Null) => wanted.is_empty() || wanted == "None" || wanted == "null",
        Some(Value::String(text)) => text == wanted,
        Some(Value::Bool(flag)) => boolean(&Value::from(wanted)) == Some(*flag),
        Some(Value::Array(items)) => items.iter().any(|item| equals(Some(item), wanted)),
        Some(Value::Number(number)) => wanted.parse::<serde_json::Number>().is_ok_and(|wanted| wanted == *number),
        Some(Value::Object(_)) => false,
    }
}

fn tags_pass(item: &Item, filter: &str, wanted: &str) -> bool {
    let has = |tag: &str| equals(item.get("tags"), tag);
    let (all, any) = (wanted.split(',').all(has), wanted.split(',').any(has));
    match filter {
        "tags" => all,
        "tags-any" => any,
        "not-tags" => !all,
        _ => !any,
    }
}

/// `ip_address=…`, `ip_address_substr=…`, `subnet_id=…`: the same one repeated is an alternative, different ones must
/// all hold, as Neutron groups them.
fn fixed_ips_pass(item: &Item, values: &[&str]) -> bool {
    let pairs: Vec<(&str, &str)> = values.iter().filter_map(|v| v.split_once('=')).collect();
    let ips: Vec<&Value> = item.get("fixed_ips").and_then(Value::as_array).into_iter().flatten().collect();
    let holds = |field: &str, wanted: &str| {
        ips.iter().any(|ip| match field {
            "ip_address_substr" => ip["ip_address"].as_str().is_some_and(|a| a.contains(wanted)),
            "ip_address" => same_address(ip["ip_address"].as_str().unwrap_or(""), wanted),
            "subnet_id" => ip["subnet_id"].as_str() == Some(wanted),
            _ => false,
        })
    };
    pairs.iter().all(|(field, _)| pairs.iter().any(|(f, wanted)| f == field && holds(f, wanted)))
        && pairs.len() == values.len()
}

fn same_address(a: &str, b: &str) -> bool {
    a == b || matches!((a.parse::<std::net::IpAddr>(), b.parse::<std::net::IpAddr>()), (Ok(a), Ok(b)) if a == b)
}

fn sort(ask: &Ask, known: &dyn Fn(&str) -> bool, items: &mut [Item]) -> Result<(), Trouble> {
    let keys: Vec<&str> = ask.queries("sort_key").collect();
    let dirs: Vec<&str> = ask.queries("sort_dir").collect();
    let strangers: Vec<&str> = keys.iter().copied().filter(|key| !known(key)).collect();
    if !strangers.is_empty() {
        let names = python_list(strangers.into_iter());
        return Err(Trouble::http_bad(format!("{names} is invalid attribute for sort_keys")));
    }
    if !dirs.is_empty() && dirs.len() != keys.len() {
        return Err(Trouble::http_bad("The number of sort_keys and sort_dirs must be same"));
    }
    if let Some(bad) = dirs.iter().find(|d| !matches!(**d, "asc" | "desc")) {
        return Err(Trouble::http_bad(format!(
            "['{bad}'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'"
        )));
    }
    items.sort_by(|a, b| {
        let by_key = |(i, key): (usize, &&str)| {
            let order = compare(a.get(*key), b.get(*key));
            if dirs.get(i) == Some(&"desc") { order.reverse() } else { order }
        };
        let order = keys.iter().enumerate().map(by_key).find(|order| order.is_ne());
        order.unwrap_or_else(|| text(a, "id").cmp(text(b, "id")))
    });
    Ok(())
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (a, b) => a.map(Value::to_string).cmp(&b.map(Value::to_string)),
    }
}

struct Page {
    limit: Option<usize>,
    marker: Option<String>,
    reverse: bool,
}

impl Page {
    fn of(ask: &Ask) -> Result<Self, Trouble> {
        let limit = match ask.queries("limit").next() {
            None | Some("" | "-1") => None,
            Some(text) => {
                let bad = || Trouble::http_bad(format!("Limit must be an integer 0 or greater and not '{text}'"));
                Some(text.parse::<usize>().map_err(|_| bad())?).filter(|n| *n > 0)
            }
        };
        let marker = ask.queries("marker").next().filter(|m| !m.is_empty()).map(str::to_owned);
        let reverse = ask.queries("page_reverse").next().is_some_and(|v| boolean(&Value::from(v)) == Some(true));
        Ok(Self { limit, marker, reverse })
    }

    fn cut(&self, items: Vec<Item>, kind: Kind) -> Result<Vec<Item>, Trouble> {
        let Some(limit) = self.limit else { return Ok(items) };
        let at = match &self.marker {
            None => None,
            Some(marker) => {
                let at = items.iter().position(|item| text(item, "id") == marker);
                Some(at.ok_or_else(|| not_found(kind, marker))?)
            }
        };
        let (from, to) = match (self.reverse, at) {
            (false, None) => (0, limit),
            (false, Some(at)) => (at + 1, (at + 1).saturating_add(limit)),
            (true, None) => (items.len().saturating_sub(limit), items.len()),
            (true, Some(at)) => (at.saturating_sub(limit), at),
        };
        let to = to.min(items.len());
        Ok(items.into_iter().take(to).skip(from).collect())
    }

    fn links(&self, ask: &Ask, many: &str, items: &[Item]) -> Vec<Value> {
        let Some(limit) = self.limit else { return Vec::new() };
        let short = items.len() < limit;
        let mut links = Vec::new();
        let base = format!("{}/v2.0/{}", ask.base_url, many.replace('_', "-"));
        let mut kept: Vec<String> = ask
            .query
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "marker" | "page_reverse"))
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
            .collect();
        let mut link = |rel: &str, item: Option<&Item>, reverse: bool| {
            let mut pairs = std::mem::take(&mut kept);
            let known = pairs.len();
            if let Some(item) = item {
                pairs.push(format!("marker={}", text(item, "id")));
            }
            if reverse {
                pairs.push("page_reverse=True".into());
            }
            links.push(json!({"rel": rel, "href": format!("{base}?{}", pairs.join("&"))}));
            pairs.truncate(known);
            kept = pairs;
        };
        if !short || self.reverse {
            link("next", items.last(), false);
        }
        if !short || !self.reverse {
            link("previous", items.first(), true);
        }
        links
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
