//! `cargo xtask bench …`: measurements of an optimised build, one JSON line each. docs/performance.md describes
//! them.

mod bulk;
mod common;
mod hosts;
mod latency;
mod peers;
mod plot;
mod scale;
mod sinks;
mod sqlite;
mod start;
pub mod swap;

use std::path::Path;

use anyhow::Result;

use crate::postgres::Postgres;
use crate::steps::Steps;
use crate::{host, plugins, sh, toolchain};

#[derive(clap::Subcommand)]
pub enum Bench {
    /// Items a second of a no-op component, of a native no-op, of that with all limits on flow on, and of the store alone, on SQLite and Postgres
    Engine {
        /// Items that each of the eight measurements drains
        #[arg(long, default_value_t = 20_000)]
        items: u64,
    },
    /// One attempt in the sandbox, without the store: its parts, and the whole with a new and a reused instance
    Guest {
        /// Blocks of 100 attempts of each kind
        #[arg(long, default_value_t = 200)]
        rounds: u64,
    },
    /// Time of an upgrade that copies the items of a store of schema 21, with a tenth more attempts, on SQLite and Postgres
    Migrate {
        #[arg(long, default_value_t = 1_000_000)]
        items: u32,
    },
    /// Swap a plugin while its host is under load: counts lost items and measures the time until the new version runs
    Swap(swap::Args),
    /// Items a second of Tidemill, River, graphile-worker and pg-boss on one Postgres; installs the peers
    Peers(peers::Args),
    /// Items a second of a host on SQLite, and of the store's own statements in a loop
    Sqlite(sqlite::Args),
    /// Items a second that one request with many items adds, on SQLite and Postgres
    Bulk(bulk::Args),
    /// Times from adding an item over the API to the answer, the start and the end of its attempt
    Latency(latency::Args),
    /// Throughput and answers with up to 1,000,000 stored items; memory and tables over time
    Scale(scale::Args),
    /// Time until a host with 1,000 plugins is ready, its memory, and the CPU time of 100,000 idle jobs
    Start(start::Args),
    /// Throughput of one, two and three hosts on one Postgres
    Hosts(hosts::Args),
    /// Events a second from the outbox on Postgres to NATS JetStream and to Redis
    Sinks(sinks::Args),
}

pub fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Engine { items } => engine(root, *items),
        Bench::Guest { rounds } => guest(root, *rounds),
        Bench::Migrate { items } => migrate(root, *items),
        Bench::Swap(args) => swap::run(root, args),
        Bench::Peers(args) => peers::run(root, args),
        Bench::Sqlite(args) => sqlite::run(root, args),
        Bench::Bulk(args) => bulk::run(root, args),
        Bench::Latency(args) => latency::run(root, args),
        Bench::Scale(args) => scale::run(root, args),
        Bench::Start(args) => start::run(root, args),
        Bench::Hosts(args) => hosts::run(root, args),
        Bench::Sinks(args) => sinks::run(root, args),
    }
}

/// The databases do the work, so the build is not optimised.
fn migrate(root: &Path, items: u32) -> Result<()> {
    let mut steps = Steps::new(2);
    let postgres = steps.run("starting Postgres", Postgres::start)?;
    let mut test = host::cargo(root);
    test.args(["test", "--package", "store", "--lib", "upgrade_is_measured", "--", "--nocapture"]);
    test.args(["--test-threads", "1"]);
    test.env("TIDEMILL_TEST_ITEMS", items.to_string()).env("TIDEMILL_TEST_POSTGRES", postgres.url());
    steps.run("measuring", || sh::run(&mut test))
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
