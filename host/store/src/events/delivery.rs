//! Delivery of events to a sink. Events are claimed for a limited time, the oldest of each key first. Each is then
//! delivered, retried, or dead until a person redrives it.

use std::collections::BTreeSet;

use domain::alert::{Alert, Severity};
use domain::engine_event::EngineEvent;
use domain::id::EventId;
use jiff::Timestamp;

use crate::alerts::Raised;
use crate::audit::{Entry, write};
use crate::db::{Portions, Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::events::Outbox;
use crate::events::outbox::{self, EventView};
use crate::events::sql as events_sql;

/// The kind of the alert for a topic when one of its events is given up.
const DEAD: &str = "EVENTS_DEAD";

/// An event that this process may deliver now.
#[derive(Debug, Clone)]
pub struct DueEvent {
    pub event: outbox::EventView,
    /// Number of tries, including this one.
    pub tries: u32,
    /// Orders the events of a key that were created at the same time.
    pub seq: i64,
}

/// Limits of one claim. It has at least one event, if one is due.
#[derive(Debug, Clone, Copy)]
pub struct ClaimLimits {
    pub events: u32,
    /// Payloads may exceed this by the last one of the keys' first events.
    pub bytes: u32,
}

/// The results of a claim.
#[derive(Debug, Default)]
pub struct Results<'a> {
    pub delivered: Vec<EventId>,
    pub failed: Vec<FailedTry<'a>>,
    /// First events of keys that were claimed and not sent. Their claim is no try.
    pub unsent: Vec<&'a DueEvent>,
}

/// A try that failed.
#[derive(Debug)]
pub struct FailedTry<'a> {
    pub due: &'a DueEvent,
    pub error: String,
    /// The time of the next try. Without one the event is given up, and an alert is raised.
    pub again_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct DeadEvent {
    pub event: outbox::EventView,
    pub tries: u32,
    pub dead_at: Timestamp,
    pub error: String,
}

/// An event of which this many more tries are counted now than its row says.
fn due_event(row: &Row, uncounted: u32) -> Result<DueEvent, StoreError> {
    let tries = row.count("tries")?.saturating_add(uncounted);
    Ok(DueEvent { event: outbox::view(row)?, tries, seq: row.int("seq")? })
}

/// The next events of the claimed keys, up to the first that is not due.
async fn following(
    tx: &mut Tx,
    heads: &[DueEvent],
    most: ClaimLimits,
    now: Timestamp,
) -> Result<Vec<DueEvent>, StoreError> {
    let used: usize = heads.iter().map(|head| head.event.payload.len()).sum();
    let bytes = i64::from(most.bytes) - i64::try_from(used).unwrap_or(i64::MAX);
    let keys = u32::try_from(heads.len()).unwrap_or(u32::MAX);
    let room = most.events.saturating_sub(keys);
    if heads.is_empty() || room == 0 || bytes <= 0 {
        return Ok(Vec::new());
    }
    let head = |head: &DueEvent| {
        let EventView { topic, key, created_at, .. } = &head.event;
        row![topic.as_str(), key.as_str(), *created_at, head.seq]
    };
    let each = room.div_ceil(keys);
    let args = args! { heads: heads.iter().map(head).collect::<Rows>(), each: each, bytes: bytes };
    let mut waiting = BTreeSet::new();
    let mut next = Vec::new();
    for row in tx.fetch(events_sql::EVENTS_FOLLOWING, &args).await? {
        let due = due_event(&row, 1)?;
        let key = (due.event.topic.clone(), due.event.key.clone());
        if row.time("due_at_ms")? > now {
            waiting.insert(key);
        } else if !waiting.contains(&key) && next.len() < room as usize {
            next.push(due);
        }
    }
    Ok(next)
}

/// The rows of these events are locked.
async fn record_tries(
    tx: &mut Tx,
    failed: &[FailedTry<'_>],
    unsent: &[&DueEvent],
    now: Timestamp,
) -> Result<(), StoreError> {
    let failed = failed.iter().map(|FailedTry { due, error, again_at }| {
        let dead_at = again_at.is_none().then_some(now);
        row![due.event.id.to_string(), due.tries, again_at.unwrap_or(now), Some(error.as_str()), dead_at]
    });
    let unsent = unsent.iter().map(|due| {
        let (no_error, not_dead) = (Option::<&str>::None, Option::<Timestamp>::None);
        row![due.event.id.to_string(), due.tries.saturating_sub(1), now, no_error, not_dead]
    });
    let tried: Portions = failed.chain(unsent).collect();
    tried.execute(tx, events_sql::EVENTS_TRIED, "tried").await.map(|_| ())
}

/// Raises an alert for each topic with events that are given up.
async fn raise_dead(tx: &mut Tx, failed: &[FailedTry<'_>], now: Timestamp) -> Result<(), StoreError> {
    let dead = failed.iter().filter(|failed| failed.again_at.is_none());
    let alerts: Vec<(&EventView, Alert)> =
        dead.map(|failed| (&failed.due.event, dead_alert(failed))).collect();
    let (mut raised, mut topics) = (Raised::default(), BTreeSet::new());
    for (event, alert) in &alerts {
        raised.add(event.job.as_str(), alert, now);
        topics.insert(event.topic.clone());
    }
    raised.write(tx).await?;
    topics.into_iter().for_each(|topic| tx.note(EngineEvent::EventDead { topic }));
    Ok(())
}

fn dead_alert(FailedTry { due, error, .. }: &FailedTry<'_>) -> Alert {
    let event = &due.event;
    let message = format!(
        "event {} of topic {:?}, key {:?}, was given up after {} tries: {error}; \
         `tidemill outbox dead` lists them, `tidemill outbox redrive` sends them again",
        event.id, event.topic, event.key, due.tries
    );
    Alert {
        kind: DEAD.to_owned(),
        key: event.topic.clone(),
        severity: Severity::Error,
        message,
        metadata: String::new(),
    }
}

impl Outbox<'_> {
    /// Claims events of these topics: the oldest of each key, if it is due, and as many of the next due ones of the
    /// same keys as there is room for. No other process gets an event of these keys before `until`. Returns them in
    /// the order of publication.
    ///
    /// Only the first event of a key is marked. It keeps the others from being claimed until its result is recorded.
    pub async fn claim(
        self,
        topics: &[&str],
        most: ClaimLimits,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<DueEvent>, StoreError> {
        let topics: Rows = topics.iter().map(|topic| row![*topic]).collect();
        let args = args! { topics: topics, now: now, until: until, events: most.events, bytes: most.bytes };
        let mut tx = self.store.db.begin().await?;
        let heads = tx.fetch(events_sql::EVENTS_CLAIM, &args).await?;
        let mut due: Vec<DueEvent> =
            heads.iter().map(|row| due_event(row, 0)).collect::<Result<_, StoreError>>()?;
        due.extend(following(&mut tx, &due, most, now).await?);
        tx.commit().await?;
        due.sort_by_key(|due| (due.event.created_at, due.seq));
        Ok(due)
    }

    /// Records the results of a claim in one transaction.
    pub async fn record(self, results: &Results<'_>, now: Timestamp) -> Result<(), StoreError> {
        let Results { delivered, failed, unsent } = results;
        let ids = |ids: &BTreeSet<EventId>| ids.iter().map(|id| row![id.to_string()]).collect::<Rows>();
        let delivered: BTreeSet<EventId> = delivered.iter().copied().collect();
        let undelivered = failed.iter().map(|failed| failed.due).chain(unsent.iter().copied());
        let undelivered: BTreeSet<EventId> = undelivered.map(|due| due.event.id).collect();
        let mut tx = self.store.db.begin().await?;
        if !undelivered.is_empty() {
            let asked = undelivered.union(&delivered).copied().collect();
            tx.fetch(events_sql::EVENTS_LOCK, &args! { asked: ids(&asked) }).await?;
        }
        if !delivered.is_empty() {
            let args = args! { delivered: ids(&delivered), now: now };
            tx.fetch(events_sql::EVENTS_DELIVERED, &args).await?;
        }
        record_tries(&mut tx, failed, unsent, now).await?;
        raise_dead(&mut tx, failed, now).await?;
        tx.commit().await
    }

    /// Lists events that were given up, the newest first.
    pub async fn dead(self, limit: u32) -> Result<Vec<DeadEvent>, StoreError> {
        let dead = |row: &Row| {
            Ok(DeadEvent {
                event: outbox::view(row)?,
                tries: row.count("tries")?,
                dead_at: row.time("dead_at_ms")?,
                error: row.opt_text("error")?.unwrap_or_default(),
            })
        };
        self.store.db.list(events_sql::EVENTS_DEAD, &args! { limit: limit }).await?.iter().map(dead).collect()
    }

    /// Makes dead events due again with their tries reset: those with these ids, or all without ids. Returns
    /// their number.
    pub async fn redrive(
        self,
        ids: Option<&[EventId]>,
        actor: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let mut redriven = 0;
        match ids {
            None => {
                redriven +=
                    tx.execute(events_sql::EVENTS_REDRIVE, &args! { event: None::<i64>, now: now }).await?
            }
            Some(ids) => {
                for id in ids {
                    redriven += tx
                        .execute(events_sql::EVENTS_REDRIVE, &args! { event: id.to_string(), now: now })
                        .await?;
                }
            }
        }
        let which = ids.map_or_else(Vec::new, |ids| ids.iter().map(EventId::to_string).collect::<Vec<_>>());
        let detail = format!(
            "{redriven} dead events, of {}",
            match which.as_slice() {
                [] => "all".to_owned(),
                ids => ids.join(" "),
            }
        );
        let entry = Entry { actor, action: "events_redriven", job: None, subject: "outbox", detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(redriven)
    }
}
