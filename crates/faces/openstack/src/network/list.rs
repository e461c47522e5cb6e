//! Lists as Neutron gives them: filters on any attribute (repeated ones are alternatives), tags, chosen fields, sorting,
//! and pages with links. Filters and sort keys look at the row; what is shown is rendered last, for the items of the page and
//! the fields that were asked for alone.

use gate::View;
use model::Kind;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use super::attrs::{Attr, Item};
use super::body::{boolean, python_list};
use super::error::{NeutronError, not_found};
use super::filters::{self, Filters};
use super::request::Request;
use crate::call::Reply;
use crate::json::Json;
use crate::pages;

/// What a list is of.
pub struct Listed<T: 'static> {
    pub kind: Kind,
    /// `networks`
    pub many: &'static str,
    pub attrs: &'static [Attr<T>],
}

/// Names by which every list can be filtered and sorted, whether its items have such an attribute or not.
const EVERYWHERE: &[&str] = &[
    "id",
    "name",
    "project_id",
    "tenant_id",
    "description",
    "created_at",
    "updated_at",
    "revision_number",
    "changed_since",
];

impl<T> Listed<T> {
    fn knows(&self, name: &str) -> bool {
        self.attrs.iter().any(|attr| attr.name == name) || EVERYWHERE.contains(&name)
    }

    /// What the query filters by, if the items have it all.
    pub fn filters(&self, request: &Request) -> Result<Filters<T>, NeutronError> {
        let names = request.query.iter().map(|(name, _)| name.as_str());
        let strangers: Vec<&str> = names.filter(|name| !filters::is_reserved(name) && !self.knows(name)).collect();
        if !strangers.is_empty() {
            let names = python_list(strangers.into_iter());
            return Err(NeutronError::http_bad(format!("{names} is invalid attribute for filtering")));
        }
        Filters::read(&request.query, self.attrs)
    }

    /// The list of items that the caller sees, filtered, sorted and cut as the query asks.
    pub fn reply<'a>(
        &self,
        request: &'a Request,
        view: &View<'a>,
        filters: &Filters<T>,
        items: impl Iterator<Item = Item<'a, T>>,
    ) -> Result<Reply, NeutronError> {
        let page = Paging::of(request)?;
        let order = Order::of(request, self)?;
        let marker = page.limit.and(page.marker.as_deref());
        let items = items.filter(|item| filters.pass(view, *item) || marker == Some(item.id)).collect();
        let items = order.sort(view, items);
        let (before, after) = match marker {
            None => (&items[..], &items[..]),
            Some(marker) => {
                let at = items.iter().position(|item| item.id == marker);
                let at = at.ok_or_else(|| not_found(self.kind, marker))?;
                (&items[..at], &items[at + 1..])
            }
        };
        let items = match (page.limit, page.reverse) {
            (None, _) => &items[..],
            (Some(limit), false) => &after[..limit.min(after.len())],
            (Some(limit), true) => &before[before.len().saturating_sub(limit)..],
        };
        let attrs = chosen(request, self.attrs);
        let shown = Shown { many: self.many, links: page.links(request, self.many, items), view, attrs: &attrs, items };
        Ok(Reply::ok(shown))
    }
}

/// A page of a list.
struct Shown<'l, 'a, T: 'static> {
    many: &'static str,
    links: Vec<(String, Value)>,
    view: &'l View<'a>,
    attrs: &'l [&'static Attr<T>],
    items: &'l [Item<'a, T>],
}

impl<T> Serialize for Shown<'_, '_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let items: Vec<_> =
            self.items.iter().map(|item| Rendered { view: self.view, attrs: self.attrs, item: *item }).collect();
        let mut map = to.serialize_map(None)?;
        map.serialize_entry(self.many, &items)?;
        for (name, links) in &self.links {
            map.serialize_entry(name, links)?;
        }
        map.end()
    }
}

/// An item as JSON. Attributes are looked up while they are written.
pub struct Rendered<'l, 'a, T: 'static> {
    pub view: &'l View<'a>,
    pub attrs: &'l [&'static Attr<T>],
    pub item: Item<'a, T>,
}

impl<T> Serialize for Rendered<'_, '_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for attr in self.attrs {
            match attr.of(self.view, self.item) {
                Json::Absent => {}
                value => map.serialize_entry(attr.name, &value)?,
            }
        }
        map.end()
    }
}

/// The attributes that the caller sees, by name.
pub fn visible<T>(attrs: &'static [Attr<T>], admin: bool) -> Vec<&'static Attr<T>> {
    let mut seen: Vec<_> = attrs.iter().filter(|attr| !attr.hidden && (admin || !attr.admin_sees)).collect();
    seen.sort_unstable_by_key(|attr| attr.name);
    seen
}

/// Those of them that the query names, if it names any.
pub fn chosen<T>(request: &Request, attrs: &'static [Attr<T>]) -> Vec<&'static Attr<T>> {
    let mut attrs = visible(attrs, request.who.is_admin());
    let fields = fields(request);
    attrs.retain(|attr| fields.is_empty() || fields.contains(&attr.name));
    attrs
}

fn fields(request: &Request) -> Vec<&str> {
    request.queries("fields").flat_map(|f| f.split(',')).filter(|f| !f.is_empty()).collect()
}

/// The same of what is no resource.
pub fn keep_fields(request: &Request, item: &mut Map<String, Value>) {
    let fields = fields(request);
    if !fields.is_empty() {
        item.retain(|name, _| fields.contains(&name.as_str()));
    }
}

/// By what a list is sorted: the attributes that are named, and ids.
struct Order<T: 'static> {
    /// And whether from the greatest to the least. Every list can be sorted by what its items do not have.
    keys: Vec<(Option<&'static Attr<T>>, bool)>,
}

impl<T> Order<T> {
    fn of(request: &Request, listed: &Listed<T>) -> Result<Self, NeutronError> {
        let keys: Vec<&str> = request.queries("sort_key").collect();
        let dirs: Vec<&str> = request.queries("sort_dir").collect();
        let strangers: Vec<&str> = keys.iter().copied().filter(|key| !listed.knows(key)).collect();
        if !strangers.is_empty() {
            let names = python_list(strangers.into_iter());
            return Err(NeutronError::http_bad(format!("{names} is invalid attribute for sort_keys")));
        }
        if keys.len() > listed.attrs.len() + EVERYWHERE.len() {
            return Err(NeutronError::http_bad("A list is sorted by each attribute once"));
        }
        if !dirs.is_empty() && dirs.len() != keys.len() {
            return Err(NeutronError::http_bad("The number of sort_keys and sort_dirs must be same"));
        }
        if let Some(bad) = dirs.iter().find(|d| !matches!(**d, "asc" | "desc")) {
            return Err(NeutronError::http_bad(format!(
                "['{bad}'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'"
            )));
        }
        let attr = |key: &str| listed.attrs.iter().find(|attr| attr.name == key);
        let keys = keys.iter().enumerate().map(|(i, key)| (attr(key), dirs.get(i) == Some(&"desc"))).collect();
        Ok(Self { keys })
    }

    fn sort<'a>(&self, view: &View<'a>, mut items: Vec<Item<'a, T>>) -> Vec<Item<'a, T>> {
        if self.keys.is_empty() {
            items.sort_by_key(|item| item.id);
            return items;
        }
        let value = |attr: &Option<&'static Attr<T>>, item| attr.map_or(Json::Absent, |attr| attr.of(view, item));
        let key = |item: Item<'a, T>| {
            let values: Vec<Json<'a>> = self.keys.iter().map(|(attr, _)| value(attr, item).into_key()).collect();
            (values, item)
        };
        let mut keyed: Vec<_> = items.into_iter().map(key).collect();
        keyed.sort_by(|(a, one), (b, other)| {
            let by_key = |((a, b), (_, down)): ((&Json<'_>, &Json<'_>), &(_, bool))| {
                let order = a.compare(b);
                if *down { order.reverse() } else { order }
            };
            let order = a.iter().zip(b).zip(&self.keys).map(by_key).find(|order| order.is_ne());
            order.unwrap_or_else(|| one.id.cmp(other.id))
        });
        keyed.into_iter().map(|(_, item)| item).collect()
    }
}

struct Paging {
    limit: Option<usize>,
    marker: Option<String>,
    reverse: bool,
}

impl Paging {
    fn of(request: &Request) -> Result<Self, NeutronError> {
        let limit = match request.queries("limit").next() {
            None => None,
            Some(text) => {
                let bad = || NeutronError::http_bad(format!("Limit must be an integer 0 or greater and not '{text}'"));
                Some(text.parse::<usize>().map_err(|_| bad())?).filter(|n| *n > 0)
            }
        };
        let marker = request.queries("marker").next().filter(|m| !m.is_empty()).map(str::to_owned);
        let reverse = request.queries("page_reverse").next().is_some_and(|v| boolean(&Value::from(v)) == Some(true));
        Ok(Self { limit, marker, reverse })
    }

    fn links<T>(&self, request: &Request, list: &str, items: &[Item<'_, T>]) -> Vec<(String, Value)> {
        let Some(limit) = self.limit else { return Vec::new() };
        let short = items.len() < limit;
        let id = |item: Option<&Item<'_, T>>| item.map_or_else(String::new, |item| item.id.to_owned());
        let next = (!short || self.reverse).then(|| id(items.last()));
        let previous = (!short || !self.reverse).then(|| id(items.first()));
        let (next, previous) = (next.as_deref(), previous.as_deref());
        pages(&pages::Page { list, base: String::new(), uri: &request.url, query: &request.query, next, previous })
    }
}

/// The links of a list: to the next page and to the one before.
pub fn pages(page: &pages::Page<'_>) -> Vec<(String, Value)> {
    let link = |rel: &str, marker: &str, reverse: &str| {
        let query = page.query_at(marker, &["page_reverse"]);
        let query = if query.is_empty() { reverse.trim_start_matches('&').to_owned() } else { query + reverse };
        json!({"rel": rel, "href": format!("{}{}?{query}", page.base, page.path())})
    };
    let next = page.next.map(|marker| link("next", marker, ""));
    let previous = page.previous.map(|marker| link("previous", marker, "&page_reverse=True"));
    let links: Vec<Value> = next.into_iter().chain(previous).collect();
    if links.is_empty() { Vec::new() } else { vec![(format!("{}_links", page.list), links.into())] }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use model::{Change, Network, Port, Time};
    use store::Store;

    use super::*;
    use crate::network::attrs::shown;
    use crate::network::request::somebody;

    thread_local! {
        static SHOWN: Cell<usize> = const { Cell::new(0) };
    }

    /// Nothing filters or sorts by the description, so whoever looks at it shows the row.
    const ATTRS: &[Attr<Port>] = &[
        shown("id", |_, port| (&port.id).into()),
        shown("name", |_, port| (&port.name).into()),
        shown("status", |_, port| if port.name.ends_with('7') { "ACTIVE" } else { "DOWN" }.into()),
        shown("description", |_, _| {
            SHOWN.set(SHOWN.get() + 1);
            Json::Null
        }),
    ];

    async fn request() -> Request {
        let store = Store::memory();
        let network = Network::new("n", "p", 1, Time::UNIX_EPOCH);
        let mut change = Change::new();
        for n in 0..2000 {
            let id = format!("{n:04}");
            change.create(Port { name: format!("port-{}", 2000 - n), ..Port::new(id, &network, Time::UNIX_EPOCH) });
        }
        change.create(network);
        store.commit(&change).await.unwrap();
        Request {
            who: somebody(),
            now: Time::UNIX_EPOCH,
            params: BTreeMap::new(),
            query: Vec::new(),
            headers: http::HeaderMap::new(),
            url: String::new(),
            body: Value::Null,
            snapshot: store.snapshot(),
            store,
        }
    }

    /// The ids on the page that a query asks for, and how many rows were shown for it.
    async fn page(request: &mut Request, query: &str) -> (Vec<String>, usize) {
        request.query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let view = View::new(&request.snapshot, &request.who);
        let listed = Listed { kind: Kind::Port, many: "ports", attrs: ATTRS };
        let filters = listed.filters(request).unwrap();
        SHOWN.set(0);
        let items = request.snapshot.all::<Port>().map(Item::from);
        let reply = listed.reply(request, &view, &filters, items).unwrap();
        let body = crate::call::read(reply.body, usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let ids = body["ports"].as_array().unwrap().iter().map(|port| port["id"].as_str().unwrap_or("").to_owned());
        (ids.collect(), SHOWN.get())
    }

    #[tokio::test]
    async fn no_more_rows_are_shown_than_the_page_has() {
        let request = &mut request().await;
        for (query, first, last) in [
            ("limit=50", "0000", "0049"),
            ("limit=50&marker=0099", "0100", "0149"),
            ("limit=50&page_reverse=True", "1950", "1999"),
            ("limit=50&sort_key=id&sort_dir=desc", "1999", "1950"),
            ("limit=50&sort_key=id&sort_dir=desc&marker=1950", "1949", "1900"),
            ("limit=50&sort_key=name&sort_dir=asc", "1999", "0958"),
            ("limit=50&status=ACTIVE", "0003", "0493"),
            ("limit=50&status=ACTIVE&marker=0005", "0013", "0503"),
            ("limit=50&status=ACTIVE&sort_key=id&sort_dir=desc", "1993", "1503"),
        ] {
            let (ids, shown) = page(request, query).await;
            let ends = (ids.first().map(String::as_str), ids.last().map(String::as_str));
            assert_eq!(ends, (Some(first), Some(last)), "{query}");
            assert_eq!((ids.len(), shown), (50, 50), "{query}");
        }
        let (ids, shown) = page(request, "name=port-7").await;
        assert_eq!((ids, shown), (vec!["1993".to_owned()], 1));
    }

    #[tokio::test]
    async fn what_was_not_asked_for_is_not_looked_at() {
        let request = &mut request().await;
        assert_eq!(page(request, "fields=id&fields=name").await.1, 0);
        assert_eq!(page(request, "limit=3&fields=description").await, (vec![String::new(); 3], 3));
    }
}
