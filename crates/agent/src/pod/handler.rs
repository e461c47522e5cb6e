//! What probes and hooks do with a container: a command in it, a request or a connection to it. Connections come from the
//! gateway of the pod's network, where no security group stands in the way; they go to the pod's own address alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use model::Port;

use super::client::{self, Outcome};
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
            match (&probe.http_get, &probe.grpc) {
                (Some(get), _) => self.http(get).await,
                (None, Some(grpc)) => self.grpc(grpc).await,
                (None, None) => Err("this kind of probe is not offered".to_owned()),
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

    async fn http(&self, get: &HTTPGetAction) -> Outcome {
        let (stream, host) = (self.dial(&get.port).await?, self.host());
        match get.scheme.as_deref() {
            Some("HTTPS") => client::http(client::tls(stream).await?, get, &host).await,
            _ => client::http(stream, get, &host).await,
        }
    }

    async fn grpc(&self, grpc: &GRPCAction) -> Outcome {
        let stream = self.dial(&IntOrString::Int(grpc.port)).await?;
        client::grpc(stream, &format!("{}:{}", self.host(), grpc.port), grpc.service.as_deref().unwrap_or("")).await
    }

    /// The pod's address as it stands in a URL.
    fn host(&self) -> String {
        match self.place {
            Some((_, IpAddr::V6(ip))) => format!("[{ip}]"),
            Some((_, ip)) => ip.to_string(),
            None => String::new(),
        }
    }
}
