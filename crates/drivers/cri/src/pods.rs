//! [`PodDriver`] over CRI.
//!
//! ```text
//!   ensure_sandbox:    none ──> run            ready ──> nothing      dead ──> stop, remove, run the next attempt
//!   ensure_container:  no such attempt ──> stop what runs of earlier ones, create, start, forget all but the last
//!                      created, not started ──> start          running or exited ──> nothing
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use driver::cgroup::{self, Limits};
use driver::{
    ContainerState, DriverFault, ExecOutput, Health, PodDriver, Result, SeenContainer, SeenPod, StreamRequest, Used,
};
use futures_util::future::try_join_all;
use k8s_cri::v1;
use model::wanted::{Generation, WantedContainer, WantedPod};
use tonic::Code;

use crate::client::{Client, gone_is_fine, look, within};
use crate::{Cri, failed, spec};

/// Making a sandbox includes waiting for its network.
const SANDBOX_LIMIT: Duration = Duration::from_secs(90);
const CONTAINER_LIMIT: Duration = Duration::from_secs(60);
/// Processes and threads that a pod may have, all its containers together.
const MOST_PIDS: u64 = 1024;
/// A log that is longer is put aside as `<attempt>.log.1`, and the one put aside before is forgotten.
const LOG_LIMIT: u64 = 10 << 20;

#[async_trait]
impl PodDriver for Cri {
    async fn health(&self) -> Health {
        let answer = match self.up().await {
            Ok(client) => client.version().await,
            Err(fault) => Err(fault),
        };
        let (version, problem) = match answer {
            Ok(version) => (version, String::new()),
            Err(fault) => (String::new(), fault.to_string()),
        };
        let note = self.memory.lock().await.note();
        Health { part: "pods".to_owned(), problem, note, version }
    }

    async fn list(&self) -> Result<Vec<SeenPod>> {
        let pods = self.seen(None).await?;
        for container in pods.iter().flat_map(|pod| &pod.containers) {
            self.bound_log(container).await;
        }
        Ok(pods)
    }

    async fn look(&self, uid: &str) -> Result<Option<SeenPod>> {
        Ok(self.seen(Some(uid)).await?.pop())
    }

    async fn ensure_sandbox(&self, pod: &WantedPod) -> Result<()> {
        let _pass = self.generations.pass(&record(&pod.uid), pod.generation)?;
        let client = self.up().await?;
        let sandboxes = sandboxes_of(client, &pod.uid).await?;
        if ready(&sandboxes).is_some() {
            return Ok(());
        }
        let attempts = sandboxes.iter().filter_map(|s| s.metadata.as_ref()).map(|m| m.attempt + 1);
        let attempt = attempts.max().unwrap_or(0);
        for sandbox in &sandboxes {
            remove_sandbox(client, &sandbox.id).await?;
        }
        let config = spec::sandbox(pod, attempt, &self.config.prefix, &self.paths.dir);
        make_dir(Path::new(&config.log_directory))?;
        let limits = Limits { pids: Some(MOST_PIDS), ..Limits::default() };
        if let Err(error) = cgroup::confine(&spec::pod_group(&self.config.prefix, &pod.uid), &limits, None) {
            tracing::warn!(%error, pod = pod.name, "the pod's processes are not limited");
        }
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        within(SANDBOX_LIMIT, "make the pod's sandbox", client.runtime().run_pod_sandbox(request)).await?;
        Ok(())
    }

    async fn ensure_image(&self, pod: &WantedPod, container: &str) -> Result<String> {
        let image = self.image_of(pod, wanted(pod, container)?).await?;
        Ok(image.repo_digests.into_iter().next().unwrap_or(image.id))
    }

    async fn ensure_container(&self, pod: &WantedPod, container: &str) -> Result<()> {
        let _pass = self.generations.pass(&record(&pod.uid), pod.generation)?;
        let wanted = wanted(pod, container)?;
        let client = self.up().await?;
        let sandboxes = sandboxes_of(client, &pod.uid).await?;
        let sandbox =
            ready(&sandboxes).ok_or_else(|| DriverFault::NotReady("the pod's sandbox is not up yet".to_owned()))?;
        let attempts = attempts(client, &sandbox.id, container).await?;
        let id = match attempts.iter().find(|c| attempt(c) == wanted.attempt) {
            Some(there) if there.state != v1::ContainerState::ContainerCreated as i32 => return Ok(()),
            Some(there) => there.id.clone(),
            None => {
                self.stop_earlier(pod, &attempts).await?;
                self.create(client, pod, wanted, sandbox).await?
            }
        };
        let request = v1::StartContainerRequest { container_id: id };
        let what = format!("start container {container}");
        let started = within(CONTAINER_LIMIT, &what, client.runtime().start_container(request)).await;
        for old in attempts.iter().filter(|c| attempt(c) + 1 < wanted.attempt) {
            remove_container(client, &old.id).await?;
            // The log of an attempt that nobody can ask for any more.
            let logs = spec::log_dir(&self.paths.dir, &pod.namespace, &pod.name, &pod.uid);
            let log = logs.join(spec::log_file(container, attempt(old)));
            let _ = std::fs::remove_file(log.with_extension("log.1"));
            let _ = std::fs::remove_file(log);
        }
        started.map(|_| ())
    }

    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<()> {
        let client = self.up().await?;
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = v1::StopContainerRequest { container_id: container_id.to_owned(), timeout };
        let limit = grace + CONTAINER_LIMIT;
        let answer = tokio::time::timeout(limit, client.runtime().stop_container(request)).await;
        let timed_out = |_| DriverFault::Unavailable(format!("a container does not stop within {limit:?}"));
        gone_is_fine(answer.map_err(timed_out)?.map(|_| ()), "stop a container")
    }

    async fn remove(&self, uid: &str, grace: Duration, at: Generation) -> Result<()> {
        let pass = self.generations.pass(&record(uid), at)?;
        self.destroy(uid, grace).await?;
        self.generations.gone(pass)
    }

    fn forget_generations(&self) -> Result<()> {
        self.generations.forget()
    }

    async fn used(&self, uid: &str) -> Result<BTreeMap<String, Used>> {
        let filter = v1::ContainerStatsFilter { label_selector: by_uid(uid), ..Default::default() };
        let request = v1::ListContainerStatsRequest { filter: Some(filter) };
        let answer = look("measure a pod", self.up().await?.runtime().list_container_stats(request)).await?;
        let used = |stats: v1::ContainerStats| {
            let layer = stats.writable_layer.unwrap_or_default();
            let disk = layer.used_bytes.map_or(0, |bytes| bytes.value);
            let inodes = layer.inodes_used.map_or(0, |files| files.value);
            let memory = stats.memory.and_then(|memory| memory.working_set_bytes).map_or(0, |bytes| bytes.value);
            Some((stats.attributes?.id, Used { disk, memory, inodes }))
        };
        let mut all: BTreeMap<String, Used> = answer.stats.into_iter().filter_map(used).collect();
        // Containers can write there, too.
        let hosts = std::fs::metadata(self.pod_dir(uid).join("hosts")).map_or(0, |about| about.blocks() * 512);
        let (group, dir) = (spec::pod_group(&self.config.prefix, uid), self.paths.dir.clone());
        let open = driver::on_a_thread(move || Ok(open_and_gone(&group, &dir))).await.unwrap_or(0);
        all.insert(String::new(), Used { disk: hosts.saturating_add(open), memory: 0, inodes: 0 });
        Ok(all)
    }

    async fn exec(&self, container_id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let client = self.up().await?;
        // Zero would be no limit at all.
        let seconds = timeout.as_millis().div_ceil(1000).max(1) as i64;
        let request =
            v1::ExecSyncRequest { container_id: container_id.to_owned(), cmd: command.to_vec(), timeout: seconds };
        let what = format!("run {:?} in the container", command.first().map(String::as_str).unwrap_or_default());
        match tokio::time::timeout(timeout + CONTAINER_LIMIT, client.runtime().exec_sync(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                Ok(ExecOutput { code: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr })
            }
            Ok(Err(status)) if status.code() == Code::DeadlineExceeded => {
                Err(DriverFault::Failed(format!("cannot {what}: it timed out after {timeout:?}")))
            }
            Ok(Err(status)) => Err(crate::client::fault(&what, &status)),
            Err(_) => Err(DriverFault::Unavailable(format!("cannot {what}: containerd does not answer"))),
        }
    }

    /// containerd's own client: unlike its streaming server (1.6 knows version 4 of the protocol at most) it can close a
    /// command's input.
    fn exec_program(&self, container_id: &str, command: &[String], tty: bool) -> Result<Vec<String>> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let id = format!("exec-{}-{serial}", std::process::id());
        let mut program = vec![crate::daemon::client_program()?.display().to_string()];
        program.extend(["--address".to_owned(), self.paths.socket.display().to_string()]);
        program.extend(["--namespace", "k8s.io", "tasks", "exec", "--exec-id", &id].map(str::to_owned));
        program.extend(tty.then(|| "--tty".to_owned()));
        program.push(container_id.to_owned());
        program.extend_from_slice(command);
        Ok(program)
    }

    async fn stream(&self, request: &StreamRequest) -> Result<String> {
        let client = self.up().await?;
        let mut runtime = client.runtime();
        match request.clone() {
            StreamRequest::Exec { container_id, command, stdin, stdout, stderr, tty } => {
                // A terminal has one output.
                let stderr = stderr && !tty;
                let request = v1::ExecRequest { container_id, cmd: command, tty, stdin, stdout, stderr };
                Ok(look("open a stream", runtime.exec(request)).await?.url)
            }
            StreamRequest::Attach { container_id, stdin, stdout, stderr, tty } => {
                let stderr = stderr && !tty;
                let request = v1::AttachRequest { container_id, stdin, tty, stdout, stderr };
                Ok(look("open a stream", runtime.attach(request)).await?.url)
            }
            StreamRequest::PortForward { pod_uid, ports } => {
                let sandboxes = sandboxes_of(client, &pod_uid).await?;
                let sandbox = ready(&sandboxes).ok_or_else(|| DriverFault::NotReady("the pod is not up".to_owned()))?;
                let port = ports.into_iter().map(i32::from).collect();
                let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port };
                Ok(look("open a stream", runtime.port_forward(request)).await?.url)
            }
        }
    }
}

impl Cri {
    /// Whoever calls has leave to change the pod.
    async fn destroy(&self, uid: &str, grace: Duration) -> Result<()> {
        let client = self.up().await?;
        let sandboxes = sandboxes_of(client, uid).await?;
        let containers =
            client.containers(Some(v1::ContainerFilter { label_selector: by_uid(uid), ..Default::default() })).await?;
        let running = containers.iter().filter(|c| c.state == v1::ContainerState::ContainerRunning as i32);
        try_join_all(running.map(|c| self.stop_container(&c.id, grace))).await?;
        for sandbox in &sandboxes {
            remove_sandbox(client, &sandbox.id).await?;
        }
        for container in &containers {
            remove_container(client, &container.id).await?;
        }
        cgroup::remove(&spec::pod_group(&self.config.prefix, uid)).await;
        self.remove_files(uid).await
    }

    /// Two attempts of a container must never run together.
    async fn stop_earlier(&self, pod: &WantedPod, attempts: &[v1::Container]) -> Result<()> {
        let grace = Duration::from_secs(u64::from(pod.grace_seconds));
        let running = attempts.iter().filter(|c| c.state == v1::ContainerState::ContainerRunning as i32);
        try_join_all(running.map(|c| self.stop_container(&c.id, grace))).await?;
        Ok(())
    }

    async fn create(
        &self,
        client: &Client,
        pod: &WantedPod,
        wanted: &WantedContainer,
        sandbox: &v1::PodSandbox,
    ) -> Result<String> {
        let image = client.image(&wanted.image).await?;
        let missing = || DriverFault::NotReady(format!("image {:?} is not here yet", wanted.image));
        let image = image.ok_or_else(missing)?;
        let hosts = if pod.host_network { None } else { Some(self.hosts_file(client, pod, &sandbox.id).await?) };
        let config = spec::container(pod, wanted, &image, hosts.as_deref())?;
        let attempt = sandbox.metadata.as_ref().map_or(0, |m| m.attempt);
        let sandbox_config = spec::sandbox(pod, attempt, &self.config.prefix, &self.paths.dir);
        make_dir(&Path::new(&sandbox_config.log_directory).join(&wanted.name))?;
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let what = format!("create container {}", wanted.name);
        Ok(within(CONTAINER_LIMIT, &what, client.runtime().create_container(request)).await?.container_id)
    }

    /// A pod's own /etc/hosts: containerd would give it the host's.
    async fn hosts_file(&self, client: &Client, pod: &WantedPod, sandbox: &str) -> Result<PathBuf> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
        let answer = look("look at the pod's sandbox", client.runtime().pod_sandbox_status(request)).await?;
        let network = answer.status.and_then(|s| s.network).unwrap_or_default();
        let more = network.additional_ips.iter().map(|ip| &ip.ip);
        let addresses = std::iter::once(&network.ip).chain(more).filter_map(|ip| ip.parse().ok());
        let dir = self.pod_dir(&pod.uid);
        make_dir(&dir)?;
        let file = dir.join("hosts");
        let text = hosts(&addresses.collect::<Vec<_>>(), pod);
        // Not replaced by renaming: containers that run have this very file mounted.
        if std::fs::read_to_string(&file).is_ok_and(|old| old == text) {
            return Ok(file);
        }
        std::fs::write(&file, text).map_err(|e| failed(format!("cannot write {}", file.display()), e))?;
        Ok(file)
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.paths.dir.join("pods").join(uid)
    }

    async fn remove_files(&self, uid: &str) -> Result<()> {
        let mut dirs = vec![self.pod_dir(uid)];
        // The directory's name has the pod's name too, which is not known any more.
        let logs = std::fs::read_dir(self.paths.dir.join("logs")).into_iter().flatten().flatten();
        let ending = format!("_{uid}");
        dirs.extend(logs.filter(|e| e.file_name().to_string_lossy().ends_with(&ending)).map(|e| e.path()));
        for dir in dirs {
            let all = dir.clone();
            match driver::on_a_thread(move || std::fs::remove_dir_all(all)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(format!("cannot remove {}", dir.display()), error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A container may write to its log without end.
    async fn bound_log(&self, container: &SeenContainer) {
        let log = &container.log_path;
        let long = std::fs::metadata(log).is_ok_and(|m| m.len() > LOG_LIMIT);
        if !long || !matches!(container.state, ContainerState::Running { .. }) {
            return;
        }
        let aside = log.with_extension("log.1");
        let request = v1::ReopenContainerLogRequest { container_id: container.id.clone() };
        let reopened = match std::fs::rename(log, &aside) {
            Ok(()) => look("reopen a log", self.client.runtime().reopen_container_log(request)).await.map(|_| ()),
            Err(error) => Err(failed(format!("cannot rename {}", log.display()), error)),
        };
        if let Err(error) = reopened {
            tracing::warn!(%error, container = container.id, "a container's log grows");
            // It is still being written to; next time.
            if !log.exists() {
                let _ = std::fs::rename(aside, log);
            }
        }
    }

    /// Removes every sandbox and container, at once and without grace.
    pub(crate) async fn remove_all(&self) -> Result<()> {
        let uids = self.client.sandboxes(None).await?.into_iter().filter_map(|s| s.labels.get(spec::POD_UID).cloned());
        let uids: std::collections::BTreeSet<String> = uids.collect();
        let removals = uids.iter().map(|uid| self.destroy(uid, Duration::ZERO));
        for result in futures_util::future::join_all(removals).await {
            result?;
        }
        Ok(())
    }
}

fn wanted<'a>(pod: &'a WantedPod, name: &str) -> Result<&'a WantedContainer> {
    let missing = || DriverFault::Refused(format!("pod {} has no container {name}", pod.name));
    pod.containers.iter().find(|c| c.name == name).ok_or_else(missing)
}

/// A pod's name among the driver's generations.
pub(crate) fn record(uid: &str) -> String {
    format!("pod-{uid}")
}

pub(crate) fn by_uid(uid: &str) -> std::collections::HashMap<String, String> {
    [(spec::POD_UID.to_owned(), uid.to_owned())].into()
}

async fn sandboxes_of(client: &Client, uid: &str) -> Result<Vec<v1::PodSandbox>> {
    let filter = v1::PodSandboxFilter { label_selector: by_uid(uid), ..Default::default() };
    client.sandboxes(Some(filter)).await
}

fn ready(sandboxes: &[v1::PodSandbox]) -> Option<&v1::PodSandbox> {
    sandboxes.iter().find(|s| s.state == v1::PodSandboxState::SandboxReady as i32)
}

async fn attempts(client: &Client, sandbox: &str, container: &str) -> Result<Vec<v1::Container>> {
    let filter = v1::ContainerFilter {
        pod_sandbox_id: sandbox.to_owned(),
        label_selector: [(spec::CONTAINER_NAME.to_owned(), container.to_owned())].into(),
        ..Default::default()
    };
    client.containers(Some(filter)).await
}

fn attempt(container: &v1::Container) -> u32 {
    container.metadata.as_ref().map_or(0, |m| m.attempt)
}

/// Stops a sandbox, with its network, and removes it with its containers.
async fn remove_sandbox(client: &Client, id: &str) -> Result<()> {
    let timed_out =
        |_| DriverFault::Unavailable("a pod's sandbox cannot be removed: containerd did not answer".to_owned());
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
    let mut runtime = client.runtime();
    let answer = tokio::time::timeout(SANDBOX_LIMIT, runtime.stop_pod_sandbox(request)).await.map_err(timed_out)?;
    gone_is_fine(answer.map(|_| ()), "stop a pod's sandbox")?;
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
    let answer = tokio::time::timeout(SANDBOX_LIMIT, runtime.remove_pod_sandbox(request)).await.map_err(timed_out)?;
    gone_is_fine(answer.map(|_| ()), "remove a pod's sandbox")
}

async fn remove_container(client: &Client, id: &str) -> Result<()> {
    let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
    let answer = tokio::time::timeout(CONTAINER_LIMIT, client.runtime().remove_container(request)).await;
    let timed_out = |_| DriverFault::Unavailable("a container cannot be removed: containerd did not answer".to_owned());
    gone_is_fine(answer.map_err(timed_out)?.map(|_| ()), "remove a container")
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| failed(format!("cannot create {}", dir.display()), e))
}

/// What files take that are removed and still open: no folder shows them.
fn open_and_gone(group: &str, dir: &Path) -> u64 {
    let Ok(disk) = std::fs::metadata(dir).map(|about| about.dev()) else { return 0 };
    let mut files = BTreeMap::new();
    for pid in cgroup::processes(group) {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            // Through the link, whose file has no name any more.
            let overlay = |path: &Path| {
                nix::sys::statfs::statfs(path)
                    .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC)
            };
            if let Ok(about) = std::fs::metadata(entry.path())
                && about.is_file()
                && about.nlink() == 0
                && (about.dev() == disk || overlay(&entry.path()))
            {
                files.insert(about.ino(), about.blocks() * 512);
            }
        }
    }
    files.into_values().fold(0, u64::saturating_add)
}

fn hosts(addresses: &[IpAddr], pod: &WantedPod) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let names = if pod.fqdn.is_empty() || pod.fqdn == pod.hostname {
        pod.hostname.clone()
    } else {
        format!("{}\t{}", pod.fqdn, pod.hostname)
    };
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    if !pod.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for (address, names) in &pod.host_aliases {
        text.push_str(&format!("{address}\t{}\n", names.join("\t")));
    }
    text
}
