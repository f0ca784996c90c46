//! Limits of a job across all hosts. They are checked under a lock of the job's row in `rate`, which is held
//! until the claim is written, so two hosts cannot both take the last slot.

pub(crate) mod sql;

use std::collections::BTreeMap;

use domain::flow::PerPrefix;
use domain::id::ItemId;
use domain::job::JobSpec;
use jiff::Timestamp;

use crate::db::{Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::items::Items;
use crate::items::claims::{Position, take_picked};
use crate::items::flow::sql as flow_sql;
use crate::items::places::{self, Due};

/// Number of due items to read for each wanted one, because several may have the same prefix.
const CANDIDATES: u32 = 4;

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
        tx.execute(flow_sql::RATE_OPEN, &args! { job: name }).await?;
        let rows = tx.fetch(flow_sql::RATE_LOCK, &args! { job: name }).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("the rate row is gone".to_owned()))?;
        if let Some(rate) = job.flow.rate {
            let (start, stored) = (rate.window_start(now), row.int("window_start_ms")?);
            // A claim that waited for the lock may be older than the window: a window never goes back. A later
            // one than the next was set by a clock that is ahead.
            let next = rate.next_window(now).map_or(start, Timestamp::as_millisecond);
            let newer = stored > start && stored <= next;
            let start = if newer { stored } else { start };
            let used = if stored == start { row.int("used")? } else { 0 };
            allowed.window = Some((start, used));
            allowed.limit = allowed.limit.min(left(rate.attempts_max, used));
        }
        if let Some(total) = job.flow.concurrency_total {
            let rows = tx.fetch(flow_sql::RUNNING_COUNT, &args! { job: name }).await?;
            let running = rows.first().map_or(Ok(0), |row| row.int("items"))?;
            allowed.limit = allowed.limit.min(left(total, running));
        }
        Ok(allowed)
    }

    /// Adds the claimed items to the rate window.
    pub async fn spent(self, tx: &mut Tx, job: &JobSpec, claimed: usize) -> Result<(), StoreError> {
        let Some((start, used)) = self.window else { return Ok(()) };
        let used = used + i64::try_from(claimed).unwrap_or(i64::MAX);
        tx.execute(flow_sql::RATE_SET, &args! { job: job.name.as_str(), start: start, used: used })
            .await
            .map(|_| ())
    }
}

fn left(most: u32, used: i64) -> u32 {
    u32::try_from(i64::from(most) - used).unwrap_or(0)
}

/// Takes the first due items whose prefix has a free slot, with their positions.
pub(crate) async fn pick(
    tx: &mut Tx,
    job: &JobSpec,
    per_prefix: &PerPrefix,
    now: Timestamp,
    limit: u32,
) -> Result<BTreeMap<ItemId, Position>, StoreError> {
    let rows = tx.fetch(flow_sql::RUNNING_KEYS, &args! { job: job.name.as_str() }).await?;
    let mut running: Vec<String> = rows.iter().map(|row| row.text("item_key")).collect::<Result<_, _>>()?;
    let mut picked = Vec::new();
    for priority in [places::AHEAD, places::NEW] {
        while picked.len() < limit as usize {
            let room = limit - u32::try_from(picked.len()).unwrap_or(limit);
            let due = due(tx, job, per_prefix, (priority, now, room), &running, &picked).await?;
            if due.is_empty() {
                break;
            }
            let keys: Vec<&str> = running.iter().map(String::as_str).collect();
            let candidates: Vec<&str> = due.iter().map(|(_, key)| key.as_str()).collect();
            let admitted = per_prefix.admits(&keys, &candidates);
            let admitted: Vec<String> = admitted.into_iter().take(room as usize).map(str::to_owned).collect();
            let chosen = due.into_iter().filter(|(_, key)| admitted.contains(key)).map(|(due, _)| due);
            picked.extend(chosen);
            running.extend(admitted);
        }
    }
    take_picked(tx, &picked).await
}

/// Due items that may be picked, with their keys.
async fn due<'a>(
    tx: &mut Tx,
    job: &'a JobSpec,
    per_prefix: &PerPrefix,
    (priority, now, room): (i64, Timestamp, u32),
    running: &[String],
    picked: &[Due<'_>],
) -> Result<Vec<(Due<'a>, String)>, StoreError> {
    let keys: Vec<&str> = running.iter().map(String::as_str).collect();
    let full: Rows = per_prefix.full(&keys).into_iter().map(|prefix| row![prefix]).collect();
    let args = args! {
        job: job.name.as_str(),
        priority: priority,
        now: now,
        separator: per_prefix.separator.as_str(),
        taken_prefixes: full,
        picked: picked.iter().map(|due| row![due.item]).collect::<Rows>(),
        limit: room.saturating_mul(CANDIDATES),
    };
    let rows = tx.fetch(flow_sql::ITEMS_DUE, &args).await?;
    let due = |row: &Row| {
        let (item, at) = (row.parse("item_id")?, row.time("due_at_ms")?);
        Ok((Due { job: &job.name, priority, at, item }, row.text("item_key")?))
    };
    rows.iter().map(due).collect()
}

impl Items<'_> {
    /// Attempts that the job's rate still allows in the current window; `None` if it has no rate.
    pub async fn rate_left(self, job: &JobSpec, now: Timestamp) -> Result<Option<u32>, StoreError> {
        let Some(rate) = job.flow.rate else { return Ok(None) };
        let rows = self.store.db.fetch(flow_sql::RATE_GET, &args! { job: job.name.as_str() }).await?;
        let used = match rows.first() {
            Some(row) if row.int("window_start_ms")? == rate.window_start(now) => row.int("used")?,
            _ => 0,
        };
        Ok(Some(left(rate.attempts_max, used)))
    }

    /// Number of running attempts of a job, on all hosts.
    pub async fn running(self, job: &str) -> Result<u32, StoreError> {
        let rows = self.store.db.fetch(flow_sql::RUNNING_COUNT, &args! { job: job }).await?;
        rows.first().map_or(Ok(0), |row| row.count("items"))
    }
}
