//! CustomResourceDefinitions. Names are claimed by the commit that accepts them, so that they are accepted at once, or
//! refused: the controller that decides it later elsewhere, and definitions that wait for a name, are not needed.

use std::collections::HashSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use model::{KubeObject, Realm, json_size};
use serde_json::{Value, json};

use crate::custom::{path::Path, schema, shape, storage_version};
use crate::denied::Denied;
use crate::kind::{ApiResource, Given::Nobody, WHOLE};
use crate::meta;
use crate::strategy::{Column, Context, Result, Strategy, column, default, items, name_column, object};
use crate::validate::{Errors, NameRule, is_subdomain, name_problem};

pub fn kind() -> ApiResource {
    ApiResource::of::<extensions::CustomResourceDefinition>(CustomResourceDefinition)
        .short("crd")
        .also("crds")
        .given(Nobody(WHOLE))
        .status()
        .generation()
        .no_table("its strategy refuses what is not done, keyword by keyword")
}

pub struct CustomResourceDefinition;

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// The annotation without which a group of Kubernetes' own community is not one.
const APPROVED: &str = "api-approved.kubernetes.io";

/// The most definitions of a cluster, and how many parts their schemas may have in all. They are kept in memory as they are
/// read, which is more than the text that the quota counts. Who defines at the same time may be a few beyond it.
const MAX_DEFINITIONS: usize = 500;
const MAX_PARTS: usize = 200_000;

/// How large all definitions of a cluster may be: they are shown in one document of the API.
const MAX_BYTES: usize = 32 << 20;

/// The most versions of one kind.
const MAX_VERSIONS: usize = 16;
/// The most columns of a version, each of which is looked for in each object of a list.
const MAX_COLUMNS: usize = 64;

impl Strategy for CustomResourceDefinition {
    fn default(&self, definition: &mut Value) {
        let spec = object(definition, "spec");
        default(object(spec, "conversion"), "strategy", "None");
        let names = object(spec, "names");
        if let Some(kind) = names["kind"].as_str().map(str::to_owned) {
            default(names, "singular", kind.to_lowercase());
            default(names, "listKind", format!("{kind}List"));
        }
    }

    fn create(&self, definition: &mut Value, context: &Context<'_>) -> Result<()> {
        room(definition, context)?;
        accepted(definition, &Value::Null);
        Ok(())
    }

    fn update(&self, new: &mut Value, old: &Value, context: &Context<'_>) -> Result<()> {
        if new["spec"] != old["spec"] {
            room(new, context)?;
            accepted(new, old);
        }
        Ok(())
    }

    fn validate(&self, definition: &Value, errors: &mut Errors) {
        let spec = &definition["spec"];
        names(definition, errors);
        errors.one_of("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]);
        if spec["scope"].is_null() {
            errors.required("spec.scope", "");
        }
        if spec["preserveUnknownFields"] == true {
            let why = "must be false: use x-kubernetes-preserve-unknown-fields in the schema";
            errors.invalid("spec.preserveUnknownFields", &spec["preserveUnknownFields"], why);
        }
        match spec["conversion"]["strategy"].as_str() {
            Some("None") => {}
            Some("Webhook") => {
                errors.forbidden("spec.conversion.strategy", "conversion by webhooks is not offered: None is");
            }
            _ => errors.unsupported("spec.conversion.strategy", &spec["conversion"]["strategy"], &["None"]),
        }
        versions(spec, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (new_spec, old_spec) = (&new["spec"], &old["spec"]);
        for field in ["group", "scope"] {
            errors.immutable(format!("spec.{field}"), &new_spec[field], &old_spec[field]);
        }
        for field in ["plural", "kind"] {
            errors.immutable(format!("spec.names.{field}"), &new_spec["names"][field], &old_spec["names"][field]);
        }
        let there: HashSet<&str> = items(new_spec, "versions").filter_map(|v| v["name"].as_str()).collect();
        for (i, stored) in items(&old["status"], "storedVersions").enumerate() {
            if stored.as_str().is_some_and(|name| !there.contains(name)) {
                errors.invalid(
                    format!("status.storedVersions[{i}]"),
                    stored,
                    "missing from spec.versions; objects were stored in it",
                );
            }
        }
    }

    fn columns(&self) -> Vec<Column> {
        let created = column("Created At", |definition, _| definition["metadata"]["creationTimestamp"].clone());
        vec![name_column(), Column { kind: "date".into(), ..created }]
    }

    fn contents(&self, definition: &KubeObject) -> Option<(String, String)> {
        let spec = &definition.body["spec"];
        Some((spec["group"].as_str()?.to_owned(), spec["names"]["plural"].as_str()?.to_owned()))
    }

    fn marked(&self, body: &mut Value) {
        let since = body["metadata"]["deletionTimestamp"].clone();
        let words = ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
        let conditions = object(body, "status");
        let mut all: Vec<Value> =
            items(conditions, "conditions").filter(|c| c["type"] != "Terminating").cloned().collect();
        all.push(json!({"type": "Terminating", "status": "True", "lastTransitionTime": since, "reason": words.0, "message": words.1}));
        conditions["conditions"] = all.into();
    }
}

/// Whether there is room for a definition beside the others.
fn room(definition: &Value, context: &Context<'_>) -> Result<()> {
    let (realm, prefix) = (Realm::cluster(&context.cluster.id), KubeObject::prefix(GROUP, PLURAL, ""));
    let name = meta::text(definition, "name");
    let size = |definition: &Value| json_size(&definition["spec"]);
    let (mut count, mut bytes, mut parts) = (1, size(definition), schema::parts(&definition["spec"]["versions"]));
    for other in context.snapshot.names::<KubeObject>(&realm, &prefix, None).filter(|other| other.value.name != name) {
        count += 1;
        parts += schema::parts(&other.value.body["spec"]["versions"]);
        bytes += size(&other.value.body);
        if count > MAX_DEFINITIONS || parts > MAX_PARTS || bytes > MAX_BYTES {
            break;
        }
    }
    if count > MAX_DEFINITIONS || parts > MAX_PARTS || bytes > MAX_BYTES {
        let mib = MAX_BYTES >> 20;
        let why =
            format!("a cluster may have {MAX_DEFINITIONS} definitions, of {MAX_PARTS} parts and {mib} MiB in all");
        return Err(Denied::Forbidden(why));
    }
    Ok(())
}

/// Writes that the names are the definition's, and in which versions objects may be stored.
fn accepted(definition: &mut Value, old: &Value) {
    let names = definition["spec"]["names"].clone();
    let mut stored: Vec<Value> = items(&old["status"], "storedVersions").cloned().collect();
    let storage = Value::from(storage_version(definition));
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    let since = match meta::text(definition, "creationTimestamp") {
        "" => Value::Null,
        since => since.into(),
    };
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since, "reason": reason, "message": message});
    let conditions = json!([
        condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]);
    definition["status"] = json!({"acceptedNames": names, "storedVersions": stored, "conditions": conditions});
}

fn names(definition: &Value, errors: &mut Errors) {
    let spec = &definition["spec"];
    let (group, words) = (spec["group"].as_str().unwrap_or(""), &spec["names"]);
    let plural = words["plural"].as_str().unwrap_or("");
    if group.is_empty() {
        errors.required("spec.group", "");
    } else if !is_subdomain(group) || !group.contains('.') {
        errors.invalid("spec.group", &spec["group"], "should be a domain with at least one dot");
    } else if model::is_kubernetes_group(group) {
        errors.forbidden("spec.group", "is a group of Kubernetes' own");
    } else if (group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io"))
        && definition["metadata"]["annotations"][APPROVED].as_str().is_none_or(str::is_empty)
    {
        let why = "protected groups must have an approval annotation \"api-approved.kubernetes.io\"";
        errors.required("metadata.annotations[api-approved.kubernetes.io]", why);
    }
    if meta::text(definition, "name") != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.invalid("metadata.name", &definition["metadata"]["name"], why);
    }
    let mut named = |field: &str, value: &Value, lower: bool| {
        let at = format!("spec.names.{field}");
        match value.as_str() {
            None | Some("") => errors.required(at, ""),
            Some(text) => {
                let text = if lower { text.to_lowercase() } else { text.to_owned() };
                if let Some(problem) = name_problem(NameRule::Service, &text) {
                    errors.invalid(at, value, problem);
                }
            }
        }
    };
    named("plural", &words["plural"], false);
    named("singular", &words["singular"], false);
    named("kind", &words["kind"], true);
    named("listKind", &words["listKind"], true);
    for (i, short) in items(words, "shortNames").enumerate() {
        named(&format!("shortNames[{i}]"), short, false);
    }
    for (i, category) in items(words, "categories").enumerate() {
        named(&format!("categories[{i}]"), category, false);
    }
    if !words["kind"].is_null() && words["kind"] == words["listKind"] {
        errors.invalid("spec.names.listKind", &words["listKind"], "kind and listKind may not be the same");
    }
}

fn versions(spec: &Value, errors: &mut Errors) {
    let (mut seen, mut storage) = (HashSet::new(), 0);
    let all = items(spec, "versions");
    if all.len() == 0 {
        errors.required("spec.versions", "");
    }
    if all.len() > MAX_VERSIONS {
        errors.forbidden("spec.versions", &format!("a kind may have {MAX_VERSIONS} versions"));
        return;
    }
    for (i, version) in all.enumerate() {
        let at = format!("spec.versions[{i}]");
        let name = version["name"].as_str().unwrap_or("");
        if let Some(problem) = name_problem(NameRule::Service, name) {
            errors.invalid(format!("{at}.name"), &version["name"], problem);
        }
        if !seen.insert(name) {
            errors.duplicate(format!("{at}.name"), &version["name"]);
        }
        storage += usize::from(version["storage"] == true);
        if version["schema"]["openAPIV3Schema"].is_object() {
            let (at, before) = (format!("{at}.schema.openAPIV3Schema"), errors.len());
            let read = schema::read(&version["schema"]["openAPIV3Schema"], &at, errors);
            if errors.len() == before {
                defaults(&read, &at, errors);
            }
        } else {
            errors.required(format!("{at}.schema.openAPIV3Schema"), "schemas are required");
        }
        shown(version, &at, errors);
    }
    if storage != 1 {
        errors.invalid("spec.versions", &"".into(), "must have exactly one version marked as storage version");
    }
}

/// Defaults must be what their schema wants.
fn defaults(schema: &schema::Schema, at: &str, errors: &mut Errors) {
    if let Some(value) = &schema.default {
        shape::validate_default(schema, value, &format!("{at}.default"), errors);
    }
    for (name, inner) in &schema.fields {
        defaults(inner, &format!("{at}.properties[{name}]"), errors);
    }
    for (word, inner) in [("items", &schema.items), ("additionalProperties", &schema.values)] {
        if let Some(inner) = inner {
            defaults(inner, &format!("{at}.{word}"), errors);
        }
    }
}

/// Columns, subresources and selectable fields must lead somewhere that can be shown.
fn shown(version: &Value, at: &str, errors: &mut Errors) {
    let columns = &version["additionalPrinterColumns"];
    if !errors.at_most(MAX_COLUMNS, format!("{at}.additionalPrinterColumns"), columns) {
        return;
    }
    for (i, column) in items(version, "additionalPrinterColumns").enumerate() {
        let at = format!("{at}.additionalPrinterColumns[{i}]");
        if column["name"].as_str().is_none_or(str::is_empty) {
            errors.required(format!("{at}.name"), "");
        }
        let known = ["boolean", "date", "integer", "number", "string"];
        if !column["type"].as_str().is_some_and(|kind| known.contains(&kind)) {
            errors.unsupported(format!("{at}.type"), &column["type"], &known);
        }
        if column["jsonPath"].as_str().and_then(Path::parse).is_none() {
            let why = "must be a path of members, [index], [*] and [?(@.field==\"text\")]";
            errors.invalid(format!("{at}.jsonPath"), &column["jsonPath"], why);
        }
    }
    let mut members = |at: String, value: &Value, within: &[&str]| {
        let path = value.as_str().and_then(Path::parse);
        let path = path.as_ref().and_then(Path::members);
        if !path.is_some_and(|path| path.len() > 1 && (within.is_empty() || within.contains(&path[0]))) {
            errors.invalid(at, value, "must be a simple path like .spec.replicas");
        }
    };
    let scale = &version["subresources"]["scale"];
    if scale.is_object() {
        let at = format!("{at}.subresources.scale");
        members(format!("{at}.specReplicasPath"), &scale["specReplicasPath"], &["spec"]);
        members(format!("{at}.statusReplicasPath"), &scale["statusReplicasPath"], &["status"]);
        if !scale["labelSelectorPath"].is_null() {
            members(format!("{at}.labelSelectorPath"), &scale["labelSelectorPath"], &["spec", "status"]);
        }
    }
    for (i, field) in items(version, "selectableFields").enumerate() {
        members(format!("{at}.selectableFields[{i}].jsonPath"), &field["jsonPath"], &[]);
    }
}
