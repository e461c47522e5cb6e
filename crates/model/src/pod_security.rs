//! What no pod may have on a host that it shares with other projects: the host's namespaces, files and ports, privileges,
//! capabilities and kernel settings that reach beyond its own. This is the level "baseline" of Kubernetes' Pod Security
//! Standards, in the words of its own admission. One rule for all: the API refuses with it, what makes pods from
//! templates asks it before it makes them, and the agent asks it again where pods are started, so that no way of making
//! a pod leads around it.

use serde_json::Value;

/// Capabilities that containers have anyway, so that asking for them gives nothing more.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kernel settings that belong to the pod's own namespaces.
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// The annotations by which AppArmor profiles used to be asked for, before the container's name.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What of a pod, or of a template with the same fields, reaches beyond its own, as Pod Security Admission words it after
/// `violates PodSecurity "baseline:latest": `. `None`: nothing does.
pub fn violations(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    let all = [
        host_namespaces(spec),
        host_path(spec),
        per_container(spec, "privileged", "must not set securityContext.privileged=true", |c| {
            c["securityContext"]["privileged"] == true
        }),
        per_container(spec, "procMount", "must not set securityContext.procMount to \"Unmasked\"", |c| {
            c["securityContext"]["procMount"].as_str().is_some_and(|mount| mount != "Default")
        }),
        capabilities(spec),
        host_ports(spec),
        per_container(spec, "probeHost", "must not set the host of a probe or lifecycle handler", handler_host),
        seccomp(spec),
        app_armor(pod),
        sysctls(spec),
    ];
    let found: Vec<String> = all.into_iter().flatten().collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// The sentence with which a pod is refused, after its name.
pub fn refusal(violations: &str) -> String {
    format!("violates PodSecurity \"baseline:latest\": {violations}")
}

/// What is in a list of an object; nothing if it has none of that name.
pub fn list<'a>(parent: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    parent[field].as_array().into_iter().flatten()
}

/// Every container of a pod, of whatever sort.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|field| list(spec, field))
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or("")
}

/// `container "a"`, or `containers "a", "b"`.
fn named(what: &str, names: &[&str]) -> String {
    format!("{what}{} {}", if names.len() == 1 { "" } else { "s" }, quoted(names.iter().copied()))
}

fn per_container(spec: &Value, reason: &str, what: &str, breaks: fn(&Value) -> bool) -> Option<String> {
    let names: Vec<&str> = containers(spec).filter(|c| breaks(c)).map(name).collect();
    (!names.is_empty()).then(|| format!("{reason} ({} {what})", named("container", &names)))
}

fn host_namespaces(spec: &Value) -> Option<String> {
    let asked: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| spec[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!asked.is_empty()).then(|| format!("host namespaces ({})", asked.join(", ")))
}

fn host_path(spec: &Value) -> Option<String> {
    let names: Vec<&str> = list(spec, "volumes").filter(|v| v["hostPath"].is_object()).map(name).collect();
    (!names.is_empty()).then(|| format!("hostPath volumes ({})", named("volume", &names)))
}

fn host_ports(spec: &Value) -> Option<String> {
    let ports = |c: &Value| -> Vec<u64> {
        list(c, "ports").filter_map(|p| p["hostPort"].as_u64()).filter(|port| *port != 0).collect()
    };
    let using: Vec<(&str, Vec<u64>)> =
        containers(spec).map(|c| (name(c), ports(c))).filter(|(_, ports)| !ports.is_empty()).collect();
    let names: Vec<&str> = using.iter().map(|(name, _)| *name).collect();
    let numbers: Vec<String> = using.iter().flat_map(|(_, ports)| ports).map(u64::to_string).collect();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let plural = if numbers.len() == 1 { "" } else { "s" };
    (!names.is_empty())
        .then(|| format!("hostPort ({} {verb} hostPort{plural} {})", named("container", &names), numbers.join(", ")))
}

fn capabilities(spec: &Value) -> Option<String> {
    let bare = |name: &str| name.trim_start_matches("CAP_").to_ascii_uppercase();
    let (mut names, mut extra) = (Vec::new(), Vec::new());
    for container in containers(spec) {
        let added = list(&container["securityContext"]["capabilities"], "add").filter_map(Value::as_str);
        let beyond: Vec<&str> = added.filter(|c| !CAPABILITIES.contains(&bare(c).as_str())).collect();
        if !beyond.is_empty() {
            names.push(name(container));
            extra.extend(beyond);
        }
    }
    extra.sort_unstable();
    extra.dedup();
    (!names.is_empty()).then(|| {
        let (who, what) = (named("container", &names), quoted(extra.iter().copied()));
        format!("non-default capabilities ({who} must not include {what} in securityContext.capabilities.add)")
    })
}

/// A probe is made from where the pod's own rules do not hold: it may look at the pod alone.
fn handler_host(container: &Value) -> bool {
    let own = |host: &Value| host.as_str().is_none_or(str::is_empty);
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
    let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
    let mut handlers = probes.into_iter().chain(hooks);
    handlers.any(|handler| ["httpGet", "tcpSocket"].iter().any(|kind| !own(&handler[*kind]["host"])))
}

fn seccomp(spec: &Value) -> Option<String> {
    let unconfined = |holder: &Value| holder["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    let mut who: Vec<String> = Vec::new();
    who.extend(unconfined(spec).then(|| "pod".to_owned()));
    let names: Vec<&str> = containers(spec).filter(|c| unconfined(c)).map(name).collect();
    who.extend((!names.is_empty()).then(|| named("container", &names)));
    (!who.is_empty()).then(|| {
        format!(
            "seccompProfile ({} must not set securityContext.seccompProfile.type to \"Unconfined\")",
            who.join(" and ")
        )
    })
}

fn app_armor(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    let unconfined = |holder: &Value| holder["securityContext"]["appArmorProfile"]["type"] == "Unconfined";
    let mut who: Vec<String> = Vec::new();
    who.extend(unconfined(spec).then(|| "pod".to_owned()));
    let names: Vec<&str> = containers(spec).filter(|c| unconfined(c)).map(name).collect();
    who.extend((!names.is_empty()).then(|| named("container", &names)));
    if !who.is_empty() {
        let what = "must not set AppArmor profile type to \"Unconfined\"";
        return Some(format!("forbidden AppArmor profile ({} {what})", who.join(" and ")));
    }
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let mut asked = annotations.filter_map(|(key, value)| key.starts_with(APPARMOR).then_some((key, value.as_str()?)));
    let (key, value) = asked.find(|(_, value)| *value == "unconfined")?;
    Some(format!("forbidden AppArmor profile ({key}={value:?})"))
}

fn sysctls(spec: &Value) -> Option<String> {
    let asked = list(&spec["securityContext"], "sysctls").map(name);
    let extra: Vec<&str> = asked.filter(|name| !SYSCTLS.contains(name)).collect();
    (!extra.is_empty()).then(|| format!("forbidden sysctls ({})", extra.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: Value) -> Option<String> {
        violations(&json!({"metadata": {}, "spec": spec}))
    }

    #[test]
    fn only_what_is_its_own() {
        let with = |security: Value| json!({"containers": [{"name": "c", "securityContext": security}]});
        assert_eq!(of(with(json!({"runAsUser": 0, "capabilities": {"add": ["CAP_CHOWN"], "drop": ["ALL"]}}))), None);
        let privileged = "privileged (container \"c\" must not set securityContext.privileged=true)";
        assert_eq!(of(with(json!({"privileged": true}))).as_deref(), Some(privileged));
        let added = "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)";
        assert_eq!(of(with(json!({"capabilities": {"add": ["SYS_ADMIN"]}}))).as_deref(), Some(added));
        assert!(of(with(json!({"capabilities": {"add": ["ALL"]}}))).is_some());
        assert!(of(with(json!({"seccompProfile": {"type": "Unconfined"}}))).is_some());
        let host = json!({"containers": [], "hostNetwork": true, "hostPID": true});
        assert_eq!(of(host).as_deref(), Some("host namespaces (hostNetwork=true, hostPID=true)"));
        let volumes =
            json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {"path": "/"}}]});
        assert_eq!(of(volumes).as_deref(), Some("hostPath volumes (volumes \"a\", \"b\")"));
        let ports = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
        assert_eq!(of(ports).as_deref(), Some("hostPort (container \"c\" uses hostPort 80)"));
        let sysctl = json!([{"name": "kernel.core_pattern", "value": "|/bin/sh"}]);
        let words = of(json!({"securityContext": {"sysctls": sysctl}}));
        assert_eq!(words.as_deref(), Some("forbidden sysctls (kernel.core_pattern)"));
        let probe =
            json!({"initContainers": [{"name": "c", "livenessProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}}]});
        assert!(of(probe).is_some());
        let unconfined = json!({"metadata": {"annotations": {format!("{APPARMOR}c"): "unconfined"}}});
        assert!(violations(&unconfined).is_some());
    }
}
