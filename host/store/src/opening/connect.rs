//! Connects to the database of a store, and checks that it can be used.

use domain::secret::Secret;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::config::{
    POSTGRES_CONNECTIONS_MAX, SQLITE_CACHE, SQLITE_READERS, SQLITE_WRITER_CACHE, StoreConfig, WAIT_MAX,
};
use crate::db::{Db, Driver, Guard, Refusal, Server, Session, WritePriority, Writer, agrees, text};
use crate::error::{StoreError, with_remedy};
use crate::opening::schema::{self, Opening};
use crate::opening::sql as opening_sql;
use crate::opening::sqlite_file::SqliteFile;
use crate::store::hide_password;

/// The first SQLite without the WAL-reset corruption.
const SQLITE_VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

pub(crate) async fn connect(config: &StoreConfig, opening: Opening) -> Result<Db, StoreError> {
    let url = config.url.as_str();
    if url.starts_with("sqlite:") {
        if let Opening::AsIs = opening {
            schema::check_file(url).await?;
        }
        return sqlite(url).await;
    }
    if config.is_postgres() {
        return postgres(config, opening).await;
    }
    Err(StoreError::Unusable(format!(
        "store url {:?} is not supported: use sqlite://path/to/file.db or postgres://user@host/database",
        hide_password(url)
    )))
}

pub(crate) async fn sqlite(url: &str) -> Result<Db, StoreError> {
    let shown = hide_password(url);
    let unusable = |what: String| StoreError::Unusable(format!("SQLite at {shown:?}: {what}"));
    let file = SqliteFile::of(url).ok_or_else(|| unusable("it is no SQLite address".to_owned()))?;
    let file = file.map_err(unusable)?;
    let real = file.make().map_err(unusable)?;
    let guarded = |options| Guard::new(file.path(), &real, options);
    // Opened by the real path, beside which the lock file was created, so that both belong to the same file.
    let options = file.options().map_err(|e| unusable(e.to_string()))?.filename(&real);
    let options = options
        .busy_timeout(WAIT_MAX)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true);
    let written = options.clone().pragma("cache_size", SQLITE_WRITER_CACHE);
    let writer = Writer::durable(written).await.map_err(|e| unusable(sqlite_hint(&e)))?;
    let readers = SqlitePoolOptions::new().max_connections(SQLITE_READERS).acquire_timeout(WAIT_MAX);
    let readers = readers.before_acquire(|connection, _| {
        let good = agrees(connection);
        Box::pin(async move { Ok(good) })
    });
    let opened = writer.clone();
    let readers = readers.after_connect(move |_, _| {
        let checked = opened.check();
        Box::pin(async move { checked })
    });
    let options = options.pragma("cache_size", SQLITE_CACHE).read_only(true);
    let guard = guarded(options.clone());
    let readers = readers.connect_lazy_with(options);
    // A read-only file opens without an error, and even BEGIN succeeds; only a write fails. The write is
    // rolled back.
    let write = async {
        let mut tx = writer.begin(WritePriority::Work).await?;
        sqlx::query("CREATE TABLE write_check (id TEXT)").execute(&mut **tx).await
    };
    write.await.map_err(|e| unusable(sqlite_hint(&e)))?;
    writer.watch(guard.await.map_err(|e| unusable(sqlite_hint(&e)))?);
    Ok(Driver::Sqlite { writer, readers }.into())
}

fn sqlite_hint(error: &sqlx::Error) -> String {
    let text = with_remedy(error);
    if text != error.to_string() {
        return text;
    }
    if text.contains("readonly") {
        return format!("the file or its folder is read-only ({text}): make both writable for this user");
    }
    if text.contains("not a database") {
        return format!("the file is no SQLite database ({text}): move it away, or name another file");
    }
    format!("{text}; check that the folder exists and is writable for this user")
}

async fn postgres(config: &StoreConfig, opening: Opening) -> Result<Db, StoreError> {
    let server = server(config)?;
    let about = |refusal| refused(config, refusal);
    // A pool would hide the reason and report only a timeout.
    let mut first = server.first().await.map_err(about)?;
    refuse_stray_tables(&mut first).await.map_err(about)?;
    schema::check_postgres(&mut first, &config.url, opening).await?;
    make_schema(&mut first).await.map_err(|e| bad_postgres(config, e))?;
    server.prepare(&mut first).await.map_err(about)?;
    first.close().await?;
    Ok(Driver::Postgres(server).into())
}

fn server(config: &StoreConfig) -> Result<Server, StoreError> {
    let options = postgres_options(&config.url, config.password.as_ref());
    let options = options.map_err(|e| bad_postgres(config, e))?.application_name("tidemill");
    let session = Session::of_store(&options);
    Ok(Server::new(options, session, POSTGRES_CONNECTIONS_MAX, true))
}

/// Makes one connection without the session settings, or returns why that failed.
pub(crate) async fn first_connection(config: &StoreConfig) -> Result<PgConnection, StoreError> {
    server(config)?.first().await.map_err(|refusal| refused(config, refusal))
}

fn refused(config: &StoreConfig, refusal: Refusal) -> StoreError {
    let shown = hide_password(&config.url);
    match refusal {
        Refusal::Unusable(text) => StoreError::Unusable(format!("Postgres at {shown:?}: {text}")),
        Refusal::Passing(text) => StoreError::Unavailable(format!("Postgres at {shown:?}: {text}")),
    }
}

fn bad_postgres(config: &StoreConfig, error: sqlx::Error) -> StoreError {
    StoreError::Unusable(format!("Postgres at {:?}: {error}", hide_password(&config.url)))
}

/// Behind a pooler that drops startup options, earlier versions created their tables in `public`. A second
/// store beside that one would fire each tick twice.
async fn refuse_stray_tables(conn: &mut PgConnection) -> Result<(), Refusal> {
    let strays = "SELECT CAST(to_regclass('tidemill._sqlx_migrations') IS NULL AND to_regclass('public._sqlx_migrations') IS NOT NULL
        AND to_regclass('public.item') IS NOT NULL AND to_regclass('public.tick') IS NOT NULL AS text)";
    if text(conn, strays).await?.as_deref() != Some("true") {
        return Ok(());
    }
    Err(Refusal::Unusable(
        "this database has a store in the schema public, where an earlier tidemill put it behind a connection pooler; stop \
         all hosts, then move its tables (ALTER TABLE public.item SET SCHEMA tidemill, and so on, also _sqlx_migrations) or drop \
         them: docs/install.md, Postgres"
            .to_owned(),
    ))
}

/// The options of an address, with a password that it does not contain.
pub(crate) fn postgres_options(
    url: &str,
    password: Option<&Secret>,
) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    Ok(match password {
        Some(password) => options.password(password.reveal()),
        None => options,
    })
}

/// Checks for the schema first: an administrator can create it for a user who may not create schemas.
async fn make_schema(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let exists = "SELECT 1 FROM pg_namespace WHERE nspname = 'tidemill'";
    if sqlx::query(exists).fetch_optional(&mut *conn).await?.is_some() {
        return Ok(());
    }
    match sqlx::query("CREATE SCHEMA IF NOT EXISTS tidemill").execute(&mut *conn).await {
        // Two hosts start at the same time: IF NOT EXISTS does not see the other's uncommitted schema.
        Err(sqlx::Error::Database(e)) if e.is_unique_violation() => Ok(()),
        result => result.map(|_| ()),
    }
}

pub(crate) async fn check_version(db: &Db) -> Result<(), StoreError> {
    let rows = db.fetch(opening_sql::VERSION, &[]).await?;
    let version = rows.first().map(|row| row.text("version")).transpose()?.unwrap_or_default();
    if let Driver::Sqlite { .. } = db.driver
        && numbers(&version) < SQLITE_VERSION_MIN
    {
        let (major, minor, patch) = SQLITE_VERSION_MIN;
        return Err(StoreError::Unusable(format!(
            "this build carries SQLite {version}, which can corrupt a WAL database: build with {major}.{minor}.{patch} or later"
        )));
    }
    Ok(())
}

pub(crate) fn numbers(version: &str) -> (u32, u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}
