//! How much a job may leave in the store: keys, and open items that jobs added. Without a bound one job could fill the
//! database of all. To count at each write would cost more than the write, so it is done seldom, and what is written in
//! between is taken for new.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::JobName;
use domain::job::JobSpec;
use jiff::{SignedDuration, Timestamp};

use crate::db::args;
use crate::error::StoreError;
use crate::kv;
use crate::sql::{Sql, events, items};
use crate::store::Store;

/// What other hosts write is heard of after this.
const COUNT_HOLDS: SignedDuration = SignedDuration::from_secs(60);
/// The same near the bound, where what was deleted is heard of sooner, too.
const NEAR_COUNT_HOLDS: SignedDuration = SignedDuration::from_secs(1);

#[derive(Default)]
pub(crate) struct Room {
    keys: Counts,
    items: Counts,
}

#[derive(Default)]
struct Counts(Mutex<BTreeMap<JobName, Counted>>);

struct Counted {
    number: usize,
    at: Timestamp,
}

/// Of one kind, for one job.
#[derive(Clone, Copy)]
struct Bound {
    most: usize,
    /// As many as one attempt may write: the bound is near when no more is left.
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

    /// Far from the bound it does not matter whether one more is new: it is taken for that.
    fn take_far(&self, job: &JobName, bound: Bound, now: Timestamp) -> bool {
        let mut jobs = self.jobs();
        let Some(counted) = jobs.get_mut(job) else { return false };
        let far = counted.holds(bound, now) && !counted.is_near(bound);
        counted.number += usize::from(far);
        far
    }

    /// Whether there is room for a new one, which is then taken. None if they have to be counted first.
    fn take(&self, job: &JobName, bound: Bound, now: Timestamp) -> Option<bool> {
        let mut jobs = self.jobs();
        let counted = jobs.get_mut(job).filter(|counted| counted.holds(bound, now))?;
        let room = counted.number < bound.most;
        counted.number += usize::from(room);
        Some(room)
    }

    /// The same, once it was counted.
    fn take_of(&self, job: &JobName, bound: Bound, number: usize, now: Timestamp) -> bool {
        let room = number < bound.most;
        self.jobs().insert(job.clone(), Counted { number: number + usize::from(room), at: now });
        room
    }
}

impl Store {
    /// Whether the job may set this key: it keeps fewer than it may, or it keeps this one already.
    pub(crate) async fn may_keep(
        &self,
        job: &JobSpec,
        bucket: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let bound = Bound { most: job.limits.kv_keys, attempt: job.limits.kv_keys_per_page };
        if self.room.keys.take_far(&job.name, bound, now) {
            return Ok(true);
        }
        let kept = kv::read(&self.db, job.name.as_str(), bucket, key, now).await?;
        Ok(kept.is_some() || self.take(&self.room.keys, events::KV_COUNT, &job.name, bound, now).await?)
    }

    /// Whether this job may add an item to the other, or to itself: fewer are open there than it may have.
    pub(crate) async fn may_add(
        &self,
        job: &JobSpec,
        to: &JobName,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let bound = Bound { most: job.limits.items_open, attempt: job.limits.items };
        self.take(&self.room.items, items::ITEMS_OPEN_COUNT, to, bound, now).await
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
        // No further than to the bound. Keys that have ended count until they are removed: an index is all that is read.
        let most = i64::try_from(bound.most).unwrap_or(i64::MAX);
        let rows = self.db.fetch(count, &args![job.as_str(), most]).await?;
        let number = rows.first().map(|row| row.int("number")).transpose()?.unwrap_or_default();
        Ok(counts.take_of(job, bound, usize::try_from(number).unwrap_or_default(), now))
    }
}
