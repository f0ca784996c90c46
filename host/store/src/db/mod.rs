//! One way to talk to both databases: a statement, its arguments as [`Value`]s, rows of [`Value`]s back.
//! Guests' SQL goes the same way.

mod postgres;
mod row;
mod sqlite;

use domain::scope::Value;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};

pub use row::{IntoValue, Row};
pub(crate) use row::args;

use crate::error::StoreError;
use crate::sql::Sql;

#[derive(Debug, Clone)]
pub enum Db {
    /// One writer: SQLite has no more, and a queue for it is fairer than its busy lock.
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    Postgres(PgPool),
}

/// A transaction that rolls back when dropped.
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Db {
    /// A transaction that may write.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        match self {
            // A deferred BEGIN that writes later fails with SQLITE_BUSY_SNAPSHOT at once.
            Db::Sqlite { writer, .. } => Ok(Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)),
            Db::Postgres(pool) => Ok(Tx::Postgres(pool.begin().await?)),
        }
    }

    /// A transaction that sees one state of the database and cannot write.
    pub async fn begin_read(&self) -> Result<Tx, sqlx::Error> {
        match self {
            Db::Sqlite { readers, .. } => Ok(Tx::Sqlite(readers.begin().await?)),
            Db::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                Ok(Tx::Postgres(pool.begin_with(begin).await?))
            }
        }
    }

    /// Rows of one reading statement.
    pub async fn fetch(&self, sql: Sql, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        let rows = match self {
            Db::Sqlite { readers, .. } => {
                sqlite::fetch(&mut *readers.acquire().await?, sql.sqlite(), args, true).await
            }
            Db::Postgres(pool) => {
                postgres::fetch(&mut *pool.acquire().await?, sql.postgres(), args, true).await
            }
        };
        Ok(rows?)
    }

    /// One writing statement in its own transaction: the number of rows that it changed.
    pub async fn execute(&self, sql: Sql, args: &[Value]) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let changed = tx.execute(sql, args).await?;
        tx.commit().await?;
        Ok(changed)
    }

    pub async fn close(&self) {
        match self {
            Db::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub async fn fetch(&mut self, sql: Sql, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        let rows = match self {
            Tx::Sqlite(tx) => sqlite::fetch(&mut *tx, sql.sqlite(), args, true).await,
            Tx::Postgres(tx) => postgres::fetch(&mut *tx, sql.postgres(), args, true).await,
        };
        Ok(rows?)
    }

    pub async fn execute(&mut self, sql: Sql, args: &[Value]) -> Result<u64, StoreError> {
        let changed = match self {
            Tx::Sqlite(tx) => sqlite::execute(&mut *tx, sql.sqlite(), args, true).await,
            Tx::Postgres(tx) => postgres::execute(&mut *tx, sql.postgres(), args, true).await,
        };
        Ok(changed?)
    }

    /// A statement that is no constant of ours: a plugin declared it, and it was checked at load.
    pub async fn fetch_declared(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, sqlx::Error> {
        let keep = keepable(args);
        match self {
            Tx::Sqlite(tx) => sqlite::fetch(&mut *tx, sqlx::AssertSqlSafe(sql), args, keep).await,
            Tx::Postgres(tx) => postgres::fetch(&mut *tx, sqlx::AssertSqlSafe(sql), args, keep).await,
        }
    }

    pub async fn execute_declared(&mut self, sql: &str, args: &[Value]) -> Result<u64, sqlx::Error> {
        let keep = keepable(args);
        match self {
            Tx::Sqlite(tx) => sqlite::execute(&mut *tx, sqlx::AssertSqlSafe(sql), args, keep).await,
            Tx::Postgres(tx) => postgres::execute(&mut *tx, sqlx::AssertSqlSafe(sql), args, keep).await,
        }
    }

    /// Whether a declared statement can be prepared here.
    pub async fn prepare_declared(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        match self {
            Tx::Sqlite(tx) => sqlite::prepare(&mut *tx, sqlx::AssertSqlSafe(sql)).await,
            Tx::Postgres(tx) => postgres::prepare(&mut *tx, sqlx::AssertSqlSafe(sql)).await,
        }
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Tx::Sqlite(tx) => Ok(tx.commit().await?),
            Tx::Postgres(tx) => Ok(tx.commit().await?),
        }
    }
}

/// Postgres fixes the types of a kept statement at its first use, and a null has none to offer.
fn keepable(args: &[Value]) -> bool {
    !args.contains(&Value::Null)
}
