//! Progress of a run, and the results of its items over all their attempts. They are read from the recorded
//! attempts, so nothing is counted twice.

use domain::alert::FailedItem;
use domain::id::RunId;
use jiff::Timestamp;

use crate::db::{Row, args};
use crate::error::StoreError;
use crate::runs::Runs;
use crate::runs::sql as runs_sql;

/// Maximum failed items that a result lists.
const LISTED_MAX: u32 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// Items that the run queued.
    pub total: u32,
    /// The part of them that had an attempt in the run, or no longer needs one. In a finished run, all items
    /// are done.
    pub done: u32,
    pub success: u32,
    /// Failed for good: they wait for a person, or for a run that starts them again.
    pub failed: u32,
    /// The item that ended last.
    pub last: Option<Ended>,
}

impl RunResult {
    /// The progress of the run, out of `total`: equals [`crate::runs::RunView::done`].
    pub fn current(&self) -> u32 {
        self.done
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub key: String,
    pub success: bool,
    pub at: Timestamp,
}

impl Runs<'_> {
    /// Returns `None` if there is no such run.
    pub async fn result(self, run: RunId) -> Result<Option<RunResult>, StoreError> {
        let counts = self.store.db.fetch(runs_sql::RUN_RESULT, &args! { run: run }).await?;
        let Some(counts) = counts.first() else { return Ok(None) };
        let last = self.store.db.fetch(runs_sql::RUN_LAST_ENDED, &args! { run: run }).await?;
        let (total, done) = (counts.count("queued")?, counts.count("done")?);
        // Attempts recorded by an earlier version may belong to a run that found their item without queueing
        // it.
        let success = counts.count("success")?.min(total);
        let failed = counts.count("failed")?.min(total - success);
        Ok(Some(RunResult { total, done, success, failed, last: last.first().map(ended).transpose()? }))
    }

    /// Lists the first items of a run that failed for good, by the time of failure, limited in number and
    /// size.
    pub async fn failures(self, run: RunId) -> Result<Vec<FailedItem>, StoreError> {
        let (rows, _) =
            self.store.db.some(runs_sql::RUN_FAILURES, &args! { run: run, limit: LISTED_MAX }).await?;
        rows.iter().map(failure).collect()
    }
}

fn ended(row: &Row) -> Result<Ended, StoreError> {
    let (key, at) = (row.text("item_key")?, row.time("ended_at_ms")?);
    Ok(Ended { key, success: row.text("fate")? == "success", at })
}

fn failure(row: &Row) -> Result<FailedItem, StoreError> {
    Ok(FailedItem {
        key: row.text("item_key")?,
        payload: row.text("payload")?,
        attempts: row.count("number")?,
        code: row.opt_text("error_code")?.unwrap_or_default(),
        message: row.opt_text("error_message")?.unwrap_or_default(),
    })
}
