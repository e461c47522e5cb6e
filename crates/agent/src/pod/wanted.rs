//! From a pod's spec to plain instructions for the container driver.

use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext, VolumeMount};
use model::wanted::{WantedContainer, WantedPod};
use model::{Fault, PodDemand};
use serde_json::Value;

use super::context::Context;
use super::{env, parts, termination, volumes};

impl Context<'_> {
    /// The pod without containers: [`Context::container`] adds each when its turn comes.
    pub fn pod(&self) -> Result<WantedPod, Fault> {
        let spec = self.spec()?;
        let security = spec.security_context.clone().unwrap_or_default();
        let (dns_servers, dns_search, dns_options) = self.dns(spec);
        let hostname = spec.hostname.clone().unwrap_or_else(|| self.row().name.chars().take(63).collect());
        let fqdn = match (spec.subdomain.as_deref(), &self.of.domain) {
            (Some(sub), Some(domain)) if !sub.is_empty() => {
                format!("{hostname}.{sub}.{}.svc.{domain}", self.row().namespace)
            }
            _ => String::new(),
        };
        Ok(WantedPod {
            generation: self.at,
            uid: self.row().uid().to_owned(),
            name: self.row().name.clone(),
            namespace: self.row().namespace.clone(),
            cluster_id: self.row().cluster_id.clone(),
            hostname: match (spec.set_hostname_as_fqdn, fqdn.is_empty()) {
                (Some(true), false) => fqdn.clone(),
                _ => hostname,
            },
            fqdn,
            host_aliases: spec
                .host_aliases
                .iter()
                .flatten()
                .filter_map(|alias| Some((alias.ip.parse().ok()?, alias.hostnames.clone().unwrap_or_default())))
                .collect(),
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
        let names = self.of.domain.as_ref();
        if let (true, Some(names), Some(port)) = (policy.starts_with("ClusterFirst"), names, self.port()) {
            let network = self.agent.network();
            let bridge = network.domains.iter().flat_map(|d| d.bridges.iter().map(move |b| (d, b)));
            if let Some((domain, bridge)) = bridge.into_iter().find(|(_, b)| b.network_id == port.network_id) {
                servers.extend(bridge.subnets.iter().filter_map(|s| s.server));
                search.push(format!("{}.svc.{names}", self.row().namespace));
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
            list.iter().flatten().map(|text| env::expand(text, &env)).collect()
        };
        let amount = |limits: bool, name: &str| -> Option<&str> {
            let resources = container.resources.as_ref()?;
            let table = if limits { resources.limits.as_ref()? } else { resources.requests.as_ref()? };
            table.get(name).map(|q| q.0.as_str())
        };
        let cpu_limit_milli = amount(true, "cpu").and_then(model::quantity_milli).unwrap_or(0);
        let claimed = self.claimed(name);
        let memory_limit = amount(true, "memory").and_then(model::quantity_bytes).filter(|limit| *limit > 0);
        let image = container.image.clone().unwrap_or_default();
        let mut wanted = WantedContainer {
            name: name.to_owned(),
            attempt,
            pull: container.image_pull_policy.clone().unwrap_or_else(|| "IfNotPresent".into()),
            command: expanded(&container.command),
            args: expanded(&container.args),
            working_dir: container.working_dir.clone().unwrap_or_default(),
            mounts: self.mounts(container, &env, attempt)?,
            pull_credentials: self.pull_credentials(spec, &image)?,
            stdin: container.stdin.unwrap_or(false),
            stdin_once: container.stdin_once.unwrap_or(false),
            tty: container.tty.unwrap_or(false),
            cpu_request_milli: claimed.cpu_milli,
            cpu_limit_milli,
            // Who does not say how much it may take may take what it was counted for.
            memory_limit: memory_limit.unwrap_or(claimed.memory_mib.max(LEAST_MEMORY_MIB) << 20),
            oom_score_adj: oom_score(&self.row().body["spec"], claimed.memory_mib, crate::host::memory_mib()),
            image,
            env,
            ..WantedContainer::default()
        };
        self.secure(&mut wanted, container.security_context.clone().unwrap_or_default());
        Ok(wanted)
    }

    /// What a container was counted for.
    fn claimed(&self, name: &str) -> PodDemand {
        let spec = &self.row().body["spec"];
        let all = ["initContainers", "containers"].into_iter().filter_map(|field| spec[field].as_array()).flatten();
        let container = all.into_iter().find(|container| container["name"] == name);
        model::container_demand(container.unwrap_or(&Value::Null))
    }

    fn environment(&self, container: &Container) -> Result<Vec<(String, String)>, Fault> {
        let mut env = env::of(self, container)?;
        if !env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.insert(0, ("HOSTNAME".into(), self.row().name.clone()));
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

    /// What the pod's secrets, or its account's, say of the image's registry.
    fn pull_credentials(&self, spec: &PodSpec, image: &str) -> Result<Option<(String, String)>, Fault> {
        for secret in spec.image_pull_secrets.iter().flatten() {
            // One that is missing is no reason not to try, as in Kubernetes.
            let Some(data) = env::data(self, "secrets", &secret.name, true)? else { continue };
            let config = data.into_iter().find(|(key, _)| key == ".dockerconfigjson" || key == ".dockercfg");
            let Some((_, config)) = config else { continue };
            if let Some(found) = registry_login(&config, image) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn mounts(
        &self,
        container: &Container,
        env: &[(String, String)],
        attempt: u32,
    ) -> Result<Vec<(PathBuf, String, bool)>, Fault> {
        let mounts = container.volume_mounts.iter().flatten();
        let mut all: Vec<(PathBuf, String, bool)> =
            mounts.enumerate().map(|(i, mount)| self.mount(container, mount, i, env)).collect::<Result<_, Fault>>()?;
        let end = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        if let Some(end) = end.filter(|end| !all.iter().any(|(_, to, _)| to == end)) {
            let file = termination::prepare(self.agent, self.row().uid(), &container.name, attempt)?;
            all.push((file, end.to_owned(), false));
        }
        Ok(all)
    }

    fn mount(
        &self,
        container: &Container,
        mount: &VolumeMount,
        number: usize,
        env: &[(String, String)],
    ) -> Result<(PathBuf, String, bool), Fault> {
        let volume = self.volumes.get(&mount.name).ok_or_else(|| {
            Fault::invalid(format!(
                "container {} mounts the volume {}, which the pod has not",
                container.name, mount.name
            ))
        })?;
        let sub = match &mount.sub_path_expr {
            Some(expression) => env::expand(expression, env),
            None => mount.sub_path.clone().unwrap_or_default(),
        };
        if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
            return Err(Fault::invalid(format!("the sub-path {sub} leaves the volume {}", mount.name)));
        }
        // Only an emptyDir is the pod's to write; the others are kept up to date from outside.
        let volumes = self.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let own = volumes.into_iter().any(|v| v.name == mount.name && v.empty_dir.is_some());
        let path = match (sub.is_empty(), own) {
            (true, _) => volume.clone(),
            (false, false) => volume.join(&sub),
            (false, true) => {
                let parts = volumes::folder(self.agent, self.row().uid()).join("parts").join(&container.name);
                parts::hold(volume, &sub, &parts.join(number.to_string()))?
            }
        };
        Ok((path, mount.mount_path.clone(), mount.read_only.unwrap_or(false) || !own))
    }
}

/// User and password for an image's registry, from a file as Docker's clients keep it.
fn registry_login(config: &[u8], image: &str) -> Option<(String, String)> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let logins = config.get("auths").unwrap_or(&config).as_object()?;
    let first = image.split('/').next().filter(|_| image.contains('/')).unwrap_or("");
    let named = first.contains(['.', ':']) || first == "localhost";
    let registry = if named { first } else { "index.docker.io" };
    let bare = |key: &str| -> String {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        key.split('/').next().unwrap_or(key).to_owned()
    };
    let (_, login) = logins.iter().find(|(key, _)| bare(key) == registry)?;
    if let (Some(user), Some(password)) = (login["username"].as_str(), login["password"].as_str()) {
        return Some((user.to_owned(), password.to_owned()));
    }
    use base64::Engine;
    let both = base64::prelude::BASE64_STANDARD.decode(login["auth"].as_str()?).ok()?;
    let (user, password) = std::str::from_utf8(&both).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Even of those who ask for nothing.
const LEAST_MEMORY_MIB: u64 = 64;

/// Who goes first when the host's memory is short, as kubelets have it: those who asked for nothing, then those who asked for
/// little of it, last those who are guaranteed theirs.
fn oom_score(spec: &Value, memory_mib: u64, of_mib: u64) -> i64 {
    match model::pod::qos_class(spec) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let share = memory_mib.saturating_mul(1000).checked_div(of_mib).unwrap_or(0);
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_for_least_goes_first() {
        let of = |resources: Value, mib| {
            oom_score(&serde_json::json!({"containers": [{"resources": resources}]}), mib, 1000)
        };
        let both = serde_json::json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(of(serde_json::json!({}), 64), 1000);
        assert_eq!(of(serde_json::json!({"requests": {"memory": "100Mi"}}), 100), 900);
        assert_eq!(of(serde_json::json!({"requests": {"memory": "2Gi"}}), 2000), 3);
        assert_eq!(of(serde_json::json!({"requests": both, "limits": both}), 1024), -997);
    }

    #[test]
    fn logins_are_found_by_registry() {
        let config = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"},
            "registry.example:5000": {"username": "a", "password": "b"}}}"#;
        let login = |image: &str| registry_login(config, image);
        assert_eq!(login("busybox"), Some(("u".into(), "p".into())));
        assert_eq!(login("me/busybox:1"), Some(("u".into(), "p".into())));
        assert_eq!(login("registry.example:5000/x/y:1"), Some(("a".into(), "b".into())));
        assert_eq!(login("other.example/x"), None);
    }
}
