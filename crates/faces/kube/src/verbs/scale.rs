//! The subresource `scale` of what has replicas.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Response};
use model::{Entry, KubeObject, Snapshot};
use serde_json::{Value, json};

use super::admit::{Owners, changed_object};
use super::update::outcome;
use super::{Expected, commit, conform, decode};
use crate::admission::Review;
use crate::body;
use crate::call::{Call, editable};
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::patch::{json as json_patch, merge};
use crate::request::WriteOptions;
use crate::strategy::selector;

const VERSION: &str = "autoscaling/v1";

fn expected() -> Expected<'static> {
    Expected::named(VERSION, "Scale", "io.k8s.api.autoscaling.v1.Scale")
}

fn at<'a>(object: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(object, |value, name| &value[name.as_str()])
}

fn scale_of(kind: &ApiResource, object: &KubeObject, revision: u64) -> Value {
    let (meta, paths) = (&object.body["metadata"], &kind.scale);
    let labels = match at(&object.body, &paths.selector) {
        _ if paths.selector.is_empty() => String::new(),
        Value::String(text) => text.clone(),
        object if object.is_object() => selector(object).replace("<none>", ""),
        _ => String::new(),
    };
    json!({
        "kind": "Scale", "apiVersion": VERSION,
        "metadata": {
            "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": revision.to_string(), "creationTimestamp": meta["creationTimestamp"]
        },
        "spec": {"replicas": at(&object.body, &paths.wanted).as_i64().unwrap_or(0)},
        "status": {"replicas": at(&object.body, &paths.there).as_i64().unwrap_or(0), "selector": labels}
    })
}

/// `GET`, `PUT` and `PATCH` of a scale.
pub async fn scale(call: &Call<'_>, method: &Method, bytes: Bytes) -> Result<Response<Body>> {
    if *method == Method::GET {
        let snapshot = call.snapshot().await?;
        let entry = call.row(&snapshot)?;
        return Ok(body::json(200, &scale_of(call.kind(), entry.value, entry.row.modified)));
    }
    let options = WriteOptions::read(&call.query, call.agent())?;
    let plan = |snapshot: &Snapshot| {
        let entry = call.row(snapshot)?;
        let wanted = wanted(call, method, &bytes, entry, &options)?;
        let revision = crate::meta::text(&wanted, "resourceVersion");
        if !revision.is_empty() && revision != entry.row.modified.to_string() {
            return Err(Failure::modified(call.kind(), &entry.value.name));
        }
        let replicas = &wanted["spec"]["replicas"];
        if replicas.as_i64().is_none_or(|n| n < 0) {
            let name = &entry.value.name;
            let message = format!(
                "Scale.autoscaling \"{name}\" is invalid: spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0"
            );
            return Err(Failure::new(422, "Invalid", message));
        }
        let mut new = editable(call.kind(), entry.row, entry.value);
        let place = call.kind().scale.wanted.iter().fold(&mut new, |value, name| crate::strategy::entry(value, name));
        *place = replicas.clone();
        let updated = changed_object(call, snapshot, entry, new, &Owners::Track(&options.manager))?;
        let mut draft = outcome(call, snapshot, entry, updated);
        if let Some(review) = &mut draft.review {
            let new = scale_of(call.kind(), &draft.result.0, entry.row.modified);
            let old = scale_of(call.kind(), entry.value, entry.row.modified);
            *review = Review::of(call, "UPDATE", ("autoscaling", "v1", "Scale"), new, old);
        }
        Ok(draft)
    };
    let (revision, (object, before)): (u64, (Arc<KubeObject>, u64)) =
        commit(call, call.path.name, options.dry_run, plan).await?;
    Ok(body::json(200, &scale_of(call.kind(), &object, if revision > 0 { revision } else { before })))
}

fn wanted(
    call: &Call<'_>,
    method: &Method,
    bytes: &Bytes,
    entry: Entry<'_, KubeObject>,
    options: &WriteOptions,
) -> Result<Value> {
    if *method == Method::PUT {
        return Ok(decode(&expected(), &call.headers, bytes, options.validation)?.object);
    }
    let mut scale = scale_of(call.kind(), entry.value, entry.row.modified);
    let patch = body::parse(bytes)?.value;
    match body::media_type(&call.headers) {
        "application/json-patch+json" => json_patch::patch(&mut scale, patch)?,
        // A scale has no lists: the two merge alike.
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => merge::patch(&mut scale, patch),
        other => {
            let message = format!("a scale cannot be patched by {other:?}");
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
    }
    conform(&expected(), &mut scale, &[], options.validation)?;
    Ok(scale)
}
