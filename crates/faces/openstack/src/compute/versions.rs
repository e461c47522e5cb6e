//! What versions there are.

use model::Fault;
use serde_json::{Value, json};

use super::MAX;
use crate::call::{Call, Reply};

fn version(call: &Call) -> Value {
    json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": format!("{}.{}", MAX.0, MAX.1),
        "min_version": "2.1",
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{}/compute/v2.1/", call.base_url())}],
    })
}

/// What 2.1 was before it had microversions: the same, under another path, in version 2.1 alone.
fn old_version(call: &Call) -> Value {
    json!({
        "id": "v2.0", "status": "DEPRECATED", "version": "", "min_version": "", "updated": "2025-07-04T12:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/compute/v2/", call.base_url())}],
    })
}

fn document(mut version: Value, media_type: &str) -> Value {
    if let Some(links) = version["links"].as_array_mut() {
        links.push(json!({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}));
    }
    version["media-types"] = json!([{"base": "application/json", "type": media_type}]);
    json!({"version": version})
}

/// `GET /`
pub async fn list(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"versions": [old_version(&call), version(&call)]})))
}

/// `GET /v2.1`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(document(version(&call), "application/vnd.openstack.compute+json;version=2.1")))
}

/// `GET /v2`
pub async fn show_old(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(document(old_version(&call), "application/vnd.openstack.compute+json;version=2")))
}
