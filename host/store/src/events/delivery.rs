//! Delivery of events to a sink. An event is claimed for a limited time, the oldest of each key first. It is
//! then delivered, retried, or dead until a person redrives it.

use std::time::Duration;

use domain::alert::{Alert, Severity};
use domain::engine_event::EngineEvent;
use domain::id::EventId;
use domain::scope::Value;
use jiff::Timestamp;

use crate::alerts;
use crate::attempts::datasource::explain;
use crate::audit::{Entry, write};
use crate::db::{Row, args};
use crate::error::StoreError;
use crate::events::Outbox;
use crate::events::outbox;
use crate::events::sql as events_sql;

/// The kind of the alert for a topic when one of its events is given up.
const DEAD: &str = "EVENTS_DEAD";
/// Maximum time of the insert into a table.
const TABLE_TIME_MAX: Duration = Duration::from_secs(5);

/// An event that this process may deliver now.
#[derive(Debug, Clone)]
pub struct DueEvent {
    pub event: outbox::EventView,
    /// Number of tries, including this one.
    pub tries: u32,
}

#[derive(Debug, Clone)]
pub struct DeadEvent {
    pub event: outbox::EventView,
    pub tries: u32,
    pub dead_at: Timestamp,
    pub error: String,
}

impl Outbox<'_> {
    /// Claims the oldest event of each key of these topics, if it is due. No other process gets it before
    /// `until`.
    pub async fn claim(
        self,
        topics: &[&str],
        limit: u32,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<DueEvent>, StoreError> {
        let topics = serde_json::to_string(topics).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let mut tx = self.store.db.begin().await?;
        let rows = tx.fetch(events_sql::EVENTS_CLAIM, &args![topics, now, until, limit]).await?;
        tx.commit().await?;
        let due = |row: &Row| Ok(DueEvent { event: outbox::view(row)?, tries: row.count("tries")? });
        rows.iter().map(due).collect()
    }

    pub async fn delivered(self, id: EventId, now: Timestamp) -> Result<(), StoreError> {
        self.store.db.execute(events_sql::EVENT_DELIVERED, &args![id.to_string(), now]).await.map(|_| ())
    }

    /// Records a failed delivery. `again_at` is the time of the next try; with `None` the event is given up
    /// and an alert raised.
    pub async fn failed(
        self,
        due: &DueEvent,
        error: &str,
        again_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let event = &due.event;
        let mut tx = self.store.db.begin().await?;
        let dead_at = again_at.is_none().then_some(now);
        let args = args![event.id.to_string(), again_at.unwrap_or(now), error, dead_at];
        tx.execute(events_sql::EVENT_FAILED, &args).await?;
        if dead_at.is_some() {
            let message = format!(
                "event {} of topic {:?}, key {:?}, was given up after {} tries: {error}; \
                 `tidemill outbox dead` lists them, `tidemill outbox redrive` sends them again",
                event.id, event.topic, event.key, due.tries
            );
            let alert = Alert {
                kind: DEAD.to_owned(),
                key: event.topic.clone(),
                severity: Severity::Error,
                message,
                metadata: String::new(),
            };
            alerts::raise(&mut tx, &event.job, &alert, now).await?;
            tx.note(EngineEvent::EventDead { topic: event.topic.clone() });
        }
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
        self.store.db.list(events_sql::EVENTS_DEAD, &args![limit]).await?.iter().map(dead).collect()
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
            None => redriven += tx.execute(events_sql::EVENTS_REDRIVE, &args![None::<i64>, now]).await?,
            Some(ids) => {
                for id in ids {
                    redriven += tx.execute(events_sql::EVENTS_REDRIVE, &args![id.to_string(), now]).await?;
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

    /// Inserts an event into a table of a datasource, at most once: its id is the table's key.
    pub async fn insert_into_table(
        self,
        datasource: &str,
        table: &str,
        event: &outbox::EventView,
    ) -> Result<(), String> {
        let db = self.store.datasources.get(datasource).map_err(|e| e.to_string())?;
        let sql = format!(
            "INSERT INTO {table} (id, topic, event_key, payload, job, created_at_ms)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING"
        );
        let text = |text: &str| Value::Text(text.to_owned());
        let args = [
            text(&event.id.to_string()),
            text(&event.topic),
            text(&event.key),
            text(&event.payload),
            text(event.job.as_str()),
            Value::Integer(event.created_at.as_millisecond()),
        ];
        let insert = async {
            let mut tx = db.begin_declared(true, TABLE_TIME_MAX).await.map_err(|e| explain(e).to_string())?;
            tx.execute_declared(&sql, &args).await.map_err(|e| explain(e).to_string())?;
            tx.commit().await.map_err(|e| e.to_string())
        };
        let late = |_| Err(format!("no answer within {TABLE_TIME_MAX:?}"));
        tokio::time::timeout(TABLE_TIME_MAX, insert).await.unwrap_or_else(late)
    }
}
