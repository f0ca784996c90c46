//! Batches: items that are submitted together, and listed and counted together.

pub(crate) mod sql;

use domain::batch::NewBatch;
use domain::engine_event::EngineEvent;
use domain::id::{ItemId, JobName};
use domain::item::State;
use jiff::Timestamp;

use crate::audit::{Entry, fingerprints, write};
use crate::db::{Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::items::batches::sql as batches_sql;
use crate::items::places::{self, Due, Moves, NEW, class};
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
        if !tx.fetch(batches_sql::BATCH_EXISTS, &args! { batch: id }).await?.is_empty() {
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
            .fetch(batches_sql::BATCHES_LIST, &args! { batch: None::<&str>, limit: limit })
            .await?
            .iter()
            .map(view)
            .collect()
    }

    pub async fn get(self, batch: &str) -> Result<Option<BatchView>, StoreError> {
        let rows =
            self.store.db.fetch(batches_sql::BATCHES_LIST, &args! { batch: batch, limit: 1_i64 }).await?;
        rows.first().map(view).transpose()
    }

    /// Lists the items of a batch by their index.
    pub async fn items(self, batch: &str, limit: u32, from: u32) -> Result<Vec<ItemView>, StoreError> {
        self.store
            .db
            .list(batches_sql::BATCH_ITEMS, &args! { batch: batch, limit: limit, from: from })
            .await?
            .iter()
            .map(item_view)
            .collect()
    }

    /// Lists the open items of all batches, the oldest first.
    pub async fn open_items(self, limit: u32) -> Result<Vec<ItemView>, StoreError> {
        self.store
            .db
            .list(batches_sql::BATCH_ITEMS_OPEN, &args! { limit: limit })
            .await?
            .iter()
            .map(item_view)
            .collect()
    }

    /// Makes all waiting items of a batch due now. Returns their number.
    pub async fn process(self, batch: &str, actor: &str, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let due = make_due(&mut tx, batch, now).await?;
        let found = tx.fetch(batches_sql::BATCH_EXISTS, &args! { batch: batch }).await?;
        let job = found.first().map(|row| row.text("job")).transpose()?;
        let (job, detail) = (job.as_deref(), format!("{due} items made due"));
        let entry = Entry { actor, action: "batch_processed", job, subject: batch, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(due)
    }
}

/// Makes the waiting items of a batch due now. Running ones keep their claims.
async fn make_due(tx: &mut Tx, batch: &str, now: Timestamp) -> Result<u64, StoreError> {
    let rows = tx.fetch(batches_sql::BATCH_LATER, &args! { batch: batch, now: now }).await?;
    let jobs: Vec<JobName> = rows.iter().map(|row| row.parse("job")).collect::<Result<_, _>>()?;
    let due: Vec<Due<'_>> =
        jobs.iter().zip(&rows).map(|(job, row)| Due::of(job, row)).collect::<Result<_, _>>()?;
    let taken = places::take(tx, &due).await?;
    let mut moves = Moves::default();
    for due in due.iter().filter(|due| taken.contains(&due.item)) {
        moves.schedule(Due { at: now, ..*due });
    }
    if !taken.is_empty() {
        let moved: Rows = taken.iter().map(|id| row![*id]).collect();
        tx.execute(batches_sql::ITEMS_DUE_NOW, &args! { moved: moved, now: now }).await?;
    }
    moves.write(tx).await?;
    Ok(taken.len() as u64)
}

async fn add_items(tx: &mut Tx, batch: &NewBatch, now: Timestamp) -> Result<(), StoreError> {
    let (id, job, by) = (batch.batch.as_str(), batch.job.as_str(), batch.created_by.as_str());
    tx.execute(batches_sql::BATCH_ADD, &args! { batch: id, job: job, by: by, now: now }).await?;
    let (mut added, mut moves) = (Rows::default(), Moves::default());
    for (index, item) in (0_i64..).zip(&batch.items) {
        let (code, reason) = match item.reason.as_str() {
            "" => (None, None),
            reason => (Some(REPORTED), Some(reason)),
        };
        let new = ItemId::new(now);
        added.push(row![
            new,
            format!("{id}:{index}"),
            item.payload.as_str(),
            index,
            item.operation.as_str(),
            item.max_attempts.map(i64::from),
            code,
            reason,
        ]);
        moves.schedule(Due { job: &batch.job, priority: NEW, at: now, item: new });
        moves.count(&batch.job, class(State::Scheduled, 0), 1);
    }
    let args = args! { batch: id, job: job, by: by, now: now, added: added };
    tx.execute(batches_sql::BATCH_ITEMS_ADD, &args).await?;
    moves.write(tx).await
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
