//! Sends events to their sinks: at least once, those of a key in their order. One file for each kind of sink.

mod table;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use domain::clock::Clock;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use store::Store;
use store::alerts::NOTICE_TOPIC;
use store::delivery::DueEvent;
use tokio_util::sync::CancellationToken;
use ureq::tls::Certificate;

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
            To::Table { datasource, table } => table::send(&self.store, datasource, table, &due).await,
            To::Webhook(_) => webhook::send(sink.clone(), due.clone(), self.certificates.clone()).await,
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
