//! Corrects records that were written while a clock was ahead. Nothing waits for a time in the future:
//! schedules continue from the present, and backoffs, leases and record times are limited relative to it.

pub(crate) mod sql;

use domain::alert::{Alert, Severity};
use domain::clock::AHEAD_MIN;
use domain::id::{HostId, Incarnation, JobName};
use domain::lock::LOCK_TIME_MAX;
use jiff::{SignedDuration, Timestamp};

use crate::alerts::{AlertView, raise};
use crate::audit::{Entry, write};
use crate::db::args;
use crate::error::StoreError;
use crate::hosts::Hosts;
use crate::hosts::clock::sql as clock_sql;
use crate::hosts::sql as hosts_sql;

/// The kind of the alert that reports a clock jump.
pub const CLOCK_AHEAD: &str = "CLOCK_WAS_AHEAD";
/// The job name of the host's own alerts.
const HOST_ALERTS: &str = "tidemill";
/// Maximum wait of an event before its next try.
const EVENT_WAIT_MAX: SignedDuration = SignedDuration::from_mins(5);
/// Maximum number of open alerts to search for one kind.
const ALERTS_MAX: u32 = 1_000;

impl Hosts<'_> {
    /// The latest heartbeat of any host; none before the first host started.
    pub async fn latest_heartbeat(self) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.store.db.fetch(clock_sql::LATEST_HEARTBEAT, &[]).await?;
        rows.first().map_or(Ok(None), |row| row.opt_time("latest_ms"))
    }

    /// How far the records of this store are ahead of `now`; none if no clock was ahead.
    pub async fn clock_ahead(
        self,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Option<SignedDuration>, StoreError> {
        let latest = self.latest_heartbeat().await?;
        // Read afterwards: a slow answer can contain a heartbeat from after the request.
        let now = now();
        let ahead = latest.map(|latest| latest.duration_since(now));
        Ok(ahead.filter(|ahead| *ahead > AHEAD_MIN))
    }

    /// Records a heartbeat time that this host used before its clock was set back.
    pub async fn keep_heartbeat(
        self,
        host: HostId,
        incarnation: Incarnation,
        shown: Timestamp,
    ) -> Result<(), StoreError> {
        let args = args! { host: host.to_string(), now: shown, incarnation: incarnation.to_string() };
        self.store.db.execute(hosts_sql::HOST_BEAT, &args).await.map(|_| ())
    }

    /// Moves a job's position in its schedule back to `seen`, the current time of its schedule, if the
    /// position is ahead of it. Instants after `seen` that did not run can be decided again; those that ran
    /// do not run again.
    pub async fn rewind_schedule(
        self,
        job: &JobName,
        seen: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let name = job.as_str();
        let args = args! {
            job: name,
            seen: seen,
            after_seen: later(seen, AHEAD_MIN),
            after_now: later(now, AHEAD_MIN),
        };
        if tx.execute(clock_sql::JOB_REWIND, &args).await? == 0 {
            return Ok(false);
        }
        tx.execute(clock_sql::TICKS_REWIND, &args! { job: name, seen: seen }).await?;
        let detail = format!("its position in the schedule was in the future; it continues from {seen:.0}");
        let action = "schedule_rewound";
        let entry =
            Entry { actor: self.store.own_actor(), action, job: Some(name), subject: name, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Moves times after `now` back to `now`. Returns the number of changed rows. A lease is shortened to
    /// `lease_until`, not ended: a host that holds it renews it before that.
    pub async fn correct_times(self, lease_until: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let bounds = [
            (clock_sql::CLAIMS_BOUND, lease_until),
            (clock_sql::RUNS_BOUND, lease_until),
            (clock_sql::LOCKS_BOUND, later(now, LOCK_TIME_MAX)),
            (clock_sql::EVENTS_BOUND, later(now, EVENT_WAIT_MAX)),
        ];
        let mut changed = 0;
        for sql in clock_sql::CORRECTIONS {
            changed += tx.execute(sql, &args! { now: now }).await?;
        }
        for (sql, latest) in bounds {
            changed += tx.execute(sql, &args! { latest: latest }).await?;
        }
        let detail = format!("{changed} rows had times after {now:.0}");
        let entry = Entry {
            actor: self.store.own_actor(),
            action: "times_corrected",
            job: None,
            subject: "the store",
            detail: &detail,
        };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Raises the alert that reports a clock jump.
    pub async fn raise_clock_alert(self, ahead: SignedDuration, now: Timestamp) -> Result<(), StoreError> {
        let job: JobName =
            HOST_ALERTS.parse().map_err(|e| StoreError::Corrupt(format!("{HOST_ALERTS:?}: {e}")))?;
        let alert = Alert {
            kind: CLOCK_AHEAD.to_owned(),
            key: "clock".to_owned(),
            severity: Severity::Error,
            message: format!(
                "the store has times {ahead:#} in the future: a clock was ahead until {now:.0}. \
                 Schedules continue from the present; instants that ran too early do not run again. \
                 Check the time synchronization of the hosts and the database, then acknowledge this alert"
            ),
            metadata: format!("{{\"ahead_ms\":{}}}", ahead.as_millis()),
        };
        let mut tx = self.store.db.begin().await?;
        raise(&mut tx, &job, &alert, now).await?;
        tx.commit().await
    }

    /// The open alert that reports a clock jump, if there is one.
    pub async fn clock_alert(self) -> Result<Option<AlertView>, StoreError> {
        let open = self.store.alerts().list(true, ALERTS_MAX).await?;
        Ok(open.into_iter().find(|open| open.alert.kind == CLOCK_AHEAD))
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
