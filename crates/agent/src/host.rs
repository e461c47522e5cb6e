//! What the agent says of its host. It is kept when there is news; that the host lives is said without a commit.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use driver::Health;
use jiff::SignedDuration;
use model::host_report::{HostReport, Report};
use model::{Fault, Host, HostStatus, Time};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

use crate::{Agent, identity};

/// How often the agent says that it lives, and looks for what is new to report.
pub const REPORT_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// A driver has so long to say how it is.
const HEALTH_LIMIT: Duration = Duration::from_secs(6);

/// Says how the host is; while it does nothing, only why.
pub async fn report(agent: &Agent) -> Result<(), Fault> {
    if agent.holds() {
        // Without a sign of life, so that nothing new is placed here.
        return agent.report(Report::Holds(questions(agent))).await.map(drop);
    }
    // After anything else was said this is counted in any case: by the number of reports a host knows a store that is older
    // than what was done here.
    let counts = agent.inner.wrote.swap(false, Ordering::Relaxed);
    let report = Report::Host(Box::new(HostReport { counts, ..state(agent).await }));
    let heard = agent.cloud().report(report).await.inspect_err(|_| {
        agent.inner.wrote.fetch_or(counts, Ordering::Relaxed);
    })?;
    if let Some(reports) = heard.reports {
        identity::reported(agent, reports).map_err(|e| Fault::Unavailable(format!("noting the report: {e}")))?;
    }
    agent.cloud().beat(agent.now()).await
}

/// What a person is asked, as a part of the host that is not well.
fn questions(agent: &Agent) -> Vec<(String, String)> {
    let how = "; `braid confirm` goes on all the same";
    agent.questions().into_iter().map(|words| (ASKS.to_owned(), words + how)).collect()
}

/// The part of a host that waits for a person.
const ASKS: &str = "asks";

/// How the host is.
async fn state(agent: &Agent) -> HostReport {
    let drivers = agent.drivers();
    let (vm, pod, net) = tokio::join!(
        answered("VMs", drivers.vm.health()),
        answered("pods", drivers.pod.health()),
        answered("network", drivers.net.health()),
    );
    let parts = [&vm, &pod, &net].map(|h| (h.part.clone(), h.problem.clone()));
    let noted = [&vm, &pod, &net].into_iter().filter(|h| !h.note.is_empty());
    let status = HostStatus {
        parts: parts.into_iter().chain(questions(agent)).collect(),
        notes: noted.map(|h| (h.part.clone(), h.note.clone())).collect(),
        accel: if vm.version.ends_with(", KVM") { "kvm" } else { "tcg" }.into(),
        address: address(),
        arch: arch().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: release(),
        os: os_name(),
        hypervisor_version: vm.version,
        container_runtime: pod.version,
        short: agent.inner.pressure.short_of(agent.now()),
        ..HostStatus::default()
    };
    HostReport { status, endpoint: agent.config().endpoint.clone(), counts: false }
}

/// What a driver says of itself, or that it does not say anything: the host reports in any case.
async fn answered(part: &str, health: impl Future<Output = Health>) -> Health {
    tokio::time::timeout(HEALTH_LIMIT, health).await.unwrap_or_else(|_| Health {
        part: part.to_owned(),
        problem: format!("did not answer within {} s", HEALTH_LIMIT.as_secs()),
        ..Health::default()
    })
}

/// The address from which the machine speaks to others, as kubelets choose it: by the route that leads outside, else that of
/// the first device which is up. Nothing is sent.
fn address() -> Option<IpAddr> {
    let routed = |any: &str, outside: &str| {
        let socket = UdpSocket::bind(any).and_then(|socket| socket.connect(outside).map(|()| socket));
        Some(socket.ok()?.local_addr().ok()?.ip())
    };
    let routed = routed("0.0.0.0:0", "192.0.2.1:9").or_else(|| routed("[::]:0", "[2001:db8::1]:9"));
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(_) => false,
    };
    let of_device = |device: InterfaceAddress| -> Option<IpAddr> {
        let up = device.flags.contains(InterfaceFlags::IFF_UP);
        Some(IpAddr::V4(device.address?.as_sockaddr_in()?.ip())).filter(|_| up)
    };
    routed.or_else(|| getifaddrs().ok()?.filter_map(of_device).find(usable))
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn os_name() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// What a machine has, for its first Host row.
pub fn measure(name: &str, dir: &std::path::Path, endpoint: &str, now: Time) -> Host {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    Host {
        cpu_milli: cores * 1000 * CPU_OVERCOMMIT,
        memory_mib: memory_mib().saturating_sub(RESERVED_MIB).max(256),
        disk_gib: disk_gib(dir),
        cores,
        endpoint: endpoint.to_owned(),
        traits: vec!["COMPUTE_NODE".into()],
        ..Host::new(name, now)
    }
}

/// Nova's default: four promised cores for a real one.
const CPU_OVERCOMMIT: u64 = 4;
/// Nova's default for the host itself.
const RESERVED_MIB: u64 = 512;

/// The memory of the machine.
pub(crate) fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    total.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(1024, |kb| kb / 1024)
}

fn disk_gib(dir: &std::path::Path) -> u64 {
    match nix::sys::statvfs::statvfs(dir) {
        Ok(fs) => fs.blocks_available().saturating_mul(fs.fragment_size()) >> 30,
        Err(_) => 1,
    }
}
