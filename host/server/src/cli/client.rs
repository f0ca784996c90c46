//! Sends requests to a running host over its HTTP API.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use domain::address::Address;
use domain::text::escape;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Response};
use ureq::{Agent, Body, SendBody};
use uuid::Uuid;

use super::component::Component;
use super::failure::Failure;
use super::output::Output;
use crate::api::{COMPONENT_SIGNATURE, IDEMPOTENCY_KEY};
use crate::http::error::Problem;
use crate::http::{BODY_BYTES_MAX, COMPONENT_KIND, LINES_KIND};

const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// For requests that compile and test a component.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(180);
/// A larger body is sent with `Expect: 100-continue`, so that a refusal is read before all of it is sent.
const ASKED_FIRST_BYTES: usize = 64 << 10;
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Pauses before a request is sent again because its response was lost.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// How to reach the host, and how to show its answer.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// Address of the running host
    #[arg(long, env = "TIDEMILL_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    server: String,
    /// Token for what changes something
    #[arg(long, env = "TIDEMILL_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Key of the request: repeated with the same key within 24 h, it is carried out once
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    idempotency_key: Option<String>,
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

impl Remote {
    pub fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, Failure> {
        let mut request = self.agent().get(self.url(path)?);
        for (name, value) in query {
            request = request.query(*name, value);
        }
        self.answer(request.call())
    }

    pub fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::failed(format!("the request cannot be written as JSON: {error}")))?;
        self.post_bytes(path, &body)
    }

    /// Sends JSON unchanged. The request has a key, so that it can be sent again when its response is lost.
    pub fn post_bytes<T: DeserializeOwned>(&self, path: &[&str], body: &[u8]) -> Result<T, Failure> {
        if body.len() > BODY_BYTES_MAX {
            let (bytes, most) = (body.len(), BODY_BYTES_MAX);
            let text = format!(
                "a request of {bytes} bytes is too large, at most {most}: nothing was sent; split it"
            );
            return Err(Failure::Usage(text));
        }
        let (agent, url) = (self.agent(), self.url(path)?);
        let key = self.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let send = || {
            let mut request = agent.post(&url).header("content-type", "application/json");
            request = request.header(IDEMPOTENCY_KEY, format!("\"{key}\""));
            if body.len() > ASKED_FIRST_BYTES {
                request = request.header("expect", "100-continue");
            }
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            request.send(body)
        };
        self.carried_out(&key, send)
    }

    /// Sends a request that has a key, and sends it again when its response is lost.
    fn carried_out<T: DeserializeOwned>(
        &self,
        key: &str,
        send: impl Fn() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let mut result = send();
        let mut pauses = RETRY_PAUSES.iter();
        let mut lost = false;
        while is_lost(&result, lost) {
            lost = true;
            let Some(pause) = pauses.next() else { break };
            std::thread::sleep(*pause);
            result = send();
        }
        match result {
            Err(error) if lost => Err(Failure::failed(format!(
                "no answer came from {}: {error}; the request may have been carried out: \
                 repeat it with --idempotency-key {key}, and it is carried out once",
                self.shown()
            ))),
            result => self.answer(result),
        }
    }

    /// Sends a plugin's file, with its signature if there is one. The host decides first whether it accepts
    /// the body. A PUT has a key.
    pub fn send_component<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        component: &Component,
    ) -> Result<T, Failure> {
        let (agent, url) = (self.agent_for(TRIAL_TIME_MAX), self.url(path)?);
        let puts = method == Method::PUT;
        let key = self.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let send = || {
            let mut request = if puts { agent.put(&url) } else { agent.post(&url) };
            request = request.header("content-type", COMPONENT_KIND).header("expect", "100-continue");
            for (name, value) in query {
                request = request.query(*name, value);
            }
            if puts {
                request = request.header(IDEMPOTENCY_KEY, format!("\"{key}\""));
            }
            if let Some(signature) = &component.signature {
                request = request.header(COMPONENT_SIGNATURE, BASE64_STANDARD.encode(signature));
            }
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            request.send(component.bytes.as_slice())
        };
        // A replay changes nothing, so it is not repeated.
        if puts { self.carried_out(&key, send) } else { self.answer(send()) }
    }

    /// Sends lines while they are read, however long that takes. A stream has no key, so it is not sent again.
    pub fn send_lines<T: DeserializeOwned>(&self, path: &[&str], lines: &mut dyn Read) -> Result<T, Failure> {
        if self.idempotency_key.is_some() {
            let text = "a file of items takes no --idempotency-key: each item is known by its own key";
            return Err(Failure::Usage(text.to_owned()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(ANSWER_TIME_MAX))
            .timeout_recv_response(Some(ANSWER_TIME_MAX))
            .proxy(None)
            .build();
        let agent: Agent = config.into();
        let mut request = agent.post(self.url(path)?);
        request = request.header("content-type", LINES_KIND).header("expect", "100-continue");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.answer(request.send(SendBody::from_reader(lines)))
    }

    fn agent(&self) -> Agent {
        self.agent_for(ANSWER_TIME_MAX)
    }

    fn agent_for(&self, time_max: Duration) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(time_max))
            // The host is on this machine: a proxy of the environment would not reach it.
            .proxy(None)
            .build();
        config.into()
    }

    fn shown(&self) -> Address {
        Address::new(self.server.trim_end_matches('/'))
    }

    fn url(&self, path: &[&str]) -> Result<String, Failure> {
        let server = self.server.trim_end_matches('/');
        if !server.starts_with("http://") {
            let shown = self.shown();
            let text = format!("{shown:?} is not a server's address: use one like http://127.0.0.1:7070");
            return Err(Failure::Usage(text));
        }
        Ok(format!("{server}{}", crate::api::path(path)))
    }

    fn answer<T: DeserializeOwned>(&self, result: Result<Response<Body>, ureq::Error>) -> Result<T, Failure> {
        let mut response = result.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(match serde_json::from_str::<Problem>(&text) {
                Ok(problem) => refused(&problem),
                Err(_) => self.stranger(&format!("it answered with status {status}")),
            });
        }
        serde_json::from_str(&text)
            .map_err(|error| self.stranger(&format!("its answer is not understood ({error})")))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        if let Some(what) = broken(error) {
            return Failure::failed(format!(
                "{} {what} ({error}): whether the request took effect is not known; check before you send it again",
                self.shown()
            ));
        }
        Failure::failed(format!(
            "cannot reach tidemill at {}: {error}; start it with `tidemill serve`, or name it with --server",
            self.shown()
        ))
    }

    fn stranger(&self, what: &str) -> Failure {
        Failure::failed(format!(
            "the answer of {} does not fit this version of tidemill: {what}; check --server, and the server's version",
            self.shown()
        ))
    }
}

/// The failure of an established connection, if it is one.
fn broken(error: &ureq::Error) -> Option<&'static str> {
    match error {
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
                Some("closed the connection before it answered")
            }
            ErrorKind::UnexpectedEof => Some("closed the connection before it answered"),
            _ => None,
        },
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => None,
        ureq::Error::Timeout(_) => Some("did not answer in time"),
        _ => None,
    }
}

/// Whether the request may have arrived although its response did not. A refused connection means that it did
/// not, unless it was sent before.
fn is_lost(result: &Result<Response<Body>, ureq::Error>, before: bool) -> bool {
    match result {
        Err(ureq::Error::Io(e)) => before || e.kind() != ErrorKind::ConnectionRefused,
        Err(ureq::Error::Timeout(_)) => true,
        Ok(_) | Err(_) => false,
    }
}

fn refused(problem: &Problem) -> Failure {
    let hint = match problem.code.as_str() {
        "store-unavailable" => "; it tries again automatically, `tidemill serve` logs why",
        "not-found" => "; the lists (`tidemill jobs`, `runs`, `items`) show what there is",
        _ => "",
    };
    Failure::failed(format!("{}{hint}", escape(&problem.detail)))
}
