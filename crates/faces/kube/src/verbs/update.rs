//! Update, and the four kinds of patch.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use model::{Change, Entry, KubeObject, Object, Snapshot, Write};
use serde_json::Value;

use super::admit::{Owners, Updated, changed_object, new_object};
use super::create::creation;
use super::{Draft, Expected, commit, conform, contents, decode};
use crate::admission::Review;
use crate::authz::Attributes;
use crate::body;
use crate::call::{Call, editable, find, view};
use crate::fault::{Failure, Result};
use crate::openapi::patches;
use crate::patch::{apply, json, merge, strategic};
use crate::request::WriteOptions;

/// `PUT` of an object, its status or a namespace's finalizers.
pub async fn update(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = WriteOptions::read(&call.query, call.agent())?;
    let decoded = decode(&Expected::of(call.kind()), &call.headers, &bytes, options.validation)?;
    let plan = |snapshot: &Snapshot| {
        let entry = call.row(snapshot)?;
        let updated = changed_object(call, snapshot, entry, decoded.object.clone(), &Owners::Track(&options.manager))?;
        Ok(outcome(call, snapshot, entry, updated))
    };
    let (revision, (object, before)) = commit(call, call.path.name, options.dry_run, plan).await?;
    let mut response = call.show(200, &object, if revision > 0 { revision } else { before });
    body::warn(&mut response, &decoded.warnings);
    body::warn(&mut response, &news(call, &object));
    Ok(response)
}

/// What the kind says of an object whose specification was written.
fn news(call: &Call<'_>, object: &KubeObject) -> Vec<String> {
    if call.path.subresource.is_empty() { call.kind().strategy.warnings(&object.body) } else { Vec::new() }
}

/// The write that an update makes, the object to show and the revision that it has if nothing is committed.
pub fn outcome(
    call: &Call<'_>,
    snapshot: &Snapshot,
    entry: Entry<'_, KubeObject>,
    updated: Updated,
) -> Draft<(Arc<KubeObject>, u64)> {
    let mut change = Change::new();
    let object = match updated {
        Updated::Same => Arc::new(entry.value.clone()),
        Updated::Changed(object) => {
            change.writes.push(replacement(entry, object.clone()));
            contents::as_defined(call, &mut change);
            object
        }
        Updated::Gone(object) => {
            contents::gone(call, snapshot, entry, &mut change);
            object
        }
    };
    let review = || Review::change(call, Some(entry.value), Some(&object));
    Draft::new(call, snapshot, change, (object.clone(), entry.row.modified), review)
}

/// The write that replaces a row.
pub fn replacement(entry: Entry<'_, KubeObject>, object: Arc<KubeObject>) -> Write {
    Write::Update { object: Object::KubeObject(object), expected: entry.row.modified }
}

/// A patch as it was sent.
enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

/// `PATCH` of an object, its status or a namespace's finalizers.
pub async fn patch(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = WriteOptions::read(&call.query, call.agent())?;
    let (patch, duplicates) = read(call, &bytes)?;
    let mut warnings = Vec::new();
    if let Patch::Apply(config) = &patch {
        if call.query.get("fieldManager").is_none() {
            let message =
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(Failure::new(422, "Invalid", message));
        }
        // What the configuration says that the kind does not know is told once, not at every attempt.
        let mut config = config.clone();
        let kind = call.kind();
        warnings = conform(&Expected::of(kind), &mut config, &duplicates, options.validation)?;
    } else if options.force {
        let message =
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch";
        return Err(Failure::new(422, "Invalid", message));
    }
    let mut created = false;
    let plan = |snapshot: &Snapshot| {
        created = false;
        match find(snapshot, call.cluster, call.kind(), call.path.namespace, call.path.name) {
            Some(entry) => {
                let (new, owners, strange) = patched(call, entry, &patch, &duplicates, &options)?;
                if !matches!(patch, Patch::Apply(_)) {
                    warnings = strange;
                }
                let updated = changed_object(call, snapshot, entry, new, &owners)?;
                Ok(outcome(call, snapshot, entry, updated))
            }
            None => {
                let Patch::Apply(config) = &patch else { return Err(Failure::not_found(call.kind(), call.path.name)) };
                if !call.path.subresource.is_empty() {
                    return Err(Failure::not_found(call.kind(), call.path.name));
                }
                created = true;
                let object = Arc::new(applied_anew(call, snapshot, config, &options)?);
                let change = creation(call, object.clone());
                let review = || Review::change(call, None, Some(&object));
                Ok(Draft::new(call, snapshot, change, (object.clone(), 0), review))
            }
        }
    };
    let (revision, (object, before)) = commit(call, call.path.name, options.dry_run, plan).await?;
    let mut response =
        call.show(if created { 201 } else { 200 }, &object, if revision > 0 { revision } else { before });
    body::warn(&mut response, &warnings);
    body::warn(&mut response, &news(call, &object));
    Ok(response)
}

fn read(call: &Call<'_>, bytes: &Bytes) -> Result<(Patch, Vec<String>)> {
    let media_type = body::media_type(&call.headers);
    let parse =
        || body::parse(bytes).map_err(|e| Failure::bad_request(format!("error decoding patch: {}", e.message())));
    Ok(match media_type {
        "application/json-patch+json" => (Patch::Json(parse()?.value), Vec::new()),
        "application/merge-patch+json" => (Patch::Merge(parse()?.value), Vec::new()),
        "application/strategic-merge-patch+json" if call.kind().origin.is_none() => {
            (Patch::Strategic(parse()?.value), Vec::new())
        }
        "application/apply-patch+yaml" => {
            let parsed = parse()?;
            if !parsed.value.is_object() {
                return Err(Failure::bad_request("error decoding patch: it is not an object"));
            }
            (Patch::Apply(parsed.value), parsed.duplicates)
        }
        other => {
            let known = patches(call.kind()).join(", ");
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: {known} (not {other:?})"
            );
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
    })
}

type Patched<'a> = (Value, Owners<'a>, Vec<String>);

/// The object after the patch, in the shape of its kind.
fn patched<'a>(
    call: &Call<'_>,
    entry: Entry<'_, KubeObject>,
    patch: &Patch,
    duplicates: &[String],
    options: &'a WriteOptions,
) -> Result<Patched<'a>> {
    let kind = call.kind();
    if let Patch::Apply(config) = patch {
        let live = view(kind, &entry.value.body);
        let mut config = config.clone();
        conform(&Expected::of(kind), &mut config, duplicates, options.validation)?;
        sent_for(call, &config)?;
        let revision = crate::meta::text(&config, "resourceVersion").to_owned();
        crate::meta::of(&mut config).remove("managedFields");
        let manager = call.manager(&options.manager, true);
        let mut new =
            apply::apply(&kind.shape, Some(&live), &config, &manager, ignored(call), options.force, call.now)?;
        if !revision.is_empty() {
            crate::meta::of(&mut new).insert("resourceVersion".to_owned(), revision.into());
        }
        return Ok((new, Owners::Applied, Vec::new()));
    }
    let mut new = editable(kind, entry.row, entry.value);
    match patch {
        Patch::Json(patch) => json::patch(&mut new, patch.clone())?,
        Patch::Merge(patch) => merge::patch(&mut new, patch.clone()),
        Patch::Strategic(patch) => strategic::patch(&kind.shape, &mut new, patch.clone())?,
        Patch::Apply(_) => {}
    }
    if !new.is_object() {
        return Err(Failure::bad_request("the patch does not leave an object"));
    }
    let strange = conform(&Expected::of(kind), &mut new, duplicates, options.validation)?;
    Ok((new, Owners::Track(&options.manager), strange))
}

/// The configuration must be about the object that the URL names.
fn sent_for(call: &Call<'_>, config: &Value) -> Result<()> {
    let kind = call.kind();
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.kind.clone())] {
        if config[field].as_str() != Some(expected.as_str()) {
            let message = format!("invalid object type: {field} must be {expected:?}, not {}", config[field]);
            return Err(Failure::bad_request(message));
        }
    }
    let name = crate::meta::text(config, "name");
    if !name.is_empty() && name != call.path.name {
        let message =
            format!("the name of the object ({name}) does not match the name on the URL ({})", call.path.name);
        return Err(Failure::bad_request(message));
    }
    if config["metadata"]["managedFields"].as_array().is_some_and(|m| !m.is_empty()) {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// Fields that an endpoint does not write, so that applying through it does not own them.
fn ignored(call: &Call<'_>) -> apply::Ignored {
    match call.path.subresource {
        "" if call.kind().status => &[&["status"]],
        "status" => &[&["spec"], &["metadata"]],
        _ => &[],
    }
}

fn applied_anew(call: &Call<'_>, snapshot: &Snapshot, config: &Value, options: &WriteOptions) -> Result<KubeObject> {
    let kind = call.kind();
    // Applying to what does not exist is creating it.
    call.check(
        snapshot,
        &Attributes {
            verb: "create",
            group: &kind.group,
            resource: &kind.plural,
            namespace: call.path.namespace,
            name: call.path.name,
            ..Attributes::default()
        },
    )?;
    let mut config = config.clone();
    conform(&Expected::of(kind), &mut config, &[], options.validation)?;
    sent_for(call, &config)?;
    if !crate::meta::text(&config, "uid").is_empty() {
        return Err(Failure::conflict(
            kind,
            call.path.name,
            "uid mismatch: the provided object specified a uid, and no existing object was found",
        ));
    }
    let manager = call.manager(&options.manager, true);
    let object = apply::apply(&kind.shape, None, &config, &manager, ignored(call), options.force, call.now)?;
    new_object(call, snapshot, object, &Owners::Applied)
}
