//! Defaults of a pod's specification, for pods and for the templates of what makes pods.

use serde_json::{Value, json};

use crate::strategy::{default, items_mut, object};

/// Fills in what a pod's specification leaves out.
pub fn pod_spec(spec: &mut Value) {
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    object(spec, "securityContext");
    // Two names for one thing; the older is kept for old clients.
    match (spec["serviceAccountName"].as_str(), spec["serviceAccount"].as_str()) {
        (Some(name), _) if !name.is_empty() => spec["serviceAccount"] = name.to_owned().into(),
        (_, Some(name)) if !name.is_empty() => spec["serviceAccountName"] = name.to_owned().into(),
        _ => {}
    }
    let host_network = spec["hostNetwork"] == true;
    for field in ["initContainers", "containers"] {
        for item in items_mut(spec, field) {
            container(item, host_network);
        }
    }
    for volume in items_mut(spec, "volumes") {
        self::volume(volume);
    }
}

fn container(container: &mut Value, host_network: bool) {
    if container["imagePullPolicy"].as_str().is_none_or(str::is_empty) {
        container["imagePullPolicy"] = pull_policy(container["image"].as_str().unwrap_or("")).into();
    }
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    resources(&mut container["resources"]);
    for port in items_mut(container, "ports") {
        default(port, "protocol", "TCP");
        if host_network && port["hostPort"].is_null() {
            port["hostPort"] = port["containerPort"].clone();
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(value) = container.get_mut(probe) {
            self::probe(value);
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(value) = lifecycle.get_mut(hook) {
                http_get(value);
            }
        }
    }
    for env in items_mut(container, "env") {
        if let Some(field) = env.get_mut("valueFrom").and_then(|v| v.get_mut("fieldRef")) {
            default(field, "apiVersion", "v1");
        }
    }
}

/// A limit without a request requests as much.
fn resources(resources: &mut Value) {
    let Some(limits) = resources["limits"].as_object().cloned() else { return };
    let requests = object(resources, "requests");
    for (name, limit) in limits {
        default(requests, &name, limit);
    }
}

/// `Always` for images without a tag or with `latest`, else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe[field].as_i64().unwrap_or(0) == 0 {
            probe[field] = value.into();
        }
    }
    http_get(probe);
    if let Some(grpc) = probe.get_mut("grpc") {
        default(grpc, "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        default(get, "path", "/");
        default(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |v| v.len());
    if sources == 1 && volume["name"].is_string() {
        volume["emptyDir"] = json!({});
    }
    for (source, mode) in [("configMap", 0o644), ("secret", 0o644), ("downwardAPI", 0o644), ("projected", 0o644)] {
        if let Some(value) = volume.get_mut(source) {
            default(value, "defaultMode", mode);
            if source == "projected" {
                for part in items_mut(value, "sources") {
                    if let Some(token) = part.get_mut("serviceAccountToken") {
                        default(token, "expirationSeconds", 3600);
                    }
                    field_refs(part.get_mut("downwardAPI"));
                }
            }
        }
    }
    field_refs(volume.get_mut("downwardAPI"));
    if let Some(path) = volume.get_mut("hostPath") {
        default(path, "type", "");
    }
}

fn field_refs(downward: Option<&mut Value>) {
    let Some(downward) = downward else { return };
    for item in items_mut(downward, "items") {
        if let Some(field) = item.get_mut("fieldRef") {
            default(field, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_filled_in() {
        let mut spec = json!({
            "containers": [{"name": "a", "image": "nginx", "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
            "volumes": [{"name": "v"}]
        });
        pod_spec(&mut spec);
        let container = &spec["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/");
        assert_eq!(container["readinessProbe"]["failureThreshold"], 3);
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(model::pod::qos_class(&spec), "Guaranteed");
        assert_eq!(pull_policy("registry:5000/a/b"), "Always");
        assert_eq!(pull_policy("registry:5000/a/b:1"), "IfNotPresent");
    }
}
