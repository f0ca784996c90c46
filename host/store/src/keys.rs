//! How many keys a job keeps: without a bound one job could fill the database of all. To count them at each write would
//! cost more than the write, so they are counted seldom, and what is written in between is taken for new.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::JobName;
use domain::job::JobSpec;
use jiff::{SignedDuration, Timestamp};

use crate::db::args;
use crate::error::StoreError;
use crate::kv;
use crate::sql::events;
use crate::store::Store;

/// What other hosts write is heard of after this.
const COUNT_HOLDS: SignedDuration = SignedDuration::from_secs(60);
/// The same near the bound, where what was deleted is heard of sooner, too.
const NEAR_COUNT_HOLDS: SignedDuration = SignedDuration::from_secs(1);

#[derive(Default)]
pub(crate) struct Keys(Mutex<BTreeMap<JobName, Counted>>);

#[derive(Clone, Copy)]
struct Counted {
    keys: usize,
    at: Timestamp,
}

impl Counted {
    /// As many as one attempt may write.
    fn is_near(&self, job: &JobSpec) -> bool {
        self.keys.saturating_add(job.limits.kv_keys_per_page) >= job.limits.kv_keys
    }

    fn holds(&self, job: &JobSpec, now: Timestamp) -> bool {
        let holds = if self.is_near(job) { NEAR_COUNT_HOLDS } else { COUNT_HOLDS };
        now.duration_since(self.at).abs() <= holds
    }
}

impl Keys {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobName, Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Far from the bound it does not matter whether a key is new: it is taken for that.
    fn take_far(&self, job: &JobSpec, now: Timestamp) -> bool {
        let mut jobs = self.jobs();
        let Some(counted) = jobs.get_mut(&job.name) else { return false };
        let far = counted.holds(job, now) && !counted.is_near(job);
        counted.keys += usize::from(far);
        far
    }

    /// Whether there is room for a new key, which is then taken. None if they have to be counted first.
    fn take(&self, job: &JobSpec, now: Timestamp) -> Option<bool> {
        let mut jobs = self.jobs();
        let counted = jobs.get_mut(&job.name).filter(|counted| counted.holds(job, now))?;
        let room = counted.keys < job.limits.kv_keys;
        counted.keys += usize::from(room);
        Some(room)
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
        if self.keys.take_far(job, now)
            || kv::read(&self.db, job.name.as_str(), bucket, key, now).await?.is_some()
        {
            return Ok(true);
        }
        if let Some(room) = self.keys.take(job, now) {
            return Ok(room);
        }
        let keys = self.count_keys(job).await?;
        let room = keys < job.limits.kv_keys;
        let counted = Counted { keys: keys + usize::from(room), at: now };
        self.keys.jobs().insert(job.name.clone(), counted);
        Ok(room)
    }

    /// No further than to the bound. Those that have ended count until they are removed: an index is all that is read.
    async fn count_keys(&self, job: &JobSpec) -> Result<usize, StoreError> {
        let most = i64::try_from(job.limits.kv_keys).unwrap_or(i64::MAX);
        let rows = self.db.fetch(events::KV_COUNT, &args![job.name.as_str(), most]).await?;
        let count = rows.first().map(|row| row.int("kept")).transpose()?.unwrap_or_default();
        Ok(usize::try_from(count).unwrap_or_default())
    }
}
