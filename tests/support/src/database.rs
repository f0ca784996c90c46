//! A new database for one test, and access to it from outside the host.

use std::future::Future;

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::needs::postgres_url;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// An empty database that is removed when this is dropped.
pub struct Database {
    pub kind: Kind,
    pub url: String,
    _folder: Option<TempDir>,
}

impl Database {
    pub async fn fresh(kind: Kind) -> Database {
        match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", folder.path().join("test.db").display());
                Database { kind, url, _folder: Some(folder) }
            }
            Kind::Postgres => {
                let name = format!("test_{}", Uuid::now_v7().simple());
                let server = postgres_url();
                execute(&server, &format!("CREATE DATABASE {name}")).await;
                Database { kind, url: with_database(&server, &name), _folder: None }
            }
        }
    }

    /// Ends every connection to a Postgres database and refuses new ones.
    pub async fn cut_off(&self) {
        let name = self.name();
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        execute(&postgres_url(), &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        execute(&postgres_url(), &end).await;
    }

    /// Ends [`Database::cut_off`].
    pub async fn let_in(&self) {
        let again = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name());
        execute(&postgres_url(), &again).await;
    }

    /// Waits until a statement with this prefix waits for a lock in a Postgres database.
    pub async fn until_waits(&self, statement: &str) {
        let waits = format!(
            "SELECT FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock' AND query LIKE '{}%'",
            self.name(),
            statement.replace('\'', "''")
        );
        let wait = format!(
            "DO $$ BEGIN FOR i IN 1..3000 LOOP IF EXISTS ({waits}) THEN RETURN; END IF;
                PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; RAISE 'none waits'; END $$"
        );
        execute(&postgres_url(), &wait).await;
    }

    /// The name of a Postgres database.
    pub fn name(&self) -> &str {
        assert_eq!(self.kind, Kind::Postgres);
        let (path, _) = self.url.split_once('?').unwrap_or((&self.url, ""));
        path.rsplit('/').next().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.kind == Kind::Postgres {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name());
            if let Err(error) = block_on(async move { try_execute(&postgres_url(), &drop).await }) {
                eprintln!("the database {} was not removed: {error}", self.url);
            }
        }
    }
}

/// Runs SQL on a connection of its own, as a person would with the database's own tool.
pub async fn execute(url: &str, sql: &str) {
    try_execute(url, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

pub async fn try_execute(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    if url.starts_with("sqlite") {
        let mut db = SqliteConnection::connect(&format!("{url}?mode=rwc")).await?;
        sql.execute(&mut db).await?;
        return db.close().await;
    }
    let mut db = PgConnection::connect(url).await?;
    sql.execute(&mut db).await?;
    db.close().await
}

/// A Postgres URL with the name of its database replaced.
pub fn with_database(url: &str, name: &str) -> String {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let (server, _) = path.rsplit_once('/').expect("a URL that ends in /database");
    query.map_or_else(|| format!("{server}/{name}"), |query| format!("{server}/{name}?{query}"))
}

/// Prevents all others from writing to a table (on SQLite: to the database) until it is released.
pub enum TableLock {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl TableLock {
    pub async fn take(url: &str, table: &str) -> TableLock {
        if url.starts_with("sqlite") {
            let mut db = SqliteConnection::connect(url).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
            return TableLock::Sqlite(db);
        }
        let mut db = PgConnection::connect(url).await.unwrap();
        let lock = format!("SET search_path = tidemill, public; BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut db).await.unwrap();
        TableLock::Postgres(db)
    }

    pub async fn release(self) {
        match self {
            TableLock::Sqlite(mut db) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut db).await.unwrap();
                db.close().await.unwrap();
            }
            TableLock::Postgres(mut db) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut db).await.unwrap();
                db.close().await.unwrap();
            }
        }
    }
}

/// Runs a future to its end from any thread, also from one that belongs to a runtime.
pub(crate) fn block_on<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let runs = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    };
    std::thread::spawn(runs).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
