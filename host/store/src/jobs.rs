//! Jobs' places in their schedules, and ticks that fire once.

use domain::id::{JobName, RunId};
use domain::job::JobSpec;
use domain::schedule::Due;
use domain::tick::Fate;
use jiff::Timestamp;

use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::sql::{jobs, runs};
use crate::store::Store;

/// What became of a due instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticked {
    pub fate: Fate,
    pub run: Option<RunId>,
}

#[derive(Debug, Clone)]
pub struct TickView {
    pub at: Timestamp,
    pub fate: String,
    pub run_id: Option<RunId>,
}

impl Store {
    /// Makes a job known. Its schedule starts now if it is new, and goes on if it is not.
    pub async fn put_job(&self, job: &JobSpec, now: Timestamp) -> Result<(), StoreError> {
        let schedule = job.schedule.to_string();
        let args = args![job.name.as_str(), job.plugin.as_str(), schedule, now];
        self.db.execute(jobs::JOB_PUT, &args).await.map(|_| ())
    }

    /// The last instant that was decided, or when the job was made known.
    pub async fn ticked_at(&self, job: &JobName) -> Result<Timestamp, StoreError> {
        let rows = self.db.fetch(jobs::JOB_TICKED_AT, &args![job.as_str()]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("job {job}")))?;
        row.time("ticked_at_ms")
    }

    /// When a discovery of the job succeeded last, or when the job was made known.
    pub async fn heartbeat(&self, job: &JobName) -> Result<Timestamp, StoreError> {
        let rows = self.db.fetch(jobs::JOB_HEARTBEAT, &args![job.as_str()]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("job {job}")))?;
        row.time("at_ms")
    }

    /// Decides a due instant, once over all hosts: `None` says that another host did.
    pub async fn tick(&self, job: &JobName, due: &Due, now: Timestamp) -> Result<Option<Ticked>, StoreError> {
        let mut tx = self.db.begin().await?;
        let open = !tx.fetch(runs::RUN_OPEN_OF, &args![job.as_str()]).await?.is_empty();
        let (fate, run) = match open {
            true => (Fate::Overlap, None),
            false => (Fate::Ran, Some(RunId::new(now))),
        };
        if !add_tick(&mut tx, job, due.at, fate, run, now).await? {
            return Ok(None);
        }
        for missed in &due.missed {
            add_tick(&mut tx, job, *missed, Fate::Coalesced, None, now).await?;
        }
        if let Some(run) = run {
            add_run(&mut tx, run, job, "schedule", now).await?;
        }
        tx.execute(jobs::JOB_SET_TICKED, &args![job.as_str(), due.at]).await?;
        tx.commit().await?;
        Ok(Some(Ticked { fate, run }))
    }

    /// Starts a run by hand, beside whatever runs already.
    pub async fn trigger(&self, job: &JobName, actor: &str, now: Timestamp) -> Result<RunId, StoreError> {
        let mut tx = self.db.begin().await?;
        let run = RunId::new(now);
        add_run(&mut tx, run, job, actor, now).await?;
        let subject = run.to_string();
        let entry = crate::audit::Entry {
            actor,
            action: "triggered",
            job: Some(job.as_str()),
            subject: &subject,
            detail: "run started by hand",
        };
        crate::audit::write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(run)
    }

    /// The newest ticks first.
    pub async fn ticks(&self, job: &str, limit: u32) -> Result<Vec<TickView>, StoreError> {
        let rows = self.db.fetch(jobs::TICKS_LIST, &args![job, limit]).await?;
        let view = |row: &crate::db::Row| {
            Ok(TickView { at: row.time("at_ms")?, fate: row.text("fate")?, run_id: row.opt_parse("run_id")? })
        };
        rows.iter().map(view).collect()
    }
}

async fn add_tick(
    tx: &mut Tx,
    job: &JobName,
    at: Timestamp,
    fate: Fate,
    run: Option<RunId>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let args = args![job.as_str(), at, fate.as_str(), run.map(|run| run.to_string()), now];
    Ok(tx.execute(jobs::TICK_ADD, &args).await? == 1)
}

async fn add_run(
    tx: &mut Tx,
    run: RunId,
    job: &JobName,
    started_by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let args = args![run.to_string(), job.as_str(), started_by, now];
    tx.execute(runs::RUN_ADD, &args).await.map(|_| ())
}
