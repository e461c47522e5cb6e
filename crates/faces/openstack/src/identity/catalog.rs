//! The service catalog. It is the same for everybody and follows from what is built, so it is never stored: regions,
//! services and endpoints can be looked at, not changed.

use model::{Fault, derived_id};
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

fn service_id(service_type: &str) -> String {
    derived_id(&["service", service_type]).replace('-', "")
}

fn endpoint_id(service_type: &str, interface: &str) -> String {
    derived_id(&["endpoint", service_type, interface]).replace('-', "")
}

/// The catalog as tokens carry it, with addresses by which the client reached this cloud.
pub fn catalog(call: &Call) -> Value {
    let (base, region) = (call.base_url(), &call.cloud.region);
    let services = SERVICES.iter().map(|(service_type, name, path)| {
        let endpoints = INTERFACES.iter().map(|interface| {
            json!({
                "id": endpoint_id(service_type, interface),
                "interface": interface,
                "region_id": region,
                "region": region,
                "url": format!("{base}{path}"),
            })
        });
        json!({"endpoints": endpoints.collect::<Value>(), "id": service_id(service_type), "type": service_type, "name": name})
    });
    services.collect()
}

fn regions(call: &Call) -> Vec<Value> {
    let id = &call.cloud.region;
    let links = json!({"self": format!("{}/regions/{id}", base(call))});
    vec![json!({"id": id, "description": "", "parent_region_id": null, "links": links})]
}

fn services(call: &Call) -> Vec<Value> {
    let base = base(call);
    let services = SERVICES.iter().map(|(service_type, name, _)| {
        let id = service_id(service_type);
        let links = json!({"self": format!("{base}/services/{id}")});
        json!({"id": id, "type": service_type, "name": name, "description": "", "enabled": true, "links": links})
    });
    services.collect()
}

fn endpoints(call: &Call) -> Vec<Value> {
    let (root, base, region) = (call.base_url(), base(call), &call.cloud.region);
    let of_service = |(service_type, _, path): &(&str, &str, &str)| {
        INTERFACES.map(|interface| {
            let id = endpoint_id(service_type, interface);
            json!({
                "id": id,
                "interface": interface,
                "region_id": region,
                "region": region,
                "service_id": service_id(service_type),
                "url": format!("{root}{path}"),
                "enabled": true,
                "links": {"self": format!("{base}/endpoints/{id}")},
            })
        })
    };
    SERVICES.iter().flat_map(of_service).collect()
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
