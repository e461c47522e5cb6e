//! What no pod may have on a host that it shares with other projects: the host's namespaces, privileges, capabilities and
//! kernel settings that reach beyond its own. This is the level "baseline" of Kubernetes' Pod Security Standards. It is
//! checked where pods are started, so that no way of making a pod leads around it.

use k8s_openapi::api::core::v1::{Container, Pod};
use model::Fault;

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

/// Refuses a pod that asks for more than its own.
pub fn check(pod: &Pod) -> Result<(), Fault> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let refuse = |what: String| Err(Fault::invalid(format!("{what} is not offered: hosts are shared by projects")));
    for (name, asked) in [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)] {
        if asked == Some(true) {
            return refuse(name.to_owned());
        }
    }
    let sysctls = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    if let Some(sysctl) = sysctls.into_iter().find(|s| !SYSCTLS.contains(&s.name.as_str())) {
        return refuse(format!("the sysctl {}", sysctl.name));
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        if let Some(what) = beyond(container) {
            return refuse(format!("container {}: {what}", container.name));
        }
    }
    Ok(())
}

/// What a container asks for that reaches beyond it.
fn beyond(container: &Container) -> Option<String> {
    let security = container.security_context.as_ref()?;
    if security.privileged == Some(true) {
        return Some("privileged".into());
    }
    if security.proc_mount.as_deref().is_some_and(|mount| mount != "Default") {
        return Some("procMount".into());
    }
    let added = security.capabilities.iter().flat_map(|c| c.add.iter().flatten());
    let name = |capability: &str| capability.trim_start_matches("CAP_").to_ascii_uppercase();
    let extra = added.into_iter().find(|c| !CAPABILITIES.contains(&name(c).as_str()))?;
    Some(format!("the capability {extra}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(spec: serde_json::Value) -> bool {
        let pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a pod");
        check(&pod).is_err()
    }

    #[test]
    fn only_what_is_its_own() {
        let with = |security: serde_json::Value| json!({"containers": [{"name": "c", "securityContext": security}]});
        assert!(!refused(with(json!({"runAsUser": 0, "capabilities": {"add": ["CAP_CHOWN"], "drop": ["ALL"]}}))));
        assert!(refused(with(json!({"privileged": true}))));
        assert!(refused(with(json!({"capabilities": {"add": ["SYS_ADMIN"]}}))));
        assert!(refused(with(json!({"capabilities": {"add": ["ALL"]}}))));
        assert!(refused(json!({"containers": [], "hostNetwork": true})));
        assert!(refused(json!({"containers": [], "hostPID": true})));
        let sysctl = json!([{"name": "kernel.core_pattern", "value": "|/bin/sh"}]);
        assert!(refused(json!({"containers": [], "securityContext": {"sysctls": sysctl}})));
    }
}
