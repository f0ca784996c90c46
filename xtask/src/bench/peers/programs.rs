//! The peers: their pinned versions, their installation below `target/bench`, and their figures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::common::build::items_per_s;
use crate::bench::common::result::folder;
use crate::{host, sh};

/// Of `riverqueue-cli`, River's client for Rust, on crates.io.
const RIVER_VERSION: &str = "0.5.0";
/// River's own default.
const RIVER_WORKERS: &str = "2000";
/// The scripts of the peers on npm, with their package.json and lock.
const SCRIPTS: &str = "tests/benches/peers";
const NPM_FILES: [&str; 4] = ["package.json", "package-lock.json", "graphile.mjs", "pgboss.mjs"];

pub struct Peers {
    river: PathBuf,
    scripts: PathBuf,
}

impl Peers {
    pub fn install(root: &Path) -> Result<Self> {
        Ok(Self { river: install_river(root)?, scripts: install_from_npm(root)? })
    }

    /// River's own benchmark: it adds the jobs first, then measures until the last one is completed.
    pub fn river(&self, database: &str, items: u64) -> Result<f64> {
        sh::output(Command::new(&self.river).args(["migrate-up", "--database-url", database]))?;
        let mut bench = Command::new(&self.river);
        bench.args(["bench", "--database-url", database, "--max-workers", RIVER_WORKERS]);
        let printed = sh::output(bench.args(["-n", &items.to_string()]))?;
        river_figure(&printed, items).with_context(|| format!("River's output has no result:\n{printed}"))
    }

    pub fn graphile(&self, database: &str, items: u64) -> Result<f64> {
        self.script("graphile.mjs", database, items)
    }

    pub fn pgboss(&self, database: &str, items: u64) -> Result<f64> {
        self.script("pgboss.mjs", database, items)
    }

    fn script(&self, name: &str, database: &str, items: u64) -> Result<f64> {
        let mut node = Command::new("node");
        node.arg(name).current_dir(&self.scripts);
        node.env("DATABASE_URL", database).env("ITEMS", items.to_string()).env("NODE_ENV", "production");
        let printed = sh::output(&mut node)?;
        items_per_s(&printed).with_context(|| format!("{name} printed no items_per_s:\n{printed}"))
    }
}

/// The figure in `bench: total jobs worked [ 100 ], …, overall job/sec [ 28500.1 ], …`, if all jobs were worked.
fn river_figure(printed: &str, items: u64) -> Option<f64> {
    let total = printed.lines().rev().find(|line| line.starts_with("bench: total jobs worked"))?;
    let field = |name: &str| Some(total.split_once(name)?.1.split_once('[')?.1.split_once(']')?.0.trim());
    let worked: u64 = field("total jobs worked")?.parse().ok()?;
    let figure = field("overall job/sec")?.parse().ok()?;
    (worked == items).then_some(figure)
}

fn install_river(root: &Path) -> Result<PathBuf> {
    let own = folder(root).join(format!("river-{RIVER_VERSION}"));
    let binary = own.join("bin/riverqueue");
    if !binary.exists() {
        eprintln!("installing riverqueue-cli {RIVER_VERSION} from crates.io …");
        let mut install = host::cargo(root);
        install.args(["install", "riverqueue-cli", "--version", RIVER_VERSION, "--locked", "--quiet"]);
        install.args(["--no-default-features", "--features", "postgres", "--root"]).arg(&own);
        install.arg("--target-dir").arg(own.join("build"));
        sh::output(&mut install)?;
    }
    Ok(binary)
}

fn install_from_npm(root: &Path) -> Result<PathBuf> {
    if sh::output(Command::new("npm").arg("--version")).is_err() {
        sh::install("npm")?;
    }
    let own = folder(root).join("peers");
    fs::create_dir_all(&own).with_context(|| format!("failed to make {}", own.display()))?;
    let mut is_current = own.join("node_modules").is_dir();
    for name in NPM_FILES {
        let source = root.join(SCRIPTS).join(name);
        let wanted = fs::read(&source).with_context(|| format!("failed to read {}", source.display()))?;
        let installed = own.join(name);
        let is_same = fs::read(&installed).is_ok_and(|old| old == wanted);
        is_current &= is_same || name.ends_with(".mjs");
        fs::write(&installed, wanted).with_context(|| format!("failed to write {}", installed.display()))?;
    }
    if !is_current {
        eprintln!("installing graphile-worker and pg-boss from npm …");
        let mut npm = Command::new("npm");
        npm.current_dir(&own).args(["ci", "--ignore-scripts", "--no-fund", "--no-audit"]);
        // A cut-off installation is repeated.
        sh::output(&mut npm).inspect_err(|_| drop(fs::remove_dir_all(own.join("node_modules"))))?;
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "bench: jobs worked [      60000 ], inserted [          0 ], job/sec [    30000.0 ] [2s]
bench: total jobs worked [     100000 ], total jobs inserted [     100000 ], overall job/sec [    28500.1 ], p95 [     2.1s ], running 3.5s";

    #[test]
    fn rivers_figure_is_in_its_last_line() {
        assert_eq!(river_figure(PRINTED, 100_000), Some(28_500.1));
    }

    #[test]
    fn a_part_of_the_jobs_is_no_figure() {
        assert_eq!(river_figure(PRINTED, 100_001), None);
        assert_eq!(river_figure("bench: total jobs worked [ x ]", 1), None);
        assert_eq!(river_figure("", 0), None);
    }
}
