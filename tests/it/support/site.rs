//! A folder with a configuration and plugins, for hosts that are processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, free_port, tidemill};
use super::{http, plugins};

/// Long, because a broker or database that was unavailable is retried with growing pauses.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Site {
    pub dir: TempDir,
    pub address: SocketAddr,
    jobs: String,
    store: String,
}

impl Site {
    /// A site with its own store, and `jobs` as the rest of the configuration.
    pub fn new(jobs: &str) -> Site {
        Site::with_store("sqlite://data/tidemill.db", jobs)
    }

    pub fn with_store(store: &str, jobs: &str) -> Site {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let dir = tempfile::tempdir().unwrap();
        let site = Site { dir, address, jobs: jobs.to_owned(), store: store.to_owned() };
        site.write("tidemill.toml", "data");
        std::fs::create_dir(site.path("plugins")).unwrap();
        site
    }

    /// Writes a configuration of this site with another data folder and the same store.
    pub fn write(&self, file: &str, data: &str) -> PathBuf {
        let text = format!(
            "server.listen = \"{}\"\nhost.data_dir = \"{data}\"\nstore.url = \"{}\"\n{}",
            self.address, self.store, self.jobs
        );
        std::fs::write(self.path(file), text).unwrap();
        self.path(file)
    }

    /// Replaces the jobs in the file, as an admin would.
    pub fn edit(&mut self, jobs: &str) {
        self.jobs = jobs.to_owned();
        self.write("tidemill.toml", "data");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn install(&self, built_as: &str, name: &str) {
        plugins::install(&self.path("plugins"), built_as, name);
    }

    pub async fn serve(&self) -> Process {
        let mut process = Process::spawn(&self.path("tidemill.toml"), self.address);
        process.ready().await;
        process
    }

    /// Runs a command against the host of this site.
    pub async fn ask(&self, args: &[&str]) -> Output {
        ask(self.address, args, self.dir.path()).await
    }

    /// Runs a command on this site's configuration, without a host.
    pub async fn ask_here(&self, args: &[&str]) -> Output {
        tidemill(args, self.dir.path()).await
    }

    /// Waits until a command's output contains `wanted`.
    pub async fn until_said(&self, args: &[&str], wanted: &str) {
        let look = || async { text(&self.ask(args).await.stdout).contains(wanted).then_some(()) };
        eventually(wanted, look).await;
    }

    /// Waits until a version of this plugin is active.
    pub async fn until_active(&self, plugin: &str) {
        self.until_active_within(PATIENCE, plugin).await;
    }

    /// The same for a plugin that takes long to compile.
    pub async fn until_active_within(&self, patience: Duration, plugin: &str) {
        let is_active = |version: &Value| version["plugin"] == plugin && version["state"] == "active";
        let look = || async {
            let plugins = http::get(self.address, "/api/v1/plugins").await.json();
            plugins["plugins"].as_array().unwrap().iter().any(is_active).then_some(())
        };
        eventually_within(patience, plugin, look).await;
    }

    /// Waits until this many items of all jobs are in this state.
    pub async fn until_items(&self, state: &str, wanted: u64) {
        let look = || async {
            let jobs = http::get(self.address, "/api/v1/jobs").await.json();
            (items(&jobs, state) == wanted).then_some(())
        };
        eventually(&format!("{wanted} items that are {state}"), look).await;
    }

    /// The host's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("tidemill.log")).unwrap()
    }

    /// Runs `tidemill serve`, which must refuse to start; returns its exit code and its message.
    pub async fn refusal(&self, config: &Path) -> (Option<i32>, String) {
        let output = tidemill(&["serve", "--config", config.to_str().unwrap()], self.dir.path()).await;
        assert_eq!(text(&output.stdout), "");
        (output.status.code(), text(&output.stderr).replace(self.dir.path().to_str().unwrap(), "SITE"))
    }
}

/// Number of items of all jobs in a state, from the API's list of jobs.
pub fn items(jobs: &Value, state: &str) -> u64 {
    let jobs = jobs["jobs"].as_array().into_iter().flatten();
    let counts = jobs.flat_map(|job| job["items"].as_array().into_iter().flatten());
    counts.filter(|count| count["state"] == state).map(|count| count["items"].as_u64().unwrap()).sum()
}

pub async fn ask(address: SocketAddr, args: &[&str], folder: &Path) -> Output {
    let server = format!("http://{address}");
    tidemill(&[args, &["--server", &server]].concat(), folder).await
}

/// Prints the log of a failed test, whose folder is removed afterwards.
impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("tidemill.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the host said last:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Polls until `look` returns a value.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    eventually_within(PATIENCE, what, look).await
}

async fn eventually_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            // tidy: sleep because another process gives no signal of its progress
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(patience, found).await {
        Ok(found) => found,
        Err(_) => panic!("waited {patience:?} for: {what}"),
    }
}
