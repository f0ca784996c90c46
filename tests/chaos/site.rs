//! Databases, hosts, and the lines between them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::ask::{NoAnswer, ask};
use crate::support::database::{Databases, Kind};
use crate::support::plugins;
use crate::support::process::{Process, free_port};
use crate::wire::Wire;

/// Attempts of the first job end with their leases; those of the second continue and are refused when they
/// end.
pub const JOBS: [&str; 2] = ["witness", "steady"];
/// Attempts take long enough that every kill and stop meets some, but hold a transaction open only briefly: a
/// host has 8 connections to a business database on Postgres, and SQLite has one writer. No item counts as
/// poison, however often its hosts are killed.
const JOB: &str = "
[jobs.NAME]
plugin = \"witness\"
concurrency = 16
config = { work_ms = 400, hold_ms = HOLD }
grants = { sql = { witness = \"read-write\" }, events = [\"witness\"], keyvalue = true }
retry = { base = \"1s\", cap = \"5s\", crashes_max = 1000 }
limits = { items_per_page = 10, kv_keys = 1000000 }
";
const GOES_ON: &str = "on_store_loss = \"continue-idempotent\"\n";
/// The table has no constraint that prevents a second row for the same item.
const TABLE: &str = "
CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT);
CREATE INDEX witness_by_key ON witness (idempotency_key)";
const STARTS_MAX: u32 = 20;
const START_REST: Duration = Duration::from_secs(1);

pub struct Site {
    pub databases: Databases,
    pub places: Vec<HostLocation>,
}

/// One host's configuration and address. Its processes are started and killed.
pub struct HostLocation {
    pub name: String,
    pub port: u16,
    /// None on SQLite.
    pub wire: Option<Wire>,
    config: PathBuf,
    data: PathBuf,
}

impl Site {
    pub async fn new(kind: Kind) -> Site {
        let databases = Databases::new(kind).await;
        plugins::install(&databases.dir.path().join("plugins"), "witness", "witness");
        if kind == Kind::Sqlite {
            databases.business("PRAGMA journal_mode = WAL").await;
        }
        databases.business(TABLE).await;
        let names: &[&str] = if kind == Kind::Postgres { &["one", "two", "three"] } else { &["one"] };
        let mut places = Vec::new();
        for name in names {
            places.push(HostLocation::new(name, &databases).await);
        }
        Site { databases, places }
    }

    /// Number of items that are not done and runs that are not finished.
    pub async fn open(&self) -> i64 {
        let open = "SELECT (SELECT COUNT(*) FROM item WHERE state <> 'resolved')
            + (SELECT COUNT(*) FROM run WHERE state IN ('discovering', 'running'))";
        self.databases.store_number(open).await
    }
}

/// Keeps the hosts' logs when their folders are deleted: they explain failures.
impl Drop for Site {
    fn drop(&mut self) {
        let Some(folder) = std::env::var_os("CHAOS_LOGS").map(PathBuf::from) else { return };
        std::fs::create_dir_all(&folder).unwrap();
        for place in &self.places {
            let name = format!("{:?}-{}.log", self.databases.kind, place.name).to_lowercase();
            let _ = std::fs::copy(place.config.with_extension("log"), folder.join(name));
        }
    }
}

impl HostLocation {
    async fn new(name: &str, databases: &Databases) -> HostLocation {
        let (folder, port) = (databases.dir.path(), free_port());
        let (store, business) = (&databases.store_url, &databases.business_url);
        let wire = match databases.kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(Wire::lay(store, business).await),
        };
        let hold = if databases.kind == Kind::Sqlite { "5" } else { "50" };
        let job = |name| JOB.replace("NAME", name).replace("HOLD", hold);
        let url = |url: &String| wire.as_ref().map_or(url.clone(), |wire| wire.url(url));
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n[host]\ndata_dir = \"data-{name}\"\nname = \"{name}\"\n\
             [store]\nurl = \"{}\"\n[plugins]\ndir = \"plugins\"\n[datasources.witness]\nurl = \"{}\"\n{}{}{GOES_ON}",
            url(store),
            url(business),
            job(JOBS[0]),
            job(JOBS[1])
        );
        let config = folder.join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        HostLocation { name: name.to_owned(), port, wire, config, data: folder.join(format!("data-{name}")) }
    }

    /// Acts as a supervisor: restarts a host that ended because its database was unavailable.
    pub async fn start(&self) -> Process {
        for _ in 0..STARTS_MAX {
            let mut process = Process::spawn(&self.config, ([127, 0, 0, 1], self.port).into());
            match process.ready_or_ended().await {
                Ok(()) => return process,
                Err(status) => eprintln!("{} ended with {status} at its start", self.name),
            }
            // tidy: sleep because a supervisor waits before it tries again
            sleep(START_REST).await;
        }
        panic!("{} does not start; its log says why", self.name);
    }

    /// The host's id in the store.
    pub fn id(&self) -> String {
        std::fs::read_to_string(self.data.join("host-id")).unwrap().trim().to_owned()
    }

    /// Outcomes that this process refused because another host held their items; None without an answer.
    pub async fn stale_refused(&self) -> Option<u64> {
        let text = self.ask("GET", "/metrics", None).await.ok()?.1;
        let refused = text.lines().filter(|line| line.starts_with("tidemill_stale_refused_total{"));
        Some(refused.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, String), NoAnswer> {
        ask(self.port, method, path, body).await
    }
}
