//! Runs: their discovery, reconciled page by page with the known items, and their progress.

mod reconcile;
pub mod results;
pub(crate) mod sql;

use std::collections::{BTreeMap, BTreeSet};

use domain::engine_event::EngineEvent;
use domain::failure::{ErrorInfo, SQL_COMMIT};
use domain::id::{AttemptId, JobName, RunId};
use domain::job::JobSpec;
use domain::run::{ClaimedRun, Discovered};
use domain::runner::Page;
use jiff::Timestamp;

use crate::attempts::commit::Committed;
use crate::db::{Row, Tx, WritePriority, args};
use crate::error::StoreError;
use crate::items::sql as items_sql;
use crate::items::{Lease, error_of};
use crate::runs::reconcile::{Reconciler, items_left_to_open, known};
use crate::runs::sql as runs_sql;
use crate::store::Store;

/// Runs: their discovery, progress and results.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    pub(crate) store: &'a Store,
}

impl Runs<'_> {
    /// Claims the oldest run of `job` that waits for its discovery, or whose discovering host was lost.
    pub async fn claim(self, job: &JobName, lease: Lease) -> Result<Option<ClaimedRun>, StoreError> {
        self.claim_lapsed(job, lease, lease.now).await
    }

    /// Like [`Runs::claim`], but only a lease that ended before `lapsed_before` counts as lost.
    pub async fn claim_lapsed(
        self,
        job: &JobName,
        lease: Lease,
        lapsed_before: Timestamp,
    ) -> Result<Option<ClaimedRun>, StoreError> {
        let mut tx = self.store.db.begin_as(WritePriority::Work).await?;
        let attempt_id = AttemptId::new(lease.now);
        let args =
            args![attempt_id.to_string(), lease.host.to_string(), lease.until, job.as_str(), lapsed_before];
        let rows = tx.fetch(runs_sql::RUN_CLAIM, &args).await?;
        let claimed = |row: &Row| -> Result<ClaimedRun, StoreError> {
            Ok(ClaimedRun {
                id: row.parse("id")?,
                job: row.parse("job")?,
                trigger: row.text("started_by")?,
                scheduled_at: row.opt_time("scheduled_at_ms")?,
                params: row.opt_text("params")?,
                epoch: row.int("epoch")?,
                attempt_id,
                claimed_at: lease.now,
            })
        };
        // Decoded before the commit: no task would work on a claimed run that cannot be decoded.
        let run = rows.first().map(claimed).transpose()?;
        tx.commit().await?;
        if run.is_some() {
            self.store.held_claims.add(lease.host, job, attempt_id);
        }
        Ok(run)
    }

    /// The cursor at which a run's discovery continues: after a crash, at the first page that was not
    /// committed.
    pub async fn page_cursor(self, run: RunId) -> Result<Option<String>, StoreError> {
        let rows = self.store.db.fetch(runs_sql::RUN_QUEUED, &args![run.to_string()]).await?;
        rows.first().map_or(Ok(None), |row| row.opt_text("page_cursor"))
    }

    /// Reconciles one page with the known items and stores the cursor after it. The last page also ends the
    /// discovery. With two commits, a crash between them would restart the run and repeat its work.
    pub async fn put_page(
        self,
        run: &ClaimedRun,
        job: &JobSpec,
        page: &Page,
        digest: Option<&str>,
        now: Timestamp,
    ) -> Result<(Committed, Discovered), StoreError> {
        let mut tx = self.store.db.begin_as(WritePriority::Work).await?;
        let id = run.id.to_string();
        let rows = tx.fetch(runs_sql::RUN_QUEUED, &args![id.as_str()]).await?;
        let queued = rows.first().map_or(Ok(0), |row| row.count("queued"))?;
        let left = job.flow.items_per_run_max.map(|max| max.saturating_sub(queued));
        let known = known(&mut tx, job, page).await?;
        let items_left_to_open = items_left_to_open(&mut tx, job, page, &known).await?;
        let mut reconciler =
            Reconciler { tx: &mut tx, job, run: run.id, now, left, items_left_to_open, refused: 0 };
        let mut sum = Discovered::default();
        let mut seen = BTreeSet::new();
        for found in page.items.iter().filter(|found| seen.insert(found.key.as_str())) {
            sum.found += 1;
            reconciler.one(found, known.get(&found.key), &mut sum).await?;
        }
        let error = reconciler.error();
        let code = error.as_ref().map(|error| error.code.as_str());
        let message = error.as_ref().map(|error| error.message.as_str());
        let args = args![
            id,
            run.epoch,
            run.attempt_id.to_string(),
            page.next.as_deref(),
            sum.found,
            sum.queued,
            sum.waiting,
            sum.over_cap,
            sum.manual,
            digest,
            code,
            message
        ];
        if tx.execute(runs_sql::RUN_PAGE, &args).await? != 1 {
            return Ok((Committed::Stale, Discovered::default()));
        }
        if page.next.is_none() {
            sum.absent = complete(&mut tx, job, run, now).await?;
        }
        tx.note(EngineEvent::RunProgressed { job: job.name.clone(), run: run.id });
        tx.commit().await?;
        Ok((Committed::Applied, sum))
    }

    /// Ends a discovery that cannot continue. The items that its pages queued are still attempted.
    pub async fn fail_discovery(
        self,
        run: &ClaimedRun,
        error: &ErrorInfo,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let (id, attempt) = (run.id.to_string(), run.attempt_id.to_string());
        let args = args![id, run.epoch, attempt, now, error.code.as_str(), error.message.as_str()];
        let mut tx = self.store.db.begin().await?;
        if tx.execute(runs_sql::RUN_FAILED, &args).await? != 1 {
            return Ok(Committed::Stale);
        }
        let (job, code) = (run.job.clone(), error.code.clone());
        tx.note(EngineEvent::DiscoveryFailed { job, run: run.id, code });
        tx.commit().await?;
        Ok(Committed::Applied)
    }

    /// Releases a discovery at a shutdown, so that another process continues it.
    pub async fn release(self, run: &ClaimedRun) -> Result<(), StoreError> {
        let args = args![run.id.to_string(), run.epoch, run.attempt_id.to_string()];
        self.store.db.execute(runs_sql::RUN_RELEASE, &args).await.map(|_| ())
    }

    pub async fn get(self, run: RunId) -> Result<Option<RunView>, StoreError> {
        let rows = self.store.db.fetch(runs_sql::RUN_GET, &args![run.to_string()]).await?;
        rows.first().map(run_view).transpose()
    }

    /// Lists runs, the newest first.
    pub async fn list(self, job: Option<&str>, limit: u32) -> Result<Vec<RunView>, StoreError> {
        self.store.db.fetch(runs_sql::RUNS_LIST, &args![job, limit]).await?.iter().map(run_view).collect()
    }
}

/// Ends a discovery in the transaction of its last page, which is fenced. Returns the number of absent items.
async fn complete(tx: &mut Tx, job: &JobSpec, run: &ClaimedRun, now: Timestamp) -> Result<u32, StoreError> {
    let id = run.id.to_string();
    let absent = match job.resolve_when_absent {
        true => resolve_absent(tx, job, &id, now).await?,
        false => 0,
    };
    let args = args![id, run.epoch, run.attempt_id.to_string(), now, absent];
    for row in tx.fetch(runs_sql::RUN_DISCOVERED, &args).await? {
        let (job, run) = (run.job.clone(), run.id);
        tx.note(match row.opt_text("error_code")? {
            Some(code) => EngineEvent::DiscoveryFailed { job, run, code },
            None => EngineEvent::Discovered { job, run },
        });
        note_finished(tx, &row)?;
    }
    Ok(absent)
}

/// Resolves the items that the run's complete discovery did not find. Other runs no longer wait for the first
/// attempt of such an item.
async fn resolve_absent(tx: &mut Tx, job: &JobSpec, run: &str, now: Timestamp) -> Result<u32, StoreError> {
    let name = job.name.as_str();
    let rows = tx.fetch(items_sql::ITEMS_RESOLVE_ABSENT, &args![name, run, now, SQL_COMMIT]).await?;
    let mut waited_for: BTreeMap<String, i64> = BTreeMap::new();
    for row in &rows {
        if let Some(run) = row.opt_text("run_id")? {
            *waited_for.entry(run).or_default() += 1;
        }
    }
    for (run, resolved) in waited_for {
        tx.execute(items_sql::ITEMS_LEAVE_RUN, &args![name, run.as_str()]).await?;
        count_ended(tx, &run, Ended { attempts: resolved, failed: 0, at: now }).await?;
    }
    Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
}

/// First attempts of a run's items that ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended {
    pub attempts: i64,
    pub failed: i64,
    pub at: Timestamp,
}

/// Counts ended attempts for their run, which the last one finishes.
pub(crate) async fn count_ended(tx: &mut Tx, run: &str, ended: Ended) -> Result<(), StoreError> {
    let args = args![run, ended.attempts, ended.failed, ended.at];
    tx.fetch(runs_sql::RUN_DONE, &args).await?.iter().try_for_each(|row| note_finished(tx, row))
}

/// Notes the end of a run that this transaction finished.
pub(crate) fn note_finished(tx: &mut Tx, row: &Row) -> Result<(), StoreError> {
    if row.int("now_finished")? == 1 {
        tx.note(EngineEvent::RunFinished { job: row.parse("job")?, run: row.parse("id")? });
    }
    Ok(())
}

/// A run as it is shown to people.
#[derive(Debug, Clone)]
pub struct RunView {
    pub id: RunId,
    pub job: JobName,
    pub started_by: String,
    pub state: String,
    pub discovered: Discovered,
    /// Queued items that had their attempt in this run.
    pub done: u32,
    /// The part of them whose attempt failed.
    pub failed: u32,
    pub error: Option<ErrorInfo>,
    pub digest: Option<String>,
    pub created_at: Timestamp,
    pub discovered_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl RunView {
    /// A one-line summary for people: items found, attempted and skipped, with the reasons.
    pub fn summary(&self) -> String {
        let Discovered { found, queued, waiting, over_cap, manual, absent } = self.discovered;
        let skipped = waiting + over_cap + manual;
        let mut text = format!("found {found}, attempted {} of {queued}, skipped {skipped}", self.done);
        let why = [("waiting", waiting), ("over the cap", over_cap), ("for a person", manual)];
        let why: Vec<String> =
            why.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
        if !why.is_empty() {
            text.push_str(&format!(" ({})", why.join(", ")));
        }
        if absent > 0 {
            text.push_str(&format!(", {absent} no longer found"));
        }
        text
    }
}

fn run_view(row: &Row) -> Result<RunView, StoreError> {
    Ok(RunView {
        id: row.parse("id")?,
        job: row.parse("job")?,
        started_by: row.text("started_by")?,
        state: row.text("state")?,
        discovered: Discovered {
            found: row.count("found")?,
            queued: row.count("queued")?,
            waiting: row.count("waiting")?,
            over_cap: row.count("over_cap")?,
            manual: row.count("manual")?,
            absent: row.count("absent")?,
        },
        done: row.count("done")?,
        failed: row.count("failed")?,
        error: error_of(row)?,
        digest: row.opt_text("digest")?,
        created_at: row.time("created_at_ms")?,
        discovered_at: row.opt_time("discovered_at_ms")?,
        finished_at: row.opt_time("finished_at_ms")?,
    })
}
