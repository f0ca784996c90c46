//! Removal of old history: ticks, finished runs, attempts of finished items and taken events. The items stay,
//! and so does the audit trail, which records each removal.

pub(crate) mod sql;

use domain::id::JobName;
use jiff::Timestamp;

use crate::audit::{Entry, write};
use crate::db::args;
use crate::db::sql::Sql;
use crate::error::StoreError;
use crate::history::sql as history_sql;
use crate::store::Store;

/// Maximum rows of each kind that one transaction removes, because other writes wait for it.
const BATCH: u32 = 1_000;
/// Maximum number of batches per call.
const BATCHES_MAX: usize = 100;

const KINDS: [(&str, Sql); 4] = [
    ("ticks", history_sql::TICKS),
    ("runs", history_sql::RUNS),
    ("attempts", history_sql::ATTEMPTS),
    ("events", history_sql::EVENTS),
];

/// Ended work that retention removes.
#[derive(Clone, Copy)]
pub struct History<'a> {
    pub(crate) store: &'a Store,
}

impl History<'_> {
    /// Removes history from before `until`. Returns the number of rows.
    pub async fn prune(self, job: &JobName, until: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut all = 0;
        for _ in 0..BATCHES_MAX {
            let removed = self.prune_batch(job, until, now).await?;
            if removed == 0 {
                break;
            }
            all += removed;
        }
        Ok(all)
    }

    async fn prune_batch(self, job: &JobName, until: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let (mut all, mut removed_by_kind) = (0, Vec::new());
        for (kind, sql) in KINDS {
            let removed = tx.execute(sql, &args! { job: job.as_str(), before: until, limit: BATCH }).await?;
            if removed > 0 {
                removed_by_kind.push(format!("{removed} {kind}"));
            }
            all += removed;
        }
        if all > 0 {
            let (job, detail) =
                (job.as_str(), format!("{} from before {until:.0}", removed_by_kind.join(", ")));
            let entry = Entry {
                actor: self.store.own_actor(),
                action: "history_removed",
                job: Some(job),
                subject: job,
                detail: &detail,
            };
            write(&mut tx, &entry, now).await?;
        }
        tx.commit().await?;
        Ok(all)
    }
}
