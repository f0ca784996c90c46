//! The host, its databases, and the plugin file that is swapped.

use std::fs;
use std::time::{Duration, Instant};

use domain::id::Digest;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tokio::sync::Mutex;

use crate::figures::Memory;
use crate::support::database::{Databases, Kind};
use crate::support::plugins;
use crate::support::process::{Process, free_port};

pub const JOB: &str = "witness";
/// More than the machine has cores, so that an attempt is always ready to begin.
const CONFIG: &str = "
[jobs.witness]
plugin = \"witness\"
concurrency = 16
grants = { sql = { witness = \"read-write\" }, events = [\"witness\"], keyvalue = true }
limits = { kv_keys = 1000000 }
";
/// The table has no constraint that prevents a second row for the same item.
const TABLE: &str = "PRAGMA journal_mode = WAL;
CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT);
CREATE INDEX witness_by_key ON witness (idempotency_key)";
/// Two plugins that replace each other; each writes its own name.
pub const PAIR: [&str; 2] = ["witness", "witness-b"];
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// An installed version.
pub struct Swapped {
    pub renamed: Instant,
    /// The same instant by the clock that sets the items' timestamps.
    pub at: Timestamp,
    pub digest: String,
}

pub struct Site {
    pub databases: Databases,
    host: Process,
    store: Mutex<SqliteConnection>,
}

impl Site {
    pub async fn start() -> Site {
        let databases = Databases::new(Kind::Sqlite).await;
        databases.business(TABLE).await;
        let folder = databases.dir.path();
        fs::create_dir(folder.join("plugins")).unwrap();
        let address = ([127, 0, 0, 1], free_port()).into();
        let text = format!(
            "[server]\nlisten = \"{address}\"\n[store]\nurl = \"{}\"\n[datasources.witness]\nurl = \"{}\"\n{CONFIG}",
            databases.store_url, databases.business_url
        );
        let config = folder.join("tidemill.toml");
        fs::write(&config, text).unwrap();
        let mut host = Process::spawn(&config, address);
        host.ready().await;
        let store = SqliteConnection::connect(&databases.store_url).await.unwrap();
        Site { databases, host, store: Mutex::new(store) }
    }

    /// Replaces the current version with a version that did not exist before.
    pub fn swap(&self, n: usize) -> Swapped {
        let bytes = version(n);
        let digest = Digest(Sha256::digest(&bytes).into()).to_string();
        let folder = self.databases.dir.path().join("plugins");
        let draft = folder.join(".draft");
        fs::write(&draft, bytes).unwrap();
        let (renamed, at) = (Instant::now(), Timestamp::now());
        fs::rename(&draft, folder.join(format!("{JOB}.wasm"))).unwrap();
        Swapped { renamed, at, digest }
    }

    /// Waits until this version has finished an item and the result is visible in the store. Searches only
    /// attempts that ended since the swap, because host and test share the cores.
    pub async fn first_item(&self, Swapped { at, digest, .. }: &Swapped) {
        let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM attempt WHERE job = 'witness' AND ended_at_ms >= $1 AND digest = unhex($2)
            AND verdict = 'resolved' LIMIT 1)";
        let since = at.as_millisecond();
        let seen = async {
            loop {
                let mut store = self.store.lock().await;
                let query = sqlx::query_scalar(sql).bind(since).bind(digest);
                let seen: i64 = query.fetch_one(&mut *store).await.unwrap();
                drop(store);
                if seen > 0 {
                    return;
                }
                // tidy: sleep because another process gives no signal of its progress
                tokio::time::sleep(POLL).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, seen).await;
        assert!(
            waited.is_ok(),
            "no item was done by {digest} within {PATIENCE:?}; the host said:\n{}",
            self.log()
        );
    }

    /// Number of waiting items.
    pub async fn backlog(&self) -> i64 {
        self.count("SELECT COUNT(*) FROM item WHERE job = 'witness' AND state = 'scheduled'").await
    }

    /// Number of runs that still discover items.
    pub async fn discovering(&self) -> i64 {
        self.count("SELECT COUNT(*) FROM run WHERE job = 'witness' AND state = 'discovering'").await
    }

    /// Number of runs that are not finished.
    pub async fn open(&self) -> i64 {
        self.count("SELECT COUNT(*) FROM run WHERE job = 'witness' AND state IN ('discovering', 'running')")
            .await
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut *self.store.lock().await).await.unwrap()
    }

    pub async fn store_texts(&self, sql: &str) -> Vec<String> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        query.fetch_all(&mut *self.store.lock().await).await.unwrap()
    }

    /// Starts a run that finds these items.
    pub async fn find(&self, first: i64, last: i64) {
        let url = format!("http://{}/api/v1/jobs/{JOB}", self.host.address);
        let post = move || ureq::post(&url).send_json(json!({ "params": { "first": first, "last": last } }));
        tokio::task::spawn_blocking(post).await.unwrap().unwrap();
    }

    /// Resident memory of the host.
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.host.child.id().unwrap())).unwrap();
        let kib = |name: &str| -> i64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Memory { all_kib: kib("VmRSS:"), own_kib: kib("RssAnon:") }
    }

    pub async fn stop(self) {
        self.store.into_inner().close().await.unwrap();
        self.host.terminate().await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.databases.dir.path().join("tidemill.log")).unwrap()
    }
}

/// The same component with its number at its end, so that no cache knows the version, compiled or not.
fn version(n: usize) -> Vec<u8> {
    let mut bytes = fs::read(plugins::file(PAIR[n % 2])).unwrap();
    let note = format!("\u{5}trial{n:06}");
    // A custom section: its kind, its length, the length of its name, its name and its content.
    bytes.extend([0, u8::try_from(note.len()).unwrap()]);
    bytes.extend(note.as_bytes());
    bytes
}
