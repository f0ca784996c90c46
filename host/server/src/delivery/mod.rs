//! Sends events to their sinks: at least once, and in order for each key. Each sink has its own task, so that
//! an unavailable sink does not delay others. There is one file for each kind of sink.
//!
//! A worker claims many events, sends them in waves, and records their results in one transaction. A wave is sent
//! together, and the next one begins when all its events are answered.

mod nats;
mod redis;
mod table;
mod waves;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use domain::clock::Clock;
use domain::text::escape;
use jiff::{SignedDuration, Timestamp};
use store::alerts::NOTICE_TOPIC;
use store::events::delivery::{ClaimLimits, DueEvent, FailedTry, Results};
use store::{Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::nats::Nats;
use self::redis::Redis;
use self::table::Table;
use self::waves::{Queues, Request, Shape};
use self::webhook::Webhook;
use crate::config::{SigningKey, Sink, To, Trusted};

/// Events of one claim.
const CLAIM_EVENTS_MAX: u32 = 1_000;
/// Payload bytes of one claim.
const CLAIM_BYTES_MAX: u32 = 8 << 20;
/// Interval of polls when no wake-up arrives, in real time.
const POLL_PERIOD: Duration = Duration::from_secs(1);
/// A claim lasts twice a sink's timeout and this, after which another host may send the events: waves begin within the
/// timeout, and the last one may take as long. All are in real time.
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
            To::Webhook { url, signed_with, batch } => {
                let key = signed_with.as_ref().map(|named| SigningKey::new(&named.secret));
                let key = key.transpose().map_err(anyhow::Error::msg)?;
                Transport::Webhook(Webhook::new(url, key, *batch, sink.timeout, tls))
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

    /// Sends a wave. Returns the results of its events in their order.
    async fn send(&self, wave: &[Request<'_>], until: Instant) -> Vec<Result<(), String>> {
        match self {
            Transport::Webhook(webhook) => webhook.send(wave).await,
            Transport::Table(table) => table.send(&wave.concat(), until).await,
            Transport::Nats(nats) => nats.send(&wave.concat(), until).await,
            Transport::Redis(redis) => redis.send(&wave.concat(), until).await,
        }
    }

    fn shape(&self) -> Shape {
        match self {
            Transport::Webhook(webhook) => webhook.shape(),
            // A statement inserts all its events or none.
            Transport::Table(_) => Shape::whole(usize::MAX),
            // A broker may refuse an event and take the next one.
            Transport::Nats(_) | Transport::Redis(_) => Shape::whole(1),
        }
    }

    fn claim_limits(&self) -> ClaimLimits {
        let shape = self.shape();
        let events = u32::try_from(shape.requests.saturating_mul(shape.events)).unwrap_or(u32::MAX);
        ClaimLimits { events: events.min(CLAIM_EVENTS_MAX), bytes: CLAIM_BYTES_MAX }
    }

    /// Whether a failure may have made its connection useless.
    fn has_connection(&self) -> bool {
        matches!(self, Transport::Nats(_) | Transport::Redis(_))
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

    /// Delivers the events of one claim. Returns whether there were events.
    async fn round(&self) -> Result<bool, StoreError> {
        self.notices().await?;
        let mut transport = self.transport.lock().await;
        let due = self.claim(transport.claim_limits()).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let results = self.send(&mut transport, &due).await;
        if !results.failed.is_empty() {
            transport.close();
        }
        if let Err(error) = self.store.outbox().record(&results, self.clock.now()).await {
            tracing::warn!(%error, "events are sent again: their results could not be recorded in the store");
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

    async fn claim(&self, most: ClaimLimits) -> Result<Vec<DueEvent>, StoreError> {
        let now = self.clock.now();
        let timeout = SignedDuration::try_from(self.sink.timeout).unwrap_or(CLAIM_MARGIN);
        let claim = self.clock.shown(timeout * 2 + CLAIM_MARGIN);
        let until = now.checked_add(claim).unwrap_or(Timestamp::MAX);
        let topics: Vec<&str> = self.sink.topics.iter().map(String::as_str).collect();
        self.store.outbox().claim(&topics, most, until, now).await
    }

    /// Sends wave after wave, as long as no claim can end meanwhile. An event that fails holds back those of its key.
    async fn send<'a>(&self, transport: &mut Transport, due: &'a [DueEvent]) -> Results<'a> {
        let (begun, shape) = (Instant::now(), transport.shape());
        let mut queues = Queues::of(due);
        let mut results = Results::default();
        if let Err(error) = transport.open(begun + self.sink.timeout).await {
            results.failed = queues.unsent().into_iter().map(|due| self.failed(due, &error)).collect();
            return results;
        }
        loop {
            let wave = queues.wave(shape);
            if wave.is_empty() {
                break;
            }
            let sent = transport.send(&wave, Instant::now() + self.sink.timeout).await;
            for (due, sent) in wave.into_iter().flatten().zip(sent) {
                match sent {
                    Ok(()) => results.delivered.push(due.event.id),
                    // Of the events of a key that failed together, the first counts.
                    Err(error) if queues.stop(due) => results.failed.push(self.failed(due, &error)),
                    Err(_) => {}
                }
            }
            let is_broken = !results.failed.is_empty() && transport.has_connection();
            if is_broken || self.stop.is_cancelled() || begun.elapsed() >= self.sink.timeout {
                break;
            }
        }
        results.unsent = queues.unsent();
        results
    }

    fn failed<'a>(&self, due: &'a DueEvent, error: &str) -> FailedTry<'a> {
        // The receiver determines the text, so it is escaped.
        let error = escape(error).into_owned();
        let again_at = (due.tries < self.sink.tries_max)
            .then(|| self.clock.now().saturating_add(backoff(due.tries)).unwrap_or(Timestamp::MAX));
        let (topic, key, attempt) = (&due.event.topic, &due.event.key, due.tries);
        let code = if again_at.is_some() { "event-not-taken" } else { "event-dead" };
        let (job, sink) = (&due.event.job, &self.sink.name);
        tracing::warn!(%job, sink, %topic, %key, attempt, code, %error, "event not delivered");
        FailedTry { due, error, again_at }
    }
}

fn backoff(tries: u32) -> SignedDuration {
    let factor = 1_i32.checked_shl(tries.saturating_sub(1).min(20)).unwrap_or(i32::MAX);
    BACKOFF_BASE.checked_mul(factor).unwrap_or(BACKOFF_CAP).min(BACKOFF_CAP)
}
