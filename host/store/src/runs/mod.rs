//! Runs: their discovery, reconciled page by page with the known items, and their progress.

mod reconcile;
pub mod results;
pub(crate) mod sql;

use std::collections::{BTreeMap, BTreeSet};

use domain::engine_event::EngineEvent;
use domain::failure::{ErrorInfo, SQL_COMMIT};
use domain::id::{AttemptId, ItemId, JobName, RunId};
use domain::item::State;
use domain::job::JobSpec;
use domain::run::{ClaimedRun, Discovered};
use domain::runner::Page;
use jiff::Timestamp;

use crate::attempts::commit::Committed;
use crate::db::{Decoded, Row, Rows, Tx, WritePriority, args, row};
use crate::error::StoreError;
use crate::items::places::{self, Due, Moves, class};
use crate::items::{Lease, error_of};
use crate::runs::reconcile::reconcile;
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

    /// Jobs with a run that can be claimed. A lease that ended before `lapsed_before` counts as lost.
    pub async fn jobs_to_discover(
        self,
        lapsed_before: Timestamp,
    ) -> Result<Decoded<BTreeSet<JobName>>, StoreError> {
        let rows = self.store.db.fetch(runs_sql::RUN_JOBS, &args! { before: lapsed_before }).await?;
        Ok(rows.iter().map(|row| row.parse("job")).collect())
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
        let args = args! {
            claim: attempt_id.to_string(),
            host: lease.host.to_string(),
            until: lease.until,
            job: job.as_str(),
            before: lapsed_before,
        };
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
        let rows = self.store.db.fetch(runs_sql::RUN_QUEUED, &args! { run: run }).await?;
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
        let rows = tx.fetch(runs_sql::RUN_QUEUED, &args! { run: run.id }).await?;
        let queued = rows.first().map_or(Ok(0), |row| row.count("queued"))?;
        let began = rows.first().map_or(Ok(now), |row| row.time("created_at_ms"))?;
        let left = job.flow.items_per_run_max.map(|max| max.saturating_sub(queued));
        let (mut sum, error) = reconcile(&mut tx, job, (run.id, now), page, left).await?;
        let complete_with_absence = page.next.is_none() && job.resolve_when_absent;
        let absent = match complete_with_absence {
            true => resolve_absent(&mut tx, job, began, now).await?,
            false => Absent::default(),
        };
        lock_runs(&mut tx, absent.waited_for.keys().copied().chain([run.id])).await?;
        let args = args! {
            run: run.id,
            epoch: run.epoch,
            claim: run.attempt_id.to_string(),
            cursor: page.next.as_deref(),
            found: sum.found,
            queued: sum.queued,
            waiting: sum.waiting,
            over_cap: sum.over_cap,
            manual: sum.manual,
            digest: digest,
            code: error.as_ref().map(|error| error.code.as_str()),
            message: error.as_ref().map(|error| error.message.as_str()),
        };
        if tx.execute(runs_sql::RUN_PAGE, &args).await? != 1 {
            return Ok((Committed::Stale, Discovered::default()));
        }
        if page.next.is_none() {
            sum.absent = absent.items;
            for (run, attempts) in absent.waited_for {
                count_ended(&mut tx, run, Ended { attempts, failed: 0, at: now }).await?;
            }
            complete(&mut tx, run, sum.absent, now).await?;
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
        let args = args! {
            run: run.id,
            epoch: run.epoch,
            claim: run.attempt_id.to_string(),
            now: now,
            code: error.code.as_str(),
            message: error.message.as_str(),
        };
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
        let args = args! { run: run.id, epoch: run.epoch, claim: run.attempt_id.to_string() };
        self.store.db.execute(runs_sql::RUN_RELEASE, &args).await.map(|_| ())
    }

    pub async fn get(self, run: RunId) -> Result<Option<RunView>, StoreError> {
        let rows = self.store.db.fetch(runs_sql::RUN_GET, &args! { run: run }).await?;
        rows.first().map(run_view).transpose()
    }

    /// Lists runs, the newest first.
    pub async fn list(self, job: Option<&str>, limit: u32) -> Result<Vec<RunView>, StoreError> {
        self.store
            .db
            .fetch(runs_sql::RUNS_LIST, &args! { job: job, limit: limit })
            .await?
            .iter()
            .map(run_view)
            .collect()
    }
}

/// Ends a discovery in the transaction of its last page, which is fenced.
async fn complete(tx: &mut Tx, run: &ClaimedRun, absent: u32, now: Timestamp) -> Result<(), StoreError> {
    let args = args! {
        run: run.id,
        epoch: run.epoch,
        claim: run.attempt_id.to_string(),
        now: now,
        absent: absent,
    };
    for row in tx.fetch(runs_sql::RUN_DISCOVERED, &args).await? {
        let (job, run) = (run.job.clone(), run.id);
        tx.note(match row.opt_text("error_code")? {
            Some(code) => EngineEvent::DiscoveryFailed { job, run, code },
            None => EngineEvent::Discovered { job, run },
        });
        note_finished(tx, &row)?;
    }
    Ok(())
}

/// Items that a complete discovery did not find.
#[derive(Default)]
struct Absent {
    items: u32,
    /// The runs that waited for the first attempt of such an item, with the number of these items.
    waited_for: BTreeMap<RunId, i64>,
}

/// Resolves the items that the complete discovery of a run that began at `began` did not find. A running item keeps
/// its claim.
async fn resolve_absent(
    tx: &mut Tx,
    job: &JobSpec,
    began: Timestamp,
    now: Timestamp,
) -> Result<Absent, StoreError> {
    let args = args! { job: job.name.as_str(), sql_commit: SQL_COMMIT, began: began };
    let rows = tx.fetch(runs_sql::ITEMS_ABSENT, &args).await?;
    let keys: Vec<Due<'_>> = rows.iter().map(|row| Due::of(&job.name, row)).collect::<Result<_, _>>()?;
    let taken: BTreeSet<ItemId> = places::take(tx, &keys).await?.into_iter().collect();
    let (mut absent, mut moves, mut resolved) = (Absent::default(), Moves::default(), Rows::default());
    for row in &rows {
        let id: ItemId = row.parse("id")?;
        if !taken.contains(&id) {
            continue;
        }
        resolved.push(row![id]);
        absent.items += 1;
        moves.count(&job.name, class(row.parse("state")?, row.count("attempts")?), -1);
        moves.count(&job.name, class(State::Resolved, 0), 1);
        if let Some(run) = row.opt_parse("run_id")? {
            *absent.waited_for.entry(run).or_default() += 1;
        }
    }
    if !resolved.is_empty() {
        tx.execute(runs_sql::ITEMS_RESOLVE_ABSENT, &args! { absent: resolved, now: now }).await?;
    }
    moves.write(tx).await?;
    Ok(absent)
}

async fn lock_runs(tx: &mut Tx, runs: impl Iterator<Item = RunId>) -> Result<(), StoreError> {
    let runs: BTreeSet<RunId> = runs.collect();
    let runs: Rows = runs.into_iter().map(|run| row![run]).collect();
    tx.fetch(runs_sql::RUNS_LOCK, &args! { runs: runs }).await.map(|_| ())
}

/// First attempts of a run's items that ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended {
    pub attempts: i64,
    pub failed: i64,
    pub at: Timestamp,
}

/// Counts ended attempts for their run, which the last one finishes.
pub(crate) async fn count_ended(tx: &mut Tx, run: RunId, ended: Ended) -> Result<(), StoreError> {
    let args = args! { run: run, attempts: ended.attempts, failed: ended.failed, ended_at: ended.at };
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
