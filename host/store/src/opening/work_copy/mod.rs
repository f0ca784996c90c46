//! Copies the items and attempts of schema 21 to the tables of schema 22. Migration 22 renames the old tables
//! and creates the new ones; migration 23 drops the old ones. In between, this module copies in portions. Each
//! portion is a transaction that also moves the cursor in `work_copy`, so a process that was killed continues
//! where it stopped. The store is not used before migration 23.

mod progress;
mod session;
mod statements;

use std::time::{Duration, Instant};

pub use progress::{Progress, Report};
pub(crate) use session::Session;
use statements::{CHECKS, FINISHES};

use crate::db::sql::Sql;
use crate::db::{Arg, IntoArg, Row, args};
use crate::error::StoreError;

/// Rows of the first portion. Later ones have as many as fit in the time below.
const PORTION_ROWS: i64 = 5_000;
const PORTION_ROWS_MAX: i64 = 50_000;
/// Time of a portion. It bounds what a killed process has to repeat, and the log of an SQLite file.
const PORTION_TIME: Duration = Duration::from_secs(1);
/// Minimum time between two reports about one table.
const REPORTED_EVERY: Duration = Duration::from_secs(2);

/// A table that is copied in portions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Items,
    Attempts,
}

const TABLES: [Table; 2] = [Table::Items, Table::Attempts];

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Items => "items",
            Table::Attempts => "attempts",
        }
    }

    /// The rows after the cursor, as arguments of its statements.
    fn after(self, cursor: &Cursor, last: (&'static str, i64)) -> Vec<(&'static str, Arg)> {
        let mut args = vec![("item", cursor.item.clone().into_arg()), (last.0, last.1.into_arg())];
        if self == Table::Attempts {
            args.push(("epoch", cursor.epoch.into_arg()));
        }
        args
    }

    fn copy(self) -> Sql {
        match self {
            Table::Items => statements::ITEMS,
            Table::Attempts => statements::ATTEMPTS,
        }
    }

    fn row(self) -> Sql {
        match self {
            Table::Items => statements::ITEM,
            Table::Attempts => statements::ATTEMPT,
        }
    }

    /// The statement that finds bad rows which the copy would not refuse.
    fn bad(self, session: &Session) -> Option<Sql> {
        match (self, session) {
            (Table::Items, _) => Some(statements::BAD_ITEM),
            (Table::Attempts, Session::Sqlite(_)) => Some(statements::BAD_ATTEMPT),
            (Table::Attempts, Session::Postgres(_)) => None,
        }
    }
}

/// The position of the copy.
struct Cursor {
    step: usize,
    item: String,
    epoch: i64,
    items: i64,
    attempts: i64,
    items_total: i64,
    attempts_total: i64,
}

impl Cursor {
    fn of(row: &Row) -> Result<Cursor, StoreError> {
        let step = row.int("step")?;
        Ok(Cursor {
            step: usize::try_from(step)
                .map_err(|_| StoreError::Corrupt(format!("work_copy has step {step}")))?,
            item: row.text("item_id")?,
            epoch: row.int("epoch")?,
            items: row.int("items")?,
            attempts: row.int("attempts")?,
            items_total: row.int("items_total")?,
            attempts_total: row.int("attempts_total")?,
        })
    }

    /// After `more` rows of the table.
    fn copied(&self, table: Table, more: i64) -> Copied {
        let (rows, of) = match table {
            Table::Items => (self.items, self.items_total),
            Table::Attempts => (self.attempts, self.attempts_total),
        };
        Copied { table, rows: rows + more, of, is_last: more == 0 }
    }

    /// A new store has no old rows, and nothing to report.
    fn is_empty(&self) -> bool {
        self.items_total == 0 && self.attempts_total == 0
    }
}

/// Copies what is missing and verifies it. Ends early after `most` transactions, and then returns false.
pub(crate) async fn run(session: &mut Session, report: Report<'_>, most: usize) -> Result<bool, StoreError> {
    let mut copy = Copy { session, report, rows: PORTION_ROWS, is_failing: false, pace: None };
    for _ in 0..most {
        if !copy.advance().await? {
            copy.verify().await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// What one transaction did.
enum Done {
    Portion(Copied),
    Step,
    Nothing,
}

/// The rows of a table that are copied, and all.
struct Copied {
    table: Table,
    rows: i64,
    of: i64,
    is_last: bool,
}

struct Copy<'a> {
    session: &'a mut Session,
    report: Report<'a>,
    /// Rows of the next portion.
    rows: i64,
    /// Whether the last portion had a row that cannot be copied. Then portions become smaller until one has
    /// only that row.
    is_failing: bool,
    pace: Option<Pace>,
}

/// Since when a table is copied, from which row, and when that was reported.
struct Pace {
    table: Table,
    since: Instant,
    from: i64,
    reported: Instant,
}

impl Copy<'_> {
    /// Runs one transaction. Returns false if nothing is left.
    async fn advance(&mut self) -> Result<bool, StoreError> {
        let begun = Instant::now();
        let done = self.transaction().await;
        match done {
            Ok(Done::Portion(copied)) => {
                self.adapt(begun.elapsed());
                self.tell(&copied);
            }
            Ok(Done::Step) => {}
            Ok(Done::Nothing) => return Ok(false),
            Err(StoreError::Corrupt(_) | StoreError::Refused(_))
                if self.rows > 1 && self.copies().await? =>
            {
                (self.rows, self.is_failing) = (self.rows / 2, true);
            }
            Err(StoreError::Corrupt(why) | StoreError::Refused(why)) => {
                return Err(self.bad_row(&why).await?);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    async fn cursor(&mut self) -> Result<Cursor, StoreError> {
        let rows = self.session.fetch(statements::CURSOR, &[]).await?;
        let row =
            rows.first().ok_or_else(|| StoreError::Corrupt("the table work_copy is empty".to_owned()))?;
        Cursor::of(row)
    }

    /// Whether the present step copies in portions.
    async fn copies(&mut self) -> Result<bool, StoreError> {
        Ok(self.cursor().await?.step < TABLES.len())
    }

    /// Runs the next portion or step, and commits it with the new position.
    async fn transaction(&mut self) -> Result<Done, StoreError> {
        let scans = !self.copies().await?;
        self.session.begin(scans).await?;
        let done = self.step().await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.session.control(end).await;
        match done {
            Ok(done) => ended.map(|()| done),
            // The transaction may have ended on its own.
            Err(error) => Err(error),
        }
    }

    async fn step(&mut self) -> Result<Done, StoreError> {
        let cursor = self.cursor().await?;
        if let Some(table) = TABLES.get(cursor.step) {
            return self.portion(*table, &cursor).await.map(Done::Portion);
        }
        let Some(finish) = FINISHES.get(cursor.step - TABLES.len()) else { return Ok(Done::Nothing) };
        if !cursor.is_empty() {
            (self.report)(&Progress::Makes(finish.name));
        }
        self.session.execute(finish.sql, &[]).await?;
        self.session.execute(statements::STEP_DONE, &[]).await?;
        Ok(Done::Step)
    }

    /// Copies the next rows of a table.
    async fn portion(&mut self, table: Table, cursor: &Cursor) -> Result<Copied, StoreError> {
        let args = table.after(cursor, ("most", self.rows));
        if let Some(bad) = table.bad(self.session)
            && let Some(row) = self.session.fetch(bad, &args).await?.first()
        {
            return Err(StoreError::Corrupt(row.text("reason")?));
        }
        let copied = self.session.execute(table.copy(), &args).await?;
        let copied = i64::try_from(copied).unwrap_or(i64::MAX);
        if copied == 0 {
            self.end_of(table, cursor).await?;
            return Ok(cursor.copied(table, 0));
        }
        let last = self.session.fetch(table.row(), &table.after(cursor, ("skip", copied - 1))).await?;
        let last = last.first().ok_or_else(|| StoreError::Corrupt("the last row is gone".to_owned()))?;
        let (items, attempts) = match table {
            Table::Items => (copied, 0),
            Table::Attempts => (0, copied),
        };
        // With the rows, so that a portion is never copied twice.
        let (item, epoch) = (last.text("item_id")?, last.int("epoch")?);
        let moved = args! { item: item, epoch: epoch, items: items, attempts: attempts };
        self.session.execute(statements::MOVED, &moved).await?;
        Ok(cursor.copied(table, copied))
    }

    /// Completes a table. If a person corrected the id of a row, it may be before the cursor.
    async fn end_of(&mut self, table: Table, cursor: &Cursor) -> Result<(), StoreError> {
        let (old, missing) = match table {
            Table::Items => (statements::OLD_ITEMS, statements::MISSING_ITEMS),
            Table::Attempts => (statements::OLD_ATTEMPTS, statements::MISSING_ATTEMPTS),
        };
        let old = self.session.fetch(old, &[]).await?;
        if old.first().map(|row| row.int("n")).transpose()? != Some(cursor.copied(table, 0).rows) {
            self.session.execute(missing, &[]).await?;
        }
        self.session.execute(statements::STEP_DONE, &[]).await?;
        Ok(())
    }

    /// Adapts the size of portions to their time.
    fn adapt(&mut self, took: Duration) {
        if took > PORTION_TIME * 2 {
            self.rows = (self.rows / 2).max(1);
        } else if took < PORTION_TIME / 2 && !self.is_failing {
            self.rows = (self.rows * 2).min(PORTION_ROWS_MAX);
        }
    }

    fn tell(&mut self, copied: &Copied) {
        let now = Instant::now();
        let (table, rows, of) = (copied.table, copied.rows, copied.of);
        let pace = match &mut self.pace {
            Some(pace) if pace.table == table => pace,
            // The speed is that of the portions after the first.
            pace => {
                *pace = Some(Pace { table, since: now, from: rows, reported: now });
                return;
            }
        };
        if copied.is_last || now - pace.reported >= REPORTED_EVERY {
            pace.reported = now;
            let per_second = per_second(rows - pace.from, now - pace.since);
            (self.report)(&Progress::Copies { table: table.name(), rows, of, per_second });
        }
    }

    /// The error about the row after the cursor, or about the present step.
    async fn bad_row(&mut self, why: &str) -> Result<StoreError, StoreError> {
        let cursor = self.cursor().await?;
        let kept = "the old rows are all kept, and the copied ones stay copied";
        let Some(table) = TABLES.get(cursor.step) else {
            let name = FINISHES.get(cursor.step - TABLES.len()).map_or("end", |finish| finish.name);
            return Ok(StoreError::Unusable(format!("the upgrade cannot make the {name}: {why}; {kept}")));
        };
        let rows = self.session.fetch(table.row(), &table.after(&cursor, ("skip", 0))).await?;
        let row = match (table, rows.first()) {
            (_, None) => "row".to_owned(),
            (Table::Items, Some(row)) => format!("row of old_item with id {:?}", row.text("item_id")?),
            (Table::Attempts, Some(row)) => {
                format!(
                    "row of old_attempt with item_id {:?} and epoch {}",
                    row.text("item_id")?,
                    row.int("epoch")?
                )
            }
        };
        Ok(StoreError::Unusable(format!(
            "the upgrade cannot copy the {row}: {why}; {kept}. Correct that row, and start again"
        )))
    }

    async fn verify(&mut self) -> Result<(), StoreError> {
        if !self.cursor().await?.is_empty() {
            (self.report)(&Progress::Makes("comparison of old and new rows"));
        }
        for (what, sql) in CHECKS {
            self.session.begin(true).await?;
            let rows = self.session.fetch(sql, &[]).await;
            self.session.control("ROLLBACK").await?;
            let rows = rows?;
            let row = rows.first().ok_or_else(|| StoreError::Corrupt(format!("no numbers of {what}")))?;
            let (expected, found) = (row.int("expected")?, row.int("found")?);
            if expected != found {
                return Err(StoreError::Unusable(format!(
                    "the upgrade does not continue, because the old and the new tables differ: {what}: {expected} expected, {found} \
                     found. The old rows are all kept in old_item and old_attempt: restore the copy of the database from before the \
                     upgrade, and report this"
                )));
            }
        }
        Ok(())
    }
}

fn per_second(rows: i64, time: Duration) -> i64 {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1);
    rows.saturating_mul(1000) / millis
}
