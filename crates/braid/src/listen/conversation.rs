//! One client's connection from its first byte to its last: HTTP/1.1 and 2 with a limit on everything that a client can
//! make us hold. A connection without a request is let go of after a while; one with a request in work (a watch, a log
//! that is followed) is not, for whoever serves it has limits of their own.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;
use tower::ServiceExt;

use super::upload::Upload;

/// How long a client may let us wait.
#[derive(Clone, Copy)]
pub struct Limits {
    /// For its first request.
    pub first: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For the rest of a request's head.
    pub head: Duration,
    /// To read anything of what we have for it.
    pub reading: Duration,
}

pub const LIMITS: Limits = Limits {
    first: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    head: Duration::from_secs(30),
    reading: Duration::from_secs(300),
};
/// A client of HTTP/2 that does not answer a ping is gone.
const PING: Duration = Duration::from_secs(30);
/// Requests at once on one connection: what Go's servers allow.
const STREAMS: u32 = 250;
/// The longest head of a request.
const HEAD: usize = 128 << 10;
/// For the last words of a connection that is let go of: no request is in work then.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a client until it leaves or is let go of. The stream lives on if the client changes to another protocol.
pub async fn converse<S>(stream: S, router: Router, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let service = {
        let activity = activity.clone();
        tower::service_fn(move |request: Request<Incoming>| {
            let (router, busy) = (router.clone(), activity.begin());
            async move {
                let response = match is_coded(&request) {
                    true => (StatusCode::NOT_IMPLEMENTED, "the only Transfer-Encoding is chunked\n").into_response(),
                    false => router.oneshot(readable(request)).await.unwrap_or_else(|never| match never {}),
                };
                Ok::<_, Infallible>(response.map(|body| Counted { body, _busy: busy }))
            }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let stream = TokioIo::new(Patient { stream, limit: limits.reading, stalled: None });
    let connection = builder.serve_connection_with_upgrades(stream, TowerToHyperService::new(service));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = activity.over(limits) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(e) = ended {
        tracing::trace!("a connection ended: {e}");
    }
}

/// Whether a body comes in a form that nobody here undoes (RFC 9112, 6.1): it would be kept as if it were what it stands for.
fn is_coded(request: &Request<Incoming>) -> bool {
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The request as the faces read it: the host by which the client calls us is in one place for both versions of HTTP.
fn readable(request: Request<Incoming>) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    if !parts.headers.contains_key(header::HOST)
        && let Some(host) = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok())
    {
        parts.headers.insert(header::HOST, host);
    }
    let body = Upload::of(body, &parts.headers);
    Request::from_parts(parts, body)
}

/// How many requests of a connection are in work.
#[derive(Default)]
struct Activity {
    requests: AtomicUsize,
    begun: AtomicUsize,
    changed: Notify,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Ends when there was no request for too long.
    async fn over(&self, limits: Limits) {
        loop {
            let changed = self.changed.notified();
            let begun = self.begun.load(Ordering::Relaxed);
            let limit = if begun == 0 { limits.first } else { limits.idle };
            let busy = || self.requests.load(Ordering::Relaxed) > 0;
            if busy() {
                changed.await;
            } else if tokio::time::timeout(limit, changed).await.is_err()
                && !busy()
                && self.begun.load(Ordering::Relaxed) == begun
            {
                return;
            }
        }
    }
}

/// A request in work: until its answer is sent, or given up.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// An answer's body, which counts as work until it is sent.
struct Counted {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose other side must read something once in a while.
struct Patient<S> {
    stream: S,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Patient<S> {
    fn wait<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wait(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wait(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.wait(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.wait(cx, done)
    }
}

#[cfg(test)]
mod tests;
