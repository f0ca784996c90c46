//! Events to a webhook: one POST each, signed if there is a key.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use store::delivery::DueEvent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::signature::SigningKey;
use crate::config::Trusted;

/// Of an answer that is no success, this much is told.
const ANSWER_BYTES_SHOWN: u64 = 200;

#[derive(Clone)]
pub struct Webhook {
    url: String,
    key: Option<SigningKey>,
    agent: ureq::Agent,
}

impl Webhook {
    pub fn new(url: &str, key: Option<SigningKey>, timeout: Duration, tls: &Trusted) -> Webhook {
        let own: Vec<_> = tls.certificates.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let roots = if own.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&own) };
        let config = ureq::Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            // A connection that the receiver closed meanwhile would cost a try.
            .max_idle_connections(0)
            .build();
        Webhook { url: url.to_owned(), key, agent: config.into() }
    }

    pub async fn send(&self, due: &DueEvent) -> Result<(), String> {
        let (webhook, due) = (self.clone(), due.clone());
        let posted = tokio::task::spawn_blocking(move || webhook.post(&due));
        posted.await.unwrap_or_else(|e| Err(format!("the host failed while it sent this: {e}")))
    }

    /// One request: any 2xx says that the event is taken.
    fn post(&self, due: &DueEvent) -> Result<(), String> {
        let (id, body) = (due.event.id.to_string(), document(due).to_string());
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        request = request.header("idempotency-key", &id);
        // Receivers refuse what was signed long ago by their clock, so it is the real time, whatever ours shows.
        let signed = self.key.as_ref().map(|key| key.headers(&id, Timestamp::now(), &body));
        for (name, value) in signed.into_iter().flatten() {
            request = request.header(name, value);
        }
        let mut answer = request.send(body).map_err(|e| e.to_string())?;
        if answer.status().is_success() {
            return Ok(());
        }
        let said =
            answer.body_mut().with_config().limit(ANSWER_BYTES_SHOWN).read_to_string().unwrap_or_default();
        Err(format!("it answered with status {}: {}", answer.status().as_u16(), said.trim()))
    }
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
