//! `cargo xtask demo`: from a fresh clone to a running demo.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::{host, plugins, toolchain};

pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let mut steps = Steps::new(3);
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    let binary = steps.run("building the host", || host::build(root))?;

    // The demo replaces this process, so that signals and the exit code are its own.
    let error =
        Command::new(&binary).arg("demo").arg("--plugins").arg(root.join("target/plugins")).args(args).exec();
    Err(error).with_context(|| format!("failed to start {}", binary.display()))
}
