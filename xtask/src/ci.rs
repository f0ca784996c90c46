//! `cargo xtask ci`: all checks. CI runs only this, so it can be run before a push.

use std::path::Path;

use anyhow::Result;

use crate::bench::swap;
use crate::steps::Steps;
use crate::{chaos, deny, fuzz, host, rules, sh, simulate, test, tidy, zoo};

pub fn run(root: &Path) -> Result<()> {
    let mut steps = Steps::new(6 + test::STEPS + swap::STEPS + fuzz::STEPS + zoo::STEPS + chaos::STEPS);
    let result = run_steps(root, &mut steps);
    steps.print_summary();
    result
}

/// Cheap checks come first; the first failure ends the run.
fn run_steps(root: &Path, steps: &mut Steps) -> Result<()> {
    steps.run("format", || {
        for manifest in host::WORKSPACES {
            sh::run(host::cargo(root).args(["fmt", "--all", "--check", "--manifest-path", manifest]))?;
        }
        Ok(())
    })?;
    steps.run("tidy", || tidy::run(root))?;
    steps.run("rules", || rules::run(root))?;
    steps.run("deny", || deny::run(root))?;
    steps.run("clippy", || {
        let lints = ["--", "-D", "warnings"];
        let all = ["--workspace", "--all-targets"];
        // `cargo test` does not run these, so `--all-targets` does not include them.
        let drivers = ["--workspace", "--test", "chaos", "--test", "fuzz", "--test", "swap", "--test", "zoo"];
        // Includes the simulator, which is not built otherwise.
        let faults = ["--features", "simulation/faults"];
        sh::run(host::cargo(root).arg("clippy").args(all).args(faults).args(lints))?;
        sh::run(host::cargo(root).arg("clippy").args(drivers).args(faults).args(lints))?;
        sh::run(host::cargo(root).arg("clippy").args(host::PLUGINS).args(all).args(lints))
    })?;
    test::run_steps(root, &test::Args::default(), steps)?;
    steps.run("simulation", || simulate::run(root, &simulate::Args::default()))?;
    swap::measure(root, swap::SWAPS_SHORT, &host::binary(root), steps)?;
    fuzz::feed(root, &fuzz::Args::of_ci(), steps)?;
    zoo::show(root, &zoo::Args::of_ci(), steps)?;
    chaos::torment(root, &chaos::Args::default(), steps)
}
