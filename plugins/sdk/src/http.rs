//! HTTP requests to the origins granted to the job (`grants.http`).
//!
//! A request may have taken effect although its response was lost. So send an `idempotency-key` that is
//! derived from the purpose of the request, by which the service can recognise a repetition.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::wasi::http::outgoing_handler::handle;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use crate::bindings::wasi::io::streams::StreamError;

/// Most bytes per write to a stream.
const CHUNK_BYTES: usize = 4096;
const READ_BYTES: u64 = 64 << 10;
/// Characters of an unsuccessful response that are shown in the failure's message.
const SHOWN_CHARS: usize = 200;

#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
}

impl Request {
    pub fn get(url: impl Into<String>) -> Request {
        Request::new(Method::Get, url)
    }

    pub fn post(url: impl Into<String>) -> Request {
        Request::new(Method::Post, url)
    }

    pub fn put(url: impl Into<String>) -> Request {
        Request::new(Method::Put, url)
    }

    pub fn delete(url: impl Into<String>) -> Request {
        Request::new(Method::Delete, url)
    }

    fn new(method: Method, url: impl Into<String>) -> Request {
        Request { method, url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// The body as JSON, with its content type.
    pub fn json(self, body: &impl Serialize) -> Result<Request, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::permanent("http-request", format!("the body is no JSON: {error}")))?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Longest wait for the response. The job's own limit (`limits.http_time`) still applies.
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = Some(timeout);
        self
    }

    /// Waits for the complete response, whatever its status.
    ///
    /// The codes of its failures: `http-denied` and `http-request` (permanent), `http-unreachable`,
    /// `http-timeout`, `http-answer` (not HTTP, or cut off: by the service, or because it is too long or too
    /// slow), `http-too-large` (announced by its length), `http-limit` (transient).
    pub fn send(self) -> Result<Response, Failure> {
        let url = self.url.clone();
        self.exchange().map_err(|trouble| trouble.failure(&url))
    }

    fn exchange(self) -> Result<Response, Trouble> {
        let (request, body) = self.outgoing()?;
        let options = RequestOptions::new();
        let nanos = self.timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        options.set_first_byte_timeout(nanos).map_err(|()| Trouble::Request("the timeout"))?;
        let answer = handle(request, Some(options))?;
        // A service may respond before it has read everything. Its response counts then.
        write(body, &self.body);
        read(wait(&answer)?)
    }

    fn outgoing(&self) -> Result<(OutgoingRequest, OutgoingBody), Trouble> {
        let (scheme, authority, path) = split(&self.url).ok_or(Trouble::Request("the address"))?;
        let headers = Fields::from_list(&self.headers).map_err(|_| Trouble::Request("a header"))?;
        if !self.body.is_empty() {
            let length = self.body.len().to_string().into_bytes();
            headers.set("content-length", &[length]).map_err(|_| Trouble::Request("a header"))?;
        }
        let request = OutgoingRequest::new(headers);
        request.set_method(&self.method).map_err(|()| Trouble::Request("the method"))?;
        request.set_scheme(Some(&scheme)).map_err(|()| Trouble::Request("the scheme"))?;
        request.set_authority(Some(authority)).map_err(|()| Trouble::Request("the host"))?;
        request.set_path_with_query(Some(path)).map_err(|()| Trouble::Request("the path"))?;
        let body = request.body().map_err(|()| Trouble::Request("the body"))?;
        Ok((request, body))
    }
}

/// Scheme, host with port, path with query.
fn split(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (Scheme::Https, rest),
        (_, Some(rest)) => (Scheme::Http, rest),
        _ => return None,
    };
    let rest = rest.split('#').next()?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

fn write(body: OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn wait(answer: &FutureIncomingResponse) -> Result<IncomingResponse, Trouble> {
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(answer)) => Ok(answer?),
        _ => Err(Trouble::Request("the answer, which was taken before")),
    }
}

fn read(answer: IncomingResponse) -> Result<Response, Trouble> {
    let (status, headers) = (answer.status(), answer.headers().entries());
    let mut body = Vec::new();
    let incoming = answer.consume().map_err(|()| Trouble::Request("the answer's body"))?;
    let stream = incoming.stream().map_err(|()| Trouble::Request("the answer's body"))?;
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) => body.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                // Hosts with wasmtime 48 return no code here, only a text.
                return Err(http_error_code(&error)
                    .map_or_else(|| Trouble::CutOff(error.to_debug_string()), Trouble::Told));
            }
        }
    }
    Ok(Response { status, headers, body })
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The response if its status is a success (2xx). Otherwise a failure with the code `http-status-…`:
    /// throttled if the service says when to retry, transient for 408, 425, 429 and 5xx, permanent for all
    /// others.
    pub fn success(self) -> Result<Response, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let code = format!("http-status-{}", self.status);
        let message = format!("the service answered {}: {}", self.status, self.shown());
        let seconds = self.header("retry-after").and_then(|value| value.parse::<u64>().ok());
        Err(match (self.status, seconds) {
            (429 | 503, Some(seconds)) => Failure::throttled(seconds.saturating_mul(1_000), code, message),
            (408 | 425 | 429 | 500..=599, _) => Failure::transient(code, message),
            _ => Failure::permanent(code, message),
        })
    }

    /// The body parsed as JSON. If it does not have the expected form, the failure is transient, with the
    /// code `http-answer`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("the answer is not what was expected ({error}): {}", self.shown());
            Failure::transient("http-answer", message)
        })
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(SHOWN_CHARS).collect()
    }
}

/// An error between a request and its response.
enum Trouble {
    /// This part of the request cannot be sent.
    Request(&'static str),
    Told(ErrorCode),
    /// The response ended early.
    CutOff(String),
}

impl From<ErrorCode> for Trouble {
    fn from(code: ErrorCode) -> Trouble {
        Trouble::Told(code)
    }
}

impl Trouble {
    fn failure(self, url: &str) -> Failure {
        let code = match self {
            Trouble::Request(part) => {
                return Failure::permanent("http-request", format!("{url}: {part} cannot be sent"));
            }
            Trouble::CutOff(why) => {
                return Failure::transient("http-answer", format!("{url}: the answer was cut off: {why}"));
            }
            Trouble::Told(code) => code,
        };
        match code {
            ErrorCode::HttpRequestDenied => {
                let message =
                    format!("{url} is not granted: add its scheme, host and port under grants.http");
                Failure::permanent("http-denied", message)
            }
            ErrorCode::DestinationIpProhibited => {
                let message = format!(
                    "{url}: the name stands for an address that the job may not reach (grants.http_private)"
                );
                Failure::permanent("http-denied", message)
            }
            ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestMethodInvalid => {
                Failure::permanent("http-request", format!("{url}: {code}"))
            }
            ErrorCode::HttpResponseTimeout | ErrorCode::ConnectionTimeout => {
                Failure::transient("http-timeout", format!("{url} did not answer in time"))
            }
            ErrorCode::HttpProtocolError | ErrorCode::HttpResponseIncomplete => {
                Failure::transient("http-answer", format!("{url}: the answer was cut off, or is no HTTP"))
            }
            ErrorCode::HttpResponseBodySize(_) | ErrorCode::HttpRequestBodySize(_) => {
                let message =
                    format!("{url}: more bytes than limits.http_request or limits.http_response allow");
                Failure::transient("http-too-large", message)
            }
            ErrorCode::ConnectionLimitReached => {
                let message =
                    format!("{url}: more requests than limits.http_requests or limits.http_concurrent allow");
                Failure::transient("http-limit", message)
            }
            other => Failure::transient("http-unreachable", format!("{url}: {other}")),
        }
    }
}
