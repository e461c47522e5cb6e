//! Kinds that are questions: who am I, may I, may they, whose token is this.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use model::Snapshot;
use serde_json::{Value, json};

use crate::admission::{self, Review};
use crate::authz::{self, Attributes, Grant, Rules, Subject};
use crate::body;
use crate::call::Call;
use crate::fault::{Failure, Result};
use crate::meta;
use crate::request::WriteOptions;
use crate::strategy::items;
use crate::verbs::{Expected, decode};

/// The most groups that somebody may be asked about with.
const MOST_GROUPS: usize = 1000;

/// `POST` of a review.
pub async fn create(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = WriteOptions::read(&call.query, call.agent())?;
    let decoded = decode(&Expected::of(call.kind()), &call.headers, &bytes, options.validation)?;
    let mut review = decoded.object;
    let snapshot = call.kube.store.fresh().await?;
    admission::admit(call, &snapshot, &Review::question(call, &review), options.dry_run).await?;
    let status = match call.kind().plural.as_str() {
        "selfsubjectreviews" => json!({"userInfo": user_info(call.who)}),
        "selfsubjectaccessreviews" => verdict(call, &snapshot, call.who, &review["spec"])?,
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            let spec = &review["spec"];
            let groups = items(spec, "groups").filter_map(|g| g.as_str().map(str::to_owned)).collect();
            if items(spec, "groups").len() > MOST_GROUPS {
                let message = format!("spec.groups: Too many: must have at most {MOST_GROUPS} items");
                return Err(Failure::new(422, "Invalid", &message));
            }
            let user = spec["user"].as_str().unwrap_or("");
            if user.is_empty() && items(spec, "groups").len() == 0 {
                return Err(Failure::new(
                    422,
                    "Invalid",
                    "spec.user: Invalid value: at least one of user or group must be specified",
                ));
            }
            if call.kind().namespaced && spec["resourceAttributes"]["namespace"] != call.path.namespace {
                return Err(Failure::new(
                    422,
                    "Invalid",
                    "spec.resourceAttributes.namespace: Invalid value: must match metadata.namespace",
                ));
            }
            verdict(call, &snapshot, &Subject::named(user, groups), spec)?
        }
        "selfsubjectrulesreviews" => rules(call, &snapshot, &review["spec"]),
        "tokenreviews" => token(call, &review["spec"]).await,
        _ => return Err(Failure::method_not_allowed()),
    };
    review["status"] = status;
    let created = meta::stamp(call.now);
    meta::of(&mut review).insert("creationTimestamp".to_owned(), created.into());
    let mut response = body::json(201, &review);
    body::warn(&mut response, &decoded.warnings);
    Ok(response)
}

fn user_info(who: &Subject) -> Value {
    let mut info = json!({"username": who.user, "groups": who.groups});
    if !who.uid.is_empty() {
        info["uid"] = who.uid.as_str().into();
    }
    info
}

fn verdict(call: &Call<'_>, snapshot: &Snapshot, who: &Subject, spec: &Value) -> Result<Value> {
    let text = |value: &'_ Value, field: &str| value[field].as_str().unwrap_or("").to_owned();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        let message = "spec.resourceAttributes: Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return Err(Failure::new(422, "Invalid", message));
    }
    let from = if resource.is_object() { resource } else { path };
    let (verb, group, plural) = (text(from, "verb"), text(from, "group"), text(from, "resource"));
    let (sub, namespace, name) = (text(from, "subresource"), text(from, "namespace"), text(from, "name"));
    let path = text(path, "path");
    let what = Attributes {
        verb: &verb,
        group: &group,
        resource: &plural,
        subresource: &sub,
        namespace: &namespace,
        name: &name,
        path: &path,
    };
    Ok(json!({"allowed": authz::allowed(snapshot, call.cluster, who, &what)}))
}

fn rules(call: &Call<'_>, snapshot: &Snapshot, spec: &Value) -> Value {
    let namespace = spec["namespace"].as_str().unwrap_or("");
    let mut resources = Vec::new();
    let mut paths = Vec::new();
    let mut add = |rule: &Value| {
        if items(rule, "nonResourceURLs").len() > 0 {
            paths.push(json!({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}));
        } else {
            resources.push(rule.clone());
        }
    };
    if call.who.grant == Grant::Everything {
        add(&json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        add(&json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let mut rules = Rules::of(snapshot, call.cluster, call.who, namespace);
    rules.by_ref().for_each(&mut add);
    let incomplete = call.who.grant == Grant::View || rules.is_cut();
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete});
    if rules.is_cut() {
        status["evaluationError"] = "there are more rules than are looked at".into();
    }
    status
}

async fn token(call: &Call<'_>, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or("");
    match call.kube.gate.inspect_bearer(token, &call.cluster.id).await {
        Ok(principal) => {
            let who = Subject::of(&principal, call.cluster);
            json!({"authenticated": true, "user": user_info(&who), "audiences": [gate::ISSUER]})
        }
        Err(_) => json!({"authenticated": false, "error": "invalid bearer token"}),
    }
}
