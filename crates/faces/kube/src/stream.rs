//! Streams into pods: logs, exec, attach, port-forward. This face never talks to a runtime: it hands the request to the
//! endpoint that the pod's Host row names and copies bytes both ways.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::{Host, KubeObject, Snapshot};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};

use crate::admission::{self, Review};
use crate::authz::Attributes;
use crate::call::Call;
use crate::fault::{Failure, Result};
use crate::strategy::items;

/// A connection to a host's endpoint.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Headers of an upgrade that both ends must see unchanged.
const UPGRADE: &[&str] = &[
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-accept",
    "x-stream-protocol-version",
];

/// `GET pods/{name}/log`.
pub async fn log(call: &Call<'_>) -> Result<Response<Body>> {
    let snapshot = call.snapshot().await?;
    let entry = call.row(&snapshot)?;
    let container = container(call, entry.value)?;
    let mut path = format!("/logs/{}/{}/{}", call.cluster.id, entry.value.uid(), container);
    let mut separator = '?';
    for name in ["follow", "tailLines", "timestamps", "sinceSeconds", "sinceTime", "previous", "limitBytes"] {
        if let Some(value) = call.query.get(name) {
            path.push_str(&format!("{separator}{name}={}", encode(value)));
            separator = '&';
        }
    }
    let endpoint = endpoint(call, &snapshot, entry.value)?;
    let request = Request::get(path).header(header::HOST, "host").body(Empty::<bytes::Bytes>::new());
    let request = request.map_err(|e| Failure::bad_request(e.to_string()))?;
    let response = send(&endpoint, request).await?;
    let (parts, body) = response.into_parts();
    if !parts.status.is_success() {
        let text = http_body_util::BodyExt::collect(http_body_util::Limited::new(body, 64 << 10)).await;
        let text = text.map(|t| String::from_utf8_lossy(&t.to_bytes()).into_owned()).unwrap_or_default();
        return Err(Failure::new(parts.status.as_u16(), reason(parts.status), text.trim()));
    }
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "BadRequest",
        404 => "NotFound",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

/// The kind of what is asked of a stream.
fn options_kind(call: &Call<'_>) -> &'static str {
    call.kind().subresource(call.path.subresource).map_or("", |sub| sub.kind)
}

/// What is asked of a stream, as an object.
fn options(call: &Call<'_>) -> Value {
    let mut options = json!({"kind": options_kind(call), "apiVersion": "v1"});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if call.query.get(flag).is_some() {
            options[flag] = call.query.flag(flag).into();
        }
    }
    if let Some(container) = call.query.get("container") {
        options["container"] = container.into();
    }
    for (field, list) in [("command", call.query.all("command")), ("ports", call.query.all("ports"))] {
        if !list.is_empty() {
            options[field] = list.into();
        }
    }
    options
}

/// `GET` or `POST` of `pods/{name}/exec`, `attach` and `portforward`, upgraded to a WebSocket or SPDY.
pub async fn upgrade(call: &Call<'_>, request: &mut Request<Body>) -> Result<Response<Body>> {
    if !["websocket", "SPDY/3.1"].iter().any(|protocol| header_is(request.headers(), "upgrade", protocol)) {
        return Err(Failure::bad_request("Upgrade request required"));
    }
    let snapshot = call.snapshot().await?;
    // A WebSocket begins with GET whatever it is for: who may only read must not run commands by it.
    call.check(
        &snapshot,
        &Attributes {
            verb: "create",
            resource: &call.kind().plural,
            subresource: call.path.subresource,
            namespace: call.path.namespace,
            name: call.path.name,
            ..Attributes::default()
        },
    )?;
    let review = Review::of(call, "CONNECT", ("", "v1", options_kind(call)), options(call), Value::Null);
    if admission::admit(call, &snapshot, &review, false).await? {
        call.still_permitted().await?;
    }
    let entry = call.row(&snapshot)?;
    let uid = entry.value.uid();
    let query = request.uri().query().unwrap_or("").to_owned();
    let path = match call.path.subresource {
        "portforward" => format!("/portforward/{uid}?{query}"),
        verb => format!("/{verb}/{uid}/{}?{query}", container(call, entry.value)?),
    };
    let endpoint = endpoint(call, &snapshot, entry.value)?;
    let mut forward = Request::builder().method(Method::GET).uri(path).header(header::HOST, "host");
    for name in UPGRADE {
        for value in request.headers().get_all(*name) {
            match without_token(name, value) {
                Some(value) => forward = forward.header(*name, value),
                None => forward = forward.header(*name, value),
            }
        }
    }
    let forward = forward.body(Empty::<bytes::Bytes>::new()).map_err(|e| Failure::bad_request(e.to_string()))?;
    let client = hyper::upgrade::on(&mut *request);
    let mut answer = send(&endpoint, forward).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        let text = http_body_util::BodyExt::collect(http_body_util::Limited::new(body, 64 << 10)).await;
        let text = text.map(|t| String::from_utf8_lossy(&t.to_bytes()).into_owned()).unwrap_or_default();
        return Err(Failure::new(parts.status.as_u16(), reason(parts.status), text.trim()));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in UPGRADE {
        for value in answer.headers().get_all(*name) {
            response.headers_mut().append(*name, value.clone());
        }
    }
    let host = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let (client, host) = match tokio::try_join!(client, host) {
            Ok(both) => both,
            Err(e) => return tracing::debug!("a stream was not upgraded: {e}"),
        };
        if let Err(e) = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(host)).await {
            tracing::debug!("a stream ended: {e}");
        }
    });
    Ok(response)
}

/// Browsers send their token as a subprotocol; it is not for hosts. `None`: the value is as it may be.
fn without_token(name: &str, value: &HeaderValue) -> Option<String> {
    let protocols = value
        .to_str()
        .ok()
        .filter(|v| name == "sec-websocket-protocol" && v.contains(crate::entrance::TOKEN_PROTOCOL))?;
    let rest: Vec<&str> =
        protocols.split(',').map(str::trim).filter(|p| !p.starts_with(crate::entrance::TOKEN_PROTOCOL)).collect();
    Some(rest.join(", "))
}

fn header_is(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case(value))
}

/// The container that the query names, or the pod's only one.
fn container(call: &Call<'_>, pod: &KubeObject) -> Result<String> {
    let spec = &pod.body["spec"];
    let names: Vec<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|field| items(spec, field))
        .filter_map(|c| c["name"].as_str())
        .collect();
    match call.query.get("container") {
        Some(name) if names.contains(&name) => Ok(name.to_owned()),
        Some(name) => Err(Failure::bad_request(format!("container {name} is not valid for pod {}", pod.name))),
        None => match items(spec, "containers").len() {
            1 => Ok(spec["containers"][0]["name"].as_str().unwrap_or("").to_owned()),
            _ => {
                let message =
                    format!("a container name must be specified for pod {}, choose one of: {names:?}", pod.name);
                Err(Failure::bad_request(message))
            }
        },
    }
}

fn endpoint(call: &Call<'_>, snapshot: &Snapshot, pod: &KubeObject) -> Result<String> {
    let node = pod.body["spec"]["nodeName"].as_str().unwrap_or("");
    if node.is_empty() {
        return Err(Failure::bad_request(format!("pod {} does not have a host assigned", call.path.name)));
    }
    match snapshot.get::<Host>(node) {
        Some(host) => Ok(host.endpoint.clone()),
        None => {
            Err(Failure::new(503, "ServiceUnavailable", format!("the host {node} of pod {} is not there", pod.name)))
        }
    }
}

async fn connect(endpoint: &str) -> std::io::Result<Box<dyn Wire>> {
    if let Some(path) = endpoint.strip_prefix("unix:") {
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    if let Some(address) = endpoint.strip_prefix("http://") {
        return Ok(Box::new(TcpStream::connect(address.trim_end_matches('/')).await?));
    }
    Err(std::io::Error::other(format!("an endpoint of this kind cannot be reached: {endpoint}")))
}

async fn send(endpoint: &str, request: Request<Empty<bytes::Bytes>>) -> Result<Response<hyper::body::Incoming>> {
    let unreachable = |e: &dyn std::fmt::Display| {
        tracing::warn!(endpoint, "a host's endpoint does not answer: {e}");
        Failure::new(503, "ServiceUnavailable", "the pod's host does not answer")
    };
    let wire = connect(endpoint).await.map_err(|e| unreachable(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(|e| unreachable(&e))?;
    let endpoint: Arc<str> = endpoint.into();
    tokio::spawn(async move {
        if let Err(e) = connection.with_upgrades().await {
            tracing::debug!(%endpoint, "the connection to a host ended: {e}");
        }
    });
    sender.send_request(request).await.map_err(|e| unreachable(&e))
}

fn encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~:".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
