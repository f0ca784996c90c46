//! Makes components that no compiler would make:
//! `maker guests FOLDER` those of the zoo, `maker random SEED COUNT FOLDER` random ones.

mod bombs;
mod guest;
mod random;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use random::Random;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guests", folder] => guests(Path::new(folder)),
        ["random", seed, count, folder] => random(seed.parse()?, count.parse()?, Path::new(folder)),
        _ => bail!("use: maker guests FOLDER, or maker random SEED COUNT FOLDER"),
    }
}

/// The path of a file or folder relative to this crate.
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

fn random(seed: u64, count: usize, folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let mut random = Random::new(seed)?;
    let (mut made, mut last) = (0, None);
    // wasm-smith does not always produce a component of our world.
    for _ in 0..count.saturating_mul(2) {
        match random.component() {
            Ok(bytes) => {
                place(folder, &format!("r-{made:06}"), &bytes)?;
                made += 1;
            }
            Err(error) => last = Some(error),
        }
        if made == count {
            return Ok(());
        }
    }
    Err(last
        .unwrap_or_else(|| anyhow::anyhow!("none"))
        .context(format!("only {made} of {count} could be made")))
}

fn place(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(format!("{name}.wasm"));
    std::fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))
}
