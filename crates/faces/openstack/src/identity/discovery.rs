//! Which versions of the API there are: one.

use model::Fault;
use serde_json::{Value, json};

use crate::call::{Call, Reply};

fn version(call: &Call) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/identity/v3/", call.base_url())}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

pub async fn versions(call: Call) -> Result<Reply, Fault> {
    let reply = Reply::json(300, &json!({"versions": {"values": [version(&call)]}}));
    Ok(reply.with("location", &format!("{}/identity/v3/", call.base_url())))
}

pub async fn v3(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"version": version(&call)})))
}
