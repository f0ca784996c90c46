//! Bodies of requests and responses, together with the resources that they occupy.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::connections::{Connection, Phase};
use super::error::ApiError;
use super::limits::HttpLimits;

/// Content type of a plugin's component. Its handler reads such a body itself.
pub const COMPONENT_KIND: &str = "application/wasm";

/// Content type of a stream of lines. Its handler reads such a body itself, while it arrives.
pub const LINES_KIND: &str = "application/x-ndjson";

/// The number of bytes that a client has to send or receive within `stall_time`.
pub const PROGRESS_BYTES: usize = 16 << 10;

/// The reason why a request ended early, for the code that answers the request.
pub type Refusal = Arc<Mutex<Option<ApiError>>>;

/// Whether the body is a stream of lines.
pub fn has_lines(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(LINES_KIND)
}

/// The error of a body whose client is too slow.
#[derive(Debug)]
pub struct TooSlow(
    /// The keys of the limits, without their section.
    &'static str,
);

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request's body came too slowly (server.limits.{})", self.0)
    }
}

impl std::error::Error for TooSlow {}

impl From<&TooSlow> for ApiError {
    fn from(slow: &TooSlow) -> ApiError {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "too-slow", slow.to_string())
    }
}

/// The body of a request. Reading it fails when the client is too slow.
pub struct RequestBody {
    body: Incoming,
    connection: Arc<Connection>,
    refusal: Refusal,
    limit: TimeLimit,
    stall: Pin<Box<Sleep>>,
    stall_time: Duration,
    /// Bytes received since `stall` was set.
    received: usize,
    ended: bool,
}

/// The time that a body may take beside `stall_time`.
enum TimeLimit {
    Whole(Pin<Box<Sleep>>),
    /// No limit: a stream of any length. Only the time in which the handler waits for the client counts as a stall.
    Stream {
        /// When the handler got its last bytes, unless it waits for more.
        busy_since: Option<Instant>,
    },
}

impl RequestBody {
    pub fn new(
        body: Incoming,
        connection: Arc<Connection>,
        refusal: Refusal,
        limits: &HttpLimits,
    ) -> RequestBody {
        RequestBody::limited(
            body,
            connection,
            refusal,
            limits,
            TimeLimit::Whole(Box::pin(sleep(limits.body_time))),
        )
    }

    /// A body that its handler reads while it arrives. The handler reports a slow client itself.
    pub fn stream(body: Incoming, connection: Arc<Connection>, limits: &HttpLimits) -> RequestBody {
        // The wait for a slot does not count either.
        let limit = TimeLimit::Stream { busy_since: Some(Instant::now()) };
        RequestBody::limited(body, connection, Refusal::default(), limits, limit)
    }

    fn limited(
        body: Incoming,
        connection: Arc<Connection>,
        refusal: Refusal,
        limits: &HttpLimits,
        limit: TimeLimit,
    ) -> RequestBody {
        let (stall, stall_time) = (Box::pin(sleep(limits.stall_time)), limits.stall_time);
        let ended = body.is_end_stream();
        RequestBody { body, connection, refusal, limit, stall, stall_time, received: 0, ended }
    }

    fn progress(&mut self, bytes: usize) {
        self.received += bytes;
        if self.received >= PROGRESS_BYTES {
            self.received = 0;
            self.stall.as_mut().reset(Instant::now() + self.stall_time);
        }
    }

    /// Whether a limit is exceeded.
    fn exceeded(&mut self, cx: &mut Context<'_>) -> Option<TooSlow> {
        let stalled = self.stall.as_mut().poll(cx).is_ready();
        let (ended, keys) = match &mut self.limit {
            TimeLimit::Whole(whole) => (whole.as_mut().poll(cx).is_ready(), "body_time, stall_time"),
            TimeLimit::Stream { .. } => (false, "stall_time"),
        };
        (stalled || ended).then_some(TooSlow(keys))
    }

    /// The handler of a stream waits for more. The time that it took itself does not count.
    fn handler_waits(&mut self) {
        let TimeLimit::Stream { busy_since } = &mut self.limit else { return };
        if let Some(since) = busy_since.take() {
            let deadline = self.stall.deadline() + since.elapsed();
            self.stall.as_mut().reset(deadline);
            self.connection.enter(Phase::Receiving);
        }
    }

    fn handler_works(&mut self) {
        if let TimeLimit::Stream { busy_since } = &mut self.limit {
            *busy_since = Some(Instant::now());
            self.connection.enter(Phase::Answering);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.handler_waits();
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => match self.exceeded(cx) {
                Some(slow) => {
                    *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some((&slow).into());
                    Poll::Ready(Some(Err(slow.into())))
                }
                None => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                self.handler_works();
                self.progress(frame.data_ref().map_or(0, Bytes::len));
                self.ended = self.body.is_end_stream();
                if self.ended {
                    self.connection.enter(Phase::Answering);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(last) => {
                self.ended = last.is_none();
                self.connection.enter(Phase::Answering);
                Poll::Ready(last.map(|error| error.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.connection.set_unread(!self.ended);
    }
}

/// A large response, which returns its bytes to the budget when the last of them was sent.
pub struct Charged {
    pub bytes: Bytes,
    pub _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of a response. When it is dropped, the connection waits for the next request.
pub struct AnswerBody {
    pub body: axum::body::Body,
    pub connection: Arc<Connection>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.enter(Phase::Waiting);
    }
}
