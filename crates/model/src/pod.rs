//! What the server decides of every new pod, whoever makes it: its service account and the account's token, tolerations,
//! priority, quality of service, and whether it may be at all. The API does it for pods that clients send, planners for
//! those that they make from templates.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::{pod_security, quantity_milli};

/// Where a pod finds the token of its service account.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The name of the service account as which a pod runs.
pub fn account_name(pod: &Value) -> &str {
    pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty()).unwrap_or("default")
}

/// Completes a new pod, or says why it is forbidden. `account` is the service account that [`account_name`] names, in
/// the pod's namespace; `suffix` makes the name of its token's volume.
pub fn admit(pod: &mut Value, account: Option<&Value>, suffix: &str) -> Result<(), String> {
    let name = account_name(pod).to_owned();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    let Some(account) = account else {
        return Err(format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        ));
    };
    pod["status"] = json!({"phase": "Pending", "qosClass": qos_class(&pod["spec"])});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
    }
    let spec = &mut pod["spec"];
    default(spec, "enableServiceLinks", true.into());
    spec["serviceAccountName"] = name.as_str().into();
    spec["serviceAccount"] = name.as_str().into();
    if spec["imagePullSecrets"].is_null() && account["imagePullSecrets"].is_array() {
        spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    let wanted = spec["automountServiceAccountToken"].as_bool();
    if wanted.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        token_volume(spec, suffix);
    }
    tolerations(spec);
    priority(spec)?;
    match pod_security::violations(pod) {
        Some(violations) => Err(pod_security::refusal(&violations)),
        None => Ok(()),
    }
}

fn items<'a>(parent: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    parent[field].as_array().into_iter().flatten()
}

fn default(parent: &mut Value, field: &str, value: Value) {
    if parent[field].is_null() {
        parent[field] = value;
    }
}

fn push(object: &mut Value, field: &str, item: Value) {
    match &mut object[field] {
        Value::Array(list) => list.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

fn token_volume(spec: &mut Value, suffix: &str) {
    let mounted = |c: &Value| items(c, "volumeMounts").any(|m| m["mountPath"] == TOKEN_PATH);
    let needed = CONTAINERS.iter().any(|field| items(spec, field).any(|c| !mounted(c)));
    let there = items(spec, "volumes").any(|v| v["name"].as_str().is_some_and(|n| n.starts_with("kube-api-access-")));
    if !needed || there {
        return;
    }
    let volume = format!("kube-api-access-{suffix}");
    push(spec, "volumes", json!({"name": volume, "projected": *TOKEN_SOURCES}));
    for field in CONTAINERS {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            if !mounted(container) {
                push(container, "volumeMounts", json!({"name": volume, "mountPath": TOKEN_PATH, "readOnly": true}));
            }
        }
    }
}

/// What every pod has is there once for all of them.
static TOKEN_SOURCES: LazyLock<Value> = LazyLock::new(|| {
    let namespace = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    json!({"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}}
    ]})
});

static TOLERATIONS: LazyLock<[Value; 2]> = LazyLock::new(|| {
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .map(|key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}))
});

/// A pod stays five minutes on a node that is lost, unless it says otherwise.
fn tolerations(spec: &mut Value) {
    for toleration in TOLERATIONS.iter() {
        let tolerated = items(spec, "tolerations").any(|t| {
            (t["key"] == toleration["key"] || t["key"].as_str().is_none_or(str::is_empty))
                && (t["effect"] == "NoExecute" || t["effect"].as_str().is_none_or(str::is_empty))
        });
        if !tolerated {
            push(spec, "tolerations", toleration.clone());
        }
    }
}

fn priority(spec: &mut Value) -> Result<(), String> {
    let priority = match spec["priorityClassName"].as_str().unwrap_or("") {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        other => return Err(format!("no PriorityClass with name {other} was found")),
    };
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    default(spec, "priority", priority.into());
    default(spec, "preemptionPolicy", "PreemptLowerPriority".into());
    Ok(())
}

/// The quality of service class of a pod.
pub fn qos_class(spec: &Value) -> &'static str {
    let zero = |q: Option<&Value>| q.and_then(Value::as_str).is_none_or(|q| quantity_milli(q) == Some(0));
    let (mut any, mut guaranteed) = (false, true);
    for container in CONTAINERS.iter().flat_map(|field| items(spec, field)) {
        for name in ["cpu", "memory"] {
            let of = |side: &str| container["resources"][side].get(name);
            let (request, limit) = (of("requests"), of("limits"));
            any |= !zero(request) || !zero(limit);
            guaranteed &= !zero(limit) && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_completed() {
        let mut pod = json!({"metadata": {"namespace": "n"}, "spec": {"containers": [{"name": "c"}]}});
        assert!(admit(&mut pod.clone(), None, "x").is_err_and(|why| why.contains("service account n/default")));
        admit(&mut pod, Some(&json!({"imagePullSecrets": [{"name": "s"}]})), "abcde").expect("it is harmless");
        assert_eq!(pod["spec"]["volumes"][0]["name"], "kube-api-access-abcde");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], TOKEN_PATH);
        assert_eq!(pod["spec"]["imagePullSecrets"][0]["name"], "s");
        assert_eq!(pod["status"]["qosClass"], "BestEffort");
        assert!(
            pod["spec"].as_object().is_some_and(|spec| !spec.contains_key("initContainers")),
            "nothing is invented"
        );
        let mut beyond = json!({"metadata": {"namespace": "n"}, "spec": {"hostNetwork": true}});
        assert!(admit(&mut beyond, Some(&json!({})), "x").is_err_and(|why| why.contains("hostNetwork=true")));
    }
}
