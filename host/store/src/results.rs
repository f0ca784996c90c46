//! How far a run is, and what became of its items over all their attempts: read from the trail, so nothing is counted twice.

use domain::alert::FailedItem;
use domain::id::RunId;
use jiff::Timestamp;

use crate::db::{Row, args};
use crate::error::StoreError;
use crate::sql::runs;
use crate::store::Store;

/// Failed items that a result lists.
const LISTED_MAX: u32 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// Items that the run queued.
    pub total: u32,
    /// Of them, those that had their attempt in the run, or need none any more. A finished run has no others.
    pub done: u32,
    pub success: u32,
    /// Failed for good: they wait for a person, or for a run that begins them anew.
    pub failed: u32,
    /// The item that was brought to its end last.
    pub last: Option<Ended>,
}

impl RunResult {
    /// The progress of the run, of `total`: what [`crate::runs::RunView::done`] says.
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

impl Store {
    /// Nothing if there is no such run.
    pub async fn run_result(&self, run: RunId) -> Result<Option<RunResult>, StoreError> {
        let id = run.to_string();
        let counts = self.db.fetch(runs::RUN_RESULT, &args![id.as_str()]).await?;
        let Some(counts) = counts.first() else { return Ok(None) };
        let last = self.db.fetch(runs::RUN_LAST_ENDED, &args![id]).await?;
        let (total, done) = (counts.count("queued")?, counts.count("done")?);
        // Attempts that an earlier version recorded may belong to a run that found their item without queueing it.
        let success = counts.count("success")?.min(total);
        let failed = counts.count("failed")?.min(total - success);
        Ok(Some(RunResult { total, done, success, failed, last: last.first().map(ended).transpose()? }))
    }

    /// Items of a run that failed for good, in the order in which they did: the first ones, up to a number and a size.
    pub async fn run_failures(&self, run: RunId) -> Result<Vec<FailedItem>, StoreError> {
        let (rows, _) = self.db.some(runs::RUN_FAILURES, &args![run.to_string(), LISTED_MAX]).await?;
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
