//! The outbox: events that are kept until they are marked as taken.

use std::collections::BTreeSet;

use domain::id::{EventId, JobName};
use jiff::Timestamp;

use crate::audit::{Entry, write};
use crate::db::{Portions, Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::events::Outbox;
use crate::events::sql as events_sql;

#[derive(Debug, Clone)]
pub struct EventView {
    pub id: EventId,
    pub topic: String,
    pub key: String,
    pub payload: String,
    pub job: JobName,
    pub created_at: Timestamp,
}

impl Outbox<'_> {
    /// Lists events that were not taken yet, the oldest first. An event is returned again until it is taken.
    pub async fn pending(self, topic: Option<&str>, limit: u32) -> Result<Vec<EventView>, StoreError> {
        let rows =
            self.store.db.list(events_sql::EVENTS_PENDING, &args! { topic: topic, limit: limit }).await?;
        rows.iter().map(view).collect()
    }

    /// Marks events as taken, so that sinks no longer get them. Returns how many were not taken before.
    pub async fn taken(self, ids: &[EventId], actor: &str, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let delivered: Rows = ids.iter().map(|id| row![id.to_string()]).collect();
        let args = args! { delivered: delivered, now: now };
        let new = tx.fetch(events_sql::EVENTS_DELIVERED, &args).await?;
        let new: BTreeSet<String> = new.iter().map(|row| row.text("id")).collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        let asked = ids.iter().map(EventId::to_string);
        let taken: Vec<String> = asked.filter(|id| new.contains(id) && seen.insert(id.clone())).collect();
        if !taken.is_empty() {
            let detail = format!("{} events: {}", taken.len(), taken.join(" "));
            let entry =
                Entry { actor, action: "events_taken", job: None, subject: "outbox", detail: &detail };
            write(&mut tx, &entry, now).await?;
        }
        tx.commit().await?;
        Ok(taken.len() as u64)
    }
}

/// An event to add to the outbox.
pub(crate) struct NewEvent<'a> {
    pub id: String,
    pub seq: i64,
    pub topic: &'a str,
    pub key: &'a str,
    pub payload: &'a str,
    pub job: &'a str,
    /// Empty for an event of the host.
    pub item: String,
    pub epoch: i64,
    pub created_at: Timestamp,
}

/// Events that are added together.
#[derive(Debug, Default)]
pub(crate) struct NewEvents(Portions);

impl NewEvents {
    pub fn add(&mut self, event: NewEvent<'_>) {
        let NewEvent { id, seq, topic, key, payload, job, item, epoch, created_at } = event;
        self.0.push(row![id, seq, topic, key, payload, job, item, epoch, created_at]);
    }

    pub async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        self.0.execute(tx, events_sql::EVENTS_ADD, "added").await.map(|_| ())
    }
}

pub(crate) fn view(row: &Row) -> Result<EventView, StoreError> {
    Ok(EventView {
        id: row.parse("id")?,
        topic: row.text("topic")?,
        key: row.text("event_key")?,
        payload: row.text("payload")?,
        job: row.parse("job")?,
        created_at: row.time("created_at_ms")?,
    })
}
