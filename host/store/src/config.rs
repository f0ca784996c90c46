//! What the store needs to know, checked by whoever read it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use domain::address::Address;
use domain::secret::Secret;

#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite://path/to/file.db` or `postgres://user@host/database`.
    pub url: String,
    /// Postgres' password where the address holds none.
    pub password: Option<Secret>,
    /// Business databases by the name under which jobs are granted them.
    pub datasources: BTreeMap<String, DatasourceConfig>,
}

impl StoreConfig {
    /// Several hosts can work on it.
    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres:") || self.url.starts_with("postgresql:")
    }
}

#[derive(Clone)]
pub struct DatasourceConfig {
    pub url: String,
    /// Postgres' password where the address holds none.
    pub password: Option<Secret>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreConfig { url, password, datasources } = self;
        let url = Address::new(url.as_str());
        let mut shown = f.debug_struct("StoreConfig");
        shown.field("url", &url).field("password", password).field("datasources", datasources).finish()
    }
}

impl fmt::Debug for DatasourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Address::new(self.url.as_str());
        f.debug_struct("DatasourceConfig").field("url", &url).field("password", &self.password).finish()
    }
}

/// Readers of an SQLite file beside its one writer.
pub const SQLITE_READERS: u32 = 6;
/// How much of a database a connection of SQLite remembers, as negative KiB. A build of SQLite that manages its memory, as
/// this one does, lets one connection take the sum of all: with SQLite's own 2 MiB for each that may be 20 MiB.
pub const SQLITE_CACHE: &str = "-256";
/// The same for the one connection that writes: what does not fit goes to the disk before its commit, and locks others out.
pub const SQLITE_WRITER_CACHE: &str = "-2048";
/// Where our tables are on Postgres.
pub const SCHEMA: &str = domain::plugin::OWN_SCHEMA;
pub const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// Longest wait for a connection, and for a lock of SQLite.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest time that Postgres works on one statement.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes of a list that somebody asks for: several are in memory at a time, more than once each.
pub const LIST_BYTES_MAX: usize = 16 << 20;
/// Attempts that one transaction commits at most.
pub const COMMIT_BATCH_MAX: usize = 256;
