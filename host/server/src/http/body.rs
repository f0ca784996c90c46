//! Bodies of requests and responses, together with the resources that they occupy.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::connections::{Connection, Phase};
use super::error::ApiError;
use super::limits::HttpLimits;

/// Content type of a plugin's component. Its handler reads such a body itself.
pub const COMPONENT_KIND: &str = "application/wasm";

/// The number of bytes that a client has to send or receive within `stall_time`.
pub const PROGRESS_BYTES: usize = 16 << 10;

/// The reason why a request ended early, for the code that answers the request.
pub type Refusal = Arc<Mutex<Option<ApiError>>>;

/// The body of a request. Reading it fails when the client is too slow.
pub struct RequestBody {
    body: Incoming,
    connection: Arc<Connection>,
    refusal: Refusal,
    whole: Pin<Box<Sleep>>,
    stall: Pin<Box<Sleep>>,
    stall_time: Duration,
    /// Bytes received since `stall` was set.
    received: usize,
    ended: bool,
}

impl RequestBody {
    pub fn new(
        body: Incoming,
        connection: Arc<Connection>,
        refusal: Refusal,
        limits: &HttpLimits,
    ) -> RequestBody {
        let (whole, stall) = (Box::pin(sleep(limits.body_time)), Box::pin(sleep(limits.stall_time)));
        let stall_time = limits.stall_time;
        let ended = body.is_end_stream();
        RequestBody { body, connection, refusal, whole, stall, stall_time, received: 0, ended }
    }

    fn progress(&mut self, bytes: usize) {
        self.received += bytes;
        if self.received >= PROGRESS_BYTES {
            self.received = 0;
            self.stall.as_mut().reset(Instant::now() + self.stall_time);
        }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.whole.as_mut().poll(cx).is_ready() || self.stall.as_mut().poll(cx).is_ready()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending if self.is_late(cx) => {
                let detail = "the request's body came too slowly (server.limits.body_time, stall_time)";
                let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail);
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Poll::Ready(Some(Err(detail.into())))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
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
