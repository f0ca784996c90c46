//! Items: claims, lease renewal, manual decisions and views.

pub mod batches;
pub mod enqueue;
pub mod flow;
pub(crate) mod held_claims;
pub mod recovery;
pub(crate) mod sql;

use std::collections::BTreeSet;

use domain::batch::InBatch;
use domain::failure::ErrorInfo;
use domain::id::{AttemptId, HostId, Incarnation, ItemId, JobName, RunId};
use domain::item::{Claimed, Event, ManualDecision, State, next};
use domain::job::JobSpec;
use jiff::{SignedDuration, Timestamp};

use crate::audit::{Entry, write};
use crate::db::{Row, WritePriority, args};
use crate::error::StoreError;
use crate::hosts::{self, Renewal};
use crate::items::flow::{Allowed, pick};
use crate::items::sql as items_sql;
use crate::runs::sql as runs_sql;
use crate::runs::{Ended, count_ended};
use crate::store::Store;

/// The host that claims, and the end of its lease.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    pub host: HostId,
    pub incarnation: Incarnation,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// A person's decision about an item.
#[derive(Debug, Clone, Copy)]
pub struct DecisionRequest<'a> {
    pub decision: ManualDecision,
    pub notes: Option<&'a str>,
    pub actor: &'a str,
    /// Refused if the item changed since this version; `None` skips this check.
    pub version: Option<i64>,
}

impl<'a> DecisionRequest<'a> {
    pub fn new(decision: ManualDecision, notes: Option<&'a str>, actor: &'a str) -> DecisionRequest<'a> {
        DecisionRequest { decision, notes, actor, version: None }
    }
}

/// All items: claims, leases, decisions and views.
#[derive(Clone, Copy)]
pub struct Items<'a> {
    pub(crate) store: &'a Store,
}

impl Items<'_> {
    /// Claims up to `limit` due items of `job`; fewer if its limits across all hosts allow fewer now.
    pub async fn claim(self, job: &JobSpec, lease: Lease, limit: u32) -> Result<Vec<Claimed>, StoreError> {
        let mut tx = self.store.db.begin_as(WritePriority::Work).await?;
        let allowed = Allowed::of(&mut tx, job, lease.now, limit).await?;
        let attempt = AttemptId::new(lease.now);
        let mut holder = args![attempt.to_string(), lease.host.to_string(), lease.until, lease.now].to_vec();
        let mut rows = if let Some(per_prefix) = &job.flow.per_prefix {
            holder.extend(args![pick(&mut tx, job, per_prefix, lease.now, allowed.limit).await?]);
            tx.fetch(items_sql::ITEM_CLAIM_PICKED, &holder).await?
        } else {
            holder.extend(args![job.name.as_str(), allowed.limit]);
            tx.fetch(items_sql::ITEM_CLAIM, &holder).await?
        };
        allowed.spent(&mut tx, job, rows.len()).await?;
        // RETURNING does not guarantee an order.
        let order = |row: &Row| Some((row.int("priority").ok()?, row.int("due_at_ms").ok()?));
        rows.sort_by_key(order);
        let remembered = |row| Ok(claimed(row)?.remembered(&job.retry));
        // Decoded before the commit: no task would work on a claimed row that cannot be decoded.
        let claimed: Vec<Claimed> = rows.iter().map(remembered).collect::<Result<_, StoreError>>()?;
        tx.commit().await?;
        if !claimed.is_empty() {
            self.store.held_claims.add(lease.host, &job.name, attempt);
        }
        Ok(claimed)
    }

    /// When the next waiting item of `job` is due, if there is one.
    pub async fn next_due(self, job: &JobName) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.store.db.fetch(items_sql::ITEM_NEXT_DUE, &args![job.as_str()]).await?;
        rows.first().map_or(Ok(None), |row| row.opt_time("due_at_ms"))
    }

    /// Prolongs every lease that this process took: one statement for its items, one for its discoveries.
    pub async fn renew(self, lease: Lease) -> Result<Renewal, StoreError> {
        let taken = self.store.held_claims.of(lease.host);
        let ids = serde_json::to_string(&taken).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let args = args![lease.host.to_string(), lease.until, ids];
        let mut tx = self.store.db.begin_as(WritePriority::Renewal).await?;
        let mut rows = tx.fetch(items_sql::ITEMS_RENEW, &args).await?;
        rows.extend(tx.fetch(runs_sql::RUNS_RENEW, &args).await?);
        // Last, as in `Store::correct_times`: transactions that lock rows in the same order do not deadlock.
        let renewal = hosts::beat(&mut tx, lease.host, lease.incarnation, lease.now).await?;
        if let Renewal::Displaced(_) = renewal {
            return Ok(renewal);
        }
        tx.commit().await?;
        let held: Result<BTreeSet<String>, StoreError> =
            rows.iter().map(|row| row.text("attempt_id")).collect();
        self.store.held_claims.keep(&taken, &held?);
        Ok(renewal)
    }

    /// Stops renewing the claim `attempt`, because no task works on it any more. Its lease expires, and
    /// recovery finds the items that were not ended.
    pub fn let_go(self, attempt: AttemptId) {
        self.store.held_claims.let_go(attempt);
    }

    /// Stops renewing the leases of these jobs' attempts, which were stopped, so that their items are
    /// recovered. Attempts of other jobs continue, and this process does not treat them as lost. Returns
    /// whether there were any.
    pub fn let_lapse(self, host: HostId, jobs: impl Fn(&JobName) -> bool) -> bool {
        self.store.held_claims.let_lapse(host, jobs)
    }

    /// Applies a person's decision to one item.
    pub async fn decide(
        self,
        job: &str,
        key: &str,
        decided: DecisionRequest<'_>,
        now: Timestamp,
    ) -> Result<ItemView, StoreError> {
        let DecisionRequest { decision, notes, actor, version: looked_at } = decided;
        let mut tx = self.store.db.begin().await?;
        let rows = tx.fetch(items_sql::ITEM_GET, &args![job, key]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("item {key:?} of job {job:?}")))?;
        let before = item_view(row)?;
        let event = Event::Manual(decision);
        let state = next(before.state, event).map_err(|e| StoreError::Conflict(e.to_string()))?;
        let restarts = i64::from(decision == ManualDecision::Retry && before.state.is_end());
        let version = row.int("version")?;
        if looked_at.is_some_and(|looked_at| looked_at != version) {
            return Err(StoreError::Conflict(format!(
                "item {key:?} is at version {version} now: read it again"
            )));
        }
        let id = before.id.to_string();
        let args = args![id.as_str(), version, state.as_str(), now, notes, restarts, actor];
        if tx.execute(items_sql::ITEM_DECIDE, &args).await? != 1 {
            return Err(StoreError::Conflict(format!("item {key:?} changed meanwhile: read it again")));
        }
        if let Some(run) = before.run_id {
            count_ended(&mut tx, &run.to_string(), Ended { attempts: 1, failed: 0, at: now }).await?;
        }
        let detail = format!("{} -> {state}; {}", before.state, notes.unwrap_or("no notes"));
        let entry = Entry { actor, action: event.as_str(), job: Some(job), subject: key, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        self.get(job, key).await?.ok_or_else(|| StoreError::NotFound(format!("item {key:?}")))
    }

    pub async fn get(self, job: &str, key: &str) -> Result<Option<ItemView>, StoreError> {
        let rows = self.store.db.fetch(items_sql::ITEM_GET, &args![job, key]).await?;
        rows.first().map(item_view).transpose()
    }

    /// Lists items, the most recently changed first.
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
        let (state, attempted) = match shown {
            None => (None, None),
            Some(Shown::State(state)) => (Some(state), None),
            Some(Shown::Pending) => (Some(State::Waiting), Some(0_i64)),
            Some(Shown::Retrying) => (Some(State::Waiting), Some(1)),
        };
        let args = args![job, state.map(State::as_str), limit, attempted];
        self.store.db.list(items_sql::ITEMS_LIST, &args).await?.iter().map(item_view).collect()
    }

    pub async fn attempts(self, job: &str, key: &str, limit: u32) -> Result<Vec<AttemptView>, StoreError> {
        let rows = self.store.db.list(items_sql::ATTEMPTS_OF_ITEM, &args![job, key, limit]).await?;
        rows.iter().map(attempt_view).collect()
    }

    pub async fn counts(self) -> Result<Vec<ItemCount>, StoreError> {
        let count = |row: &Row| {
            let state: State = row.parse("state")?;
            let job = row.parse("job")?;
            let state = shown(state, row.count("attempts_min")?);
            Ok(ItemCount { job, state, items: row.count("items")? })
        };
        let rows = self.store.db.fetch(items_sql::ITEM_COUNTS, &[]).await?;
        let counts: Result<Vec<ItemCount>, StoreError> = rows.iter().map(count).collect();
        // Only waiting items differ by their number of attempts.
        let mut sums: Vec<ItemCount> = Vec::new();
        for count in counts? {
            match sums.iter_mut().find(|sum| sum.job == count.job && sum.state == count.state) {
                Some(sum) => sum.items += count.items,
                None => sums.push(count),
            }
        }
        sums.sort_by(|a, b| (&a.job, a.state).cmp(&(&b.job, b.state)));
        Ok(sums)
    }
}

fn claimed(row: &Row) -> Result<Claimed, StoreError> {
    Ok(Claimed {
        id: row.parse("id")?,
        job: row.parse("job")?,
        key: row.text("item_key")?,
        payload: row.text("payload")?,
        attempts: row.count("attempts")?,
        deferrals: row.count("deferrals")?,
        series: row.count("series")?,
        epoch: row.int("epoch")?,
        attempt_id: row.parse("attempt_id")?,
        run_id: row.opt_parse("run_id")?,
        found_by: row.opt_parse("seen_run_id")?,
        first_attempt_at: row.opt_time("first_attempt_at_ms")?,
        last_attempt_at: row.opt_time("last_attempt_at_ms")?,
        last_error: error_of(row)?,
        in_batch: in_batch(row)?,
        claimed_at: row.time("claimed_at_ms")?,
    })
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

/// A state to filter items by: a stored state, or one of the two that `waiting` is shown as.
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

fn shown(state: State, attempts: u32) -> &'static str {
    match state {
        State::Waiting if attempts == 0 => "pending",
        State::Waiting => "retrying",
        other => other.as_str(),
    }
}

pub(crate) fn item_view(row: &Row) -> Result<ItemView, StoreError> {
    let state: State = row.parse("state")?;
    let attempts = row.count("attempts")?;
    Ok(ItemView {
        id: row.parse("id")?,
        job: row.parse("job")?,
        key: row.text("item_key")?,
        payload: row.text("payload")?,
        state,
        shown: shown(state, attempts),
        attempts,
        // Crashes are counted at the claim, but the running attempt has not crashed.
        crashes: row.count("crashes")?.saturating_sub(u32::from(state == State::Running)),
        epoch: row.int("epoch")?,
        due_at: row.time("due_at_ms")?,
        run_id: row.opt_parse("run_id")?,
        host: row.opt_parse("host_id")?,
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
        digest: row.opt_text("digest")?,
        started_at: row.time("started_at_ms")?,
        ended_at: row.time("ended_at_ms")?,
        wall_us: row.int("wall_us")?,
        cpu_us: row.int("cpu_us")?,
        memory_bytes_max: row.int("memory_bytes_max")?,
        host_calls: row.int("host_calls")?,
        host_bytes: row.int("host_bytes")?,
    })
}

/// A lease that ends `ttl` after `now`.
pub fn lease(host: HostId, incarnation: Incarnation, now: Timestamp, ttl: SignedDuration) -> Lease {
    Lease { host, incarnation, now, until: now.checked_add(ttl).unwrap_or(Timestamp::MAX) }
}
