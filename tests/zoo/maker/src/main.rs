//! Components that no compiler would make: `maker guests FOLDER` those of the zoo.

mod bombs;
mod guest;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guests", folder] => guests(Path::new(folder)),
        _ => bail!("use: maker guests FOLDER"),
    }
}

/// The repository's file or folder of this name.
fn ours(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn guests(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for entry in std::fs::read_dir(ours("guests"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        let bytes = guest::component(&text).with_context(|| format!("guests/{name}.wat"))?;
        place(folder, &name, &bytes)?;
    }
    for (name, bytes) in bombs::all()? {
        place(folder, name, &bytes)?;
    }
    Ok(())
}

fn place(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(format!("{name}.wasm"));
    std::fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))
}
