//! Nodes.

use k8s_openapi::api::core;
use serde_json::Value;

use crate::kind::{Given::Nobody, Kind};
use crate::strategy::{Column, Strategy, age_column, column, items, name_column, wide};
use crate::validate::Errors;

pub fn kind() -> Kind {
    Kind::of::<core::v1::Node>(Node)
        .short("no")
        .status()
        .given(Nobody("hosts are shared by projects"))
        .no_table("hosts write it, of users' fields taints and `unschedulable` are acted on")
}

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

    fn selectable(&self) -> Vec<&str> {
        vec!["spec.unschedulable"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Status", |node, _| status(node).into()),
            column("Roles", |node, _| roles(node).into()),
            age_column(),
            column("Version", |node, _| info(node, "kubeletVersion", "")),
            wide("Internal-IP", |node, _| address(node, "InternalIP")),
            wide("External-IP", |node, _| address(node, "ExternalIP")),
            wide("OS-Image", |node, _| info(node, "osImage", "<unknown>")),
            wide("Kernel-Version", |node, _| info(node, "kernelVersion", "<unknown>")),
            wide("Container-Runtime", |node, _| info(node, "containerRuntimeVersion", "<unknown>")),
        ]
    }
}

fn info(node: &Value, field: &str, none: &str) -> Value {
    node["status"]["nodeInfo"][field].as_str().filter(|t| !t.is_empty()).unwrap_or(none).into()
}

fn address(node: &Value, kind: &str) -> Value {
    let address = items(&node["status"], "addresses").find(|a| a["type"] == kind);
    address.and_then(|a| a["address"].as_str()).unwrap_or("<none>").into()
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
