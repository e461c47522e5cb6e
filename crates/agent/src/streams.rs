//! What only this host can tell, for the faces: consoles, logs, and commands in containers. Served over HTTP at the
//! endpoint that the Host row names; who may ask is the faces' decision, made before they connect, so the socket must
//! be reachable for them alone.

mod exec;
mod logs;

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path as Part, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;

use crate::{Agent, pod};

/// The most of a console that is given at once.
const MAX_CONSOLE: u64 = 8 << 20;

/// The host's face as a router, to be served on the socket that the Host row names.
pub fn router(agent: Agent) -> Router {
    Router::new()
        .route("/console/{vm}", get(console))
        .route("/logs/{cluster}/{uid}/{container}", get(logs::serve))
        .route("/exec/{uid}/{container}", get(exec_in))
        .with_state(agent)
}

type Reply = Result<Response, (StatusCode, String)>;

fn missing(text: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, text.into())
}

/// Decoded pairs of a query string; names may repeat.
fn pairs(query: Option<String>) -> Vec<(String, String)> {
    let query = query.unwrap_or_default();
    let decode = |text: &str| -> String {
        let bytes = text.replace('+', " ").into_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut i = 0;
        while i < bytes.len() {
            let hex = (bytes[i] == b'%').then(|| bytes.get(i + 1..i + 3)).flatten();
            let byte = hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
            out.push(byte.unwrap_or(bytes[i]));
            i += if byte.is_some() { 3 } else { 1 };
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// The end of a VM's console: all, or the last `length` lines.
async fn console(State(agent): State<Agent>, Part(vm): Part<String>, RawQuery(query): RawQuery) -> Reply {
    let query: HashMap<String, String> = pairs(query).into_iter().collect();
    let length = query.get("length").and_then(|n| n.parse::<usize>().ok());
    let path = agent.drivers().vm.console_log(&vm);
    let bytes = tokio::task::spawn_blocking(move || tail(&path, MAX_CONSOLE))
        .await
        .map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?
        .map_err(|e| missing(format!("the console of {vm} cannot be read: {e}")))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = match length {
        Some(length) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(length)..].join("\n")
        }
        None => text.into_owned(),
    };
    Ok(text.into_response())
}

fn tail(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The runtime's id of a running container.
async fn container_id(agent: &Agent, uid: &str, container: &str) -> Result<String, (StatusCode, String)> {
    let all = agent.drivers().pod.list().await.map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    let seen =
        all.into_iter().find(|p| p.uid == uid).ok_or_else(|| missing(format!("pod {uid} is not on this host")))?;
    let ids = pod::container_ids(&seen);
    ids.get(container).cloned().ok_or_else(|| missing(format!("container {container} is not running")))
}

async fn exec_in(
    State(agent): State<Agent>,
    Part((uid, container)): Part<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Reply {
    let query = pairs(query);
    let id = container_id(&agent, &uid, &container).await?;
    let command: Vec<String> = query.iter().filter(|(n, _)| n == "command").map(|(_, v)| v.clone()).collect();
    let flag = |name: &str| query.iter().any(|(n, v)| n == name && (v == "true" || v == "1"));
    let request =
        exec::Request { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr"), tty: flag("tty") };
    let program = agent
        .drivers()
        .pod
        .exec_program(&id, &command, request.tty)
        .map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    let upgrade = upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]);
    Ok(upgrade.on_upgrade(move |socket| exec::serve(socket, program, request)))
}
