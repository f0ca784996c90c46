//! Items that a person or another job adds, as if a discovery had found them.

use std::collections::BTreeSet;

use domain::effect::NewItem;
use domain::engine_event::EngineEvent;
use domain::id::{ItemId, JobName};
use domain::limits::MIB;
use jiff::Timestamp;

use crate::audit::{Entry, fingerprint, write};
use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::items::Items;
use crate::items::sql as items_sql;
use crate::items::{ItemView, item_view};

/// The result of adding an item manually.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    New,
    /// It was resolved, and starts again with the new payload.
    Reopened,
    /// It is open or waits for a person: it keeps its payload, and the new one is dropped.
    Kept,
}

impl Items<'_> {
    /// Adds an item manually. Returns the resulting item.
    pub async fn add(
        self,
        item: &NewItem,
        actor: &str,
        now: Timestamp,
    ) -> Result<(Added, ItemView), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let changed = enqueue(&mut tx, &[item], actor, now).await? == 1;
        let rows = tx.fetch(items_sql::ITEM_GET, &args![item.job.as_str(), item.key.as_str()]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("item {:?}", item.key)))?;
        let added = match (changed, row.int("series")?) {
            (false, _) => Added::Kept,
            (true, 1) => Added::New,
            (true, _) => Added::Reopened,
        };
        if added != Added::Kept {
            let (job, detail) = (item.job.as_str(), fingerprint(&item.payload));
            let entry =
                Entry { actor, action: "item_added", job: Some(job), subject: &item.key, detail: &detail };
            write(&mut tx, &entry, now).await?;
        }
        let view = item_view(row)?;
        tx.commit().await?;
        Ok((added, view))
    }
}

/// Maximum payload bytes of one statement. Even with JSON escaping it stays far below SQLite's limit for a
/// value.
const ENQUEUE_BYTES: usize = MIB;

/// Adds items or reopens resolved ones. Returns their number. Of two items with the same key the first
/// counts, as if the second was added later.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    added: &[&NewItem],
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut keys = BTreeSet::new();
    let first = added.iter().filter(|item| keys.insert((&item.job, &item.key)));
    let (mut rows, mut bytes, mut count) = (Vec::new(), 0, 0);
    for item in first {
        rows.push((ItemId::new(now).to_string(), item.job.as_str(), &item.key, &item.payload));
        bytes += item.payload.len();
        if bytes >= ENQUEUE_BYTES {
            count += enqueue_rows(tx, &rows, by, now).await?;
            (rows, bytes) = (Vec::new(), 0);
        }
    }
    count += enqueue_rows(tx, &rows, by, now).await?;
    if count > 0 {
        let jobs: BTreeSet<&JobName> = added.iter().map(|item| &item.job).collect();
        jobs.into_iter().for_each(|job| tx.note(EngineEvent::ItemsAdded { job: job.clone() }));
    }
    Ok(count)
}

/// Id, job, key and payload.
type NewRow<'a> = (String, &'a str, &'a String, &'a String);

async fn enqueue_rows(tx: &mut Tx, rows: &[NewRow<'_>], by: &str, now: Timestamp) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let array = serde_json::to_string(rows).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    tx.execute(items_sql::ITEMS_ENQUEUE, &args![array, now, by]).await
}
