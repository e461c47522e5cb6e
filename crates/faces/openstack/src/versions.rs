//! Which versions of its API a service has: the documents that clients read first, from the service's declaration.

use model::Fault;
use serde_json::{Map, Value, json};

use crate::call::{Call, Reply};
use crate::service::{Micro, Version, Versions};

fn document(call: &Call, version: &Version, whole: bool) -> Value {
    let service = call.entry.service;
    let Versions { choice, newest, described, .. } = service.versions;
    let own = version.path.map(|path| call.url(path)).unwrap_or_default();
    let mut links = vec![json!({"rel": "self", "href": own})];
    if whole && described {
        links.push(json!({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}));
    }
    let mut shown: Map<String, Value> = Map::new();
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    put("id", json!(version.id));
    put("status", json!(version.status));
    put("links", json!(links));
    if let Some(updated) = version.updated {
        put("updated", json!(updated));
    }
    let text = |(major, minor): (u16, u16)| format!("{major}.{minor}");
    let range = match (version.micro, &service.microversions) {
        (Micro::InForce, Some(micro)) => Some((text(micro.min), text(micro.max))),
        (Micro::Unsaid, _) => None,
        (Micro::Without | Micro::InForce, _) => Some(Default::default()),
    };
    if let Some((min, max)) = range {
        put("min_version", json!(min));
        put(newest, json!(max));
    }
    if let Some(media_type) = version.media_type.filter(|_| whole || choice) {
        put("media-types", json!([{"base": "application/json", "type": media_type}]));
    }
    Value::Object(shown)
}

fn all(call: &Call) -> Vec<Value> {
    call.entry.service.versions.all.iter().map(|version| document(call, version, false)).collect()
}

/// At the service's prefix: all versions.
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let versions = &call.entry.service.versions;
    Ok(match versions.choice {
        false => Reply::json(versions.status, &json!({"versions": all(&call)})),
        true => {
            let reply = Reply::json(versions.status, &json!({"versions": {"values": all(&call)}}));
            let first = versions.all.first().and_then(|version| version.path).unwrap_or_default();
            reply.with("location", &call.url(first))
        }
    })
}

/// The same for those who did not ask to choose.
pub async fn list(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"versions": all(&call)})))
}

/// At a version's own path: that one.
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let here = call.entry.path.trim_end_matches('/');
    let is_here = |version: &&Version| version.path.is_some_and(|path| path.trim_end_matches('/') == here);
    let version = call.entry.service.versions.all.iter().find(is_here);
    let version = version.ok_or_else(|| Fault::NotFound { what: "resource".into(), id: here.to_owned() })?;
    Ok(Reply::ok(json!({"version": document(&call, version, true)})))
}
