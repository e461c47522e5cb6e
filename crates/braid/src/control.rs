//! The running process answers the other commands here: readiness, status, explanations. A unix socket that only its
//! owner can open, so that it needs no credentials.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{self, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use blob::room::Room;
use http::StatusCode;
use model::{Fault, Host, Image, Index, Key, Kind, KubeObject, Network, Port, Server, Snapshot, Subnet, Time, Vm};
use serde_json::{Value, json};
use store::Store;

use crate::paths::Dir;
use crate::{Problem, ranges};

/// What the commands may ask about.
pub struct About {
    pub store: Store,
    /// The cloud's folder.
    pub dir: PathBuf,
    /// What the names of this cloud's devices begin with; `None`: it has none, all is simulated.
    pub ours: Option<String>,
    /// What could not run when it started, in words.
    pub missing: Vec<String>,
    pub started: Instant,
    pub authority: String,
    pub ready_ms: std::sync::OnceLock<u128>,
    /// Whether the planners run in this process.
    pub plans_here: Arc<AtomicBool>,
    /// This host's agent, once it runs.
    pub agent: std::sync::OnceLock<agent::Agent>,
}

/// Serves the control socket until the process ends.
pub async fn serve(dir: &Dir, about: Arc<About>) -> Result<(), Problem> {
    let router = Router::new()
        .route("/ready", get(ready))
        .route("/status", get(status))
        .route("/explain/{kind}/{*name}", get(explain))
        .route("/questions", get(questions))
        .route("/confirm", post(confirm))
        .route("/trash/restore/{name}", post(restore))
        .with_state(about);
    let listener = private_socket(&dir.control())?;
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, router).await {
            tracing::error!("the control socket ended: {e}");
        }
    });
    Ok(())
}

/// A listening unix socket that only its owner can open; a stale one is replaced.
pub fn private_socket(path: &Path) -> Result<tokio::net::UnixListener, Problem> {
    let what = || format!("listening on {}", path.display());
    let _ = std::fs::remove_file(path);
    let listener = tokio::net::UnixListener::bind(path).map_err(Problem::io(what()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(Problem::io(what()))?;
    Ok(listener)
}

async fn ready(State(about): State<Arc<About>>) -> (StatusCode, String) {
    match about.ready_ms.get() {
        Some(ms) => (StatusCode::OK, ms.to_string()),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting".into()),
    }
}

/// The agent, or that there is none yet.
fn agent_of(about: &About) -> Result<&agent::Agent, Fault> {
    about.agent.get().ok_or_else(|| Fault::Unavailable("the cloud is starting".into()))
}

async fn questions(State(about): State<Arc<About>>) -> Response {
    answer(agent_of(&about).map(|agent| json!({"questions": agent.questions()})))
}

async fn confirm(State(about): State<Arc<About>>) -> Response {
    answer(agent_of(&about).and_then(agent::Agent::confirm).map(|agreed| json!({"confirmed": agreed})))
}

async fn restore(State(about): State<Arc<About>>, extract::Path(name): extract::Path<String>) -> Response {
    let restored = match agent_of(&about) {
        Ok(agent) => agent.restore(&name).await,
        Err(why) => Err(why),
    };
    answer(restored.map(|what| json!({"restored": what})))
}

fn answer(result: Result<Value, Fault>) -> Response {
    match result {
        Ok(value) => json_response(StatusCode::OK, value),
        Err(why) => json_response(StatusCode::CONFLICT, json!({"error": why.to_string()})),
    }
}

async fn status(State(about): State<Arc<About>>) -> Response {
    let snapshot = about.store.snapshot();
    let now = Time::now();
    let hosts: Vec<Value> = snapshot
        .all::<Host>()
        .map(|host| {
            let heard = about.store.last_beat(&host.name).max(host.status.heartbeat);
            let silent = std::iter::once(("agent".to_owned(), silence(host.value, heard, now)));
            let parts: Vec<Value> = silent
                .chain(host.status.parts.iter().cloned())
                .map(|(part, problem)| {
                    let note = host.status.notes.iter().find(|(of, _)| *of == part).map_or("", |(_, note)| note);
                    json!({"part": part, "ok": problem.is_empty(), "problem": problem, "note": note})
                })
                .collect();
            json!({
                "name": host.name, "heartbeat": heard, "accel": host.status.accel, "parts": parts,
                "vms": snapshot.find::<Vm>(Index::Host, &host.name).count(),
                "pods": snapshot.find::<KubeObject>(Index::Host, &host.name).filter(|o| o.is_pod()).count(),
            })
        })
        .collect();
    let trouble = match about.store.fresh().await {
        Ok(_) => about.store.trouble().unwrap_or_default(),
        Err(e) => e.to_string(),
    };
    let store = json!({"ok": trouble.is_empty(), "problem": trouble});
    let disk = disk(&about.dir);
    let addresses = addresses(&snapshot, about.ours.as_deref());
    let ready = about.ready_ms.get().map(|ms| *ms as u64);
    let healthy = ready.is_some()
        && store["ok"] == true
        && addresses["ok"] == true
        && disk["ok"] == true
        && hosts.iter().all(|h| h["parts"].as_array().is_some_and(|p| p.iter().all(|p| p["ok"] == true)));
    let count = |kind: Kind| snapshot.of_kind(kind).count();
    json_response(
        StatusCode::OK,
        json!({
            "healthy": healthy,
            "url": format!("https://{}", about.authority),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "simulated": about.ours.is_none(),
            "uptime_seconds": about.started.elapsed().as_secs(),
            "ready_ms": ready,
            "memory_mib": resident_mib(),
            "store": store,
            "plans_here": about.plans_here.load(Ordering::Relaxed),
            "disk": disk,
            "addresses": addresses,
            "missing": about.missing,
            "revision": snapshot.revision(),
            "hosts": hosts,
            "counts": {
                "projects": count(Kind::Project), "servers": count(Kind::Server), "images": snapshot.all::<Image>().count(),
                "networks": count(Kind::Network), "ports": count(Kind::Port), "clusters": count(Kind::Cluster),
                "pods": snapshot.all::<KubeObject>().filter(|o| o.is_pod()).count(), "rows": snapshot.len(),
            },
        }),
    )
}

/// What is wrong with a host of which nothing is heard, in words.
fn silence(host: &Host, heard: Option<Time>, now: Time) -> String {
    match heard {
        Some(last) if !host.is_up() || now.as_second() - last.as_second() > Host::SILENCE_SECONDS => {
            format!("last heard {} s ago; what is said of this host is as old", now.duration_since(last).as_secs())
        }
        _ => String::new(),
    }
}

/// Whether the external networks share addresses with other networks of this machine.
fn addresses(snapshot: &Snapshot, ours: Option<&str>) -> Value {
    let routes = if ours.is_some() { ranges::routes() } else { Vec::new() };
    let subnets = snapshot.all::<Subnet>().filter(|subnet| {
        let network = snapshot.get::<Network>(&subnet.network_id);
        network.is_some_and(|network| network.external)
    });
    let ranges = subnets.filter_map(|subnet| match subnet.base {
        IpAddr::V4(base) => Some((base, subnet.prefix)),
        IpAddr::V6(_) => None,
    });
    let problem = ranges.filter_map(|range| ranges::problem(range, &routes, ours.unwrap_or_default())).next();
    json!({"ok": problem.is_none(), "problem": problem.unwrap_or_default()})
}

/// The room on the disk of the cloud's folder.
fn disk(dir: &Path) -> Value {
    let room = match blob::room::room(dir) {
        Ok(room) => room,
        Err(e) => return json!({"ok": false, "problem": format!("{} cannot be looked at: {e}", dir.display())}),
    };
    let problem = shortage(dir, &room);
    let (free, total) = (room.disk.available >> 20, room.total >> 20);
    let files = room.inodes.map(|inodes| inodes.available);
    json!({"ok": problem.is_empty(), "problem": problem, "free_mib": free, "total_mib": total, "free_inodes": files})
}

/// What a disk is short of, in words; an empty text: nothing.
fn shortage(dir: &Path, room: &Room) -> String {
    let (dir, free, total) = (dir.display(), room.disk.available >> 20, room.total >> 20);
    const MEANWHILE: &str = "images are refused and pods evicted until there is room";
    match room.inodes.filter(|inodes| inodes.is_short()) {
        _ if room.disk.available < store::FULL => {
            format!(
                "the disk of {dir} is full: {free} of {total} MiB are free; make room, then everything goes on by itself"
            )
        }
        _ if room.disk.is_short() => {
            format!("the disk of {dir} is short of room: {free} of {total} MiB are free; {MEANWHILE}")
        }
        Some(inodes) => {
            let files = inodes.available;
            format!("the disk of {dir} is short of inodes: {files} more files can be made; {MEANWHILE}")
        }
        None => String::new(),
    }
}

/// JSON with a status.
pub fn json_response(status: StatusCode, value: Value) -> Response {
    (status, [("content-type", "application/json")], value.to_string()).into_response()
}

fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

async fn explain(
    State(about): State<Arc<About>>,
    extract::Path((kind, name)): extract::Path<(String, String)>,
) -> Response {
    let snapshot = about.store.snapshot();
    let found = match kind.as_str() {
        "server" | "vm" => servers(&snapshot, &name),
        "pod" | "pods" | "po" => pods(&snapshot, &name),
        "port" => ports(&snapshot, &name),
        "host" | "node" => hosts(&snapshot, &name),
        _ => {
            let text = format!("braid explains server, pod, port and host; not '{kind}'");
            return json_response(StatusCode::BAD_REQUEST, json!({"error": text}));
        }
    };
    if found.is_empty() {
        return json_response(StatusCode::NOT_FOUND, json!({"error": format!("there is no {kind} '{name}'")}));
    }
    let general: Vec<String> =
        about.store.trouble().into_iter().map(|why| format!("the cloud cannot write down changes: {why}")).collect();
    json_response(StatusCode::OK, json!({"things": found, "general": general}))
}

fn thing(name: String, key: &Key, lines: Vec<String>) -> Value {
    json!({"name": name, "key": key, "lines": lines})
}

fn servers(snapshot: &Snapshot, name: &str) -> Vec<Value> {
    let named = snapshot.all::<Server>().filter(|s| s.id == name || s.name == name);
    named
        .map(|server| {
            let mut lines = Vec::new();
            lines.extend(server.problem.iter().map(|p| format!("cannot go on: {p}")));
            if server.deleting {
                lines.push("is being deleted".into());
            }
            let vms: Vec<_> = snapshot.find::<Vm>(Index::Owner, &server.id).collect();
            if vms.is_empty() && server.problem.is_none() {
                lines.push("waits for its ports, then for a host".into());
            }
            for vm in vms {
                let host = vm.host.as_deref().unwrap_or("no host yet");
                lines.push(format!(
                    "incarnation {} on {host}: {:?} {}",
                    vm.incarnation, vm.status.phase, vm.status.message
                ));
                lines.extend(host_trouble(snapshot, vm.host.as_deref(), "VMs"));
                lines.extend(vm.decision.iter().map(|line| format!("  scheduler: {line}")));
            }
            for port in Port::of_server(snapshot, &server) {
                let ips: Vec<String> = port.fixed_ips.iter().map(|f| f.ip.to_string()).collect();
                lines.push(format!("port {} [{}]: {:?}", port.id, ips.join(", "), port.status));
            }
            thing(server.name.clone(), &server.row.key, lines)
        })
        .collect()
}

/// What is wrong, as far as it is known, with the part of a host that a thing needs, and with its network.
fn host_trouble(snapshot: &Snapshot, host: Option<&str>, part: &str) -> Vec<String> {
    let Some(host) = host.and_then(|name| snapshot.get::<Host>(name)) else { return Vec::new() };
    let parts = host.status.parts.iter().filter(|(of, problem)| !problem.is_empty() && (of == part || of == "network"));
    parts.map(|(of, problem)| format!("its host is not well: {of}: {problem}")).collect()
}

fn pods(snapshot: &Snapshot, name: &str) -> Vec<Value> {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let fits = |o: &KubeObject| {
        o.is_pod() && (o.name == name || o.uid() == name) && (namespace.is_empty() || o.namespace == namespace)
    };
    let found = snapshot.all::<KubeObject>().filter(|o| fits(o.value));
    found
        .map(|pod| {
            let status = &pod.body["status"];
            let mut lines = vec![format!("phase {}", status["phase"].as_str().unwrap_or("unknown"))];
            match pod.body["spec"]["nodeName"].as_str() {
                Some(host) => lines.push(format!("on host {host}")),
                None => lines.push("waits for a host".into()),
            }
            lines.extend(host_trouble(snapshot, pod.body["spec"]["nodeName"].as_str(), "pods"));
            if pod.deleting() {
                lines.push("is being deleted".into());
            }
            lines.extend(status["message"].as_str().map(str::to_owned));
            for condition in status["conditions"].as_array().into_iter().flatten().filter(|c| c["status"] != "True") {
                let text = |name: &str| condition[name].as_str().unwrap_or("").to_owned();
                lines.push(format!("not {}: {} {}", text("type"), text("reason"), text("message")));
            }
            for container in status["containerStatuses"].as_array().into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or("");
                for (state, body) in container["state"].as_object().into_iter().flatten() {
                    let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
                    lines.push(format!("container {name}: {state} {} {}", text("reason"), text("message")));
                }
            }
            if let Some(port) = Port::of_pod(snapshot, pod.uid()) {
                let ips: Vec<String> = port.fixed_ips.iter().map(|f| f.ip.to_string()).collect();
                lines.push(format!("port {} [{}]: {:?}", port.id, ips.join(", "), port.status));
            }
            let title = format!("{}/{}", pod.namespace, pod.name);
            thing(title, &pod.row.key, lines.into_iter().map(|l| l.trim_end().to_owned()).collect())
        })
        .collect()
}

fn ports(snapshot: &Snapshot, name: &str) -> Vec<Value> {
    let named = snapshot.all::<Port>().filter(|p| p.id == name || (p.name == name && !name.is_empty()));
    named
        .map(|port| {
            let host = port.host.as_deref().unwrap_or("no host");
            let lines = vec![
                format!("{:?} on {host}", port.status),
                format!("belongs to {} {}", port.device_owner(), port.device_id()),
            ];
            thing(port.id.clone(), &port.row.key, lines)
        })
        .collect()
}

fn hosts(snapshot: &Snapshot, name: &str) -> Vec<Value> {
    let named = snapshot.all::<Host>().filter(|h| h.name == name || h.id == name);
    named
        .map(|host| {
            let mut lines: Vec<String> = Vec::new();
            match host.status.heartbeat {
                Some(moment) => lines.push(format!("last reported at {moment}")),
                None => lines.push("has never reported".into()),
            }
            if !host.enabled {
                lines.push(format!("disabled: {}", host.disabled_reason.as_deref().unwrap_or("no reason given")));
            }
            for (part, problem) in &host.status.parts {
                lines.push(format!("{part}: {}", if problem.is_empty() { "well" } else { problem }));
            }
            lines.extend(host.status.notes.iter().map(|(part, note)| format!("{part}: {note}")));
            thing(host.name.clone(), &host.row.key, lines)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blob::room::Margin;

    #[test]
    fn a_disk_says_what_it_is_short_of() {
        let said = |mib: u64, files: Option<u64>| {
            let disk = Margin { available: mib << 20, threshold: 1 << 30 };
            let inodes = files.map(|available| Margin { available, threshold: 100 });
            shortage(Path::new("/cloud"), &Room { disk, total: 20 << 30, inodes })
        };
        assert_eq!((said(2000, Some(100)), said(2000, None)), (String::new(), String::new()));
        assert!(said(31, Some(100)).starts_with("the disk of /cloud is full: 31 of 20480 MiB are free"));
        assert!(said(1000, Some(100)).contains("is short of room: 1000 of 20480 MiB"));
        assert!(said(2000, Some(99)).contains("is short of inodes: 99 more files"));
    }
}
