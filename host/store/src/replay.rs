//! Attempts that ended, as they can be made again.

use domain::id::JobName;
use domain::item::Claimed;
use domain::outcome::ErrorInfo;
use domain::runner::Usage;
use jiff::Timestamp;

use crate::db::{Row, args};
use crate::error::StoreError;
use crate::items::{error_of, in_batch};
use crate::sql::items;
use crate::store::Store;

/// An attempt as it was recorded, and what it began with as far as that is known.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its payload, series and batch are the item's of today: what they were is not recorded.
    pub item: Claimed,
    pub verdict: String,
    pub error: Option<ErrorInfo>,
    pub note: Option<String>,
    /// The version that ran.
    pub digest: Option<String>,
    pub usage: Usage,
    pub ended_at: Timestamp,
}

impl Store {
    /// The last attempts of a job that came to an end of their own, the newest first: none that lost its host.
    pub async fn attempts_to_replay(&self, job: &JobName, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        let rows = self.db.fetch(items::ATTEMPTS_TO_REPLAY, &args![job.as_str(), limit]).await?;
        rows.iter().map(recorded).collect()
    }
}

fn recorded(row: &Row) -> Result<Recorded, StoreError> {
    let used = |column: &str| Ok::<u64, StoreError>(u64::try_from(row.int(column)?).unwrap_or_default());
    let code = row.opt_text("recorded_code")?;
    let message = row.opt_text("recorded_message")?.unwrap_or_default();
    Ok(Recorded {
        item: claimed(row)?,
        verdict: row.text("verdict")?,
        error: code.map(|code| ErrorInfo { code, message }),
        note: row.opt_text("note")?,
        digest: row.opt_text("digest")?,
        usage: Usage {
            wall_us: used("wall_us")?,
            cpu_us: used("cpu_us")?,
            memory_bytes_max: used("memory_bytes_max")?,
            host_calls: used("host_calls")?,
            host_bytes: used("host_bytes")?,
        },
        ended_at: row.time("ended_at_ms")?,
    })
}

fn claimed(row: &Row) -> Result<Claimed, StoreError> {
    let number = row.count("number")?;
    let found_by = row.opt_parse("run_id")?;
    // The first of its series remembers none before it.
    let first = number <= 1;
    Ok(Claimed {
        id: row.parse("item_id")?,
        job: row.parse("job")?,
        key: row.text("item_key")?,
        payload: row.text("payload")?,
        attempts: number.saturating_sub(1),
        // Attempts do not record it: a replay is the first of its row.
        deferrals: 0,
        series: row.count("series")?,
        epoch: row.int("epoch")?,
        attempt_id: row.parse("attempt_id")?,
        run_id: if first { found_by } else { None },
        found_by,
        first_attempt_at: if first { None } else { row.opt_time("first_attempt_at_ms")? },
        last_attempt_at: row.opt_time("last_attempt_at_ms")?,
        last_error: error_of(row)?,
        in_batch: in_batch(row)?,
        claimed_at: row.time("started_at_ms")?,
    })
}
