//! Lists as Neutron gives them: filters on any attribute (repeated ones are alternatives), tags, chosen fields, sorting,
//! and pages with links.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::ask::Ask;
use super::attrs::{Attr, boolean, python_list};
use super::filters::{self, Filters};
use super::trouble::{Trouble, not_found};
use crate::call::{Reply, escape};
use model::Kind;

type Item = Map<String, Value>;

/// Attributes that every resource has beside its own.
const MORE_KEYS: usize = 8;

/// The list of what the caller sees, filtered, sorted and cut as the query asks.
pub fn reply(ask: &Ask, kind: Kind, many: &str, attrs: &[Attr], items: Vec<Item>) -> Result<Reply, Trouble> {
    whole(ask, (kind, many, attrs), &filters(ask, attrs)?, items.into_iter())
}

fn whole(
    ask: &Ask,
    (kind, many, attrs): (Kind, &str, &[Attr]),
    filters: &Filters,
    items: impl Iterator<Item = Item>,
) -> Result<Reply, Trouble> {
    let mut items: Vec<Item> = items.filter(|item| filters.pass(item)).collect();
    sort(ask, attrs, &mut items)?;
    let page = Page::of(ask)?;
    let items = page.cut(items, kind)?;
    Ok(answer(ask, many, attrs, &page, items))
}

/// Takes away what resources are only filtered by.
pub fn hide(attrs: &[Attr], item: &mut Item) {
    for attr in attrs.iter().filter(|attr| attr.hidden) {
        item.remove(attr.name);
    }
}

/// What the query filters by, if the resource has it all.
pub fn filters(ask: &Ask, attrs: &[Attr]) -> Result<Filters, Trouble> {
    check_filters(ask, &|name| known(attrs, name))?;
    Filters::of(ask, attrs)
}

/// The list of rows that the caller sees, shown as far as the page reaches: without a sort key, no more rows are shown than
/// are filtered away before the page is full.
pub fn page<R: Copy>(
    ask: &Ask,
    (kind, many, attrs): (Kind, &str, &[Attr]),
    filters: &Filters,
    mut rows: Vec<(&str, R)>,
    show: impl Fn(R) -> Item,
) -> Result<Reply, Trouble> {
    let page = Page::of(ask)?;
    let Some(limit) = page.limit.filter(|_| ask.queries("sort_key").next().is_none()) else {
        return whole(ask, (kind, many, attrs), filters, rows.into_iter().map(|(_, row)| show(row)));
    };
    sort(ask, attrs, &mut [])?;
    rows.sort_by_key(|(id, _)| *id);
    let at = match &page.marker {
        None => None,
        Some(marker) => {
            Some(rows.binary_search_by_key(&marker.as_str(), |(id, _)| *id).map_err(|_| not_found(kind, marker))?)
        }
    };
    let shown = |(_, row): &(&str, R)| Some(show(*row)).filter(|item| filters.pass(item));
    let items = if page.reverse {
        let before = &rows[..at.unwrap_or(rows.len())];
        let mut items: Vec<Item> = before.iter().rev().filter_map(shown).take(limit).collect();
        items.reverse();
        items
    } else {
        rows[at.map_or(0, |at| at + 1)..].iter().filter_map(shown).take(limit).collect()
    };
    Ok(answer(ask, many, attrs, &page, items))
}

fn known(attrs: &[Attr], name: &str) -> bool {
    attrs.iter().any(|a| a.name == name) || is_standard(name)
}

fn answer(ask: &Ask, many: &str, attrs: &[Attr], page: &Page, mut items: Vec<Item>) -> Reply {
    let links = page.links(ask, &items);
    for item in &mut items {
        hide(attrs, item);
        keep_fields(ask, item);
    }
    let mut body = Map::new();
    body.insert(many.to_owned(), json!(items));
    if !links.is_empty() {
        body.insert(format!("{many}_links"), json!(links));
    }
    Reply::ok(Value::Object(body))
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
        .filter(|name| !filters::is_reserved(name) && !known(name))
        .collect();
    if strangers.is_empty() {
        return Ok(());
    }
    Err(Trouble::http_bad(format!("{} is invalid attribute for filtering", python_list(strangers.into_iter()))))
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(Value::as_str).unwrap_or("")
}

fn sort(ask: &Ask, attrs: &[Attr], items: &mut [Item]) -> Result<(), Trouble> {
    let keys: Vec<&str> = ask.queries("sort_key").collect();
    let dirs: Vec<&str> = ask.queries("sort_dir").collect();
    let strangers: Vec<&str> = keys.iter().copied().filter(|key| !known(attrs, key)).collect();
    if !strangers.is_empty() {
        let names = python_list(strangers.into_iter());
        return Err(Trouble::http_bad(format!("{names} is invalid attribute for sort_keys")));
    }
    if keys.len() > attrs.len() + MORE_KEYS {
        return Err(Trouble::http_bad("A list is sorted by each attribute once"));
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

    fn links(&self, ask: &Ask, items: &[Item]) -> Vec<Value> {
        let Some(limit) = self.limit else { return Vec::new() };
        let short = items.len() < limit;
        let mut links = Vec::new();
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
            links.push(json!({"rel": rel, "href": format!("{}?{}", ask.url, pairs.join("&"))}));
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
