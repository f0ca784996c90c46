//! Events to a webhook: one POST each.

use std::sync::Arc;

use serde_json::{Value, json};
use store::delivery::DueEvent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::config::{Sink, To};

/// Of an answer that is no success, this much is told.
const ANSWER_BYTES_SHOWN: u64 = 200;

pub async fn send(
    sink: Arc<Sink>,
    due: DueEvent,
    certificates: Arc<[Certificate<'static>]>,
) -> Result<(), String> {
    let posted = tokio::task::spawn_blocking(move || post(&sink, &due, &certificates));
    posted.await.unwrap_or_else(|e| Err(format!("the host failed while it sent this: {e}")))
}

/// One request: any 2xx says that the event is taken.
fn post(sink: &Sink, due: &DueEvent, certificates: &[Certificate<'static>]) -> Result<(), String> {
    let To::Webhook(url) = &sink.to else { return Ok(()) };
    let roots = match certificates {
        [] => RootCerts::WebPki,
        own => RootCerts::new_with_certs(own),
    };
    let config = ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .http_status_as_error(false)
        .timeout_global(Some(sink.timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .build();
    let agent: ureq::Agent = config.into();
    let event = &due.event;
    let request = agent.post(url).header("idempotency-key", event.id.to_string());
    let mut answer = request.send_json(document(due)).map_err(|e| e.to_string())?;
    if answer.status().is_success() {
        return Ok(());
    }
    let said = answer.body_mut().with_config().limit(ANSWER_BYTES_SHOWN).read_to_string().unwrap_or_default();
    Err(format!("it answered with status {}: {}", answer.status().as_u16(), said.trim()))
}

fn document(due: &DueEvent) -> Value {
    let event = &due.event;
    let payload =
        serde_json::from_str(&event.payload).unwrap_or_else(|_| Value::String(event.payload.clone()));
    json!({
        "id": event.id.to_string(),
        "topic": event.topic,
        "key": event.key,
        "job": event.job.as_str(),
        "created_at": event.created_at.to_string(),
        "try": due.tries,
        "payload": payload,
    })
}
