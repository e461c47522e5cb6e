//! Delete. What has finalizers, or is a pod with containers, is only marked; whoever holds it lets it go.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use model::{CLEANUP, Change, Entry, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::admit::{released, shell};
use super::contents;
use super::update::replacement;
use super::{Draft, Expected, commit, decode};
use crate::admission::Review;
use crate::body::{self, Shown};
use crate::call::{Call, view};
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::meta;
use crate::request::FieldValidation;
use crate::strategy::items;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Options of a deletion, from the body and the query.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace: Option<i64>,
    pub uid: Option<String>,
    pub revision: Option<String>,
    pub propagation: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    pub fn read(call: &Call<'_>, bytes: &Bytes) -> Result<Self> {
        let mut options = Self::default();
        if !bytes.is_empty() {
            options.merge(&decoded(call, bytes)?)?;
        }
        if let Some(grace) = call.query.get("gracePeriodSeconds") {
            options.grace = Some(grace.parse().map_err(|_| Failure::bad_request("invalid gracePeriodSeconds"))?);
        }
        if let Some(propagation) = call.query.get("propagationPolicy") {
            options.propagation = Some(propagation.to_owned());
        }
        if let Some(orphan) = call.query.get("orphanDependents") {
            options.propagation = Some(if orphan == "true" { "Orphan" } else { "Background" }.to_owned());
        }
        options.dry_run |= crate::request::WriteOptions::read(&call.query, "")?.dry_run;
        if options.propagation.is_none() {
            call.tell(call.kind().strategy.preserves_parts().into_iter().map(str::to_owned).collect());
        }
        if let Some(policy) = options.propagation.as_deref()
            && !matches!(policy, "Orphan" | "Background" | "Foreground")
        {
            let message = format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {policy:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
            );
            return Err(Failure::new(422, "Invalid", message));
        }
        Ok(options)
    }

    /// Takes over what an object of the type DeleteOptions says.
    pub fn merge(&mut self, object: &Value) -> Result<()> {
        self.grace = object["gracePeriodSeconds"].as_i64();
        self.uid = object["preconditions"]["uid"].as_str().map(str::to_owned);
        self.revision = object["preconditions"]["resourceVersion"].as_str().map(str::to_owned);
        self.propagation = object["propagationPolicy"].as_str().map(str::to_owned);
        if let Some(orphan) = object["orphanDependents"].as_bool() {
            self.propagation = Some(if orphan { "Orphan" } else { "Background" }.to_owned());
        }
        match items(object, "dryRun").next() {
            None => {}
            Some(all) if all == "All" => self.dry_run = true,
            Some(other) => {
                let message = format!("dryRun: Unsupported value: {other}: supported values: \"All\"");
                return Err(Failure::new(422, "Invalid", message));
            }
        }
        Ok(())
    }
}

fn decoded(call: &Call<'_>, bytes: &Bytes) -> Result<Value> {
    // Clients send the options under the version of the group that they delete in; all are the same type.
    let definition = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
    let value = match body::media_type(&call.headers) {
        crate::protobuf::MEDIA_TYPE => crate::protobuf::decode(bytes, definition)?,
        _ => body::parse(bytes)?.value,
    };
    let version = value["apiVersion"].as_str().unwrap_or("v1").to_owned();
    let text = Bytes::from(value.to_string());
    let expected = Expected::named(&version, "DeleteOptions", definition);
    Ok(decode(&expected, &http::HeaderMap::new(), &text, FieldValidation::Warn)?.object)
}

/// What a deletion did.
pub struct Deleted {
    pub object: Arc<KubeObject>,
    pub revision: u64,
    /// The row is gone; else it is marked and somebody holds it.
    pub gone: bool,
}

/// `DELETE` of an object.
pub async fn delete(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = DeleteOptions::read(call, &bytes)?;
    let deleted = remove(call, call.path.name, &options).await?;
    if !deleted.gone || call.kind().strategy.shows_deleted() {
        return Ok(call.show(200, &deleted.object, deleted.revision));
    }
    Ok(body::json(200, &success(call.kind(), &deleted.object)))
}

fn success(kind: &ApiResource, object: &KubeObject) -> Value {
    let mut details = json!({"name": object.name, "kind": kind.plural, "uid": object.uid()});
    if !kind.group.is_empty() {
        details["group"] = kind.group.as_str().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Deletes one object of the call's kind and namespace.
pub async fn remove(call: &Call<'_>, name: &str, options: &DeleteOptions) -> Result<Deleted> {
    let kind = call.kind();
    let plan = |snapshot: &Snapshot| {
        let entry = crate::call::find(snapshot, call.cluster, kind, call.path.namespace, name)
            .ok_or_else(|| Failure::not_found(kind, name))?;
        if let Some(why) = kind.strategy.keeps(snapshot, name) {
            return Err(Failure::forbidden(kind, name, why));
        }
        preconditions(kind, entry, options)?;
        let mut change = Change::new();
        let stays = contents::remove(call, snapshot, entry.value, &mut change);
        let (object, gone) = match marked(kind, entry.value, options, stays, call.now) {
            Mark::Gone => {
                contents::gone(call, snapshot, entry, &mut change);
                (Arc::new(entry.value.clone()), true)
            }
            Mark::Already => (Arc::new(entry.value.clone()), false),
            Mark::Marked(object) => {
                let object = Arc::new(object);
                if released(kind, &object) {
                    contents::gone(call, snapshot, entry, &mut change);
                    (object, true)
                } else {
                    change.writes.push(replacement(entry, object.clone()));
                    (object, false)
                }
            }
        };
        let review = || Review::change(call, Some(entry.value), None);
        Ok(Draft::new(call, snapshot, change, (object, gone, entry.row.modified), review))
    };
    let (revision, (object, gone, before)) = commit(call, name, options.dry_run, plan).await?;
    Ok(Deleted { object, gone, revision: if revision > 0 { revision } else { before } })
}

fn preconditions(kind: &ApiResource, entry: Entry<'_, KubeObject>, options: &DeleteOptions) -> Result<()> {
    let name = &entry.value.name;
    if let Some(uid) = &options.uid
        && uid != entry.value.uid()
    {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", entry.value.uid());
        return Err(Failure::conflict(kind, name, &why));
    }
    if let Some(revision) = &options.revision
        && *revision != entry.row.modified.to_string()
    {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion in object meta: {}",
            entry.row.modified
        );
        return Err(Failure::conflict(kind, name, &why));
    }
    Ok(())
}

enum Mark {
    /// Nothing holds it.
    Gone,
    /// It is marked as it should be.
    Already,
    Marked(KubeObject),
}

/// What becomes of an object; `stays` says that something that goes with it is held.
fn marked(kind: &ApiResource, object: &KubeObject, options: &DeleteOptions, stays: bool, now: Time) -> Mark {
    let meta = &object.body["metadata"];
    let grace = kind.strategy.grace(object, options.grace);
    let mut finalizers: Vec<Value> = items(meta, "finalizers").cloned().collect();
    let is_said = finalizers.iter().any(|f| f == ORPHAN || f == FOREGROUND);
    let preserved = kind.strategy.preserves_parts().filter(|_| !is_said).map(|_| "Orphan");
    match options.propagation.as_deref().or(preserved) {
        Some("Foreground") => {
            finalizers.retain(|f| f != ORPHAN);
            if !finalizers.iter().any(|f| f == FOREGROUND) {
                finalizers.push(FOREGROUND.into());
            }
        }
        Some("Orphan") => {
            finalizers.retain(|f| f != FOREGROUND);
            if !finalizers.iter().any(|f| f == ORPHAN) {
                finalizers.push(ORPHAN.into());
            }
        }
        Some(_) => finalizers.retain(|f| f != ORPHAN && f != FOREGROUND),
        None => {}
    }
    finalizers.retain(|f| f != CLEANUP);
    if stays {
        finalizers.push(CLEANUP.into());
    }
    if finalizers.is_empty() && grace == 0 && !kind.strategy.held(&object.body) {
        return Mark::Gone;
    }
    let same_holders = items(meta, "finalizers").eq(finalizers.iter());
    if object.deleting() && same_holders && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) <= grace {
        return Mark::Already;
    }
    let mut body = object.body.clone();
    let generation = meta["generation"].as_i64();
    let meta = meta::of(&mut body);
    let end = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    meta.insert("deletionTimestamp".to_owned(), meta::stamp(end).into());
    meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = generation {
        meta.insert("generation".to_owned(), (generation + 1).into());
    }
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), finalizers.into());
    }
    kind.strategy.marked(&mut body);
    Mark::Marked(KubeObject { body, ..shell(object) })
}

/// `DELETE` of a collection.
pub async fn delete_collection(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = DeleteOptions::read(call, &bytes)?;
    let selection = super::get::Selection::read(call)?;
    let snapshot = call.seen(call.kube.store.fresh().await?, None);
    let names: Vec<String> = selection.rows(call, &snapshot, None).map(|entry| entry.value.name.clone()).collect();
    let mut shown = Vec::new();
    for name in names {
        match remove(call, &name, &options).await {
            Ok(deleted) => {
                let body = view(call.kind(), &deleted.object.body).into_owned();
                shown.push(serde_json::to_value(Shown { body: &body, revision: deleted.revision }).unwrap_or_default());
            }
            Err(gone) if gone.code() == 404 => {}
            Err(other) => return Err(other),
        }
    }
    let kind = call.kind();
    Ok(body::json(
        200,
        &json!({
            "kind": kind.list, "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": call.kube.store.snapshot().revision().to_string()}, "items": shown
        }),
    ))
}
