//! One request and its answer, with one deadline for both.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::client::HttpClient;
use super::trouble;

pub struct Bounds {
    /// From the start to the answer's last byte.
    pub time: Duration,
    /// From the start to the answer's headers.
    pub head_time: Duration,
    pub request_bytes: usize,
    pub response_bytes: usize,
    /// Given back when the answer is read or dropped.
    pub permit: OwnedSemaphorePermit,
}

pub async fn send(
    client: HttpClient,
    request: Request<WasiBody>,
    bounds: Bounds,
) -> Result<Response<WasiBody>, Error> {
    let started = Instant::now();
    let deadline = started + bounds.time;
    let request = request.map(|body| bounded_request(body, bounds.request_bytes));
    let sent = tokio::time::timeout_at(started + bounds.head_time, client.request(request)).await;
    let answer = match sent {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(trouble::of(&error)),
        Err(_elapsed) => return Err(Error::HttpResponseTimeout),
    };
    let bytes_max = bounds.response_bytes;
    if answer.body().size_hint().lower() > bytes_max as u64 {
        return Err(Error::HttpResponseBodySize(Some(answer.body().size_hint().lower())));
    }
    Ok(answer.map(|body| {
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        Answer { body, bytes_left: bytes_max, deadline, _permit: bounds.permit }.boxed_unsync()
    }))
}

fn bounded_request(body: WasiBody, bytes_max: usize) -> WasiBody {
    let limited = Limited::new(body, bytes_max).map_err(|error| match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(other) if other.is::<LengthLimitError>() => Error::HttpRequestBodySize(None),
        Err(other) => Error::InternalError(Some(other.to_string())),
    });
    limited.boxed_unsync()
}

/// An answer's body as it comes in.
struct Answer {
    body: Incoming,
    bytes_left: usize,
    deadline: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Error::HttpResponseTimeout)));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(trouble::of(&error)))),
            None => return Poll::Ready(None),
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None)))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
