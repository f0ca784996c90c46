//! One request and its response, with a common deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use domain::secret::Mask;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;
use hyper::{Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::client::HttpClient;
use super::trouble;
use crate::guest::usage::UsageCounter;

pub struct Bounds {
    /// Time from the start to the last byte of the response.
    pub time: Duration,
    /// Time from the start to the response's headers.
    pub head_time: Duration,
    pub request_bytes: usize,
    pub response_bytes: usize,
    /// Masks the secrets that the response must not reveal.
    pub mask: Mask,
    pub tally: UsageCounter,
    /// Released when the response was read or dropped.
    pub permit: OwnedSemaphorePermit,
}

pub async fn send(
    client: HttpClient,
    request: Request<WasiBody>,
    bounds: Bounds,
) -> Result<Response<WasiBody>, Error> {
    let started = Instant::now();
    let deadline = started + bounds.time;
    let request = request.map(|body| bounded_request(body, bounds.request_bytes, bounds.tally.clone()));
    let sent = tokio::time::timeout_at(started + bounds.head_time, client.request(request)).await;
    let answer = match sent {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(trouble::of(&error, &bounds.tally)),
        Err(_elapsed) => return Err(Error::HttpResponseTimeout),
    };
    let bytes_max = bounds.response_bytes;
    if answer.body().size_hint().lower() > bytes_max as u64 {
        return Err(Error::HttpResponseBodySize(Some(answer.body().size_hint().lower())));
    }
    let (mut head, body) = answer.into_parts();
    if !bounds.mask.is_empty() {
        head.headers.values_mut().for_each(|value| mask_header(&bounds.mask, value));
    }
    let deadline = Box::pin(tokio::time::sleep_until(deadline));
    let (mask, tally) = (bounds.mask, bounds.tally);
    let body = ResponseBody {
        body,
        bytes_left: bytes_max,
        mask,
        tally,
        deadline,
        last: None,
        _permit: bounds.permit,
    };
    Ok(Response::from_parts(head, body.boxed_unsync()))
}

fn mask_header(mask: &Mask, value: &mut HeaderValue) {
    let mut bytes = value.as_bytes().to_vec();
    mask.whole(&mut bytes);
    if bytes != value.as_bytes() {
        *value = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static(""));
    }
}

fn bounded_request(body: WasiBody, bytes_max: usize, tally: UsageCounter) -> WasiBody {
    let body = body.map_frame(move |frame| {
        tally.bytes(frame.data_ref().map_or(0, Bytes::len));
        frame
    });
    let limited = Limited::new(body, bytes_max).map_err(|error| match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(other) if other.is::<LengthLimitError>() => Error::HttpRequestBodySize(None),
        Err(other) => Error::InternalError(Some(other.to_string())),
    });
    limited.boxed_unsync()
}

/// A response's body while it is received.
struct ResponseBody {
    body: Incoming,
    bytes_left: usize,
    mask: Mask,
    tally: UsageCounter,
    /// The frame after the body, until it is delivered completely.
    last: Option<Frame<Bytes>>,
    deadline: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Error::HttpResponseTimeout)));
        }
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(last)));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(trouble::of(&error, &self.tally)))),
            None => return Poll::Ready(self.rest().map(Ok)),
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.tally.bytes(bytes);
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None)))),
        }
        Poll::Ready(Some(Ok(self.masked(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.mask.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.mask.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

impl ResponseBody {
    /// Trailers are held back until the last masked bytes are delivered.
    fn masked(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if self.mask.is_empty() {
            return frame;
        }
        match frame.into_data() {
            Ok(data) => Frame::data(self.mask.part(&data).into()),
            Err(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    trailers.values_mut().for_each(|value| mask_header(&self.mask, value));
                }
                match self.rest() {
                    Some(rest) => {
                        self.last = Some(frame);
                        rest
                    }
                    None => frame,
                }
            }
        }
    }

    fn rest(&mut self) -> Option<Frame<Bytes>> {
        let rest = self.mask.rest();
        (!rest.is_empty()).then(|| Frame::data(rest.into()))
    }
}
