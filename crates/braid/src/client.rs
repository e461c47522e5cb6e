//! A few lines of HTTP client for the commands: JSON over TLS to the cloud, and over the control socket.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::Problem;
use crate::paths::Dir;

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// The most that is read of an answer.
const MAX_ANSWER: usize = 64 << 20;

/// Asks the cloud at `https://authority`.
pub async fn https(dir: &Dir, authority: &str, request: Request<Body>) -> Result<Answer, Problem> {
    let stream = TcpStream::connect(authority)
        .await
        .map_err(Problem::io(format!("the cloud does not answer at {authority} (is it up? `braid status` tells)")))?;
    let host = authority.rsplit_once(':').map_or(authority, |(h, _)| h).trim_matches(['[', ']']).to_owned();
    let name = rustls::pki_types::ServerName::try_from(host)
        .map_err(|e| Problem::words(format!("{authority} is not an address: {e}")))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&crate::tls::client_config(dir)?));
    let stream = connector.connect(name, stream).await.map_err(Problem::io(format!("talking to {authority}")))?;
    ask(TokioIo::new(stream), request).await
}

/// Asks over a unix socket.
pub async fn unix(socket: &Path, request: Request<Body>) -> Result<Answer, Problem> {
    let stream = UnixStream::connect(socket).await.map_err(Problem::io(format!("asking {}", socket.display())))?;
    ask(TokioIo::new(stream), request).await
}

async fn ask<S>(stream: S, request: Request<Body>) -> Result<Answer, Problem>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broken = |e: hyper::Error| Problem::words(format!("talking to the cloud: {e}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(broken)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let (parts, body) = response.into_parts();
    let body = http_body_util::Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|e| Problem::words(format!("reading the cloud's answer: {e}")))?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes().to_vec() })
}

/// A GET request to a path.
pub fn get(path: &str) -> Result<Request<Body>, Problem> {
    Request::get(path)
        .header("host", "braid")
        .body(Body::empty())
        .map_err(|e| Problem::words(format!("asking for {path}: {e}")))
}

/// A POST request to a path, without a body.
pub fn post(path: &str) -> Result<Request<Body>, Problem> {
    Request::post(path)
        .header("host", "braid")
        .body(Body::empty())
        .map_err(|e| Problem::words(format!("asking for {path}: {e}")))
}
