//! The open store: connections, the committer and the wake-up.

use std::path::Path;

use domain::secret::Secret;
use jiff::Timestamp;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::answers::Running;
use crate::commit::Committer;
use crate::config::{
    POSTGRES_CONNECTIONS_MAX, SQLITE_CACHE, SQLITE_READERS, SQLITE_WRITER_CACHE, StoreConfig, WAIT_MAX,
};
use crate::datasource::Datasources;
use crate::db::{Db, Refusal, Server, Session, Turn, Whole, Writer, agrees, text};
use crate::error::{StoreError, with_remedy};
use crate::room::Room;
use crate::taken::Taken;
use crate::tasks::Tasks;
use crate::wake::Wake;
use crate::{migrate, sql};

/// First SQLite without the WAL-reset corruption.
const SQLITE_VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

pub struct Store {
    pub(crate) db: Db,
    pub(crate) datasources: Datasources,
    pub(crate) committer: Committer,
    pub(crate) taken: Taken,
    pub(crate) room: Room,
    pub(crate) running: Running,
    wake: Wake,
    tasks: Tasks,
}

impl Store {
    /// Connects, checks and migrates.
    pub async fn open(config: &StoreConfig) -> Result<Store, StoreError> {
        let db = connect(config).await?;
        check_version(&db).await?;
        migrate::run(&db).await?;
        let tasks = Tasks::default();
        Ok(Store {
            datasources: Datasources::new(&config.datasources, &config.url)?,
            committer: Committer::start(db.clone(), &tasks),
            taken: Taken::default(),
            room: Room::default(),
            running: Running::default(),
            wake: Wake::start(&db, &tasks),
            tasks,
            db,
        })
    }

    /// Tells waiting loops, of other hosts too, that there may be work.
    /// A request whose writes are not committed yet wakes them when they are.
    pub fn wake(&self) {
        match Whole::current() {
            Some(whole) => whole.wake_later(),
            None => self.wake.wake(),
        }
    }

    /// Resolves at the next [`Store::wake`]. Make it before looking for work, wait on it after.
    pub fn woken(&self) -> tokio::sync::futures::OwnedNotified {
        self.wake.woken()
    }

    /// The database's clock: the one that all hosts share.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let rows = self.db.fetch(sql::hosts::NOW, &[]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("the database tells no time".to_owned()))?;
        row.time("now_ms")
    }

    /// The supervised background loops of this process.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.fetch(sql::hosts::VERSION, &[]).await.map(|_| ())
    }

    /// Why this host could not make a connection to its database lately, though others may still work.
    pub fn connection_trouble(&self) -> Option<String> {
        self.db.trouble()
    }

    /// Ends the committer after what it was given, then closes the connections.
    pub async fn close(&self) {
        self.committer.stop().await;
        self.wake.stop().await;
        self.datasources.close().await;
        self.db.close().await;
    }
}

async fn connect(config: &StoreConfig) -> Result<Db, StoreError> {
    let url = config.url.as_str();
    if url.starts_with("sqlite:") {
        return sqlite(url, true).await;
    }
    if config.is_postgres() {
        return postgres(url, config.password.as_ref()).await;
    }
    Err(StoreError::Unusable(format!(
        "store url {:?} is not supported: use sqlite://path/to/file.db or postgres://user@host/database",
        hide_password(url)
    )))
}

/// `durable` is for what we promise; a datasource's own settings are left alone.
pub(crate) async fn sqlite(url: &str, durable: bool) -> Result<Db, StoreError> {
    let unusable = |what: String| StoreError::Unusable(format!("SQLite at {url:?}: {what}"));
    if durable && (url.contains(":memory:") || url.contains("mode=memory")) {
        return Err(unusable("a database in memory is gone with its process: name a file".to_owned()));
    }
    let mut options: SqliteConnectOptions = url.parse().map_err(|e: sqlx::Error| unusable(e.to_string()))?;
    options = options.busy_timeout(WAIT_MAX);
    if durable {
        let folder = options.get_filename().parent().filter(|p| *p != Path::new("")).map(Path::to_owned);
        if options.get_filename().is_dir() {
            return Err(unusable("it is a folder: name a file in it".to_owned()));
        }
        if let Some(folder) = folder {
            std::fs::create_dir_all(&folder).map_err(|e| {
                unusable(format!(
                    "cannot make the folder {}: {e}; name one that this user may make and write to",
                    folder.display()
                ))
            })?;
        }
        options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
    }
    let written = options.clone().pragma("cache_size", SQLITE_WRITER_CACHE);
    let writer = Writer::durable(written).await.map_err(|e| unusable(sqlite_hint(&e)))?;
    let readers = SqlitePoolOptions::new().max_connections(SQLITE_READERS).acquire_timeout(WAIT_MAX);
    let readers = readers.before_acquire(|connection, _| {
        let good = agrees(connection);
        Box::pin(async move { Ok(good) })
    });
    let readers = readers.connect_lazy_with(options.pragma("cache_size", SQLITE_CACHE).read_only(true));
    if durable {
        // A read-only file opens well, and even begins: only a write tells. It is rolled back.
        let write = async {
            let mut tx = writer.begin(Turn::Work).await?;
            sqlx::query("CREATE TABLE write_check (id TEXT)").execute(&mut **tx).await
        };
        write.await.map_err(|e| unusable(sqlite_hint(&e)))?;
    }
    Ok(Db::Sqlite { writer, readers })
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

async fn postgres(url: &str, password: Option<&Secret>) -> Result<Db, StoreError> {
    let shown = hide_password(url);
    let bad = |e: sqlx::Error| StoreError::Unusable(format!("Postgres at {shown:?}: {e}"));
    let options = postgres_options(url, password).map_err(bad)?.application_name("tidemill");
    let session = Session::of_store(&options);
    let server = Server::new(options, session, POSTGRES_CONNECTIONS_MAX, true);
    let about = |refusal: Refusal| match refusal {
        Refusal::Unusable(text) => StoreError::Unusable(format!("Postgres at {shown:?}: {text}")),
        Refusal::Passing(text) => StoreError::Unavailable(format!("Postgres at {shown:?}: {text}")),
    };
    let mut first = server.first().await.map_err(about)?;
    refuse_stray_tables(&mut first).await.map_err(about)?;
    make_schema(&mut first).await.map_err(bad)?;
    server.prepare(&mut first).await.map_err(about)?;
    first.close().await?;
    Ok(Db::Postgres(server))
}

/// Behind a pooler that drops startup options, earlier versions made their tables in `public`. A second store beside that
/// one would fire each tick once more.
async fn refuse_stray_tables(conn: &mut PgConnection) -> Result<(), Refusal> {
    let strays = "SELECT CAST(to_regclass('tidemill._sqlx_migrations') IS NULL AND to_regclass('public._sqlx_migrations') IS NOT NULL
        AND to_regclass('public.item') IS NOT NULL AND to_regclass('public.tick') IS NOT NULL AS text)";
    if text(conn, strays).await?.as_deref() != Some("true") {
        return Ok(());
    }
    Err(Refusal::Unusable(
        "this database has a store in the schema public, where an earlier tidemill put it behind a connection pooler; stop \
         all hosts, then move its tables (ALTER TABLE public.item SET SCHEMA tidemill, and so on, also _sqlx_migrations) or drop \
         them: docs/operating.md, Postgres"
            .to_owned(),
    ))
}

/// Of an address, with the password that it does not hold.
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

/// Asks first: a user who may not make schemas can be given one.
async fn make_schema(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let exists = "SELECT 1 FROM pg_namespace WHERE nspname = 'tidemill'";
    if sqlx::query(exists).fetch_optional(&mut *conn).await?.is_some() {
        return Ok(());
    }
    match sqlx::query("CREATE SCHEMA IF NOT EXISTS tidemill").execute(&mut *conn).await {
        // Two hosts that start at the same time: IF NOT EXISTS does not see the other's.
        Err(sqlx::Error::Database(e)) if e.is_unique_violation() => Ok(()),
        result => result.map(|_| ()),
    }
}

async fn check_version(db: &Db) -> Result<(), StoreError> {
    let rows = db.fetch(sql::hosts::VERSION, &[]).await?;
    let version = rows.first().map(|row| row.text("version")).transpose()?.unwrap_or_default();
    if let Db::Sqlite { .. } = db
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

/// Parameters of a database's URL whose values are no secrets. Every other value is hidden: a misspelt `password` is not
/// known to be one.
const SHOWN_PARAMETERS: [&str; 14] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "sslcert",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "application_name",
    "mode",
    "cache",
    "immutable",
    "vfs",
];

/// An URL for people to read, without its password. That may hold any character,
/// so all from the first `:` behind the scheme to the last `@` goes.
pub fn hide_password(url: &str) -> String {
    let scheme = url.find("://").map(|at| at + 3).or_else(|| url.find(':').map(|at| at + 1));
    let (scheme, rest) = url.split_at(scheme.unwrap_or(0));
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => rest.to_owned(),
    };
    let Some((address, query)) = rest.split_once('?') else {
        return format!("{scheme}{rest}");
    };
    let is_web = scheme.starts_with("http");
    let shown = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if !is_web && SHOWN_PARAMETERS.contains(&name) => pair.to_owned(),
        Some((name, _)) => format!("{name}=..."),
        None => "...".to_owned(),
    };
    let query: Vec<String> = query.split('&').map(shown).collect();
    format!("{scheme}{address}?{}", query.join("&"))
}
