//! Items and attempts as they are shown to people, and how many there are.

use std::collections::BTreeMap;

use domain::batch::InBatch;
use domain::failure::ErrorInfo;
use domain::id::{HostId, ItemId, JobName, RunId};
use domain::item::State;
use jiff::Timestamp;

use crate::db::{Row, args};
use crate::error::StoreError;
use crate::items::Items;
use crate::items::places::class;
use crate::items::sql as items_sql;

impl Items<'_> {
    pub async fn get(self, job: &str, key: &str) -> Result<Option<ItemView>, StoreError> {
        let rows = self.store.db.fetch(items_sql::ITEM_GET, &args! { job: job, key: key }).await?;
        rows.first().map(item_view).transpose()
    }

    /// Lists items of one state: due items in the order in which they are claimed, the others the newest first.
    pub async fn list(
        self,
        job: Option<&str>,
        state: Option<State>,
        limit: u32,
    ) -> Result<Vec<ItemView>, StoreError> {
        self.list_shown(job, state.map(Shown::State), limit).await
    }

    /// The same for a state as it is shown to people.
    pub async fn list_shown(
        self,
        job: Option<&str>,
        shown: Option<Shown>,
        limit: u32,
    ) -> Result<Vec<ItemView>, StoreError> {
        let state = match shown {
            None => return self.newest(job, None, limit).await,
            Some(Shown::State(state)) => state,
            Some(Shown::Pending) => return self.due(job, State::Scheduled, Some(0), limit).await,
            Some(Shown::Retrying) => return self.due(job, State::Scheduled, Some(1), limit).await,
        };
        let db = &self.store.db;
        let rows = match state {
            State::Scheduled | State::Awaiting => return self.due(job, state, None, limit).await,
            State::Resolved => return self.newest(job, Some(state), limit).await,
            State::Running => db.list(items_sql::ITEMS_RUNNING, &args! { job: job, limit: limit }).await?,
            State::ManualRequired | State::Abandoned => match job {
                Some(job) => {
                    let args = args! { job: job, state: state.as_str(), limit: limit };
                    db.list(items_sql::ITEMS_PARKED_OF_JOB, &args).await?
                }
                None => {
                    db.list(items_sql::ITEMS_PARKED, &args! { state: state.as_str(), limit: limit }).await?
                }
            },
        };
        rows.iter().map(item_view).collect()
    }

    async fn newest(
        self,
        job: Option<&str>,
        state: Option<State>,
        limit: u32,
    ) -> Result<Vec<ItemView>, StoreError> {
        let state = state.map(State::as_str);
        let db = &self.store.db;
        let rows = match job {
            Some(job) => {
                let args = args! { job: job, state: state, limit: limit };
                db.list(items_sql::ITEMS_NEWEST_OF_JOB, &args).await?
            }
            None => db.list(items_sql::ITEMS_NEWEST, &args! { state: state, limit: limit }).await?,
        };
        rows.iter().map(item_view).collect()
    }

    /// `attempted` selects pending (0) or retrying (1) items.
    async fn due(
        self,
        job: Option<&str>,
        state: State,
        attempted: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ItemView>, StoreError> {
        let jobs = match job {
            Some(job) => vec![job.to_owned()],
            // The key of `due` begins with the job.
            None => self.store.jobs().names().await?,
        };
        let mut items = Vec::new();
        for job in jobs {
            let args = args! { job: job, state: state.as_str(), attempted: attempted, limit: limit };
            let rows = self.store.db.list(items_sql::ITEMS_DUE_OF_JOB, &args).await?;
            items.extend(rows.iter().map(item_view).collect::<Result<Vec<_>, _>>()?);
        }
        items.sort_by_key(|item| (item.due_at, item.id));
        items.truncate(limit as usize);
        Ok(items)
    }

    pub async fn attempts(self, job: &str, key: &str, limit: u32) -> Result<Vec<AttemptView>, StoreError> {
        let args = args! { job: job, key: key, limit: limit };
        self.store.db.list(items_sql::ATTEMPTS_OF_ITEM, &args).await?.iter().map(attempt_view).collect()
    }

    /// The number of items of each job and displayed state.
    pub async fn counts(self) -> Result<Vec<ItemCount>, StoreError> {
        // One snapshot: an item must not count twice because it was claimed meanwhile.
        let mut tx = self.store.db.begin_read().await?;
        let counts = tx.fetch(items_sql::ITEM_COUNTS, &[]).await?;
        let running = tx.fetch(items_sql::RUNNING_COUNTS, &[]).await?;
        tx.rollback().await?;
        let mut sums: BTreeMap<(JobName, String), i64> = BTreeMap::new();
        for row in &counts {
            *sums.entry((row.parse("job")?, row.text("class")?)).or_default() += row.int("items")?;
        }
        for row in &running {
            let (job, items): (JobName, i64) = (row.parse("job")?, row.int("items")?);
            let class = class(row.parse("state")?, row.count("attempts_min")?);
            *sums.entry((job.clone(), class.to_owned())).or_default() -= items;
            *sums.entry((job, State::Running.as_str().to_owned())).or_default() += items;
        }
        let some = sums.into_iter().filter(|(_, items)| *items > 0);
        Ok(some
            .map(|((job, state), items)| ItemCount {
                job,
                state: shown_name(&state),
                items: u32::try_from(items).unwrap_or(u32::MAX),
            })
            .collect())
    }
}

/// The displayed states.
fn shown_name(class: &str) -> &'static str {
    let states = State::ALL.into_iter().map(State::as_str);
    states.chain(["pending", "retrying"]).find(|known| *known == class).unwrap_or("unknown")
}

pub(crate) fn in_batch(row: &Row) -> Result<Option<InBatch>, StoreError> {
    let Some(batch) = row.opt_text("batch_id")? else { return Ok(None) };
    let max_attempts = match row.opt_int("max_attempts")? {
        Some(_) => Some(row.count("max_attempts")?),
        None => None,
    };
    Ok(Some(InBatch {
        batch,
        index: row.count("batch_index")?,
        operation: row.text("operation")?,
        created_by: row.text("created_by")?,
        max_attempts,
    }))
}

pub(crate) fn error_of(row: &Row) -> Result<Option<ErrorInfo>, StoreError> {
    let Some(code) = row.opt_text("error_code")? else { return Ok(None) };
    Ok(Some(ErrorInfo { code, message: row.opt_text("error_message")?.unwrap_or_default() }))
}

/// An item as it is shown to people.
#[derive(Debug, Clone)]
pub struct ItemView {
    pub id: ItemId,
    pub job: JobName,
    pub key: String,
    pub payload: String,
    pub state: State,
    /// `pending`, `retrying` or the state's own name.
    pub shown: &'static str,
    pub attempts: u32,
    pub crashes: u32,
    pub epoch: i64,
    pub due_at: Timestamp,
    pub run_id: Option<RunId>,
    pub host: Option<HostId>,
    pub note: Option<String>,
    pub error: Option<ErrorInfo>,
    pub in_batch: Option<InBatch>,
    pub resolved_at: Option<Timestamp>,
    /// The person who resolved it, if a person did.
    pub resolved_by: Option<String>,
    /// Increases with each change.
    pub version: i64,
    pub first_attempt_at: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct AttemptView {
    pub epoch: i64,
    pub number: u32,
    pub verdict: String,
    pub error: Option<ErrorInfo>,
    pub note: Option<String>,
    pub log: String,
    pub host: HostId,
    /// The plugin version that ran; `None` if its host was lost before it reported that.
    pub digest: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// Time in the sandbox, in microseconds.
    pub wall_us: i64,
    /// The part of it in the guest's own code.
    pub cpu_us: i64,
    pub memory_bytes_max: i64,
    pub host_calls: i64,
    pub host_bytes: i64,
}

/// A state to filter items by, or one of the two that `scheduled` is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    State(State),
    Pending,
    Retrying,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemCount {
    pub job: JobName,
    pub state: &'static str,
    pub items: u32,
}

pub(crate) fn item_view(row: &Row) -> Result<ItemView, StoreError> {
    let host = row.opt_parse("host_id")?;
    let attempts = row.count("attempts")?;
    // The stored state of a running item is its state before the claim.
    let state = if host.is_some() { State::Running } else { row.parse("state")? };
    Ok(ItemView {
        id: row.parse("id")?,
        job: row.parse("job")?,
        key: row.text("item_key")?,
        payload: row.text("payload")?,
        state,
        shown: class(state, attempts),
        attempts,
        crashes: row.count("crashes")?,
        epoch: row.int("epoch")?,
        due_at: row.time("due_at_ms")?,
        run_id: row.opt_parse("run_id")?,
        host,
        note: row.opt_text("note")?,
        error: error_of(row)?,
        in_batch: in_batch(row)?,
        resolved_at: row.opt_time("resolved_at_ms")?,
        resolved_by: row.opt_text("resolved_by")?,
        version: row.int("version")?,
        first_attempt_at: row.opt_time("first_attempt_at_ms")?,
        last_attempt_at: row.opt_time("last_attempt_at_ms")?,
        created_at: row.time("created_at_ms")?,
        updated_at: row.time("updated_at_ms")?,
    })
}

fn attempt_view(row: &Row) -> Result<AttemptView, StoreError> {
    Ok(AttemptView {
        epoch: row.int("epoch")?,
        number: row.count("number")?,
        verdict: row.text("verdict")?,
        error: error_of(row)?,
        note: row.opt_text("note")?,
        log: row.text("log")?,
        host: row.parse("host_id")?,
        digest: digest_of(row)?,
        started_at: row.time("started_at_ms")?,
        ended_at: row.time("ended_at_ms")?,
        wall_us: row.int("wall_us")?,
        cpu_us: row.int("cpu_us")?,
        memory_bytes_max: row.int("memory_bytes_max")?,
        host_calls: row.int("host_calls")?,
        host_bytes: row.int("host_bytes")?,
    })
}

/// The digest of a plugin version, as hexadecimal digits.
pub(crate) fn digest_of(row: &Row) -> Result<Option<String>, StoreError> {
    let bytes = row.opt_blob("digest")?;
    Ok(bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}
