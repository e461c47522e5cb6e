//! How clients take a connection over: as a WebSocket, as those of the last years do, or as SPDY/3.1, which older ones speak
//! alone and kubectl falls back to. What runs behind sees the same either way: messages whose first byte is the channel for
//! exec and attach, plain bytes of SPDY for port-forwards (which travel inside WebSockets too).

use std::pin::Pin;

use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{SinkExt, Stream, StreamExt};
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::channels::{Gone, In, Out, Request, pieces, write_pieces};
use super::remote;
use super::reply::Reply;

const SPDY: &str = "SPDY/3.1";
const PROTOCOLS: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A request that wants the connection.
pub enum Upgrade {
    WebSocket(Box<WebSocketUpgrade>),
    Spdy { offered: Vec<String>, upgrade: OnUpgrade },
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let refused = || (StatusCode::BAD_REQUEST, "Upgrade request required".to_owned());
        let spdy = parts.headers.get(UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(SPDY.as_bytes()));
        if !spdy {
            let socket = WebSocketUpgrade::from_request_parts(parts, state).await.map_err(|_| refused())?;
            return Ok(Self::WebSocket(Box::new(socket)));
        }
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(refused)?;
        let offered = parts.headers.get_all(PROTOCOLS).iter().filter_map(|v| v.to_str().ok());
        let offered = offered.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).collect();
        Ok(Self::Spdy { offered, upgrade })
    }
}

impl Upgrade {
    /// Hands over the channels of exec or attach.
    pub fn channels<F, Fut>(self, request: Request, serve: F) -> Reply
    where
        F: FnOnce(Out, In) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        match self {
            Self::WebSocket(socket) => {
                let socket = socket.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]);
                Ok(socket.on_upgrade(move |socket| {
                    let (out, input) = of_socket(socket);
                    serve(out, input)
                }))
            }
            Self::Spdy { offered, upgrade } => spdy(&offered, "v4.channel.k8s.io", upgrade, move |wire| async move {
                match remote::channels(wire, request).await {
                    Ok((out, input)) => serve(out, input).await,
                    Err(why) => tracing::debug!("a client's streams were not opened: {why}"),
                }
            }),
        }
    }

    /// Hands over the bytes of a port-forward.
    pub fn bytes<F, Fut>(self, serve: F) -> Reply
    where
        F: FnOnce(mpsc::Sender<Vec<u8>>, Pin<Box<dyn Stream<Item = Bytes> + Send>>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (send, mut receive) = mpsc::channel::<Vec<u8>>(64);
        match self {
            Self::WebSocket(socket) => {
                let protocol = "SPDY/3.1+portforward.k8s.io";
                let socket = socket.protocols([protocol]);
                if socket.selected_protocol().is_none() {
                    return Err((StatusCode::BAD_REQUEST, unknown(protocol)));
                }
                Ok(socket.on_upgrade(move |socket| async move {
                    let (mut out, input) = of_socket(socket);
                    let writer = tokio::spawn(async move {
                        while let Some(bytes) = receive.recv().await {
                            if out.send(Message::Binary(bytes.into())).await.is_err() {
                                return;
                            }
                        }
                    });
                    let open = input.take_while(|message| ready(!matches!(message, Message::Close(_))));
                    let bytes = open.filter_map(|message| {
                        ready(match message {
                            Message::Binary(bytes) => Some(bytes),
                            _ => None,
                        })
                    });
                    serve(send, Box::pin(bytes)).await;
                    writer.abort();
                }))
            }
            Self::Spdy { offered, upgrade } => spdy(&offered, "portforward.k8s.io", upgrade, move |wire| async move {
                let (read, mut write) = tokio::io::split(wire);
                let writer = tokio::spawn(async move { write_pieces(&mut receive, &mut write).await });
                serve(send, pieces(read)).await;
                writer.abort();
            }),
        }
    }
}

fn of_socket(socket: WebSocket) -> (Out, In) {
    let (out, input) = socket.split();
    (Box::pin(out.sink_map_err(|_| Gone)), Box::pin(input.scan((), |(), message| ready(message.ok()))))
}

fn unknown(protocol: &str) -> String {
    format!("unable to negotiate protocol: client must offer {protocol}")
}

fn spdy<F, Fut>(offered: &[String], protocol: &'static str, upgrade: OnUpgrade, serve: F) -> Reply
where
    F: FnOnce(TokioIo<Upgraded>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    if !offered.iter().any(|o| o == protocol) {
        return Err((StatusCode::FORBIDDEN, unknown(protocol)));
    }
    tokio::spawn(async move {
        match upgrade.await {
            Ok(wire) => serve(TokioIo::new(wire)).await,
            Err(e) => tracing::debug!("a connection was not handed over: {e}"),
        }
    });
    let mut response: Response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(PROTOCOLS, HeaderValue::from_static(protocol));
    Ok(response)
}
