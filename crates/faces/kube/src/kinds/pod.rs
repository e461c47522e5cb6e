//! Pods.

use std::collections::HashSet;

use k8s_openapi::api::{core, policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use model::{Aggregates, Cluster, Host, KubeObject, Snapshot, Time, node};
use serde_json::Value;

use super::{pod_validation, template};
use crate::denied::Denied;
use crate::kind::{
    ApiResource,
    Given::{Edit, Nobody, View},
    STREAM, Subresource, schema, sub,
};
use crate::strategy::{
    Column, Context, Result, Strategy, age_column, column, default, duration, items, name_column, object, wide,
};
use crate::validate::Errors;

const SUBRESOURCES: &[Subresource] = &[
    sub("attach", "", "v1", "PodAttachOptions", STREAM, Edit),
    sub("binding", "", "v1", "Binding", &["create"], Nobody("for schedulers")),
    sub("eviction", "policy", "v1", "Eviction", &["create"], Edit),
    sub("exec", "", "v1", "PodExecOptions", STREAM, Edit),
    sub("log", "", "v1", "Pod", &["get"], View),
    sub("portforward", "", "v1", "PodPortForwardOptions", STREAM, Edit),
];

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::Pod>(Pod)
        .short("po")
        .given(View)
        .all()
        .status()
        .generation()
        .with(SUBRESOURCES, &[schema::<core::v1::Binding>, schema::<policy::v1::Eviction>, schema::<DeleteOptions>])
        .fields(super::pod_fields::TABLE)
}

pub struct Pod;

impl Strategy for Pod {
    fn default(&self, pod: &mut Value) {
        let spec = object(pod, "spec");
        default(spec, "enableServiceLinks", true);
        template::pod_spec(spec);
    }

    fn create(&self, pod: &mut Value, context: &Context<'_>) -> Result<()> {
        if let Some(host) = pod["spec"]["nodeName"].as_str().filter(|host| !host.is_empty()) {
            check_node(context.snapshot, context.cluster, host)?;
        }
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
        let key =
            KubeObject::key_of(&context.cluster.id, "", "serviceaccounts", namespace, model::pod::account_name(pod));
        let account = context.snapshot.at::<KubeObject>(&key).map(|row| &row.value.body);
        model::pod::admit(pod, account, &crate::meta::suffix()).map_err(Denied::Forbidden)
    }

    fn update(&self, new: &mut Value, old: &Value, _: &Context<'_>) -> Result<()> {
        // What admission set at creation and the client's manifest does not repeat.
        for field in ["serviceAccountName", "serviceAccount", "priority", "preemptionPolicy", "nodeName"] {
            if new["spec"][field].is_null() && !old["spec"][field].is_null() {
                new["spec"][field] = old["spec"][field].clone();
            }
        }
        Ok(())
    }

    fn validate(&self, pod: &Value, errors: &mut Errors) {
        pod_validation::spec(&pod["spec"], "spec", errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        pod_validation::update(new, old, errors);
    }

    fn selectable(&self) -> Vec<&str> {
        vec![
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Ready", |pod, _| {
                let total = items(&pod["spec"], "containers").count();
                let statuses = items(&pod["status"], "containerStatuses");
                let ready = statuses.filter(|c| c["ready"] == true && c["state"]["running"].is_object()).count();
                format!("{ready}/{total}").into()
            }),
            column("Status", |pod, _| reason(pod).into()),
            column("Restarts", |pod, now| restarts(&pod["status"], now).into()),
            age_column(),
            wide("IP", |pod, _| text(&pod["status"]["podIP"])),
            wide("Node", |pod, _| text(&pod["spec"]["nodeName"])),
            wide("Nominated Node", |pod, _| text(&pod["status"]["nominatedNodeName"])),
            wide("Readiness Gates", |pod, _| gates(pod)),
        ]
    }

    fn shows_deleted(&self) -> bool {
        true
    }

    /// Only what runs on a host keeps running.
    fn grace(&self, pod: &KubeObject, asked: Option<i64>) -> i64 {
        let spec = &pod.body["spec"];
        if spec["nodeName"].as_str().is_none_or(str::is_empty) || pod.pod_finished() {
            return 0;
        }
        asked.or(spec["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30).clamp(0, i64::from(i32::MAX))
    }
}

fn text(value: &Value) -> Value {
    value.as_str().filter(|t| !t.is_empty()).unwrap_or("<none>").into()
}

/// How many readiness gates are met, of how many.
fn gates(pod: &Value) -> Value {
    let gates = items(&pod["spec"], "readinessGates");
    let total = gates.len();
    if total == 0 {
        return "<none>".into();
    }
    let conditions = || items(&pod["status"], "conditions");
    let met = |gate: &&Value| conditions().any(|c| c["type"] == gate["conditionType"] && c["status"] == "True");
    format!("{}/{total}", gates.filter(met).count()).into()
}

/// Refuses a node that is no host which the cluster sees. Whether there is a host of that name for others it is not told, and
/// a Node that it made itself gives it no place on a host that gets this name later.
pub fn check_node(snapshot: &Snapshot, cluster: &Cluster, name: &str) -> Result<()> {
    if snapshot.get::<Host>(name).is_some() && Aggregates::of(snapshot).admits(name, &cluster.project_id) {
        return Ok(());
    }
    let own = snapshot.at::<KubeObject>(&node::key(&cluster.id, name));
    Err(Denied::Forbidden(match own.is_some_and(|own| !own.value.is_of_host()) {
        true => format!("node {name:?} is no host of the cloud: nothing would start the pod there"),
        false => format!("there is no node {name:?} for this cluster"),
    }))
}

/// The word in the column STATUS, by kubectl's own rules.
fn reason(pod: &Value) -> String {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let mut reason = status["reason"].as_str().or(status["phase"].as_str()).unwrap_or("Unknown").to_owned();
    if items(status, "conditions").any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let mut initializing = false;
    let total = items(spec, "initContainers").count();
    let sidecars = items(spec, "initContainers").filter(|c| c["restartPolicy"] == "Always");
    let sidecars: HashSet<&str> = sidecars.filter_map(|c| c["name"].as_str()).collect();
    for (i, container) in items(status, "initContainerStatuses").enumerate() {
        let sidecar = container["name"].as_str().is_some_and(|name| sidecars.contains(name));
        let (ended, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
        if ended["exitCode"] == 0 || (sidecar && container["started"] == true) {
            continue;
        }
        reason = if ended.is_object() {
            format!("Init:{}", ended_reason(ended))
        } else {
            match waiting["reason"].as_str() {
                Some(why) if !why.is_empty() && why != "PodInitializing" => format!("Init:{why}"),
                _ => format!("Init:{i}/{total}"),
            }
        };
        initializing = true;
        break;
    }
    let initialized = items(status, "conditions").any(|c| c["type"] == "Initialized" && c["status"] == "True");
    if !initializing || initialized {
        let mut running = false;
        for container in items(status, "containerStatuses").rev() {
            let (ended, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
            if let Some(why) = waiting["reason"].as_str().filter(|w| !w.is_empty()) {
                reason = why.to_owned();
            } else if ended.is_object() {
                reason = ended_reason(ended);
            } else if container["ready"] == true && container["state"]["running"].is_object() {
                running = true;
            }
        }
        if reason == "Completed" && running {
            let ready = items(status, "conditions").any(|c| c["type"] == "Ready" && c["status"] == "True");
            reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        if status["reason"] == "NodeLost" {
            return "Unknown".to_owned();
        }
        if !matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
            return "Terminating".to_owned();
        }
    }
    reason
}

fn ended_reason(ended: &Value) -> String {
    match ended["reason"].as_str().filter(|r| !r.is_empty()) {
        Some(reason) => reason.to_owned(),
        None => match ended["signal"].as_i64().filter(|s| *s != 0) {
            Some(signal) => format!("Signal:{signal}"),
            None => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or(0)),
        },
    }
}

/// The column RESTARTS: `3 (2m ago)`.
fn restarts(status: &Value, now: Time) -> String {
    let count: i64 = items(status, "containerStatuses").map(|c| c["restartCount"].as_i64().unwrap_or(0)).sum();
    let last = items(status, "containerStatuses")
        .filter_map(|c| c["lastState"]["terminated"]["finishedAt"].as_str()?.parse::<Time>().ok())
        .max();
    match last {
        Some(last) if count > 0 => {
            format!("{count} ({} ago)", duration(now.as_second().saturating_sub(last.as_second())))
        }
        _ => count.to_string(),
    }
}
