//! What only pods have: binding to a node, and eviction.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use model::{Change, KubeObject, Snapshot};
use serde_json::{Value, json};

use super::admit::shell;
use super::delete::{DeleteOptions, remove};
use super::update::replacement;
use super::{Draft, Expected, commit, decode};
use crate::admission::{self, Review};
use crate::body;
use crate::call::Call;
use crate::fault::{Failure, Result};
use crate::kinds::pod::check_node;
use crate::meta;
use crate::request::WriteOptions;
use crate::strategy::items;

fn created() -> Response<Body> {
    body::json(201, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

/// `POST pods/{name}/binding`: the pod belongs to a node from now on.
pub async fn bind(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = WriteOptions::read(&call.query, call.agent())?;
    let expected = Expected::named("v1", "Binding", "io.k8s.api.core.v1.Binding");
    let binding = decode(&expected, &call.headers, &bytes, options.validation)?.object;
    let node = binding["target"]["name"]
        .as_str()
        .filter(|n| !n.is_empty())
        .ok_or_else(|| Failure::new(422, "Invalid", "Binding \"\" is invalid: target.name: Required value"))?;
    if !matches!(binding["target"]["kind"].as_str(), None | Some("" | "Node")) {
        let message = "Binding \"\" is invalid: target.kind: Unsupported value: supported values: \"Node\"";
        return Err(Failure::new(422, "Invalid", message));
    }
    let uid = meta::text(&binding, "uid");
    let plan = |snapshot: &Snapshot| {
        let entry = call.row(snapshot)?;
        let name = &entry.value.name;
        let refuse = |why: &str| Failure::conflict(call.kind(), name, why);
        if !uid.is_empty() && uid != entry.value.uid() {
            return Err(refuse("Precondition failed: UID in precondition does not match"));
        }
        if entry.value.deleting() {
            return Err(refuse(&format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        if let Some(host) = entry.value.body["spec"]["nodeName"].as_str().filter(|h| !h.is_empty()) {
            return Err(refuse(&format!("pod {name} is already assigned to node {host:?}")));
        }
        if items(&entry.value.body["spec"], "schedulingGates").len() > 0 {
            return Err(refuse(&format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        check_node(snapshot, call.cluster, node).map_err(|denied| Failure::of_kind(call.kind(), name, denied))?;
        let mut body = entry.value.body.clone();
        body["spec"]["nodeName"] = node.into();
        scheduled(&mut body["status"], &meta::stamp(call.now));
        let object = Arc::new(KubeObject { body, ..shell(entry.value) });
        let change = Change { writes: vec![replacement(entry, object)], expects: Vec::new() };
        let review = || Review::of(call, "CREATE", ("", "v1", "Binding"), binding.clone(), Value::Null);
        Ok(Draft::new(call, snapshot, change, (), review))
    };
    commit(call, call.path.name, options.dry_run, plan).await?;
    Ok(created())
}

fn scheduled(status: &mut Value, now: &str) {
    let mut conditions: Vec<Value> =
        items(status, "conditions").filter(|c| c["type"] != "PodScheduled").cloned().collect();
    conditions.push(json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now}));
    status["conditions"] = conditions.into();
}

/// `POST pods/{name}/eviction`: a deletion that asks politely. There are no disruption budgets to ask yet.
pub async fn evict(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let write = WriteOptions::read(&call.query, call.agent())?;
    let expected = Expected::named("policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction");
    let eviction = decode(&expected, &call.headers, &bytes, write.validation)?.object;
    let mut options = DeleteOptions::default();
    options.merge(&eviction["deleteOptions"])?;
    options.dry_run |= write.dry_run;
    let review = Review::of(call, "CREATE", ("policy", "v1", "Eviction"), eviction, Value::Null);
    admission::admit(call, &call.kube.store.snapshot(), &review, options.dry_run).await?;
    remove(call, call.path.name, &options).await?;
    Ok(created())
}
