//! Claims: a host takes due items for the time of a lease, and renews the leases of its claims.

pub(crate) mod floors;
pub(crate) mod held_claims;
pub(crate) mod sql;

use std::collections::{BTreeMap, BTreeSet};

use domain::id::{AttemptId, HostId, Incarnation, ItemId, JobName};
use domain::item::Claimed;
use domain::job::JobSpec;
use jiff::{SignedDuration, Timestamp};

use crate::db::{Decoded, Row, Rows, Tx, WritePriority, args, row};
use crate::error::StoreError;
use crate::hosts::{self, Renewal};
use crate::items::claims::floors::{Floor, GROUND};
use crate::items::claims::sql as claims_sql;
use crate::items::flow::{Allowed, pick};
use crate::items::places::{self, Due};
use crate::items::{Items, error_of, in_batch};
use crate::runs::sql as runs_sql;

/// The host that claims, and the end of its lease.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    pub host: HostId,
    pub incarnation: Incarnation,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// A lease that ends `ttl` after `now`.
pub fn lease(host: HostId, incarnation: Incarnation, now: Timestamp, ttl: SignedDuration) -> Lease {
    Lease { host, incarnation, now, until: now.checked_add(ttl).unwrap_or(Timestamp::MAX) }
}

/// Maximum items of one claim, so that its row stays small.
const CLAIM_ITEMS_MAX: u32 = 1_000;

/// The order of claimed items: priority, due time, id.
pub(crate) type Position = (i64, i64, ItemId);

impl Items<'_> {
    /// Claims up to `limit` due items of `job`; fewer if its limits across all hosts allow fewer now.
    pub async fn claim(self, job: &JobSpec, lease: Lease, limit: u32) -> Result<Vec<Claimed>, StoreError> {
        let mut tx = self.store.db.begin_as(WritePriority::Work).await?;
        let allowed = Allowed::of(&mut tx, job, lease.now, limit.min(CLAIM_ITEMS_MAX)).await?;
        let taken = match &job.flow.per_prefix {
            _ if allowed.limit == 0 => BTreeMap::new(),
            Some(per_prefix) => pick(&mut tx, job, per_prefix, lease.now, allowed.limit).await?,
            None => self.take_due(&mut tx, &job.name, lease.now, allowed.limit).await?,
        };
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let claim = AttemptId::new(lease.now);
        // Decoded before the commit: no task would work on a claimed item that cannot be decoded.
        let claimed = read_taken(&mut tx, job, claim, &lease, &taken).await?;
        add(&mut tx, &job.name, claim, &lease, &claimed).await?;
        allowed.spent(&mut tx, job, claimed.len()).await?;
        tx.commit().await?;
        self.store.held_claims.add(lease.host, &job.name, claim);
        Ok(claimed.into_iter().map(|item| item.remembered(&job.retry)).collect())
    }

    async fn take_due(
        self,
        tx: &mut Tx,
        job: &JobName,
        now: Timestamp,
        limit: u32,
    ) -> Result<BTreeMap<ItemId, Position>, StoreError> {
        let floor = self.store.floors.of(job);
        let mut taken = take_above(tx, floor, job, now, limit).await?;
        let left = limit.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
        if left > 0 && floor != GROUND {
            taken.extend(take_above(tx, GROUND, job, now, left).await?);
        }
        self.store.floors.claimed(job, floor, taken.values());
        Ok(taken)
    }

    /// When the next waiting item of `job` is due, if there is one.
    pub async fn next_due(self, job: &JobName) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.store.db.fetch(claims_sql::NEXT_DUE, &args! { job: job.as_str() }).await?;
        rows.first().map_or(Ok(None), |row| row.opt_time("due_at_ms"))
    }

    /// The same of each job with open items.
    pub async fn next_due_by_job(self) -> Result<Decoded<BTreeMap<JobName, Timestamp>>, StoreError> {
        let rows = self.store.db.fetch(claims_sql::NEXT_DUE_BY_JOB, &[]).await?;
        Ok(rows.iter().map(|row| Ok((row.parse("job")?, row.time("due_at_ms")?))).collect())
    }

    /// Renews every lease that this process took: one statement for its claims, one for its discoveries.
    pub async fn renew(self, lease: Lease) -> Result<Renewal, StoreError> {
        let taken = self.store.held_claims.of(lease.host);
        let mut tx = self.store.db.begin_as(WritePriority::Renewal).await?;
        let (host, incarnation) = (lease.host.to_string(), lease.incarnation.to_string());
        let held: Rows = taken.iter().map(|claim| row![*claim]).collect();
        let mut rows = Vec::new();
        if !held.is_empty() {
            let args = args! {
                host: host.as_str(),
                incarnation: incarnation,
                until: lease.until,
                held: held.clone(),
            };
            rows = tx.fetch(claims_sql::CLAIMS_RENEW, &args).await?;
            let args = args! { host: host, until: lease.until, held: held };
            rows.extend(tx.fetch(runs_sql::RUNS_RENEW, &args).await?);
        }
        // Last, as in `Store::correct_times`: transactions that lock rows in the same order do not deadlock.
        let renewal = hosts::beat(&mut tx, lease.host, lease.incarnation, lease.now).await?;
        if let Renewal::Displaced(_) = renewal {
            return Ok(renewal);
        }
        tx.commit().await?;
        let held: Result<BTreeSet<AttemptId>, StoreError> = rows.iter().map(|row| row.parse("id")).collect();
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
}

async fn take_above(
    tx: &mut Tx,
    floor: Floor,
    job: &JobName,
    now: Timestamp,
    limit: u32,
) -> Result<BTreeMap<ItemId, Position>, StoreError> {
    let (floor_at, floor_item) = floor;
    let args = args! {
        job: job.as_str(), now: now, limit: limit, floor_at: floor_at, floor_item: floor_item,
    };
    tx.fetch(claims_sql::DUE_TAKE, &args).await?.iter().map(position).collect()
}

fn position(row: &Row) -> Result<(ItemId, Position), StoreError> {
    let id: ItemId = row.parse("item_id")?;
    Ok((id, (row.int("priority")?, row.int("due_at_ms")?, id)))
}

/// Takes the picked items, except those that another host claimed meanwhile.
pub(crate) async fn take_picked(
    tx: &mut Tx,
    picked: &[Due<'_>],
) -> Result<BTreeMap<ItemId, Position>, StoreError> {
    let taken: BTreeSet<ItemId> = places::take(tx, picked).await?.into_iter().collect();
    let position = |due: &Due<'_>| (due.item, (due.priority, due.at.as_millisecond(), due.item));
    Ok(picked.iter().filter(|due| taken.contains(&due.item)).map(position).collect())
}

/// Reads the taken items in the order of their positions.
async fn read_taken(
    tx: &mut Tx,
    job: &JobSpec,
    claim: AttemptId,
    lease: &Lease,
    positions: &BTreeMap<ItemId, Position>,
) -> Result<Vec<Claimed>, StoreError> {
    let taken: Rows = positions.keys().map(|id| row![*id]).collect();
    let rows = tx.fetch(claims_sql::ITEMS_TAKEN, &args! { taken: taken }).await?;
    let mut items: Vec<Claimed> =
        rows.iter().map(|row| claimed(row, &job.name, claim, lease.now)).collect::<Result<_, _>>()?;
    items.sort_by_key(|item| positions.get(&item.id).copied());
    Ok(items)
}

async fn add(
    tx: &mut Tx,
    job: &JobName,
    claim: AttemptId,
    lease: &Lease,
    items: &[Claimed],
) -> Result<(), StoreError> {
    let taken: Rows = items.iter().map(|item| row![item.id, item.epoch]).collect();
    let args = args! {
        claim: claim,
        now: lease.now,
        until: lease.until,
        job: job.as_str(),
        host: lease.host.to_string(),
        incarnation: lease.incarnation.to_string(),
        taken: taken,
    };
    tx.execute(claims_sql::CLAIM_ADD, &args).await.map(|_| ())
}

fn claimed(row: &Row, job: &JobName, claim: AttemptId, now: Timestamp) -> Result<Claimed, StoreError> {
    Ok(Claimed {
        id: row.parse("id")?,
        job: job.clone(),
        key: row.text("item_key")?,
        payload: row.text("payload")?,
        attempts: row.count("attempts")?,
        deferrals: row.count("deferrals")?,
        series: row.count("series")?,
        epoch: row.int("epoch")?,
        attempt_id: claim,
        run_id: row.opt_parse("run_id")?,
        found_by: row.opt_parse("seen_run_id")?,
        first_attempt_at: row.opt_time("first_attempt_at_ms")?,
        last_attempt_at: row.opt_time("last_attempt_at_ms")?,
        last_error: error_of(row)?,
        in_batch: in_batch(row)?,
        claimed_at: now,
    })
}
