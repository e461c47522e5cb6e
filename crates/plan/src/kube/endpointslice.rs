//! EndpointSlices: which pods are behind a Service now.

use std::collections::{BTreeMap, VecDeque};

use model::kube_event::{self, News};
use model::{Change, Entry, Event, Key, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use crate::hostnet::{cluster_ips, is_api};

use super::{New, controlled, controller, holds, keys, matches, seconds, suffix};
use crate::planner::{EVENTS, Failed, PODS, Plan, Planner, Rows, Seen, Touched, objects};

/// The most endpoints of one slice, as in Kubernetes.
const MOST: usize = 1000;

const SERVICES: Rows = Rows::Objects("", "services");
const SLICES: Rows = Rows::Objects("discovery.k8s.io", "endpointslices");

/// Keeps the slices of every Service that has a selector.
pub const PLANNER: Planner = Planner {
    name: "endpointslice",
    reads: &[SERVICES, SLICES, PODS],
    writes: &[SLICES, EVENTS],
    at_once: 64,
    items: |rows| keys(rows, "", "services"),
    touched,
    failed: Some(Failed { of: ("Service", "", "services"), tell: failed }),
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    for object in objects(event) {
        if object.is("", "services") {
            touched.item(event.key.clone());
        } else if object.is_pod() {
            let prefix = KubeObject::prefix("", "services", &object.namespace);
            let services = rows.names::<KubeObject>(&event.key.realm, &prefix, None);
            let selects = |service: &Entry<'_, KubeObject>| {
                selector(service.value).is_some_and(|selector| matches(&selector, &object.body["metadata"]["labels"]))
            };
            touched.items(services.filter(selects).map(|service| service.row.key.clone()));
        } else {
            touched.items(controller(object, "Service", "", "services"));
        }
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    for service in items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key)).filter(|s| !s.deleting()) {
        if is_api(service.value) {
            plan.step(&service.row.key, api(seen.rows, service, now));
        } else if let Some(selector) = selector(service.value) {
            plan.step(&service.row.key, one(seen.rows, service, &selector, now));
        }
    }
    plan
}

/// Which pods a Service means; `None`: it leaves that to somebody else.
fn selector(service: &KubeObject) -> Option<Value> {
    let spec = &service.body["spec"];
    let selects = spec["selector"].as_object().is_some_and(|s| !s.is_empty()) && spec["type"] != "ExternalName";
    selects.then(|| json!({"matchLabels": spec["selector"]}))
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

fn one(snapshot: &Snapshot, service: Entry<'_, KubeObject>, selector: &Value, now: Time) -> Change {
    let prefix = KubeObject::prefix("", "pods", &service.namespace);
    let realm = service.row.key.realm.clone();
    let pods: Vec<_> = snapshot
        .names::<KubeObject>(&realm, &prefix, None)
        .filter(|pod| !pod.pod_finished() && matches(selector, &pod.body["metadata"]["labels"]))
        .filter(|pod| pod.body["status"]["podIP"].is_string())
        .collect();
    let mut slices: BTreeMap<String, VecDeque<Entry<'_, KubeObject>>> = BTreeMap::new();
    for slice in controlled(snapshot, service.value, "discovery.k8s.io", "endpointslices") {
        slices.entry(slice.body["ports"].to_string()).or_default().push_back(slice);
    }
    let mut change = Change::new();
    let mut missing = Vec::new();
    for part in parts(service.value, &pods) {
        // One that has these ports already is the one; what is left over gets others.
        match slices.get_mut(&part.ports.to_string()).and_then(VecDeque::pop_front) {
            Some(slice) => part.write(&mut change, slice, now),
            None => missing.push(part),
        }
    }
    let mut spare = slices.into_values().flatten();
    let mut names = free_names(snapshot, service.value);
    for part in missing {
        match spare.next() {
            Some(slice) => part.write(&mut change, slice, now),
            None => {
                let Some(name) = names.next() else { break };
                let body = json!({
                    "metadata": {
                        "labels": {
                            "kubernetes.io/service-name": service.name,
                            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                        },
                        "generateName": format!("{}-", service.name),
                    },
                    "addressType": "IPv4", "endpoints": part.endpoints, "ports": part.ports,
                });
                change.create(slice(service.value, name, snapshot, body, now));
            }
        }
    }
    spare.for_each(|slice| {
        change.delete(slice);
    });
    change
}

/// What one slice says.
struct Part {
    ports: Value,
    endpoints: Value,
}

impl Part {
    fn write(self, change: &mut Change, slice: Entry<'_, KubeObject>, now: Time) {
        if slice.body["endpoints"] == self.endpoints && slice.body["ports"] == self.ports {
            return;
        }
        change.edit(slice, |slice| {
            slice.body["endpoints"] = self.endpoints;
            slice.body["ports"] = self.ports;
            let trigger = "endpoints.kubernetes.io/last-change-trigger-time";
            slice.body["metadata"]["annotations"][trigger] = json!(seconds(now));
        });
    }
}

/// The pods by the numbers that their ports have: a named target port may be another in each.
fn parts(service: &KubeObject, pods: &[Entry<'_, KubeObject>]) -> Vec<Part> {
    let mut groups: BTreeMap<String, (Value, Vec<&KubeObject>)> = BTreeMap::new();
    for pod in pods {
        let ports = ports(service, Some(pod.value));
        groups.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new())).1.push(pod.value);
    }
    let mut parts = Vec::new();
    for (ports, pods) in groups.into_values() {
        parts.extend(pods.chunks(MOST).map(|pods| Part {
            ports: ports.clone(),
            endpoints: pods.iter().map(|pod| endpoint(service, pod)).collect(),
        }));
    }
    if parts.is_empty() {
        parts.push(Part { ports: ports(service, None), endpoints: json!([]) });
    }
    parts
}

/// Names that no slice has.
fn free_names<'a>(snapshot: &'a Snapshot, service: &'a KubeObject) -> impl Iterator<Item = String> + 'a {
    let name = |i: usize| format!("{}-{}", service.name, suffix(&format!("{}/{i}", service.uid())));
    let key = |name: &str| {
        KubeObject::key_of(&service.cluster_id, "discovery.k8s.io", "endpointslices", &service.namespace, name)
    };
    (0..).map(name).filter(move |name| snapshot.row(&key(name)).is_none())
}

fn endpoint(service: &KubeObject, pod: &KubeObject) -> Value {
    let serving = holds(pod, "Ready");
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
/// Says on a Service why its endpoints cannot be written down.
fn failed(
    change: &mut Change,
    snapshot: &Snapshot,
    service: Entry<'_, KubeObject>,
    (_, why): (&KubeObject, &str),
    now: Time,
) {
    let message = format!("Error updating Endpoint Slices for Service {}/{}: {why}", service.namespace, service.name);
    let news = News::new("endpoint-slice-controller", "FailedToUpdateEndpointSlices", message).warning();
    kube_event::tell(change, snapshot, service.value, &[news], now);
}
