//! Braid's own containerd: never the system's, which may be another version, configured for something else, and is not
//! ours to restart. It is a child that outlives us; the next start of Braid adopts it, if it is the very process that was
//! recorded, its configuration is still the wanted one, and it answers.
//!
//! ```text
//!              recorded process runs and answers, config.toml unchanged
//!   up() ──┬──────────────────────────────────────────────────────────────> adopted
//!          ├── it runs with another configuration, or is silent ── end it ─┐
//!          └── it does not run ────────────────────────────────────────────┴─> start, wait for the socket ─> up
//! ```
//!
//! There is no watcher: every call of the driver comes through `up()`, and agents call often. What runs in pods does not
//! notice: each pod has a shim of its own, which outlives containerd too.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use driver::{DriverFault, Result, cgroup};
use model::Time;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::client::Client;
use crate::process::{self, Process};
use crate::{Config, Registry, failed, pause};

/// containerd takes paths of at most 104 bytes for its sockets, and appends `.ttrpc` to the path of this one for another.
const LONGEST_SOCKET: usize = 104 - ".ttrpc".len();
const START_LIMIT: Duration = Duration::from_secs(30);
/// After a failed start the next attempt waits that long.
const START_PAUSE: Duration = Duration::from_secs(2);
/// A log larger than this is put aside when containerd starts.
const LOG_LIMIT: u64 = 10 << 20;

/// Where everything of one containerd is.
#[derive(Clone, Debug)]
pub struct Paths {
    pub dir: PathBuf,
    pub socket: PathBuf,
    pub state: PathBuf,
    config: PathBuf,
    pidfile: PathBuf,
    log: PathBuf,
}

impl Paths {
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            socket: dir.join("containerd.sock"),
            state: dir.join("state"),
            config: dir.join("config.toml"),
            pidfile: dir.join("containerd.pid"),
            log: dir.join("containerd.log"),
        }
    }

    /// The argument by which our process is known.
    fn mark(&self) -> String {
        self.config.display().to_string()
    }

    pub fn process(&self) -> Option<Process> {
        Process::recorded(&self.pidfile, &self.mark())
    }
}

/// What the daemon remembers between calls; all of it can be lost.
#[derive(Default)]
pub struct Memory {
    /// The process that answered with the wanted configuration, so that later calls only look whether it runs.
    up: Option<Process>,
    failure: Option<(Instant, DriverFault)>,
    /// How often it ended though nobody had asked it to, and when last.
    ends: u32,
    ended: Option<Time>,
}

impl Memory {
    /// What there is to say of a containerd that is up again, for people.
    pub fn note(&self) -> String {
        match self.ended {
            Some(at) if self.up.is_some() => {
                let times = if self.ends == 1 { String::new() } else { format!(", for the {}th time", self.ends) };
                format!("containerd ended by itself{times} (seen at {at:.0}) and was started again")
            }
            _ => String::new(),
        }
    }
}

/// Sees to it that containerd runs and answers.
pub async fn up(config: &Config, paths: &Paths, client: &Client, memory: &mut Memory) -> Result<()> {
    match memory.up {
        Some(process) if process.runs() => return Ok(()),
        Some(process) => {
            tracing::warn!(pid = process.pid, "containerd has ended by itself");
            *memory = Memory { ends: memory.ends + 1, ended: Some(Time::now()), ..Memory::default() };
        }
        None => {}
    }
    if let Some((when, fault)) = &memory.failure
        && when.elapsed() < START_PAUSE
    {
        return Err(fault.clone());
    }
    match adopt_or_start(config, paths, client).await {
        Ok(process) => {
            (memory.up, memory.failure) = (Some(process), None);
            Ok(())
        }
        Err(fault) => {
            memory.failure = Some((Instant::now(), fault.clone()));
            Err(fault)
        }
    }
}

async fn adopt_or_start(config: &Config, paths: &Paths, client: &Client) -> Result<Process> {
    if paths.socket.as_os_str().len() > LONGEST_SOCKET {
        let text = format!("the path of containerd's socket, {}, is too long for a socket", paths.socket.display());
        return Err(DriverFault::Refused(text));
    }
    let programs = Programs::find()?;
    for dir in [&paths.dir, &paths.state, &paths.dir.join("cni"), &paths.dir.join("logs")] {
        fs::create_dir_all(dir).map_err(|e| failed(format!("cannot create {}", dir.display()), e))?;
    }
    let wanted = settings(config, paths)?;
    let unchanged = write_settings(&wanted)?;
    if let Some(process) = paths.process() {
        if unchanged && client.version().await.is_ok() {
            tracing::info!(pid = process.pid, "adopted the running containerd");
            return Ok(process);
        }
        tracing::info!(pid = process.pid, unchanged, "replacing the running containerd");
        if !process.end(Duration::from_secs(10)).await {
            return Err(DriverFault::Failed(format!("containerd (process {}) does not end", process.pid)));
        }
    }
    let process = spawn(&programs, paths)?;
    wait_for_answer(&process, paths, client).await?;
    import_pause(&programs, paths, client).await?;
    Ok(process)
}

struct Programs {
    containerd: PathBuf,
    ctr: PathBuf,
}

/// Why no pod can run on this machine, as far as that shows at once.
pub fn missing() -> Option<String> {
    Programs::find().err().map(|fault| fault.to_string())
}

impl Programs {
    fn find() -> Result<Self> {
        let find = |name: &str| {
            process::which(name).ok_or_else(|| {
                DriverFault::Unavailable(format!("pods cannot run: {name} is not installed (Debian: containerd, runc)"))
            })
        };
        find("runc")?;
        find("containerd-shim-runc-v2")?;
        Ok(Self { containerd: find("containerd")?, ctr: find("ctr")? })
    }
}

fn spawn(programs: &Programs, paths: &Paths) -> Result<Process> {
    let fault = |e: io::Error| failed("cannot start containerd".to_owned(), e);
    if fs::metadata(&paths.log).is_ok_and(|m| m.len() > LOG_LIMIT) {
        fs::rename(&paths.log, paths.log.with_extension("log.1")).map_err(fault)?;
    }
    let log = fs::File::options().create(true).append(true).mode(0o600).open(&paths.log).map_err(fault)?;
    let mut command = std::process::Command::new(&programs.containerd);
    command.arg("--config").arg(&paths.config).env("PATH", process::search_path()).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(fault)?).stderr(log);
    own_session(&mut command);
    // tokio reaps it when it ends while we run; the handle itself is of no use.
    let child = Command::from(command).spawn().map_err(fault)?;
    let process = child.id().and_then(|pid| Process::find(pid as i32));
    let process =
        process.ok_or_else(|| DriverFault::Failed(format!("containerd ended at once: {}", last_words(paths))))?;
    process.record(&paths.pidfile).map_err(fault)?;
    tracing::info!(pid = process.pid, "started containerd");
    Ok(process)
}

/// The child leads a session of its own, so that no signal to our terminal or group reaches it.
#[allow(unsafe_code)]
fn own_session(command: &mut std::process::Command) {
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(|_| ()).map_err(io::Error::from));
    }
}

async fn wait_for_answer(process: &Process, paths: &Paths, client: &Client) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let answer = client.version().await;
        if answer.is_ok() {
            return Ok(());
        }
        if !process.runs() {
            return Err(DriverFault::Unavailable(format!("containerd ended at its start: {}", last_words(paths))));
        }
        if answer.is_err_and(|fault| fault.to_string().contains("unknown service")) {
            process.end(Duration::from_secs(5)).await;
            return Err(DriverFault::Unavailable(format!("containerd serves no pods: {}", last_words(paths))));
        }
        if Instant::now() > deadline {
            process.end(Duration::from_secs(1)).await;
            let words = last_words(paths);
            return Err(DriverFault::Unavailable(format!("containerd does not answer after {START_LIMIT:?}: {words}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The end of containerd's log, for messages.
fn last_words(paths: &Paths) -> String {
    let text = fs::read(&paths.log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]);
    text.lines().last().unwrap_or("it left no log").to_owned()
}

async fn import_pause(programs: &Programs, paths: &Paths, client: &Client) -> Result<()> {
    if client.image(pause::IMAGE).await?.is_some() {
        return Ok(());
    }
    let image = pause::image().map_err(|e| failed("cannot make the pause image".to_owned(), e))?;
    let image = image.ok_or_else(|| {
        DriverFault::Refused("pods run on x86-64 hosts only: there is no pause program for this processor".to_owned())
    })?;
    let file = paths.dir.join("pause.tar");
    fs::write(&file, image).map_err(|e| failed(format!("cannot write {}", file.display()), e))?;
    ctr_import(&programs.ctr, paths, &file, None).await?;
    appears(client, pause::IMAGE).await
}

/// Brings an OCI layout into containerd. The images that it holds are named by `base`, or by themselves.
pub async fn import(paths: &Paths, client: &Client, file: &Path, base: &str, tag: &str) -> Result<()> {
    ctr_import(&Programs::find()?.ctr, paths, file, Some(base)).await?;
    appears(client, &format!("{base}:{tag}")).await
}

/// Where containerd's own client is.
pub fn client_program() -> Result<PathBuf> {
    Ok(Programs::find()?.ctr)
}

async fn ctr_import(ctr: &Path, paths: &Paths, file: &Path, base: Option<&str>) -> Result<()> {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(&paths.socket).args(["--namespace", "k8s.io", "images", "import"]);
    command.args(["--snapshotter", &snapshotter(paths)?]);
    if let Some(base) = base {
        command.args(["--base-name", base]);
    }
    command.arg(file).env("PATH", process::search_path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    let output = output.map_err(|_| DriverFault::Failed("ctr images import takes too long".to_owned()))?;
    let output = output.map_err(|e| failed("cannot run ctr".to_owned(), e))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(DriverFault::Failed(format!("cannot import {}: {}", file.display(), words.trim())))
}

/// The CRI part of containerd learns of an image a moment after it was imported.
async fn appears(client: &Client, image: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.image(image).await?.is_none() {
        if Instant::now() > deadline {
            return Err(DriverFault::Failed(format!("the imported image {image} does not appear")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The configuration files, by path.
fn settings(config: &Config, paths: &Paths) -> Result<Vec<(PathBuf, String)>> {
    let conflist = serde_json::json!({
        "cniVersion": "0.4.0", "name": "braid",
        "plugins": [{"type": "braid-cni", "socket": config.cni_socket}],
    });
    let mut files = vec![
        (paths.config.clone(), config_toml(config, paths, &snapshotter(paths)?)),
        (paths.dir.join("cni/10-braid.conflist"), conflist.to_string()),
    ];
    if let Some(registry) = &config.registry {
        files.push((paths.dir.join("certs.d").join(&registry.name).join("hosts.toml"), hosts_toml(registry)));
    }
    Ok(files)
}

/// Writes the files that differ; true if none did. The registry's file is read anew at each pull, the others at start.
fn write_settings(files: &[(PathBuf, String)]) -> Result<bool> {
    let mut unchanged = true;
    for (path, text) in files {
        if fs::read_to_string(path).is_ok_and(|old| old == *text) {
            continue;
        }
        unchanged &= path.ends_with("hosts.toml");
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            let new = path.with_extension("new");
            fs::write(&new, text)?;
            fs::rename(new, path)
        };
        write().map_err(|e| failed(format!("cannot write {}", path.display()), e))?;
    }
    Ok(unchanged)
}

fn quoted(text: impl AsRef<Path>) -> String {
    // TOML's basic strings escape as JSON's do.
    serde_json::Value::from(text.as_ref().to_string_lossy()).to_string()
}

fn config_toml(config: &Config, paths: &Paths, snapshotter: &str) -> String {
    let dir = |name: &str| quoted(paths.dir.join(name));
    // Without the capability no process may be made less likely to be killed than containerd is, and runc would fail.
    let restrict = !may_lower_oom_score();
    format!(
        r#"version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = {socket}

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {bin_dir}
    conf_dir = {conf_dir}

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {certs}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {runc}
"#,
        root = dir("root"),
        state = quoted(&paths.state),
        socket = quoted(&paths.socket),
        pause = pause::IMAGE,
        bin_dir = quoted(&config.cni_bin_dir),
        conf_dir = dir("cni"),
        certs = dir("certs.d"),
        runc = quoted(paths.state.join("runc")),
    )
}

fn hosts_toml(registry: &Registry) -> String {
    // What the host does not have is asked of the server too, which is the same: it needs the authority as well.
    let ca = registry.ca.as_ref().map(|ca| format!("ca = {}\n", quoted(ca))).unwrap_or_default();
    let url = quoted(&registry.url);
    format!("server = {url}\n{ca}\n[host.{url}]\n  capabilities = [\"pull\", \"resolve\"]\n  {ca}")
}

fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|caps| caps & CAP_SYS_RESOURCE != 0)
}

/// Where containerd keeps unpacked layers. Chosen once by a probe and kept, since images belong to a snapshotter.
fn snapshotter(paths: &Paths) -> Result<String> {
    let file = paths.dir.join("snapshotter");
    if let Ok(chosen) = fs::read_to_string(&file) {
        return Ok(chosen);
    }
    let chosen = if overlayfs_works(&paths.dir) { "overlayfs" } else { "native" };
    fs::write(&file, chosen).map_err(|e| failed(format!("cannot write {}", file.display()), e))?;
    Ok(chosen.to_owned())
}

/// Mounts an overlay here and looks through it: file systems differ in whether they can be a layer.
fn overlayfs_works(dir: &Path) -> bool {
    let probe = dir.join("overlay-probe");
    let try_it = || -> io::Result<()> {
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir_all(probe.join(name))?;
        }
        fs::write(probe.join("lower/file"), "")?;
        let path = |name: &str| probe.join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
        let merged = probe.join("merged");
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        let seen = fs::write(merged.join("other"), "").and_then(|()| fs::metadata(merged.join("file")));
        umount2(&merged, MntFlags::MNT_DETACH)?;
        seen.map(|_| ())
    };
    let works = try_it();
    if let Err(error) = &works {
        tracing::warn!(%error, "overlayfs does not work here; containers' files are copied instead, which is slow");
    }
    let _ = fs::remove_dir_all(&probe);
    works.is_ok()
}

/// Ends containerd and every process and mount that belongs to it, whether or not it answers. Images stay.
pub async fn stop(paths: &Paths, cgroup: &str) -> Result<()> {
    if let Some(process) = paths.process()
        && !process.end(Duration::from_secs(5)).await
    {
        return Err(DriverFault::Failed(format!("containerd (process {}) does not end", process.pid)));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    // Killing a container lets its shim go on, and the other way round; both have to be gone.
    loop {
        let shims = shims(paths);
        shims.iter().for_each(|shim| shim.signal(Signal::SIGKILL));
        if shims.is_empty() && cgroup::kill_all(cgroup) == 0 {
            break;
        }
        if Instant::now() > deadline {
            return Err(DriverFault::Failed("processes of containers do not end".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cgroup::remove(cgroup).await;
    remove_shim_sockets(paths);
    unmount_below(&paths.dir);
    Ok(())
}

/// The shims that speak to our containerd.
fn shims(paths: &Paths) -> Vec<Process> {
    let socket = paths.socket.display().to_string();
    let ours = |process: &Process| {
        let arguments = process::arguments(process.pid);
        arguments.first().is_some_and(|a| a.ends_with("containerd-shim-runc-v2")) && arguments.contains(&socket)
    };
    process::all().into_iter().filter(ours).collect()
}

/// Shims listen in a directory that all containerds of a host share; each bundle names its own.
fn remove_shim_sockets(paths: &Paths) {
    let bundles = paths.state.join("io.containerd.runtime.v2.task/k8s.io");
    for bundle in fs::read_dir(bundles).into_iter().flatten().flatten() {
        let address = fs::read_to_string(bundle.path().join("address")).unwrap_or_default();
        if let Some(socket) = address.trim().strip_prefix("unix://") {
            let _ = fs::remove_file(socket);
        }
    }
}

/// Undoes all mounts below a directory, the latest first.
fn unmount_below(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let below: Vec<PathBuf> = targets.map(PathBuf::from).filter(|t| t.starts_with(dir) && t != dir).collect();
    for target in below.iter().rev() {
        if let Err(error) = umount2(target, MntFlags::MNT_DETACH) {
            tracing::warn!(target = %target.display(), %error, "cannot unmount");
        }
    }
}

/// The kernel writes blanks and backslashes of paths as `\ooo`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_targets_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain\"), r"/plain\");
    }

    #[test]
    fn the_registry_is_named_with_its_authority() {
        let registry = Registry {
            name: "braid.local".to_owned(),
            url: "https://127.0.0.1:8443".to_owned(),
            ca: Some("/etc/braid/ca.pem".into()),
        };
        let text = hosts_toml(&registry);
        assert!(text.contains("[host.\"https://127.0.0.1:8443\"]"), "{text}");
        let (server, host) = text.split_once("[host").expect("both");
        assert!(server.contains("ca = \"/etc/braid/ca.pem\"") && host.contains("ca = \"/etc/braid/ca.pem\""), "{text}");
    }
}
