//! `cargo xtask zoo`: malicious plugins on real hosts; one JSON line on stdout, all else on stderr.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::test::Failed;
use crate::{host, plugins, sh, toolchain};

/// How many steps `show` takes.
pub const STEPS: usize = 3;

/// Where the tools that make components are built, and what they make.
const MAKER: &str = "tests/zoo/maker/Cargo.toml";
const MAKER_TARGET: &str = "target/maker";
const GUESTS: &str = "target/zoo/guests";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only guests whose name contains this
    #[arg(long)]
    only: Option<String>,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut steps = Steps::new(3 + STEPS);
    let result = run_steps(root, args, &mut steps);
    steps.print_summary();
    result
}

fn run_steps(root: &Path, args: &Args, steps: &mut Steps) -> Result<()> {
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    steps.run("building the host", || host::build(root))?;
    show(root, args, steps)
}

/// The steps themselves, with plugins and host built; `cargo xtask ci` takes them, too.
pub fn show(root: &Path, args: &Args, steps: &mut Steps) -> Result<()> {
    steps.run("making the zoo's guests", || make(root, &["guests", GUESTS]))?;
    // The same targets as the tests have: with others, cargo would choose other features and compile wasmtime again.
    let build = ["test", "--workspace", "--lib", "--bins", "--test", "it", "--test", "zoo", "--no-run"];
    steps.run("building the driver of the zoo", || sh::run(host::cargo(root).args(build)))?;
    steps.run("zoo", || drive(root, args))
}

fn make(root: &Path, args: &[&str]) -> Result<()> {
    let mut maker = host::cargo(root);
    maker.args(["run", "--quiet", "--locked", "--manifest-path", MAKER, "--target-dir", MAKER_TARGET, "--"]);
    sh::run(maker.args(args))
}

fn drive(root: &Path, args: &Args) -> Result<()> {
    let mut driver = host::cargo(root);
    driver
        .args(["test", "--quiet", "--workspace", "--test", "zoo"])
        .env("ZOO_GUESTS", root.join(GUESTS))
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"))
        .env("TIDEMILL_TEST_BIN", host::binary(root));
    if let Some(only) = &args.only {
        driver.env("ZOO_ONLY", only);
    }
    // It ends when the other end of its stdin is gone, so with us, however we end.
    let mut running = driver.stdin(Stdio::piped()).spawn().context("failed to start `cargo test`")?;
    let end = running.stdin.take();
    let status = running.wait().context("could not wait for the driver of the zoo")?;
    drop(end);
    if status.success() { Ok(()) } else { Err(Failed(1).into()) }
}
