//! How many keys a job keeps: without a bound one job could fill the database of all. To count them at each write would
//! cost more than the write, so they are counted seldom, and what is written in between is taken for new.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

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
/// The same where there is no room: what was deleted, and what ended, is heard of sooner.
const FULL_HOLDS: SignedDuration = SignedDuration::from_secs(1);

#[derive(Default)]
pub(crate) struct Keys(Mutex<BTreeMap<JobName, Counted>>);

#[derive(Clone, Copy)]
struct Counted {
    keys: usize,
    at: Timestamp,
}

impl Keys {
    /// Whether there is room for one more, which is then taken. None if they have to be counted first.
    fn take(&self, job: &JobSpec, now: Timestamp) -> Option<bool> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = jobs.get_mut(&job.name)?;
        let room = counted.keys < job.limits.kv_keys;
        let holds = if room { COUNT_HOLDS } else { FULL_HOLDS };
        if now.duration_since(counted.at).abs() > holds {
            return None;
        }
        counted.keys += usize::from(room);
        Some(room)
    }

    fn note(&self, job: &JobSpec, keys: usize, at: Timestamp) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(job.name.clone(), Counted { keys, at });
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
        let room = match self.keys.take(job, now) {
            Some(room) => room,
            None => {
                self.keys.note(job, self.count_keys(job, now).await?, now);
                self.keys.take(job, now).unwrap_or_default()
            }
        };
        Ok(room || kv::read(&self.db, job.name.as_str(), bucket, key, now).await?.is_some())
    }

    /// No further than to the bound.
    async fn count_keys(&self, job: &JobSpec, now: Timestamp) -> Result<usize, StoreError> {
        let most = i64::try_from(job.limits.kv_keys).unwrap_or(i64::MAX);
        let rows = self.db.fetch(events::KV_COUNT, &args![job.name.as_str(), now, most]).await?;
        let count = rows.first().map(|row| row.int("kept")).transpose()?.unwrap_or_default();
        Ok(usize::try_from(count).unwrap_or_default())
    }
}
