//! A host on SQLite whose store or business database is on a misbehaving disk, and the checks of its state.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::process::Command;

use super::client::Client;
use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::invariants::VIOLATIONS;
use crate::support::process::Process;
use crate::support::site::{Site, eventually, items};

pub const TABLE: &str =
    "CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT);
CREATE INDEX witness_by_key ON witness (idempotency_key); PRAGMA journal_mode = WAL";
/// Log limit during an outage: one line of each kind per second.
const LINES_A_SECOND_MAX: usize = 12;

pub struct Bench {
    pub site: Arc<Site>,
    host: Option<Process>,
    pub pid: u32,
    pub databases: Databases,
    pub client: Arc<Client>,
}

pub fn witness(business_url: &str) -> String {
    format!(
        "[datasources.witness]\nurl = \"{business_url}\"\n[jobs.witness]\nplugin = \"witness\"\nconcurrency = 16\n\
         config = {{ count = 1, work_ms = 100 }}\n[jobs.witness.grants]\nsql = {{ witness = \"read-write\" }}\n\
         events = [\"witness\"]\nkeyvalue = true\n[jobs.witness.retry]\nbase = \"200ms\"\ncap = \"1s\"\ncrashes_max = 1000\n"
    )
}

impl Bench {
    /// Starts a host with the given path for its store. The business database is on a healthy disk.
    pub async fn start(store: &Path, wrapper: &[String]) -> Bench {
        let databases = Databases::new(Kind::Sqlite).await;
        databases.business(TABLE).await;
        let site =
            Site::with_store(&format!("sqlite://{}", store.display()), &witness(&databases.business_url));
        site.install("witness", "witness");
        Bench::serve(site, databases, wrapper, "witness").await
    }

    pub async fn serve(site: Site, databases: Databases, wrapper: &[String], job: &'static str) -> Bench {
        let site = Arc::new(site);
        let mut host = Process::spawn_by(wrapper, &site.path("tidemill.toml"), site.address);
        if let Err(status) = host.ready_or_ended().await {
            panic!("{wrapper:?} ended with {status}; may this user do that here? It said:\n{}", site.log());
        }
        site.until_active(job).await;
        let (pid, client) = (host.child.id().unwrap(), Client::new(site.clone(), job));
        Bench { site, host: Some(host), pid, databases, client }
    }

    /// Waits until `/readyz` has this status, and returns its reason.
    pub async fn until_readyz(&self, status: u16) -> String {
        let look = || async {
            let answer = http::get(self.site.address, "/readyz").await;
            (answer.status == status).then(|| answer.json()["reason"].as_str().unwrap_or_default().to_owned())
        };
        eventually(&format!("readyz answers {status}"), look).await
    }

    /// Waits until no work is open.
    pub async fn settle(&self) {
        let look = || async {
            let answer = http::get(self.site.address, "/api/v1/jobs").await;
            let jobs = (answer.status == 200).then(|| answer.json())?;
            let open = ["pending", "retrying", "running"].map(|state| items(&jobs, state));
            (open == [0; 3]).then_some(())
        };
        eventually("all items are done", look).await;
    }

    /// Sends SIGTERM; the host must end with success.
    pub async fn end(mut self) {
        self.host.take().expect("it runs").terminate().await;
    }

    pub async fn until_resolved(&self, job: &str, wanted: i64) {
        let sql = format!("SELECT COUNT(*) FROM item WHERE state = 'resolved' AND job = '{job}'");
        let look = || async { (self.databases.store_number(&sql).await >= wanted).then_some(()) };
        eventually(&format!("{wanted} items of {job} are done"), look).await;
    }

    /// Checks that the log has at most [`LINES_A_SECOND_MAX`] lines in each second of this period.
    pub fn check_log(&self, from: Timestamp, to: Timestamp) {
        let (from, to) = (from.to_string(), to.to_string());
        let log = self.site.log();
        let lines: Vec<&str> =
            log.lines().filter(|line| from.as_str() < *line && *line < to.as_str()).collect();
        for second in lines.iter().map(|line| &line[..19]).collect::<BTreeSet<_>>() {
            let said: Vec<&&str> = lines.iter().filter(|line| line.starts_with(second)).collect();
            assert!(said.len() <= LINES_A_SECOND_MAX, "{} lines in a second: {said:#?}", said.len());
        }
    }

    /// Copies a database as it would be if the host were killed now.
    pub async fn copy(&self, file: &Path, name: &str) -> PathBuf {
        self.signal("-STOP").await;
        let copy = self.databases.dir.path().join(name);
        for end in ["", "-wal"] {
            let (mut from, mut to) = (file.as_os_str().to_owned(), copy.as_os_str().to_owned());
            from.push(end);
            to.push(end);
            std::fs::copy(from, to).unwrap();
        }
        self.signal("-CONT").await;
        copy
    }

    pub async fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid.to_string()]).status().await.unwrap();
        assert!(sent.success(), "the process is still the one that was started");
    }

    /// Checks that every acknowledged item was done once, and that store and business database agree. The store
    /// is at `Databases::store_url`.
    pub async fn check(&self) {
        for (what, sql) in VIOLATIONS {
            let named = self.databases.store_texts(sql).await;
            assert!(named.is_empty(), "{what}: {named:?}");
        }
        let whole = "PRAGMA integrity_check";
        assert_eq!(self.databases.store_texts(whole).await, ["ok"]);
        assert_eq!(self.databases.business_texts(whole).await, ["ok"]);
        let resolved = "SELECT item_key FROM item WHERE state = 'resolved'";
        let resolved: BTreeSet<String> = self.databases.store_texts(resolved).await.into_iter().collect();
        let rows = self.databases.business_texts("SELECT item_key FROM witness").await;
        let rows_by_key: BTreeSet<&String> = rows.iter().collect();
        assert_eq!(rows_by_key.len(), rows.len(), "no item was done twice");
        for key in self.client.acknowledged.lock().unwrap().iter() {
            assert!(
                resolved.contains(key) && rows_by_key.contains(key),
                "{key} was acknowledged and is missing"
            );
        }
        let starts = "SELECT COUNT(*) FROM audit WHERE action = 'host_started'";
        assert_eq!(self.databases.store_number(starts).await, 1, "it goes on without a restart");
    }
}

/// Checks that a message contains each of these parts.
#[track_caller]
pub fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

pub async fn pass(time: Duration) {
    // tidy: sleep because an outage has to last
    tokio::time::sleep(time).await;
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the host said:\n{}", self.site.log());
        }
    }
}
