//! Requests to hosts that may be down or not answer.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;

/// Neither a stopped host nor one without its database answers.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Why a request has no answer.
pub enum NoAnswer {
    /// The connection was refused, so the request was not sent.
    NobodyThere,
    /// The host may have carried the request out.
    Unknown,
}

/// Returns status and body of the answer, if it arrives in time.
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
