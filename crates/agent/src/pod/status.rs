//! A pod's status, computed from a fresh look at the runtime, never from what it was before, save for the moments at
//! which conditions turned.

use driver::{ContainerState, SeenContainer, SeenPod};
use k8s_openapi::api::core::v1::{Container, Pod};
use model::{Port, Time, seconds};
use serde_json::{Map, Value, json};

use super::find::newest;
use super::news::{Said, Waiting, sidecar};
use super::probe::Results;
use super::termination;
use crate::Agent;

/// All that a status is made from.
pub struct Observed<'a> {
    pub agent: &'a Agent,
    pub pod: &'a Pod,
    pub seen: Option<&'a SeenPod>,
    pub said: &'a Said,
    pub probes: &'a Results,
    pub port: Option<&'a Port>,
    pub host_ip: Option<String>,
    pub now: Time,
}

impl Observed<'_> {
    /// The whole `status`; `before` gives moments, the QoS class and conditions of other writers.
    pub fn status(&self, before: &Value) -> Value {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let init: Vec<Value> = spec.init_containers.iter().flatten().map(|c| self.container(c, true)).collect();
        let containers: Vec<Value> = spec.containers.iter().map(|c| self.container(c, false)).collect();
        let phase = self.phase(before, &init, &containers);
        let ended = matches!(phase, "Succeeded" | "Failed");
        let beside = |c: &Value| spec.init_containers.iter().flatten().any(|i| sidecar(i) && c["name"] == *i.name);
        let serving: Vec<Value> = init.iter().filter(|c| beside(c)).chain(&containers).cloned().collect();
        let all_ready = serving.iter().all(|c| c["ready"] == true) && !ended;
        let initialized = init.iter().all(|c| match beside(c) {
            true => c["started"] == true || ended,
            false => c["state"]["terminated"]["exitCode"] == 0,
        });
        let gates_open = spec.readiness_gates.iter().flatten().all(|gate| {
            let conditions = before["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|c| c["type"] == *gate.condition_type && c["status"] == "True")
        });
        let unready = match (ended, all_ready) {
            (true, _) => "PodCompleted",
            (false, false) => "ContainersNotReady",
            (false, true) => "ReadinessGatesNotReady",
        };
        let mut status = before.as_object().cloned().unwrap_or_default();
        status.insert("phase".into(), json!(phase));
        let conditions = [
            ("PodReadyToStartContainers", self.seen.is_some_and(|s| s.ready), ""),
            ("Initialized", initialized, "ContainersNotInitialized"),
            ("Ready", all_ready && gates_open, unready),
            ("ContainersReady", all_ready, if ended { "PodCompleted" } else { "ContainersNotReady" }),
            ("PodScheduled", true, ""),
        ];
        status.insert("conditions".into(), self.conditions(&before["conditions"], &conditions, &serving));
        status.insert("containerStatuses".into(), json!(containers));
        if !init.is_empty() {
            status.insert("initContainerStatuses".into(), json!(init));
        }
        self.addresses(&mut status);
        if self.seen.is_some() && !status.contains_key("startTime") {
            status.insert("startTime".into(), json!(seconds(self.now)));
        }
        if let Some((reason, message)) = &self.said.failed {
            status.insert("reason".into(), json!(reason));
            status.insert("message".into(), json!(message));
        }
        match self.said.waiting.get("") {
            _ if status.contains_key("reason") => {}
            Some(why) if !ended && phase == "Pending" => {
                status.insert("message".into(), json!(why.message));
            }
            _ => {
                status.remove("message");
            }
        }
        Value::Object(status)
    }

    fn addresses(&self, status: &mut Map<String, Value>) {
        let ips: Vec<String> = self.port.iter().flat_map(|p| &p.fixed_ips).map(|f| f.ip.to_string()).collect();
        if let Some(host) = &self.host_ip {
            status.insert("hostIP".into(), json!(host));
            status.insert("hostIPs".into(), json!([{"ip": host}]));
        }
        if let Some(first) = ips.first() {
            status.insert("podIP".into(), json!(first));
            status.insert("podIPs".into(), ips.iter().map(|ip| json!({"ip": ip})).collect());
        }
    }

    fn phase(&self, before: &Value, init: &[Value], containers: &[Value]) -> &'static str {
        match before["phase"].as_str() {
            Some("Succeeded") => return "Succeeded",
            Some("Failed") => return "Failed",
            _ => {}
        }
        if self.said.failed.is_some() {
            return "Failed";
        }
        let policy = self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always");
        let code = |c: &Value| c["state"]["terminated"]["exitCode"].as_i64();
        if policy == "Never" && init.iter().any(|c| code(c).is_some_and(|code| code != 0)) {
            return "Failed";
        }
        let codes: Vec<Option<i64>> = containers.iter().map(code).collect();
        if !codes.is_empty() && codes.iter().all(Option::is_some) && policy != "Always" {
            if codes.iter().all(|c| *c == Some(0)) {
                return "Succeeded";
            }
            if policy == "Never" {
                return "Failed";
            }
        }
        let started = |c: &Value| {
            c["state"]["running"].is_object() || c["lastState"].get("terminated").is_some() || code(c).is_some()
        };
        if containers.iter().any(started) { "Running" } else { "Pending" }
    }

    fn conditions(&self, before: &Value, wanted: &[(&str, bool, &str)], containers: &[Value]) -> Value {
        let names: Vec<&str> =
            containers.iter().filter(|c| c["ready"] != true).filter_map(|c| c["name"].as_str()).collect();
        let old = |kind: &str| before.as_array().into_iter().flatten().find(|c| c["type"] == kind);
        let mut conditions: Vec<Value> = wanted
            .iter()
            .map(|(kind, holds, reason)| {
                let status = if *holds { "True" } else { "False" };
                let since = match old(kind) {
                    Some(c) if c["status"] == status => c["lastTransitionTime"].clone(),
                    _ => json!(seconds(self.now)),
                };
                let mut condition = json!({
                    "type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since,
                });
                if !holds && !reason.is_empty() {
                    condition["reason"] = json!(reason);
                    if *reason == "ContainersNotReady" {
                        condition["message"] = json!(format!("containers with unready status: [{}]", names.join(" ")));
                    }
                }
                condition
            })
            .collect();
        // Conditions of other writers (readiness gates) stay.
        let others = before.as_array().into_iter().flatten();
        conditions.extend(others.filter(|c| !wanted.iter().any(|(kind, ..)| c["type"] == **kind)).cloned());
        Value::Array(conditions)
    }

    fn container(&self, container: &Container, init: bool) -> Value {
        let name = &container.name;
        let newest = newest(self.seen, name);
        let waiting = self.said.waiting.get(name).or_else(|| self.said.waiting.get(""));
        let empty = Waiting { reason: "ContainerCreating".into(), message: String::new() };
        let wait = |why: &Waiting| {
            let mut state = json!({"reason": why.reason});
            if !why.message.is_empty() {
                state["message"] = json!(why.message);
            }
            json!({"waiting": state})
        };
        let (state, last, running) = match newest.map(|c| (&c.state, c)) {
            Some((ContainerState::Running { started }, c)) => {
                (json!({"running": {"startedAt": seconds(*started)}}), self.previous(container, c.attempt), true)
            }
            Some((ContainerState::Exited { .. }, c)) => match self.said.waiting.get(name) {
                // It is about to be started again: what it was is its last state.
                Some(why) => (wait(why), self.terminated(container, c), false),
                None => (self.terminated(container, c), self.previous(container, c.attempt), false),
            },
            Some((_, c)) => (wait(waiting.unwrap_or(&empty)), self.previous(container, c.attempt), false),
            None => (wait(waiting.unwrap_or(&empty)), json!({}), false),
        };
        let started = running && self.probes.started(name);
        let ready = if init && !sidecar(container) {
            state["terminated"]["exitCode"] == 0
        } else {
            started && self.probes.ready(name, container.readiness_probe.is_some())
        };
        json!({
            "name": name,
            "image": newest.map_or(container.image.as_deref().unwrap_or(""), |c| c.image.as_str()),
            "imageID": newest.map_or(String::new(), |c| image_id(&c.image, &c.image_ref)),
            "containerID": newest.map_or(String::new(), |c| format!("containerd://{}", c.id)),
            "restartCount": newest.map_or(0, |c| c.attempt),
            "ready": ready, "started": started, "state": state, "lastState": last,
        })
    }

    fn previous(&self, container: &Container, attempt: u32) -> Value {
        let all = self.seen.iter().flat_map(|s| &s.containers);
        let last = all.filter(|c| c.name == container.name && c.attempt < attempt).max_by_key(|c| c.attempt);
        last.map_or(json!({}), |c| self.terminated(container, c))
    }

    fn terminated(&self, container: &Container, seen: &SeenContainer) -> Value {
        let ContainerState::Exited { code, reason, message, started, finished } = &seen.state else { return json!({}) };
        let reason = if !reason.is_empty() {
            reason.as_str()
        } else if *code == 0 {
            "Completed"
        } else {
            "Error"
        };
        let mut body = json!({
            "exitCode": code, "reason": reason, "startedAt": seconds(*started), "finishedAt": seconds(*finished),
            "containerID": format!("containerd://{}", seen.id),
        });
        let uid = self.pod.metadata.uid.as_deref().unwrap_or("");
        let own = termination::message(self.agent, uid, container, seen, *code);
        let message = if own.is_empty() { message } else { &own };
        if !message.is_empty() {
            body["message"] = json!(message);
        }
        json!({"terminated": body})
    }
}

/// What a container runs, by the name under which its pod asked for it. The runtime keeps the same bytes once and names
/// whoever brought them first, which may be another project's repository.
fn image_id(image: &str, image_ref: &str) -> String {
    let Some((_, digest)) = image_ref.rsplit_once('@') else { return image_ref.to_owned() };
    let name = image.split('@').next().unwrap_or_default();
    let tag = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    format!("{}@{digest}", &name[..tag.unwrap_or(name.len())])
}

#[cfg(test)]
mod tests {
    use super::image_id;

    #[test]
    fn an_image_is_named_as_its_pod_named_it() {
        let theirs = "127.0.0.1:8443/other/secret@sha256:ab";
        assert_eq!(image_id("127.0.0.1:8443/mine/app:1", theirs), "127.0.0.1:8443/mine/app@sha256:ab");
        assert_eq!(image_id("127.0.0.1:8443/mine/app", theirs), "127.0.0.1:8443/mine/app@sha256:ab");
        assert_eq!(image_id("localhost/app:1@sha256:ab", theirs), "localhost/app@sha256:ab");
        assert_eq!(image_id("app", "sha256:ab"), "sha256:ab");
    }
}
