//! Hosts that run as in production: the binary's `serve` with a configuration of defaults.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::build::Built;
use super::http::Client;
use super::result;
use crate::sh;

/// The job that every benchmark drains. Its plugin is the no-op of `plugins/fixtures`.
pub const JOB: &str = "noop";
/// The most that a job may have.
pub const CONCURRENCY: u32 = 1_024;
const READY_TIME_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);

/// A folder below `target/bench`, on the disk of the repository. Removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(root: &Path) -> Result<Self> {
        let below = result::folder(root);
        fs::create_dir_all(&below).with_context(|| format!("failed to make {}", below.display()))?;
        let path = sh::output(Command::new("mktemp").arg("-d").arg(below.join("run-XXXXXX")))?;
        Ok(Self(path.into()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn sqlite_url(&self) -> String {
        format!("sqlite://{}", self.0.join("store.db").display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} stays behind: {error}", self.0.display());
        }
    }
}

/// A job of the no-op plugin, started only over the API.
#[derive(Clone)]
pub struct Job {
    pub name: String,
    /// Items that its discovery finds.
    pub items: u64,
    /// Whether the items of one claim share an instance of the component (`isolation = "batch"`).
    pub reuses_instances: bool,
}

impl Job {
    pub fn new(items: u64) -> Self {
        Self { name: JOB.to_owned(), items, reuses_instances: false }
    }

    fn section(&self) -> String {
        let isolation = if self.reuses_instances { "isolation = \"batch\"\n" } else { "" };
        format!(
            "[jobs.{}]\nplugin = \"noop\"\nconcurrency = {CONCURRENCY}\nconfig = {{ count = {} }}\n\
             limits = {{ items_open = 10000000, pages_per_run = 100000 }}\n{isolation}",
            self.name, self.items
        )
    }
}

/// The configuration of one host.
pub fn config(address: SocketAddr, store: &str, jobs: &[Job]) -> String {
    let jobs: String = jobs.iter().map(Job::section).collect();
    format!("[server]\nlisten = \"{address}\"\n[store]\nurl = \"{store}\"\n{jobs}")
}

/// A running host; killed when dropped.
pub struct Host {
    process: Child,
    pub address: SocketAddr,
}

impl Host {
    /// Starts a host whose own folder is `name` in `folder`, and waits until it can begin attempts.
    pub fn start(built: &Built<'_>, folder: &Folder, name: &str, store: &str, jobs: &[Job]) -> Result<Self> {
        Self::start_with(built, folder, name, store, jobs, "")
    }

    /// The same, with more sections of the configuration.
    pub fn start_with(
        built: &Built<'_>,
        folder: &Folder,
        name: &str,
        store: &str,
        jobs: &[Job],
        more: &str,
    ) -> Result<Self> {
        let own = folder.path().join(name);
        let plugins = own.join("plugins");
        fs::create_dir_all(&plugins).with_context(|| format!("failed to make {}", plugins.display()))?;
        fs::copy(built.root.join("target/plugins/fixtures/noop.wasm"), plugins.join("noop.wasm"))
            .context("failed to copy the plugin noop")?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        fs::write(own.join("tidemill.toml"), config(address, store, jobs) + more)?;
        Self::launch(built, &own, address, READY_TIME_MAX)
    }

    /// Starts a host with the configuration and the plugins of the folder `own`, and waits until it can begin
    /// attempts.
    pub fn launch(
        built: &Built<'_>,
        own: &Path,
        address: SocketAddr,
        ready_time_max: Duration,
    ) -> Result<Self> {
        // The host ends with this process, even if that is killed.
        let mut serve = Command::new("setpriv");
        serve.args(["--pdeathsig", "KILL"]).arg(&built.binary).arg("serve").current_dir(own);
        let log = File::create(own.join("log")).context("failed to create the host's log")?;
        let process = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let process = process.with_context(|| format!("failed to start {}", built.binary.display()))?;
        let mut host = Self { process, address };
        host.until_ready(ready_time_max).with_context(|| {
            let log = fs::read_to_string(own.join("log")).unwrap_or_default();
            format!("the host is not ready; its log:\n{log}")
        })?;
        Ok(host)
    }

    /// Stops the host in an orderly way.
    pub fn stop(mut self) -> Result<()> {
        sh::output(Command::new("kill").arg(self.process_id().to_string()))?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the host ended with {status}");
        Ok(())
    }

    pub fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    fn until_ready(&mut self, time_max: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < time_max {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}");
            }
            if self.client().is_ok_and(|mut client| is_ready(&mut client).unwrap_or(false)) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("its jobs have no version of their plugin after {time_max:?}")
    }
}

/// Whether every job has a version of its plugin.
fn is_ready(client: &mut Client) -> Result<bool> {
    let answer = client.get_json("/api/v1/jobs")?;
    let jobs = answer["jobs"].as_array().context("no jobs in the answer")?;
    Ok(jobs.iter().all(|job| job["digest"].is_string()))
}

impl Drop for Host {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = ended {
            eprintln!("warning: could not end the host: {error}");
        }
    }
}

/// Whether the binary knows `isolation = "batch"` of jobs.
pub fn can_reuse_instances(built: &Built<'_>) -> Result<bool> {
    let folder = Folder::new(built.root)?;
    let file = folder.path().join("tidemill.toml");
    let job = Job { reuses_instances: true, ..Job::new(1) };
    let address = SocketAddr::from(([127, 0, 0, 1], 7070));
    fs::write(&file, config(address, &folder.sqlite_url(), &[job]))?;
    let mut check = Command::new(&built.binary);
    let output = check.args(["config", "check", "--config"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let refused = said.contains("isolation");
    if !output.status.success() && !refused {
        bail!("the configuration of the benchmarks is wrong:\n{said}");
    }
    Ok(!refused)
}

/// The API's view of a job.
pub fn job(client: &mut Client, name: &str) -> Result<Value> {
    let mut answer = client.get_json("/api/v1/jobs")?;
    let jobs = answer["jobs"].as_array_mut().context("no jobs in the answer")?;
    let found = jobs.iter_mut().find(|job| job["name"] == name);
    found.map(Value::take).with_context(|| format!("the host has no job {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_names_isolation_only_if_asked() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let (fresh, reused) = (Job::new(5), Job { reuses_instances: true, ..Job::new(5) });
        assert!(!config(address, "sqlite://x", &[fresh]).contains("isolation"));
        assert!(config(address, "sqlite://x", &[reused]).ends_with("isolation = \"batch\"\n"));
    }
}
