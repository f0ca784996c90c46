//! `cargo xtask zoo`: malicious plugins on real hosts; one JSON line on stdout, all else on stderr.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::test::Failed;
use crate::{built, host, sh};

/// Number of steps in `show`.
pub const STEPS: usize = 4;

/// The tools that make components, and the folders of their output.
pub const MAKER: &str = "tests/zoo/maker/Cargo.toml";
const MAKER_TARGET: &str = "target/maker";
const GUESTS: &str = "target/zoo/guests";
const RANDOM: &str = "target/zoo/random";
/// Random components are made and deleted in portions: a thousand take 36 MiB.
const PORTION: u64 = 2_000;

#[derive(clap::Args)]
pub struct Args {
    /// Only guests whose name contains this, and no random components
    #[arg(long)]
    only: Option<String>,
    /// Random components
    #[arg(long, default_value_t = PORTION)]
    random: u64,
    /// What each guest's neighbour has to keep of its throughput
    #[arg(long, default_value_t = 0.8)]
    neighbour: f64,
    /// Of an earlier run's random components
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    /// The values for CI. A CI machine also does other work, so it cannot measure throughput reliably.
    pub fn of_ci() -> Args {
        Args { only: None, random: PORTION, neighbour: 0.2, seed: 1 }
    }
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    built::first(root, STEPS, |steps| show(root, args, steps))
}

/// The steps alone, with built plugins and host; `cargo xtask ci` calls this, too.
pub fn show(root: &Path, args: &Args, steps: &mut Steps) -> Result<()> {
    steps.run("making the zoo's guests", || make(root, &["guests", GUESTS]))?;
    // The same targets as for the tests: with others, cargo would choose other features and rebuild wasmtime.
    let build = ["test", "--workspace", "--lib", "--bins", "--test", "it", "--test", "zoo", "--no-run"];
    steps.run("building the driver of the zoo", || sh::run(host::cargo(root).args(build)))?;
    steps.run("zoo", || {
        let guests = [
            ("ZOO_GUESTS", root.join(GUESTS).into()),
            ("ZOO_ONLY", args.only.clone().unwrap_or_default().into()),
            ("ZOO_NEIGHBOUR", args.neighbour.to_string().into()),
        ];
        drive(root, &guests)
    })?;
    let portions = if args.only.is_some() { 0 } else { args.random.div_ceil(PORTION) };
    steps.run("random components", || (0..portions).try_for_each(|portion| random(root, args, portion)))
}

fn random(root: &Path, args: &Args, portion: u64) -> Result<()> {
    let seed = (args.seed + portion * 2).to_string();
    let count = PORTION.min(args.random - portion * PORTION).to_string();
    make(root, &["random", &seed, &count, RANDOM])?;
    drive(root, &[("ZOO_RANDOM", root.join(RANDOM).into())])
}

fn make(root: &Path, args: &[&str]) -> Result<()> {
    let mut maker = host::cargo(root);
    maker.args(["run", "--quiet", "--locked", "--manifest-path", MAKER, "--target-dir", MAKER_TARGET, "--"]);
    sh::run(maker.args(args))
}

fn drive(root: &Path, told: &[(&str, OsString)]) -> Result<()> {
    let mut driver = host::cargo(root);
    driver
        .args(["test", "--quiet", "--workspace", "--test", "zoo"])
        .envs(told.iter().cloned())
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"))
        .env("TIDEMILL_TEST_BIN", host::binary(root));
    // The driver ends when its stdin closes, so it ends with this process, even if that is killed.
    let mut running = driver.stdin(Stdio::piped()).spawn().context("failed to start `cargo test`")?;
    let end = running.stdin.take();
    let status = running.wait().context("could not wait for the driver of the zoo")?;
    drop(end);
    if status.success() { Ok(()) } else { Err(Failed(1).into()) }
}
