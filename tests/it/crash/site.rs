//! Databases, plugins and configurations of hosts that will be killed.

use std::path::PathBuf;
use std::time::Instant;

use crate::support::database::{Databases, Kind, RUNNING};
use crate::support::plugins;
use crate::support::process::{Process, free_port};
use crate::support::wait::until;

/// The databases and the plugins folder that the hosts share.
pub struct Site {
    pub databases: Databases,
    job: String,
}

/// One host's configuration and address. Its processes are started and killed.
pub struct HostLocation {
    pub config: PathBuf,
    pub data: PathBuf,
    port: u16,
}

impl Site {
    /// `job` is the configuration of jobs; the business database is the datasource `business`.
    pub async fn new(kind: Kind, plugin: &str, job: &str) -> Site {
        Site::on(Databases::new(kind).await, plugin, job)
    }

    pub fn on(databases: Databases, plugin: &str, job: &str) -> Site {
        plugins::install(&databases.dir.path().join("plugins"), plugin, plugin);
        Site { databases, job: job.to_owned() }
    }

    /// The job `witness` with this many items, 16 at a time, and the table for their traces.
    pub async fn witness(kind: Kind, items: u32) -> Site {
        Site::witness_on(Databases::new(kind).await, items).await
    }

    /// The same, with the business tables in the host's own Postgres.
    pub async fn witness_beside(items: u32) -> Site {
        let mut databases = Databases::new(Kind::Postgres).await;
        databases.business_url = databases.store_url.clone();
        Site::witness_on(databases, items).await
    }

    async fn witness_on(databases: Databases, items: u32) -> Site {
        // No item counts as poison, even if it is killed twenty times in a row.
        let job = format!(
            "[jobs.witness]\nplugin = \"witness\"\nconcurrency = 16\n\
             [jobs.witness.config]\ncount = {items}\n\
             [jobs.witness.grants]\nsql = {{ business = \"read-write\" }}\nevents = [\"witness\"]\nkeyvalue = true\n\
             [jobs.witness.retry]\nbase = \"1s\"\ncrashes_max = 1000\n\
             [jobs.witness.limits]\nitems_per_page = 50\nkv_keys = {items}\n"
        );
        let job = job.replace("business =", "witness =");
        let site = Site::on(databases, "witness", &job);
        if site.databases.kind == Kind::Sqlite {
            site.databases.business("PRAGMA journal_mode = WAL").await;
        }
        let table =
            "CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT);
            CREATE INDEX witness_by_key ON witness (idempotency_key)";
        site.databases.business(table).await;
        site
    }

    pub fn place(&self, name: &str) -> HostLocation {
        let (folder, port) = (self.databases.dir.path(), free_port());
        let Databases { store_url, business_url, .. } = &self.databases;
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n[host]\ndata_dir = \"data-{name}\"\nname = \"{name}\"\n\
             [store]\nurl = \"{store_url}\"\n[plugins]\ndir = \"plugins\"\n\
             [datasources.business]\nurl = \"{business_url}\"\n[datasources.witness]\nurl = \"{business_url}\"\n{}",
            self.job
        );
        let config = folder.join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        HostLocation { config, data: folder.join(format!("data-{name}")), port }
    }

    /// Waits until a dead host's sessions in the business database have ended. Otherwise a COMMIT may still
    /// be on its way, which an early repetition cannot detect in a table without a unique key.
    pub async fn business_is_quiet(&self) {
        if self.databases.kind == Kind::Sqlite {
            return;
        }
        let sessions = "SELECT COUNT(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'tidemill job'";
        until("the dead host's sessions have ended", async || {
            self.databases.business_number(sessions).await == 0
        })
        .await;
    }

    pub async fn resolved(&self) -> i64 {
        self.databases.store_number("SELECT COUNT(*) FROM item WHERE state = 'resolved'").await
    }

    pub async fn running(&self) -> i64 {
        self.databases.store_number(&format!("SELECT COUNT(*) FROM {RUNNING}")).await
    }

    /// Whether the run is finished.
    pub async fn finished(&self) -> bool {
        let runs = "SELECT COUNT(*) FROM run WHERE state = 'finished'";
        self.databases.store_number(runs).await == 1
    }

    /// Waits until more than `before` items are resolved; returns their number.
    pub async fn until_resolved_more_than(&self, before: i64) -> i64 {
        let mut now = before;
        until("more items are resolved", async || {
            now = self.resolved().await;
            assert!(
                now > before || !self.finished().await,
                "all was done too early: the kills need more items"
            );
            now > before
        })
        .await;
        now
    }
}

impl HostLocation {
    pub async fn start(&self) -> Process {
        let mut process = self.spawn();
        process.ready().await;
        process
    }

    /// Starts a host that may refuse to start.
    pub fn spawn(&self) -> Process {
        Process::spawn(&self.config, ([127, 0, 0, 1], self.port).into())
    }

    /// The log of all its processes.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap()
    }

    /// The host's id in the store.
    pub fn id(&self) -> String {
        std::fs::read_to_string(self.data.join("host-id")).unwrap().trim().to_owned()
    }
}

/// Items per second of the job `witness`, measured on this machine.
pub async fn pace(kind: Kind) -> u32 {
    const ITEMS: u32 = 300;
    let site = Site::witness(kind, ITEMS).await;
    let host = site.place("pace").start().await;
    host.post("/api/v1/jobs/witness").await.unwrap();
    let first = site.until_resolved_more_than(0).await;
    let began = Instant::now();
    let all = i64::from(ITEMS);
    until("all are resolved", async || site.resolved().await == all).await;
    host.kill9().await;
    let items = f64::from(u32::try_from(all - first).unwrap());
    (items / began.elapsed().as_secs_f64()).clamp(20.0, 2_000.0) as u32
}
