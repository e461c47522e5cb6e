//! Says to CRI what a pod is, as a kubelet would: the same labels, so that tools that look into containerd understand
//! what they see, and from which [`crate::seen`] recovers everything.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use driver::{DriverFault, Result};
use k8s_cri::v1;
use model::wanted::{WantedContainer, WantedPod};

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CLUSTER: &str = "braid.cluster";
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// The period, in microseconds, within which a limit of processor time holds.
const CPU_PERIOD: i64 = 100_000;

/// What of /proc and /sys containers must not see, and what not change; Docker's list, which kubelets use too.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The control group of a pod.
pub fn pod_group(prefix: &str, uid: &str) -> String {
    format!("/{prefix}/pod{uid}")
}

/// The directory of a pod's logs; its name is the one that log collectors expect.
pub fn log_dir(dir: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    dir.join("logs").join(format!("{namespace}_{name}_{uid}"))
}

/// A container's log, below its pod's directory.
pub fn log_file(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

pub fn sandbox(pod: &WantedPod, attempt: u32, prefix: &str, dir: &Path) -> v1::PodSandboxConfig {
    let mut labels: HashMap<String, String> = pod.labels.clone().into_iter().collect();
    labels.extend(pod_labels(pod));
    let dns = v1::DnsConfig {
        servers: pod.dns_servers.iter().map(ToString::to_string).collect(),
        searches: pod.dns_search.clone(),
        options: pod.dns_options.clone(),
    };
    let group = pod.run_as_user.and(pod.run_as_group);
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            attempt,
        }),
        // With the host's network comes the host's name.
        hostname: if pod.host_network { String::new() } else { pod.hostname.clone() },
        log_directory: log_dir(dir, &pod.namespace, &pod.name, &pod.uid).display().to_string(),
        dns_config: (dns != v1::DnsConfig::default()).then_some(dns),
        labels,
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: pod_group(prefix, &pod.uid),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                run_as_user: pod.run_as_user.map(number),
                run_as_group: group.map(number),
                supplemental_groups: groups(pod),
                privileged: pod.containers.iter().any(|c| c.privileged),
                seccomp: Some(seccomp(false)),
                ..Default::default()
            }),
            sysctls: pod.sysctls.clone().into_iter().collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn pod_labels(pod: &WantedPod) -> [(String, String); 4] {
    [
        (POD_NAME.to_owned(), pod.name.clone()),
        (POD_NAMESPACE.to_owned(), pod.namespace.clone()),
        (POD_UID.to_owned(), pod.uid.clone()),
        (CLUSTER.to_owned(), pod.cluster_id.clone()),
    ]
}

fn namespaces(pod: &WantedPod) -> v1::NamespaceOption {
    let network = if pod.host_network { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod };
    let pid = if pod.share_pid { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Container };
    v1::NamespaceOption {
        network: network.into(),
        pid: pid.into(),
        ipc: v1::NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

fn groups(pod: &WantedPod) -> Vec<i64> {
    pod.supplemental_groups.iter().copied().chain(pod.fs_group).collect()
}

fn number(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

/// System calls are filtered wherever the kernel can.
fn seccomp(privileged: bool) -> v1::SecurityProfile {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filter = !privileged && status.contains("Seccomp:");
    let profile = if filter {
        v1::security_profile::ProfileType::RuntimeDefault
    } else {
        v1::security_profile::ProfileType::Unconfined
    };
    v1::SecurityProfile { profile_type: profile.into(), ..Default::default() }
}

/// A container in its wanted attempt. `hosts`: a file for `/etc/hosts`, unless the container mounts one.
pub fn container(
    pod: &WantedPod,
    container: &WantedContainer,
    image: &v1::Image,
    hosts: Option<&Path>,
) -> Result<v1::ContainerConfig> {
    let mut mounts: Vec<v1::Mount> = container.mounts.iter().map(|(from, to, ro)| mount(from, to, *ro)).collect();
    if let Some(hosts) = hosts
        && !container.mounts.iter().any(|(_, to, _)| to == "/etc/hosts")
    {
        mounts.push(mount(hosts, "/etc/hosts", false));
    }
    let envs = container.env.iter().map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone() });
    let mut labels: HashMap<String, String> = pod_labels(pod).into_iter().collect();
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let annotations = BTreeMap::from([(GRACE.to_owned(), pod.grace_seconds.to_string())]);
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: container.attempt }),
        image: Some(v1::ImageSpec { image: container.image.clone(), ..Default::default() }),
        command: container.command.clone(),
        args: container.args.clone(),
        working_dir: container.working_dir.clone(),
        envs: envs.collect(),
        mounts,
        labels,
        annotations: annotations.into_iter().collect(),
        log_path: log_file(&container.name, container.attempt),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(container)),
            security_context: Some(security(pod, container, image)?),
        }),
        ..Default::default()
    })
}

fn mount(from: &Path, to: &str, readonly: bool) -> v1::Mount {
    v1::Mount {
        container_path: to.to_owned(),
        host_path: from.display().to_string(),
        readonly,
        propagation: v1::MountPropagation::PropagationPrivate.into(),
        ..Default::default()
    }
}

fn resources(container: &WantedContainer) -> v1::LinuxContainerResources {
    let milli = |value: u64| i64::try_from(value).unwrap_or(i64::MAX / CPU_PERIOD);
    // A limit alone is a request too; two shares are the kernel's least.
    let asked = if container.cpu_request_milli == 0 { container.cpu_limit_milli } else { container.cpu_request_milli };
    let quota = if container.cpu_limit_milli == 0 {
        0
    } else {
        (milli(container.cpu_limit_milli) * CPU_PERIOD / 1000).max(1000)
    };
    v1::LinuxContainerResources {
        cpu_shares: (milli(asked).saturating_mul(1024) / 1000).clamp(2, 262_144),
        cpu_period: if quota == 0 { 0 } else { CPU_PERIOD },
        cpu_quota: quota,
        memory_limit_in_bytes: i64::try_from(container.memory_limit).unwrap_or(i64::MAX),
        oom_score_adj: container.oom_score_adj.clamp(-1000, 1000),
        ..Default::default()
    }
}

fn security(
    pod: &WantedPod,
    container: &WantedContainer,
    image: &v1::Image,
) -> Result<v1::LinuxContainerSecurityContext> {
    let own_user = container.run_as_user.or(pod.run_as_user);
    if container.run_as_non_root {
        verify_not_root(own_user, container, image)?;
    }
    // A group needs a user, so the image's is made explicit.
    let user = own_user.or_else(|| image.uid.as_ref().map(|uid| uid.value));
    let user_name = if user.is_none() { image.username.clone() } else { String::new() };
    let paths =
        |list: &[&str]| if container.privileged { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: container.capabilities_add.clone(),
            drop_capabilities: container.capabilities_drop.clone(),
            ..Default::default()
        }),
        privileged: container.privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: user.map(number),
        run_as_group: container.run_as_group.or(pod.run_as_group).map(number),
        run_as_username: user_name,
        readonly_rootfs: container.read_only_root,
        supplemental_groups: groups(pod),
        no_new_privs: container.no_new_privileges,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(container.privileged)),
        ..Default::default()
    })
}

/// `runAsNonRoot`, in the words that kubelets have for it.
fn verify_not_root(user: Option<i64>, container: &WantedContainer, image: &v1::Image) -> Result<()> {
    let name = &container.name;
    let problem = match (user, &image.uid) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _) => return Ok(()),
        (None, Some(uid)) if uid.value != 0 => return Ok(()),
        (None, None) if !image.username.is_empty() => {
            let user = &image.username;
            format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
            )
        }
        (None, _) => "container has runAsNonRoot and image will run as root".to_owned(),
    };
    Err(DriverFault::Refused(format!("{problem} (container: {name})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(uid: Option<i64>, username: &str) -> v1::Image {
        v1::Image { uid: uid.map(number), username: username.to_owned(), ..Default::default() }
    }

    #[test]
    fn root_is_refused_where_it_is_not_wanted() {
        let wanted = WantedContainer { name: "c".to_owned(), run_as_non_root: true, ..Default::default() };
        let said = |user, image: &v1::Image| verify_not_root(user, &wanted, image).err().map(|f| f.to_string());
        assert_eq!(said(Some(1), &image(None, "")), None);
        assert_eq!(said(None, &image(Some(1000), "")), None);
        assert!(said(Some(0), &image(Some(1000), "")).unwrap().contains("breaks non-root policy"));
        assert!(said(None, &image(None, "")).unwrap().contains("will run as root"));
        assert!(said(None, &image(Some(0), "")).unwrap().contains("will run as root"));
        assert!(said(None, &image(None, "www")).unwrap().contains("non-numeric user (www)"));
    }

    #[test]
    fn cores_become_shares_and_quotas() {
        let of = |request, limit| {
            resources(&WantedContainer { cpu_request_milli: request, cpu_limit_milli: limit, ..Default::default() })
        };
        let none = of(0, 0);
        assert_eq!((none.cpu_shares, none.cpu_quota, none.cpu_period), (2, 0, 0));
        let both = of(500, 1500);
        assert_eq!((both.cpu_shares, both.cpu_quota, both.cpu_period), (512, 150_000, 100_000));
        assert_eq!(of(0, 1000).cpu_shares, 1024);
        assert_eq!(of(1, 1).cpu_quota, 1000);
    }
}
