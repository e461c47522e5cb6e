//! The CNI plugin, which containerd runs as `braid-cni` (and as `loopback`, which containerd 1.6 insists on), and the
//! agent's side of it. The plugin does nothing by itself: it tells the agent, which alone knows the ports, over a unix
//! socket, one line of JSON each way.
//!
//! The agent may be restarting, so the plugin waits for it. Adding gives up after [`ADD_PATIENCE`]; containerd then
//! fails the sandbox and the agent asks for another one. Removing gives up sooner and *succeeds*: with the pod's
//! namespace its veth goes away anyhow, and the next agent finds the port unplugged when it looks; failing would only
//! leave a sandbox that nobody can remove. An agent that answers with an error fails the removal; it will be repeated.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use driver::DriverFault;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

const ADD_PATIENCE: Duration = Duration::from_secs(40);
const DEL_PATIENCE: Duration = Duration::from_secs(4);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest line either side reads.
const LONGEST_LINE: u64 = 64 << 10;
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What containerd asks of a pod's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CniVerb {
    Add,
    Del,
    Check,
}

/// A pod's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniRequest {
    pub verb: CniVerb,
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    /// The pod's network namespace; empty when it is gone already, which only a removal can meet.
    pub netns: PathBuf,
    pub ifname: String,
    /// The sandbox's id.
    pub container_id: String,
}

/// An address of a plugged interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniAddress {
    /// With its prefix length: `10.0.0.5/24`.
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// What was plugged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniPlugged {
    pub ips: Vec<CniAddress>,
    pub mac: String,
}

/// What the agent does when a pod's network is made or taken away. All verbs may be repeated.
#[async_trait]
pub trait CniHandler: Send + Sync {
    /// Plugs the pod's port. `NotReady` makes the plugin ask again for a while.
    async fn add(&self, request: &CniRequest) -> driver::Result<CniPlugged>;
    /// Unplugs it; without an error if there is none.
    async fn del(&self, request: &CniRequest) -> driver::Result<()>;
    /// Whether it is still as plugged.
    async fn check(&self, request: &CniRequest) -> driver::Result<()>;
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Asking again may help.
    #[serde(default)]
    retry: bool,
    #[serde(flatten)]
    plugged: CniPlugged,
}

/// Answers the plugin; returns only when the socket cannot be listened on. Whoever starts this drops it to end it.
pub async fn serve_cni(socket: &Path, handler: Arc<dyn CniHandler>) -> std::io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            Some(_) = connections.join_next() => continue,
        };
        let handler = handler.clone();
        connections.spawn(async move {
            if let Err(error) = serve_one(stream, &*handler).await {
                tracing::warn!(%error, "a CNI request broke off");
            }
        });
    }
}

pub(crate) async fn serve_one(mut stream: tokio::net::UnixStream, handler: &dyn CniHandler) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(reader.take(LONGEST_LINE)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<CniRequest>(&line) {
        Ok(request) => handle(&request, handler).await,
        Err(error) => Answer { error: Some(format!("not a request of braid-cni: {error}")), ..Answer::default() },
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn handle(request: &CniRequest, handler: &dyn CniHandler) -> Answer {
    let result = match request.verb {
        CniVerb::Add => handler.add(request).await,
        CniVerb::Del => handler.del(request).await.map(|()| CniPlugged::default()),
        CniVerb::Check => handler.check(request).await.map(|()| CniPlugged::default()),
    };
    match result {
        Ok(plugged) => Answer { plugged, ..Answer::default() },
        Err(fault) => {
            let retry = matches!(fault, DriverFault::NotReady(_) | DriverFault::Unavailable(_));
            // The plugin asks again many times a second; the pod's status says what it waits for.
            tracing::debug!(pod = request.pod_uid, verb = ?request.verb, %fault, "the pod's network is not done");
            Answer { error: Some(fault.to_string()), retry, ..Answer::default() }
        }
    }
}

/// What CNI wants to be told of a failure.
struct Refusal {
    code: u32,
    text: String,
}

impl Refusal {
    fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// The settings that containerd passes on standard input.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    socket: PathBuf,
}

/// The plugin: what the program does when it is called `braid-cni` or `loopback`. All that it is told comes by the
/// environment and standard input, what it answers goes to standard output.
pub fn cni_main() -> ExitCode {
    let mut input = String::new();
    let read = std::io::stdin().take(1 << 20).read_to_string(&mut input);
    let settings =
        read.map_err(|e| e.to_string()).and_then(|_| serde_json::from_str(&input).map_err(|e| e.to_string()));
    let (version, result) = match settings {
        Ok(settings) => (version_of(&settings), run(&settings)),
        Err(error) => {
            ("0.4.0".to_owned(), Err(Refusal::new(6, format!("cannot read the network's settings: {error}"))))
        }
    };
    let (text, code) = match result {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(answer)) => (answer, ExitCode::SUCCESS),
        Err(refusal) => (json!({"cniVersion": version, "code": refusal.code, "msg": refusal.text}), ExitCode::FAILURE),
    };
    match std::io::stdout().write_all(text.to_string().as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn version_of(settings: &Settings) -> String {
    if settings.cni_version.is_empty() { "0.3.1".to_owned() } else { settings.cni_version.clone() }
}

fn run(settings: &Settings) -> Result<Option<Value>, Refusal> {
    let version = version_of(settings);
    let command = variable("CNI_COMMAND")?;
    if command == "VERSION" {
        return Ok(Some(json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS})));
    }
    if !VERSIONS.contains(&version.as_str()) {
        return Err(Refusal::new(1, format!("CNI {version} is not supported, only {}", VERSIONS.join(", "))));
    }
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if called.file_name().is_some_and(|name| name == "loopback") {
        return loopback(&command, &version);
    }
    let verb = match command.as_str() {
        "ADD" => CniVerb::Add,
        "DEL" => CniVerb::Del,
        "CHECK" => CniVerb::Check,
        "STATUS" | "GC" => return Ok(None),
        other => return Err(Refusal::new(4, format!("CNI_COMMAND {other} is not known"))),
    };
    let request = request(verb)?;
    match (verb, ask(settings, &request)) {
        (CniVerb::Add, Ok(plugged)) => Ok(Some(result(&version, &request, &plugged))),
        (_, Ok(_)) => Ok(None),
        (CniVerb::Del, Err(AskFault::NoAgent(_))) => Ok(None),
        (_, Err(AskFault::NoAgent(text))) => Err(Refusal::new(11, text)),
        (_, Err(AskFault::Agent(text))) => Err(Refusal::new(100, text)),
    }
}

fn variable(name: &str) -> Result<String, Refusal> {
    std::env::var(name).map_err(|_| Refusal::new(4, format!("{name} is not set")))
}

fn request(verb: CniVerb) -> Result<CniRequest, Refusal> {
    let arguments = std::env::var("CNI_ARGS").unwrap_or_default();
    let argument = |name: &str| arguments.split(';').find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
    let text = |name: &str| argument(name).unwrap_or_default().to_owned();
    let netns = match verb {
        CniVerb::Del => std::env::var("CNI_NETNS").unwrap_or_default(),
        _ => variable("CNI_NETNS")?,
    };
    Ok(CniRequest {
        verb,
        pod_uid: argument("K8S_POD_UID").ok_or_else(|| Refusal::new(4, "CNI_ARGS names no K8S_POD_UID"))?.to_owned(),
        namespace: text("K8S_POD_NAMESPACE"),
        name: text("K8S_POD_NAME"),
        netns: netns.into(),
        ifname: variable("CNI_IFNAME")?,
        container_id: variable("CNI_CONTAINERID")?,
    })
}

enum AskFault {
    /// Nobody listens, or it did not answer in time.
    NoAgent(String),
    /// The agent said no.
    Agent(String),
}

fn ask(settings: &Settings, request: &CniRequest) -> Result<CniPlugged, AskFault> {
    let patience = if request.verb == CniVerb::Del { DEL_PATIENCE } else { ADD_PATIENCE };
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let fault = match ask_once(&settings.socket, request, left.max(Duration::from_millis(100))) {
            Ok(Answer { error: None, plugged, .. }) => return Ok(plugged),
            Ok(Answer { error: Some(text), retry: false, .. }) => return Err(AskFault::Agent(text)),
            Ok(Answer { error: Some(text), .. }) => AskFault::Agent(text),
            Err(error) => {
                let socket = settings.socket.display();
                AskFault::NoAgent(format!("Braid's agent does not answer at {socket}: {error}"))
            }
        };
        if Instant::now() + RETRY_PAUSE > deadline {
            return Err(fault);
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

fn ask_once(socket: &Path, request: &CniRequest, limit: Duration) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

/// CNI's own form of what was plugged. Versions before 1.0 name each address' family.
fn result(version: &str, request: &CniRequest, plugged: &CniPlugged) -> Value {
    let ips: Vec<Value> = plugged
        .ips
        .iter()
        .map(|ip| {
            let mut value = json!({"address": ip.address, "interface": 0});
            if let Some(gateway) = &ip.gateway {
                value["gateway"] = gateway.as_str().into();
            }
            if version.starts_with("0.") {
                value["version"] = if ip.address.contains(':') { "6" } else { "4" }.into();
            }
            value
        })
        .collect();
    json!({
        "cniVersion": version,
        "interfaces": [{"name": request.ifname, "mac": plugged.mac, "sandbox": request.netns}],
        "ips": ips,
    })
}

/// Sets `lo` up in the pod's namespace, where it goes away by itself.
fn loopback(command: &str, version: &str) -> Result<Option<Value>, Refusal> {
    if command != "ADD" {
        return Ok(None);
    }
    let netns = variable("CNI_NETNS")?;
    lo_up(Path::new(&netns)).map_err(|e| Refusal::new(100, format!("cannot set lo up in {netns}: {e}")))?;
    let request = CniRequest {
        verb: CniVerb::Add,
        pod_uid: String::new(),
        namespace: String::new(),
        name: String::new(),
        netns: netns.into(),
        ifname: "lo".to_owned(),
        container_id: String::new(),
    };
    let address = CniAddress { address: "127.0.0.1/8".to_owned(), gateway: None };
    let plugged = CniPlugged { ips: vec![address], mac: "00:00:00:00:00:00".to_owned() };
    Ok(Some(result(version, &request, &plugged)))
}

/// Enters the namespace for good: the plugin is a process of its own.
#[allow(unsafe_code)]
fn lo_up(netns: &Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(netns)?;
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: an ifreq of zeros is valid; the kernel reads and writes only within it, and the socket outlives the calls.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Is ready at the third time.
    struct Slow(AtomicU32);

    #[async_trait]
    impl CniHandler for Slow {
        async fn add(&self, request: &CniRequest) -> driver::Result<CniPlugged> {
            if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
                return Err(DriverFault::NotReady("the port is not there yet".to_owned()));
            }
            let address = CniAddress { address: "10.0.0.5/24".to_owned(), gateway: Some("10.0.0.1".to_owned()) };
            Ok(CniPlugged { ips: vec![address], mac: request.pod_uid.clone() })
        }
        async fn del(&self, _: &CniRequest) -> driver::Result<()> {
            Err(DriverFault::Failed("broken".to_owned()))
        }
        async fn check(&self, _: &CniRequest) -> driver::Result<()> {
            Ok(())
        }
    }

    fn request(verb: CniVerb) -> CniRequest {
        CniRequest {
            verb,
            pod_uid: "uid".to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            netns: "/run/netns/x".into(),
            ifname: "eth0".to_owned(),
            container_id: "c".to_owned(),
        }
    }

    #[tokio::test]
    async fn the_plugin_asks_again_until_the_port_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { cni_version: String::new(), socket: dir.path().join("cni.sock") };
        let socket = settings.socket.clone();
        // The agent comes up later than the plugin.
        let plugin = tokio::task::spawn_blocking(move || {
            let added = ask(&settings, &request(CniVerb::Add));
            let deleted = ask(&settings, &request(CniVerb::Del));
            (added, deleted)
        });
        let agent = tokio::spawn(async move { serve_cni(&socket, Arc::new(Slow(AtomicU32::new(0)))).await });
        let (added, deleted) = plugin.await.unwrap();
        agent.abort();
        let plugged = added.ok().unwrap();
        assert_eq!(plugged.mac, "uid");
        let old = result("0.4.0", &request(CniVerb::Add), &plugged);
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["ips"][0]["gateway"], "10.0.0.1");
        assert!(result("1.0.0", &request(CniVerb::Add), &plugged)["ips"][0].get("version").is_none());
        assert!(matches!(deleted, Err(AskFault::Agent(text)) if text == "broken"));
    }
}
