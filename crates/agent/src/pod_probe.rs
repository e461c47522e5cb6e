//! Startup, readiness and liveness probes: one task for each container that has any, for as long as the container's
//! attempt runs. Results live in memory only; a new agent probes again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::ContainerState;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use model::{Entry, KubeObject, Port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Agent;
use crate::pod::newest;

/// What the probes of one container say.
#[derive(Clone, Copy, Debug, Default)]
struct Verdict {
    /// There is no startup probe, or it succeeded.
    started: bool,
    ready: bool,
}

/// What the probes of one pod say, by container.
#[derive(Clone, Debug, Default)]
pub struct Results(HashMap<String, Verdict>);

impl Results {
    /// Whether the container counts as started; one without probes does at once.
    pub fn started(&self, container: &str) -> bool {
        self.0.get(container).is_none_or(|v| v.started)
    }

    /// Whether the container counts as ready; one without a readiness probe does as soon as it is started.
    pub fn ready(&self, container: &str, probed: bool) -> bool {
        if probed { self.0.get(container).is_some_and(|v| v.ready) } else { true }
    }
}

type Key = (String, String);

/// All probes of a host.
#[derive(Default)]
pub struct Probes {
    /// By pod and container: the attempt's id, the task and what it found.
    running: Mutex<HashMap<Key, Running>>,
}

struct Running {
    container_id: String,
    task: tokio::task::JoinHandle<()>,
    verdict: Arc<Mutex<Verdict>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Probes what shall be probed of a pod, and nothing that is gone.
    pub fn watch(&self, agent: &Agent, row: Entry<'_, KubeObject>, pod: &Pod, port: Option<&Port>) {
        let probed: Vec<Container> = pod
            .spec
            .iter()
            .flat_map(|s| &s.containers)
            .filter(|c| c.startup_probe.is_some() || c.readiness_probe.is_some() || c.liveness_probe.is_some())
            .cloned()
            .collect();
        if probed.is_empty() {
            return;
        }
        let (agent, uid) = (agent.clone(), row.uid().to_owned());
        let place = port.and_then(|p| Some((p.id.clone(), p.fixed_ips.first()?.ip)));
        tokio::spawn(async move {
            let Ok(all) = agent.drivers().pod.list().await else { return };
            let seen = all.into_iter().find(|p| p.uid == uid);
            for container in probed {
                let running = newest(seen.as_ref(), &container.name)
                    .filter(|c| matches!(c.state, ContainerState::Running { .. }))
                    .map(|c| c.id.clone());
                agent.inner.probes.start(&agent, &uid, container, running, place.clone());
            }
        });
    }

    fn start(
        &self,
        agent: &Agent,
        uid: &str,
        container: Container,
        id: Option<String>,
        place: Option<(String, IpAddr)>,
    ) {
        let key = (uid.to_owned(), container.name.clone());
        let mut running = self.running.lock().expect("no panic under this lock");
        let Some(id) = id else {
            // Not running: not started, not ready.
            if let Some(old) = running.get(&key) {
                *old.verdict.lock().expect("no panic under this lock") = Verdict::default();
            }
            return;
        };
        if running.get(&key).is_some_and(|r| r.container_id == id) {
            return;
        }
        let verdict = Arc::new(Mutex::new(Verdict { started: container.startup_probe.is_none(), ready: false }));
        let work = Work { agent: agent.clone(), container, id: id.clone(), place, verdict: verdict.clone() };
        running.insert(key, Running { container_id: id, task: tokio::spawn(work.run()), verdict });
    }

    /// Stops probing a pod.
    pub fn forget(&self, uid: &str) {
        self.running.lock().expect("no panic under this lock").retain(|(u, _), _| u != uid);
    }

    /// What the probes of a pod say now.
    pub fn results(&self, uid: &str) -> Results {
        let running = self.running.lock().expect("no panic under this lock");
        let of_pod = running.iter().filter(|((u, _), _)| u == uid);
        Results(of_pod.map(|((_, c), r)| (c.clone(), *r.verdict.lock().expect("no panic under this lock"))).collect())
    }
}

struct Work {
    agent: Agent,
    container: Container,
    id: String,
    place: Option<(String, IpAddr)>,
    verdict: Arc<Mutex<Verdict>>,
}

impl Work {
    async fn run(self) {
        if let Some(probe) = self.container.startup_probe.clone() {
            if !self.until_started(&probe).await {
                return self.kill("startup").await;
            }
            self.change(|v| v.started = true);
        }
        let readiness = self.container.readiness_probe.clone();
        let liveness = self.container.liveness_probe.clone();
        tokio::select! {
            () = self.readiness(readiness) => {}
            () = self.liveness(liveness) => self.kill("liveness").await,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Verdict)) {
        change(&mut self.verdict.lock().expect("no panic under this lock"));
        self.agent.wake();
    }

    async fn kill(&self, which: &str) {
        tracing::info!("container {} failed its {which} probe and is restarted", self.container.name);
        if let Err(e) = self.agent.drivers().pod.stop_container(&self.id, Duration::from_secs(30)).await {
            tracing::warn!("stopping container {}: {e}", self.container.name);
        }
        self.agent.wake();
    }

    async fn until_started(&self, probe: &Probe) -> bool {
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        for _ in 0..probe.failure_threshold.unwrap_or(3).max(1) {
            if self.once(probe).await {
                return true;
            }
            tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
        }
        false
    }

    async fn readiness(&self, probe: Option<Probe>) {
        let Some(probe) = probe else { return std::future::pending().await };
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let (mut good, mut bad) = (0, 0);
        loop {
            let before = self.verdict.lock().expect("no panic under this lock").ready;
            if self.once(&probe).await {
                (good, bad) = (good + 1, 0);
            } else {
                (good, bad) = (0, bad + 1);
            }
            let ready = if before {
                bad < probe.failure_threshold.unwrap_or(3).max(1)
            } else {
                good >= probe.success_threshold.unwrap_or(1).max(1)
            };
            if ready != before {
                self.change(|v| v.ready = ready);
            }
            tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
        }
    }

    /// Returns when the container shall be restarted.
    async fn liveness(&self, probe: Option<Probe>) {
        let Some(probe) = probe else { return std::future::pending().await };
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let mut bad = 0;
        while bad < probe.failure_threshold.unwrap_or(3).max(1) {
            bad = if self.once(&probe).await { 0 } else { bad + 1 };
            tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
        }
    }

    async fn once(&self, probe: &Probe) -> bool {
        let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let ask = async {
            if let Some(exec) = &probe.exec {
                let command = exec.command.clone().unwrap_or_default();
                return self.agent.drivers().pod.exec(&self.id, &command, limit).await.is_ok_and(|out| out.code == 0);
            }
            if let Some(tcp) = &probe.tcp_socket {
                return self.dial(&tcp.port, tcp.host.as_deref()).await.is_some();
            }
            match &probe.http_get {
                Some(http) => self.http(http).await.is_some_and(|status| (200..400).contains(&status)),
                None => false,
            }
        };
        tokio::time::timeout(limit, ask).await.unwrap_or(false)
    }

    async fn dial(&self, port: &IntOrString, host: Option<&str>) -> Option<tokio::net::TcpStream> {
        let (port_id, own) = self.place.as_ref()?;
        let ip = match host {
            Some(host) => host.parse().ok()?,
            None => *own,
        };
        let stream = self.agent.drivers().net.dial(port_id, SocketAddr::new(ip, self.port(port)?)).await.ok()?;
        stream.set_nonblocking(true).ok()?;
        tokio::net::TcpStream::from_std(stream).ok()
    }

    fn port(&self, port: &IntOrString) -> Option<u16> {
        match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let named = ports.find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port);
                named.and_then(|n| u16::try_from(n).ok()).or_else(|| name.parse().ok())
            }
        }
    }

    /// The status of a GET.
    async fn http(&self, get: &HTTPGetAction) -> Option<u16> {
        let mut stream = self.dial(&get.port, get.host.as_deref()).await?;
        let path = get.path.as_deref().unwrap_or("/");
        let host = self.place.as_ref().map_or(String::new(), |(_, ip)| ip.to_string());
        let mut request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/braid\r\nConnection: close\r\n");
        for header in get.http_headers.iter().flatten() {
            let clean = |text: &str| text.replace(['\r', '\n'], "");
            request.push_str(&format!("{}: {}\r\n", clean(&header.name), clean(&header.value)));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = [0u8; 12];
        stream.read_exact(&mut head).await.ok()?;
        std::str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.map_or(default, |v| u64::try_from(v).unwrap_or(0)))
}
