//! What a cluster's Node says about a host: labels and taints of the host itself, and what the cluster says beside.

use std::collections::BTreeMap;

use model::{Host, KubeObject, Snapshot, node};
use serde_json::Value;

/// A node as the scheduler sees it.
pub struct Node {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    cordoned: bool,
}

struct Taint {
    key: String,
    value: String,
    effect: String,
}

/// What a pod asks of nodes, found once for all that are looked at.
pub struct Requirements<'a> {
    spec: &'a Value,
    selector: Option<&'a serde_json::Map<String, Value>>,
    required: Option<&'a [Value]>,
    preferred: &'a [Value],
}

impl<'a> Requirements<'a> {
    pub fn of(pod: &'a Value) -> Self {
        let spec = &pod["spec"];
        let affinity = &spec["affinity"]["nodeAffinity"];
        let array = |value: &'a Value| value.as_array().map(Vec::as_slice);
        Self {
            spec,
            selector: spec["nodeSelector"].as_object(),
            required: array(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]),
            preferred: array(&affinity["preferredDuringSchedulingIgnoredDuringExecution"]).unwrap_or_default(),
        }
    }
}

/// A host as a node of a cluster.
pub fn of_host(snapshot: &Snapshot, cluster: &str, host: &Host) -> Node {
    let said = snapshot.at::<KubeObject>(&node::key(cluster, &host.name));
    Node::of(host, said.map(|said| said.value))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Node {
    /// A host, and what a cluster says of it.
    pub fn of(host: &Host, said: Option<&KubeObject>) -> Self {
        let said = said.map_or(&Value::Null, |said| &said.body);
        let own = said["metadata"]["labels"].as_object().into_iter().flatten();
        let mut labels: BTreeMap<String, String> = own.map(|(label, value)| (label.clone(), text(value))).collect();
        labels.extend(node::labels(host).map(|(label, value)| (label.to_owned(), value.to_owned())));
        let of_host = node::taints(host).map(|(key, effect, _)| (key.to_owned(), String::new(), effect.to_owned()));
        let own = node::own_taints(said).map(|t| (text(&t["key"]), text(&t["value"]), text(&t["effect"])));
        let taints = of_host.chain(own).map(|(key, value, effect)| Taint { key, value, effect }).collect();
        Self { name: host.name.clone(), labels, taints, cordoned: said["spec"]["unschedulable"] == true }
    }

    /// Why a pod cannot be on the node, in kube-scheduler's words.
    pub fn refuses(&self, pod: &Requirements<'_>) -> Option<String> {
        if self.cordoned {
            let (key, effect) = ("node.kubernetes.io/unschedulable".into(), "NoSchedule".into());
            if !tolerated(pod.spec, &Taint { key, value: String::new(), effect }) {
                return Some("node(s) were unschedulable".into());
            }
        }
        if let Some(taint) = self.untolerated(pod) {
            return Some(format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value));
        }
        (!self.selected_by(pod)).then(|| "node(s) didn't match Pod's node affinity/selector".into())
    }

    /// A label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// Whether the pod tolerates all that keeps pods away.
    pub fn tolerated_by(&self, pod: &Requirements<'_>) -> bool {
        self.untolerated(pod).is_none()
    }

    fn untolerated(&self, pod: &Requirements<'_>) -> Option<&Taint> {
        let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
        self.taints.iter().filter(hard).find(|taint| !tolerated(pod.spec, taint))
    }

    /// Whether the node has what the pod's node selector and required node affinity name.
    pub fn selected_by(&self, pod: &Requirements<'_>) -> bool {
        let has = |(key, value): (&String, &Value)| self.labels.get(key).map(String::as_str) == value.as_str();
        pod.selector.is_none_or(|selector| selector.iter().all(has))
            && pod.required.is_none_or(|terms| terms.iter().any(|term| self.matches(term)))
    }

    /// How much better the pod likes this node than another, in thousandths of the scheduler's weight.
    pub fn preference(&self, pod: &Requirements<'_>) -> i64 {
        let liked: i64 = pod
            .preferred
            .iter()
            .filter(|term| self.matches(&term["preference"]))
            .filter_map(|term| term["weight"].as_i64())
            .map(|weight| weight.clamp(0, 100) * 10)
            .sum();
        let disliked = self.taints.iter().filter(|t| t.effect == "PreferNoSchedule" && !tolerated(pod.spec, t)).count();
        liked - 1000 * disliked as i64
    }

    /// A NodeSelectorTerm: all of its expressions and fields; an empty one matches nothing.
    fn matches(&self, term: &Value) -> bool {
        let (expressions, fields) = (&term["matchExpressions"], &term["matchFields"]);
        if list(expressions).next().is_none() && list(fields).next().is_none() {
            return false;
        }
        let labels =
            list(expressions).all(|e| meets(e, self.labels.get(e["key"].as_str().unwrap_or("")).map(String::as_str)));
        labels && list(fields).all(|e| e["key"] == "metadata.name" && meets(e, Some(&self.name)))
    }
}

/// A NodeSelectorRequirement.
fn meets(requirement: &Value, actual: Option<&str>) -> bool {
    let mut values = list(&requirement["values"]).filter_map(Value::as_str);
    let number = |text: &str| text.parse::<i64>().ok();
    match requirement["operator"].as_str().unwrap_or("") {
        "In" => actual.is_some_and(|a| values.any(|v| v == a)),
        "NotIn" => actual.is_none_or(|a| !values.any(|v| v == a)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        operator @ ("Gt" | "Lt") => match (actual.and_then(number), values.next().and_then(number)) {
            (Some(a), Some(b)) => {
                if operator == "Gt" {
                    a > b
                } else {
                    a < b
                }
            }
            _ => false,
        },
        _ => false,
    }
}

/// The taints of a node that push pods off it.
pub fn pushing(node: &Value) -> impl Iterator<Item = &Value> {
    list(&node["spec"]["taints"]).filter(|taint| taint["effect"] == "NoExecute")
}

/// For how many seconds at most a pod bears the taints of a node that push pods off it. `None`: for ever.
pub fn bears(pod: &Value, node: &Value) -> Option<i64> {
    let mut least: Option<i64> = None;
    for taint in pushing(node) {
        let text = |field: &str| taint[field].as_str().unwrap_or("").to_owned();
        let taint = Taint { key: text("key"), value: text("value"), effect: text("effect") };
        let mut matching = tolerations(&pod["spec"], &taint).peekable();
        if matching.peek().is_none() {
            return Some(0);
        }
        let seconds = matching.filter_map(|toleration| toleration["tolerationSeconds"].as_i64()).min();
        least = match (least, seconds) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    least.map(|seconds| seconds.max(0))
}

fn tolerated(spec: &Value, taint: &Taint) -> bool {
    tolerations(spec, taint).next().is_some()
}

/// What of a pod tolerates a taint.
fn tolerations<'a>(spec: &'a Value, taint: &'a Taint) -> impl Iterator<Item = &'a Value> {
    list(&spec["tolerations"]).filter(|t| {
        let effect = t["effect"].as_str().unwrap_or("");
        let key = t["key"].as_str().unwrap_or("");
        let exists = t["operator"].as_str() == Some("Exists");
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && exists))
            && (exists || t["value"].as_str().unwrap_or("") == taint.value)
    })
}
