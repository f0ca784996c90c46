//! HTTP requests of guests: each is checked here against the grants and the limits of its job before it is sent.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, PoisonError};

use domain::job::JobSpec;
use domain::limits::Limits;
use domain::origin::{Origin, Scheme};
use domain::scope::Scope;
use domain::secret::Mask;
use hyper::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::NOTHING_YET;
use crate::guest::http::{Bounds, Clients, HttpClient, send};
use crate::guest::log::Level;
use crate::guest::output::SharedLog;
use crate::guest::state::{AttemptContext, AttemptTag, GuestState};
use crate::guest::usage::UsageCounter;

/// `wasi:http`: requests to the origins granted to the job, within its limits.
pub struct Http {
    ctx: WasiHttpCtx,
    gate: RequestGate,
}

/// Checks each request against grants and limits.
struct RequestGate {
    clients: Arc<Clients>,
    caller: Option<Caller>,
    limits: Limits,
    sent: u32,
    /// Counts of requests with the same method and URI, so that each gets its own idempotency key.
    alike: HashMap<(Method, Uri), u32>,
    running: Arc<Semaphore>,
    log: SharedLog,
}

/// The job and the attempt that send the requests.
pub struct Caller {
    job: Arc<JobSpec>,
    scope: Arc<dyn Scope>,
    fence: Option<AttemptTag>,
    tally: UsageCounter,
}

impl Caller {
    pub fn of(granted: &AttemptContext, tally: UsageCounter) -> Caller {
        let AttemptContext { job, scope, fence, .. } = granted;
        Caller { job: job.clone(), scope: scope.clone(), fence: fence.clone(), tally }
    }
}

/// Header with the attempt's epoch. The epoch of an item only increases, so a service that remembers the
/// highest value can refuse requests of a host that lost the item.
const EPOCH: HeaderName = HeaderName::from_static("tidemill-epoch");
/// Header name from draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

type Sent = Result<(Response<WasiBody>, Io), Error>;
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Http {
    pub fn new(clients: Arc<Clients>, caller: Option<Caller>, limits: &Limits, log: SharedLog) -> Http {
        let running = Arc::new(Semaphore::new(limits.http_concurrent as usize));
        let alike = HashMap::new();
        let gate = RequestGate { clients, caller, limits: limits.clone(), sent: 0, alike, running, log };
        Http { ctx: WasiHttpCtx::new(), gate }
    }

    /// Ends the attempt: it can send no more requests, and its scope is released.
    pub fn end(&mut self) {
        self.gate.caller = None;
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.gate, table: &mut self.table, ctx: &mut self.http.ctx }
    }
}

impl WasiHttpHooks for RequestGate {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let admitted = self.admit(&mut request, options);
        Box::new(async move {
            let (client, bounds) = admitted?;
            let answer = send(client, request, bounds).await?;
            // The client drives its connections, so no IO is left to do here.
            Ok((answer, Box::new(async { Ok(()) }) as Io))
        })
    }
}

impl RequestGate {
    fn admit(
        &mut self,
        request: &mut Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<(HttpClient, Bounds), Error> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let log = self.log.clone();
        let refused = |why: &str, error: Error| {
            let line = format!("{method} {uri} was not sent: {why}");
            log.lock().unwrap_or_else(PoisonError::into_inner).push(Level::Warn, "http", &line);
            error
        };
        let Some(Caller { job, scope, fence, tally }) = &self.caller else {
            return Err(refused(NOTHING_YET, Error::HttpRequestDenied));
        };
        if [Method::CONNECT, Method::TRACE].contains(&method) {
            return Err(refused("this method is not allowed for jobs", Error::HttpRequestMethodInvalid));
        }
        let Some(origin) = origin(&uri) else {
            return Err(refused("its address is not valid", Error::HttpRequestUriInvalid));
        };
        match job.grants.http.get(&origin) {
            Some(methods) if methods.allow(method.as_str()) => {}
            Some(_) => {
                return Err(refused(
                    &format!("{method} to {origin} is not granted"),
                    Error::HttpRequestDenied,
                ));
            }
            None => return Err(refused(&format!("{origin} is not granted"), Error::HttpRequestDenied)),
        }
        if self.sent >= self.limits.http_requests {
            let why = format!("an attempt may send {} requests (limits.http_requests)", self.sent);
            return Err(refused(&why, Error::ConnectionLimitReached));
        }
        let Ok(permit) = self.running.clone().try_acquire_owned() else {
            let max = self.limits.http_concurrent;
            let why = format!("{max} requests are in progress already (limits.http_concurrent)");
            return Err(refused(&why, Error::ConnectionLimitReached));
        };
        let place = format!("{origin}{}", uri.path());
        if let Err(error) = scope.may_send(method.as_str(), &place) {
            return Err(refused(&error.to_string(), Error::HttpRequestDenied));
        }
        self.sent += 1;
        let alike = self.alike.entry((method.clone(), uri.clone())).or_default();
        *alike += 1;
        request.headers_mut().remove(EPOCH);
        if let Some(fence) = fence {
            mark(request, fence, *alike);
        }
        tally.call(0);
        let mask = add_secrets(request, job, &origin);
        let time = self.limits.http_time;
        let head_time =
            options.and_then(|options| options.first_byte_timeout).map_or(time, |own| own.min(time));
        let bounds = Bounds {
            time,
            head_time,
            request_bytes: self.limits.http_request_bytes,
            response_bytes: self.limits.http_response_bytes,
            mask,
            tally: tally.clone(),
            permit,
        };
        Ok((self.clients.of(job.grants.http_private), bounds))
    }
}

/// Keeps the guest's own headers, except the epoch: a guest must not impersonate another attempt.
fn mark(request: &mut Request<WasiBody>, fence: &AttemptTag, alike: u32) {
    request.headers_mut().insert(EPOCH, HeaderValue::from(fence.epoch));
    if !request.method().is_safe()
        && !request.headers().contains_key(IDEMPOTENCY_KEY)
        && let Ok(key) = HeaderValue::try_from(format!("{}-{alike}", fence.idempotency_key))
    {
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
    }
}

/// Adds the job's secrets for this origin. Returns the mask for the response, which must not reveal them.
fn add_secrets(request: &mut Request<WasiBody>, job: &JobSpec, origin: &Origin) -> Mask {
    let mut added = Vec::new();
    for secret in job.grants.secrets.iter().filter(|secret| secret.to == *origin) {
        let name = HeaderName::try_from(&secret.header);
        let value = HeaderValue::try_from(secret.value().reveal());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
            added.push(secret.secret.clone());
        }
    }
    if !added.is_empty() {
        // Without compression: the mask would not find a secret in a compressed response.
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    Mask::new(added)
}

fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = match uri.scheme_str()? {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let authority = uri.authority()?;
    // A user name before the host would not be sent, but could mislead a reader.
    if authority.as_str().contains('@') {
        return None;
    }
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => None,
        _ => Some(authority.port_u16()?),
    };
    Origin::new(scheme, authority.host(), port).ok()
}
