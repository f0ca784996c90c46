//! The measured build: the binary, the plugins, and the benchmark of `tests/benches`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::result::folder;
use crate::postgres::Postgres;
use crate::steps::Steps;
use crate::{host, plugins, sh, toolchain};

/// Number of steps in `build`.
pub const STEPS: usize = 3;

/// The build that is measured.
pub struct Built<'a> {
    pub root: &'a Path,
    pub binary: PathBuf,
    profile: &'static str,
}

/// Builds the plugins, the host, and the benchmark of the engine; `dev` builds as for development.
///
/// They are built together: cargo chooses features for the set of targets, and would compile wasmtime a second
/// time for the benchmark alone.
pub fn build<'a>(root: &'a Path, dev: bool, steps: &mut Steps) -> Result<Built<'a>> {
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    let profile = if dev { "dev" } else { "release" };
    steps.run("building the host", || {
        let mut build = host::cargo(root);
        build.args(["build", "--profile", profile, "--workspace", "--bins", "--bench", "engine"]);
        sh::run(&mut build)
    })?;
    let binary = host::target(root).join(if dev { "debug" } else { "release" }).join("tidemill");
    Ok(Built { root, binary, profile })
}

/// The build and a private Postgres. One step follows.
pub fn with_postgres(root: &Path, dev: bool) -> Result<(Steps, Built<'_>, Postgres)> {
    let mut steps = Steps::new(STEPS + 2);
    let built = build(root, dev, &mut steps)?;
    let postgres = steps.run("starting Postgres", Postgres::start)?;
    Ok((steps, built, postgres))
}

impl Built<'_> {
    /// A measurement of `tests/benches/engine.rs`, like `postgres/native`, in items a second.
    pub fn engine(&self, measurement: &str, items: u64, postgres: Option<&Postgres>) -> Result<f64> {
        let mut bench = host::cargo(self.root);
        bench.args(["bench", "--quiet", "--profile", self.profile, "--workspace", "--bench", "engine"]);
        bench.env("ONLY", measurement).env("ITEMS", items.to_string());
        bench.env("TIDEMILL_TEST_PLUGINS", self.root.join("target/plugins"));
        if let Some(postgres) = postgres {
            postgres.clear()?;
            bench.env("TIDEMILL_TEST_POSTGRES", postgres.url());
        }
        // Its SQLite files are on the disk of target/, not in a file system in memory.
        std::fs::create_dir_all(folder(self.root))?;
        bench.env("TMPDIR", folder(self.root));
        let printed = sh::output(&mut bench)?;
        items_per_s(&printed).with_context(|| format!("{measurement} printed no items_per_s: {printed}"))
    }
}

/// The figure in the last JSON line with one.
pub fn items_per_s(printed: &str) -> Option<f64> {
    let lines = printed.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["items_per_s"].as_f64()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_with_a_figure_counts() {
        let printed = "some text\n{\"items_per_s\":10}\n{\"db\":\"sqlite\",\"items_per_s\":20.5}\n{}\n";
        assert_eq!(items_per_s(printed), Some(20.5));
        assert_eq!(items_per_s("no figure\n{}"), None);
    }
}
