//! OpenAPI v3 (and v2, made from it): an index, and a document for each group. A document is made when it is first asked for, and kept
//! compressed: together they are some 100 KiB, not megabytes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Map, Value, json};

use crate::body;
use crate::custom;
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::known::Kinds;
use crate::openapi_v2;
use crate::types::definitions;
use crate::upstream::{self, ListType};

/// Documents that were made, compressed, by path.
#[derive(Debug, Default)]
pub struct Documents(Mutex<HashMap<String, Bytes>>);

/// Those of the kinds that every cluster has: they change only with the program.
static BUILT_IN: LazyLock<Documents> = LazyLock::new(Documents::default);

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3`. A document's version is a hash of what it is made of.
pub fn index(kinds: &Kinds, base: &str) -> Response<Body> {
    let mut paths = Map::new();
    for (group, versions) in kinds.groups() {
        for version in versions {
            let path = path_of(group, version);
            let url = format!("{base}/openapi/v3/{path}?hash={}", hash(kinds.of_version(group, version)));
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    body::json(200, &json!({"paths": paths}))
}

fn hash<'a>(kinds: impl Iterator<Item = &'a Arc<ApiResource>>) -> String {
    let edition = |kind: &ApiResource| kind.origin.as_ref().map_or(0, |origin| origin.row.modified);
    let names: String = kinds.map(|k| format!("{}/{} {};", k.qualified(), k.version, edition(k))).collect();
    let text = format!("{} {names}", env!("CARGO_PKG_VERSION"));
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string().to_uppercase()
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/{group}/{version}`.
pub fn document(kinds: &Kinds, headers: &HeaderMap, group: &str, version: &str) -> Result<Response<Body>> {
    let all: Vec<&ApiResource> = kinds.of_version(group, version).map(|kind| &**kind).collect();
    if all.is_empty() {
        return Err(Failure::no_path());
    }
    let documents = kinds.documents().filter(|_| all.iter().any(|kind| kind.origin.is_some())).unwrap_or(&BUILT_IN);
    let of = Of { documents, hash: hash(kinds.of_version(group, version)) };
    kept(&of, headers, &path_of(group, version), "application/json", || build(&all).to_string().into_bytes())
}

/// `/openapi/v2`, in the form that is asked for.
pub fn whole(kinds: &Kinds, headers: &HeaderMap) -> Result<Response<Body>> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let of = Of { documents: kinds.documents().unwrap_or(&BUILT_IN), hash: hash(kinds.iter()) };
    let document = || openapi_v2::of(&everything(kinds));
    if accept.contains("com.github.proto-openapi.spec.v2") {
        return kept(&of, headers, "v2.pb", openapi_v2::PROTOBUF, || openapi_v2::protobuf(&document()));
    }
    kept(&of, headers, "v2", "application/json", || document().to_string().into_bytes())
}

/// All groups in one document.
pub fn everything(kinds: &Kinds) -> Value {
    build(&kinds.iter().map(|kind| &**kind).collect::<Vec<_>>())
}

/// Where a document is kept, and its version.
struct Of<'a> {
    documents: &'a Documents,
    hash: String,
}

/// A document that is made when it is first asked for.
fn kept(
    of: &Of<'_>,
    headers: &HeaderMap,
    name: &str,
    media_type: &'static str,
    make: impl FnOnce() -> Vec<u8>,
) -> Result<Response<Body>> {
    let known = of.documents.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    let packed = match known {
        Some(packed) => packed,
        None => {
            let packed = pack(&make()).map_err(broken)?;
            of.documents.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), packed.clone());
            packed
        }
    };
    let zips = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("gzip"));
    let mut response = if zips {
        let mut response = body::bytes_reply(200, media_type, packed);
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        let mut text = Vec::new();
        GzDecoder::new(packed.as_ref()).read_to_end(&mut text).map_err(broken)?;
        body::bytes_reply(200, media_type, text.into())
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", of.hash)) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

fn broken(e: std::io::Error) -> Failure {
    tracing::error!("an OpenAPI document could not be packed: {e}");
    Failure::new(500, "InternalError", "Internal error occurred")
}

fn pack(document: &[u8]) -> std::io::Result<Bytes> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(document)?;
    Ok(writer.finish()?.into())
}

fn build(kinds: &[&ApiResource]) -> Value {
    let mut schemas = definitions(kinds.iter().flat_map(|k| k.schemas()));
    for (name, schema) in &mut schemas {
        annotate(schema, name);
    }
    for kind in kinds {
        if let Some(origin) = &kind.origin {
            schemas.insert(kind.definition.clone(), custom::document(origin));
        }
        if let Some(schema) = schemas.get_mut(&kind.definition) {
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        }
    }
    let mut paths = Map::new();
    for kind in kinds {
        add_paths(&mut paths, kind);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": format!("v{}.{}.0", crate::discovery::VERSION.0, crate::discovery::VERSION.1)},
        "paths": paths,
        "components": {"schemas": schemas}
    })
}

/// Adds what the schemas of k8s-openapi leave out, and puts references beside other words into `allOf`.
fn annotate(schema: &mut Value, definition: &str) {
    if upstream::atomic(definition) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (field, property) in properties {
        wrap_reference(property);
        if let Some(items) = property.get_mut("items") {
            wrap_reference(items);
        }
        let rule = upstream::rule(definition, field);
        if property["type"] == "array" {
            property["x-kubernetes-list-type"] = match rule.list {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            }
            .into();
            if rule.list == ListType::Map {
                property["x-kubernetes-list-map-keys"] = json!(rule.keys);
            }
        }
        if rule.atomic {
            property["x-kubernetes-map-type"] = "atomic".into();
        }
        let strategy = match (rule.merge.is_some(), rule.retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            (false, true) => "retainKeys",
            (false, false) => continue,
        };
        property["x-kubernetes-patch-strategy"] = strategy.into();
        if let Some(key) = rule.merge.filter(|key| !key.is_empty()) {
            property["x-kubernetes-patch-merge-key"] = key.into();
        }
    }
}

/// OpenAPI 3.0 ignores what stands beside a `$ref`.
fn wrap_reference(schema: &mut Value) {
    if let Some(fields) = schema.as_object_mut()
        && fields.len() > 1
        && let Some(reference) = fields.remove("$ref")
    {
        fields.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
}

fn add_paths(paths: &mut Map<String, Value>, kind: &ApiResource) {
    let root = format!("/{}", path_of(&kind.group, &kind.version));
    let place = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{place}/{}", kind.plural);
    let schema = json!({"$ref": format!("#/components/schemas/{}", kind.definition)});
    let operation = |action: &str, parameters: &[&str]| operation(kind, action, parameters, &schema);
    const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
    let mut at_collection = json!({"post": operation("post", WRITE)});
    if !kind.review {
        at_collection["get"] = operation("list", &["labelSelector", "fieldSelector", "limit", "continue", "watch"]);
        at_collection["delete"] = operation("deletecollection", &["dryRun", "labelSelector", "fieldSelector"]);
        let object = json!({
            "get": operation("get", &[]),
            "put": operation("put", WRITE),
            "patch": operation("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
            "delete": operation("delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
        });
        paths.insert(format!("{collection}/{{name}}"), object);
    }
    paths.insert(collection, at_collection);
}

fn operation(kind: &ApiResource, action: &str, parameters: &[&str], schema: &Value) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    let mut operation = json!({
        "operationId": format!("{action}{}", kind.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind}
    });
    let content = match action {
        "post" | "put" => json!({"application/json": {"schema": schema}}),
        "patch" => {
            let any = json!({"schema": {"type": "object"}});
            patches(kind).iter().map(|media_type| ((*media_type).to_owned(), any.clone())).collect()
        }
        _ => return operation,
    };
    operation["requestBody"] = json!({"content": content});
    operation
}

/// The media types of patches. A schema of a cluster's own does not say how lists merge strategically: kubectl does it by
/// these, and by the other ways it works everywhere.
pub fn patches(kind: &ApiResource) -> &'static [&'static str] {
    const ALL: &[&str] = &[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
        "application/strategic-merge-patch+json",
    ];
    if kind.origin.is_some() { &ALL[..3] } else { ALL }
}
