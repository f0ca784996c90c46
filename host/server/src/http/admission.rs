//! Admission control of requests. Each request needs a slot of its class, and a share of the budgets for
//! large bodies and large responses. A request that gets none within a few seconds is refused with a
//! hint to retry later.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use super::body::{AnswerBody, COMPONENT_KIND, Charged, Refusal, RequestBody, has_lines};
use super::connections::{Connection, Connections, Phase};
use super::error::ApiError;
use super::limits::{BODY_BYTES_MAX, HttpLimits, LINES_BYTES, PROBES_MAX};

/// Bodies and responses up to this size are limited only by the number of connections.
const SMALL_BYTES: usize = 64 << 10;
/// Unit of the budgets, in bytes.
const UNIT: usize = 1 << 10;
/// Responses to reading requests that are created at a time: each reads the store, and may hold a
/// whole list. The number is below that of the store's reading connections, so that probes and the
/// engine can always get one.
const READS_AT_ONCE: usize = store::config::SQLITE_READERS as usize - 2;
/// How long a request waits for a slot.
const PLACE_TIME_MAX: Duration = Duration::from_secs(5);
/// A client that is slow for this time may be disconnected in favour of others.
const SLOW_AFTER: Duration = Duration::from_secs(1);

pub struct Admission {
    router: Router,
    connections: Arc<Connections>,
    probes: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Admission {
    pub fn new(router: Router, connections: Arc<Connections>) -> Admission {
        let places = |number: usize| Arc::new(Semaphore::new(number));
        let HttpLimits { requests, bodies_bytes, answers_bytes, .. } = connections.limits;
        Admission {
            router,
            connections,
            probes: places(PROBES_MAX),
            requests: places(requests),
            reads: places(READS_AT_ONCE),
            bodies: places(bodies_bytes / UNIT),
            answers: places(answers_bytes / UNIT),
        }
    }

    pub fn limits(&self) -> HttpLimits {
        self.connections.limits
    }

    pub async fn answer(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Response<AnswerBody> {
        connection.enter(Phase::Queued);
        let refusal = Refusal::default();
        let answer = if is_probe(&request) {
            self.probe(request, &connection, &refusal).await
        } else {
            self.request(request, &connection, &refusal).await
        };
        let refused = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = match refused {
            Some(error) => closing(error),
            None => answer.unwrap_or_else(closing),
        };
        connection.enter(Phase::Sending);
        answer.map(|body| AnswerBody { body, connection })
    }

    async fn probe(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
        refusal: &Refusal,
    ) -> Result<Response<Body>, ApiError> {
        let _place = self.probes.clone().try_acquire_owned().map_err(|_| busy("probes"))?;
        let request = request.map(|body| Body::new(self.watched(body, connection, refusal)));
        Ok(self.route(request, connection).await)
    }

    async fn request(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
        refusal: &Refusal,
    ) -> Result<Response<Body>, ApiError> {
        let slow_sender = || self.connections.close_a_slow_sender(SLOW_AFTER);
        let held = if has_lines(request.headers()) { LINES_BYTES } else { body_bytes(&request) };
        let charge = self.share(held, self.limits().bodies_bytes);
        let _body = place(&self.bodies, charge, slow_sender).await.ok_or_else(|| busy("large bodies"))?;
        let request = self.received(request, connection, refusal).await?;
        let _place = place(&self.requests, 1, slow_sender).await.ok_or_else(|| busy("requests"))?;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let _read = match reads {
            true => Some(place(&self.reads, 1, || ()).await.ok_or_else(|| busy("reading requests"))?),
            false => None,
        };
        let answer = self.route(request, connection).await;
        self.charge(answer).await
    }

    /// Reads the whole body first, so that a slow sender occupies no slot. A component is not read here,
    /// because its sender waits for the decision whether it is accepted, and a stream of lines may have any
    /// length. A body that is too large is refused without reading it.
    async fn received(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
        refusal: &Refusal,
    ) -> Result<Request<Body>, ApiError> {
        let unread = is_component(request.headers())
            || body_bytes(&request) > BODY_BYTES_MAX
            || request.body().is_end_stream();
        let (parts, body) = request.into_parts();
        if has_lines(&parts.headers) {
            let body = RequestBody::stream(body, connection.clone(), &self.limits());
            return Ok(Request::from_parts(parts, Body::new(body)));
        }
        let body = self.watched(body, connection, refusal);
        if unread {
            return Ok(Request::from_parts(parts, Body::new(body)));
        }
        connection.enter(Phase::Receiving);
        let received = Limited::new(body, BODY_BYTES_MAX).collect().await;
        connection.enter(Phase::Queued);
        match received {
            Ok(body) => Ok(Request::from_parts(parts, Body::from(body.to_bytes()))),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large()),
            Err(error) => Err(ApiError::bad_body(error.to_string())),
        }
    }

    fn watched(&self, body: Incoming, connection: &Arc<Connection>, refusal: &Refusal) -> RequestBody {
        RequestBody::new(body, connection.clone(), refusal.clone(), &self.limits())
    }

    async fn route(&self, request: Request<Body>, connection: &Arc<Connection>) -> Response<Body> {
        let reads = is_component(request.headers()) || has_lines(request.headers());
        connection.enter(if reads { Phase::Receiving } else { Phase::Answering });
        let answer = self.router.clone().oneshot(request).await;
        answer.unwrap_or_else(|never| match never {})
    }

    /// A large response counts until its client has received it.
    async fn charge(&self, answer: Response<Body>) -> Result<Response<Body>, ApiError> {
        let (parts, body) = answer.into_parts();
        let Some(bytes) = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
        else {
            return Ok(Response::from_parts(parts, body));
        };
        if bytes <= SMALL_BYTES {
            return Ok(Response::from_parts(parts, body));
        }
        let slow_reader = || self.connections.close_a_slow_reader(SLOW_AFTER);
        let share = self.share(bytes, self.limits().answers_bytes);
        let permit = place(&self.answers, share, slow_reader).await.ok_or_else(|| busy("large answers"))?;
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let charged = Bytes::from_owner(Charged { bytes, _permit: permit });
        Ok(Response::from_parts(parts, Body::from(charged)))
    }

    /// The share in units of the budget. A body larger than the budget takes the whole budget.
    fn share(&self, bytes: usize, budget: usize) -> u32 {
        let bytes = if bytes <= SMALL_BYTES { 0 } else { bytes.min(budget) };
        u32::try_from(bytes / UNIT).unwrap_or(u32::MAX)
    }
}

/// Waits for `number` permits. Calls `make_room` first if they are not free now.
async fn place(of: &Arc<Semaphore>, number: u32, make_room: impl Fn()) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = of.clone().try_acquire_many_owned(number) {
        return Some(permit);
    }
    make_room();
    let acquired = tokio::time::timeout(PLACE_TIME_MAX, of.clone().acquire_many_owned(number)).await;
    acquired.ok()?.ok()
}

fn is_component(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == COMPONENT_KIND)
}

/// A request of supervisors or monitoring systems, which has its own slots.
fn is_probe(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && ["/healthz", "/readyz", "/metrics"].contains(&request.uri().path())
}

/// The size declared by the client; without a declaration, the maximum size of JSON.
fn body_bytes(request: &Request<Incoming>) -> usize {
    let hint = request.body().size_hint();
    hint.exact().map_or(BODY_BYTES_MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn busy(what: &'static str) -> ApiError {
    metrics::counter!("tidemill_http_refused_total", "places" => what).increment(1);
    let detail = format!("the host has no capacity left for {what} (server.limits); try again later");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
}

/// Closes the connection, because the rest of the request is not read.
fn closing(error: ApiError) -> Response<Body> {
    let mut response = error.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
