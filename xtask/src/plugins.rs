//! Builds the guests of `plugins/` and places each as one file, named by its package.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{sh, toolchain};

/// Folders of `plugins/` with several guests, whose components go into folders of the same names.
const FOLDERS: [&str; 2] = ["examples", "fixtures"];

/// `target/plugins/*.wasm` are for use, `target/plugins/fixtures/*.wasm` for the tests,
/// `target/plugins/examples/*.wasm` for authors and for the tests. Cargo decides which guests are stale.
pub fn build(root: &Path) -> Result<()> {
    let target = toolchain::wasm_target(root)?;
    let mut cargo = target.cargo("build");
    cargo.args(["--workspace", "--release", "--message-format=json-render-diagnostics"]);
    cargo.arg("--manifest-path").arg(root.join("plugins/Cargo.toml"));
    cargo.arg("--target-dir").arg(root.join("target/guests"));
    // Errors and warnings go to the terminal; only the built files are read.
    cargo.stderr(Stdio::inherit());
    let messages = sh::output(&mut cargo)
        .with_context(|| format!("failed to build the guests (with {})", target.origin))?;

    let shipped = root.join("target/plugins");
    for guest in messages.lines().filter_map(guest) {
        let folder = guest.folder.map_or_else(|| shipped.clone(), |folder| shipped.join(folder));
        place(&guest.built, &folder.join(format!("{}.wasm", guest.package)))?;
    }
    Ok(())
}

struct Guest {
    package: String,
    folder: Option<&'static str>,
    built: PathBuf,
}

/// Parses a message of cargo, if it reports a component.
fn guest(message: &str) -> Option<Guest> {
    let message: Value = serde_json::from_str(message).ok()?;
    let built = message["filenames"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .find(|name| name.ends_with(".wasm"))?;
    // The package's folder has the package's name.
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some(Guest {
        package: folder.file_name()?.to_str()?.to_owned(),
        folder: FOLDERS
            .into_iter()
            .find(|name| folder.parent().and_then(Path::file_name) == Some(OsStr::new(name))),
        built: built.into(),
    })
}

/// Copies changed files, and in a way that no reader sees a partial file: a host may watch the folder.
pub fn place(built: &Path, placed: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("failed to read {}", built.display()))?;
    if fs::read(placed).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = placed.parent() {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let new = placed.with_extension("wasm.new");
    fs::write(&new, bytes).with_context(|| format!("failed to write {}", new.display()))?;
    fs::rename(&new, placed).with_context(|| format!("failed to replace {}", placed.display()))?;
    eprintln!("built {}", placed.display());
    Ok(())
}
