//! The body of a request as it comes from a client, or of an answer from a stranger's server: one that sends too slowly is
//! not waited for, and one that is not read to its end is read away, so that the client hears the answer. Who closes a
//! connection with bytes unread resets it, and the answer is lost on the way.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// Whoever sends nothing for so long has gone, or acts as if they had.
pub const SILENCE: Duration = Duration::from_secs(30);
/// From then on a body must have come at [`SLOWEST`] or more.
const GRACE: Duration = Duration::from_secs(60);
/// Bytes a second.
const SLOWEST: u64 = 1024;
/// Of a body that nobody wants, so much is read away, and for so long.
const READ_AWAY: usize = 64 << 20;
const READING_AWAY: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body.
pub struct Upload {
    body: Option<Incoming>,
    began: Instant,
    bytes: u64,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    /// The client asked whether it shall send the body, and nobody has wanted it yet.
    unasked: bool,
    /// Whoever sends it waits for no answer: the rest need not be read away.
    unanswered: bool,
}

impl Upload {
    /// The body of a request, by its headers.
    pub fn of(body: Incoming, headers: &http::HeaderMap) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        let unasked = headers.get(http::header::EXPECT).is_some();
        let silence = Box::pin(tokio::time::sleep(SILENCE));
        let (began, unanswered) = (Instant::now(), false);
        Body::new(Self { body: Some(body), began, bytes: 0, patience: SILENCE, silence, unasked, unanswered })
    }

    /// The body of a server's answer, which may be silent for so long.
    pub fn answered(body: Incoming, patience: Duration) -> Body {
        let (began, silence) = (Instant::now(), Box::pin(tokio::time::sleep(patience)));
        Body::new(Self { body: Some(body), began, bytes: 0, patience, silence, unasked: false, unanswered: true })
    }

    fn too_slow(&self) -> bool {
        let time = self.began.elapsed();
        time > GRACE && self.bytes < SLOWEST * time.as_secs()
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.unasked = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.too_slow() {
                    self.body = None;
                    return Poll::Ready(Some(Err(format!("less than {SLOWEST} bytes a second were sent").into())));
                }
                let until = Instant::now() + self.patience;
                self.silence.as_mut().reset(until);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => {
                self.body = None;
                Poll::Ready(Some(Err(e.into())))
            }
            Poll::Ready(None) => {
                self.body = None;
                Poll::Ready(None)
            }
            Poll::Pending => match self.silence.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.body = None;
                    Poll::Ready(Some(Err(format!("nothing was sent for {} seconds", self.patience.as_secs()).into())))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), hyper::body::Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Whoever asked first waits for the answer before sending anything.
        let body = self.body.take().filter(|body| !self.unasked && !self.unanswered && !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (body, tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(READING_AWAY, read_away(body)));
        }
    }
}

async fn read_away(mut body: Incoming) {
    let mut left = READ_AWAY;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
