//! What this API serves, told in the old form (one document a group) and the new (one for all).

use axum::body::Body;
use http::{HeaderMap, Response, header};
use serde_json::{Value, json};

use crate::body;
use crate::kind::ApiResource;
use crate::known::Kinds;
use crate::names::group_version;

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
pub fn root(kinds: &Kinds, headers: &HeaderMap, core: bool) -> Response<Body> {
    let groups = kinds.groups();
    let groups = groups.iter().filter(|(group, _)| group.is_empty() == core);
    if let Some(version) = aggregated(headers) {
        let items: Vec<Value> = groups.map(|(group, versions)| aggregated_group(kinds, group, versions)).collect();
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
    let groups: Vec<Value> = groups.map(|(group, versions)| group_value(group, versions)).collect();
    body::json(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// A group's versions; the first is the preferred one.
fn group_value(group: &str, versions: &[&str]) -> Value {
    let of = |version: &&str| json!({"groupVersion": group_version(group, version), "version": version});
    let versions: Vec<Value> = versions.iter().map(of).collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// `/apis/{group}`.
pub fn group(kinds: &Kinds, name: &str) -> Option<Response<Body>> {
    let groups = kinds.groups();
    let (group, versions) = groups.iter().find(|(group, _)| *group == name && !group.is_empty())?;
    let mut value = group_value(group, versions);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(body::json(200, &value))
}

/// Sets what is left out where there is none.
fn add_words(value: &mut Value, kind: &ApiResource) {
    for (field, words) in [("shortNames", &kind.short), ("categories", &kind.categories)] {
        if !words.is_empty() {
            value[field] = json!(words);
        }
    }
}

/// `/api/v1` and `/apis/{group}/{version}`.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Response<Body>> {
    let mut resources = Vec::new();
    for kind in kinds.of_version(group, version) {
        let mut value = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": kind.verbs()
        });
        add_words(&mut value, kind);
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
    Some(body::json(
        200,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": resources}),
    ))
}

type Sub<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [&'a str]);

/// Subresources with group, version and kind of what they take, `status` included.
fn subresources(kind: &ApiResource) -> Vec<Sub<'_>> {
    let mut all: Vec<Sub<'_>> =
        kind.subresources.iter().map(|s| (s.name, s.group, s.version, s.kind, s.verbs)).collect();
    if kind.status {
        all.push(("status", &kind.group, &kind.version, &kind.kind, &["get", "patch", "update"]));
    }
    all
}

fn aggregated_group(kinds: &Kinds, group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> = kinds.of_version(group, version).map(|kind| aggregated_kind(kind)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let mut value = json!({"metadata": {"creationTimestamp": null}, "versions": versions});
    if !group.is_empty() {
        value["metadata"]["name"] = group.into();
    }
    value
}

fn aggregated_kind(kind: &ApiResource) -> Value {
    let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
    let mut value = json!({
        "resource": kind.plural, "singularResource": kind.singular, "scope": scope, "verbs": kind.verbs(),
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind}
    });
    add_words(&mut value, kind);
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
}
