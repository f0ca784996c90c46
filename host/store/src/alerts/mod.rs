//! Alerts: raised with the outcome of an attempt, or by the host; counted while open; acknowledged by a person.

pub(crate) mod sql;

use domain::alert::{Alert, FailedItem, FailedItems, Severity};
use domain::engine_event::EngineEvent;
use domain::failure::ErrorInfo;
use domain::id::{AlertId, JobName};
use domain::text::escape_lines;
use jiff::Timestamp;
use serde_json::json;

use crate::alerts::sql as alerts_sql;
use crate::attempts::commit::AttemptEnd;
use crate::audit::{Entry, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::events::sql as events_sql;
use crate::store::Store;

#[derive(Debug, Clone)]
pub struct AlertView {
    pub id: AlertId,
    pub job: JobName,
    pub alert: Alert,
    /// Number of times it was raised while open.
    pub times: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledged_by: Option<String>,
}

pub(crate) async fn raise(
    tx: &mut Tx,
    job: &JobName,
    alert: &Alert,
    now: Timestamp,
) -> Result<(), StoreError> {
    raise_as(tx, job.as_str(), alert, now).await
}

async fn raise_as(tx: &mut Tx, job: &str, alert: &Alert, now: Timestamp) -> Result<(), StoreError> {
    let args = args![
        AlertId::new(now).to_string(),
        job,
        alert.kind.as_str(),
        alert.key.as_str(),
        alert.severity.as_str(),
        &*escape_lines(&alert.message),
        alert.metadata.as_str(),
        now
    ];
    tx.execute(alerts_sql::ALERT_RAISE, &args).await?;
    note_raised(tx, job, &alert.kind, &alert.key);
    Ok(())
}

fn note_raised(tx: &mut Tx, job: &str, kind: &str, key: &str) {
    let text = |text: &str| text.to_owned();
    tx.note(EngineEvent::AlertRaised { job: text(job), alert_kind: text(kind), key: text(key) });
}

/// Adds a failed item to its run's alert. All items that one run found and that failed for good share one
/// alert.
pub(crate) async fn failed_for_good(tx: &mut Tx, end: &AttemptEnd) -> Result<(), StoreError> {
    let AttemptEnd { item, ending, failed_alert: settings, .. } = end;
    let run = item.found_by.map_or_else(|| "no run".to_owned(), |run| run.to_string());
    let (job, id) = (item.job.as_str(), AlertId::new(end.ended_at).to_string());
    let args = args![id, job, settings.kind.as_str(), run.as_str(), end.ended_at];
    let rows = tx.fetch(alerts_sql::ALERT_COUNT, &args).await?;
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the alert no longer exists".to_owned()))?;
    let mut failed = FailedItems::parse(&row.text("metadata")?);
    let error = ending.error.clone().unwrap_or_else(|| ErrorInfo::new("unknown", ""));
    failed.add(FailedItem {
        key: item.key.clone(),
        payload: item.payload.clone(),
        attempts: ending.attempts,
        code: error.code,
        message: error.message,
    });
    let Alert { severity, message, metadata, .. } = failed.alert(job, &run, settings);
    let args = args![row.text("id")?, severity.as_str(), message, metadata];
    tx.execute(alerts_sql::ALERT_WORDS, &args).await?;
    note_raised(tx, job, &settings.kind, &run);
    Ok(())
}

/// Used instead of a job name in alerts of a host about itself.
pub const HOST: &str = "tidemill";

/// Alerts of jobs and hosts.
#[derive(Clone, Copy)]
pub struct Alerts<'a> {
    pub(crate) store: &'a Store,
}

impl Alerts<'_> {
    /// Raises an alert of the host about a job.
    pub async fn raise(self, job: &JobName, alert: &Alert, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        raise(&mut tx, job, alert, now).await?;
        tx.commit().await
    }

    /// Raises an alert of a host about itself.
    pub async fn raise_for_host(self, alert: &Alert, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        raise_as(&mut tx, HOST, alert, now).await?;
        tx.commit().await
    }

    /// Lists open alerts first, then the newest first.
    pub async fn list(self, only_open: bool, limit: u32) -> Result<Vec<AlertView>, StoreError> {
        let args = args![i64::from(only_open), limit];
        self.store.db.list(alerts_sql::ALERTS_LIST, &args).await?.iter().map(view).collect()
    }

    /// Acknowledges and closes an alert. If it is raised again, a new alert opens. Returns `None` if there is
    /// no such alert.
    pub async fn acknowledge(
        self,
        id: AlertId,
        actor: &str,
        now: Timestamp,
    ) -> Result<Option<AlertView>, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let rows = tx.fetch(alerts_sql::ALERT_ACKNOWLEDGE, &args![id.to_string(), now, actor]).await?;
        for row in &rows {
            let (job, kind, key) = (row.text("job")?, row.text("kind")?, row.text("alert_key")?);
            let action = "alert_acknowledged";
            let entry = Entry { actor, action, job: Some(&job), subject: &kind, detail: &key };
            write(&mut tx, &entry, now).await?;
        }
        let found = tx.fetch(alerts_sql::ALERT_GET, &args![id.to_string()]).await?;
        tx.commit().await?;
        match (found.first(), rows.is_empty()) {
            (None, _) => Ok(None),
            (Some(row), false) => view(row).map(Some),
            (Some(_), true) => Err(StoreError::Conflict("the alert is acknowledged already".to_owned())),
        }
    }

    /// Adds one outbox event for each open alert raised before `until` that has none yet. An alert gets only
    /// one event, however often it is raised before it is acknowledged. Returns the number of events.
    pub async fn add_notices(self, until: Timestamp, now: Timestamp) -> Result<usize, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let rows = tx.fetch(alerts_sql::ALERTS_NOTIFY, &args![now, until]).await?;
        for row in &rows {
            notice(&mut tx, &view(row)?, now).await?;
        }
        tx.commit().await?;
        Ok(rows.len())
    }

    /// Removes alerts that were acknowledged before `until`. Returns their number.
    pub async fn prune(self, until: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let removed = tx.execute(alerts_sql::ALERTS_PRUNE, &args![until]).await?;
        if removed > 0 {
            let (actor, action) = (self.store.own_actor(), "alerts_removed");
            let detail = format!("{removed} acknowledged before {until:.0}");
            write(&mut tx, &Entry { actor, action, job: None, subject: "alerts", detail: &detail }, now)
                .await?;
        }
        tx.commit().await?;
        Ok(removed)
    }
}

/// The topic of events about alerts.
pub const NOTICE_TOPIC: &str = "tidemill.alert";

async fn notice(tx: &mut Tx, found: &AlertView, now: Timestamp) -> Result<(), StoreError> {
    let AlertView { alert, job, .. } = found;
    let payload = json!({
        "alert_id": found.id.to_string(),
        "job": job.as_str(),
        "kind": alert.kind,
        "key": alert.key,
        "severity": alert.severity.as_str(),
        "message": alert.message,
        "times": found.times,
        "first_at": found.first_at.to_string(),
    });
    // The event's id is the alert's id, so each alert is sent once.
    let args = args![
        found.id.to_string(),
        0_i64,
        NOTICE_TOPIC,
        job.as_str(),
        payload.to_string(),
        job.as_str(),
        "",
        0_i64,
        now
    ];
    tx.execute(events_sql::EVENT_ADD, &args).await.map(|_| ())
}

fn view(row: &Row) -> Result<AlertView, StoreError> {
    let severity: Severity = row.parse("severity")?;
    Ok(AlertView {
        id: row.parse("id")?,
        job: row.parse("job")?,
        alert: Alert {
            kind: row.text("kind")?,
            key: row.text("alert_key")?,
            severity,
            message: row.text("message")?,
            metadata: row.text("metadata")?,
        },
        times: row.count("times")?,
        first_at: row.time("first_at_ms")?,
        last_at: row.time("last_at_ms")?,
        acknowledged_at: row.opt_time("acknowledged_at_ms")?,
        acknowledged_by: row.opt_text("acknowledged_by")?,
    })
}
