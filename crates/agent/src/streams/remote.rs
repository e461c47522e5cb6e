//! The channels of exec and attach as streams of SPDY (protocol version 4): the client opens one for each, by its type.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::channels::{
    CLOSE, ERROR, In, Out, RESIZE, Request, STDERR, STDIN, STDOUT, pieces, queue, queued, write_pieces,
};
use super::spdy::{self, Frame, Headers, Reader, Writer};

/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);

fn channel(headers: &Headers) -> Option<u8> {
    let (_, kind) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("streamtype"))?;
    Some(match kind.as_str() {
        "stdin" => STDIN,
        "stdout" => STDOUT,
        "stderr" => STDERR,
        "error" => ERROR,
        "resize" => RESIZE,
        _ => return None,
    })
}

fn expected(request: Request) -> Vec<u8> {
    let wanted = [
        (true, ERROR),
        (request.stdin, STDIN),
        (request.stdout, STDOUT),
        (request.stderr && !request.tty, STDERR),
        (request.tty, RESIZE),
    ];
    wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, channel)| channel).collect()
}

/// Waits until the client has opened the streams of its request.
pub async fn channels<W>(wire: W, request: Request) -> Result<(Out, In), String>
where
    W: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, mut write) = tokio::io::split(wire);
    let (send, mut receive) = mpsc::channel::<Vec<u8>>(64);
    tokio::spawn(async move { write_pieces(&mut receive, &mut write).await });
    let mut client = Client {
        bytes: pieces(read),
        reader: Reader::default(),
        writer: Writer::default(),
        send: send.clone(),
        ids: BTreeMap::new(),
        early: Vec::new(),
    };
    let opened = tokio::time::timeout(OPENING, client.open(&expected(request))).await;
    opened.map_err(|_| "they were not opened in time".to_owned())??;
    let ids: BTreeMap<u8, u32> = client.ids.iter().map(|(id, channel)| (*channel, *id)).collect();
    let (input, from_client) = mpsc::channel(16);
    tokio::spawn(client.run(input));
    let (out, to_client) = mpsc::channel(16);
    tokio::spawn(write_out(to_client, ids, send));
    Ok((queue(out), queued(from_client)))
}

/// What comes from the client.
struct Client<S> {
    bytes: S,
    reader: Reader,
    writer: Writer,
    send: mpsc::Sender<Vec<u8>>,
    /// The channel of each stream.
    ids: BTreeMap<u32, u8>,
    /// What came before all streams were open.
    early: Vec<Message>,
}

impl<S: Stream<Item = bytes::Bytes> + Unpin> Client<S> {
    async fn open(&mut self, expected: &[u8]) -> Result<(), String> {
        while !expected.iter().all(|channel| self.ids.values().any(|c| c == channel)) {
            let messages = self.next().await.ok_or("the client went")??;
            self.early.extend(messages);
        }
        Ok(())
    }

    async fn run(mut self, input: mpsc::Sender<Message>) {
        let mut messages = std::mem::take(&mut self.early);
        loop {
            for message in messages.drain(..) {
                if input.send(message).await.is_err() {
                    return;
                }
            }
            match self.next().await {
                Some(Ok(more)) => messages = more,
                _ => return,
            }
        }
    }

    /// What the next bytes say; `None` when the client is gone.
    async fn next(&mut self) -> Option<Result<Vec<Message>, String>> {
        let bytes = self.bytes.next().await?;
        let frames = match self.reader.feed(&bytes) {
            Ok(frames) => frames,
            Err(why) => return Some(Err(why.to_string())),
        };
        let mut messages = Vec::new();
        for frame in frames {
            let reply = match frame {
                Frame::Open { stream, headers, .. } => Some(self.opened(stream, &headers)),
                Frame::Data { stream, bytes, fin } => {
                    messages.extend(self.said(stream, &bytes, fin));
                    None
                }
                Frame::Reset { stream } => {
                    messages.extend(self.said(stream, &[], true));
                    None
                }
                Frame::Ping { id } => Some(spdy::pong(id)),
                Frame::GoAway => return None,
                Frame::Other => None,
            };
            if let Some(reply) = reply {
                self.send.send(reply).await.ok()?;
            }
        }
        Some(Ok(messages))
    }

    fn opened(&mut self, stream: u32, headers: &Headers) -> Vec<u8> {
        match channel(headers).filter(|channel| !self.ids.values().any(|c| c == channel)) {
            Some(channel) => {
                self.ids.insert(stream, channel);
                self.writer.reply(stream)
            }
            None => spdy::reset(stream),
        }
    }

    /// Data of a stream as messages of its channel.
    fn said(&self, stream: u32, bytes: &[u8], fin: bool) -> Vec<Message> {
        let Some(channel) = self.ids.get(&stream).copied().filter(|c| matches!(*c, STDIN | RESIZE)) else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        if !bytes.is_empty() {
            messages.push(Message::Binary([&[channel], bytes].concat().into()));
        }
        if fin && channel == STDIN {
            messages.push(Message::Binary(vec![CLOSE, STDIN].into()));
        }
        messages
    }
}

/// Writes messages to the streams of their channels; all end with the last.
async fn write_out(mut messages: mpsc::Receiver<Message>, ids: BTreeMap<u8, u32>, send: mpsc::Sender<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        let Message::Binary(bytes) = message else { break };
        let Some((channel, data)) = bytes.split_first() else { continue };
        let Some(id) = ids.get(channel) else { continue };
        if send.send(spdy::data(*id, data, false)).await.is_err() {
            return;
        }
    }
    for id in ids.values() {
        let _ = send.send(spdy::data(*id, &[], true)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::SinkExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const OPENED: [(u32, &str, u8); 4] =
        [(1, "error", ERROR), (3, "stdin", STDIN), (5, "stdout", STDOUT), (7, "stderr", STDERR)];

    #[tokio::test]
    async fn channels_are_streams_of_their_types() {
        let (here, mut client) = tokio::io::duplex(64 << 10);
        let request = Request { stdin: true, stdout: true, stderr: true, tty: false };
        let task = tokio::spawn(channels(here, request));
        client.write_all(&spdy::open(false, 9, &[("streamtype", "nonsense")])).await.unwrap();
        for (stream, kind, _) in OPENED {
            client.write_all(&spdy::open(true, stream, &[("streamtype", kind)])).await.unwrap();
        }
        client.write_all(&spdy::data(3, b"typed", true)).await.unwrap();
        let (mut out, mut input) = task.await.unwrap().unwrap();
        assert_eq!(input.next().await, Some(Message::Binary([&[STDIN], &b"typed"[..]].concat().into())));
        assert_eq!(input.next().await, Some(Message::Binary(vec![CLOSE, STDIN].into())));
        for message in [&[STDOUT, b'o'], &[STDERR, b'e'], &[ERROR, b's']] {
            out.send(Message::Binary(message.to_vec().into())).await.unwrap();
        }
        out.send(Message::Close(None)).await.unwrap();
        let (mut reader, mut frames) = (Reader::default(), Vec::new());
        while frames.iter().filter(|frame| matches!(frame, Frame::Data { fin: true, .. })).count() < OPENED.len() {
            let mut piece = [0; 512];
            let length = client.read(&mut piece).await.unwrap();
            frames.extend(reader.feed(&piece[..length]).unwrap());
        }
        assert!(frames.contains(&Frame::Reset { stream: 9 }), "{frames:?}");
        for (stream, text) in [(5, "o"), (7, "e"), (1, "s")] {
            assert!(frames.contains(&Frame::Data { stream, bytes: text.into(), fin: false }), "{frames:?}");
        }
        drop(client);
        assert_eq!(input.next().await, None, "the client is gone");
    }

    #[tokio::test]
    async fn who_opens_too_little_gets_nothing() {
        let (here, mut client) = tokio::io::duplex(1024);
        client.write_all(&spdy::open(false, 1, &[("streamtype", "stdout")])).await.unwrap();
        drop(client);
        let request = Request { stdin: false, stdout: true, stderr: false, tty: false };
        assert!(channels(here, request).await.is_err());
    }
}
