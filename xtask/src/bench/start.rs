//! `cargo xtask bench start`: how long a host with many plugins takes to be ready, its memory, and the CPU time that a
//! host with many scheduled jobs takes while nothing is due.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::common::build::{self, Built};
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host};
use super::common::usage::{cpu_s, memory_kib};
use crate::steps::Steps;

/// Each plugin is another file, so the first start compiles each.
const READY_TIME_MAX: Duration = Duration::from_secs(3_600);
const IDLE: Duration = Duration::from_secs(60);
/// Rest after the start, during which the host may still have work of its own.
const SETTLED: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Args {
    /// Plugins, each with a job
    #[arg(long, default_value_t = 1_000)]
    plugins: u32,
    /// Jobs of one plugin, each with a schedule
    #[arg(long, default_value_t = 100_000)]
    jobs: u32,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut steps = Steps::new(build::STEPS + 2);
    let built = build::build(root, args.dev, &mut steps)?;
    let mut results = Results::new(root, "start")?;
    steps.run("starting with many plugins", || plugins(&built, args.plugins, &mut results))?;
    steps.run("idling with many jobs", || jobs(&built, args.jobs, &mut results))
}

fn plugins(built: &Built<'_>, number: u32, results: &mut Results) -> Result<()> {
    let folder = Folder::new(built.root)?;
    let site = Site::new(&folder, (0..number).map(|n| format!("[jobs.p{n}]\nplugin = \"p{n}\"\n")))?;
    let component = component(built)?;
    for n in 0..number {
        fs::write(site.plugins().join(format!("p{n}.wasm")), distinct(&component, n))?;
    }
    let (first, host) = site.start(built)?;
    host.stop()?;
    let (again, host) = site.start(built)?;
    let binary = fs::metadata(&built.binary).context("failed to read the binary's size")?.len();
    results.add(&[
        ("plugins", Value::from(number)),
        ("first_ready_s", rounded(Some(first.as_secs_f64()), 1)),
        ("ready_ms", rounded(Some(again.as_secs_f64() * 1e3), 0)),
        ("rss_kib", Value::from(memory_kib(host.process_id())?)),
        ("binary_bytes", Value::from(binary)),
    ])
}

fn jobs(built: &Built<'_>, number: u32, results: &mut Results) -> Result<()> {
    let folder = Folder::new(built.root)?;
    let job = |n| format!("[jobs.j{n}]\nplugin = \"noop\"\nschedule = {{ cron = \"0 3 1 1 *\" }}\n");
    let site = Site::new(&folder, (0..number).map(job))?;
    fs::write(site.plugins().join("noop.wasm"), component(built)?)?;
    let (_, host) = site.start(built)?;
    host.stop()?;
    let (ready, host) = site.start(built)?;
    std::thread::sleep(SETTLED);
    let before = cpu_s(host.process_id())?;
    std::thread::sleep(IDLE);
    let used = cpu_s(host.process_id())? - before;
    results.add(&[
        ("jobs", Value::from(number)),
        ("ready_ms", rounded(Some(ready.as_secs_f64() * 1e3), 0)),
        ("rss_kib", Value::from(memory_kib(host.process_id())?)),
        ("idle_cpu_percent", rounded(Some(used / IDLE.as_secs_f64() * 100.0), 2)),
    ])
}

fn component(built: &Built<'_>) -> Result<Vec<u8>> {
    let file = built.root.join("target/plugins/fixtures/noop.wasm");
    fs::read(&file).with_context(|| format!("failed to read {}", file.display()))
}

/// The component with a custom section of its own, so that its digest is another one.
fn distinct(component: &[u8], n: u32) -> Vec<u8> {
    let name = format!("n{n}");
    let length = u8::try_from(name.len()).unwrap_or_default();
    // Section 0: its length, and a name with its length.
    [component, &[0, length + 1, length], name.as_bytes()].concat()
}

/// A folder with the configuration and the plugins of a host.
struct Site {
    own: PathBuf,
    address: SocketAddr,
}

impl Site {
    fn new(folder: &Folder, jobs: impl Iterator<Item = String>) -> Result<Self> {
        let own = folder.path().to_owned();
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config =
            format!("[server]\nlisten = \"{address}\"\n[store]\nurl = \"{}\"\n", folder.sqlite_url());
        let config = config + &jobs.collect::<String>();
        fs::write(own.join("tidemill.toml"), config).context("failed to write the configuration")?;
        let site = Self { own, address };
        fs::create_dir_all(site.plugins()).context("failed to make the folder of plugins")?;
        Ok(site)
    }

    fn plugins(&self) -> PathBuf {
        self.own.join("plugins")
    }

    /// Starts the host, and returns the time until all its jobs can begin attempts.
    fn start(&self, built: &Built<'_>) -> Result<(Duration, Host)> {
        let began = Instant::now();
        let host = Host::launch(built, &self.own, self.address, READY_TIME_MAX)?;
        Ok((began.elapsed(), host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_has_a_section_of_its_own() {
        assert_eq!(distinct(b"x", 12), [b'x', 0, 4, 3, b'n', b'1', b'2']);
        assert_ne!(distinct(b"x", 1), distinct(b"x", 2));
    }
}
