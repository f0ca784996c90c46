//! A common interface to both databases: a statement and its arguments ([`Arg`]) go in, rows of
//! [`domain::scope::Value`]s come back. SQL of guests uses the same interface.

pub(crate) mod arg;
mod former;
mod guard;
mod pooler;
mod portions;
pub(crate) mod postgres;
mod request_transaction;
mod retry_transaction;
mod round_trips;
mod row;
mod server;
mod session;
pub(crate) mod sql;
pub(crate) mod sqlite;
mod tx;
mod writer;

use std::time::Duration;

use domain::scope::Value;
use retry_transaction::{PgTx, pause};
use sqlx::SqlitePool;

pub use arg::{Arg, Args, Bound, IntoArg, Rows};
pub(crate) use arg::{args, row};
pub use guard::{Gone, Guard};
pub use portions::Portions;
pub use request_transaction::{First, RequestTx};
pub use row::{Decoded, Row};
pub use server::Server;
pub use session::{Refusal, Session, text};
use tx::TxScope;
pub use tx::{Open, Tx};
use writer::Writing;
pub use writer::{Writer, agrees};

use crate::config::LIST_BYTES_MAX;
use crate::db::sql::Sql;
use crate::error::{StoreError, is_contention};
use crate::feed::Feed;
use crate::opening::sqlite_file::FileId;

/// Grace period after the host gives up a statement with its own error; then the database cancels it.
const CUT_OFF_GRACE: Duration = Duration::from_millis(100);
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

impl From<Driver> for Db {
    fn from(driver: Driver) -> Db {
        Db { driver, feed: Feed::quiet() }
    }
}

impl Db {
    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        self.begin_as(WritePriority::Request).await
    }

    pub async fn begin_as(&self, turn: WritePriority) -> Result<Tx, sqlx::Error> {
        let scope = match RequestTx::current() {
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

    /// The same for writes on behalf of `name`, after those of its former transaction. On Postgres, that one may still be
    /// open: its host was killed while the COMMIT was on its way.
    pub async fn begin_declared_after(&self, name: &str, time: Duration) -> Result<Tx, sqlx::Error> {
        let mut tx = self.begin_declared(true, time).await?;
        let Driver::Postgres(server) = &self.driver else { return Ok(tx) };
        let name = [Value::Text(name.to_owned())];
        match tx.fetch_declared(former::TRY_LOCK, &name, Most::ALL).await {
            Ok(rows) if former::is_taken(&rows) => return Ok(tx),
            Ok(_) => {}
            // A server without advisory locks, or a role that may not use them.
            Err(sqlx::Error::Database(_)) => return self.begin_declared(true, time).await,
            Err(error) => return Err(error),
        }
        drop(tx);
        former::wait(server, &name).await;
        let mut tx = self.begin_declared(true, time).await?;
        tx.fetch_declared(former::TRY_LOCK, &name, Most::ALL).await?;
        Ok(tx)
    }

    /// Fetches the rows of a reading statement. Within a request's transaction it sees the request's writes.
    pub async fn fetch(&self, sql: Sql, args: Args<'_>) -> Result<Vec<Row>, StoreError> {
        self.read(sql, args, Most::ALL).await
    }

    /// Like `fetch`, for a list that a user requested. Fails if its content exceeds [`LIST_BYTES_MAX`].
    pub async fn list(&self, sql: Sql, args: Args<'_>) -> Result<Vec<Row>, StoreError> {
        match self.some(sql, args).await? {
            (rows, true) => Ok(rows),
            (_, false) => Err(StoreError::TooLarge(LIST_BYTES_MAX)),
        }
    }

    /// Fetches rows up to [`LIST_BYTES_MAX`]. Returns whether these are all rows.
    pub async fn some(&self, sql: Sql, args: Args<'_>) -> Result<(Vec<Row>, bool), StoreError> {
        let mut rows = self.read(sql, args, Most { rows: usize::MAX, bytes: LIST_BYTES_MAX }).await?;
        let all = rows.iter().map(Row::bytes).sum::<usize>() <= LIST_BYTES_MAX;
        if !all {
            rows.pop();
        }
        Ok((rows, all))
    }

    async fn read(&self, sql: Sql, args: Args<'_>, most: Most) -> Result<Vec<Row>, StoreError> {
        if let Some(whole) = RequestTx::current()
            && let Some(rows) = whole.fetch(sql, args).await
        {
            return rows;
        }
        let rows = match &self.driver {
            Driver::Sqlite { writer, readers } => {
                writer.check()?;
                let statement = sql.sqlite();
                let bound = arg::bind(statement, args)?;
                let rows = sqlite::fetch(&mut *readers.acquire().await?, statement.text, &bound, most).await;
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
    pub async fn execute(&self, sql: Sql, args: Args<'_>) -> Result<u64, StoreError> {
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

async fn begun(server: &Server, begin: String, writes: bool) -> Result<Open, sqlx::Error> {
    Ok(Open::Postgres(Box::new(PgTx::begin(server, begin, writes).await?)))
}

async fn read_on(server: &Server, sql: Sql, args: Args<'_>, most: Most) -> Result<Vec<Row>, sqlx::Error> {
    let statement = sql.postgres_for(args);
    let bound = arg::bind(statement, args)?;
    let mut tries = 0;
    loop {
        let mut conn = server.acquire().await?;
        let rows = server.answered(false, postgres::fetch(&mut conn, statement.text, &bound, most)).await;
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
