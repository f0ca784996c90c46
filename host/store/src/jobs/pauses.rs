//! Paused jobs: none of their runs or attempts start, on any host, until they are resumed.

use std::collections::BTreeMap;

use domain::id::JobName;
use jiff::Timestamp;

use crate::audit::{Entry, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::jobs::Jobs;
use crate::jobs::sql as jobs_sql;

/// Used instead of a job name for all jobs, including future ones.
const ALL: &str = "*";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses(BTreeMap<String, Pause>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub since: Timestamp,
    pub by: String,
}

impl Pauses {
    pub fn everything(since: Timestamp) -> Pauses {
        let pause = Pause { since, by: "tidemill".to_owned() };
        Pauses(BTreeMap::from([(ALL.to_owned(), pause)]))
    }

    pub fn covers(&self, job: &str) -> bool {
        self.of(job).is_some()
    }

    /// The pause that applies to a job: its own, or that of all jobs.
    pub fn of(&self, job: &str) -> Option<&Pause> {
        self.0.get(job).or_else(|| self.of_all())
    }

    /// The job's own pause.
    pub fn own(&self, job: &str) -> Option<&Pause> {
        self.0.get(job)
    }

    /// Jobs with a pause of their own.
    pub fn jobs(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|job| *job != ALL)
    }

    pub fn of_all(&self) -> Option<&Pause> {
        self.0.get(ALL)
    }
}

impl Jobs<'_> {
    pub async fn pauses(self) -> Result<Pauses, StoreError> {
        read(&self.store.db.fetch(jobs_sql::PAUSES_LIST, &[]).await?)
    }

    pub(crate) async fn pauses_of(self, tx: &mut Tx) -> Result<Pauses, StoreError> {
        read(&tx.fetch(jobs_sql::PAUSES_LIST, &[]).await?)
    }

    /// Pauses a job, or all. Returns `false` if it was already paused.
    pub async fn pause(self, job: Option<&JobName>, actor: &str, now: Timestamp) -> Result<bool, StoreError> {
        self.change(job, true, actor, now).await
    }

    /// Resumes a job, or all. Returns `false` if it was not paused.
    pub async fn resume(
        self,
        job: Option<&JobName>,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(job, false, actor, now).await
    }

    async fn change(
        self,
        job: Option<&JobName>,
        paused: bool,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let name = job.map_or(ALL, JobName::as_str);
        let mut tx = self.store.db.begin().await?;
        let changed = match paused {
            true => tx.execute(jobs_sql::PAUSE_ADD, &args! { job: name, now: now, by: actor }).await?,
            false => tx.execute(jobs_sql::PAUSE_REMOVE, &args! { job: name }).await?,
        };
        if changed == 1 {
            let action = if paused { "paused" } else { "resumed" };
            let subject = job.map_or("all jobs", JobName::as_str);
            let job = job.map(JobName::as_str);
            write(&mut tx, &Entry { actor, action, job, subject, detail: "" }, now).await?;
        }
        tx.commit().await?;
        Ok(changed == 1)
    }
}

fn read(rows: &[Row]) -> Result<Pauses, StoreError> {
    let pause =
        |row: &Row| Ok((row.text("job")?, Pause { since: row.time("since_ms")?, by: row.text("by_whom")? }));
    rows.iter().map(pause).collect::<Result<_, StoreError>>().map(Pauses)
}
