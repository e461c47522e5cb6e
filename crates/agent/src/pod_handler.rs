//! What probes and hooks do with a container: a command in it, a request or a connection to it. Connections come from the
//! gateway of the pod's network, where no security group stands in the way; they go to the pod's own address alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use model::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Agent;

/// The most of a command's output that is told.
const TOLD: usize = 512;

/// A running container, and how to reach it.
#[derive(Clone)]
pub struct Handler {
    pub agent: Agent,
    pub container: Container,
    /// The runtime's id.
    pub id: String,
    /// The pod's port and address.
    pub place: Option<(String, IpAddr)>,
}

/// Where a pod is reached.
pub fn place(port: Option<&Port>) -> Option<(String, IpAddr)> {
    port.and_then(|p| Some((p.id.clone(), p.fixed_ips.first()?.ip)))
}

/// Why it did not succeed, in words.
pub type Outcome = Result<(), String>;

impl Handler {
    /// Probes once.
    pub async fn probe(&self, probe: &Probe) -> Outcome {
        let seconds = probe.timeout_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(1).max(1);
        let limit = Duration::from_secs(seconds);
        let ask = async {
            if let Some(exec) = &probe.exec {
                return self.exec(exec.command.as_deref().unwrap_or_default(), limit).await;
            }
            if let Some(tcp) = &probe.tcp_socket {
                return self.dial(&tcp.port).await.map(drop);
            }
            match &probe.http_get {
                Some(get) => self.http(get).await,
                None => Err("this kind of probe is not offered".to_owned()),
            }
        };
        tokio::time::timeout(limit, ask).await.unwrap_or_else(|_| Err(format!("timed out after {seconds}s")))
    }

    /// Runs a hook, for `limit` at most.
    pub async fn hook(&self, hook: &LifecycleHandler, limit: Duration) -> Outcome {
        let run = async {
            if let Some(exec) = &hook.exec {
                return self.exec(exec.command.as_deref().unwrap_or_default(), limit).await;
            }
            if let Some(sleep) = &hook.sleep {
                tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
                return Ok(());
            }
            match &hook.http_get {
                Some(get) => self.http(get).await,
                None => Err("this kind of hook is not offered".to_owned()),
            }
        };
        tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Err(format!("timed out after {limit:?}")))
    }

    async fn exec(&self, command: &[String], limit: Duration) -> Outcome {
        let output = self.agent.drivers().pod.exec(&self.id, command, limit).await.map_err(|e| e.to_string())?;
        if output.code == 0 {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said[..said.len().min(TOLD)]).trim().to_owned();
        Err(format!("command {command:?} exited with {}: {said}", output.code))
    }

    async fn dial(&self, port: &IntOrString) -> Result<tokio::net::TcpStream, String> {
        let (port_id, ip) = self.place.as_ref().ok_or("the pod has no address")?;
        let number = self.port(port).ok_or_else(|| format!("the container has no port {port:?}"))?;
        let to = SocketAddr::new(*ip, number);
        let stream = self.agent.drivers().net.dial(port_id, to).await.map_err(|e| format!("dial tcp {to}: {e}"))?;
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        tokio::net::TcpStream::from_std(stream).map_err(|e| e.to_string())
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

    /// A GET that must be answered with a status below 400.
    async fn http(&self, get: &HTTPGetAction) -> Outcome {
        let mut stream = self.dial(&get.port).await?;
        let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
        let headers = get.http_headers.as_deref().unwrap_or_default();
        let clean = |text: &str| text.replace(['\r', '\n'], "");
        let host = headers.iter().find(|h| h.name.eq_ignore_ascii_case("host")).map(|h| clean(&h.value));
        let host = host.unwrap_or_else(|| self.place.as_ref().map_or(String::new(), |(_, ip)| ip.to_string()));
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/braid\r\nConnection: close\r\n",
            clean(path).replace(' ', "%20")
        );
        for header in headers.iter().filter(|h| !h.name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("{}: {}\r\n", clean(&header.name), clean(&header.value)));
        }
        request.push_str("\r\n");
        let mut head = [0u8; 12];
        let asked = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_exact(&mut head).await
        };
        asked.await.map_err(|e| format!("GET {path}: {e}"))?;
        let status = std::str::from_utf8(&head).ok().and_then(|h| h.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
        match status {
            Some(200u16..400) => Ok(()),
            Some(status) => Err(format!("HTTP probe failed with statuscode: {status}")),
            None => Err(format!("GET {path}: the answer is not HTTP")),
        }
    }
}
