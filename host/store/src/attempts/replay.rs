//! Ended attempts, in a form that can be replayed.

use domain::failure::ErrorInfo;
use domain::id::JobName;
use domain::item::Claimed;
use domain::runner::Usage;
use jiff::Timestamp;

use crate::attempts::Attempts;
use crate::attempts::sql as attempts_sql;
use crate::db::{Row, args};
use crate::error::StoreError;
use crate::items::views::digest_of;
use crate::items::{error_of, in_batch};

/// An attempt as it was recorded, with its initial state as far as that is known.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Payload, series and batch are the current ones of the item: their earlier values are not recorded.
    pub item: Claimed,
    pub verdict: String,
    pub error: Option<ErrorInfo>,
    pub note: Option<String>,
    /// The plugin version that ran.
    pub digest: Option<String>,
    pub usage: Usage,
    pub ended_at: Timestamp,
}

impl Attempts<'_> {
    /// The last attempts of a job that ended on their own, the newest first. Lost and interrupted attempts
    /// are left out.
    pub async fn to_replay(self, job: &JobName, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        let rows = self
            .store
            .db
            .fetch(attempts_sql::ATTEMPTS_TO_REPLAY, &args! { job: job.as_str(), limit: limit })
            .await?;
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
        digest: digest_of(row)?,
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
    // The first attempt of a series has no predecessor.
    let first = number <= 1;
    Ok(Claimed {
        id: row.parse("item_id")?,
        job: row.parse("job")?,
        key: row.text("item_key")?,
        payload: row.text("payload")?,
        attempts: number.saturating_sub(1),
        // Attempts do not record deferrals, so a replay is treated as the first in a row.
        deferrals: 0,
        series: row.count("series")?,
        epoch: row.int("epoch")?,
        attempt_id: row.parse("claim_id")?,
        run_id: if first { found_by } else { None },
        found_by,
        first_attempt_at: if first { None } else { row.opt_time("first_attempt_at_ms")? },
        last_attempt_at: row.opt_time("last_attempt_at_ms")?,
        last_error: error_of(row)?,
        in_batch: in_batch(row)?,
        claimed_at: row.time("started_at_ms")?,
    })
}
