//! Schedules of jobs, and ticks that fire once across all hosts.

pub mod edits;
pub mod pauses;
pub(crate) mod sql;

use std::collections::BTreeMap;

use domain::engine_event::EngineEvent;
use domain::id::{JobName, RunId};
use domain::job::JobSpec;
use domain::schedule::Due;
use domain::schedule::tick::{Fate, JobStatus, Overlap};
use jiff::Timestamp;

use crate::audit::{Entry, digest_of, write};
use crate::db::{Decoded, Tx, args};
use crate::error::StoreError;
use crate::jobs::sql as jobs_sql;
use crate::runs::note_finished;
use crate::runs::sql as runs_sql;
use crate::store::Store;

/// The decision about a due instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticked {
    /// The decision about the newest instant.
    pub fate: Fate,
    pub runs: Vec<RunId>,
}

#[derive(Debug, Clone)]
pub struct TickView {
    pub at: Timestamp,
    pub fate: String,
    pub run_id: Option<RunId>,
}

/// Jobs: their schedules, pauses and edits.
#[derive(Clone, Copy)]
pub struct Jobs<'a> {
    pub(crate) store: &'a Store,
}

impl Jobs<'_> {
    /// Registers a job. Its schedule starts now if it is new or changed, and continues otherwise.
    pub async fn put(self, job: &JobSpec, now: Timestamp) -> Result<(), StoreError> {
        let schedule = job.schedule.to_string();
        let args = args! {
            job: job.name.as_str(),
            plugin: job.plugin.as_str(),
            schedule: schedule,
            now: now,
        };
        self.store.db.execute(jobs_sql::JOB_PUT, &args).await.map(|_| ())
    }

    /// The last decided instant, or the registration time of the job.
    pub async fn ticked_at(self, job: &JobName) -> Result<Timestamp, StoreError> {
        let rows = self.store.db.fetch(jobs_sql::JOB_TICKED_AT, &args! { job: job.as_str() }).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("job {job}")))?;
        row.time("ticked_at_ms")
    }

    /// The same of all jobs.
    pub async fn ticked_at_by_job(self) -> Result<Decoded<BTreeMap<JobName, Timestamp>>, StoreError> {
        let rows = self.store.db.fetch(jobs_sql::JOBS_TICKED_AT, &[]).await?;
        Ok(rows.iter().map(|row| Ok((row.parse("name")?, row.time("ticked_at_ms")?))).collect())
    }

    /// When the last discovery of each job succeeded, or it was last due while paused, or it was registered.
    pub async fn heartbeats(self) -> Result<Decoded<BTreeMap<JobName, Timestamp>>, StoreError> {
        let rows = self.store.db.fetch(jobs_sql::JOB_HEARTBEATS, &args! { job: None::<&str> }).await?;
        Ok(rows.iter().map(|row| Ok((row.parse("name")?, row.time("at_ms")?))).collect())
    }

    /// The same of one job.
    pub async fn heartbeat(self, job: &JobName) -> Result<Timestamp, StoreError> {
        let rows = self.store.db.fetch(jobs_sql::JOB_HEARTBEATS, &args! { job: Some(job.as_str()) }).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("job {job}")))?;
        row.time("at_ms")
    }

    /// Decides the due instants, once across all hosts. Returns `None` if another host did. `seen` is the
    /// time as the job's schedule sees it, which may lag behind `now`.
    pub async fn tick(
        self,
        job: &JobSpec,
        due: &Due,
        seen: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Ticked>, StoreError> {
        let name = job.name.as_str();
        let mut tx = self.store.db.begin().await?;
        let open = !tx.fetch(runs_sql::RUN_OPEN_OF, &args! { job: name }).await?.is_empty();
        let paused = self.pauses_of(&mut tx).await?.covers(name);
        let fates = job.ticks.fates(due, JobStatus { open, paused }, seen);
        let mut started = Vec::new();
        for (at, fate) in &fates {
            let run = (*fate == Fate::Ran).then(|| RunId::new(now));
            match add_tick(&mut tx, &job.name, *at, *fate, run, now).await? {
                true => started.extend(run.map(|run| (run, *at))),
                false if *at == due.at => return Ok(None),
                // Already decided; this host read the schedule before that. The tick keeps its fate.
                false => {}
            }
        }
        if open && !started.is_empty() && job.ticks.overlap == Overlap::CancelOther {
            for row in tx.fetch(runs_sql::RUNS_CANCEL, &args! { job: name, now: now }).await? {
                note_finished(&mut tx, &row)?;
            }
        }
        // The oldest instant first: discoveries are claimed in this order.
        for (run, at) in started.iter().rev() {
            add_run(&mut tx, *run, &job.name, Start { by: "schedule", at: Some(*at), params: None }, now)
                .await?;
        }
        if fates.iter().any(|(_, fate)| *fate == Fate::Buffered) {
            tx.execute(jobs_sql::TICKS_REPLACED, &args! { job: name, at: due.at }).await?;
        }
        tx.execute(jobs_sql::JOB_SET_TICKED, &args! { job: name, at: due.at }).await?;
        let fate = fates.first().map_or(Fate::Missed, |(_, fate)| *fate);
        tx.note(EngineEvent::Ticked { job: job.name.clone(), fate });
        tx.commit().await?;
        Ok(Some(Ticked { fate, runs: started.into_iter().map(|(run, _)| run).collect() }))
    }

    /// Starts the run of a buffered instant if the run before it has ended. Returns the run, and whether an
    /// instant is still buffered.
    pub async fn start_buffered(
        self,
        job: &JobName,
        now: Timestamp,
    ) -> Result<(Option<RunId>, bool), StoreError> {
        let waits = self.store.db.fetch(jobs_sql::TICK_BUFFERED, &args! { job: job.as_str() }).await?;
        let Some(at) = waits.first().map(|row| row.time("at_ms")).transpose()? else {
            return Ok((None, false));
        };
        let mut tx = self.store.db.begin().await?;
        let open = !tx.fetch(runs_sql::RUN_OPEN_OF, &args! { job: job.as_str() }).await?.is_empty();
        if open || self.pauses_of(&mut tx).await?.covers(job.as_str()) {
            return Ok((None, true));
        }
        let run = RunId::new(now);
        let args = args! { job: job.as_str(), at: at, run: run.to_string() };
        if tx.execute(jobs_sql::TICK_START, &args).await? != 1 {
            return Ok((None, false));
        }
        add_run(&mut tx, run, job, Start { by: "schedule", at: Some(at), params: None }, now).await?;
        tx.commit().await?;
        Ok((Some(run), false))
    }

    /// Starts a run manually, in addition to running ones. `params` is a JSON document for the plugin.
    pub async fn trigger(
        self,
        job: &JobName,
        params: Option<&str>,
        actor: &str,
        now: Timestamp,
    ) -> Result<RunId, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let run = RunId::new(now);
        add_run(&mut tx, run, job, Start { by: actor, at: None, params }, now).await?;
        let subject = run.to_string();
        let detail = match params {
            None => "run started manually".to_owned(),
            Some(params) => format!("run started manually with params of {}", digest_of(params)),
        };
        let entry =
            Entry { actor, action: "triggered", job: Some(job.as_str()), subject: &subject, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(run)
    }

    /// The jobs of all hosts, including those no longer configured: their items and runs still exist.
    pub async fn names(self) -> Result<Vec<String>, StoreError> {
        let rows = self.store.db.fetch(jobs_sql::JOB_NAMES, &[]).await?;
        rows.iter().map(|row| row.text("name")).collect()
    }

    /// Lists ticks, the newest first.
    pub async fn ticks(self, job: &str, limit: u32) -> Result<Vec<TickView>, StoreError> {
        let rows = self.store.db.fetch(jobs_sql::TICKS_LIST, &args! { job: job, limit: limit }).await?;
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
    let args = args! {
        job: job.as_str(),
        at: at,
        fate: fate.as_str(),
        run: run.map(|run| run.to_string()),
        now: now,
    };
    Ok(tx.execute(jobs_sql::TICK_ADD, &args).await? == 1)
}

/// The cause of a run.
struct Start<'a> {
    by: &'a str,
    /// The scheduled instant of the run.
    at: Option<Timestamp>,
    params: Option<&'a str>,
}

async fn add_run(
    tx: &mut Tx,
    run: RunId,
    job: &JobName,
    start: Start<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let args = args! {
        run: run,
        job: job.as_str(),
        by: start.by,
        now: now,
        at: start.at,
        params: start.params,
    };
    tx.execute(runs_sql::RUN_ADD, &args).await?;
    tx.note(EngineEvent::RunStarted { job: job.clone(), run });
    Ok(())
}
