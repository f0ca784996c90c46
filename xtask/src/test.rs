//! `cargo xtask test`: runs all tests, and first sets up everything that they need.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::postgres::Postgres;
use crate::steps::Steps;
use crate::{examples, host, plugins, sh, toolchain};

/// Crates of the plugins' workspace whose logic is tested without wasm.
const NATIVE_PLUGIN_TESTS: [&str; 2] = ["tidemill-sdk", "wallet-keygen-retry"];

/// Number of steps in `run_steps`.
pub const STEPS: usize = 8;

#[derive(clap::Args, Default)]
pub struct Args {
    /// Test only this crate of the host's workspace (may be given several times)
    #[arg(short, long)]
    package: Vec<String>,
    /// Run only tests whose name contains one of these; `--nocapture` and the like go here too
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filter: Vec<String>,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut steps = Steps::new(STEPS);
    let result = run_steps(root, args, &mut steps);
    steps.print_summary();
    result
}

/// The steps alone; `cargo xtask ci` calls this, too.
pub fn run_steps(root: &Path, args: &Args, steps: &mut Steps) -> Result<()> {
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    steps.run("building examples in other languages", || examples::build(root))?;
    let binary = steps.run("building host and tests", || host::build_with_tests(root))?;
    steps.run("programs of the tests", programs)?;
    let postgres = steps.run("starting Postgres", Postgres::start)?;

    let mut tests = host::cargo(root);
    tests
        .arg("test")
        // A test that lacks something fails instead of being skipped.
        .env("TIDEMILL_TEST_ALL", "1")
        .env("TIDEMILL_TEST_POSTGRES", postgres.url())
        .env("TIDEMILL_TEST_PLUGINS", root.join("target/plugins"))
        .env("TIDEMILL_TEST_BIN", binary);
    if std::env::var_os(TEST_THREADS).is_none() {
        tests.env(TEST_THREADS, test_threads().to_string());
    }
    if args.package.is_empty() {
        tests.arg("--workspace");
    }
    for package in &args.package {
        tests.arg("--package").arg(package);
    }
    steps.run("tests of the host", || pass(tests.arg("--").args(&args.filter)))?;
    drop(postgres);

    let mut plugins = host::cargo(root);
    plugins.arg("test").args(host::PLUGINS);
    for package in NATIVE_PLUGIN_TESTS {
        plugins.arg("--package").arg(package);
    }
    steps.run("tests of the plugins", || {
        let wanted = args.package.is_empty();
        if wanted { pass(plugins.arg("--").args(&args.filter)) } else { Ok(()) }
    })
}

/// The variable that the test harness reads.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Most tests spend most of their time waiting for another process.
fn test_threads() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

/// The tests ran and failed; xtask ends with their exit code.
#[derive(Debug)]
pub struct Failed(pub u8);

impl std::error::Error for Failed {}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tests failed, see above")
    }
}

fn pass(tests: &mut Command) -> Result<()> {
    let status = tests.status().context("failed to start cargo test")?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Err(Failed(code.unwrap_or(1)).into())
}

/// Debian programs that tests start, with their package and the argument that prints their version.
const PROGRAMS: [(&str, &str, &str); 8] = [
    // Changes the kernel's answers in the tests of failing and slow disks.
    ("strace", "strace", "-V"),
    // Its library moves the clock of a host.
    ("faketime", "faketime", "--version"),
    // Receive delivered events.
    ("nats-server", "nats-server", "--version"),
    ("redis-server", "redis-server", "--version"),
    // Runs between a store and its Postgres.
    ("pgbouncer", "pgbouncer", "-V"),
    // Open the page.
    ("chromium", "chromium", "--version"),
    ("chromedriver", "chromium-driver", "--version"),
    // Checks the output of `/metrics`.
    ("promtool", "prometheus", "--version"),
];

/// Packages of servers may start their own server; it is not used.
pub fn programs() -> Result<()> {
    // Debian installs servers in a folder that is not in every user's PATH.
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    for (program, package, version) in PROGRAMS {
        if sh::output(Command::new(program).env("PATH", &path).arg(version)).is_err() {
            eprintln!("no {program}: installing Debian's");
            sh::install(package)?;
        }
    }
    Ok(())
}
