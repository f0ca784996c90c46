//! Sends events to their sinks: at least once, and in order for each key. Each sink has its own task, so that
//! an unavailable sink does not delay others. There is one file for each kind of sink.

mod nats;
mod redis;
mod table;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use domain::clock::Clock;
use domain::text::escape;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use store::alerts::NOTICE_TOPIC;
use store::events::delivery::DueEvent;
use store::{Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::nats::Nats;
use self::redis::Redis;
use self::table::Table;
use self::webhook::Webhook;
use crate::config::{SigningKey, Sink, To, Trusted};

/// Events of a sink that are sent at the same time.
const BATCH: u32 = 32;
/// Interval of polls when no wake-up arrives, in real time.
const POLL_PERIOD: Duration = Duration::from_secs(1);
/// Added to a sink's timeout to get the duration of a claim, after which another host may send the events.
/// Both are in real time.
const CLAIM_MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// How long sends may continue after the stop signal. Unfinished events are sent again later.
const STOP_GRACE: Duration = Duration::from_secs(5);
const BACKOFF_BASE: SignedDuration = SignedDuration::from_secs(1);
const BACKOFF_CAP: SignedDuration = SignedDuration::from_mins(5);
/// How long an alert is collected before it is sent: an unavailable service makes many items fail at once.
const NOTICE_AFTER: SignedDuration = SignedDuration::from_secs(10);

pub struct Delivery {
    pub store: Arc<Store>,
    pub sinks: Vec<Arc<Sink>>,
    pub tls: Trusted,
    pub clock: Clock,
    pub stop: CancellationToken,
}

impl Delivery {
    /// Creates the workers of all sinks. Fails if one of them cannot be set up.
    pub fn workers(self) -> anyhow::Result<Vec<SinkWorker>> {
        let worker = |sink: &Arc<Sink>| {
            let transport = Transport::to(sink, &self.store, &self.tls);
            let transport =
                transport.with_context(|| format!("the sink {:?} cannot be set up", sink.name))?;
            let transport = Mutex::new(transport);
            let (store, clock, stop) = (self.store.clone(), self.clock.clone(), self.stop.clone());
            Ok(SinkWorker { sink: sink.clone(), transport, store, clock, stop })
        };
        self.sinks.iter().map(worker).collect()
    }
}

/// The transport to a sink.
enum Transport {
    Webhook(Webhook),
    Table(Table),
    Nats(Box<Nats>),
    Redis(Box<Redis>),
}

impl Transport {
    fn to(sink: &Sink, store: &Arc<Store>, tls: &Trusted) -> anyhow::Result<Transport> {
        Ok(match &sink.to {
            To::Webhook { url, signed_with } => {
                let key = signed_with.as_ref().map(|named| SigningKey::new(&named.secret));
                let key = key.transpose().map_err(anyhow::Error::msg)?;
                Transport::Webhook(Webhook::new(url, key, sink.timeout, tls))
            }
            To::Table { datasource, table } => Transport::Table(Table::new(store.clone(), datasource, table)),
            To::Nats(to) => Transport::Nats(Box::new(Nats::new(to, sink.timeout, tls.client()?)?)),
            To::Redis(to) => Transport::Redis(Box::new(Redis::new(to, sink.timeout, tls)?)),
        })
    }

    /// Connects, unless it is connected.
    async fn open(&mut self, until: Instant) -> Result<(), String> {
        match self {
            Transport::Webhook(_) | Transport::Table(_) => Ok(()),
            Transport::Nats(nats) => nats.open(until).await,
            Transport::Redis(redis) => redis.open(until).await,
        }
    }

    async fn send(&self, due: &DueEvent, until: Instant) -> Result<(), String> {
        match self {
            Transport::Webhook(webhook) => webhook.send(due).await,
            Transport::Table(table) => table.send(due).await,
            Transport::Nats(nats) => nats.send(due, until).await,
            Transport::Redis(redis) => redis.send(due, until).await,
        }
    }

    /// Closes the connection after a failure, whatever the cause is.
    fn close(&mut self) {
        match self {
            Transport::Webhook(_) | Transport::Table(_) => {}
            Transport::Nats(nats) => nats.close(),
            Transport::Redis(redis) => redis.close(),
        }
    }
}

/// The worker of one sink.
pub struct SinkWorker {
    sink: Arc<Sink>,
    transport: Mutex<Transport>,
    store: Arc<Store>,
    clock: Clock,
    stop: CancellationToken,
}

impl SinkWorker {
    pub fn sink(&self) -> &str {
        &self.sink.name
    }

    pub async fn run(self: Arc<Self>) {
        loop {
            let woken = self.store.feed().woken();
            let stop = self.stop.clone();
            let late = async {
                stop.cancelled().await;
                tokio::time::sleep(STOP_GRACE).await;
            };
            let round = tokio::select! {
                round = self.round() => round,
                _ = late => return,
            };
            match round {
                Ok(true) if !self.stop.is_cancelled() => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(sink = self.sink.name, %error, "events wait for the store"),
            }
            tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = woken => {}
                _ = tokio::time::sleep(POLL_PERIOD) => {}
            }
        }
    }

    /// Sends one batch. Returns whether there were events.
    async fn round(&self) -> Result<bool, StoreError> {
        self.notices().await?;
        let due = self.claim().await?;
        if due.is_empty() {
            return Ok(false);
        }
        let until = Instant::now() + self.sink.timeout;
        let mut transport = self.transport.lock().await;
        let opened = transport.open(until).await;
        let sent = join_all(due.iter().map(|due| self.send(&transport, due, &opened, until))).await;
        if sent.contains(&false) {
            transport.close();
        }
        Ok(true)
    }

    /// Creates events for alerts, if the sink handles them. Alerts of the first seconds are combined.
    async fn notices(&self) -> Result<(), StoreError> {
        if self.sink.topics.iter().any(|topic| topic == NOTICE_TOPIC) {
            let now = self.clock.now();
            let until = now.checked_sub(NOTICE_AFTER).unwrap_or(Timestamp::MIN);
            self.store.alerts().add_notices(until, now).await?;
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Vec<DueEvent>, StoreError> {
        let now = self.clock.now();
        let timeout = SignedDuration::try_from(self.sink.timeout).unwrap_or(CLAIM_MARGIN);
        let claim = self.clock.shown(timeout + CLAIM_MARGIN);
        let until = now.checked_add(claim).unwrap_or(Timestamp::MAX);
        let topics: Vec<&str> = self.sink.topics.iter().map(String::as_str).collect();
        self.store.outbox().claim(&topics, BATCH, until, now).await
    }

    /// Returns whether the sink accepted the event.
    async fn send(
        &self,
        transport: &Transport,
        due: &DueEvent,
        opened: &Result<(), String>,
        until: Instant,
    ) -> bool {
        let sent = match opened {
            Ok(()) => transport.send(due, until).await,
            Err(error) => Err(error.clone()),
        };
        let now = self.clock.now();
        let written = match &sent {
            Ok(()) => self.store.outbox().delivered(due.event.id, now).await,
            // The receiver determines the text, so it is escaped.
            Err(error) => self.failed(due, &escape(error), now).await,
        };
        if let Err(error) = written {
            tracing::warn!(%error, "an event is sent again: its result could not be recorded in the store");
        }
        sent.is_ok()
    }

    async fn failed(&self, due: &DueEvent, error: &str, now: Timestamp) -> Result<(), StoreError> {
        let again_at = (due.tries < self.sink.tries_max).then(|| now.saturating_add(backoff(due.tries)));
        let (topic, key, attempt) = (&due.event.topic, &due.event.key, due.tries);
        let code = if again_at.is_some() { "event-not-taken" } else { "event-dead" };
        let (job, sink) = (&due.event.job, &self.sink.name);
        tracing::warn!(%job, sink, %topic, %key, attempt, code, %error, "event not delivered");
        let again_at = again_at.map(|at| at.unwrap_or(Timestamp::MAX));
        self.store.outbox().failed(due, error, again_at, now).await
    }
}

fn backoff(tries: u32) -> SignedDuration {
    let factor = 1_i32.checked_shl(tries.saturating_sub(1).min(20)).unwrap_or(i32::MAX);
    BACKOFF_BASE.checked_mul(factor).unwrap_or(BACKOFF_CAP).min(BACKOFF_CAP)
}
