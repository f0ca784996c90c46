//! `cargo xtask bench swap`: replaces a plugin under load. Prints the result as one JSON line to stdout, and
//! everything else to stderr.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::test::Failed;
use crate::{host, plugins, sh, toolchain};

/// Number of steps in `measure`.
pub const STEPS: usize = 2;
/// Number of swaps in CI, which take half a minute.
pub const SWAPS_SHORT: u32 = 80;

#[derive(clap::Args)]
pub struct Args {
    /// How often the plugin is swapped
    #[arg(long, default_value_t = 1_000)]
    swaps: u32,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut steps = Steps::new(3 + STEPS);
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    let profile: &[&str] = if args.dev { &[] } else { &["--release"] };
    steps.run("building the host", || {
        sh::run(host::cargo(root).args(["build", "--workspace", "--bins"]).args(profile))
    })?;
    let binary = host::target(root).join(if args.dev { "debug" } else { "release" }).join("tidemill");
    measure(root, args.swaps, &binary, &mut steps)
}

/// Requires built plugins and host; `cargo xtask ci` calls this, too.
pub fn measure(root: &Path, swaps: u32, binary: &Path, steps: &mut Steps) -> Result<()> {
    // The same targets as for the tests: with others, cargo would choose other features and rebuild wasmtime.
    let build = ["test", "--workspace", "--lib", "--bins", "--test", "it", "--test", "swap", "--no-run"];
    steps.run("building the driver of swaps", || sh::run(host::cargo(root).args(build)))?;
    steps.run("swaps under load", || drive(root, swaps, binary))
}

fn drive(root: &Path, swaps: u32, binary: &Path) -> Result<()> {
    eprintln!("{swaps} swaps with {}", binary.display());
    let mut driver = host::cargo(root);
    driver
        .args(["test", "--quiet", "--workspace", "--test", "swap"])
        .env("SWAPS", swaps.to_string())
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"))
        .env("TIDEMILL_TEST_BIN", binary);
    // The driver ends when its stdin closes, so it ends with this process, even if that is killed.
    let mut running = driver.stdin(Stdio::piped()).spawn().context("failed to start `cargo test`")?;
    let end = running.stdin.take();
    let status = running.wait().context("could not wait for the driver of swaps")?;
    drop(end);
    if status.success() { Ok(()) } else { Err(Failed(1).into()) }
}
