//! Compares a database's tables with those of this version, and decides who may change them. A running host
//! of an older version does not know newer tables. So only a starting host and `tidemill migrate` change
//! them, and on Postgres only while no other host is running.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
use tokio::time::Instant;

use crate::config::{StoreConfig, WAIT_MAX};
use crate::error::StoreError;
use crate::opening::connect;
use crate::opening::migrate::{self, Applied};
use crate::opening::sqlite_file::SqliteFile;
use crate::store;

/// The table changes that opening a store may make.
#[derive(Debug, Clone, Copy)]
pub enum Opening {
    /// Creates the tables, or upgrades those of an older version. On Postgres, an upgrade is refused while a
    /// host is running, that is, while it writes a heartbeat within the time of a `lease`.
    Upgrade { lease: Duration },
    /// Refuses any tables except those of this version.
    AsIs,
}

impl Opening {
    /// Upgrades unless a host with the usual lease time is running.
    pub const UPGRADE: Opening = Opening::Upgrade { lease: Duration::from_secs(15) };
}

/// The tables of a database, compared with those of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The number of the database's last migration; `None` if it has no tables of the host.
    pub present: Option<i64>,
    /// The number of the last migration of this version.
    pub latest: i64,
    /// Number and name of the migrations that an upgrade would apply.
    pub pending: Vec<(i64, &'static str)>,
}

impl Schema {
    /// Reads a database's schema without changes. Refuses tables of a newer version or of a different build.
    pub async fn of(config: &StoreConfig) -> Result<Schema, StoreError> {
        if !config.is_postgres() {
            return of_file(&config.url).await;
        }
        let mut connection = connect::first_connection(config).await?;
        let schema = of_postgres(&mut connection).await;
        connection.close().await?;
        schema
    }

    pub fn is_current(&self) -> bool {
        self.present.is_some() && self.pending.is_empty()
    }

    /// Whether an upgrade has begun to copy the items, and another start has to continue it.
    pub fn is_copying(&self) -> bool {
        self.present == Some(migrate::WORK) && !self.is_current()
    }

    /// The error for a store whose tables do not have this version.
    fn refusal(&self, url: &str) -> StoreError {
        let (url, latest, version) = (store::hide_password(url), self.latest, env!("CARGO_PKG_VERSION"));
        StoreError::Unusable(match self.present {
            None => format!(
                "there is no store at {url:?} yet, and this command does not make one: \
                 start the host with `tidemill serve`, or make it with `tidemill migrate`"
            ),
            Some(_) if self.is_copying() => format!(
                "the upgrade of the store at {url:?} to schema {latest} has begun and is not complete: run `tidemill migrate` or \
                 start the host of tidemill {version}, which continue where it stopped"
            ),
            Some(present) => format!(
                "the store at {url:?} has schema {present}, and this tidemill {version} needs schema {latest}; this command \
                 does not upgrade it, because hosts of the older version may be running. Stop them, make a copy of the \
                 database, and run `tidemill migrate` or start the new host; until then use the older tidemill"
            ),
        })
    }
}

/// Refuses a file whose tables do not have this version.
pub(crate) async fn check_file(url: &str) -> Result<(), StoreError> {
    let schema = of_file(url).await?;
    if schema.is_current() { Ok(()) } else { Err(schema.refusal(url)) }
}

/// Refuses tables that this opening may not change.
pub(crate) async fn check_postgres(
    connection: &mut PgConnection,
    url: &str,
    opening: Opening,
) -> Result<(), StoreError> {
    let schema = of_postgres(connection).await?;
    match opening {
        _ if schema.is_current() => Ok(()),
        Opening::AsIs => Err(schema.refusal(url)),
        Opening::Upgrade { lease } => match schema.present {
            None => Ok(()),
            Some(present) => check_hosts(connection, present, lease).await,
        },
    }
}

async fn of_file(url: &str) -> Result<Schema, StoreError> {
    let shown = store::hide_password(url);
    let refused = |what: String| StoreError::Unusable(format!("SQLite at {shown:?}: {what}"));
    let unusable = |e: sqlx::Error| refused(e.to_string());
    let file = SqliteFile::of(url).ok_or_else(|| refused("it is no SQLite address".to_owned()))?;
    let file = file.map_err(refused)?;
    if file.found().map_err(refused)?.is_none() {
        return migrate::compare_sqlite(Vec::new());
    }
    let options = file.options().map_err(unusable)?.create_if_missing(false);
    let options = options.read_only(true).busy_timeout(WAIT_MAX);
    let mut connection = options.connect().await.map_err(unusable)?;
    let applied = applied_in_file(&mut connection).await.map_err(unusable);
    connection.close().await?;
    migrate::compare_sqlite(applied?)
}

async fn applied_in_file(connection: &mut SqliteConnection) -> Result<Vec<Applied>, sqlx::Error> {
    let exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    if sqlx::query(exists).fetch_optional(&mut *connection).await?.is_none() {
        return Ok(Vec::new());
    }
    sqlx::query_as(APPLIED).fetch_all(connection).await
}

async fn of_postgres(connection: &mut PgConnection) -> Result<Schema, StoreError> {
    let exists = "SELECT 1 WHERE to_regclass('tidemill._sqlx_migrations') IS NOT NULL";
    if sqlx::query(exists).fetch_optional(&mut *connection).await?.is_none() {
        return migrate::compare_postgres(Vec::new());
    }
    let applied = "SELECT version, success, checksum FROM tidemill._sqlx_migrations ORDER BY version";
    migrate::compare_postgres(sqlx::query_as(applied).fetch_all(connection).await?)
}

const APPLIED: &str = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";

/// Hosts that did not stop, and the milliseconds since their last heartbeat. Uses only columns that each
/// version has.
const UNSTOPPED: &str = "SELECT id, name, heartbeat_at_ms,
        CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - heartbeat_at_ms
    FROM tidemill.host WHERE stopped_at_ms IS NULL ORDER BY name, id";

/// Interval between two reads of the other hosts' heartbeats.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(500);

/// Refuses to upgrade while a host is running. A heartbeat that is too old by the database's clock is
/// ignored. A recent one may be from a host that was killed, so it counts only once it changes.
async fn check_hosts(connection: &mut PgConnection, present: i64, lease: Duration) -> Result<(), StoreError> {
    let until = Instant::now() + lease;
    let old = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let mut first: Option<BTreeMap<String, i64>> = None;
    loop {
        let hosts: Vec<(String, String, i64, i64)> =
            sqlx::query_as(UNSTOPPED).fetch_all(&mut *connection).await?;
        let first = first.get_or_insert_with(|| {
            let recent = hosts.iter().filter(|(.., age)| *age < old);
            recent.map(|(id, _, beat, _)| (id.clone(), *beat)).collect()
        });
        let running =
            hosts.iter().filter(|(id, _, beat, _)| first.get(id).is_some_and(|first| first != beat));
        let running: Vec<String> = running.map(|(id, name, ..)| format!("{name:?} ({id})")).collect();
        if !running.is_empty() {
            // Another host that started at the same time may have upgraded the tables.
            let schema = of_postgres(connection).await?;
            return if schema.is_current() { Ok(()) } else { Err(hosts_run(present, &schema, &running)) };
        }
        first.retain(|id, _| hosts.iter().any(|(host, ..)| host == id));
        if first.is_empty() || Instant::now() >= until {
            return Ok(());
        }
        tokio::time::sleep(LOOKED_AT_EVERY).await;
    }
}

fn hosts_run(present: i64, schema: &Schema, running: &[String]) -> StoreError {
    StoreError::Unusable(format!(
        "the store has schema {present} and this tidemill {} needs schema {}, but hosts are running on the store: {}. \
         An upgrade would change the tables under them: stop every host, then start this one; nothing was changed",
        env!("CARGO_PKG_VERSION"),
        schema.latest,
        running.join(", ")
    ))
}
