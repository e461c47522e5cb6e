//! The rules of a pod's specification, alone and in the templates of what makes pods.

use std::collections::HashSet;

use serde_json::Value;

use super::{placement_validation, template};
use crate::patch::places::Name;
use crate::strategy::{items, items_mut};
use crate::validate::{self, Errors, NameRule, is_label, name_problem};

/// A pod's specification, at `at`.
pub fn spec(spec: &Value, at: &str, errors: &mut Errors) {
    if items(spec, "containers").len() == 0 {
        errors.required(format!("{at}.containers"), "");
    }
    let volumes = volumes(spec, at, errors);
    let mut names = HashSet::new();
    for (field, init) in [("initContainers", true), ("containers", false)] {
        for (i, item) in items(spec, field).enumerate() {
            let at = format!("{at}.{field}[{i}]");
            container(item, &at, init, &volumes, errors);
            if let Some(name) = item["name"].as_str()
                && !names.insert(name)
            {
                errors.duplicate(format!("{at}.name"), &item["name"]);
            }
        }
    }
    errors.one_of(format!("{at}.restartPolicy"), &spec["restartPolicy"], &["Always", "OnFailure", "Never"]);
    errors.one_of(
        format!("{at}.dnsPolicy"),
        &spec["dnsPolicy"],
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    errors.non_negative(format!("{at}.terminationGracePeriodSeconds"), &spec["terminationGracePeriodSeconds"]);
    if spec["activeDeadlineSeconds"].as_i64().is_some_and(|n| n < 1) {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.invalid(format!("{at}.activeDeadlineSeconds"), &spec["activeDeadlineSeconds"], detail);
    }
    for (field, rule) in [
        ("nodeName", NameRule::Subdomain),
        ("serviceAccountName", NameRule::Subdomain),
        ("hostname", NameRule::Label),
        ("subdomain", NameRule::Label),
    ] {
        let value = &spec[field];
        if let Some(problem) = value.as_str().filter(|t| !t.is_empty()).and_then(|t| name_problem(rule, t)) {
            errors.invalid(format!("{at}.{field}"), value, problem);
        }
    }
    errors.one_of(format!("{at}.os.name"), &spec["os"]["name"], &["linux"]);
    if spec["dnsPolicy"] == "None" && items(&spec["dnsConfig"], "nameservers").len() == 0 {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.required(format!("{at}.dnsConfig.nameservers"), detail);
    }
    for (i, alias) in items(spec, "hostAliases").enumerate() {
        if alias["ip"].as_str().is_none_or(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
            errors.invalid(format!("{at}.hostAliases[{i}].ip"), &alias["ip"], "must be a valid IP address");
        }
    }
    validate::labels(&spec["nodeSelector"], &format!("{at}.nodeSelector"), errors);
    if spec["hostNetwork"] == true {
        for (i, container) in items(spec, "containers").enumerate() {
            for (j, port) in items(container, "ports").enumerate() {
                if port["hostPort"] != port["containerPort"] {
                    let field = format!("{at}.containers[{i}].ports[{j}].hostPort");
                    errors.invalid(field, &port["hostPort"], "must match `containerPort` when `hostNetwork` is true");
                }
            }
        }
    }
    tolerations(spec, at, errors);
    placement_validation::check(spec, at, errors);
}

fn volumes<'a>(spec: &'a Value, at: &str, errors: &mut Errors) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (i, volume) in items(spec, "volumes").enumerate() {
        let at = format!("{at}.volumes[{i}]");
        match volume["name"].as_str() {
            None | Some("") => errors.required(format!("{at}.name"), ""),
            Some(name) => {
                if let Some(problem) = name_problem(NameRule::Label, name) {
                    errors.invalid(format!("{at}.name"), &volume["name"], problem);
                }
                if !names.insert(name) {
                    errors.duplicate(format!("{at}.name"), &volume["name"]);
                }
            }
        }
        if volume.as_object().is_some_and(|v| v.len() > 2) {
            errors.forbidden(at.clone(), "may not specify more than 1 volume type");
        }
        if volume["hostPath"].is_object() && volume["hostPath"]["path"].as_str().is_none_or(str::is_empty) {
            errors.required(format!("{at}.hostPath.path"), "");
        }
        errors.one_of(format!("{at}.emptyDir.medium"), &volume["emptyDir"]["medium"], &["", "Memory"]);
        if !volume["emptyDir"]["sizeLimit"].is_null() {
            validate::quantity(format!("{at}.emptyDir.sizeLimit"), &volume["emptyDir"]["sizeLimit"], errors);
        }
        if volume["secret"].is_object() && volume["secret"]["secretName"].as_str().is_none_or(str::is_empty) {
            errors.required(format!("{at}.secret.secretName"), "");
        }
    }
    names
}

fn container(container: &Value, at: &str, init: bool, volumes: &HashSet<&str>, errors: &mut Errors) {
    match container["name"].as_str() {
        None | Some("") => errors.required(format!("{at}.name"), ""),
        Some(name) => {
            if let Some(problem) = name_problem(NameRule::Label, name) {
                errors.invalid(format!("{at}.name"), &container["name"], problem);
            }
        }
    }
    match container["image"].as_str() {
        None | Some("") => errors.required(format!("{at}.image"), ""),
        Some(image) if image.trim() != image => {
            errors.invalid(format!("{at}.image"), &container["image"], "must not have leading or trailing whitespace");
        }
        Some(_) => {}
    }
    errors.one_of(format!("{at}.imagePullPolicy"), &container["imagePullPolicy"], &["Always", "IfNotPresent", "Never"]);
    errors.one_of(
        format!("{at}.terminationMessagePolicy"),
        &container["terminationMessagePolicy"],
        &["FallbackToLogsOnError", "File"],
    );
    ports(container, at, errors);
    for (i, env) in items(container, "env").enumerate() {
        let at = format!("{at}.env[{i}]");
        if env["name"].as_str().is_none_or(str::is_empty) {
            errors.required(format!("{at}.name"), "");
        }
        if env["valueFrom"].is_object() && env["value"].as_str().is_some_and(|v| !v.is_empty()) {
            errors.invalid(
                format!("{at}.valueFrom"),
                &Value::from(""),
                "may not be specified when `value` is not empty",
            );
        }
    }
    mounts(container, at, volumes, errors);
    resources(&container["resources"], &format!("{at}.resources"), errors);
    let sidecar = container["restartPolicy"] == "Always";
    if init {
        errors.one_of(format!("{at}.restartPolicy"), &container["restartPolicy"], &["Always"]);
        if container["lifecycle"].is_object() && !sidecar {
            errors.forbidden(
                format!("{at}.lifecycle"),
                "may not be set for init containers without restartPolicy=Always",
            );
        }
    } else if !container["restartPolicy"].is_null() {
        errors.forbidden(format!("{at}.restartPolicy"), "may not be set for non-init containers");
    }
    for hook in ["postStart", "preStop"].into_iter().filter(|hook| container["lifecycle"][*hook].is_object()) {
        let kinds = ["exec", "httpGet", "sleep", "tcpSocket"].into_iter();
        match kinds.filter(|kind| container["lifecycle"][hook][*kind].is_object()).count() {
            0 => errors.required(format!("{at}.lifecycle.{hook}"), "must specify a handler type"),
            1 => {}
            _ => errors.forbidden(format!("{at}.lifecycle.{hook}"), "may not specify more than 1 handler type"),
        }
        scheme(&container["lifecycle"][hook], &format!("{at}.lifecycle.{hook}"), errors);
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[probe].is_object() {
            if init && !sidecar {
                errors.forbidden(
                    format!("{at}.{probe}"),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
            self::probe(&container[probe], &format!("{at}.{probe}"), probe != "readinessProbe", errors);
        }
    }
}

fn ports(container: &Value, at: &str, errors: &mut Errors) {
    let (mut names, mut taken) = (HashSet::new(), HashSet::new());
    for (i, port) in items(container, "ports").enumerate() {
        let at = format!("{at}.ports[{i}]");
        if port["containerPort"].as_i64().unwrap_or(0) == 0 {
            errors.required(format!("{at}.containerPort"), "");
        }
        errors.port(format!("{at}.containerPort"), &port["containerPort"]);
        if port["hostPort"].as_i64() != Some(0) {
            errors.port(format!("{at}.hostPort"), &port["hostPort"]);
        }
        errors.one_of(format!("{at}.protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
        if let Some(name) = port["name"].as_str().filter(|n| !n.is_empty()) {
            if name.len() > 15
                || !is_label(name)
                || !name.bytes().any(|b| b.is_ascii_lowercase())
                || name.contains("--")
            {
                let detail = "must be an IANA service name: at most 15 lower case letters, digits and single '-', with at least one letter";
                errors.invalid(format!("{at}.name"), &port["name"], detail);
            }
            if !names.insert(name) {
                errors.duplicate(format!("{at}.name"), &port["name"]);
            }
        }
        if let Some(host_port) = port["hostPort"].as_i64().filter(|p| *p != 0)
            && !taken.insert((host_port, port["protocol"].as_str(), port["hostIP"].as_str()))
        {
            errors.duplicate(format!("{at}.hostPort"), &port["hostPort"]);
        }
    }
}

fn mounts(container: &Value, at: &str, volumes: &HashSet<&str>, errors: &mut Errors) {
    let mut paths = HashSet::new();
    for (i, mount) in items(container, "volumeMounts").enumerate() {
        let at = format!("{at}.volumeMounts[{i}]");
        match mount["name"].as_str() {
            None | Some("") => errors.required(format!("{at}.name"), ""),
            Some(name) if !volumes.contains(name) => errors.not_found(format!("{at}.name"), &mount["name"]),
            Some(_) => {}
        }
        match mount["mountPath"].as_str() {
            None | Some("") => errors.required(format!("{at}.mountPath"), ""),
            Some(path) if !paths.insert(path) => {
                errors.invalid(format!("{at}.mountPath"), &mount["mountPath"], "must be unique");
            }
            Some(_) => {}
        }
        let both = ["subPath", "subPathExpr"].iter().all(|f| mount[*f].as_str().is_some_and(|p| !p.is_empty()));
        if both {
            errors.invalid(
                format!("{at}.subPathExpr"),
                &mount["subPathExpr"],
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        if mount["subPath"].as_str().is_some_and(|p| p.starts_with('/') || p.split('/').any(|part| part == "..")) {
            errors.invalid(
                format!("{at}.subPath"),
                &mount["subPath"],
                "must be a relative path and must not contain '..'",
            );
        }
    }
}

fn resources(resources: &Value, at: &str, errors: &mut Errors) {
    for side in ["limits", "requests"] {
        for (name, value) in resources[side].as_object().into_iter().flatten() {
            if !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                let detail = "not offered: cpu, memory and ephemeral-storage are";
                errors.forbidden(format!("{at}.{side}[{name}]"), detail);
            }
            validate::quantity(format!("{at}.{side}[{name}]"), value, errors);
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let amount = |v: &Value| v.as_str().and_then(|q| model::quantity_milli(q).or_else(|| model::quantity_bytes(q)));
        if let (Some(asked), Some(limit)) = (amount(request), resources["limits"].get(name).and_then(amount))
            && asked > limit
        {
            let limit = resources["limits"][name.as_str()].as_str().unwrap_or("");
            errors.invalid(
                format!("{at}.requests"),
                request,
                &format!("must be less than or equal to {name} limit of {limit}"),
            );
        }
    }
}

fn probe(probe: &Value, at: &str, once: bool, errors: &mut Errors) {
    let handlers: Vec<&str> =
        ["exec", "httpGet", "tcpSocket", "grpc"].into_iter().filter(|h| probe[*h].is_object()).collect();
    match handlers[..] {
        [] => errors.required(at, "must specify a handler type"),
        [_] => {}
        _ => errors.forbidden(at, "may not specify more than 1 handler type"),
    }
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.non_negative(format!("{at}.{field}"), &probe[field]);
    }
    if once && probe["successThreshold"].as_i64().is_some_and(|n| n > 1) {
        errors.invalid(format!("{at}.successThreshold"), &probe["successThreshold"], "must be 1");
    }
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        let mut port = probe[handler]["port"].clone();
        if probe[handler].is_object() && port.is_null() {
            port = 0.into();
        }
        errors.port(format!("{at}.{handler}.port"), &port);
    }
    scheme(probe, at, errors);
    if probe["exec"].is_object() && items(&probe["exec"], "command").len() == 0 {
        errors.required(format!("{at}.exec.command"), "");
    }
}

fn scheme(handler: &Value, at: &str, errors: &mut Errors) {
    errors.one_of(format!("{at}.httpGet.scheme"), &handler["httpGet"]["scheme"], &["HTTP", "HTTPS"]);
}

fn tolerations(spec: &Value, at: &str, errors: &mut Errors) {
    for (i, toleration) in items(spec, "tolerations").enumerate() {
        let at = format!("{at}.tolerations[{i}]");
        errors.one_of(format!("{at}.operator"), &toleration["operator"], &["Equal", "Exists", ""]);
        errors.one_of(
            format!("{at}.effect"),
            &toleration["effect"],
            &["", "NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        let exists = toleration["operator"] == "Exists";
        if toleration["key"].as_str().is_none_or(str::is_empty) && !exists {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(format!("{at}.operator"), &toleration["operator"], detail);
        }
        if exists && toleration["value"].as_str().is_some_and(|v| !v.is_empty()) {
            errors.invalid(
                format!("{at}.operator"),
                &toleration["value"],
                "value must be empty when `operator` is 'Exists'",
            );
        }
    }
}

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What an update of a pod may change.
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    if new == old {
        return;
    }
    for field in ["containers", "initContainers"] {
        if items(new, field).len() != items(old, field).len() {
            errors.forbidden(format!("spec.{field}"), "pod updates may not add or remove containers");
            return;
        }
    }
    let names = |spec: &Value, field: &str| -> HashSet<Name> { items(spec, field).map(Name::of).collect() };
    if !names(old, "tolerations").is_subset(&names(new, "tolerations")) {
        errors.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    if !names(new, "schedulingGates").is_subset(&names(old, "schedulingGates")) {
        errors.forbidden("spec.schedulingGates", "only deletion is allowed, but found new scheduling gate");
        return;
    }
    // All that may change is taken from the old one; nothing else may differ then.
    let mut rest = new.clone();
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        match old.get(field) {
            Some(value) => rest[field] = value.clone(),
            None => {
                rest.as_object_mut().map(|r| r.remove(field));
            }
        }
    }
    for field in ["containers", "initContainers"] {
        for (container, before) in items_mut(&mut rest, field).zip(items(old, field)) {
            container["image"] = before["image"].clone();
        }
    }
    if rest != *old {
        errors.forbidden("spec", MAY_CHANGE);
    }
}

/// The rules of a pod template at `at` whose pods are to run for ever.
pub fn template(template: &Value, at: &str, selector: &Value, errors: &mut Errors) {
    any_template(template, at, selector, &["Always"], errors);
    if template["spec"]["activeDeadlineSeconds"].is_number() {
        errors.forbidden(
            format!("{at}.spec.activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}

/// The same of one whose pods are to come to an end.
pub fn template_of_job(template: &Value, at: &str, selector: &Value, errors: &mut Errors) {
    any_template(template, at, selector, &["OnFailure", "Never"], errors);
}

fn any_template(template: &Value, at: &str, selector: &Value, policies: &[&str], errors: &mut Errors) {
    validate::metadata(&template["metadata"], &format!("{at}.metadata"), errors);
    let labels = &template["metadata"]["labels"];
    if !crate::selectors::LabelSelector::of(selector).matches(labels) {
        errors.invalid(format!("{at}.metadata.labels"), labels, "`selector` does not match template `labels`");
    }
    spec(&template["spec"], &format!("{at}.spec"), errors);
    let policy = &template["spec"]["restartPolicy"];
    if !policies.iter().any(|known| policy == known) {
        errors.unsupported(format!("{at}.spec.restartPolicy"), policy, policies);
    }
}

/// Fills in what a pod template leaves out.
pub fn default_template(template: &mut Value) {
    crate::strategy::object(template, "metadata");
    let spec = crate::strategy::object(template, "spec");
    template::pod_spec(spec);
}
