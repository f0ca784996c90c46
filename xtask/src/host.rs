//! Cargo in the host's workspace, and the binary that it builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{fuzz, sh, zoo};

/// Each workspace needs its own features: the product, its guests, the zoo's tools, the coverage counters.
pub const WORKSPACES: [&str; 4] = ["Cargo.toml", "plugins/Cargo.toml", zoo::MAKER, fuzz::guided::MANIFEST];

/// Arguments to use this machine's own toolchain in the plugins' workspace.
pub const PLUGINS: [&str; 4] = ["--manifest-path", "plugins/Cargo.toml", "--target-dir", "target/guests"];

/// The cargo that runs xtask, in the root of the repository.
///
/// Removes the variables that cargo set for xtask. Build scripts that read such variables (ring's does) would
/// run again each time `cargo` and `cargo xtask` alternate.
pub fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Builds the binary and returns its path.
///
/// Builds the whole workspace, not `-p server`: cargo chooses features for the given set of packages, and for
/// a smaller set than the tests' it may compile wasmtime a second time.
pub fn build(root: &Path) -> Result<PathBuf> {
    sh::run(cargo(root).args(["build", "--workspace", "--bins"]))?;
    Ok(binary(root))
}

/// The same with the tests: built together, shared dependencies are compiled once, because cargo chooses
/// features for the set of packages.
pub fn build_with_tests(root: &Path) -> Result<PathBuf> {
    sh::run(cargo(root).args(["build", "--workspace", "--bins", "--tests"]))?;
    Ok(binary(root))
}

/// The path of the built binary.
pub fn binary(root: &Path) -> PathBuf {
    target(root).join("debug/tidemill")
}

/// Cargo's target folder.
pub fn target(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root.join(dir),
        None => root.join("target"),
    }
}
