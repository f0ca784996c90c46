//! The places of items beside their own rows: `due` for items that can be claimed, `parked` for items that wait for
//! a person or were given up, and the number of items of each job and class. A change of an item moves it in the
//! same transaction.

use std::collections::BTreeMap;

use domain::id::{ItemId, JobName};
use domain::item::State;
use jiff::Timestamp;

use crate::db::sql::Sql;
use crate::db::{Row, Rows, Tx, WritePriority, args, row};
use crate::error::StoreError;
use crate::items::Items;

/// Recovered and released items are claimed before new ones.
pub(crate) const AHEAD: i64 = 0;
pub(crate) const NEW: i64 = 1;

const DUE_ADD: Sql = Sql::same(
    "INSERT INTO due (job, priority, due_at_ms, item_id) SELECT job, priority, due_at_ms, item_id
    FROM @added(job text, priority bigint, due_at_ms bigint, item_id uuid)",
);
/// Takes items from `due` by their exact keys. An item that is not there is running.
pub(crate) const DUE_REMOVE: Sql = Sql::differs(
    "DELETE FROM due WHERE rowid IN (SELECT due.rowid
        FROM @taken(job text, priority bigint, due_at_ms bigint, item_id uuid)
        @join(due ON due.job = taken.job AND due.priority = taken.priority AND due.due_at_ms = taken.due_at_ms
            AND due.item_id = taken.item_id)) RETURNING item_id",
    "DELETE FROM due USING @taken(job text, priority bigint, due_at_ms bigint, item_id uuid)
    @target(due ON due.job = taken.job AND due.priority = taken.priority AND due.due_at_ms = taken.due_at_ms
        AND due.item_id = taken.item_id) RETURNING due.item_id",
);
const PARKED_ADD: Sql = Sql::same(
    "INSERT INTO parked (job, state, item_id, since_ms) SELECT job, state, item_id, since_ms
    FROM @added(job text, state text, item_id uuid, since_ms bigint)",
);
const PARKED_REMOVE: Sql =
    Sql::same("DELETE FROM parked WHERE item_id IN (SELECT item_id FROM @removed(item_id uuid))");
const COUNTER_ADD: Sql = Sql::differs(
    "INSERT INTO counter (job, class, items) SELECT job, class, items
    FROM @changes(job text, class text, items bigint) WHERE true
    ON CONFLICT (job, class) DO UPDATE SET items = counter.items + excluded.items",
    "INSERT INTO counter_delta (job, class, items) SELECT job, class, items
    FROM @changes(job text, class text, items bigint)",
);

/// Only on Postgres: adds the changes up. Until then, readers add them to the counters themselves.
const COUNTER_FOLD: Sql = Sql::same(
    "WITH changes AS (DELETE FROM counter_delta RETURNING job, class, items)
    INSERT INTO counter (job, class, items) SELECT job, class, CAST(SUM(items) AS BIGINT) FROM changes
    GROUP BY job, class ORDER BY job, class
    ON CONFLICT (job, class) DO UPDATE SET items = counter.items + excluded.items",
);
/// One host at a time adds changes up; the others need not wait.
const COUNTER_LOCK: Sql = Sql::same("SELECT pg_try_advisory_xact_lock(7350) AS mine");

impl Items<'_> {
    /// Adds up the changes of counters, of which each transaction leaves some. On SQLite, a transaction changes the
    /// counters themselves, because there is only one at a time.
    pub async fn fold_counters(self) -> Result<(), StoreError> {
        if !self.store.db.is_postgres() {
            return Ok(());
        }
        let mut tx = self.store.db.begin_as(WritePriority::Work).await?;
        let locked = tx.fetch(COUNTER_LOCK, &[]).await?;
        if locked.first().is_some_and(|row| row.is_true("mine")) {
            tx.execute(COUNTER_FOLD, &[]).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// An item at a place in `due`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due<'a> {
    pub job: &'a JobName,
    pub priority: i64,
    pub at: Timestamp,
    pub item: ItemId,
}

impl<'a> Due<'a> {
    /// The place of an open item of `job`, from its row.
    pub fn of(job: &'a JobName, row: &Row) -> Result<Due<'a>, StoreError> {
        Ok(Due { job, priority: row.int("priority")?, at: row.time("due_at_ms")?, item: row.parse("id")? })
    }
}

/// Takes these items out of `due`. Returns those that were there: no other transaction can claim them now.
pub(crate) async fn take(tx: &mut Tx, items: &[Due<'_>]) -> Result<Vec<ItemId>, StoreError> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let key = |due: &Due<'_>| row![due.job.as_str(), due.priority, due.at, due.item];
    let taken: Rows = items.iter().map(key).collect();
    let rows = tx.fetch(DUE_REMOVE, &args! { taken: taken }).await?;
    rows.iter().map(|row| row.parse("item_id")).collect()
}

/// What an item counts as. A running item counts as before its claim.
pub(crate) fn class(state: State, attempts: u32) -> &'static str {
    match state {
        State::Scheduled if attempts == 0 => "pending",
        State::Scheduled => "retrying",
        other => other.as_str(),
    }
}

/// The moves of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    due: Rows,
    parked: Rows,
    unparked: Rows,
    counts: BTreeMap<(JobName, &'static str), i64>,
}

impl Moves {
    pub fn schedule(&mut self, due: Due<'_>) {
        self.due.push(row![due.job.as_str(), due.priority, due.at, due.item]);
    }

    /// Puts an item where it belongs in its new state.
    pub fn place(&mut self, state: State, due: Due<'_>, now: Timestamp) {
        match state {
            State::Scheduled | State::Awaiting => self.schedule(due),
            State::ManualRequired | State::Abandoned => {
                self.parked.push(row![due.job.as_str(), state.as_str(), due.item, now]);
            }
            State::Resolved | State::Running => {}
        }
    }

    pub fn unpark(&mut self, item: ItemId) {
        self.unparked.push(row![item]);
    }

    pub fn count(&mut self, job: &JobName, class: &'static str, change: i64) {
        *self.counts.entry((job.clone(), class)).or_default() += change;
    }

    pub async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        if !self.unparked.is_empty() {
            tx.execute(PARKED_REMOVE, &args! { removed: self.unparked }).await?;
        }
        if !self.due.is_empty() {
            tx.execute(DUE_ADD, &args! { added: self.due }).await?;
        }
        if !self.parked.is_empty() {
            tx.execute(PARKED_ADD, &args! { added: self.parked }).await?;
        }
        let changed = self.counts.into_iter().filter(|(_, change)| *change != 0);
        let changes: Rows = changed.map(|((job, class), change)| row![job.as_str(), class, change]).collect();
        if !changes.is_empty() {
            tx.execute(COUNTER_ADD, &args! { changes: changes }).await?;
        }
        Ok(())
    }
}
