//! What this API serves, told in the old form (one document a group) and the new (one for all).

use axum::body::Body;
use http::{HeaderMap, Response, header};
use serde_json::{Value, json};

use crate::body;
use crate::registry::{KINDS, Kind, groups};

/// The version of Kubernetes whose types are served.
pub const VERSION: (&str, &str) = ("1", "35");

/// `/version`.
pub fn version() -> Response<Body> {
    let (major, minor) = VERSION;
    body::json(
        200,
        &json!({
            "major": major, "minor": minor, "gitVersion": format!("v{major}.{minor}.0+braid"), "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": format!("linux/{}", std::env::consts::ARCH)
        }),
    )
}

/// The version of aggregated discovery that the client prefers to the old form, if any.
fn aggregated(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    for entry in accept.split(',') {
        let parts: Vec<&str> = entry.split(';').map(str::trim).collect();
        let has = |p: &str| parts.contains(&p);
        if parts.first() != Some(&"application/json") {
            continue;
        }
        if !has("as=APIGroupDiscoveryList") {
            return None;
        }
        if has("v=v2") {
            return Some("v2");
        }
        if has("v=v2beta1") {
            return Some("v2beta1");
        }
    }
    None
}

/// `/api` and `/apis`.
pub fn root(headers: &HeaderMap, core: bool) -> Response<Body> {
    if let Some(version) = aggregated(headers) {
        let items: Vec<Value> = groups()
            .into_iter()
            .filter(|(group, _)| group.is_empty() == core)
            .map(|(g, v)| aggregated_group(g, v))
            .collect();
        let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items});
        let media_type = match version {
            "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        };
        let mut response = body::bytes_reply(200, media_type, list.to_string().into());
        response.headers_mut().insert(header::VARY, http::HeaderValue::from_static("Accept"));
        return response;
    }
    if core {
        return body::json(200, &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}));
    }
    let groups: Vec<Value> =
        groups().into_iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| group_value(g, v)).collect();
    body::json(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

fn group_value(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// `/apis/{group}`.
pub fn group(name: &str) -> Option<Response<Body>> {
    let (group, version) = groups().into_iter().find(|(g, _)| *g == name && !g.is_empty())?;
    let mut value = group_value(group, version);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(body::json(200, &value))
}

fn kinds_of(group: &str, version: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |k| k.group == group && k.version == version)
}

/// `/api/v1` and `/apis/{group}/{version}`.
pub fn resources(group: &str, version: &str) -> Option<Response<Body>> {
    let mut resources = Vec::new();
    for kind in kinds_of(group, version) {
        let mut value = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": kind.verbs()
        });
        if !kind.short.is_empty() {
            value["shortNames"] = json!(kind.short);
        }
        if !kind.categories.is_empty() {
            value["categories"] = json!(kind.categories);
        }
        resources.push(value);
        for (name, group, version, of, verbs) in subresources(kind) {
            let mut value = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced, "kind": of, "verbs": verbs
            });
            if group != kind.group {
                value["group"] = group.into();
                value["version"] = version.into();
            }
            resources.push(value);
        }
    }
    if resources.is_empty() {
        return None;
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(body::json(
        200,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}),
    ))
}

type Sub = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

/// Subresources with group, version and kind of what they take, `status` included.
fn subresources(kind: &'static Kind) -> Vec<Sub> {
    let mut all: Vec<Sub> = kind.subresources.iter().map(|s| (s.name, s.group, s.version, s.kind, s.verbs)).collect();
    if kind.status {
        all.push(("status", kind.group, kind.version, kind.kind, &["get", "patch", "update"]));
    }
    all
}

fn aggregated_group(group: &str, version: &str) -> Value {
    let resources: Vec<Value> = kinds_of(group, version)
        .map(|kind| {
            let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
            let mut value = json!({
                "resource": kind.plural, "singularResource": kind.singular, "scope": scope, "verbs": kind.verbs(),
                "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind}
            });
            if !kind.short.is_empty() {
                value["shortNames"] = json!(kind.short);
            }
            if !kind.categories.is_empty() {
                value["categories"] = json!(kind.categories);
            }
            let subs: Vec<Value> = subresources(kind)
                .into_iter()
                .map(|(name, group, version, of, verbs)| {
                    json!({"subresource": name, "verbs": verbs, "responseKind": {"group": group, "version": version, "kind": of}})
                })
                .collect();
            if !subs.is_empty() {
                value["subresources"] = subs.into();
            }
            value
        })
        .collect();
    let mut value = json!({"metadata": {"creationTimestamp": null}, "versions": [{"version": version, "resources": resources, "freshness": "Current"}]});
    if !group.is_empty() {
        value["metadata"]["name"] = group.into();
    }
    value
}
