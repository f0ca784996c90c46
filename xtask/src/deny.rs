//! `cargo xtask deny`: checks whether the dependencies are allowed. The rules are in deny.toml.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{host, sh};

/// The newest version that Rust 1.95 builds. Each version has its own folder, so a change reinstalls it.
const VERSION: &str = "0.20.2";
/// A network that drops packets must not hang CI.
const FETCH_LIMIT_S: &str = "60";

pub fn run(root: &Path) -> Result<()> {
    let tool = install(root)?;
    for manifest in host::WORKSPACES {
        eprintln!("{manifest}:");
        sh::run(deny(root, &tool, manifest).args(["check", "bans", "licenses", "sources"]))?;
    }
    if let Err(why) = fetch_advisories(root, &tool) {
        eprintln!("advisories: NOT CHECKED: {why:#}");
        return Ok(());
    }
    for manifest in host::WORKSPACES {
        let check = ["check", "--disable-fetch", "advisories"];
        sh::run(deny(root, &tool, manifest).args(check))?;
    }
    Ok(())
}

fn deny(root: &Path, tool: &Path, manifest: &str) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(root).args(["--config", "deny.toml", "--log-level", "error"]);
    command.args(["--manifest-path", manifest]);
    command
}

/// Compiles cargo-deny once. Unoptimised: it builds in half the time, and a check takes 3 s either way.
fn install(root: &Path) -> Result<PathBuf> {
    let folder = root.join(format!("target/tools/cargo-deny-{VERSION}"));
    let tool = folder.join("bin/cargo-deny");
    if !tool.exists() {
        eprintln!("installing cargo-deny {VERSION} into {} (some minutes, once)", folder.display());
        let mut install = host::cargo(root);
        install.args(["install", "cargo-deny", "--locked", "--debug", "--version", VERSION]);
        install.args(["--config", "profile.dev.debug=false", "--root"]).arg(&folder);
        sh::run(&mut install).context("failed to install cargo-deny")?;
    }
    Ok(tool)
}

/// The database is a git repository on a different site than the crates, so it may be unreachable.
fn fetch_advisories(root: &Path, tool: &Path) -> Result<()> {
    let mut fetch = Command::new("timeout");
    fetch.arg(FETCH_LIMIT_S).arg(tool).args(["--log-level", "error", "fetch", "db"]);
    let output = fetch.current_dir(root).env("GIT_TERMINAL_PROMPT", "0").output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let reason = said.lines().rev().find(|line| !line.trim().is_empty());
    let reason = reason.unwrap_or("no answer in time").trim().to_owned();
    anyhow::bail!("the database could not be fetched: {reason}")
}
