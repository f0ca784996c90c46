//! The feed of engine events. A transaction collects the events of its changes, and its commit publishes them:
//! at once in this process, and with [`crate::host_feed`] to the other hosts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::engine_event::EngineEvent;
use serde::Serialize;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, broadcast};

/// Postgres refuses payloads of 8,000 bytes and more.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 7_800;
/// Bytes of events that wait to be sent. With more, other hosts get the event `Missed` for the rest.
const UNSENT_BYTES_MAX: usize = 8 * PAYLOAD_BYTES_MAX;
/// Number of events that a slow listener may be behind.
const BEHIND_MAX: usize = 4_096;

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
pub(crate) struct Unsent {
    pub events: Vec<String>,
    bytes: usize,
    /// There may be work for the other hosts.
    pub work: bool,
    pub missed: bool,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed::with_capacity(BEHIND_MAX)
    }
}

impl Feed {
    /// A feed for a database without listeners.
    pub(crate) fn quiet() -> Feed {
        Feed::with_capacity(1)
    }

    /// The memory for this many events is reserved at once.
    fn with_capacity(events: usize) -> Feed {
        Feed(Arc::new(Shared {
            events: broadcast::channel(events).0,
            work: Arc::default(),
            is_shared: AtomicBool::new(false),
            unsent: Mutex::default(),
            send: Notify::new(),
        }))
    }

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
        self.unsent().work = true;
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

    /// From now on, other hosts receive the events.
    pub(crate) fn share(&self) {
        self.0.is_shared.store(true, Ordering::Relaxed);
    }

    /// Resolves when there is something to send to other hosts.
    pub(crate) async fn to_send(&self) {
        self.0.send.notified().await;
    }

    pub(crate) fn take_unsent(&self) -> Unsent {
        std::mem::take(&mut *self.unsent())
    }

    /// Events were not sent: the next group reports it, and has to be sent even without events.
    pub(crate) fn lost_some(&self) {
        self.unsent().missed = true;
        self.0.send.notify_one();
    }

    /// Publishes an event of another host in this process.
    pub(crate) fn publish_remote(&self, event: EngineEvent) {
        self.distribute(Published { event, remote: true });
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.0.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsent {
    fn add(&mut self, events: &[EngineEvent]) {
        for event in events {
            self.work |= event.makes_work();
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
}
