//! What only this host can tell, for the faces: consoles, logs, and commands in containers. Served over HTTP at the
//! endpoint that the Host row names; who may ask is the faces' decision, made before they connect, so the socket must
//! be reachable for them alone.

mod about;
mod attach;
mod channels;
mod exec;
mod forward;
#[doc(hidden)]
pub mod hostile;
mod logs;
mod remote;
mod reply;
mod spdy;
mod upgrade;

use std::collections::HashMap;

use axum::Router;
use axum::extract::{Path as Part, RawQuery, State};
use axum::response::IntoResponse;
use axum::routing::get;
use driver::StreamRequest;
use http::StatusCode;

use crate::Agent;
use crate::log::tail;
use crate::pod::find::newest;
use channels::Request;
use reply::{Reply, missing, pairs, seen};
use upgrade::Upgrade;

/// The most of a console that is given at once.
const MAX_CONSOLE: u64 = 8 << 20;

/// The host's face as a router, to be served on the socket that the Host row names.
pub fn router(agent: Agent) -> Router {
    Router::new()
        .route("/console/{vm}", get(console))
        .route("/usage/{vm}", get(about::usage))
        .route("/uptime", get(about::uptime))
        .route("/logs/{cluster}/{uid}/{container}", get(logs::serve))
        .route("/exec/{uid}/{container}", get(exec_in))
        .route("/attach/{uid}/{container}", get(attach_to))
        .route("/portforward/{uid}", get(forward_ports))
        .with_state(agent)
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

/// The runtime's id of a running container.
async fn container_id(agent: &Agent, uid: &str, container: &str) -> Result<String, (StatusCode, String)> {
    let seen = seen(agent, uid).await?;
    let newest = newest(Some(&seen), container).map(|newest| newest.id.clone());
    newest.ok_or_else(|| missing(format!("container not found ({container:?})")))
}

async fn exec_in(
    State(agent): State<Agent>,
    Part((uid, container)): Part<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Reply {
    let query = pairs(query);
    let id = container_id(&agent, &uid, &container).await?;
    let command: Vec<String> = query.iter().filter(|(n, _)| n == "command").map(|(_, v)| v.clone()).collect();
    let request = streams_of(&query);
    let program = agent
        .drivers()
        .pod
        .exec_program(&id, &command, request.tty)
        .map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    upgrade.channels(request, move |out, input| exec::serve(out, input, program, request))
}

/// Which streams a query asks for.
fn streams_of(query: &[(String, String)]) -> Request {
    let flag = |name: &str| query.iter().any(|(n, v)| n == name && (v == "true" || v == "1"));
    Request { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr"), tty: flag("tty") }
}

async fn attach_to(
    State(agent): State<Agent>,
    Part((uid, container)): Part<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Reply {
    let request = streams_of(&pairs(query));
    let Request { stdin, stdout, stderr, tty } = request;
    let container_id = container_id(&agent, &uid, &container).await?;
    let unavailable = |e: String| (StatusCode::SERVICE_UNAVAILABLE, e);
    // The runtime takes a session without input for one whose input has ended: each has one, used or not.
    let open = |outputs: bool| {
        let container_id = container_id.clone();
        let (stdout, stderr) = (stdout && outputs, stderr && outputs);
        let agent = agent.clone();
        async move {
            let request = StreamRequest::Attach { container_id, stdin: true, stdout, stderr, tty };
            agent.drivers().pod.stream(&request).await.map_err(|e| e.to_string())
        }
    };
    let apart = stdin && !tty && (stdout || stderr);
    let streams = open(true).await.map_err(unavailable)?;
    let input = if apart { Some(open(false).await.map_err(unavailable)?) } else { None };
    let attached = attach::open(&streams, input.as_deref()).await.map_err(unavailable)?;
    upgrade.channels(request, move |out, input| attach::serve(out, input, attached))
}

async fn forward_ports(State(agent): State<Agent>, Part(uid): Part<String>, upgrade: Upgrade) -> Reply {
    let port = agent.cloud().view().pod(&uid).and_then(|of| of.port);
    let port = port.ok_or_else(|| missing(format!("pod {uid} has no address yet")))?;
    let ip = port.fixed_ips.first().map(|fixed| fixed.ip);
    let ip = ip.ok_or_else(|| missing(format!("pod {uid} has no address yet")))?;
    let place = forward::Place { port_id: port.id.clone(), ip, agent: agent.clone() };
    upgrade.bytes(move |send, incoming| forward::serve(send, incoming, place))
}
