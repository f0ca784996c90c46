//! The store's configuration, already validated by the caller.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use domain::address::Address;
use domain::secret::Secret;

#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite://path/to/file.db` or `postgres://user@host/database`.
    pub url: String,
    /// The password for Postgres, if the URL holds none.
    pub password: Option<Secret>,
    /// Whether the hosts of a Postgres store tell each other of changes by LISTEN and NOTIFY.
    pub notify: bool,
    /// Business databases by the name under which they are granted to jobs.
    pub datasources: BTreeMap<String, DatasourceConfig>,
}

impl StoreConfig {
    /// Several hosts can share a Postgres store.
    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres:") || self.url.starts_with("postgresql:")
    }
}

#[derive(Clone)]
pub struct DatasourceConfig {
    pub url: String,
    /// The password for Postgres, if the URL holds none.
    pub password: Option<Secret>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreConfig { url, password, notify, datasources } = self;
        let url = Address::new(url.as_str());
        let mut shown = f.debug_struct("StoreConfig");
        shown.field("url", &url).field("password", password).field("notify", notify);
        shown.field("datasources", datasources).finish()
    }
}

impl fmt::Debug for DatasourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Address::new(self.url.as_str());
        f.debug_struct("DatasourceConfig").field("url", &url).field("password", &self.password).finish()
    }
}

/// Reading connections to an SQLite file, beside its one writer.
pub const SQLITE_READERS: u32 = 6;
/// SQLite's page cache per connection, in negative KiB. SQLite is built with memory management here, so one
/// connection may use the sum of all caches: with SQLite's default of 2 MiB each, up to 20 MiB.
pub const SQLITE_CACHE: &str = "-256";
/// The page cache of the writing connection. Changes that do not fit are written to disk before the commit,
/// and that locks out other connections.
pub const SQLITE_WRITER_CACHE: &str = "-2048";
/// The schema of the host's tables on Postgres.
pub const SCHEMA: &str = domain::plugin::OWN_SCHEMA;
pub const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// Maximum wait for a connection, and for a lock of SQLite.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// Maximum time of one statement on Postgres.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(20);
/// Maximum bytes of a list that a user requests. Several lists may be in memory at a time, each more than
/// once.
pub const LIST_BYTES_MAX: usize = 16 << 20;
/// Maximum number of attempts that one transaction commits.
pub const COMMIT_BATCH_MAX: usize = 256;
