//! How bytes can be imported, and where they are kept.

use model::Fault;
use serde_json::json;

use super::imports::METHODS;
use super::view::STORE;
use crate::call::{Call, Reply};

const ABOUT: &str = "The cloud's one store of bytes, each once, by their hash";

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
