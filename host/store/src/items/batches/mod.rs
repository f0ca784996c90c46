//! Batches: items that are submitted together, and listed and counted together.

pub(crate) mod sql;

use domain::batch::NewBatch;
use domain::engine_event::EngineEvent;
use domain::id::{ItemId, JobName};
use jiff::Timestamp;

use crate::audit::{Entry, fingerprints, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::items::batches::sql as batches_sql;
use crate::items::{ItemView, item_view};
use crate::store::Store;

/// The error code of an item that was submitted with an error: it failed before it was submitted.
const REPORTED: &str = "reported";

/// A batch with the present states of its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    pub batch: String,
    pub job: JobName,
    pub created_by: String,
    pub created_at: Timestamp,
    pub total: u32,
    pub pending: u32,
    pub retrying: u32,
    pub running: u32,
    pub resolved: u32,
    pub manual_required: u32,
    pub abandoned: u32,
}

/// Items that were submitted together.
#[derive(Clone, Copy)]
pub struct Batches<'a> {
    pub(crate) store: &'a Store,
}

impl Batches<'_> {
    /// Adds all items of a batch, or none. Fails if a batch with this id exists.
    pub async fn add(self, batch: &NewBatch, actor: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let id = batch.batch.as_str();
        if !tx.fetch(batches_sql::BATCH_EXISTS, &args![id]).await?.is_empty() {
            return Err(StoreError::Conflict(format!("there is a batch {id:?} already")));
        }
        add_items(&mut tx, batch, now).await?;
        tx.note(EngineEvent::ItemsAdded { job: batch.job.clone() });
        let payloads: Vec<&str> = batch.items.iter().map(|item| item.payload.as_str()).collect();
        let by = match batch.created_by.as_str() {
            by if by == actor => String::new(),
            by => format!(", created by {by}"),
        };
        let detail = format!("{}{by}", fingerprints(&payloads));
        let job = Some(batch.job.as_str());
        let entry = Entry { actor, action: "batch_added", job, subject: id, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lists batches, the newest first.
    pub async fn list(self, limit: u32) -> Result<Vec<BatchView>, StoreError> {
        self.store
            .db
            .fetch(batches_sql::BATCHES_LIST, &args![None::<i64>, limit])
            .await?
            .iter()
            .map(view)
            .collect()
    }

    pub async fn get(self, batch: &str) -> Result<Option<BatchView>, StoreError> {
        let rows = self.store.db.fetch(batches_sql::BATCHES_LIST, &args![batch, 1_i64]).await?;
        rows.first().map(view).transpose()
    }

    /// Lists the items of a batch by their index.
    pub async fn items(self, batch: &str, limit: u32, from: u32) -> Result<Vec<ItemView>, StoreError> {
        self.store
            .db
            .list(batches_sql::BATCH_ITEMS, &args![batch, limit, from])
            .await?
            .iter()
            .map(item_view)
            .collect()
    }

    /// Lists the open items of all batches, the oldest first.
    pub async fn open_items(self, limit: u32) -> Result<Vec<ItemView>, StoreError> {
        self.store
            .db
            .list(batches_sql::BATCH_ITEMS_OPEN, &args![limit])
            .await?
            .iter()
            .map(item_view)
            .collect()
    }

    /// Makes all waiting items of a batch due now. Returns their number.
    pub async fn process(self, batch: &str, actor: &str, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let due = tx.execute(batches_sql::BATCH_DUE, &args![batch, now]).await?;
        let found = tx.fetch(batches_sql::BATCH_EXISTS, &args![batch]).await?;
        let job = found.first().map(|row| row.text("job")).transpose()?;
        let (job, detail) = (job.as_deref(), format!("{due} items made due"));
        let entry = Entry { actor, action: "batch_processed", job, subject: batch, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(due)
    }
}

async fn add_items(tx: &mut Tx, batch: &NewBatch, now: Timestamp) -> Result<(), StoreError> {
    for (index, item) in (0_i64..).zip(&batch.items) {
        let (code, reason) = match item.reason.as_str() {
            "" => (None, None),
            reason => (Some(REPORTED), Some(reason)),
        };
        let args = args![
            ItemId::new(now).to_string(),
            batch.job.as_str(),
            format!("{}:{index}", batch.batch),
            item.payload.as_str(),
            now,
            batch.batch.as_str(),
            index,
            item.operation.as_str(),
            batch.created_by.as_str(),
            item.max_attempts.map(i64::from),
            code,
            reason
        ];
        tx.execute(batches_sql::BATCH_ITEM_ADD, &args).await?;
    }
    Ok(())
}

fn view(row: &Row) -> Result<BatchView, StoreError> {
    Ok(BatchView {
        batch: row.text("batch_id")?,
        job: row.parse("job")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at_ms")?,
        total: row.count("total")?,
        pending: row.count("pending")?,
        retrying: row.count("retrying")?,
        running: row.count("running")?,
        resolved: row.count("resolved")?,
        manual_required: row.count("manual_required")?,
        abandoned: row.count("abandoned")?,
    })
}
