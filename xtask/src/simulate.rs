//! `cargo xtask simulate`: seeded scenarios of hosts that share a store, and injected faults that they must
//! find.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{host, sh};

/// The number of scenarios in CI.
const SEEDS: u64 = 1_000;

#[derive(clap::Args)]
pub struct Args {
    /// Number of stories, from seed 0
    #[arg(long, default_value_t = SEEDS, conflicts_with = "seed")]
    seeds: u64,
    /// Simulate only this seed and print its trace
    #[arg(long)]
    seed: Option<u64>,
    /// With this fault of simulation/src/faults.rs in the statements, counted from 0
    #[arg(long, requires = "seed")]
    fault: Option<u64>,
}

impl Default for Args {
    fn default() -> Self {
        Args { seeds: SEEDS, seed: None, fault: None }
    }
}

/// Only this command turns on the feature with the faults.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let faults = ["build", "--workspace", "--features", "simulation/faults", "--bin", "simulate"];
    sh::run(host::cargo(root).args(faults))?;
    let mut simulate = Command::new(host::target(root).join("debug/simulate"));
    match args.seed {
        Some(seed) => simulate.args(["--seed", &seed.to_string()]),
        None => simulate.args(["--seeds", &args.seeds.to_string()]),
    };
    if let Some(fault) = args.fault {
        simulate.args(["--fault", &fault.to_string()]);
    }
    sh::run(&mut simulate)
}
