//! Nodes.

use model::Time;
use serde_json::Value;

use super::{Column, Strategy, age, column, items, name, wide};
use crate::validate::Errors;

pub struct Node;

impl Strategy for Node {
    fn validate(&self, node: &Value, errors: &mut Errors) {
        for (i, taint) in items(&node["spec"], "taints").enumerate() {
            let at = format!("spec.taints[{i}]");
            if let Some(problem) = taint["key"].as_str().and_then(crate::validate::key_problem) {
                errors.invalid(format!("{at}.key"), &taint["key"], problem);
            }
            errors.one_of(format!("{at}.effect"), &taint["effect"], &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for field in ["podCIDR", "podCIDRs", "providerID"] {
            let (new, old) = (&new["spec"][field], &old["spec"][field]);
            if !old.is_null() && new != old {
                errors.forbidden(format!("spec.{field}"), "node updates may not change it once it is set");
            }
        }
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            super::NAME,
            column("Status"),
            column("Roles"),
            super::AGE,
            column("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ];
        COLUMNS
    }

    fn cells(&self, node: &Value, now: Time) -> Vec<Value> {
        let info = &node["status"]["nodeInfo"];
        let text = |value: &Value, none: &str| value.as_str().filter(|t| !t.is_empty()).unwrap_or(none).to_owned();
        let address = |kind: &str| {
            items(&node["status"], "addresses")
                .find(|a| a["type"] == kind)
                .and_then(|a| a["address"].as_str())
                .unwrap_or("<none>")
                .to_owned()
        };
        vec![
            name(node),
            status(node).into(),
            roles(node).into(),
            age(node, now),
            text(&info["kubeletVersion"], "").into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            text(&info["osImage"], "<unknown>").into(),
            text(&info["kernelVersion"], "<unknown>").into(),
            text(&info["containerRuntimeVersion"], "<unknown>").into(),
        ]
    }
}

fn status(node: &Value) -> String {
    let ready = items(&node["status"], "conditions").find(|c| c["type"] == "Ready");
    let mut text = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object();
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flat_map(|l| l.keys())
        .filter_map(|k| k.strip_prefix("node-role.kubernetes.io/"))
        .filter(|r| !r.is_empty())
        .collect();
    if let Some(role) = node["metadata"]["labels"]["kubernetes.io/role"].as_str() {
        roles.push(role);
    }
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}
