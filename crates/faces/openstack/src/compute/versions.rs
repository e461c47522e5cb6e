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

/// `GET /`
pub async fn list(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"versions": [version(&call)]})))
}

/// `GET /v2.1`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let mut version = version(&call);
    if let Some(links) = version["links"].as_array_mut() {
        links.push(json!({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}));
    }
    version["media-types"] =
        json!([{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]);
    Ok(Reply::ok(json!({"version": version})))
}
