//! The guests' metadata service: HTTP at 169.254.169.254 in the namespace. Who asks is told by the source address: whoever
//! makes the network must let a port ask with no address but one of its own. What is answered, the agent decides.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driver::{METADATA_BODY, Metadata};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::facts::Current;
use crate::sockets::connections;

/// Where guests look for it, at port 80.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const CONNECTIONS: usize = 64;
const LONGEST: Duration = Duration::from_secs(60);

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, facts: Current, metadata: Arc<dyn Metadata>) {
    connections(listener, CONNECTIONS, |stream, client| {
        let (facts, metadata) = (facts.clone(), metadata.clone());
        async move {
            let _ = timeout(LONGEST, converse(stream, client.ip(), facts, metadata)).await;
        }
    })
    .await;
}

async fn converse(stream: TcpStream, client: IpAddr, facts: Current, metadata: Arc<dyn Metadata>) {
    let service = service_fn(|request| {
        let (facts, metadata) = (facts.clone(), metadata.clone());
        async move { Ok::<_, Infallible>(answer(request, client, &facts, &*metadata).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    client: IpAddr,
    facts: &Current,
    metadata: &dyn Metadata,
) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD, Method::POST].contains(request.method()) {
        return response(405, "text/plain", b"405 Method Not Allowed".to_vec());
    }
    let port = facts.get().port_by_address(client).map(|wire| wire.port_id.clone());
    let Some(port) = port else {
        return response(404, "text/plain", b"404 Not Found".to_vec());
    };
    let path = request.uri().path().to_owned();
    let (status, kind, body) = if request.method() == Method::POST {
        match Limited::new(request.into_body(), METADATA_BODY).collect().await {
            Ok(body) => metadata.post(&port, &path, &body.to_bytes()).await,
            Err(_) => (400, "text/plain", b"Request is too large.".to_vec()),
        }
    } else {
        metadata.get(&port, &path).await
    };
    response(status, kind, body)
}

fn response(status: u16, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
