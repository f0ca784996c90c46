//! Transactions: statements, the events of their changes, and the commit that publishes them.

use std::time::{Duration, Instant};

use domain::engine_event::EngineEvent;
use domain::plugin::Statement;
use domain::scope::Value;

use super::arg::{Args, Bound, bind};
use super::request_transaction::Part;
use super::retry_transaction::PgTx;
use super::writer::Writing;
use super::{CUT_OFF_GRACE, Most, Row, Session, sqlite};
use crate::db::sql::Sql;
use crate::error::StoreError;
use crate::feed::Feed;

/// Number of SQLite VM instructions between two checks of the deadline.
const CUT_OFF_STEPS: i32 = 10_000;

/// A transaction that rolls back when dropped.
pub struct Tx {
    pub(super) scope: TxScope,
    /// Published by the commit.
    pub(super) events: Vec<EngineEvent>,
    pub(super) feed: Feed,
}

pub enum TxScope {
    Own(Open),
    /// Part of the one transaction of a request; see [`super::RequestTx`].
    Part(Part),
}

/// An open transaction of either driver.
pub enum Open {
    Sqlite(Writing),
    Postgres(Box<PgTx>),
}

impl Open {
    pub(super) async fn fetch(&mut self, sql: Sql, args: Args<'_>) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Open::Sqlite(tx) => {
                let statement = sql.sqlite();
                sqlite::fetch(&mut *tx, statement.text, &bind(statement, args)?, Most::ALL).await
            }
            Open::Postgres(tx) => {
                let statement = sql.postgres_for(args);
                tx.fetch(statement.text, bind(statement, args)?, Most::ALL).await
            }
        }
    }

    pub(super) async fn execute(&mut self, sql: Sql, args: Args<'_>) -> Result<u64, sqlx::Error> {
        match self {
            Open::Sqlite(tx) => {
                let statement = sql.sqlite();
                sqlite::execute(&mut *tx, statement.text, &bind(statement, args)?).await
            }
            Open::Postgres(tx) => {
                let statement = sql.postgres_for(args);
                tx.execute(statement.text, bind(statement, args)?).await
            }
        }
    }

    /// Runs a statement without arguments that controls the transaction itself.
    pub(super) async fn control(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Open::Sqlite(tx) => sqlx::raw_sql(sql).execute(&mut ***tx).await.map(|_| ()),
            Open::Postgres(tx) => tx.control(sql).await,
        }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Open::Sqlite(mut tx) => {
                tx.lock_handle().await?.remove_progress_handler();
                tx.commit().await
            }
            Open::Postgres(tx) => tx.commit().await,
        }
    }

    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
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

    pub async fn fetch(&mut self, sql: Sql, args: Args<'_>) -> Result<Vec<Row>, StoreError> {
        Ok(self.open().fetch(sql, args).await?)
    }

    pub async fn execute(&mut self, sql: Sql, args: Args<'_>) -> Result<u64, StoreError> {
        Ok(self.open().execute(sql, args).await?)
    }

    /// Fetches with a statement that a plugin declared and that was checked when the plugin was loaded.
    pub async fn fetch_declared(
        &mut self,
        sql: &str,
        args: &[Value],
        most: Most,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let bound: Vec<Bound> = args.iter().cloned().map(Bound::Value).collect();
        match self.open() {
            Open::Sqlite(tx) => sqlite::fetch(&mut *tx, sqlx::AssertSqlSafe(sql), &bound, most).await,
            Open::Postgres(tx) => tx.fetch(sqlx::AssertSqlSafe(typed(sql, args)), bound, most).await,
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
        let bound: Vec<Bound> = args.iter().cloned().map(Bound::Value).collect();
        match self.open() {
            Open::Sqlite(tx) => sqlite::execute(&mut *tx, sqlx::AssertSqlSafe(sql), &bound).await,
            Open::Postgres(tx) => tx.execute(sqlx::AssertSqlSafe(typed(sql, args)), bound).await,
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
        // Many attempts of one commit may raise the same alert, or add items to the same job.
        let repeats = matches!(event, EngineEvent::AlertRaised { .. } | EngineEvent::ItemsAdded { .. });
        if !repeats || !self.events.contains(&event) {
            self.events.push(event);
        }
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
