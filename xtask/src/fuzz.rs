//! `cargo xtask fuzz`: random inputs for every parser of foreign data; one JSON line on stdout, the rest on
//! stderr.

pub mod guided;

use std::path::Path;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::test::Failed;
use crate::{built, host, sh};

/// Number of steps in `feed`.
pub const STEPS: usize = 2;

#[derive(clap::Args)]
pub struct Args {
    /// Inputs of each target
    #[arg(long, default_value_t = INPUTS)]
    inputs: u64,
    /// Requests to a real host
    #[arg(long, default_value_t = REQUESTS)]
    requests: u64,
    /// The inputs of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Instead: so many seconds for each target but the requests, guided by coverage; the first build takes a quarter of an hour
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    guided: Option<u64>,
}

const INPUTS: u64 = 10_000;
const REQUESTS: u64 = 1_000;

impl Args {
    /// The same inputs each time, so that a failure is due to a change and not to chance.
    pub fn of_ci() -> Args {
        Args { inputs: INPUTS, requests: REQUESTS, seed: Some(1), guided: None }
    }
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    if let Some(seconds) = args.guided {
        return guided::run(root, seconds);
    }
    built::first(root, STEPS, |steps| feed(root, args, steps))
}

/// The steps alone, with built plugins and host; `cargo xtask ci` calls this, too.
pub fn feed(root: &Path, args: &Args, steps: &mut Steps) -> Result<()> {
    // The same targets as for the tests: with others, cargo would choose other features and rebuild wasmtime.
    let build = ["test", "--workspace", "--lib", "--bins", "--test", "it", "--test", "fuzz", "--no-run"];
    steps.run("building the fuzz targets", || sh::run(host::cargo(root).args(build)))?;
    steps.run("fuzz", || drive(root, args))
}

fn drive(root: &Path, args: &Args) -> Result<()> {
    let mut driver = host::cargo(root);
    driver
        .args(["test", "--quiet", "--workspace", "--test", "fuzz"])
        .env("FUZZ_INPUTS", args.inputs.to_string())
        .env("FUZZ_REQUESTS", args.requests.to_string())
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"))
        .env("TIDEMILL_TEST_BIN", host::binary(root));
    if let Some(seed) = args.seed {
        driver.env("TIDEMILL_TEST_SEED", seed.to_string());
    }
    let status = driver.status().context("failed to start `cargo test`")?;
    if status.success() { Ok(()) } else { Err(Failed(1).into()) }
}
