//! The events of this host for other hosts, and theirs for this one: notifications of Postgres with LISTEN and
//! NOTIFY. Without them (`store.notify = false`), each host assumes once a second that it missed some.
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

/// Without notifications, changes of other hosts are seen after at most this time.
const POLL_PERIOD: Duration = Duration::from_secs(1);

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
    /// `None` on SQLite, where there are no other hosts, and without notifications.
    channel: Option<Channel>,
}

impl Exchange {
    pub fn start(feed: &Feed, server: &Server, supervised: &Tasks) -> Exchange {
        feed.share();
        let own = Uuid::new_v4().to_string().into();
        let channel = Channel { server: server.clone(), own, feed: feed.clone() };
        // Both end with the set, never on their own.
        let never = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let sender = channel.clone();
        let send = move || sender.clone().send();
        tasks.spawn(supervised.clone().supervise("feed-send", never.clone(), send));
        let listener = channel.clone();
        let listen = move || listener.clone().listen();
        tasks.spawn(supervised.clone().supervise("feed-listen", never, listen));
        Exchange { tasks: tasks.into(), channel: Some(channel) }
    }

    /// Without notifications.
    pub fn polling(feed: &Feed, supervised: &Tasks) -> Exchange {
        let feed = feed.clone();
        let poll = move || poll(feed.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(supervised.clone().supervise("feed-poll", CancellationToken::new(), poll));
        Exchange { tasks: tasks.into(), channel: None }
    }

    /// Sends the last events, and returns its connections to the pool.
    pub async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
        if let Some(channel) = &self.channel {
            let _ = tokio::time::timeout(LAST_SEND_TIME_MAX, channel.send_once()).await;
        }
    }
}

/// Wakes the loops of this process, and makes its pages and streams read the store again.
async fn poll(feed: Feed) {
    loop {
        tokio::time::sleep(POLL_PERIOD).await;
        feed.publish_remote(EngineEvent::Missed);
    }
}

/// The channel of notifications that all hosts of a store share.
#[derive(Clone)]
struct Channel {
    server: Server,
    /// Identifies this process among the senders.
    own: Arc<str>,
    feed: Feed,
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

impl Channel {
    async fn send(self) {
        loop {
            self.feed.to_send().await;
            if self.send_once().await.is_ok() {
                tokio::time::sleep(SEND_PERIOD).await;
                continue;
            }
            // Other hosts find the work at their next poll, and learn with the next group that they missed events.
            tokio::time::sleep(RECONNECT_WAIT).await;
            self.feed.lost_some();
        }
    }

    async fn send_once(&self) -> Result<(), sqlx::Error> {
        let payloads = payloads(self.feed.take_unsent(), &self.own);
        let mut conn = self.server.acquire().await?;
        let sql = "SELECT pg_notify($1, payload) FROM unnest(CAST($2 AS text[])) AS payload";
        let sent = sqlx::query(sql).bind(CHANNEL).bind(payloads).execute(&mut *conn);
        self.server.answered(true, sent).await.map(|_| ())
    }

    async fn listen(self) {
        let mut is_first = true;
        loop {
            // While disconnected, this host finds work of other hosts by polling. The outage is reported
            // elsewhere.
            tokio::select! {
                _lost = self.receive(std::mem::take(&mut is_first)) => {}
                // A server that is no longer the right one may keep the connection open without sending anything.
                () = self.server.renewed() => {}
            }
            tokio::time::sleep(RECONNECT_WAIT).await;
        }
    }

    /// Receives until the connection is lost.
    async fn receive(&self, is_first: bool) -> sqlx::Error {
        let mut listener = match PgListener::connect_with(self.server.pool()).await {
            Ok(listener) => listener,
            Err(error) => return error,
        };
        if let Err(error) = listener.listen(CHANNEL).await {
            return error;
        }
        if !is_first {
            self.feed.publish_remote(EngineEvent::Missed);
        }
        loop {
            match listener.try_recv().await {
                Ok(Some(notice)) => self.take_over(notice.payload()),
                // Without a notification, one may have been missed.
                Ok(None) => self.feed.publish_remote(EngineEvent::Missed),
                Err(error) => return error,
            }
        }
    }

    /// Publishes the events of another host in this process. Another version may send a payload or an event that
    /// this one does not know: it means that something changed.
    fn take_over(&self, payload: &str) {
        let Ok(Notice { from, work, events }) = serde_json::from_str(payload) else {
            return self.feed.publish_remote(EngineEvent::Missed);
        };
        if *from == *self.own {
            return;
        }
        if work {
            self.feed.wake_here();
        }
        for event in events {
            let event = serde_json::from_str(event.get()).unwrap_or(EngineEvent::Missed);
            self.feed.publish_remote(event);
        }
    }
}
