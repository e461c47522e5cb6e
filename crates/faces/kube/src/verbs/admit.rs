//! From a body to the row that is committed: metadata, defaults, the kind's strategy, validation, owners of fields.
//! Pure functions of a snapshot, so that they can be run again when somebody else got in between.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Entry, KubeObject, Snapshot, json_size};
use serde_json::Value;

use super::namespace_lives;
use crate::call::Call;
use crate::check::MAX_OBJECT;
use crate::fault::{Failure, Result};
use crate::fields;
use crate::giving;
use crate::kind::ApiResource;
use crate::meta;
use crate::patch::apply::{self, Manager};
use crate::strategy::{Context, items};
use crate::validate::{self, Errors, name_problem};

/// How the owners of fields are written.
pub enum Owners<'a> {
    /// By what differs from the old object.
    Track(&'a str),
    /// They are in the object already: it was applied.
    Applied,
}

impl Call<'_> {
    /// The manager of this request's writes.
    pub fn manager(&self, name: &str, apply: bool) -> Manager {
        let subresource = if self.path.subresource == "finalize" { "" } else { self.path.subresource };
        Manager {
            name: name.to_owned(),
            apply,
            api_version: self.kind().api_version(),
            subresource: subresource.to_owned(),
        }
    }
}

/// A new object, from a body that has the shape of its kind.
pub fn new_object(call: &Call<'_>, snapshot: &Snapshot, mut object: Value, owners: &Owners<'_>) -> Result<KubeObject> {
    let kind = call.kind();
    let strategy = kind.strategy.as_ref();
    let (namespace, name) = identity(call, &mut object)?;
    namespace_lives(call, snapshot, &namespace, &name)?;
    let meta = meta::of(&mut object);
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"] {
        meta.remove(field);
    }
    if matches!(owners, Owners::Track(_)) {
        meta.remove("managedFields");
    }
    meta.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".to_owned(), meta::stamp(call.now).into());
    if kind.generation {
        meta.insert("generation".to_owned(), 1.into());
    }
    strategy.store(&mut object);
    if kind.status
        && let Value::Object(fields) = &mut object
    {
        fields.remove("status");
    }
    strategy.default(&mut object);
    let context = Context { snapshot, cluster: call.cluster };
    strategy.create(&mut object, &context).map_err(|denied| Failure::of_kind(kind, &name, denied))?;
    validate(call, &object, None, &name)?;
    if let Owners::Track(manager) = owners {
        track(call, None, &mut object, manager);
        bounded(&object, None)?;
    }
    let object = KubeObject {
        cluster_id: call.cluster.id.clone(),
        project_id: call.cluster.project_id.clone(),
        group: kind.stored.0.clone(),
        resource: kind.stored.1.clone(),
        namespace,
        name,
        body: object,
    };
    giving::may_give(snapshot, call.cluster, call.who, &object)?;
    Ok(object)
}

/// Name and namespace of a new object, written into its metadata.
fn identity(call: &Call<'_>, object: &mut Value) -> Result<(String, String)> {
    let kind = call.kind();
    let path = &call.path;
    if !meta::text(object, "resourceVersion").is_empty() {
        return Err(Failure::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let meta = meta::of(object);
    let text = |field: &str| meta.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let (mut name, prefix, namespace) = (text("name"), text("generateName"), text("namespace"));
    if !path.name.is_empty() && name.is_empty() {
        name = path.name.to_owned();
    }
    if name.is_empty() && !prefix.is_empty() {
        name = meta::generate(&prefix);
    }
    if name.is_empty() {
        let mut errors = Errors::default();
        errors.required("metadata.name", "name or generateName is required");
        return Err(Failure::invalid(kind, "", errors.into_causes()));
    }
    if !path.name.is_empty() && name != path.name {
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", path.name);
        return Err(Failure::bad_request(message));
    }
    if !namespace.is_empty() && namespace != path.namespace {
        let message = if kind.namespaced {
            format!(
                "the namespace of the provided object does not match the namespace sent on the request ({namespace} and {})",
                path.namespace
            )
        } else {
            "namespace is not allowed on objects of this kind".to_owned()
        };
        return Err(Failure::bad_request(message));
    }
    meta.insert("name".to_owned(), name.as_str().into());
    if kind.namespaced {
        meta.insert("namespace".to_owned(), path.namespace.into());
    }
    Ok((path.namespace.to_owned(), name))
}

fn validate(call: &Call<'_>, new: &Value, old: Option<&Value>, name: &str) -> Result<()> {
    let kind = call.kind();
    bounded(new, old)?;
    let mut errors = Errors::default();
    if old.is_none()
        && let Some(problem) = name_problem(kind.strategy.name_rule(), name)
    {
        errors.invalid("metadata.name", &name.into(), problem);
    }
    validate::metadata(&new["metadata"], "metadata", &mut errors);
    fields::check(&kind.shape, new, &mut errors);
    kind.strategy.validate(new, &mut errors);
    if let Some(old) = old {
        kind.strategy.validate_update(new, old, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::invalid(kind, name, errors.into_causes())) }
}

/// Refuses what is too large, unless it is smaller than it was.
fn bounded(new: &Value, old: Option<&Value>) -> Result<()> {
    let size = json_size(new);
    if size > MAX_OBJECT && old.is_none_or(|old| size >= json_size(old)) {
        let message = format!("Request entity too large: an object may have {MAX_OBJECT} bytes");
        return Err(Failure::new(413, "RequestEntityTooLarge", message));
    }
    Ok(())
}

fn track(call: &Call<'_>, old: Option<&Value>, new: &mut Value, manager: &str) {
    // Events keep the owners of the form in which they are stored.
    let (group, plural, _) = &call.kind().stored;
    let shape = &call.kinds.stored(group, plural).map_or(call.kind(), |kind| kind.as_ref()).shape;
    apply::track(shape, old, new, &call.manager(manager, false), call.now);
}

/// What an update does to the row.
pub enum Updated {
    /// Nothing: it is as it was.
    Same,
    Changed(Arc<KubeObject>),
    /// It was being deleted, and nothing holds it any more.
    Gone(Arc<KubeObject>),
}

/// The object after an update by a body that has the shape of its kind.
pub fn changed_object(
    call: &Call<'_>,
    snapshot: &Snapshot,
    entry: Entry<'_, KubeObject>,
    mut new: Value,
    owners: &Owners<'_>,
) -> Result<Updated> {
    let kind = call.kind();
    let old = &entry.value.body;
    kind.strategy.store(&mut new);
    same_object(call, entry, &new)?;
    match call.path.subresource {
        "status" => {
            status_only(&mut new, old);
            bounded(&new, Some(old))?;
            let mut errors = Errors::default();
            kind.strategy.validate_status(&new, &mut errors);
            if !errors.is_empty() {
                return Err(Failure::invalid(kind, &entry.value.name, errors.into_causes()));
            }
        }
        "finalize" => finalizers_only(&mut new, old),
        _ => {
            keep_metadata(&mut new, old);
            if kind.status {
                keep(&mut new, old, "status");
            }
            kind.strategy.default(&mut new);
            let context = Context { snapshot, cluster: call.cluster };
            let denied = |denied| Failure::of_kind(kind, &entry.value.name, denied);
            kind.strategy.update(&mut new, old, &context).map_err(denied)?;
            if kind.generation && kind.strategy.is_another(&new, old) {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                meta::of(&mut new).insert("generation".to_owned(), generation.into());
            }
            no_new_finalizers(call, &new, old)?;
            validate(call, &new, Some(old), &entry.value.name)?;
        }
    }
    if same_but_owners(&new, old, owners) {
        return Ok(Updated::Same);
    }
    if let Owners::Track(manager) = owners {
        if new["metadata"]["managedFields"].as_array().is_none_or(|m| !m.is_empty()) {
            keep_owners(&mut new, old);
        }
        track(call, Some(old), &mut new, manager);
        bounded(&new, Some(old))?;
    }
    let object = KubeObject { body: new, ..shell(entry.value) };
    if object.body["rules"] != old["rules"]
        || object.body["roleRef"] != old["roleRef"]
        || object.body["subjects"] != old["subjects"]
    {
        giving::may_give(snapshot, call.cluster, call.who, &object)?;
    }
    let object = Arc::new(object);
    Ok(if released(kind, &object) { Updated::Gone(object) } else { Updated::Changed(object) })
}

/// The row without its body.
pub fn shell(object: &KubeObject) -> KubeObject {
    KubeObject {
        cluster_id: object.cluster_id.clone(),
        project_id: object.project_id.clone(),
        group: object.group.clone(),
        resource: object.resource.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        body: Value::Null,
    }
}

/// Whether an object that is being deleted is held by nothing: finalizers, a namespace's own, a pod's grace.
pub fn released(kind: &ApiResource, object: &KubeObject) -> bool {
    let meta = &object.body["metadata"];
    object.deleting()
        && items(meta, "finalizers").len() == 0
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !kind.strategy.held(&object.body)
}

fn same_object(call: &Call<'_>, entry: Entry<'_, KubeObject>, new: &Value) -> Result<()> {
    let kind = call.kind();
    let name = entry.value.name.as_str();
    let sent = meta::text(new, "name");
    if sent != name {
        let message = format!("the name of the object ({sent}) does not match the name on the URL ({name})");
        return Err(Failure::bad_request(message));
    }
    let place = meta::text(new, "namespace");
    if !place.is_empty() && place != entry.value.namespace {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let revision = meta::text(new, "resourceVersion");
    if !revision.is_empty() && revision != "0" && revision != entry.row.modified.to_string() {
        crate::call::revision(revision)?;
        return Err(Failure::modified(kind, name));
    }
    let uid = meta::text(new, "uid");
    if !uid.is_empty() && uid != entry.value.uid() {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", entry.value.uid());
        return Err(Failure::conflict(kind, name, &why));
    }
    Ok(())
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    let Value::Object(fields) = new else { return };
    match old.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

/// Puts back what of the metadata no update changes.
fn keep_metadata(new: &mut Value, old: &Value) {
    let meta = meta::of(new);
    meta.remove("resourceVersion");
    meta.remove("selfLink");
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        match old["metadata"].get(field) {
            Some(value) => meta.insert(field.to_owned(), value.clone()),
            None => meta.remove(field),
        };
    }
}

fn keep_owners(new: &mut Value, old: &Value) {
    let meta = meta::of(new);
    match old["metadata"].get("managedFields") {
        Some(owners) => meta.insert("managedFields".to_owned(), owners.clone()),
        None => meta.remove("managedFields"),
    };
}

fn status_only(new: &mut Value, old: &Value) {
    let status = new.get_mut("status").map(Value::take);
    let owners = new["metadata"].get_mut("managedFields").map(Value::take);
    *new = old.clone();
    if let (Value::Object(fields), Some(status)) = (&mut *new, status) {
        fields.insert("status".to_owned(), status);
    }
    if let Some(owners) = owners {
        meta::of(new).insert("managedFields".to_owned(), owners);
    }
}

fn finalizers_only(new: &mut Value, old: &Value) {
    let finalizers = new["spec"]["finalizers"].take();
    *new = old.clone();
    let spec = crate::strategy::object(new, "spec");
    if let Value::Object(spec) = spec {
        match finalizers {
            Value::Array(list) if !list.is_empty() => spec.insert("finalizers".to_owned(), Value::Array(list)),
            _ => spec.remove("finalizers"),
        };
    }
}

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    items(&object["metadata"], "finalizers").filter_map(Value::as_str)
}

fn no_new_finalizers(call: &Call<'_>, new: &Value, old: &Value) -> Result<()> {
    if !old["metadata"]["deletionTimestamp"].is_string() {
        return Ok(());
    }
    let before: HashSet<&str> = finalizers(old).collect();
    let added: Vec<&str> = finalizers(new).filter(|finalizer| !before.contains(finalizer)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let mut errors = Errors::default();
    let detail =
        format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
    errors.forbidden("metadata.finalizers", &detail);
    Err(Failure::invalid(call.kind(), call.path.name, errors.into_causes()))
}

/// Whether nothing changed. Owners count only where they were written on purpose.
fn same_but_owners(new: &Value, old: &Value, owners: &Owners<'_>) -> bool {
    let (Value::Object(a), Value::Object(b)) = (new, old) else { return false };
    let rest = |m: &serde_json::Map<String, Value>| m.len() - usize::from(m.contains_key("metadata"));
    if rest(a) != rest(b) || a.iter().any(|(name, value)| name != "metadata" && b.get(name) != Some(value)) {
        return false;
    }
    let (Some(Value::Object(a)), Some(Value::Object(b))) = (a.get("metadata"), b.get("metadata")) else { return false };
    let reset = a.get("managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let skip = |name: &str| {
        name == "resourceVersion" || (name == "managedFields" && matches!(owners, Owners::Track(_)) && !reset)
    };
    let count = |m: &serde_json::Map<String, Value>| m.keys().filter(|name| !skip(name)).count();
    count(a) == count(b) && a.iter().all(|(name, value)| skip(name) || b.get(name) == Some(value))
}
