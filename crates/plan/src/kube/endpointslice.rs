//! EndpointSlices: which pods are behind a Service now.

use model::{Change, Entry, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use crate::hostnet::{cluster_ips, is_api};

use super::{New, all, condition, controlled, matches, seconds, suffix};

/// The most endpoints of one slice, as in Kubernetes.
const MOST: usize = 1000;

/// Keeps the slices of every Service that has a selector.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    let mut changes = Vec::new();
    for service in all(snapshot, "", "services").filter(|s| !s.deleting()) {
        let spec = &service.body["spec"];
        let selects = spec["selector"].as_object().is_some_and(|s| !s.is_empty()) && spec["type"] != "ExternalName";
        if is_api(service.value) {
            changes.push(api(snapshot, service, now));
        } else if selects {
            changes.push(one(snapshot, service, now));
        }
    }
    changes.retain(|change| !change.is_empty());
    changes
}

/// The slice of the cluster's own API. No pods stand behind it: it answers at the service's address itself.
fn api(snapshot: &Snapshot, service: Entry<'_, KubeObject>, now: Time) -> Change {
    let ips: Vec<std::net::IpAddr> = cluster_ips(service.value);
    let ports = service.body["spec"]["ports"].as_array().into_iter().flatten();
    let ports: Vec<Value> =
        ports.map(|p| json!({"name": p["name"], "port": p["port"], "protocol": p["protocol"]})).collect();
    let endpoints: Vec<Value> =
        ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    let mut change = Change::new();
    let key = KubeObject::key_of(
        &service.cluster_id,
        "discovery.k8s.io",
        "endpointslices",
        &service.namespace,
        &service.name,
    );
    match snapshot.at::<KubeObject>(&key) {
        Some(slice) if slice.deleting() => {}
        Some(slice) if slice.body["endpoints"] == json!(endpoints) && slice.body["ports"] == json!(ports) => {}
        Some(slice) => {
            change.edit(slice, |slice| {
                slice.body["endpoints"] = json!(endpoints);
                slice.body["ports"] = json!(ports);
            });
        }
        None => {
            let body = json!({
                "metadata": {"labels": {"kubernetes.io/service-name": service.name}},
                "addressType": if ips.iter().all(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" },
                "endpoints": endpoints, "ports": ports,
            });
            change.create(slice(service.value, service.name.clone(), snapshot, body, now));
        }
    }
    change
}

/// A new slice of a service.
fn slice(service: &KubeObject, name: String, snapshot: &Snapshot, body: Value, now: Time) -> KubeObject {
    let new = New {
        owner: service,
        api_version: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        resource: "endpointslices",
        name,
        salt: snapshot.revision().to_string(),
    };
    new.object(body, now)
}

fn one(snapshot: &Snapshot, service: Entry<'_, KubeObject>, now: Time) -> Change {
    let selector = json!({"matchLabels": service.body["spec"]["selector"]});
    let prefix = KubeObject::prefix("", "pods", &service.namespace);
    let realm = service.row.key.realm.clone();
    let pods: Vec<_> = snapshot
        .names::<KubeObject>(&realm, &prefix, None)
        .filter(|pod| !pod.pod_finished() && matches(&selector, &pod.body["metadata"]["labels"]))
        .filter(|pod| pod.body["status"]["podIP"].is_string())
        .collect();
    let slices: Vec<_> = controlled(snapshot, service.value, "discovery.k8s.io", "endpointslices").collect();
    let parts: Vec<&[Entry<'_, KubeObject>]> = if pods.is_empty() { vec![&[]] } else { pods.chunks(MOST).collect() };
    let mut change = Change::new();
    for (i, part) in parts.iter().enumerate() {
        let endpoints: Vec<Value> = part.iter().map(|pod| endpoint(service.value, pod.value)).collect();
        let ports = ports(service.value, part.first().map(|pod| pod.value));
        match slices.get(i) {
            Some(slice) if slice.body["endpoints"] == json!(endpoints) && slice.body["ports"] == ports => {}
            Some(slice) => {
                change.edit(*slice, |slice| {
                    slice.body["endpoints"] = json!(endpoints);
                    slice.body["ports"] = ports;
                    let trigger = "endpoints.kubernetes.io/last-change-trigger-time";
                    slice.body["metadata"]["annotations"][trigger] = json!(seconds(now));
                });
            }
            None => {
                let body = json!({
                    "metadata": {
                        "labels": {
                            "kubernetes.io/service-name": service.name,
                            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                        },
                        "generateName": format!("{}-", service.name),
                    },
                    "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
                });
                let name = format!("{}-{}", service.name, suffix(&format!("{}/{i}", service.uid())));
                change.create(self::slice(service.value, name, snapshot, body, now));
            }
        }
    }
    slices.iter().skip(parts.len()).for_each(|slice| {
        change.delete(*slice);
    });
    change
}

fn endpoint(service: &KubeObject, pod: &KubeObject) -> Value {
    let serving = condition(pod, "Ready");
    let ready = (serving && !pod.deleting()) || service.body["spec"]["publishNotReadyAddresses"] == true;
    let mut endpoint = json!({
        "addresses": [pod.body["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": pod.deleting()},
        "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid()},
    });
    if let Some(node) = pod.body["spec"]["nodeName"].as_str() {
        endpoint["nodeName"] = json!(node);
    }
    let named = pod.body["spec"]["subdomain"] == service.name.as_str();
    if let Some(hostname) = pod.body["spec"]["hostname"].as_str().filter(|_| named) {
        endpoint["hostname"] = json!(hostname);
    }
    endpoint
}

/// The ports as the pods have them: a target port may be a name that the container's port bears.
fn ports(service: &KubeObject, pod: Option<&KubeObject>) -> Value {
    let ports = service.body["spec"]["ports"].as_array().into_iter().flatten();
    let resolved = ports.filter_map(|port| {
        let target = match &port["targetPort"] {
            Value::String(name) => named_port(pod?, name)?,
            Value::Number(number) => number.as_i64()?,
            _ => port["port"].as_i64()?,
        };
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let mut resolved = json!({"name": port["name"].as_str().unwrap_or(""), "port": target, "protocol": protocol});
        if let Some(app) = port["appProtocol"].as_str() {
            resolved["appProtocol"] = json!(app);
        }
        Some(resolved)
    });
    resolved.collect()
}

fn named_port(pod: &KubeObject, name: &str) -> Option<i64> {
    let containers = pod.body["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    ports.find(|p| p["name"] == name)?["containerPort"].as_i64()
}
