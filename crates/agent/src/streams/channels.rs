//! Kubernetes' channel protocol (v4 and v5), of exec and attach: the first byte of a message is the channel; 3 ends with a
//! Status. See k8s.io/apimachinery's `remotecommand` constants. Who runs something sees messages alone, whatever they
//! travel in.

use std::pin::Pin;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::{Sink, Stream, sink, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
pub const CLOSE: u8 = 255;

/// Which streams the client wants.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The client is gone.
#[derive(Debug)]
pub struct Gone;

/// Messages to the client, and from it until it goes.
pub type Out = Pin<Box<dyn Sink<Message, Error = Gone> + Send>>;
pub type In = Pin<Box<dyn Stream<Item = Message> + Send>>;

/// A sink that fills a queue.
pub fn queue<T: Send + 'static>(send: mpsc::Sender<T>) -> Pin<Box<dyn Sink<T, Error = Gone> + Send>> {
    Box::pin(sink::unfold(send, |send, message| async move {
        send.send(message).await.map_err(|_| Gone)?;
        Ok(send)
    }))
}

/// What a queue gives, as a stream.
pub fn queued<T: Send + 'static>(receive: mpsc::Receiver<T>) -> Pin<Box<dyn Stream<Item = T> + Send>> {
    Box::pin(stream::unfold(receive, |mut receive| async move { Some((receive.recv().await?, receive)) }))
}

/// What is read, piece by piece, until it ends.
pub fn pieces<R: tokio::io::AsyncRead + Send + Unpin + 'static>(read: R) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
    Box::pin(stream::unfold(read, |mut read| async move {
        let mut piece = vec![0; 32 << 10];
        let length = read.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        piece.truncate(length);
        Some((Bytes::from(piece), read))
    }))
}

/// Writes what comes, piece by piece, and that it has ended.
pub async fn write_pieces<B, W>(receive: &mut mpsc::Receiver<B>, write: &mut W)
where
    B: AsRef<[u8]>,
    W: tokio::io::AsyncWrite + Unpin,
{
    while let Some(bytes) = receive.recv().await {
        if write.write_all(bytes.as_ref()).await.is_err() {
            return;
        }
    }
    let _ = write.shutdown().await;
}
