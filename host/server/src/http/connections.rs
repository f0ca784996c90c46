//! The open connections, and the choice of the one that is closed when there are too many.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use engine::log_throttle::LogThrottle;
use metrics::counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::HttpLimits;

static CLOSED: LogThrottle = LogThrottle::new();

/// The activity of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No request, or an incomplete head.
    Waiting,
    /// A request waits for a slot.
    Queued,
    /// A request has its slot, but its body is not complete.
    Receiving,
    Answering,
    /// The response is being sent; for a stream that may take hours.
    Sending,
}

/// An open connection. It counts until it is dropped.
pub struct Connection {
    id: u64,
    peer: IpAddr,
    all: Weak<Connections>,
    phase: Mutex<(Phase, Instant)>,
    /// The client does not read the response.
    stalled: AtomicBool,
    /// The last request's body was not read to its end.
    unread: AtomicBool,
    close: CancellationToken,
}

impl Connection {
    pub fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = (phase, Instant::now());
    }

    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    pub fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    pub fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Resolves when another connection needs this one's slot.
    pub async fn closed(&self) {
        self.close.cancelled().await;
    }

    /// Since when it waits for its client, if it does.
    fn waiting_since(&self) -> Option<Instant> {
        let (phase, since) = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = match phase {
            Phase::Waiting | Phase::Queued | Phase::Receiving => true,
            Phase::Answering => false,
            Phase::Sending => self.stalled.load(Ordering::Relaxed),
        };
        waits.then_some(since)
    }

    fn receiving_since(&self) -> Option<Instant> {
        let (phase, since) = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        (phase == Phase::Receiving).then_some(since)
    }

    fn stalled_since(&self) -> Option<Instant> {
        let (_, since) = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        self.stalled.load(Ordering::Relaxed).then_some(since)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        }
    }
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Weak<Connection>>,
}

impl Open {
    fn remove(&mut self, id: &u64) {
        self.connections.remove(id);
    }
}

pub struct Connections {
    pub limits: HttpLimits,
    open: Mutex<Open>,
}

impl Connections {
    pub fn new(limits: HttpLimits) -> Connections {
        Connections { limits, open: Mutex::default() }
    }

    /// Admits a new connection. Returns `None` at the limit if no open connection waits for its client.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Arc<Connection>> {
        let HttpLimits { connections, connections_per_peer, .. } = self.limits;
        let all = self.all();
        let of_peer: Vec<_> = all.iter().filter(|open| open.peer == peer).cloned().collect();
        let has_room = (of_peer.len() < connections_per_peer || self.close_one(&of_peer, "peer"))
            && (all.len() < connections || self.close_one(&all, "total"));
        if !has_room {
            counter!("tidemill_http_connections_closed_total", "reason" => "refused").increment(1);
            return None;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.next += 1;
        let id = open.next;
        let connection = Arc::new(Connection {
            id,
            peer,
            all: Arc::downgrade(self),
            phase: Mutex::new((Phase::Waiting, Instant::now())),
            stalled: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            close: CancellationToken::new(),
        });
        open.connections.insert(id, Arc::downgrade(&connection));
        Some(connection)
    }

    pub fn close_the_longest_waiting(&self) {
        self.close_one(&self.all(), "total");
    }

    /// Closes the connection that has been sending its body longest, if it has done so for `least`.
    pub fn close_a_slow_sender(&self, least: Duration) {
        self.close_longest(&self.all(), Connection::receiving_since, least, "body");
    }

    /// Closes the connection whose response has been stalled longest, if it has been for `least`.
    pub fn close_a_slow_reader(&self, least: Duration) {
        self.close_longest(&self.all(), Connection::stalled_since, least, "answer");
    }

    fn close_one(&self, among: &[Arc<Connection>], reason: &'static str) -> bool {
        self.close_longest(among, Connection::waiting_since, Duration::ZERO, reason)
    }

    fn close_longest(
        &self,
        among: &[Arc<Connection>],
        since: impl Fn(&Connection) -> Option<Instant>,
        least: Duration,
        reason: &'static str,
    ) -> bool {
        let waiting = among.iter().filter_map(|open| Some((since(open)?, open)));
        let longest = waiting.min_by_key(|(since, _)| *since).filter(|(since, _)| since.elapsed() >= least);
        let Some((_, connection)) = longest else { return false };
        // It stops counting now; its task ends in a moment.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection.id);
        connection.close.cancel();
        counter!("tidemill_http_connections_closed_total", "reason" => reason).increment(1);
        if let Some(unsaid) = CLOSED.may() {
            tracing::warn!(reason, unsaid, "closed the connection of a slow client in favour of another one");
        }
        true
    }

    /// The lock is released at once, because dropping a connection locks `open`, too.
    fn all(&self) -> Vec<Arc<Connection>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.connections.values().filter_map(Weak::upgrade).collect()
    }
}
