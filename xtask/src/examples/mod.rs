//! `cargo xtask examples`: builds the plugins of `plugins/examples` that are not written in Rust.
//!
//! Each is rebuilt only if its sources, the contract, its toolchain or its recipe have changed.

mod inputs;
mod recipes;
mod tools;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::plugins;
use recipes::{ALL, Recipe};
use tools::Tools;

/// Relative to the repository's root.
const SOURCES: &str = "plugins/examples";
const TARGET: &str = "target/examples";

/// Builds `target/plugins/examples/*.wasm`, named by language.
pub fn build(root: &Path) -> Result<()> {
    let mut stale = VecDeque::new();
    for recipe in &ALL {
        let stamp = inputs::stamp(root, recipe)?;
        if !is_built(root, recipe, &stamp) {
            stale.push_back((recipe, stamp));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let recipes: Vec<&Recipe> = stale.iter().map(|(recipe, _)| *recipe).collect();
    let tools = tools::install(root, &recipes)?;
    let stale = Mutex::new(stale);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let started: Vec<_> =
            (0..workers).map(|_| scope.spawn(|| build_next(root, &tools, &stale))).collect();
        started.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(resume))
    })
}

fn resume(panic: Box<dyn std::any::Any + Send>) -> Result<()> {
    std::panic::resume_unwind(panic)
}

type Stale<'a> = Mutex<VecDeque<(&'a Recipe, String)>>;

/// Builds stale examples one after the other, until none is left.
fn build_next(root: &Path, tools: &Tools, stale: &Stale) -> Result<()> {
    loop {
        let next = stale.lock().map_err(|_| anyhow::anyhow!("another example failed"))?.pop_front();
        let Some((recipe, stamp)) = next else { return Ok(()) };
        build_one(root, tools, recipe, &stamp)
            .with_context(|| format!("failed to build the example in {}", recipe.language))?;
    }
}

fn build_one(root: &Path, tools: &Tools, recipe: &Recipe, stamp: &str) -> Result<()> {
    let started = Instant::now();
    let folder = inputs::lay_out(root, recipe)?;
    (recipe.build)(tools, &folder)?;
    plugins::place(&folder.join(recipes::COMPONENT), &placed(root, recipe))?;
    let file = stamp_file(root, recipe);
    fs::write(&file, stamp).with_context(|| format!("failed to write {}", file.display()))?;
    eprintln!("example in {}: {:.1} s", recipe.language, started.elapsed().as_secs_f64());
    Ok(())
}

fn is_built(root: &Path, recipe: &Recipe, stamp: &str) -> bool {
    let same = fs::read_to_string(stamp_file(root, recipe)).is_ok_and(|old| old == stamp);
    same && placed(root, recipe).is_file()
}

fn placed(root: &Path, recipe: &Recipe) -> PathBuf {
    root.join("target/plugins/examples").join(format!("{}.wasm", recipe.language))
}

fn stamp_file(root: &Path, recipe: &Recipe) -> PathBuf {
    root.join(TARGET).join(format!("{}.stamp", recipe.language))
}
