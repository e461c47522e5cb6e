//! The service catalog. It is the same for everybody and follows from what is built, so it is never stored: regions,
//! services and endpoints can be looked at, not changed.

use std::sync::LazyLock;

use model::{Fault, derived_id};
use serde::Serialize;
use serde_json::{Value, json};

use super::wire::{base, list, passes};
use crate::call::{Call, Reply};

/// Type, name and path of every service.
const SERVICES: [(&str, &str, &str); 5] = [
    ("identity", "keystone", "/identity"),
    ("compute", "nova", "/compute/v2.1"),
    ("placement", "placement", "/placement"),
    ("network", "neutron", "/network"),
    ("image", "glance", "/image"),
];

const INTERFACES: [&str; 3] = ["public", "internal", "admin"];

/// Ids of the services, each with those of its endpoints.
static IDS: LazyLock<[(String, [String; 3]); 5]> = LazyLock::new(|| {
    let id = |parts: &[&str]| derived_id(parts).replace('-', "");
    SERVICES.map(|(kind, ..)| (id(&["service", kind]), INTERFACES.map(|interface| id(&["endpoint", kind, interface]))))
});

/// A service with its endpoints, as tokens carry it.
#[derive(Serialize)]
pub struct CatalogEntry<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    service_type: &'a str,
    name: &'a str,
    endpoints: [CatalogEndpoint<'a>; 3],
}

#[derive(Serialize)]
struct CatalogEndpoint<'a> {
    id: &'a str,
    interface: &'a str,
    region_id: &'a str,
    region: &'a str,
    url: String,
}

/// The catalog with addresses by which the client reached this cloud. Every token carries it, so it is written as it is,
/// not through a tree of JSON values: that was a third of the time of a validation.
pub fn catalog(call: &Call) -> Vec<CatalogEntry<'_>> {
    let (base, region) = (call.base_url(), call.cloud.region.as_str());
    let entry = |((service_type, name, path), (id, endpoints)): (
        &(&'static str, &'static str, &str),
        &'static (String, [String; 3]),
    )| {
        let endpoint = |i: usize| CatalogEndpoint {
            id: &endpoints[i],
            interface: INTERFACES[i],
            region_id: region,
            region,
            url: format!("{base}{path}"),
        };
        CatalogEntry { id, service_type, name, endpoints: [0, 1, 2].map(endpoint) }
    };
    SERVICES.iter().zip(&*IDS).map(entry).collect()
}

fn regions(call: &Call) -> Vec<Value> {
    let id = &call.cloud.region;
    let links = json!({"self": format!("{}/regions/{id}", base(call))});
    vec![json!({"id": id, "description": "", "parent_region_id": null, "links": links})]
}

fn services(call: &Call) -> Vec<Value> {
    let base = base(call);
    let services = catalog(call).into_iter().map(|service| {
        let links = json!({"self": format!("{base}/services/{}", service.id)});
        let (id, service_type, name) = (service.id, service.service_type, service.name);
        json!({"id": id, "type": service_type, "name": name, "description": "", "enabled": true, "links": links})
    });
    services.collect()
}

fn endpoints(call: &Call) -> Vec<Value> {
    let base = base(call);
    let of_service = |service: CatalogEntry<'_>| {
        service.endpoints.map(|endpoint| {
            let mut shown = json!(endpoint);
            shown["service_id"] = service.id.into();
            shown["enabled"] = true.into();
            shown["links"] = json!({"self": format!("{base}/endpoints/{}", endpoint.id)});
            shown
        })
    };
    catalog(call).into_iter().flat_map(of_service).collect()
}

/// Those that pass the filters on these fields.
fn filtered(call: &Call, items: Vec<Value>, fields: &[&str]) -> Vec<Value> {
    let kept = |item: &Value| fields.iter().all(|f| passes(call, f, item[*f].as_str().unwrap_or_default()));
    items.into_iter().filter(kept).collect()
}

fn one(call: &Call, what: &str, items: Vec<Value>) -> Result<Reply, Fault> {
    let id = call.param("id");
    let found = items.into_iter().find(|item| item["id"] == id);
    let found = found.ok_or_else(|| Fault::NotFound { what: what.to_owned(), id: id.to_owned() })?;
    Ok(Reply::ok(json!({what: found})))
}

pub async fn list_regions(call: Call) -> Result<Reply, Fault> {
    let items = regions(&call);
    Ok(list(&call, "regions", items))
}

pub async fn show_region(call: Call) -> Result<Reply, Fault> {
    one(&call, "region", regions(&call))
}

pub async fn list_services(call: Call) -> Result<Reply, Fault> {
    let items = filtered(&call, services(&call), &["type", "name"]);
    Ok(list(&call, "services", items))
}

pub async fn show_service(call: Call) -> Result<Reply, Fault> {
    one(&call, "service", services(&call))
}

pub async fn list_endpoints(call: Call) -> Result<Reply, Fault> {
    let items = filtered(&call, endpoints(&call), &["interface", "service_id", "region_id"]);
    Ok(list(&call, "endpoints", items))
}

pub async fn show_endpoint(call: Call) -> Result<Reply, Fault> {
    one(&call, "endpoint", endpoints(&call))
}
