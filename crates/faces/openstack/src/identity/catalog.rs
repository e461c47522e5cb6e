//! The service catalog: what this cloud serves, which follows from what is built and is never stored, and beside it what an
//! administrator added ([`super::regions`], [`super::services`], [`super::endpoints`]). The cloud's own comes first, so that
//! a client that asks for a type of service finds it, and cannot be changed: it would be a lie.

use std::sync::LazyLock;

use gate::Principal;
use model::{CatalogEndpoint, CatalogRef, CatalogService, Fault, Index, derived_id};
use serde::Serialize;

use super::attrs::{self, KeystoneResource};
use crate::SERVICES;
use crate::call::{Call, Reply};

pub const INTERFACES: [&str; 3] = ["public", "internal", "admin"];

/// Ids of the services, each with those of its endpoints.
static IDS: LazyLock<Vec<(String, [String; 3])>> = LazyLock::new(|| {
    let id = |parts: &[&str]| derived_id(parts).replace('-', "");
    let ids = |name| (id(&["service", name]), INTERFACES.map(|interface| id(&["endpoint", name, interface])));
    SERVICES.iter().map(|service| ids(service.name)).collect()
});

/// A service with its endpoints, as tokens carry it.
#[derive(Serialize)]
pub struct CatalogEntry<'a> {
    pub id: &'a str,
    #[serde(rename = "type")]
    pub service_type: &'a str,
    pub name: &'a str,
    pub endpoints: Vec<EndpointEntry<'a>>,
}

#[derive(Serialize)]
pub struct EndpointEntry<'a> {
    pub id: &'a str,
    pub interface: &'a str,
    pub region_id: Option<&'a str>,
    pub region: Option<&'a str>,
    pub url: String,
}

/// The cloud's own part, with addresses by which the client reached it.
pub fn own(call: &Call) -> impl Iterator<Item = CatalogEntry<'_>> {
    let (base, region) = (call.base_url(), Some(call.cloud.region.as_str()));
    SERVICES.iter().zip(&*IDS).map(move |(service, (id, ids))| {
        let endpoint = |(id, interface): (&'static String, &'static str)| EndpointEntry {
            id,
            interface,
            region_id: region,
            region,
            url: format!("{base}{}{}", service.prefix, service.root),
        };
        let endpoints = ids.iter().zip(INTERFACES).map(endpoint).collect();
        CatalogEntry { id, service_type: service.name, name: service.project, endpoints }
    })
}

/// The catalog of somebody's token. Every token carries it, so it is written as it is, not through a tree of JSON values:
/// that was a third of the time of a validation.
pub fn catalog<'a>(call: &'a Call, who: &Principal) -> Vec<CatalogEntry<'a>> {
    let mut all: Vec<CatalogEntry<'a>> = own(call).collect();
    let added = call.snapshot.all::<CatalogService>().map(|service| service.value).filter(|service| service.enabled);
    all.extend(added.map(|service| CatalogEntry {
        id: &service.id,
        service_type: &service.service_type,
        name: &service.name,
        endpoints: Vec::new(),
    }));
    for service in &mut all {
        let added = call.snapshot.find::<CatalogEndpoint>(Index::Owner, service.id).map(|endpoint| endpoint.value);
        service.endpoints.extend(added.filter(|endpoint| endpoint.enabled).filter_map(|endpoint| {
            let region = endpoint.region.as_ref().map(CatalogRef::id);
            Some(EndpointEntry {
                id: &endpoint.id,
                interface: &endpoint.interface,
                region_id: region,
                region,
                url: filled(&endpoint.url, |name| match name {
                    "user_id" => Some(&who.user_id),
                    _ => who.project_id(),
                })??,
            })
        }));
    }
    all
}

/// A URL with the names in it replaced; `None` if it is malformed, `Some(None)` if a name has no value.
pub fn filled<'a>(url: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<Option<String>> {
    let (mut out, mut rest) = (Some(String::new()), url);
    while let Some(at) = rest.find(['$', '%']) {
        let (before, found) = rest.split_at(at);
        let (text, after) = if let Some(inside) = found.strip_prefix("$(").or_else(|| found.strip_prefix("%(")) {
            let (name, after) = inside.split_once(")s")?;
            if !["project_id", "tenant_id", "user_id"].contains(&name) {
                return None;
            }
            (value(name), after)
        } else if let Some(after) = found.strip_prefix('$') {
            (Some("$"), after)
        } else {
            (Some("%"), found.strip_prefix("%%")?)
        };
        out = out.zip(text).map(|(out, text)| out + before + text);
        rest = after;
    }
    Some(out.map(|out| out + rest))
}

/// A reference to a service: the cloud's own, or a row that may or may not be there.
pub fn service_ref(id: &str) -> CatalogRef {
    match IDS.iter().any(|(own, _)| own == id) {
        true => CatalogRef::Own(id.to_owned()),
        false => CatalogRef::Row(id.to_owned()),
    }
}

/// The same to a region.
pub fn region_ref(call: &Call, id: &str) -> CatalogRef {
    match call.cloud.region == id {
        true => CatalogRef::Own(id.to_owned()),
        false => CatalogRef::Row(id.to_owned()),
    }
}

pub fn is_own_endpoint(id: &str) -> bool {
    IDS.iter().any(|(_, endpoints)| endpoints.iter().any(|own| own == id))
}

/// What the cloud itself serves is not for anybody to change.
pub fn fixed(what: &str, id: &str) -> Fault {
    Fault::Forbidden(format!(
        "The {what} {id} is this cloud's own: it follows from what is served and can be neither changed nor removed."
    ))
}

/// A list of the cloud's own and of what an administrator added.
pub fn list_with<T: KeystoneResource>(call: &Call, own: impl Iterator<Item = T>) -> Result<Reply, Fault> {
    let own: Vec<T> = own.collect();
    let is_own = |row: &T| own.iter().any(|own| own.name() == row.name());
    let added = call.snapshot.all::<T>().map(|row| row.value).filter(|row| !is_own(row));
    attrs::list(call, own.iter().chain(added))
}

/// The one of the path, of the cloud's own or of what an administrator added.
pub fn show_with<T: KeystoneResource>(call: &Call, mut own: impl Iterator<Item = T>) -> Result<Reply, Fault> {
    let id = call.param("id");
    match own.find(|own| own.name() == id) {
        Some(own) => Ok(attrs::reply(call, 200, &own)),
        None => Ok(attrs::reply(call, 200, attrs::find::<T>(&call.snapshot, id)?.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn urls_are_filled() {
        let value = |name: &str| (name != "project_id").then_some("x");
        for (url, wanted) in [
            ("http://a/b", Some(Some("http://a/b"))),
            ("http://a/$(user_id)s/c", Some(Some("http://a/x/c"))),
            ("http://a/%(tenant_id)s%(user_id)s", Some(Some("http://a/xx"))),
            ("http://a/$(project_id)s", Some(None)),
            ("http://a/%%20$5", Some(Some("http://a/%20$5"))),
            ("http://a/$(nonsense)s", None),
            ("http://a/$(user_id)", None),
            ("http://a/%20", None),
        ] {
            assert_eq!(filled(url, value), wanted.map(|text| text.map(str::to_owned)), "{url}");
        }
    }
}
