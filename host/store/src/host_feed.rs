//! The events of this host for other hosts, and theirs for this one: notifications of Postgres with LISTEN and
//! NOTIFY.
//!
//! Notifications are best effort: a host that misses one finds the work at its next poll.

use std::sync::Arc;
use std::time::Duration;

use domain::engine_event::EngineEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::postgres::PgListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::Server;
use crate::feed::{Feed, PAYLOAD_BYTES_MAX, Unsent};
use crate::tasks::Tasks;

const CHANNEL: &str = "tidemill_work";
/// Postgres sends notifications one after another for all databases of a server, so this process sends at
/// most one group in this time.
const SEND_PERIOD: Duration = Duration::from_millis(50);
/// Wait before connecting again to an unreachable database.
const RECONNECT_WAIT: Duration = Duration::from_secs(1);

/// How long a stopping host waits to send its last events.
const LAST_SEND_TIME_MAX: Duration = Duration::from_secs(1);

/// One notification.
#[derive(Serialize, Deserialize)]
struct Notice {
    /// The process that sent it.
    from: String,
    /// There may be work for the receiver.
    #[serde(default)]
    work: bool,
    /// A newer version may have events that this one does not know.
    events: Vec<Box<RawValue>>,
}

/// The exchange of events with other hosts over Postgres.
#[derive(Default)]
pub(crate) struct Exchange {
    /// Aborted when dropped.
    tasks: tokio::sync::Mutex<JoinSet<()>>,
    /// `None` on SQLite, where there are no other hosts.
    sender: Option<Sender>,
}

struct Sender {
    server: Server,
    own: Arc<str>,
    feed: Feed,
}

impl Exchange {
    pub fn start(feed: &Feed, server: &Server, supervised: &Tasks) -> Exchange {
        feed.share();
        let own: Arc<str> = Uuid::new_v4().to_string().into();
        // Both end with the set, never on their own.
        let never = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (sender, from, id) = (server.clone(), feed.clone(), own.clone());
        let send = move || send(sender.clone(), id.clone(), from.clone());
        tasks.spawn(supervised.clone().supervise("feed-send", never.clone(), send));
        let last = Sender { server: server.clone(), own: own.clone(), feed: feed.clone() };
        let (server, to) = (server.clone(), feed.clone());
        let listen = move || listen(server.clone(), own.clone(), to.clone());
        tasks.spawn(supervised.clone().supervise("feed-listen", never, listen));
        Exchange { tasks: tasks.into(), sender: Some(last) }
    }

    /// Sends the last events, and returns its connections to the pool.
    pub async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
        if let Some(Sender { server, own, feed }) = &self.sender {
            let _ = tokio::time::timeout(LAST_SEND_TIME_MAX, send_once(server, own, feed)).await;
        }
    }
}

/// The payloads of the notifications; at least one.
fn payloads(unsent: Unsent, from: &str) -> Vec<String> {
    let work = unsent.work;
    let mut events = unsent.events;
    if unsent.missed {
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
    let text = |events| {
        let notice = Notice { from: from.to_owned(), work, events };
        serde_json::to_string(&notice).unwrap_or_default()
    };
    payloads.into_iter().map(text).collect()
}

async fn send(server: Server, own: Arc<str>, feed: Feed) {
    loop {
        feed.to_send().await;
        if send_once(&server, &own, &feed).await.is_ok() {
            tokio::time::sleep(SEND_PERIOD).await;
            continue;
        }
        // Other hosts find the work at their next poll, and learn with the next group that they missed events.
        tokio::time::sleep(RECONNECT_WAIT).await;
        feed.lost_some();
    }
}

async fn send_once(server: &Server, own: &str, feed: &Feed) -> Result<(), sqlx::Error> {
    let payloads = payloads(feed.take_unsent(), own);
    let mut conn = server.acquire().await?;
    let sql = "SELECT pg_notify($1, payload) FROM unnest(CAST($2 AS text[])) AS payload";
    let sent = sqlx::query(sql).bind(CHANNEL).bind(payloads).execute(&mut *conn);
    server.answered(true, sent).await.map(|_| ())
}

async fn listen(server: Server, own: Arc<str>, feed: Feed) {
    let mut is_first = true;
    loop {
        // While disconnected, this host finds work of other hosts by polling. The outage is reported
        // elsewhere.
        tokio::select! {
            _lost = receive(&server, &own, &feed, std::mem::take(&mut is_first)) => {}
            // A server that is no longer the right one may keep the connection open without sending anything.
            () = server.renewed() => {}
        }
        tokio::time::sleep(RECONNECT_WAIT).await;
    }
}

/// Receives until the connection is lost.
async fn receive(server: &Server, own: &str, feed: &Feed, is_first: bool) -> sqlx::Error {
    let mut listener = match PgListener::connect_with(server.pool()).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    if !is_first {
        feed.publish_remote(EngineEvent::Missed);
    }
    loop {
        match listener.try_recv().await {
            Ok(Some(notice)) => take_over(notice.payload(), own, feed),
            // Without a notification, one may have been missed.
            Ok(None) => feed.publish_remote(EngineEvent::Missed),
            Err(error) => return error,
        }
    }
}

/// Publishes the events of another host in this process. Another version may send a payload or an event that
/// this one does not know: it means that something changed.
fn take_over(payload: &str, own: &str, feed: &Feed) {
    let Ok(Notice { from, work, events }) = serde_json::from_str(payload) else {
        return feed.publish_remote(EngineEvent::Missed);
    };
    if from == own {
        return;
    }
    if work {
        feed.wake_here();
    }
    for event in events {
        let event = serde_json::from_str(event.get()).unwrap_or(EngineEvent::Missed);
        feed.publish_remote(event);
    }
}
