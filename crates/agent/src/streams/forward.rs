//! Port-forwards: kubectl opens two SPDY streams for each connection, one for bytes and one for what went wrong; the bytes
//! go to the pod from the gateway of its network, so that no security group stands in the way of its owner.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channels::write_pieces;
use super::spdy::{self, Frame, Headers, Reader, Writer};

use crate::Agent;

/// Streams of one client at a time; two make a connection.
const STREAMS: usize = 512;

/// Where a pod is reached.
#[derive(Clone)]
pub struct Place {
    pub agent: Agent,
    pub port_id: String,
    pub ip: IpAddr,
}

/// Serves one client until it goes.
pub async fn serve(send: mpsc::Sender<Vec<u8>>, mut incoming: Pin<Box<dyn Stream<Item = Bytes> + Send>>, place: Place) {
    let (streams, errors) = (HashMap::new(), HashMap::new());
    let mut session = Session { place, send, tasks: JoinSet::new(), writer: Writer::default(), streams, errors };
    let mut reader = Reader::default();
    while let Some(bytes) = incoming.next().await {
        let frames = match reader.feed(&bytes) {
            Ok(frames) => frames,
            Err(why) => return tracing::debug!("a port-forward ended: {why}"),
        };
        for frame in frames {
            if let Some(reply) = session.take(frame).await
                && session.send.send(reply).await.is_err()
            {
                return;
            }
        }
        while session.tasks.try_join_next().is_some() {}
    }
}

/// What a client has open.
struct Session {
    place: Place,
    /// To the client.
    send: mpsc::Sender<Vec<u8>>,
    /// All that is done for the client; ends with it.
    tasks: JoinSet<()>,
    writer: Writer,
    /// Bytes of the client for each stream that carries them.
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    /// The stream for errors of each connection, by the client's number for it.
    errors: HashMap<String, u32>,
}

impl Session {
    /// What is answered at once, if anything.
    async fn take(&mut self, frame: Frame) -> Option<Vec<u8>> {
        match frame {
            Frame::Open { stream, headers, .. } => return Some(self.open(stream, &headers)),
            Frame::Data { stream, bytes, fin } => {
                if let Some(client) = self.streams.get(&stream) {
                    let gone = !bytes.is_empty() && client.send(bytes).await.is_err();
                    if fin || gone {
                        self.streams.remove(&stream);
                    }
                }
            }
            Frame::Reset { stream } => {
                self.streams.remove(&stream);
            }
            Frame::Ping { id } => return Some(spdy::pong(id)),
            Frame::GoAway | Frame::Other => {}
        }
        None
    }

    fn open(&mut self, stream: u32, headers: &Headers) -> Vec<u8> {
        let header = |name: &str| {
            headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).unwrap_or("")
        };
        self.streams.retain(|_, client| !client.is_closed());
        let connection = header("requestid").to_owned();
        match (header("streamtype"), header("port").parse::<u16>()) {
            (_, Err(_) | Ok(0)) => spdy::reset(stream),
            _ if self.streams.len() + self.errors.len() >= STREAMS => spdy::reset(stream),
            ("error", Ok(_)) => {
                self.errors.insert(connection, stream);
                self.writer.reply(stream)
            }
            ("data", Ok(port)) => {
                let (client, bytes) = mpsc::channel(16);
                self.streams.insert(stream, client);
                let errors = self.errors.remove(&connection);
                self.tasks.spawn(forward(self.place.clone(), port, stream, errors, bytes, self.send.clone()));
                self.writer.reply(stream)
            }
            _ => spdy::reset(stream),
        }
    }
}

/// One connection to the pod.
async fn forward(
    place: Place,
    port: u16,
    stream: u32,
    errors: Option<u32>,
    mut client: mpsc::Receiver<Bytes>,
    send: mpsc::Sender<Vec<u8>>,
) {
    let to = SocketAddr::new(place.ip, port);
    let result = async {
        let wire = place.agent.drivers().net.dial(&place.port_id, to).await.map_err(|e| e.to_string())?;
        wire.set_nonblocking(true).map_err(|e| e.to_string())?;
        let wire = tokio::net::TcpStream::from_std(wire).map_err(|e| e.to_string())?;
        let (mut reader, mut writer) = wire.into_split();
        let up = write_pieces(&mut client, &mut writer);
        let down = async {
            let mut buffer = vec![0u8; 32 << 10];
            while let Ok(n @ 1..) = reader.read(&mut buffer).await {
                if send.send(spdy::data(stream, &buffer[..n], false)).await.is_err() {
                    return;
                }
            }
        };
        // It ends when the pod has said all; that the client has is no reason.
        tokio::select! {
            () = down => {}
            () = async { up.await; std::future::pending().await } => {}
        }
        Ok::<(), String>(())
    };
    let outcome = result.await;
    let _ = send.send(spdy::data(stream, &[], true)).await;
    if let Some(errors) = errors {
        let words = outcome.err().map(|why| format!("an error occurred forwarding to port {port}: {why}"));
        let _ = send.send(spdy::data(errors, words.unwrap_or_default().as_bytes(), true)).await;
    }
}
