//! The world's connection pool, with the same SQL on two databases.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

/// How long a writer waits for another process that writes to the same SQLite file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection. Longer than `BUSY_TIMEOUT`, so that the blocked writer
/// reports the error.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: u32 = 4;

#[derive(Clone, Debug)]
pub enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs the same body on the pool's database. The caller names the pool's variable.
macro_rules! on {
    ($pool:expr, |$db:ident| $body:expr) => {
        match $pool {
            $crate::pool::Pool::Sqlite($db) => $body,
            $crate::pool::Pool::Postgres($db) => $body,
        }
    };
}

impl Pool {
    /// `create` makes a missing SQLite file. A Postgres database has to exist in either case.
    pub async fn connect(url: &str, create: bool) -> Result<Pool> {
        if url.starts_with("sqlite:") {
            return sqlite(url, create).await;
        }
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool = PgPoolOptions::new()
                .max_connections(MAX_CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect(url)
                .await
                .context("cannot connect to the business database on Postgres; check host, port, database and password of its url")?;
            return Ok(Pool::Postgres(pool));
        }
        // Only the scheme is shown, because the rest of a URL may contain a password.
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        bail!(
            "the url of the business database has the scheme {scheme:?}; use sqlite:///path/to/file.db or postgres://user@host/database"
        )
    }

    pub async fn close(&self) {
        on!(self, |db| db.close().await)
    }
}

async fn sqlite(url: &str, create: bool) -> Result<Pool> {
    let (path, parameters) = split(url);
    if path.is_empty() || path == ":memory:" || parameters.contains("mode=memory") {
        // Each connection would get its own database, and other processes could not see it.
        bail!(
            "the business database cannot live in memory, other processes must see it; use sqlite:///path/to/file.db"
        );
    }
    // The driver decodes a path in a URL; this one is used unchanged.
    let options: SqliteConnectOptions = format!("sqlite://file?{parameters}")
        .parse()
        .context("the url of the business database is not an SQLite url")?;
    let file = std::path::absolute(path).with_context(|| format!("the path {path:?} has no meaning"))?;
    let options = options
        .filename(file)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = SqlitePoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .with_context(|| {
            format!(
                "cannot open the business database {path}; check that its folder exists and may be written"
            )
        })?;
    Ok(Pool::Sqlite(pool))
}

/// The path and the parameters of an SQLite URL. The parameters begin at the last `?` of the file name.
fn split(url: &str) -> (&str, &str) {
    let rest = url.trim_start_matches("sqlite:");
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let name = rest.rfind('/').map_or(0, |at| at + 1);
    match rest[name..].rfind('?') {
        Some(at) => (&rest[..name + at], &rest[name + at + 1..]),
        None => (rest, ""),
    }
}
