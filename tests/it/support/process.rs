//! The real binary as a separate process that can be killed.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
pub use test_support::binary;
use tokio::process::{Child, Command};

/// Longest wait for a process to get ready or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns a port that was free a moment ago and is outside the range of outgoing connections (above 32,767).
/// A restarted host finds it free again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() * 97 % 20_000).unwrap();
    let port = |n: u16| 12_000 + (first + n) % 20_000;
    std::iter::repeat_with(|| port(NEXT.fetch_add(1, Ordering::Relaxed) % 20_000))
        .take(1_000)
        // Connects instead of binding: a process started by another thread could inherit a listener.
        .find(|port| TcpStream::connect(("127.0.0.1", *port)).is_err())
        .expect("one of a thousand ports is free")
}

/// Runs one command to its end.
pub async fn tidemill(args: &[&str], folder: &Path) -> Output {
    let run = Command::new(binary()).args(args).current_dir(folder).stdin(Stdio::null()).output();
    tokio::time::timeout(PATIENCE, run).await.expect("the command ends in time").unwrap()
}

/// A serving host; killed when dropped.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts `tidemill serve` with this configuration, which must name `address` as server.listen.
    pub fn spawn(config: &Path, address: SocketAddr) -> Process {
        Process::spawn_with(config, address, &[])
    }

    /// The same, with more arguments.
    pub fn spawn_with(config: &Path, address: SocketAddr, more: &[String]) -> Process {
        Process::spawn_as(&[], config, address, more)
    }

    /// The same, through a command that finally becomes the given command (`unshare`, `strace -D`).
    pub fn spawn_by(wrapper: &[String], config: &Path, address: SocketAddr) -> Process {
        Process::spawn_as(wrapper, config, address, &[])
    }

    /// The same as `spawn`, with stderr (the log) connected to `stderr` instead of a file.
    pub fn spawn_logging_to(stderr: Stdio, config: &Path, address: SocketAddr) -> Process {
        Process::spawn_whole(&[], stderr, config, address, &[])
    }

    fn spawn_as(wrapper: &[String], config: &Path, address: SocketAddr, more: &[String]) -> Process {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(config.with_extension("log")).unwrap();
        Process::spawn_whole(wrapper, log.into(), config, address, more)
    }

    fn spawn_whole(
        wrapper: &[String],
        stderr: Stdio,
        config: &Path,
        address: SocketAddr,
        more: &[String],
    ) -> Process {
        // It dies with this process, even if this one is killed without running destructors.
        let own = ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned);
        let words = [wrapper, &own].concat();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg(binary())
            .args(["serve", "--config"])
            .arg(config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Process { child, address }
    }

    /// Waits until it answers.
    pub async fn ready(&mut self) {
        if let Err(status) = self.ready_or_ended().await {
            panic!("the host ended with {status} before it was ready");
        }
    }

    /// The same for a host that may end instead, because its database is unavailable.
    pub async fn ready_or_ended(&mut self) -> Result<(), ExitStatus> {
        let ready = async {
            while self.get("/readyz").await.is_err() {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return Err(status);
                }
                // tidy: sleep because another process gives no signal when it listens
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the host is ready in time")
    }

    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.address);
        let get = move || {
            let mut response = ureq::get(&url).call().map_err(|e| e.to_string())?;
            response.body_mut().read_json().map_err(|e| e.to_string())
        };
        tokio::task::spawn_blocking(get).await.unwrap()
    }

    pub async fn post(&self, path: &str) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.address);
        let post = move || {
            let mut response = ureq::post(&url).send_json(Value::Object(Default::default()));
            let response = response.as_mut().map_err(|e| e.to_string())?;
            response.body_mut().read_json().map_err(|e| e.to_string())
        };
        tokio::task::spawn_blocking(post).await.unwrap()
    }

    /// Sends `kill -9`, and waits until it is gone.
    pub async fn kill9(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal by its name (`HUP`) or its number.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("the host runs").to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status().await.unwrap();
        assert!(sent.success(), "cannot send {signal} to {id}");
    }

    /// Sends SIGTERM, and waits until it ended with success.
    pub async fn terminate(self) {
        self.stop_by("TERM").await;
    }

    /// Sends a signal that requests an orderly stop, and waits until the host ended with success.
    pub async fn stop_by(mut self, signal: &str) {
        self.signal(signal).await;
        let ended =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap();
        assert!(ended.success(), "the host ended with {ended}");
    }
}
