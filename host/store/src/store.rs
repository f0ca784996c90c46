//! The open store: connections, the committer and the wake-up.

use std::path::Path;

use domain::address::Address;
use domain::secret::Secret;
use jiff::Timestamp;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::answers::Running;
use crate::commit::Committer;
use crate::config::{
    POSTGRES_CONNECTIONS_MAX, SCHEMA, SQLITE_CACHE, SQLITE_READERS, SQLITE_WRITER_CACHE, STATEMENT_TIME_MAX,
    StoreConfig, WAIT_MAX,
};
use crate::datasource::Datasources;
use crate::db::{Db, Turn, Whole, Writer, agrees};
use crate::error::{StoreError, with_remedy};
use crate::room::Room;
use crate::taken::Taken;
use crate::tasks::Tasks;
use crate::wake::Wake;
use crate::{migrate, sql};

/// First SQLite without the WAL-reset corruption.
const SQLITE_VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// Statistics of the planner say what a table held when it was last analysed, which for a queue is mostly nothing; a
/// plan that was made then is kept for the prepared statement. So plans that read a whole table, or join one whole, are
/// out, whatever the statistics say: what remains are steps in an index. Costs are no measure then, and must not start
/// the compiler of Postgres.
const HOT_PLANS: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

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
    let options = postgres_options(url, password).map_err(bad)?;
    let millis = STATEMENT_TIME_MAX.as_millis().to_string();
    let options = options.application_name("tidemill").options([
        ("search_path", SCHEMA),
        ("statement_timeout", millis.as_str()),
        ("synchronous_commit", "on"),
    ]);
    let options = options.options(HOT_PLANS);
    let away = |what: String| {
        let check = "check that it runs, the address, the user and the password";
        StoreError::Unavailable(format!("Postgres at {shown:?}: {what}; {check}"))
    };
    // A pool keeps the reason to itself and says that it timed out.
    let mut first = tokio::time::timeout(WAIT_MAX, PgConnection::connect_with(&options))
        .await
        .map_err(|_| away(format!("no answer within {WAIT_MAX:?}")))?
        .map_err(|e| away(e.as_database_error().map_or_else(|| e.to_string(), |e| e.message().to_owned())))?;
    make_schema(&mut first).await.map_err(bad)?;
    first.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS_MAX)
        .acquire_timeout(WAIT_MAX)
        .connect_with(options)
        .await
        .map_err(|e| away(e.to_string()))?;
    Ok(Db::Postgres(pool))
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

/// An URL for people to read, without its secrets.
pub fn hide_password(url: &str) -> String {
    Address::new(url).to_string()
}
