//! The feed of engine events. A transaction collects the events of its changes, and its commit publishes them:
//! at once in this process, and on Postgres to the other hosts as the payload of a notification.
//!
//! Notifications are best effort: a host that misses one finds the work at its next poll.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::engine_event::EngineEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::postgres::PgListener;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::Server;
use crate::tasks::Tasks;

const CHANNEL: &str = "tidemill_work";
/// Postgres sends notifications one after another for all databases of a server, so this process sends at
/// most one group in this time.
const SEND_PERIOD: Duration = Duration::from_millis(50);
/// Wait before connecting again to an unreachable database.
const RECONNECT_WAIT: Duration = Duration::from_secs(1);
/// Postgres refuses payloads of 8,000 bytes and more.
const PAYLOAD_BYTES_MAX: usize = 7_800;
/// Bytes of events that wait to be sent. With more, other hosts are told that they missed some.
const UNSENT_BYTES_MAX: usize = 8 * PAYLOAD_BYTES_MAX;
/// Number of events that a slow listener may be behind.
const BEHIND_MAX: usize = 1_024;

/// An event as listeners of this process get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    #[serde(flatten)]
    pub event: EngineEvent,
    /// Another host committed the change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remote: bool,
}

/// Cheap to clone; all clones are the same feed.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: broadcast::Sender<Published>,
    /// Notified when there may be work.
    work: Arc<Notify>,
    /// Whether other hosts receive the events.
    is_shared: AtomicBool,
    unsent: Mutex<Unsent>,
    send: Notify,
}

/// Events for other hosts that are not sent yet, as JSON.
#[derive(Debug, Default)]
struct Unsent {
    events: Vec<String>,
    bytes: usize,
    missed: bool,
}

/// One notification.
#[derive(Serialize, Deserialize)]
struct Notice {
    /// The process that sent it.
    from: String,
    /// A newer version may have events that this one does not know.
    events: Vec<Box<RawValue>>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed(Arc::new(Shared {
            events: broadcast::channel(BEHIND_MAX).0,
            work: Arc::default(),
            is_shared: AtomicBool::new(false),
            unsent: Mutex::default(),
            send: Notify::new(),
        }))
    }
}

impl Feed {
    /// Publishes committed changes to this process and to the other hosts.
    pub(crate) fn publish(&self, events: Vec<EngineEvent>) {
        if self.0.is_shared.load(Ordering::Relaxed) && !events.is_empty() {
            self.unsent().add(&events);
            self.0.send.notify_one();
        }
        events.into_iter().for_each(|event| self.publish_here(event));
    }

    /// Publishes an event that concerns only this process.
    pub fn publish_here(&self, event: EngineEvent) {
        self.distribute(Published { event, remote: false });
    }

    fn distribute(&self, published: Published) {
        let makes_work = published.event.makes_work();
        // An error means only that there is no listener.
        let _ = self.0.events.send(published);
        if makes_work {
            self.wake_here();
        }
    }

    /// Wakes the waiting loops of this process.
    pub fn wake_here(&self) {
        self.0.work.notify_waiters();
    }

    /// Wakes the waiting loops of all hosts, for work without an event.
    pub fn wake(&self) {
        self.wake_here();
        self.0.send.notify_one();
    }

    /// Resolves when there may be work. Create it before polling for work, and await it afterwards.
    pub fn woken(&self) -> OwnedNotified {
        self.0.work.clone().notified_owned()
    }

    /// Later events. A listener that is too slow misses some and reads the store instead.
    pub fn listen(&self) -> broadcast::Receiver<Published> {
        self.0.events.subscribe()
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.0.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsent {
    fn add(&mut self, events: &[EngineEvent]) {
        for event in events {
            let json = serde_json::to_string(event).unwrap_or_default();
            let fits = !json.is_empty() && json.len() < PAYLOAD_BYTES_MAX / 2;
            if !fits || self.bytes + json.len() > UNSENT_BYTES_MAX {
                self.missed = true;
                continue;
            }
            self.bytes += json.len();
            self.events.push(json);
        }
    }

    /// The payloads of the notifications; at least one.
    fn payloads(self, from: &str) -> Vec<String> {
        let mut events = self.events;
        if self.missed {
            events.extend(serde_json::to_string(&EngineEvent::Missed));
        }
        let mut payloads = Vec::new();
        let mut group: Vec<Box<RawValue>> = Vec::new();
        let mut bytes = 0;
        for event in events.into_iter().filter_map(|json| RawValue::from_string(json).ok()) {
            if bytes + event.get().len() > PAYLOAD_BYTES_MAX / 2 {
                payloads.push(std::mem::take(&mut group));
                bytes = 0;
            }
            bytes += event.get().len() + 1;
            group.push(event);
        }
        payloads.push(group);
        let text =
            |events| serde_json::to_string(&Notice { from: from.to_owned(), events }).unwrap_or_default();
        payloads.into_iter().map(text).collect()
    }
}

/// The exchange of events with other hosts over Postgres.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Aborted when dropped.
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Exchange {
    pub fn start(feed: &Feed, server: &Server, supervised: &Tasks) -> Exchange {
        feed.0.is_shared.store(true, Ordering::Relaxed);
        let own: Arc<str> = Uuid::new_v4().to_string().into();
        // Both end with the set, never on their own.
        let never = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (sender, from, id) = (server.clone(), feed.clone(), own.clone());
        let send = move || send(sender.clone(), id.clone(), from.clone());
        tasks.spawn(supervised.clone().supervise("feed-send", never.clone(), send));
        let (server, to) = (server.clone(), feed.clone());
        let listen = move || listen(server.clone(), own.clone(), to.clone());
        tasks.spawn(supervised.clone().supervise("feed-listen", never, listen));
        Exchange { tasks: tasks.into() }
    }

    /// Returns its connections to the pool.
    pub async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
    }
}

async fn send(server: Server, own: Arc<str>, feed: Feed) {
    loop {
        feed.0.send.notified().await;
        let payloads = std::mem::take(&mut *feed.unsent()).payloads(&own);
        let notify = async {
            let mut conn = server.acquire().await?;
            let sql = "SELECT pg_notify($1, payload) FROM unnest(CAST($2 AS text[])) AS payload";
            let sent = sqlx::query(sql).bind(CHANNEL).bind(payloads).execute(&mut *conn);
            server.answered(true, sent).await
        };
        if notify.await.is_err() {
            // Other hosts find the work at their next poll, and learn with the next group that they missed
            // events.
            feed.unsent().missed = true;
        }
        tokio::time::sleep(SEND_PERIOD).await;
    }
}

async fn listen(server: Server, own: Arc<str>, feed: Feed) {
    loop {
        // While disconnected, this host finds work of other hosts by polling. The outage is reported
        // elsewhere.
        tokio::select! {
            _lost = receive(&server, &own, &feed) => {}
            // A server that is no longer the right one may keep the connection open without sending anything.
            () = server.renewed() => {}
        }
        tokio::time::sleep(RECONNECT_WAIT).await;
    }
}

/// Receives until the connection is lost.
async fn receive(server: &Server, own: &str, feed: &Feed) -> sqlx::Error {
    let mut listener = match PgListener::connect_with(server.pool()).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    loop {
        match listener.try_recv().await {
            Ok(Some(notice)) => take_over(notice.payload(), own, feed),
            // Without a notification, one may have been missed.
            Ok(None) => feed.distribute(Published { event: EngineEvent::Missed, remote: true }),
            Err(error) => return error,
        }
    }
}

/// Publishes the events of another host in this process. Another version may send a payload or an event that
/// this one does not know: it means that something changed.
fn take_over(payload: &str, own: &str, feed: &Feed) {
    let Ok(Notice { from, events }) = serde_json::from_str(payload) else {
        return feed.distribute(Published { event: EngineEvent::Missed, remote: true });
    };
    if from == own {
        return;
    }
    feed.wake_here();
    for event in events {
        let event = serde_json::from_str(event.get()).unwrap_or(EngineEvent::Missed);
        feed.distribute(Published { event, remote: true });
    }
}
