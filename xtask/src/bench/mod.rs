//! `cargo xtask bench …`: measurements of an optimised build, one JSON line each.

pub mod swap;

use std::path::Path;

use anyhow::Result;

use crate::postgres::Postgres;
use crate::steps::Steps;
use crate::{host, plugins, sh, toolchain};

#[derive(clap::Subcommand)]
pub enum Bench {
    /// Items a second of a no-op component, of a native no-op, and of that with all limits on flow on, on SQLite and Postgres
    Engine {
        /// Items that each of the four measurements drains
        #[arg(long, default_value_t = 20_000)]
        items: u64,
    },
    /// One attempt in the sandbox, without the store: its parts, and the whole with a new and a reused instance
    Guest {
        /// Blocks of 100 attempts of each kind
        #[arg(long, default_value_t = 200)]
        rounds: u64,
    },
    /// Swap a plugin while its host is under load: counts lost items and measures the time until the new version runs
    Swap(swap::Args),
}

pub fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Engine { items } => engine(root, *items),
        Bench::Guest { rounds } => guest(root, *rounds),
        Bench::Swap(args) => swap::run(root, args),
    }
}

fn engine(root: &Path, items: u64) -> Result<()> {
    let mut steps = Steps::new(5);
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    let mut bench = host::cargo(root);
    bench.args(["bench", "--workspace", "--bench", "engine"]);
    steps.run("building the benchmark, optimised", || {
        let mut build = host::cargo(root);
        sh::run(build.args(["bench", "--workspace", "--bench", "engine", "--no-run"]))
    })?;
    let postgres = steps.run("starting Postgres", Postgres::start)?;
    bench
        .env("ITEMS", items.to_string())
        .env("TIDEMILL_TEST_POSTGRES", postgres.url())
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"));
    steps.run("measuring", || sh::run(&mut bench))
}

fn guest(root: &Path, rounds: u64) -> Result<()> {
    let mut steps = Steps::new(4);
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    let arguments = ["bench", "--package", "sandbox", "--features", "measuring", "--bench", "guest"];
    steps.run("building the benchmark, optimised", || {
        sh::run(host::cargo(root).args(arguments).arg("--no-run"))
    })?;
    let mut bench = host::cargo(root);
    bench
        .args(arguments)
        .env("ROUNDS", rounds.to_string())
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"));
    steps.run("measuring", || sh::run(&mut bench))
}
