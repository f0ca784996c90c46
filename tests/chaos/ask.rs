//! Requests to hosts, which may not be there, or not answer.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;

/// A stopped host does not answer, nor does one whose database is away.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Why nothing was heard of a request.
pub enum NoAnswer {
    /// Nobody listens: it was not sent.
    NobodyThere,
    /// It may have been carried out.
    Unknown,
}

/// Status and body of an answer, if there was one in time.
pub async fn ask(
    port: u16,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Result<(u16, String), NoAnswer> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let method = method.to_owned();
    let ask = move || {
        let text = body.map_or_else(String::new, |body| body.to_string());
        let request = ureq::http::Request::builder().method(method.as_str()).uri(url);
        let request = request.header("content-type", "application/json").body(text).unwrap();
        let config =
            ureq::Agent::config_builder().timeout_global(Some(ANSWER_TIME_MAX)).http_status_as_error(false);
        let mut answer = config.build().new_agent().run(request).map_err(no_answer)?;
        let text = answer.body_mut().read_to_string().map_err(no_answer)?;
        Ok((answer.status().as_u16(), text))
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

fn no_answer(error: ureq::Error) -> NoAnswer {
    match error {
        ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => NoAnswer::NobodyThere,
        ureq::Error::ConnectionFailed => NoAnswer::NobodyThere,
        _ => NoAnswer::Unknown,
    }
}
