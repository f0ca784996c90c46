use std::future::Future;
use std::sync::{Arc, PoisonError};

use domain::job::JobSpec;
use domain::limits::Limits;
use domain::origin::{Origin, Scheme};
use domain::scope::Scope;
use hyper::{Method, Request, Response, Uri};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::NOTHING_YET;
use crate::http::{Bounds, Clients, HttpClient, send};
use crate::log::Level;
use crate::output::SharedLog;
use crate::state::State;

/// `wasi:http`: requests to the origins that the job is granted, within its limits.
pub struct Http {
    ctx: WasiHttpCtx,
    door: Door,
}

/// What decides about each request.
struct Door {
    clients: Arc<Clients>,
    granted: Option<(Arc<JobSpec>, Arc<dyn Scope>)>,
    limits: Limits,
    sent: u32,
    running: Arc<Semaphore>,
    log: SharedLog,
}

type Sent = Result<(Response<WasiBody>, Io), Error>;
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Http {
    pub fn new(
        clients: Arc<Clients>,
        granted: Option<(Arc<JobSpec>, Arc<dyn Scope>)>,
        limits: &Limits,
        log: SharedLog,
    ) -> Http {
        let running = Arc::new(Semaphore::new(limits.http_concurrent as usize));
        let door = Door { clients, granted, limits: limits.clone(), sent: 0, running, log };
        Http { ctx: WasiHttpCtx::new(), door }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.door, table: &mut self.table, ctx: &mut self.http.ctx }
    }
}

impl WasiHttpHooks for Door {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let admitted = self.admit(&request, options);
        Box::new(async move {
            let (client, bounds) = admitted?;
            let answer = send(client, request, bounds).await?;
            // The client itself drives its connections.
            Ok((answer, Box::new(async { Ok(()) }) as Io))
        })
    }
}

impl Door {
    fn admit(
        &mut self,
        request: &Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<(HttpClient, Bounds), Error> {
        let refused = |why: &str, error: Error| {
            let line = format!("{} {} was not sent: {why}", request.method(), request.uri());
            self.log.lock().unwrap_or_else(PoisonError::into_inner).push(Level::Warn, "http", &line);
            error
        };
        let Some((job, scope)) = &self.granted else {
            return Err(refused(NOTHING_YET, Error::HttpRequestDenied));
        };
        if [Method::CONNECT, Method::TRACE].contains(request.method()) {
            return Err(refused("this method is not for jobs", Error::HttpRequestMethodInvalid));
        }
        let Some(origin) = origin(request.uri()) else {
            return Err(refused("its address is not valid", Error::HttpRequestUriInvalid));
        };
        if !job.grants.http.contains(&origin) {
            return Err(refused(&format!("{origin} is not granted"), Error::HttpRequestDenied));
        }
        if self.sent >= self.limits.http_requests {
            let why = format!("an attempt may send {} requests (limits.http_requests)", self.sent);
            return Err(refused(&why, Error::ConnectionLimitReached));
        }
        let Ok(permit) = self.running.clone().try_acquire_owned() else {
            let max = self.limits.http_concurrent;
            let why = format!("{max} are on their way already (limits.http_concurrent)");
            return Err(refused(&why, Error::ConnectionLimitReached));
        };
        if let Err(error) = scope.held() {
            return Err(refused(&error.to_string(), Error::HttpRequestDenied));
        }
        self.sent += 1;
        let time = self.limits.http_time;
        let head_time =
            options.and_then(|options| options.first_byte_timeout).map_or(time, |own| own.min(time));
        let bounds = Bounds {
            time,
            head_time,
            request_bytes: self.limits.http_request_bytes,
            response_bytes: self.limits.http_response_bytes,
            permit,
        };
        Ok((self.clients.of(job.grants.http_private), bounds))
    }
}

fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = match uri.scheme_str()? {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let authority = uri.authority()?;
    // A user's name in front of the host would be sent nowhere, but could fool a reader.
    if authority.as_str().contains('@') {
        return None;
    }
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => None,
        _ => Some(authority.port_u16()?),
    };
    Origin::new(scheme, authority.host(), port).ok()
}
