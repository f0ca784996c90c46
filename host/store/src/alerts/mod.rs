//! Alerts: raised with the outcome of an attempt, or by the host; counted while open; acknowledged by a person.

pub(crate) mod sql;

use std::collections::BTreeMap;

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
use crate::db::{Portions, Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::events::outbox::{NewEvent, NewEvents};
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
    let mut raised = Raised::default();
    raised.add(job, alert, now);
    raised.write(tx).await
}

/// Alerts that are raised together. One that is raised repeatedly has the last text.
#[derive(Debug, Default)]
pub(crate) struct Raised<'a>(BTreeMap<(&'a str, &'a str, &'a str), Repeated<'a>>);

/// An alert, as often as it was raised.
#[derive(Debug)]
struct Repeated<'a> {
    alert: &'a Alert,
    times: i64,
    first_at: Timestamp,
    last_at: Timestamp,
}

impl<'a> Raised<'a> {
    pub fn add(&mut self, job: &'a str, alert: &'a Alert, now: Timestamp) {
        let new = Repeated { alert, times: 0, first_at: now, last_at: now };
        let raised = self.0.entry((job, &alert.kind, &alert.key)).or_insert(new);
        raised.times += 1;
        (raised.alert, raised.last_at) = (alert, now);
    }

    /// In the order of their names: two transactions that raise the same alerts do not deadlock.
    pub async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        let rows = self.0.iter().map(|((job, kind, key), raised)| {
            let Repeated { alert, times, first_at, last_at } = raised;
            row![
                AlertId::new(*first_at).to_string(),
                *job,
                *kind,
                *key,
                alert.severity.as_str(),
                &*escape_lines(&alert.message),
                alert.metadata.as_str(),
                *times,
                *first_at,
                *last_at,
            ]
        });
        rows.collect::<Portions>().execute(tx, alerts_sql::ALERTS_RAISE, "raised").await?;
        self.0.keys().for_each(|(job, kind, key)| note_raised(tx, job, kind, key));
        Ok(())
    }
}

fn note_raised(tx: &mut Tx, job: &str, kind: &str, key: &str) {
    let text = |text: &str| text.to_owned();
    tx.note(EngineEvent::AlertRaised { job: text(job), alert_kind: text(kind), key: text(key) });
}

/// Job, kind and run of an alert about failed items.
type FailedKey = [String; 3];

/// Adds failed items to the alerts of their runs. All items that one run found and that failed for good share one
/// alert.
pub(crate) async fn failed_for_good(tx: &mut Tx, ends: &[&AttemptEnd]) -> Result<(), StoreError> {
    if ends.is_empty() {
        return Ok(());
    }
    let mut runs: BTreeMap<FailedKey, Vec<&AttemptEnd>> = BTreeMap::new();
    for end in ends {
        let run = end.item.found_by.map_or_else(|| "no run".to_owned(), |run| run.to_string());
        let key = [end.item.job.as_str().to_owned(), end.failed_alert.kind.clone(), run];
        runs.entry(key).or_default().push(end);
    }
    let mut worded = Portions::default();
    for row in count(tx, &runs).await? {
        let key = [row.text("job")?, row.text("kind")?, row.text("alert_key")?];
        let alert = runs.get(&key).and_then(|ends| failed_alert(&key, &row.text("metadata").ok()?, ends));
        let Alert { severity, message, metadata, .. } =
            alert.ok_or_else(|| StoreError::Corrupt("another alert was counted".to_owned()))?;
        worded.push(row![row.text("id")?, severity.as_str(), message, metadata]);
    }
    worded.execute(tx, alerts_sql::ALERTS_WORDS, "worded").await?;
    runs.keys().for_each(|[job, kind, run]| note_raised(tx, job, kind, run));
    Ok(())
}

/// Opens or counts the alert of each run. Returns their rows, locked.
async fn count(tx: &mut Tx, runs: &BTreeMap<FailedKey, Vec<&AttemptEnd>>) -> Result<Vec<Row>, StoreError> {
    let mut counted = Rows::default();
    for ([job, kind, run], ends) in runs {
        let ([first, ..], [.., last]) = (ends.as_slice(), ends.as_slice()) else { continue };
        let (id, times) = (AlertId::new(first.ended_at), i64::try_from(ends.len()).unwrap_or(i64::MAX));
        let texts = (job.as_str(), kind.as_str(), run.as_str());
        counted.push(row![id.to_string(), texts.0, texts.1, texts.2, times, first.ended_at, last.ended_at]);
    }
    let alerts = tx.fetch(alerts_sql::ALERTS_COUNT, &args! { counted: counted }).await?;
    match alerts.len() == runs.len() {
        true => Ok(alerts),
        false => Err(StoreError::Corrupt("an alert no longer exists".to_owned())),
    }
}

/// The alert with these items added. The settings of the last one count.
fn failed_alert([job, _, run]: &FailedKey, metadata: &str, ends: &[&AttemptEnd]) -> Option<Alert> {
    let mut failed = FailedItems::parse(metadata);
    for AttemptEnd { item, ending, .. } in ends {
        let error = ending.error.clone().unwrap_or_else(|| ErrorInfo::new("unknown", ""));
        failed.add(FailedItem {
            key: item.key.clone(),
            payload: item.payload.clone(),
            attempts: ending.attempts,
            code: error.code,
            message: error.message,
        });
    }
    ends.last().map(|end| failed.alert(job, run, &end.failed_alert))
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
        let args = args! { only_open: only_open, limit: limit };
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
        let rows = tx
            .fetch(alerts_sql::ALERT_ACKNOWLEDGE, &args! { alert: id.to_string(), now: now, by: actor })
            .await?;
        for row in &rows {
            let (job, kind, key) = (row.text("job")?, row.text("kind")?, row.text("alert_key")?);
            let action = "alert_acknowledged";
            let entry = Entry { actor, action, job: Some(&job), subject: &kind, detail: &key };
            write(&mut tx, &entry, now).await?;
        }
        let found = tx.fetch(alerts_sql::ALERT_GET, &args! { alert: id.to_string() }).await?;
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
        let rows = tx.fetch(alerts_sql::ALERTS_NOTIFY, &args! { now: now, until: until }).await?;
        let mut notices = NewEvents::default();
        for row in &rows {
            add_notice(&mut notices, &view(row)?, now);
        }
        notices.write(&mut tx).await?;
        tx.commit().await?;
        Ok(rows.len())
    }

    /// Removes alerts that were acknowledged before `until`. Returns their number.
    pub async fn prune(self, until: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let removed = tx.execute(alerts_sql::ALERTS_PRUNE, &args! { until: until }).await?;
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

fn add_notice(notices: &mut NewEvents, found: &AlertView, now: Timestamp) {
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
    notices.add(NewEvent {
        // Of the alert, so each alert is sent once.
        id: found.id.to_string(),
        seq: 0,
        topic: NOTICE_TOPIC,
        key: job.as_str(),
        payload: &payload.to_string(),
        job: job.as_str(),
        item: String::new(),
        epoch: 0,
        created_at: now,
    });
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
