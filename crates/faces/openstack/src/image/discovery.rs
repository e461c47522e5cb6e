//! Which versions there are, how bytes can be imported, and where they are kept.

use model::Fault;
use serde_json::{Value, json};

use super::STORE;
use super::imports::METHODS;
use crate::call::{Call, Reply};

/// The newest is the last before parts of Glance that are not built: several stores, the cache, locations.
const VERSIONS: &[&str] = &["v2.9", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"];

const ABOUT: &str = "The cloud's one store of bytes, each once, by their hash";

fn list(call: &Call) -> Value {
    let links = json!([{"rel": "self", "href": format!("{}/image/v2/", call.base_url())}]);
    let version = |(i, id): (usize, &&str)| json!({"id": id, "status": if i == 0 { "CURRENT" } else { "SUPPORTED" }, "links": links});
    json!({"versions": VERSIONS.iter().enumerate().map(version).collect::<Vec<_>>()})
}

/// `GET /`
pub async fn choices(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::json(300, &list(&call)))
}

/// `GET /versions`
pub async fn versions(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(list(&call)))
}

/// `GET /v2/info/import`
pub async fn import_methods(_: Call) -> Result<Reply, Fault> {
    let methods = json!({"description": "Import methods available.", "type": "array", "value": METHODS});
    Ok(Reply::ok(json!({"import-methods": methods})))
}

/// `GET /v2/info/stores`
pub async fn stores(_: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"stores": [{"id": STORE, "description": ABOUT, "default": "true"}]})))
}

/// `GET /v2/info/stores/detail`
pub async fn stores_detail(_: Call) -> Result<Reply, Fault> {
    let store =
        json!({"id": STORE, "description": ABOUT, "default": "true", "type": "file", "weight": 0, "properties": {}});
    Ok(Reply::ok(json!({"stores": [store]})))
}
