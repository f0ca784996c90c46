//! The one connection that upgrades a database.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Postgres, Sqlite};

use super::{Progress, Report, statements};
use crate::config::SQLITE_WRITER_CACHE;
use crate::db::sql::Sql;
use crate::db::{Args, Db, Driver, Most, Row, arg, args, postgres, sqlite};
use crate::error::StoreError;

/// The advisory lock of the host that upgrades a Postgres database: "tidemill" in ASCII.
const UPGRADE_LOCK: i64 = 0x7469_6465_6d69_6c6c;
/// Time between two reports of a host that waits for the upgrade by another.
const WAIT_REPORTED_EVERY: Duration = Duration::from_secs(5);
/// The page cache during the copy, in negative KiB: index builds sort in it.
const SQLITE_COPY_CACHE: &str = "-65536";

pub enum Session {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Session {
    pub async fn of(db: &Db) -> Result<Session, StoreError> {
        Ok(match &db.driver {
            Driver::Sqlite { writer, .. } => Session::Sqlite(writer.pool().acquire().await?),
            Driver::Postgres(server) => Session::Postgres(server.acquire().await?),
        })
    }

    /// Adapts the settings to an upgrade, and waits until no other host is upgrading the database.
    pub async fn begin_upgrade(&mut self, report: Report<'_>) -> Result<(), StoreError> {
        match self {
            Session::Sqlite(_) => self.control(&format!("PRAGMA cache_size = {SQLITE_COPY_CACHE}")).await,
            Session::Postgres(connection) => {
                // Its settings are not those of the pool's other connections.
                connection.close_on_drop();
                // The statements have no time limit. A commit need not reach the disk: the position of the copy
                // is in the same commit as the rows. The server must notice soon that this host is gone,
                // because the lock is released only then.
                let settings = format!(
                    "SET statement_timeout = 0; SET synchronous_commit = off; SET tcp_keepalives_idle = 10;
                     SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET lock_timeout = '{}s'",
                    WAIT_REPORTED_EVERY.as_secs()
                );
                self.control(&settings).await?;
                self.lock(report).await
            }
        }
    }

    async fn lock(&mut self, report: Report<'_>) -> Result<(), StoreError> {
        let lock = format!("SELECT pg_advisory_lock({UPGRADE_LOCK})");
        loop {
            match self.try_control(&lock).await {
                Err(error) if is_lock_timeout(&error) => report(&Progress::Waits(self.copied().await?)),
                locked => return Ok(locked?),
            }
        }
    }

    /// The rows copied, and all rows, while a copy is under way.
    async fn copied(&mut self) -> Result<Option<(i64, i64)>, StoreError> {
        if self.fetch(statements::WORK_COPY_TABLE, &[]).await?.is_empty() {
            return Ok(None);
        }
        match self.fetch(statements::COPIED, &[]).await {
            Ok(rows) => rows.first().map(|row| Ok((row.int("n")?, row.int("total")?))).transpose(),
            // The other host has just dropped it.
            Err(StoreError::Corrupt(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the upgrade. The connection of SQLite's writer returns to its pool.
    pub async fn end_upgrade(mut self) -> Result<(), StoreError> {
        match &mut self {
            Session::Sqlite(_) => {
                self.control(&format!(
                    "PRAGMA cache_size = {SQLITE_WRITER_CACHE}; PRAGMA wal_checkpoint(TRUNCATE)"
                ))
                .await
            }
            Session::Postgres(_) => self.control("SET synchronous_commit = on").await,
        }?;
        if let Session::Postgres(connection) = self {
            connection.close().await?;
        }
        Ok(())
    }

    pub async fn has_migration(&mut self, number: i64) -> Result<bool, StoreError> {
        if self.fetch(statements::MIGRATIONS_TABLE, &[]).await?.is_empty() {
            return Ok(false);
        }
        Ok(!self.fetch(statements::MIGRATION, &args! { version: number }).await?.is_empty())
    }

    /// Begins a transaction. `scans` allows plans that read whole tables, which the store's own statements
    /// must not have.
    pub async fn begin(&mut self, scans: bool) -> Result<(), StoreError> {
        let begin = match (&self, scans) {
            (Session::Sqlite(_), _) => "BEGIN IMMEDIATE",
            (Session::Postgres(_), false) => "BEGIN; SET LOCAL enable_sort = off",
            (Session::Postgres(_), true) => {
                "BEGIN; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on"
            }
        };
        self.control(begin).await
    }

    pub async fn control(&mut self, sql: &str) -> Result<(), StoreError> {
        Ok(self.try_control(sql).await?)
    }

    async fn try_control(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Session::Sqlite(connection) => sql.execute(&mut **connection).await.map(|_| ()),
            Session::Postgres(connection) => sql.execute(&mut **connection).await.map(|_| ()),
        }
    }

    pub async fn execute(&mut self, sql: Sql, args: Args<'_>) -> Result<u64, StoreError> {
        Ok(match self {
            Session::Sqlite(connection) => {
                let statement = sql.sqlite();
                sqlite::execute(connection, statement.text, &arg::bind(statement, args)?).await?
            }
            Session::Postgres(connection) => {
                let statement = sql.postgres();
                postgres::execute(connection, statement.text, &arg::bind(statement, args)?).await?
            }
        })
    }

    pub async fn fetch(&mut self, sql: Sql, args: Args<'_>) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Session::Sqlite(connection) => {
                let statement = sql.sqlite();
                sqlite::fetch(connection, statement.text, &arg::bind(statement, args)?, Most::ALL).await?
            }
            Session::Postgres(connection) => {
                let statement = sql.postgres();
                postgres::fetch(connection, statement.text, &arg::bind(statement, args)?, Most::ALL).await?
            }
        })
    }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "55P03")
}
