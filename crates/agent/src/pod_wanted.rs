//! From a pod's spec to plain instructions for the container driver.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};
use model::wanted::{WantedContainer, WantedPod};
use model::{Cluster, Entry, Fault, KubeObject, Port, Snapshot};

use crate::{Agent, pod_env};

/// All that instructions are made from.
pub struct Context<'a> {
    pub agent: &'a Agent,
    pub snapshot: &'a Snapshot,
    pub row: Entry<'a, KubeObject>,
    pub pod: &'a Pod,
    pub port: Option<&'a Port>,
    /// Where each volume lies on this host.
    pub volumes: &'a BTreeMap<String, PathBuf>,
}

impl Context<'_> {
    fn spec(&self) -> Result<&PodSpec, Fault> {
        self.pod.spec.as_ref().ok_or_else(|| Fault::invalid("the pod has no spec"))
    }

    /// The pod's first address.
    pub fn address(&self) -> Option<String> {
        Some(self.port?.fixed_ips.first()?.ip.to_string())
    }

    /// The pod without containers: [`Context::container`] adds each when its turn comes.
    pub fn pod(&self) -> Result<WantedPod, Fault> {
        let spec = self.spec()?;
        let security = spec.security_context.clone().unwrap_or_default();
        let (dns_servers, dns_search, dns_options) = self.dns(spec);
        Ok(WantedPod {
            uid: self.row.uid().to_owned(),
            name: self.row.name.clone(),
            namespace: self.row.namespace.clone(),
            cluster_id: self.row.cluster_id.clone(),
            hostname: spec.hostname.clone().unwrap_or_else(|| self.row.name.chars().take(63).collect()),
            dns_servers,
            dns_search,
            dns_options,
            labels: self.pod.metadata.labels.clone().unwrap_or_default(),
            host_network: spec.host_network.unwrap_or(false),
            grace_seconds: spec.termination_grace_period_seconds.unwrap_or(30).clamp(0, 86400) as u32,
            containers: Vec::new(),
            share_pid: spec.share_process_namespace.unwrap_or(false),
            run_as_user: security.run_as_user,
            run_as_group: security.run_as_group,
            fs_group: security.fs_group,
            supplemental_groups: security.supplemental_groups.unwrap_or_default(),
            sysctls: security.sysctls.into_iter().flatten().map(|s| (s.name, s.value)).collect(),
        })
    }

    /// Name servers, suffixes and options, by the pod's DNS policy. The cluster's names and the network's are one zone.
    fn dns(&self, spec: &PodSpec) -> (Vec<IpAddr>, Vec<String>, Vec<String>) {
        let mut servers = Vec::new();
        let mut search = Vec::new();
        let mut options = Vec::new();
        let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
        let cluster = self.snapshot.get::<Cluster>(&self.row.cluster_id);
        if let (true, Some(cluster), Some(port)) = (policy.starts_with("ClusterFirst"), cluster, self.port) {
            let network = self.agent.network();
            let bridge = network.domains.iter().flat_map(|d| d.bridges.iter().map(move |b| (d, b)));
            if let Some((domain, bridge)) = bridge.into_iter().find(|(_, b)| b.network_id == port.network_id) {
                servers.extend(bridge.subnets.iter().filter_map(|s| s.server));
                let names = &cluster.domain;
                search.push(format!("{}.svc.{names}", self.row.namespace));
                search.push(format!("svc.{names}"));
                search.push(names.clone());
                search.extend(domain.zone.search.iter().filter(|s| *s != names).cloned());
                options.push("ndots:5".to_owned());
            }
        }
        if let Some(config) = &spec.dns_config {
            servers.extend(config.nameservers.iter().flatten().filter_map(|s| s.parse::<IpAddr>().ok()));
            search.extend(config.searches.iter().flatten().cloned());
            options.extend(config.options.iter().flatten().filter_map(|o| {
                let name = o.name.clone()?;
                Some(o.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")))
            }));
        }
        (servers, search, options)
    }

    /// One container, in an attempt.
    pub fn container(&self, name: &str, attempt: u32) -> Result<WantedContainer, Fault> {
        let spec = self.spec()?;
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let container = all.find(|c| c.name == name).ok_or_else(|| Fault::invalid(format!("no container {name}")))?;
        let env = self.environment(container)?;
        let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter().flatten().map(|text| pod_env::expand(text, &env)).collect()
        };
        let amount = |limits: bool, name: &str| -> Option<&str> {
            let resources = container.resources.as_ref()?;
            let table = if limits { resources.limits.as_ref()? } else { resources.requests.as_ref()? };
            table.get(name).map(|q| q.0.as_str())
        };
        let cpu_limit_milli = amount(true, "cpu").and_then(model::quantity_milli).unwrap_or(0);
        let memory_limit = amount(true, "memory").and_then(model::quantity_bytes).unwrap_or(0);
        let image = container.image.clone().unwrap_or_default();
        let mut wanted = WantedContainer {
            name: name.to_owned(),
            attempt,
            pull: container.image_pull_policy.clone().unwrap_or_else(|| "IfNotPresent".into()),
            image,
            command: expanded(&container.command),
            args: expanded(&container.args),
            working_dir: container.working_dir.clone().unwrap_or_default(),
            mounts: self.mounts(container)?,
            stdin: container.stdin.unwrap_or(false),
            stdin_once: container.stdin_once.unwrap_or(false),
            tty: container.tty.unwrap_or(false),
            cpu_request_milli: amount(false, "cpu").and_then(model::quantity_milli).unwrap_or(cpu_limit_milli),
            cpu_limit_milli,
            memory_limit,
            env,
            ..WantedContainer::default()
        };
        self.secure(&mut wanted, container.security_context.clone().unwrap_or_default());
        Ok(wanted)
    }

    fn environment(&self, container: &Container) -> Result<Vec<(String, String)>, Fault> {
        let mut env = pod_env::of(self, container)?;
        if !env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.insert(0, ("HOSTNAME".into(), self.row.name.clone()));
        }
        Ok(env)
    }

    fn secure(&self, wanted: &mut WantedContainer, own: SecurityContext) {
        let pod = self.pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
        wanted.privileged = own.privileged.unwrap_or(false);
        wanted.read_only_root = own.read_only_root_filesystem.unwrap_or(false);
        wanted.run_as_user = own.run_as_user.or(pod.run_as_user);
        wanted.run_as_group = own.run_as_group.or(pod.run_as_group);
        wanted.run_as_non_root = own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false);
        wanted.no_new_privileges = own.allow_privilege_escalation == Some(false);
        let capabilities = own.capabilities.unwrap_or_default();
        wanted.capabilities_add = capabilities.add.unwrap_or_default();
        wanted.capabilities_drop = capabilities.drop.unwrap_or_default();
    }

    fn mounts(&self, container: &Container) -> Result<Vec<(PathBuf, String, bool)>, Fault> {
        let mounts = container.volume_mounts.iter().flatten();
        mounts
            .map(|mount| {
                let volume = self.volumes.get(&mount.name).ok_or_else(|| {
                    Fault::invalid(format!(
                        "container {} mounts the volume {}, which the pod has not",
                        container.name, mount.name
                    ))
                })?;
                let sub = mount.sub_path.as_deref().unwrap_or("");
                let inside = !sub.starts_with('/') && !sub.split('/').any(|part| part == "..");
                if !inside {
                    return Err(Fault::invalid(format!("the sub-path {sub} leaves the volume {}", mount.name)));
                }
                let path = if sub.is_empty() { volume.clone() } else { volume.join(sub) };
                Ok((path, mount.mount_path.clone(), mount.read_only.unwrap_or(false)))
            })
            .collect()
    }
}
