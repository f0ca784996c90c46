//! Business databases by name, and the access of jobs to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::plugin::Statement;
use domain::scope::ScopeError;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqlitePoolOptions;

use crate::attempts::Attempts;
use crate::config::{DatasourceConfig, SQLITE_CACHE, SQLITE_READERS, SQLITE_WRITER_CACHE, WAIT_MAX};
use crate::db::{Db, Driver, Server, Session, Tx, Writer, agrees};
use crate::error::{StoreError, with_remedy};
use crate::opening::connect::postgres_options;
use crate::opening::sqlite_file::{FileId, SqliteFile};
use crate::store::hide_password;

/// Maximum connections of one host to one Postgres datasource.
const CONNECTIONS_MAX: u32 = 8;
/// Longest check of a statement at load: a database that is unreachable must not delay a plugin for longer.
const CHECK_TIME_MAX: Duration = Duration::from_secs(10);

/// The datasources, connected at first use: an unreachable datasource fails the items that need it, not the
/// host.
#[derive(Debug)]
pub(crate) struct Datasources {
    all: BTreeMap<String, Datasource>,
    /// Names of the datasources that are the store's own database.
    own: BTreeSet<String>,
    /// The store's own file, if it is SQLite.
    own_file: Option<FileId>,
}

#[derive(Debug)]
struct Datasource {
    db: Db,
    /// The file of an SQLite datasource.
    file: Option<SqliteFile>,
}

impl Datasources {
    pub fn new(
        configs: &BTreeMap<String, DatasourceConfig>,
        store_url: &str,
        own_file: Option<FileId>,
    ) -> Result<Datasources, StoreError> {
        let open = |(name, config): (&String, &DatasourceConfig)| {
            let url = config.url.as_str();
            let unusable = |what: &str| {
                StoreError::Unusable(format!("datasource {name:?} ({}): {what}", hide_password(url)))
            };
            if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) {
                let urls = "sqlite://path/to/file.db or postgres://user@host/database";
                return Err(unusable(&format!("not supported, use {urls}")));
            }
            let file = SqliteFile::of(url).transpose().map_err(|what| unusable(&what))?;
            if is_file(file.as_ref(), own_file) {
                return Err(unusable("it is the store's own file, use another for business data"));
            }
            let db = lazy(config, file.as_ref()).map_err(|e| unusable(&e.to_string()))?;
            Ok((name.clone(), Datasource { db, file }))
        };
        let own = configs.iter().filter(|(_, config)| is_same(&config.url, store_url));
        let own = own.map(|(name, _)| name.clone()).collect();
        let all = configs.iter().map(open).collect::<Result<_, StoreError>>()?;
        Ok(Datasources { all, own, own_file })
    }

    pub fn get(&self, name: &str) -> Result<&Db, ScopeError> {
        let missing = || ScopeError::Denied(format!("there is no datasource {name:?} in the configuration"));
        let datasource = self.all.get(name).ok_or_else(missing)?;
        // Checked at each use: a link may have been created since the start.
        if is_file(datasource.file.as_ref(), self.own_file) {
            let text =
                format!("the datasource {name:?} is the store's own file: name another for business data");
            return Err(ScopeError::Denied(text));
        }
        Ok(&datasource.db)
    }

    pub fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    pub async fn close(&self) {
        for datasource in self.all.values() {
            datasource.db.close().await;
        }
    }
}

fn is_file(file: Option<&SqliteFile>, own: Option<FileId>) -> bool {
    own.is_some() && file.and_then(SqliteFile::id) == own
}

/// Whether two URLs name the same Postgres database and the same user. Always `false` for SQLite files.
fn is_same(one: &str, other: &str) -> bool {
    let parse = |url: &str| {
        let options: Option<PgConnectOptions> =
            url.starts_with("postgres").then(|| url.parse().ok()).flatten();
        let options = options?;
        let text = |text: &str| text.to_owned();
        Some((
            text(options.get_host()),
            options.get_port(),
            options.get_database().map(text),
            text(options.get_username()),
        ))
    };
    parse(one).is_some_and(|one| Some(one) == parse(other))
}

fn lazy(config: &DatasourceConfig, file: Option<&SqliteFile>) -> Result<Db, sqlx::Error> {
    if let Some(file) = file {
        let options = file.options()?.busy_timeout(WAIT_MAX);
        let pool = || only_this_file(SqlitePoolOptions::new().acquire_timeout(WAIT_MAX), file.path());
        let writer = Writer::lazy(pool(), options.clone().pragma("cache_size", SQLITE_WRITER_CACHE));
        let options = options.pragma("cache_size", SQLITE_CACHE).read_only(true);
        let readers = pool().max_connections(SQLITE_READERS).connect_lazy_with(options);
        return Ok(Driver::Sqlite { writer, readers }.into());
    }
    let options = postgres_options(&config.url, config.password.as_ref())?.application_name("tidemill job");
    let session = Session::of_datasource(&options);
    // The job limits the time of its statements. A hung connection does not cancel slow ones on other
    // connections.
    Ok(Driver::Postgres(Server::new(options, session, CONNECTIONS_MAX, false)).into())
}

/// Closes connections that were opened before the file was replaced. A file restored from a copy has the same
/// name but is another file, and an old connection would still read the deleted one.
fn only_this_file(pool: SqlitePoolOptions, file: &Path) -> SqlitePoolOptions {
    let file = file.to_owned();
    let seen = Mutex::new((None, Instant::now()));
    pool.before_acquire(move |driver, connection| {
        let now = FileId::of(&file);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != now {
            *seen = (now, Instant::now());
        }
        let is_good = connection.age < seen.1.elapsed() && agrees(driver);
        Box::pin(async move { Ok(is_good) })
    })
}

/// Converts a driver's error. Error texts of databases name tables and columns, never secrets.
pub(crate) fn explain(error: sqlx::Error) -> ScopeError {
    match error {
        // The statement was cancelled at its deadline, by Postgres or SQLite.
        sqlx::Error::Database(e) if e.code().is_some_and(|code| code == "57014" || code == "9") => {
            ScopeError::Limit("the statement took too long".to_owned())
        }
        sqlx::Error::Database(ref e) if e.code().is_some_and(|code| is_away(&code)) => {
            ScopeError::Unavailable(with_remedy(&error))
        }
        sqlx::Error::Database(e) => ScopeError::Database(e.message().to_owned()),
        sqlx::Error::Decode(e) => ScopeError::Database(e.to_string()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => ScopeError::Database(error.to_string()),
        other => ScopeError::Unavailable(other.to_string()),
    }
}

/// Error codes of a database that cannot work now, whatever the statement.
fn is_away(code: &str) -> bool {
    if code.len() == 5 {
        // Postgres: lost connection, insufficient resources, shut down by an operator.
        return ["08", "53", "57P"].iter().any(|class| code.starts_with(class));
    }
    let Ok(code) = code.parse::<u32>() else { return false };
    // SQLite: busy, locked, I/O error, full, cannot be opened, or the file was moved.
    [5, 6, 10, 13, 14].contains(&(code & 0xff)) || code == 1_032
}

impl Attempts<'_> {
    /// Checks that a declared statement can run: its datasource exists and its SQL can be prepared there.
    /// Passes if the datasource is unreachable; the items that use it then fail.
    pub async fn check_statement(self, statement: &Statement) -> Result<(), String> {
        let db = self.store.datasources.get(&statement.datasource).map_err(|e| e.to_string())?;
        let prepare = async {
            let mut tx: Tx = db.begin_declared(false, CHECK_TIME_MAX).await?;
            tx.check_declared(statement).await
        };
        match tokio::time::timeout(CHECK_TIME_MAX, prepare).await {
            Ok(Err(sqlx::Error::Encode(why))) => Err(why.to_string()),
            Ok(Err(error @ sqlx::Error::Database(_))) => match explain(error) {
                ScopeError::Database(text) => Err(text),
                _ => Ok(()),
            },
            Ok(Ok(())) => Ok(()),
            // Unreachable for now, or until a person fixes it. Only the latter can be reported now.
            _ => match &db.driver {
                Driver::Postgres(server) => server.refused().map_or(Ok(()), Err),
                Driver::Sqlite { .. } => Ok(()),
            },
        }
    }
}
