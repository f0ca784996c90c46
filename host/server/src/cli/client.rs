//! Asks a running host over its HTTP API.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::Failure;
use super::output::{Output, plain};
use crate::api::types::Problem;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// How to reach the host, and how to show its answer.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// Address of the running host
    #[arg(long, env = "TIDEMILL_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    server: String,
    /// Token for what changes something
    #[arg(long, env = "TIDEMILL_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
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
        let mut request = self.agent().post(self.url(path)?);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.answer(request.send_json(body))
    }

    fn agent(&self) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_TIME_MAX))
            // The host is on this machine: a proxy of the environment would not reach it.
            .proxy(None)
            .build();
        config.into()
    }

    fn url(&self, path: &[&str]) -> Result<String, Failure> {
        let server = self.server.trim_end_matches('/');
        if !server.starts_with("http://") {
            let text = format!("{server:?} is not a server's address: use one like http://127.0.0.1:7070");
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
        Failure::failed(format!(
            "cannot reach tidemill at {}: {error}; start it with `tidemill serve`, or name it with --server",
            self.server
        ))
    }

    fn stranger(&self, what: &str) -> Failure {
        Failure::failed(format!(
            "{} does not speak like a tidemill of this version: {what}; check --server, and the version over there",
            self.server
        ))
    }
}

fn refused(problem: &Problem) -> Failure {
    let hint = match problem.code.as_str() {
        "store-unavailable" => "; it tries again by itself, `tidemill serve` logs why",
        "not-found" => "; the lists (`tidemill jobs`, `runs`, `items`) show what there is",
        _ => "",
    };
    Failure::failed(format!("{}{hint}", plain(&problem.detail)))
}
