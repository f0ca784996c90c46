//! A common interface to both databases: a statement and its arguments as [`Value`]s go in, rows of
//! [`Value`]s come back. SQL of guests uses the same interface.

mod again;
mod guard;
mod pooler;
mod postgres;
mod row;
mod server;
mod session;
pub(crate) mod sql;
mod sqlite;
mod whole;
mod writer;

use std::time::{Duration, Instant};

use again::{PgTx, pause};
use domain::engine_event::EngineEvent;
use domain::plugin::Statement;
use domain::scope::Value;
use sqlx::SqlitePool;

pub use guard::{Gone, Guard};
pub(crate) use row::args;
use row::can_be_kept;
pub use row::{IntoValue, Row};
pub use server::Server;
pub use session::{Refusal, Session, text};
pub use whole::{First, Whole};
use writer::Writing;
pub use writer::{Writer, agrees};

use crate::config::LIST_BYTES_MAX;
use crate::db::sql::Sql;
use crate::error::{StoreError, is_contention};
use crate::feed::Feed;
use crate::opening::sqlite_file::FileId;

/// Grace period after the host gives up a statement with its own error; then the database cancels it.
const CUT_OFF_GRACE: Duration = Duration::from_millis(100);
/// Number of SQLite VM instructions between two checks of the deadline.
const CUT_OFF_STEPS: i32 = 10_000;
/// Maximum tries of one reading statement that conflicts with other transactions.
const READ_TRIES_MAX: u32 = 5;

/// Limits on the rows to read. The first row beyond a limit is included, to show that there are more.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    pub rows: usize,
    pub bytes: usize,
}

impl Most {
    pub const ALL: Most = Most { rows: usize::MAX, bytes: usize::MAX };

    fn exceeded(self, rows: &[Row], bytes: usize) -> bool {
        rows.len() > self.rows || bytes > self.bytes
    }
}

/// A database. The commits of its transactions publish their events to its feed.
#[derive(Debug, Clone)]
pub struct Db {
    pub driver: Driver,
    pub feed: Feed,
}

#[derive(Debug, Clone)]
pub enum Driver {
    /// SQLite allows one writer; a queue for it is fairer than SQLite's busy lock.
    Sqlite {
        writer: Writer,
        readers: SqlitePool,
    },
    Postgres(Server),
}

/// Priority of a write where there is only one writer.
#[derive(Debug, Clone, Copy)]
pub enum WritePriority {
    /// Renewal of leases: they expire if it waits.
    Renewal,
    /// Starts and ends of attempts: their slots stay occupied while it waits.
    Work,
    /// Everything else.
    Request,
}

/// A transaction that rolls back when dropped.
pub struct Tx {
    scope: TxScope,
    /// Published by the commit.
    events: Vec<EngineEvent>,
    feed: Feed,
}

enum TxScope {
    Own(Open),
    /// Part of the one transaction of a request; see [`Whole`].
    Part(whole::Part),
}

/// An open transaction of either driver.
pub enum Open {
    Sqlite(Writing),
    Postgres(Box<PgTx>),
}

impl From<Driver> for Db {
    fn from(driver: Driver) -> Db {
        Db { driver, feed: Feed::default() }
    }
}

impl Db {
    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        self.begin_as(WritePriority::Request).await
    }

    pub async fn begin_as(&self, turn: WritePriority) -> Result<Tx, sqlx::Error> {
        let scope = match Whole::current() {
            Some(whole) => TxScope::Part(whole.begin(self).await?),
            None => TxScope::Own(self.open(turn).await?),
        };
        Ok(Tx { scope, events: Vec::new(), feed: self.feed.clone() })
    }

    fn own(&self, open: Open) -> Tx {
        Tx { scope: TxScope::Own(open), events: Vec::new(), feed: self.feed.clone() }
    }

    async fn open(&self, turn: WritePriority) -> Result<Open, sqlx::Error> {
        match &self.driver {
            Driver::Sqlite { writer, .. } => Ok(Open::Sqlite(writer.begin(turn).await?)),
            Driver::Postgres(server) => begun(server, "BEGIN".to_owned(), true).await,
        }
    }

    /// Begins a transaction that sees one snapshot of the database and cannot write.
    pub async fn begin_read(&self) -> Result<Tx, sqlx::Error> {
        let open = match &self.driver {
            Driver::Sqlite { writer, readers } => {
                writer.check()?;
                let tx = readers.begin().await?;
                writer.check()?;
                Open::Sqlite(Writing::reading(tx))
            }
            Driver::Postgres(server) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                begun(server, begin.to_owned(), false).await?
            }
        };
        Ok(self.own(open))
    }

    /// Begins a transaction on a datasource, never as part of a request's. On Postgres, `time` limits each
    /// statement, also if the host no longer waits for it. On SQLite, use `cut_off_after`.
    pub async fn begin_declared(&self, writes: bool, time: Duration) -> Result<Tx, sqlx::Error> {
        let Driver::Postgres(server) = &self.driver else {
            return match writes {
                true => self.open(WritePriority::Request).await.map(|open| self.own(open)),
                false => self.begin_read().await,
            };
        };
        let mode = if writes { "" } else { " ISOLATION LEVEL REPEATABLE READ READ ONLY" };
        let millis = (time + CUT_OFF_GRACE).as_millis();
        let begin = format!("BEGIN{mode}; SET LOCAL statement_timeout = {millis}");
        begun(server, begin, writes).await.map(|open| self.own(open))
    }

    /// Fetches the rows of a reading statement. Within a request's transaction it sees the request's writes.
    pub async fn fetch(&self, sql: Sql, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.read(sql, args, Most::ALL).await
    }

    /// Like `fetch`, for a list that a user requested. Fails if its content exceeds [`LIST_BYTES_MAX`].
    pub async fn list(&self, sql: Sql, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        match self.some(sql, args).await? {
            (rows, true) => Ok(rows),
            (_, false) => Err(StoreError::TooLarge(LIST_BYTES_MAX)),
        }
    }

    /// Fetches rows up to [`LIST_BYTES_MAX`]. Returns whether these are all rows.
    pub async fn some(&self, sql: Sql, args: &[Value]) -> Result<(Vec<Row>, bool), StoreError> {
        let mut rows = self.read(sql, args, Most { rows: usize::MAX, bytes: LIST_BYTES_MAX }).await?;
        let all = rows.iter().map(Row::bytes).sum::<usize>() <= LIST_BYTES_MAX;
        if !all {
            rows.pop();
        }
        Ok((rows, all))
    }

    async fn read(&self, sql: Sql, args: &[Value], most: Most) -> Result<Vec<Row>, StoreError> {
        if let Some(whole) = Whole::current()
            && let Some(rows) = whole.fetch(sql, args).await
        {
            return rows;
        }
        can_be_kept(args)?;
        let rows = match &self.driver {
            Driver::Sqlite { writer, readers } => {
                writer.check()?;
                let rows = sqlite::fetch(&mut *readers.acquire().await?, sql.sqlite(), args, most).await;
                writer.check()?;
                rows
            }
            Driver::Postgres(server) => read_on(server, sql, args, most).await,
        };
        Ok(rows?)
    }

    /// The reason why no connection to the database could be made recently.
    pub fn trouble(&self) -> Option<String> {
        match &self.driver {
            Driver::Sqlite { .. } => None,
            Driver::Postgres(server) => server.trouble(),
        }
    }

    /// Runs one writing statement in its own transaction. Returns the number of rows that it changed.
    pub async fn execute(&self, sql: Sql, args: &[Value]) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let changed = tx.execute(sql, args).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Identity of the file of an SQLite store.
    pub fn file(&self) -> Option<FileId> {
        match &self.driver {
            Driver::Sqlite { writer, .. } => writer.guard().and_then(Guard::id),
            Driver::Postgres(_) => None,
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.driver, Driver::Postgres(_))
    }

    pub async fn close(&self) {
        match &self.driver {
            Driver::Sqlite { writer, readers } => writer.close(readers).await,
            Driver::Postgres(server) => server.close().await,
        }
    }
}

impl Open {
    async fn fetch(&mut self, sql: Sql, args: &[Value]) -> Result<Vec<Row>, sqlx::Error> {
        can_be_kept(args)?;
        match self {
            Open::Sqlite(tx) => sqlite::fetch(&mut *tx, sql.sqlite(), args, Most::ALL).await,
            Open::Postgres(tx) => tx.fetch(sql.postgres(), args, Most::ALL).await,
        }
    }

    async fn execute(&mut self, sql: Sql, args: &[Value]) -> Result<u64, sqlx::Error> {
        can_be_kept(args)?;
        match self {
            Open::Sqlite(tx) => sqlite::execute(&mut *tx, sql.sqlite(), args).await,
            Open::Postgres(tx) => tx.execute(sql.postgres(), args).await,
        }
    }

    /// Runs a statement without arguments that controls the transaction itself.
    async fn control(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Open::Sqlite(tx) => sqlx::raw_sql(sql).execute(&mut ***tx).await.map(|_| ()),
            Open::Postgres(tx) => tx.control(sql).await,
        }
    }

    async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Open::Sqlite(mut tx) => {
                tx.lock_handle().await?.remove_progress_handler();
                tx.commit().await
            }
            Open::Postgres(tx) => tx.commit().await,
        }
    }

    async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Open::Sqlite(mut tx) => {
                tx.lock_handle().await?.remove_progress_handler();
                tx.rollback().await
            }
            Open::Postgres(tx) => tx.rollback().await,
        }
    }
}

impl Tx {
    fn open(&mut self) -> &mut Open {
        match &mut self.scope {
            TxScope::Own(open) => open,
            TxScope::Part(part) => part.open(),
        }
    }

    pub async fn fetch(&mut self, sql: Sql, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        Ok(self.open().fetch(sql, args).await?)
    }

    pub async fn execute(&mut self, sql: Sql, args: &[Value]) -> Result<u64, StoreError> {
        Ok(self.open().execute(sql, args).await?)
    }

    /// Fetches with a statement that a plugin declared and that was checked when the plugin was loaded.
    pub async fn fetch_declared(
        &mut self,
        sql: &str,
        args: &[Value],
        most: Most,
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self.open() {
            Open::Sqlite(tx) => sqlite::fetch(&mut *tx, sqlx::AssertSqlSafe(sql), args, most).await,
            Open::Postgres(tx) => tx.fetch(sqlx::AssertSqlSafe(typed(sql, args)), args, most).await,
        }
    }

    /// On SQLite, cancels the next declared statement after `time`. On Postgres, `begin` sets the limit.
    pub async fn cut_off_after(&mut self, time: Duration) -> Result<(), sqlx::Error> {
        let Open::Sqlite(tx) = self.open() else { return Ok(()) };
        let deadline = Instant::now() + time + CUT_OFF_GRACE;
        tx.lock_handle().await?.set_progress_handler(CUT_OFF_STEPS, move || Instant::now() < deadline);
        Ok(())
    }

    pub async fn execute_declared(&mut self, sql: &str, args: &[Value]) -> Result<u64, sqlx::Error> {
        match self.open() {
            Open::Sqlite(tx) => sqlite::execute(&mut *tx, sqlx::AssertSqlSafe(sql), args).await,
            Open::Postgres(tx) => tx.execute(sqlx::AssertSqlSafe(typed(sql, args)), args).await,
        }
    }

    /// On Postgres, ends this transaction if its commit is late. On SQLite it ends with the process.
    pub async fn commit_within(&mut self, time: Duration) -> Result<(), sqlx::Error> {
        if let Open::Postgres(tx) = self.open() {
            tx.ends_now();
        }
        self.set_local("idle_in_transaction_session_timeout", &time.as_millis().to_string()).await
    }

    /// On Postgres, limits the wait for locks of other transactions.
    pub async fn wait_for_locks(&mut self, time: Duration) -> Result<(), sqlx::Error> {
        self.set_local("lock_timeout", &time.as_millis().to_string()).await
    }

    /// On Postgres, gives a transaction that began on a datasource the search path of the host's tables.
    pub async fn among_own_tables(&mut self) -> Result<(), sqlx::Error> {
        let Open::Postgres(tx) = self.open() else { return Ok(()) };
        tx.control(sqlx::AssertSqlSafe(Session::set_for_a_transaction())).await
    }

    /// Changes a setting of Postgres for the rest of this transaction.
    async fn set_local(&mut self, name: &str, value: &str) -> Result<(), sqlx::Error> {
        let Open::Postgres(tx) = self.open() else { return Ok(()) };
        tx.control(sqlx::AssertSqlSafe(format!("SET LOCAL {name} TO {value}"))).await
    }

    /// Checks that a declared statement can be prepared with the parameter types that calls will use.
    pub async fn check_declared(&mut self, statement: &Statement) -> Result<(), sqlx::Error> {
        match self.open() {
            Open::Sqlite(tx) => sqlite::check(&mut *tx, statement).await,
            Open::Postgres(tx) => tx.check(&statement.sql, statement.params.as_deref()).await,
        }
    }

    /// On Postgres, checks deferred constraints now instead of at the commit.
    pub async fn check_constraints(&mut self) -> Result<(), sqlx::Error> {
        let Open::Postgres(tx) = self.open() else { return Ok(()) };
        tx.control("SET CONSTRAINTS ALL IMMEDIATE").await
    }

    /// Rolls back at once. A dropped transaction is rolled back only when its connection is used next.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self.scope {
            TxScope::Own(open) => Ok(open.rollback().await?),
            TxScope::Part(part) => {
                drop(part);
                Ok(())
            }
        }
    }

    /// Adds the event of a change in this transaction. The commit publishes it.
    pub fn note(&mut self, event: EngineEvent) {
        self.events.push(event);
    }

    /// Publishes the events to this feed, for a transaction that began on a datasource.
    pub fn publish_to(&mut self, feed: &Feed) {
        self.feed = feed.clone();
    }

    /// The only place that publishes events of changes. The events of a request's part are published when
    /// the request commits.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.scope {
            TxScope::Own(open) => {
                open.commit().await?;
                self.feed.publish(self.events);
            }
            TxScope::Part(part) => part.commit(self.events).await?,
        }
        Ok(())
    }
}

async fn begun(server: &Server, begin: String, writes: bool) -> Result<Open, sqlx::Error> {
    Ok(Open::Postgres(Box::new(PgTx::begin(server, begin, writes).await?)))
}

async fn read_on(server: &Server, sql: Sql, args: &[Value], most: Most) -> Result<Vec<Row>, sqlx::Error> {
    let mut tries = 0;
    loop {
        let mut conn = server.acquire().await?;
        let rows = server.answered(false, postgres::fetch(&mut conn, sql.postgres(), args, most)).await;
        tries += 1;
        match rows {
            Err(error) if tries < READ_TRIES_MAX && is_contention(&error) => {
                drop(conn);
                tokio::time::sleep(pause(tries)).await;
            }
            rows => return rows,
        }
    }
}

/// Appends the argument types to the SQL text. Drivers cache prepared statements by text, and Postgres fixes
/// the parameter types at the first use: it would read the bits of a real as an integer.
fn typed(sql: &str, args: &[Value]) -> String {
    let letter = |value: &Value| match value {
        Value::Null => 'n',
        Value::Boolean(_) => 'l',
        Value::Integer(_) => 'i',
        Value::Real(_) => 'r',
        Value::Text(_) => 't',
        Value::Blob(_) => 'b',
    };
    let letters: String = args.iter().map(letter).collect();
    format!("{sql} /* {letters} */")
}
