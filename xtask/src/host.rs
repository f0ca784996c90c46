//! Cargo in the host's workspace, and the binary that it builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{fuzz, sh, zoo};

/// Each builds for another purpose, with features of its own: the product, its guests, the zoo's tools, counters in all.
pub const WORKSPACES: [&str; 4] = ["Cargo.toml", "plugins/Cargo.toml", zoo::MAKER, fuzz::guided::MANIFEST];

/// Arguments with which this machine's own toolchain works in the plugins' workspace.
pub const PLUGINS: [&str; 4] = ["--manifest-path", "plugins/Cargo.toml", "--target-dir", "target/guests"];

/// The cargo that runs xtask, in the root of the repository.
///
/// What cargo told xtask about xtask is taken away: build scripts that look at such variables
/// (ring's does) would run again each time one types `cargo` and `cargo xtask` in turn.
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

/// Builds the binary and says where it is.
///
/// All of the workspace, not `-p server`: cargo picks features for the set of packages it is given,
/// and for a smaller set than the tests' it may compile wasmtime a second time.
pub fn build(root: &Path) -> Result<PathBuf> {
    sh::run(cargo(root).args(["build", "--workspace", "--bins"]))?;
    Ok(binary(root))
}

/// The same, and the tests: built together they need all that they share once, since cargo picks features for what is
/// built together.
pub fn build_with_tests(root: &Path) -> Result<PathBuf> {
    sh::run(cargo(root).args(["build", "--workspace", "--bins", "--tests"]))?;
    Ok(binary(root))
}

/// Where the binary is once it is built.
pub fn binary(root: &Path) -> PathBuf {
    target(root).join("debug/tidemill")
}

/// Where cargo puts what it builds.
pub fn target(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root.join(dir),
        None => root.join("target"),
    }
}
