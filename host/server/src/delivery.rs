//! Sends events to their sinks: at least once, those of a key in their order.

use std::sync::Arc;
use std::time::Duration;

use domain::clock::Clock;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::Store;
use store::alerts::NOTICE_TOPIC;
use store::delivery::DueEvent;
use tokio_util::sync::CancellationToken;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::config::{Sink, To};

/// Events that are on their way at the same time.
const BATCH: u32 = 32;
/// How often it looks when nothing tells of work, in real time.
const POLL_PERIOD: Duration = Duration::from_secs(1);
/// On top of a sink's own time, until another host may send what this one claimed; both are real times.
const CLAIM_MARGIN: SignedDuration = SignedDuration::from_secs(30);
const BACKOFF_BASE: SignedDuration = SignedDuration::from_secs(1);
const BACKOFF_CAP: SignedDuration = SignedDuration::from_mins(5);
/// How long an alert is gathered before it is told: a service that is away fails many items at once.
const NOTICE_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// Of an answer that is no success, this much is told.
const ANSWER_BYTES_SHOWN: u64 = 200;

pub struct Delivery {
    pub store: Arc<Store>,
    pub sinks: Vec<Arc<Sink>>,
    /// What HTTPS trusts in place of the built-in roots, if anything.
    pub certificates: Arc<[Certificate<'static>]>,
    pub clock: Clock,
    pub stop: CancellationToken,
}

impl Delivery {
    pub async fn run(self) {
        if self.sinks.is_empty() {
            return;
        }
        loop {
            let woken = self.store.woken();
            match self.round().await {
                Ok(true) if !self.stop.is_cancelled() => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "events wait for the store"),
            }
            tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = woken => {}
                _ = tokio::time::sleep(POLL_PERIOD) => {}
            }
        }
    }

    /// Tells of alerts, if a sink takes that. What happens in the first moments is told together.
    async fn notices(&self) -> Result<(), store::StoreError> {
        if self.sinks.iter().any(|sink| sink.topics.iter().any(|topic| topic == NOTICE_TOPIC)) {
            let now = self.clock.now();
            let until = now.checked_sub(NOTICE_AFTER).unwrap_or(Timestamp::MIN);
            self.store.alert_notices(until, now).await?;
        }
        Ok(())
    }

    /// One batch of each sink; says whether there was anything to send.
    async fn round(&self) -> Result<bool, store::StoreError> {
        self.notices().await?;
        let mut any = false;
        for sink in &self.sinks {
            let now = self.clock.now();
            let timeout = SignedDuration::try_from(sink.timeout).unwrap_or(CLAIM_MARGIN);
            let claim = self.clock.shown(timeout + CLAIM_MARGIN);
            let until = now.checked_add(claim).unwrap_or(Timestamp::MAX);
            let topics: Vec<&str> = sink.topics.iter().map(String::as_str).collect();
            let due = self.store.events_claim(&topics, BATCH, until, now).await?;
            any |= !due.is_empty();
            join_all(due.into_iter().map(|due| self.send(sink.clone(), due))).await;
        }
        Ok(any)
    }

    async fn send(&self, sink: Arc<Sink>, due: DueEvent) {
        let sent = match &sink.to {
            To::Table { datasource, table } => {
                self.store.event_into_table(datasource, table, &due.event).await
            }
            To::Webhook(_) => {
                let (sink, due, certificates) = (sink.clone(), due.clone(), self.certificates.clone());
                let posted = tokio::task::spawn_blocking(move || post(&sink, &due, &certificates));
                posted.await.unwrap_or_else(|e| Err(format!("the host failed while it sent this: {e}")))
            }
        };
        let now = self.clock.now();
        let told = match sent {
            Ok(()) => self.store.event_delivered(due.event.id, now).await,
            Err(error) => {
                let again_at = (due.tries < sink.tries_max).then(|| now.saturating_add(backoff(due.tries)));
                let (topic, key, attempt) = (&due.event.topic, &due.event.key, due.tries);
                let code = if again_at.is_some() { "event-not-taken" } else { "event-dead" };
                tracing::warn!(job = %due.event.job, sink = sink.name, %topic, %key, attempt, code, %error, "event not delivered");
                let again_at = again_at.map(|at| at.unwrap_or(Timestamp::MAX));
                self.store.event_failed(&due, &error, again_at, now).await
            }
        };
        if let Err(error) = told {
            tracing::warn!(%error, "an event is sent again: the store did not hear what became of it");
        }
    }
}

fn backoff(tries: u32) -> SignedDuration {
    let factor = 1_i32.checked_shl(tries.saturating_sub(1).min(20)).unwrap_or(i32::MAX);
    BACKOFF_BASE.checked_mul(factor).unwrap_or(BACKOFF_CAP).min(BACKOFF_CAP)
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
