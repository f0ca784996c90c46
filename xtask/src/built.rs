//! For commands that need built plugins and a built host when they run alone.

use std::path::Path;

use anyhow::Result;

use crate::steps::Steps;
use crate::{host, plugins, toolchain};

/// Builds both, then runs `rest`, which has `steps` steps.
pub fn first(root: &Path, steps: usize, rest: impl FnOnce(&mut Steps) -> Result<()>) -> Result<()> {
    let mut steps = Steps::new(3 + steps);
    let result = build(root, &mut steps).and_then(|()| rest(&mut steps));
    steps.print_summary();
    result
}

fn build(root: &Path, steps: &mut Steps) -> Result<()> {
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    steps.run("building host and tests", || host::build_with_tests(root)).map(|_| ())
}
