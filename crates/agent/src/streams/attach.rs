//! Attaching to a container that runs: its streams belong to the runtime, which serves them as a WebSocket of the
//! protocol's version 4. Clients speak version 5, which can end the input; version 4 can only by ending the connection.
//! Input therefore has a connection of its own, except for a terminal, whose input does not end.

use axum::extract::ws::{CloseFrame, Message, close_code};
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Far;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::channels::{CLOSE, ERROR, In, Out, RESIZE, STDERR, STDIN, STDOUT};

type Runtime = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A container's streams, opened.
pub struct Attached {
    streams: Runtime,
    /// For what is typed, where it is another connection.
    input: Option<Runtime>,
}

/// Opens the streams at the runtime's URLs.
pub async fn open(streams: &str, input: Option<&str>) -> Result<Attached, String> {
    let streams = connect(streams).await?;
    let input = match input {
        Some(url) => Some(connect(url).await?),
        None => None,
    };
    Ok(Attached { streams, input })
}

async fn connect(url: &str) -> Result<Runtime, String> {
    let url = url.replacen("http", "ws", 1);
    let mut request = url.as_str().into_client_request().map_err(|e| e.to_string())?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v4.channel.k8s.io"));
    let (socket, _) = connect_async(request).await.map_err(|e| format!("the runtime's streams: {e}"))?;
    Ok(socket)
}

/// Copies until the container ends or the client goes.
pub async fn serve(mut sink: Out, mut client: In, attached: Attached) {
    let (mut to_streams, mut from_streams) = attached.streams.split();
    let mut input = attached.input;
    loop {
        tokio::select! {
            message = client.next() => {
                let bytes = match message {
                    Some(Message::Binary(bytes)) => bytes,
                    Some(Message::Close(_)) | None => return,
                    Some(_) => continue,
                };
                let sent = match (bytes.split_first(), &mut input) {
                    (Some((&STDIN, _)), Some(input)) => input.send(Far::Binary(bytes)).await,
                    (Some((&(STDIN | RESIZE), _)), _) => to_streams.send(Far::Binary(bytes)).await,
                    (Some((&CLOSE, [STDIN])), typed) => match typed.take() {
                        Some(mut typed) => typed.close(None).await,
                        None => Ok(()),
                    },
                    _ => Ok(()),
                };
                if let Err(e) = sent {
                    tracing::debug!("what was typed did not reach a container: {e}");
                    input = None;
                }
            }
            message = from_streams.next() => {
                let bytes = match message {
                    Some(Ok(Far::Binary(bytes))) => bytes,
                    Some(Ok(Far::Close(_))) | None => break,
                    Some(Err(e)) => {
                        tracing::debug!("a container's streams ended: {e}");
                        break;
                    }
                    Some(Ok(_)) => continue,
                };
                // The first message of a channel is empty, and says that it is there.
                let known = matches!(bytes.split_first(), Some((&(STDOUT | STDERR | ERROR), rest)) if !rest.is_empty());
                if known && sink.send(Message::Binary(bytes)).await.is_err() {
                    return;
                }
            }
        }
    }
    let normal = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let _ = sink.send(Message::Close(Some(normal))).await;
}
