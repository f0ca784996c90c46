//! Limits of a job across all hosts. They are checked under a lock of the job's row in `rate`, which is held
//! until the claim is written, so two hosts cannot both take the last slot.

pub(crate) mod sql;

use domain::flow::PerPrefix;
use domain::job::JobSpec;
use jiff::Timestamp;

use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::items::Items;
use crate::items::flow::sql as flow_sql;

/// Number of due items to read for each wanted one, because several may have the same prefix.
const LOOKED_AT: u32 = 4;

/// The number of items that may be claimed, and the rate window to update with the claim.
pub(crate) struct Allowed {
    pub limit: u32,
    window: Option<(i64, i64)>,
}

impl Allowed {
    pub async fn of(tx: &mut Tx, job: &JobSpec, now: Timestamp, wanted: u32) -> Result<Allowed, StoreError> {
        let mut allowed = Allowed { limit: wanted, window: None };
        if !job.flow.is_shared() {
            return Ok(allowed);
        }
        let name = job.name.as_str();
        tx.execute(flow_sql::RATE_OPEN, &args![name, 0_i64]).await?;
        let rows = tx.fetch(flow_sql::RATE_LOCK, &args![name]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("the rate row is gone".to_owned()))?;
        if let Some(rate) = job.flow.rate {
            let start = rate.window_start(now);
            let used = if row.int("window_start_ms")? == start { row.int("used")? } else { 0 };
            allowed.window = Some((start, used));
            allowed.limit = allowed.limit.min(left(rate.attempts_max, used));
        }
        if let Some(total) = job.flow.concurrency_total {
            let rows = tx.fetch(flow_sql::RUNNING_COUNT, &args![name]).await?;
            let running = rows.first().map_or(Ok(0), |row| row.int("n"))?;
            allowed.limit = allowed.limit.min(left(total, running));
        }
        Ok(allowed)
    }

    /// Adds the claimed items to the rate window.
    pub async fn spent(self, tx: &mut Tx, job: &JobSpec, claimed: usize) -> Result<(), StoreError> {
        let Some((start, used)) = self.window else { return Ok(()) };
        let used = used + i64::try_from(claimed).unwrap_or(i64::MAX);
        tx.execute(flow_sql::RATE_SET, &args![job.name.as_str(), start, used]).await.map(|_| ())
    }
}

fn left(most: u32, used: i64) -> u32 {
    u32::try_from(i64::from(most) - used).unwrap_or(0)
}

/// Picks the first due items whose prefix has a free slot. Returns their ids as a JSON list.
pub(crate) async fn pick(
    tx: &mut Tx,
    job: &JobSpec,
    per_prefix: &PerPrefix,
    now: Timestamp,
    limit: u32,
) -> Result<String, StoreError> {
    let name = job.name.as_str();
    let rows = tx.fetch(flow_sql::RUNNING_KEYS, &args![name]).await?;
    let mut running: Vec<String> = rows.iter().map(|row| row.text("item_key")).collect::<Result<_, _>>()?;
    let mut picked = Vec::new();
    while picked.len() < limit as usize {
        let keys: Vec<&str> = running.iter().map(String::as_str).collect();
        let wanted = limit.saturating_mul(LOOKED_AT);
        let (separator, full) = (per_prefix.separator.as_str(), json(&per_prefix.full(&keys)));
        let args = args![name, now, separator, full, json(&picked), wanted];
        let due = tx.fetch(flow_sql::ITEMS_DUE, &args).await?;
        if due.is_empty() {
            break;
        }
        let due: Vec<(String, String)> = due.iter().map(id_and_key).collect::<Result<_, _>>()?;
        let candidates: Vec<&str> = due.iter().map(|(_, key)| key.as_str()).collect();
        let admitted = per_prefix.admits(&keys, &candidates);
        let room = limit as usize - picked.len();
        let admitted: Vec<String> = admitted.into_iter().take(room).map(str::to_owned).collect();
        picked.extend(due.into_iter().filter(|(_, key)| admitted.contains(key)).map(|(id, _)| id));
        running.extend(admitted);
    }
    Ok(json(&picked))
}

fn json(texts: &[impl AsRef<str>]) -> String {
    serde_json::Value::from_iter(texts.iter().map(AsRef::as_ref)).to_string()
}

fn id_and_key(row: &Row) -> Result<(String, String), StoreError> {
    Ok((row.text("id")?, row.text("item_key")?))
}

impl Items<'_> {
    /// Attempts that the job's rate still allows in the current window; `None` if it has no rate.
    pub async fn rate_left(self, job: &JobSpec, now: Timestamp) -> Result<Option<u32>, StoreError> {
        let Some(rate) = job.flow.rate else { return Ok(None) };
        let rows = self.store.db.fetch(flow_sql::RATE_GET, &args![job.name.as_str()]).await?;
        let used = match rows.first() {
            Some(row) if row.int("window_start_ms")? == rate.window_start(now) => row.int("used")?,
            _ => 0,
        };
        Ok(Some(left(rate.attempts_max, used)))
    }

    /// Number of running attempts of a job, on all hosts.
    pub async fn running(self, job: &str) -> Result<u32, StoreError> {
        let rows = self.store.db.fetch(flow_sql::RUNNING_COUNT, &args![job]).await?;
        rows.first().map_or(Ok(0), |row| row.count("n"))
    }
}
