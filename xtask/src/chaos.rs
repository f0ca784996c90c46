//! `cargo xtask chaos`: real hosts under load and faults. Prints one JSON line for each database and one for
//! the demo's business on stdout, all else on stderr.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::postgres::Postgres;
use crate::steps::Steps;
use crate::test::Failed;
use crate::{built, host, sh};

/// Number of steps in `torment`.
pub const STEPS: usize = 3;

#[derive(clap::Args, Default)]
pub struct Args {
    /// How long faults go on: short is 5 minutes in all, long is 35
    #[arg(long, value_enum, default_value_t)]
    tier: Tier,
    /// Seconds of faults in all, instead of the tier's
    #[arg(long)]
    seconds: Option<u64>,
    /// Only on this database
    #[arg(long, value_enum)]
    db: Option<Database>,
    /// Only the demo's business: ten hours of it on a fast clock, on Postgres
    #[arg(long, conflicts_with_all = ["db", "seconds"])]
    business: bool,
    /// Hours of its clock, from a quarter of an hour on
    #[arg(long, requires = "business", default_value_t = BUSINESS_HOURS, value_parser = hours)]
    hours: f64,
    /// The order of the faults, as an earlier run said it
    #[arg(long)]
    seed: Option<u64>,
}

const BUSINESS_HOURS: f64 = 10.0;
/// In the short tier, this takes a minute.
const BUSINESS_HOURS_SHORT: f64 = 0.5;

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if (0.25..=24.0).contains(&hours) => Ok(hours),
        _ => Err("use a number from 0.25 to 24".to_owned()),
    }
}

/// The task of one run of the driver.
#[derive(Debug, Clone, Copy)]
enum Trial {
    Faults { db: Database, seconds: u64 },
    Business { hours: f64 },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, ValueEnum)]
enum Tier {
    #[default]
    Short,
    Long,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Database {
    Postgres,
    Sqlite,
}

impl Args {
    /// Postgres gets three quarters of the time, because most faults apply to it.
    fn plan(&self) -> Vec<Trial> {
        if self.business {
            return vec![Trial::Business { hours: self.hours }];
        }
        let short = self.tier == Tier::Short;
        let seconds = self.seconds.unwrap_or(if short { 240 } else { 1_800 });
        if let Some(db) = self.db {
            return vec![Trial::Faults { db, seconds }];
        }
        let mut plan = vec![
            Trial::Faults { db: Database::Postgres, seconds: seconds * 3 / 4 },
            Trial::Faults { db: Database::Sqlite, seconds: seconds / 4 },
        ];
        let hours = if short { BUSINESS_HOURS_SHORT } else { BUSINESS_HOURS };
        plan.extend(self.seconds.is_none().then_some(Trial::Business { hours }));
        plan
    }

    fn tier(&self) -> String {
        match self.seconds {
            Some(seconds) => format!("{seconds}s"),
            None => format!("{:?}", self.tier).to_lowercase(),
        }
    }
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    built::first(root, STEPS, |steps| torment(root, args, steps))
}

/// The steps alone, with built plugins and host; the last ones of `cargo xtask ci`.
pub fn torment(root: &Path, args: &Args, steps: &mut Steps) -> Result<()> {
    // The same targets as for the tests: with others, cargo would choose other features and rebuild wasmtime.
    let build = ["test", "--workspace", "--lib", "--bins", "--test", "it", "--test", "chaos", "--no-run"];
    steps.run("building the driver of chaos", || sh::run(host::cargo(root).args(build)))?;
    let postgres = steps.run("starting Postgres", Postgres::start)?;
    steps.run("chaos", || args.plan().into_iter().try_for_each(|trial| drive(root, args, trial, &postgres)))
}

fn drive(root: &Path, args: &Args, trial: Trial, postgres: &Postgres) -> Result<()> {
    let mut driver = host::cargo(root);
    driver.args(["test", "--quiet", "--workspace", "--test", "chaos"]);
    match trial {
        Trial::Faults { db, seconds } => {
            driver.env("CHAOS_DB", format!("{db:?}").to_lowercase()).env("CHAOS_SECONDS", seconds.to_string())
        }
        Trial::Business { hours } => driver.env("CHAOS_BUSINESS_HOURS", hours.to_string()),
    };
    driver
        .env("CHAOS_TIER", args.tier())
        .env("CHAOS_LOGS", root.join("target/chaos"))
        .env("TIDEMILL_TEST_POSTGRES", postgres.url())
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"))
        .env("TIDEMILL_TEST_BIN", host::binary(root));
    if let Some(seed) = args.seed {
        driver.env("TIDEMILL_TEST_SEED", seed.to_string());
    }
    // The driver ends when its stdin closes, so it ends with this process, even if that is killed.
    let mut running = driver.stdin(Stdio::piped()).spawn().context("failed to start `cargo test`")?;
    let end = running.stdin.take();
    let status = running.wait().context("could not wait for the driver of chaos")?;
    drop(end);
    if status.success() { Ok(()) } else { Err(Failed(1).into()) }
}
