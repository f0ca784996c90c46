//! The project's own commands, `cargo xtask …`, for people and for CI.
//! One file per command; this one only dispatches. No code of the product is imported.

mod bench;
mod built;
mod chaos;
mod ci;
mod demo;
mod deny;
mod examples;
mod fuzz;
mod host;
mod plugins;
mod postgres;
mod rules;
mod screenshot;
mod sh;
mod simulate;
mod steps;
mod test;
mod tidy;
mod toolchain;
mod zoo;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// The project's own commands; each sets up its own requirements.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
enum Command {
    /// Build host and plugins, then start the demo; arguments go to `tidemill demo`
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build everything, start a private Postgres and run all tests, or those that a filter names
    Test(test::Args),
    /// Run a private Postgres in the foreground and print its URL, for `cargo test -p store`
    Postgres,
    /// Build all plugins and fixtures into target/plugins
    Plugins,
    /// Build the examples in other languages into target/plugins/examples; their toolchains are installed below target/
    Examples,
    /// Check crate layers, sizes and left-overs (takes a second)
    Tidy,
    /// Check licences, banned crates, sources and known vulnerabilities of all dependencies
    Deny,
    /// Print each business rule of docs/rules.md with the tests that show it
    Rules,
    /// Simulate hosts that share a store: 1,000 seeded stories, and seeded faults that they must find
    Simulate(simulate::Args),
    /// Measure, from an optimised build (its first one takes long)
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Kill, stop and cut off real hosts under load, then check that nothing was lost or done twice
    Chaos(chaos::Args),
    /// Run malicious plugins on real hosts and check host, neighbours and memory
    Zoo(zoo::Args),
    /// Feed random inputs to every parser of outside data: descriptors, configurations, requests, values of guests
    Fuzz(fuzz::Args),
    /// Take the picture of the page that README shows, from a running demo
    Screenshot,
    /// Run everything that CI runs: format, tidy, plugins, clippy, deny, tests, swaps, fuzz, zoo, chaos
    Ci,
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let code = error.downcast_ref().map_or(1, |test::Failed(code)| *code);
            ExitCode::from(code)
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let root = root()?;
    match command {
        Command::Demo { args } => demo::run(&root, &args),
        Command::Test(args) => test::run(&root, &args),
        Command::Postgres => postgres::foreground(),
        Command::Plugins => plugins::build(&root),
        Command::Examples => examples::build(&root),
        Command::Tidy => tidy::run(&root),
        Command::Deny => deny::run(&root),
        Command::Rules => rules::run(&root),
        Command::Simulate(args) => simulate::run(&root, &args),
        Command::Bench { bench } => bench::run(&root, &bench),
        Command::Chaos(args) => chaos::run(&root, &args),
        Command::Fuzz(args) => fuzz::run(&root, &args),
        Command::Zoo(args) => zoo::run(&root, &args),
        Command::Screenshot => screenshot::run(&root),
        Command::Ci => ci::run(&root),
    }
}

/// Cargo sets the folder of xtask's manifest; the repository is its parent.
fn root() -> anyhow::Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("CARGO_MANIFEST_DIR is not set: start this as `cargo xtask …`")?;
    let mut root = PathBuf::from(manifest);
    root.pop();
    Ok(root)
}
