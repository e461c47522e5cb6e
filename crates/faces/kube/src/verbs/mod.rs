//! The generic verbs, one file each; what all writes share is here and in `admit`.

pub mod admit;
pub mod contents;
pub mod create;
pub mod delete;
pub mod get;
pub mod pod;
pub mod scale;
pub mod token;
pub mod update;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use model::{Change, KubeObject, Refused, Revision, Snapshot, quota};
use serde_json::Value;
use store::StoreFault;

use crate::admission::{self, Review};
use crate::body;
use crate::call::Call;
use crate::check;
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::registry::shape_of;
use crate::request::FieldValidation;
use crate::types::Shape;

/// How often a write is planned again when others get in between.
const ATTEMPTS: u32 = 64;

/// An object that was written, or would have been.
pub struct Written {
    pub object: Arc<KubeObject>,
    pub revision: Revision,
}

/// A write that is planned: what changes, what is told of it, and what is shown to those whom the cluster asks.
pub struct Draft<T> {
    change: Change,
    result: T,
    review: Option<Review>,
}

impl<T> Draft<T> {
    pub fn new(
        call: &Call<'_>,
        snapshot: &Snapshot,
        change: Change,
        result: T,
        review: impl FnOnce() -> Review,
    ) -> Self {
        let asks = !change.is_empty() && admission::is_asked(call, snapshot);
        Self { change, result, review: asks.then(review) }
    }
}

/// How often a write is shown again because it had to be drafted again.
const ROUNDS: u32 = 4;

/// Drafts a write from a snapshot, has it admitted, and commits it; drafts it again when a row changed meanwhile, or when a
/// claim was lost to somebody whom the snapshot did not show yet. What was admitted is committed, or nothing. A dry run stops
/// before the commit. The revision is that of the commit, or 0 if there was nothing to commit.
pub async fn commit<T>(
    call: &Call<'_>,
    name: &str,
    dry_run: bool,
    mut plan: impl FnMut(&Snapshot) -> Result<Draft<T>>,
) -> Result<(Revision, T)> {
    let (kube, mut last, mut admitted, mut rounds) = (call.kube, None, None, 0);
    for _ in 0..ATTEMPTS {
        let snapshot = kube.store.snapshot();
        let seen = call.seen(snapshot.clone(), Some(name));
        let Draft { change, result, review } = plan(&seen)?;
        let change = call.as_stored(&snapshot, change)?;
        if let Some(review) = review.filter(|review| admitted.as_ref() != Some(review)) {
            rounds += 1;
            if rounds > ROUNDS {
                return Err(Failure::modified(call.kind(), name));
            }
            if admission::admit(call, &snapshot, &review, dry_run).await? {
                call.still_permitted().await?;
            }
            admitted = Some(review);
        }
        if dry_run || change.is_empty() {
            if dry_run && let Err(refused) = snapshot.prepare(&change) {
                return Err(refusal(call, name, refused));
            }
            return Ok((0, result));
        }
        match kube.store.commit(&change).await {
            Ok(revision) => return Ok((revision, result)),
            Err(StoreFault::Refused(refused)) => {
                let seen = snapshot.revision() == kube.store.snapshot().revision();
                if !matches!(refused, Refused::Stale(_)) && (seen || last.as_ref() == Some(&refused)) {
                    return Err(refusal(call, name, refused));
                }
                last = Some(refused);
            }
            Err(broken) => return Err(model::Fault::from(broken).into()),
        }
    }
    Err(last.map_or_else(|| Failure::too_many("the store is too busy"), |refused| refusal(call, name, refused)))
}

/// A refused commit in Kubernetes' words.
fn refusal(call: &Call<'_>, name: &str, refused: Refused) -> Failure {
    let kind = call.kind();
    match refused {
        Refused::Stale(_) => Failure::modified(kind, name),
        Refused::Taken { name: taken, holder } if taken == holder.to_string() => Failure::exists(kind, name),
        Refused::Taken { name: taken, .. } => {
            // A claim is named by what it is of, its place, and what the user gave: a name or an address.
            let given = taken.rsplit('/').next().unwrap_or(&taken);
            Failure::conflict(kind, name, &format!("{given:?} is already in use"))
        }
        Refused::Exceeded { pool, asked, used, limit } => match quota::exceeded(&pool, asked, used, limit) {
            Some(why) => Failure::forbidden(kind, name, &why),
            None => {
                let why = format!("no room: {pool} has {used} of {limit} in use and {asked} more were asked for");
                Failure::conflict(kind, name, &why)
            }
        },
        Refused::Missing(key) => {
            let mut parts = key.name.split('/');
            let (group, plural) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let missing = key.name.rsplit('/').next().unwrap_or("");
            match call.kinds.stored(group, plural) {
                Some(kind) => Failure::not_found(kind, missing),
                None => Failure::conflict(kind, name, &format!("{} {} does not exist", key.kind.as_str(), key.name)),
            }
        }
        Refused::InUse { users, .. } => Failure::conflict(kind, name, &format!("{users} other objects still need it")),
    }
}

/// A decoded body and what was strange about it.
pub struct Decoded {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// The type that a body is read as.
pub struct Expected<'a> {
    api_version: String,
    kind: &'a str,
    definition: &'a str,
    shape: Shape,
}

impl<'a> Expected<'a> {
    /// A kind's own objects.
    pub fn of(kind: &'a ApiResource) -> Self {
        let (api_version, shape) = (kind.api_version(), kind.shape.clone());
        Self { api_version, kind: &kind.kind, definition: &kind.definition, shape }
    }

    /// One of Kubernetes' own types, by its definition.
    pub fn named(api_version: &str, kind: &'a str, definition: &'a str) -> Self {
        Self { api_version: api_version.to_owned(), kind, definition, shape: shape_of(definition) }
    }
}

/// Reads the body of a write.
pub fn decode(
    expected: &Expected<'_>,
    headers: &HeaderMap,
    bytes: &Bytes,
    validation: FieldValidation,
) -> Result<Decoded> {
    let parsed = match body::media_type(headers) {
        "application/json" | "" => body::parse(bytes)?,
        crate::protobuf::MEDIA_TYPE if crate::protobuf::knows(expected.definition) => {
            body::Parsed { value: crate::protobuf::decode(bytes, expected.definition)?, duplicates: Vec::new() }
        }
        other => {
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: application/json (not {other:?})"
            );
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
    };
    let mut object = parsed.value;
    if !object.is_object() {
        return Err(Failure::bad_request("the object provided is unrecognized: it is not a JSON object"));
    }
    for (field, wanted) in [("apiVersion", expected.api_version.as_str()), ("kind", expected.kind)] {
        match object[field].as_str() {
            None | Some("") => object[field] = wanted.into(),
            Some(found) if found == wanted => {}
            Some(found) => {
                let what = if field == "kind" { "kind" } else { "API version" };
                let message = format!("the {what} in the data ({found}) does not match the expected {what} ({wanted})");
                return Err(Failure::bad_request(message));
            }
        }
    }
    let warnings = conform(expected, &mut object, &parsed.duplicates, validation)?;
    Ok(Decoded { object, warnings })
}

/// Checks the shape of an object; returns what to warn of.
pub fn conform(
    expected: &Expected<'_>,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>> {
    let found = check::check(&expected.shape, object);
    let kind = expected.kind;
    let version = expected.api_version.rsplit('/').next().unwrap_or(&expected.api_version);
    let unusable = |why: &str| {
        Failure::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    };
    if let Some(wrong) = &found.wrong {
        return Err(unusable(wrong));
    }
    let mut strange: Vec<String> = found.unknown.iter().map(|f| format!("unknown field \"{f}\"")).collect();
    strange.extend(duplicates.iter().map(|f| format!("duplicate field \"{f}\"")));
    match validation {
        FieldValidation::Strict if !strange.is_empty() => {
            Err(unusable(&format!("strict decoding error: {}", strange.join(", "))))
        }
        FieldValidation::Ignore => Ok(Vec::new()),
        _ => Ok(strange),
    }
}

/// The namespace of a new object must exist and must not be going away.
pub fn namespace_lives(call: &Call<'_>, snapshot: &Snapshot, namespace: &str, name: &str) -> Result<()> {
    if namespace.is_empty() {
        return Ok(());
    }
    let (kind, namespaces) = (call.kind(), call.kinds.stored("", "namespaces").ok_or_else(Failure::no_path)?);
    let Some(row) = crate::call::find(snapshot, call.cluster, namespaces, "", namespace) else {
        return Err(Failure::not_found(namespaces, namespace));
    };
    if row.deleting() {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut failure = Failure::forbidden(kind, name, &why);
        let message = format!("namespace {namespace} is being terminated");
        failure.set_details(serde_json::json!({
            "name": name, "kind": kind.plural,
            "causes": [{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]
        }));
        return Err(failure);
    }
    Ok(())
}
