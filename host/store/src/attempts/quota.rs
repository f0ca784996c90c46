//! Limits on the data that a job may leave in the store: keys, and open items that jobs added. Without them,
//! one job could fill the database of all. Counting on every write is too expensive, so counts are cached for
//! up to a minute, and writes in between are assumed to add new rows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::JobName;
use domain::job::JobSpec;
use jiff::{SignedDuration, Timestamp};

use crate::attempts::kv;
use crate::db::args;
use crate::db::sql::Sql;
use crate::error::StoreError;
use crate::events::sql as events_sql;
use crate::items::sql as items_sql;
use crate::store::Store;

/// How long a count is cached. Writes of other hosts become visible after this.
const COUNT_HOLDS: SignedDuration = SignedDuration::from_secs(60);
/// The same near the limit, so that deletions become visible sooner, too.
const NEAR_COUNT_HOLDS: SignedDuration = SignedDuration::from_secs(1);

#[derive(Default)]
pub(crate) struct RowQuota {
    keys: Counts,
    items: Counts,
}

#[derive(Default)]
struct Counts(Mutex<BTreeMap<JobName, Counted>>);

struct Counted {
    number: usize,
    at: Timestamp,
}

/// The limit of one kind for one job.
#[derive(Clone, Copy)]
struct Bound {
    most: usize,
    /// Maximum that one attempt may write. If the room left is smaller than this, the limit is near.
    attempt: usize,
}

impl Counted {
    fn is_near(&self, bound: Bound) -> bool {
        self.number.saturating_add(bound.attempt) >= bound.most
    }

    fn holds(&self, bound: Bound, now: Timestamp) -> bool {
        let holds = if self.is_near(bound) { NEAR_COUNT_HOLDS } else { COUNT_HOLDS };
        now.duration_since(self.at).abs() <= holds
    }
}

impl Counts {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobName, Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one if the limit is far away. It is assumed to be new, because far from the limit that does not
    /// matter.
    fn take_far(&self, job: &JobName, bound: Bound, now: Timestamp) -> bool {
        let mut jobs = self.jobs();
        let Some(counted) = jobs.get_mut(job) else { return false };
        let far = counted.holds(bound, now) && !counted.is_near(bound);
        counted.number += usize::from(far);
        far
    }

    /// Takes one if there is room. Returns `None` if they have to be counted first.
    fn take(&self, job: &JobName, bound: Bound, now: Timestamp) -> Option<bool> {
        let mut jobs = self.jobs();
        let counted = jobs.get_mut(job).filter(|counted| counted.holds(bound, now))?;
        let room = counted.number < bound.most;
        counted.number += usize::from(room);
        Some(room)
    }

    /// The same with a fresh count.
    fn take_of(&self, job: &JobName, bound: Bound, number: usize, now: Timestamp) -> bool {
        let room = number < bound.most;
        self.jobs().insert(job.clone(), Counted { number: number + usize::from(room), at: now });
        room
    }
}

impl Store {
    /// Whether the job may set this key: it has fewer keys than allowed, or this key exists already.
    pub(crate) async fn may_keep(
        &self,
        job: &JobSpec,
        bucket: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let bound = Bound { most: job.limits.kv_keys, attempt: job.limits.kv_keys_per_page };
        if self.quota.keys.take_far(&job.name, bound, now) {
            return Ok(true);
        }
        let kept = kv::read(&self.db, job.name.as_str(), bucket, key, now).await?;
        Ok(kept.is_some() || self.take(&self.quota.keys, events_sql::KV_COUNT, &job.name, bound, now).await?)
    }

    /// Whether `job` may add an item to job `to` (which may be itself): `to` has fewer open items than
    /// allowed.
    pub(crate) async fn may_add(
        &self,
        job: &JobSpec,
        to: &JobName,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let bound = Bound { most: job.limits.items_open, attempt: job.limits.items };
        self.take(&self.quota.items, items_sql::ITEMS_OPEN_COUNT, to, bound, now).await
    }

    async fn take(
        &self,
        counts: &Counts,
        count: Sql,
        job: &JobName,
        bound: Bound,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if let Some(room) = counts.take(job, bound, now) {
            return Ok(room);
        }
        // Counts no further than to the limit. Expired keys count until they are removed, so that the count
        // reads only an index.
        let most = i64::try_from(bound.most).unwrap_or(i64::MAX);
        let rows = self.db.fetch(count, &args! { job: job.as_str(), limit: most }).await?;
        let number = rows.first().map(|row| row.int("number")).transpose()?.unwrap_or_default();
        Ok(counts.take_of(job, bound, usize::try_from(number).unwrap_or_default(), now))
    }
}
