//! The host that runs all guests, the neighbour job, and measurements of both from outside.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::guest::{File, Guest};
use crate::support::http;
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{database, plugins, site};

/// Steady work: each attempt writes a row, an event and a key. The load is far below the host's capacity.
const NEIGHBOUR: &str = r#"
[engine]
memory = "1GiB"

[datasources.witness]
url = "sqlite://business.db"

[datasources.storm]
url = "sqlite://storm.db"

[jobs.neighbour]
plugin = "witness"
concurrency = 3
grants = { sql = { witness = "read-write" }, events = ["witness"], keyvalue = true }
limits = { kv_keys = 1000000 }
config = { count = "60000", work_ms = "80" }
"#;

pub struct Host {
    pub site: Site,
    process: Process,
    /// The share of its throughput that the neighbour must keep beside each guest.
    pub neighbour_keeps: f64,
}

/// The memory of the host's process in kilobytes, as reported by the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The process's own memory, without mapped files.
    pub own: i64,
    /// The maximum of its total memory since the last reset of the peak.
    pub peak: i64,
    pub all: i64,
}

impl Host {
    /// Starts a host with a job for each guest and the neighbour job, and waits until the neighbour's items are
    /// found.
    pub async fn start(guests: &[Guest]) -> Host {
        let jobs: String = guests.iter().map(Guest::job).collect();
        let site = Site::new(&format!("{NEIGHBOUR}{jobs}"));
        let table =
            "CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT)";
        for name in ["business.db", "storm.db"] {
            test_support::execute(&format!("sqlite://{}", site.path(name).display()), table).await;
        }
        site.install("witness", "witness");
        let process = site.serve().await;
        site.until_active("witness").await;
        let neighbour = std::env::var("ZOO_NEIGHBOUR").ok().and_then(|text| text.parse().ok());
        let host = Host { site, process, neighbour_keeps: neighbour.expect("ZOO_NEIGHBOUR is a number") };
        host.post("/api/v1/jobs/neighbour", json!({})).await;
        let found = || async { host.count("SELECT COUNT(*) FROM item").await.ge(&60_000).then_some(()) };
        site::eventually("all of the neighbour's items are found", found).await;
        host
    }

    /// Starts a new process in place of the one that ended.
    pub async fn start_again(&mut self) {
        self.process = self.site.serve().await;
    }

    /// Whether the process runs and answers.
    pub async fn alive(&mut self) -> bool {
        let runs = self.process.child.try_wait().unwrap().is_none();
        runs && self.process.get("/healthz").await.is_ok()
    }

    /// Installs the guest's file. Each number of `tries` makes it a different version.
    pub fn install(&self, guest: &Guest, tries: u32) {
        let folder = self.site.path("plugins");
        let path = self.file(guest);
        match guest.file {
            File::Built(name) => {
                let built = if made(name).is_file() { made(name) } else { plugins::file(name) };
                let copy = self.site.path("copy.wasm");
                let custom_section = [0, 2, 1, u8::try_from(tries).unwrap()];
                std::fs::write(&copy, [&std::fs::read(built).unwrap()[..], &custom_section].concat())
                    .unwrap();
                plugins::place(&folder, &copy, guest.name);
            }
            File::Link => std::os::unix::fs::symlink(plugins::file("noop"), path).unwrap(),
            File::Pipe => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            File::Folder => std::fs::create_dir(path).unwrap(),
            File::Sparse => std::fs::File::create(path).unwrap().set_len(10 << 30).unwrap(),
        }
    }

    pub fn remove(&self, guest: &Guest) {
        let path = self.file(guest);
        let removed = if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
        removed.unwrap();
    }

    fn file(&self, guest: &Guest) -> PathBuf {
        self.site.path("plugins").join(format!("{}.wasm", guest.name))
    }

    pub async fn get(&self, path: &str) -> Value {
        http::get(self.site.address, path).await.json()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = http::post(self.site.address, path, &body.to_string()).await;
        assert!(answer.status < 300, "{path}: {answer:?}");
        answer.json()
    }

    async fn count(&self, sql: &str) -> i64 {
        database::number(&format!("sqlite://{}", self.site.path("data/tidemill.db").display()), sql).await
    }

    /// The neighbour's successful attempts in this time, in milliseconds since 1970.
    pub async fn done(&self, from: i64, until: i64) -> i64 {
        let sql = format!(
            "SELECT COUNT(*) FROM attempt WHERE job = 'neighbour' AND verdict = 'resolved'
            AND ended_at_ms >= {from} AND ended_at_ms < {until}"
        );
        self.count(&sql).await
    }

    pub fn memory(&self) -> Memory {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
        };
        Memory { own: field("RssAnon"), peak: field("VmHWM"), all: field("VmRSS") }
    }

    /// Restarts the measurement of the peak.
    pub fn reset_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5");
    }

    fn id(&self) -> u32 {
        self.process.child.id().unwrap_or_default()
    }
}

/// A component that `cargo xtask zoo` built from its text.
fn made(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("ZOO_GUESTS").expect("ZOO_GUESTS is not set: start this as `cargo xtask zoo`");
    PathBuf::from(folder).join(format!("{name}.wasm"))
}

pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

pub async fn pass(time: Duration) {
    // tidy: sleep because a span of time is measured
    tokio::time::sleep(time).await;
}
