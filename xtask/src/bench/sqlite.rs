//! `cargo xtask bench sqlite`: items a second of a whole host on SQLite with synchronous=FULL, and of the store's
//! own statements in a loop.

use std::path::Path;

use anyhow::Result;

use super::common::build::{self, Built};
use super::common::drain;
use super::common::figures::median;
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host, JOB, Job};
use crate::steps::Steps;

#[derive(clap::Args)]
pub struct Args {
    /// Rounds; each result is the median of all
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Items that are resolved in each round
    #[arg(long, default_value_t = 20_000)]
    items: u64,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut steps = Steps::new(build::STEPS + 1);
    let built = build::build(root, args.dev, &mut steps)?;
    let (served, raw) = steps.run("measuring", || measure(&built, args))?;
    let (served, raw) = (median(&served), median(&raw));
    let ratio = served.zip(raw).map(|(served, raw)| served / raw);
    Results::new(root, "sqlite")?.add(&[
        ("items_per_s", rounded(served, 0)),
        ("raw_loop_per_s", rounded(raw, 0)),
        ("ratio", rounded(ratio, 3)),
    ])
}

/// The figures of the host and of the loop, one a round.
fn measure(built: &Built<'_>, args: &Args) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut served, mut raw) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let looped = built.engine("sqlite/store", args.items, None)?;
        let drained = component(built, args.items)?;
        eprintln!("round {round} of {}: component {drained:.0}, raw loop {looped:.0} items/s", args.rounds);
        raw.push(looped);
        served.push(drained);
    }
    Ok((served, raw))
}

fn component(built: &Built<'_>, items: u64) -> Result<f64> {
    let folder = Folder::new(built.root)?;
    let host = Host::start(built, &folder, "host", &folder.sqlite_url(), &[Job::new(items)])?;
    drain::throughput(&mut host.client()?, JOB)
}
