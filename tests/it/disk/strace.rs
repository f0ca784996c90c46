//! Simulates a failing or slow disk for one process: strace changes the kernel's answers to its syncs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::wait::until;

const MISSING: &str = "these tests need strace: run `cargo xtask test`, or install Debian's package `strace`";

pub struct Strace {
    dir: TempDir,
    tracer: Option<Child>,
}

impl Strace {
    pub fn new() -> Strace {
        Strace { dir: tempfile::tempdir().unwrap(), tracer: None }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("calls")
    }

    fn words(&self, inject: &str) -> Vec<String> {
        let file = self.file().display().to_string();
        let calls = "trace=fsync,fdatasync,ftruncate,pwrite64";
        let inject = format!("inject=fsync,fdatasync:{inject}");
        let words = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", &file, "-e", calls, "-e", &inject];
        words.map(str::to_owned).to_vec()
    }

    /// The command that starts a host with these faults from the beginning. It becomes the host's process.
    pub fn wrapper(&self, inject: &str) -> Vec<String> {
        let mut words = self.words(inject);
        words.extend(["-D", "--seccomp-bpf"].map(str::to_owned));
        words
    }

    /// Injects the faults into a running host until `detach`.
    pub async fn attach(&mut self, pid: u32, inject: &str) {
        let words = self.words(inject);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["-p", &pid.to_string()]);
        let tracer = command.stdin(Stdio::null()).kill_on_drop(true).spawn().expect(MISSING);
        let tracer = self.tracer.insert(tracer);
        let status = format!("/proc/{pid}/status");
        let attached = async || {
            assert!(
                tracer.try_wait().unwrap().is_none(),
                "strace may not look at the host: see what it said"
            );
            let status = std::fs::read_to_string(&status).unwrap();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        until("strace is attached", attached).await;
    }

    /// Removes the faults. Returns the recorded calls.
    pub async fn detach(&mut self) -> Vec<String> {
        let mut tracer = self.tracer.take().unwrap();
        let pid = tracer.id().unwrap().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        tracer.wait().await.unwrap();
        calls(&self.file())
    }
}

/// One line per call, joined where strace split the calls of two threads that overlapped.
fn calls(file: &Path) -> Vec<String> {
    let (mut calls, mut begun) = (Vec::new(), HashMap::new());
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let thread = line.split(' ').next().unwrap().to_owned();
        if let Some((call, _)) = line.split_once(" <unfinished") {
            begun.insert(thread, call.to_owned());
        } else if let Some((_, end)) = line.split_once(" resumed>") {
            calls.push(begun.remove(&thread).unwrap_or_default() + end);
        } else {
            calls.push(line.to_owned());
        }
    }
    calls
}
